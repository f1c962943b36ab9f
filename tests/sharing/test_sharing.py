"""What collaborators share: nothing is computed twice, and nothing that is there is harmed."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.sharing.conftest import ANALYSES, Collaborator, Common
from tests.sharing.server import keys_in
from tests.workflow.conftest import ENVIRONMENT

STAGES = {"activations": 3, "lens": 3, "readouts": 1, "vectors": 1, "steered": 1}


def by_stage(common: Common) -> dict[str, int]:
    names = [name for name in common.content() if name != "isogloss-store.json"]
    return {stage: sum(n.startswith(f"{stage}/") for n in names) for stage in STAGES}


def test_the_first_publishes_what_cost_a_model(filled, kind):
    common, _ = filled(kind)
    assert by_stage(common) == STAGES
    assert len(common.content()) == sum(STAGES.values()) + 1  # and the marker: nothing else


def test_the_second_runs_every_analysis_without_a_model(filled, join, kind):
    common, first = filled(kind)
    before = common.content()
    second = join(common).without_model()
    planned = second.snakemake("--dry-run", *ANALYSES).stdout
    assert "rule extract:" in planned and "gpu=1" not in planned  # nothing needs an accelerator
    said = second.run()
    assert "extracting" not in said and "0 of 3 languages to compute" in said
    for name in ANALYSES:
        first_file, other = (who.study.folder / name for who in (first, second))
        same = subprocess.run(
            [sys.executable, "-c",
             "import sys, xarray as xr; a, b = map(xr.load_dataset, sys.argv[1:]); "
             "xr.testing.assert_identical(a.drop_attrs(deep=False), b.drop_attrs(deep=False))",
             str(first_file), str(other)],
        )  # fmt: skip
        assert same.returncode == 0, name
    assert common.content() == before
    assert not second.plan()


def test_another_language_is_extracted_alone(filled, join, kind):
    common, _ = filled(kind)
    before = common.content()
    second = join(common).changed(languages=["en", "de", "es", "sw"])
    assert "gpu=1" in second.snakemake("--dry-run", ANALYSES[0]).stdout
    said = second.run(ANALYSES[0])
    assert "3 of 4 languages are in the store; extracting sw" in said
    after = common.content()
    new = set(after) - set(before)
    assert {name.split("/")[3] for name in new} == {"sw"} and len(new) == 1
    assert {name: after[name] for name in before} == before


def test_a_setting_changed_and_changed_back_plans_nothing(filled, join):
    common, _ = filled("fs")
    second = join(common).without_model()
    second.run(ANALYSES[0])
    changed = second.changed(prompt={"templates": {"default": "Question: {question}\nAnswer:"}})
    assert changed.plan(ANALYSES[0])["extract"] == 1
    assert not second.plan(ANALYSES[0])


def test_two_who_compute_the_same_end_with_one_whole_artifact(make_common, join, kind):
    common = make_common(kind)
    both = [join(common), join(common)]
    with ThreadPoolExecutor(2) as pool, keys_in(both[0].environment):
        target = ("--cores", "1", ANALYSES[0])
        done = list(pool.map(lambda who: who.study.snakemake(*target), both))
    assert [run.returncode for run in done] == [0, 0], done[0].stderr + done[1].stderr
    assert by_stage(common)["activations"] == 3 and len(common.content()) == 4
    for name in common.content():
        if name.startswith("activations/"):
            contents = {(who.study.folder / "store" / name).read_bytes() for who in both}
            assert contents == {common.read(name)}


def test_forced_and_failing_reruns_leave_the_place_as_it_is(filled, join):
    common, _ = filled("fs")
    before = common.content()
    second = join(common)
    second.run(ANALYSES[3])
    second.run("-F", ANALYSES[3])
    second.run(ANALYSES[3], "-R", "extract")
    broken = join(common).changed(prompt={"templates": {"default": "{question} ->"}})
    weights = broken.study.folder / "models/tiny/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-64])
    failed = broken.snakemake("--cores", "2", "-F", ANALYSES[0])
    assert failed.returncode != 0
    assert common.content() == before


@pytest.mark.parametrize("age", [10 * 365 * 86400, 0], ids=["older", "newer"])
def test_the_times_of_a_checkout_s_files_do_not_matter(filled, join, age):
    common, _ = filled("fs")
    before = common.content()
    other = join(common).without_model()
    for path in other.study.folder.rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - age, time.time() - age))
    assert "extracting" not in other.run(ANALYSES[0])
    assert common.content() == before


def test_a_reader_uses_everything_and_a_miss_is_named(filled, join):
    common, _ = filled("s3")
    before = common.content()
    guest = join(common, "guest").without_model()
    assert "extracting" not in guest.run()
    template = {"default": "Reply to this: {question}"}
    missing = join(common, "guest").changed(prompt={"templates": template})
    failed = missing.snakemake("--cores", "2", ANALYSES[0])
    said = failed.stdout + failed.stderr
    assert failed.returncode != 0 and "Traceback" not in said
    assert "no permission to write to it" in said and "sharing.publish: false" in said
    reading = missing.changed(sharing={"publish": False})
    said = reading.run(ANALYSES[0])
    assert "not in s3://" in said and "to be computed here: en de es" in said
    assert common.content() == before


def test_what_is_here_already_is_published_when_a_place_is_named(make_common, join):
    common = make_common("fs")
    alone = join(common)
    alone.changed(sharing={"kind": "none"}).run(ANALYSES[0])
    assert not common.content()
    alone.run(ANALYSES[0], "-R", "extract")
    assert by_stage(common)["activations"] == 3


def test_no_key_is_written_anywhere(filled, join):
    common, first = filled("s3")
    secret = common.keys["lab"]["AWS_SECRET_ACCESS_KEY"].encode()
    known = common.keys["lab"]["AWS_ACCESS_KEY_ID"].encode()
    for path in first.study.folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            assert secret not in content and known not in content, path


@pytest.mark.parametrize(
    ("keys", "sharing", "named"),
    [
        ({"AWS_ACCESS_KEY_ID": "nobody"}, {}, "the access key is unknown there"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, {}, "the secret key is wrong"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, {}, "no credentials"),
        ({}, {"bucket": "nowhere"}, "no such bucket"),
        ({}, {"endpoint": "http://127.0.0.1:9"}, "the server cannot be reached"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_place_that_cannot_be_used_says_why(filled, join, keys, sharing, named, tmp_path):
    common, _ = filled("s3")
    before = common.content()
    someone = join(common).changed(sharing=sharing)
    environment = {n: v for n, v in (someone.environment | keys).items() if v}
    environment["AWS_SHARED_CREDENTIALS_FILE"] = str(tmp_path / "none")
    someone = Collaborator(someone.study, environment)
    failed = someone.snakemake("--cores", "2", ANALYSES[0])
    said = failed.stdout + failed.stderr
    assert failed.returncode != 0 and "Traceback" not in said
    lines = [line for line in said.splitlines() if line.startswith("error:") and named in line]
    assert lines, said
    assert not list((someone.study.folder / "store").rglob("*.h5"))
    assert common.content() == before


def test_a_folder_that_is_not_there_is_not_made(filled, join, tmp_path):
    common, _ = filled("fs")
    someone = join(common).changed(sharing={"folder": str(tmp_path / "mistyped")})
    failed = someone.snakemake("--cores", "2", ANALYSES[0])
    assert failed.returncode != 0 and not (tmp_path / "mistyped").exists()
    assert "no such folder: make it, or correct sharing.folder" in failed.stdout + failed.stderr
    assert ENVIRONMENT  # the network is closed in all of these


def damaged(content: bytes) -> dict[str, bytes]:
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    return {"bit": bytes(flipped), "truncated": content[: len(content) // 2], "empty": b""}


@pytest.mark.parametrize("how", ["bit", "truncated", "empty", "another", "older"])
def test_a_damaged_artifact_is_refused_set_aside_and_recomputed(
    make_common, filled, join, how, tmp_path: Path
):
    common, _ = filled("fs")
    names = sorted(name for name in common.content() if name.startswith("activations/"))
    name, others = names[0], names[1:]
    whole = common.read(name)
    if how == "another":
        bad = common.read(others[0])
    elif how == "older":
        bad = of_another_schema(whole, tmp_path / Path(name).name)
    else:
        bad = damaged(whole)[how]
    ours = make_common("fs")
    for other in [name, *others]:
        target = Path(ours.setting["folder"], other)
        target.parent.mkdir(parents=True)
        target.write_bytes(bad if other == name else common.read(other))
    someone = join(ours)
    failed = someone.snakemake("--cores", "2", ANALYSES[0])
    said = failed.stdout + failed.stderr
    assert failed.returncode != 0 and "Traceback" not in said
    url = f"{ours.setting['folder']}/{name}"
    assert any(line.startswith("error:") and url in line for line in said.splitlines()), said
    assert not (someone.study.folder / "store" / name).exists()
    done = someone.share("set-aside", url)
    assert done.returncode == 0, done.stderr
    assert "extracting" in someone.run(ANALYSES[0])
    ours.place().fetch(name, tmp_path / "again" / Path(name).name)  # verified as it comes


def of_another_schema(content: bytes, path: Path) -> bytes:
    import h5py

    path.write_bytes(content)
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = 1
    return path.read_bytes()
