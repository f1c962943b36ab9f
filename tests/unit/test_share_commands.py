"""The commands of share.py, on a small store with real keys, beside a folder that is shared."""

import json
import os
import re
import shlex
import shutil
import sys
from datetime import UTC, datetime, timedelta

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from tests.unit.stored_study import fill, write_config, write_questions

import share
from isogloss.errors import Damaged, InputError
from isogloss.program import run
from isogloss.store import handover, places
from isogloss.store.local import Store
from isogloss.store.manifests import read_manifest, write_manifest
from isogloss.store.places import MARKER, Bucket, local_place, place_of
from isogloss.store.prune import superfluous
from isogloss.study.study import Study
from isogloss.versions import EXTRACTION_VERSION


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A tree with a study, its questions and its store."""
    folder = tmp_path_factory.mktemp("stored")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        write_questions(folder)
        fill(Study.of(write_config(folder)))
    return folder


@pytest.fixture
def home(stored, tmp_path, monkeypatch):
    """A copy of the tree; commands run in it."""
    shutil.copytree(stored, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


@pytest.fixture
def names(home):
    return [artifact.name for artifact in Study.of(home / "config/config.yaml").artifacts()]


@pytest.fixture
def shared(home):
    """The same, with a shared folder, still empty."""
    (home / "place").mkdir()
    write_config(home, sharing={"kind": "fs", "folder": "place"})
    return home


@pytest.fixture
def command(monkeypatch, capsys):
    """Run share.py: its exit code, what it printed, what it said on standard error."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["share.py", *map(str, arguments)])
        capsys.readouterr()
        try:
            run(share.main)
            code = 0
        except SystemExit as ended:
            code = ended.code
        out, err = capsys.readouterr()
        if isinstance(code, str):
            code, err = 1, err + code
        return code, out, err

    return call


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


# -- list ------------------------------------------------------------------------------------------


def test_list_says_what_each_artifact_is(home, names, command):
    code, out, _ = command("list")
    lines = out.splitlines()
    assert code == 0 and len(lines) == len(names) + 2
    assert lines[0].split()[:7] == "stage model dataset language key size study".split()
    german = next(line for line in lines if line.startswith("activations  tiny   own      de"))
    key = next(n for n in names if n.startswith("activations/tiny/own/de")).split("/")[-1][:12]
    assert key in german and "yes" in german
    assert german.endswith(f"float32, raw, schema 2, extraction {EXTRACTION_VERSION}, torch 2.0")
    assert any(line.endswith("float32, readout 2") for line in lines)
    assert re.fullmatch(r"5 artifacts, [\d.]+ kB, in store", lines[-1])


def test_list_tells_what_the_study_does_not_name(home, names, command):
    write_questions(home, "which")
    rows = json.loads(command("list", "--json")[1])
    assert sorted(row["name"] for row in rows) == sorted(names)
    assert {row["stage"] for row in rows if row["named"]} == {"readout"}
    assert all(row["size"] == (home / "store" / row["name"]).stat().st_size for row in rows)
    assert "4 of them" in command("list")[1]


def test_list_goes_on_where_questions_or_headers_cannot_be_read(home, names, command):
    (home / "store" / names[0]).write_bytes(b"nothing")
    (home / "questions/de.jsonl").unlink()
    code, out, err = command("list")
    assert code == 0 and "header cannot be read" in out and " ? " in out
    assert "which of them the study names is not known: config/config.yaml: " in err


def test_list_is_of_the_place_where_there_is_one(shared, command):
    assert command("list")[1].endswith(f"0 artifacts, 0 B, in {shared}/place\n")
    assert "5 artifacts" in command("list", "--local")[1]


def test_a_store_that_is_not_there_is_named(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path)
    for arguments in (["list"], ["verify"], ["prune"]):
        code, out, err = command(*arguments)
        assert code == 1 and out == ""
        assert err.endswith(
            "error: store: no such folder: nothing is computed yet, or correct `store`"
        )
    assert command("list", "--shared")[2] == (
        "error: config/config.yaml: sharing.kind is none: nothing is shared"
    )


# -- verify, set-aside -----------------------------------------------------------------------------


def test_verify_names_each_fault(home, names, command):
    code, out, _ = command("verify")
    assert (code, out) == (0, "5 artifacts are whole and unchanged\n")
    for name in names[:2]:
        damage(home / "store" / name)
    code, out, err = command("verify")
    assert code == 1 and len(out.splitlines()) == 2
    assert {line.split(": ")[0] for line in out.splitlines()} == {f"store/{n}" for n in names[:2]}
    assert "error: 2 of 5 artifacts are refused" in err
    assert command("verify", names[2], f"store/{names[3]}")[0] == 0
    assert command("verify", names[2], f"store/{names[1]}")[0] == 1


def test_verify_can_set_aside(home, names, command):
    damage(home / "store" / names[1])
    assert command("verify", "--set-aside")[0] == 1
    assert not (home / "store" / names[1]).exists()
    assert len(list((home / "store/set-aside").rglob("*.*Z"))) == 1
    assert command("verify")[:2] == (0, "4 artifacts are whole and unchanged\n")


@pytest.mark.parametrize("kind", ["local", "place"])
def test_the_command_of_a_refusal_works_as_printed(shared, names, command, monkeypatch, kind):
    """The error names a command; run, the artifact is gone, and its manifests with it."""
    name = next(n for n in names if n.startswith("lens"))
    place = place_of(Study.of(shared / "config/config.yaml").config)
    if kind == "place":
        command("publish")
        damage(shared / "place" / name)
        (shared / "store" / name).unlink()
        with pytest.raises(Damaged) as refused:
            Store(shared / "store", place).missing({"de": name})
    else:
        damage(shared / "store" / name)
        with pytest.raises(InputError) as refused:
            handover.publish(Study.of(shared / "config/config.yaml"), place)
    manifest = shared / "store/manifests/tiny/own/lens-0.json"
    other = shared / "store/manifests/tiny/own/lens-1.json"
    write_manifest(manifest, "lens", {}, {"de": shared / "store" / name})
    write_manifest(other, "lens", {}, {"en": shared / "store" / names[1]})

    printed = re.search(r"`python workflow_scripts/share.py (.*)`", str(refused.value))[1]
    code, out, err = command(*shlex.split(printed))
    assert code == 0, err
    assert not (shared / ("store" if kind == "local" else "place") / name).exists()
    assert not manifest.exists() and read_manifest(other)
    moved = re.search(r"set aside: (.*)", out)[1]
    assert f"set-aside/{name}.2" in moved and os.path.exists(moved)


def test_a_store_that_no_configuration_names_is_known_by_what_is_in_it(home, names, command):
    (home / "store").rename(home / "elsewhere")
    path = f"elsewhere/{names[1]}"
    code, _, err = command("set-aside", path)
    assert code == 1 and err.startswith(f"error: {path}: no artifact's name") and "\n" not in err
    (home / "elsewhere/manifests").mkdir()
    assert command("set-aside", path)[0] == 0
    assert not (home / path).exists()


@pytest.mark.parametrize(
    "text",
    [
        "../{}",
        "/{}",
        "store/../../{}",
        "store/config.yaml",
        "activations/tiny/own/../x",
        "s3://b/{}",
    ],
)
def test_no_name_leads_out_of_the_store(home, names, command, text):
    outside = home.parent / names[1]
    outside.parent.mkdir(parents=True, exist_ok=True)
    outside.write_bytes(b"kept")
    for what in ("set-aside", "verify"):
        code, _, err = command(what, text.format(names[1]))
        assert code == 1 and "no artifact's name" in err
    assert outside.read_bytes() == b"kept"


def test_what_is_gone_cannot_be_set_aside_twice(home, names, command):
    assert command("set-aside", names[1])[0] == 0
    code, _, err = command("set-aside", names[1])
    assert code == 1 and f"store/{names[1]}: no such artifact" in err


class Memory(MemoryFileSystem):
    """A bucket's stand-in: no path of this machine leads to it."""

    store, pseudo_dirs, cachable = {}, [""], False
    read_only = False

    def mv(self, *args, **options):
        if self.read_only:
            raise PermissionError("AccessDenied")
        super().mv(*args, **options)


class MemoryBucket(Bucket):
    def _exists(self):
        pass


@pytest.fixture
def bucket(home, monkeypatch):
    """The study shared through a bucket that holds all of it."""
    filesystem = Memory()
    filesystem.store.clear()
    place = MemoryBucket("s3://toy", filesystem, "/toy")
    write_config(home, sharing={"kind": "s3", "bucket": "toy"})
    monkeypatch.setattr(places, "open_place", lambda settings: place)
    for artifact in Study.of(home / "config/config.yaml").artifacts():
        filesystem.pipe_file(f"/toy/{artifact.name}", (home / "store" / artifact.name).read_bytes())
    return place


def test_a_bucket_is_listed_verified_and_mended_by_address(bucket, home, names, command):
    rows = json.loads(command("list", "--json")[1])
    assert len(rows) == 5 and all(row["made_with"] for row in rows)
    assert command("verify")[:2] == (0, "5 artifacts are whole and unchanged\n")
    content = bytearray(bucket.filesystem.cat_file(f"/toy/{names[1]}"))
    content[300] ^= 4
    bucket.filesystem.pipe_file(f"/toy/{names[1]}", bytes(content))
    code, out, _ = command("verify")
    assert code == 1 and out.startswith(f"s3://toy/{names[1]}: ")
    assert command("set-aside", f"s3://toy/{names[1]}")[0] == 0
    assert set(bucket.names()) - set(names) and names[1] not in bucket.names()


def test_a_place_that_refuses_keeps_everything(bucket, home, names, command, monkeypatch):
    manifest = home / "store/manifests/tiny/own/lens-0.json"
    write_manifest(manifest, "lens", {}, {"de": home / "store" / names[1]})
    monkeypatch.setattr(Memory, "read_only", True)
    code, _, err = command("set-aside", names[1])
    assert code == 1 and "error: s3://toy: no permission to move in it" in err
    assert manifest.exists() and names[1] in bucket.names()


# -- prune -----------------------------------------------------------------------------------------


def listing(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_prune_deletes_what_no_study_names_and_only_on_request(home, names, command):
    manifest = home / "store/manifests/tiny/own/activations-0.json"
    write_manifest(manifest, "activations", {}, {"de": home / "store" / names[1]})
    (home / "store/quick/models").mkdir(parents=True)
    (home / "store/quick/models/weights.h5").write_bytes(b"a model")
    (home / "store/activations/notes.txt").write_text("mine")
    before = listing(home / "store")
    code, out, _ = command("prune")
    assert code == 0 and out.startswith("nothing to prune")
    write_questions(home, "which")
    code, out, _ = command("prune")
    assert code == 0 and out.count("named by no study") == 4 and "4 files" in out
    assert listing(home / "store") == before
    assert command("prune", "--delete")[0] == 0
    kept = {"quick/models/weights.h5", "activations/notes.txt", names[0]}
    assert set(listing(home / "store")) == kept


def test_what_another_study_names_is_kept(home, names, command):
    write_config(home, "config/studies/other.yaml", datasets={
        "own": {"source": "jsonl", "path": "old", "licence": "CC0-1.0"}})  # fmt: skip
    (home / "questions").rename(home / "old")
    write_questions(home, "which")
    assert command("prune")[1].startswith("nothing to prune")
    assert "4 files" in command("prune", "config/config.yaml")[1]


def test_the_study_at_hand_is_kept_wherever_its_configuration_lies(home, names, command):
    write_config(home, "mine.yaml", datasets={
        "own": {"source": "jsonl", "path": "old", "licence": "CC0-1.0"}})  # fmt: skip
    (home / "questions").rename(home / "old")
    write_questions(home, "which")
    for configs in ([], ["config/config.yaml"]):
        out = command("prune", *configs, "--configfile", "mine.yaml")[1]
        assert out.startswith("nothing to prune")
    assert "4 files" in command("prune")[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"datasets": {"own": {"source": "jsonl", "path": "gone"}}},
        {"datasets": {"hub": {"source": "hub", "path": "no/such", "configs": {"en": "a", "de": "b"},
                              "columns": {"question": "{q}"}}}},
        {"languages": "en"},
        {"models": {"tiny": {"source": "path", "path": "gone", "family": "f", "parameters": 1}}},
    ],
    ids=["questions", "hub", "configuration", "model"],
)  # fmt: skip
def test_nothing_is_pruned_beside_a_study_that_cannot_be_read(home, command, changes):
    write_config(home, "config/studies/other.yaml", **changes)
    write_questions(home, "which")
    before = listing(home / "store")
    code, _, err = command("prune", "--delete")
    assert code == 1 and "config/studies/other.yaml" in err and "nothing is pruned" in err
    assert listing(home / "store") == before


def test_a_study_without_any_artifact_there_does_not_hinder_pruning(home, command):
    far = {"far": {"source": "path", "path": "gone", "family": "f", "parameters": 1}}
    write_config(home, "config/studies/other.yaml", models=far)
    assert command("prune")[0] == 0
    write_questions(home, "which")
    code, out, _ = command("prune", "--delete")
    assert code == 0 and "named by no study" in out


def test_abandoned_files_go_and_fresh_ones_stay(home, names, command):
    folder = (home / "store" / names[1]).parent
    old, new = folder / ".a.h5.1.tmp", folder / ".b.tmp" / "b.h5"
    new.parent.mkdir()
    for path in (old, new):
        path.write_bytes(b"half")
    outside = home / "store/.hidden/x.h5"
    outside.parent.mkdir()
    outside.write_bytes(b"kept")
    yesterday = datetime.now().timestamp() - 90_000
    for path in (old, outside):
        os.utime(path, (yesterday, yesterday))
    assert command("prune", "--delete")[0] == 0
    assert not old.exists() and new.exists() and outside.exists()


def test_what_was_set_aside_goes_after_the_days_asked_for(home, names, command):
    command("set-aside", names[1])
    place, now = local_place(home / "store"), datetime.now(UTC)
    later = now + timedelta(days=8)
    assert superfluous(place, names, later) == []
    assert superfluous(place, names, now, 7) == []
    (old,) = superfluous(place, names, later, 7)
    assert old.name.startswith(f"set-aside/{names[1]}.")
    (home / "store/set-aside/notes.txt").write_text("mine")
    assert len(superfluous(place, names, later, 7)) == 1


def test_deleting_beside_a_shared_place_says_which(shared, names, command):
    command("publish")
    write_questions(shared, "which")
    code, _, err = command("prune", "--delete")
    assert code == 1 and err == "error: prune --delete: say which store: --local or --shared"
    assert command("prune", "--delete", "--local")[0] == 0
    assert len(listing(shared / "store")) == 1 and len(listing(shared / "place")) == 6
    assert command("prune", "--delete", "--shared")[0] == 0
    assert listing(shared / "place") == sorted([names[0], MARKER])


# -- publish ---------------------------------------------------------------------------------------


def test_publish_gives_what_the_study_names_once(shared, names, command):
    stray = shared / "store" / re.sub("[0-9a-f]{64}", "0" * 64, names[1])
    stray.write_bytes(b"of another study")
    code, out, _ = command("publish")
    assert code == 0 and out.endswith("5 published, 0 were there, 0 not computed yet\n")
    assert set(listing(shared / "place")) == {*names, MARKER}
    (shared / "store" / names[2]).unlink()
    assert command("publish")[1] == "0 published, 5 were there, 0 not computed yet\n"


def test_a_damaged_artifact_is_not_published(shared, names, command):
    damage(shared / "store" / names[1])
    code, _, err = command("publish")
    assert code == 1 and f"store/{names[1]}: its bytes are not" in err
    assert names[1] not in listing(shared / "place")


def test_publish_needs_a_place_that_may_be_written_to(home, command):
    assert "sharing.kind is none" in command("publish")[2]
    write_config(home, sharing={"kind": "fs", "folder": "place", "publish": False})
    (home / "place").mkdir()
    assert "sharing.publish is false" in command("publish")[2]
    assert listing(home / "place") == []
