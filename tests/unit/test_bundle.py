"""Bundles: what goes in comes out, a second import does nothing, and nothing bad gets in."""

import hashlib
import shutil
import stat
import sys
import tomllib
import zipfile
from pathlib import Path

import bagit
import numpy as np
import pytest
import yaml
from tests.unit.stored_study import fill, write_config, write_questions

import share
from isogloss.errors import InputError
from isogloss.store import handover
from isogloss.store.handover import export, import_bundle
from isogloss.store.places import place_of
from isogloss.study import schema as config
from isogloss.study.study import Study

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A tree whose store is full, and its bundles, as a folder and as a zip file."""
    home = tmp_path_factory.mktemp("source")
    write_questions(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        study = Study.of(write_config(home).relative_to(home))
        fill(study)
        export(study, None, home / "bag")
        export(study, None, home / "bag.zip")
    return home


@pytest.fixture
def bag(source, tmp_path):
    """A copy of the bundle's folder, to be damaged."""
    return Path(shutil.copytree(source / "bag", tmp_path / "bag"))


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*")
            if p.is_file()}  # fmt: skip


def refused(bundle, store, *words):
    """That a bundle is refused in these words and nothing of it is here."""
    with pytest.raises(InputError) as error:
        import_bundle(bundle, store, None)
    said = str(error.value)
    assert said.startswith(f"{bundle}: ") and all(word in said for word in words), said
    assert "nothing was imported" in said and "\n" not in said
    assert files(store) == {}


@pytest.mark.parametrize("name", ["bag", "bag.zip"])
def test_what_goes_in_comes_out_once(source, store, name):
    done = import_bundle(source / name, store, None)
    assert files(store) == files(source / "store")
    assert len(done.names) == len(done.new) == 5 and done.given == []
    times = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    again = import_bundle(source / name, store, None)
    assert again.new == [] and len(again.names) == 5
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == times


def test_the_bag_is_a_valid_one_that_says_whose_it_is(source):
    bag = bagit.Bag(str(source / "bag"))
    assert bag.validate() and bag.algorithms == ["sha256"]
    assert bag.info["External-Identifier"] == "stored"
    assert bag.info["Bag-Software-Agent"].startswith(f"{handover.SOFTWARE}, bagit.py ")
    licences = (source / "bag/data/LICENCES.md").read_text()
    assert "| tiny | MIT |" in licences and "| own | CC0-1.0 |" in licences
    assert "share.py import" in (source / "bag/data/README.md").read_text()


def test_a_bundle_says_the_version_of_the_software():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert handover.SOFTWARE == f"Isogloss {version}"


def test_the_configuration_in_a_bundle_names_the_same_artifacts(source, tmp_path, monkeypatch):
    monkeypatch.chdir(source)
    study, copied = (Study.of(source / n) for n in ("config/config.yaml", "bag/data/config.yaml"))
    assert copied.artifacts() == study.artifacts()


def test_a_bundles_configuration_tells_nothing_of_its_authors_machine(
    source, tmp_path, monkeypatch
):
    monkeypatch.chdir(source)
    (source / "place").mkdir()
    write_config(
        source, "secret.yaml", sharing={"kind": "fs", "folder": "place"}, cache="hidden",
        device="cuda:7", store="store",
    )  # fmt: skip
    export(Study.of(source / "secret.yaml"), None, tmp_path / "bag")
    content = yaml.safe_load((tmp_path / "bag/data/config.yaml").read_text())
    assert not {"sharing", "cache", "device", "store"} & set(content)
    assert config.read(tmp_path / "bag/data/config.yaml").models["tiny"].sha256 == "a" * 64


def test_what_is_not_here_is_taken_from_the_place(source, tmp_path, monkeypatch):
    home = Path(shutil.copytree(source, tmp_path / "home"))
    monkeypatch.chdir(home)
    (home / "shared").mkdir()
    study = Study.of(write_config(home, sharing={"kind": "fs", "folder": "shared"}))
    given = handover.publish(study, place_of(study.config)).given
    assert len(given) == 5
    shutil.rmtree(home / "store/lens")
    export(study, place_of(study.config), home / "again")
    assert files(home / "again/data/store") == files(source / "store")
    assert not (home / "store/lens").exists()


def test_an_import_gives_the_place_what_it_lacks(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "place").mkdir()
    study = Study.of(write_config(tmp_path, sharing={"kind": "fs", "folder": "place"}))
    done = import_bundle(source / "bag.zip", study.store, place_of(study.config))
    assert len(done.new) == len(done.given) == 5
    assert set(done.names) < set(files(tmp_path / "place"))


def test_an_export_is_whole_or_not_at_all(source, tmp_path, monkeypatch):
    home = Path(shutil.copytree(source, tmp_path / "home"))
    monkeypatch.chdir(home)
    study = Study.of(Path("config/config.yaml"))
    name = next(n.name for n in study.artifacts() if n.stage == "lens")
    with pytest.raises(InputError, match="bag.zip: exists already"):
        export(study, None, Path("bag.zip"))
    content = bytearray((home / "store" / name).read_bytes())
    content[100] ^= 1
    (home / "store" / name).write_bytes(content)
    with pytest.raises(InputError, match=f"store/{name}: its bytes .*set-aside store/{name}"):
        export(study, None, Path("new.zip"))
    (home / "store" / name).unlink()
    with pytest.raises(InputError, match=f"1 of 5 artifacts are computed nowhere.*{name}"):
        export(study, None, Path("new.zip"))
    assert not list(home.glob("*new*")) and not list(home.glob(".*"))


# -- bad bundles -----------------------------------------------------------------------------------


def test_a_bundle_that_is_none_is_refused(tmp_path, store):
    with pytest.raises(InputError, match="gone.zip: no such bundle"):
        import_bundle(tmp_path / "gone.zip", store, None)
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", store, "not a whole BagIt bag", "bagit.txt")
    (tmp_path / "text.zip").write_text("no zip file")
    refused(tmp_path / "text.zip", store, "cannot be unpacked")


@pytest.mark.parametrize("place", range(24))
def test_a_flipped_bit_of_a_zip_file_is_refused_or_changes_nothing(source, tmp_path, store, place):
    rng = np.random.default_rng(place)
    content = bytearray((source / "bag.zip").read_bytes())
    content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    (tmp_path / "bag.zip").write_bytes(content)
    try:
        import_bundle(tmp_path / "bag.zip", store, None)
    except InputError:
        assert files(store) == {}
    else:
        assert files(store) == files(source / "store")
    assert not list(store.glob(".*"))


def test_each_damaged_file_of_a_bag_is_refused(bag, store):
    listed = (p for p in bag.rglob("*") if p.is_file() and p.name != "tagmanifest-sha256.txt")
    for path in sorted(listed):
        whole = path.read_bytes()
        named = path.name if "data" in path.parts else ""
        for damaged in (whole[: len(whole) // 2], whole.replace(whole[20:22], b"\x00\x01", 1)):
            path.write_bytes(damaged)
            refused(bag, store, named)
        path.write_bytes(whole)
    assert import_bundle(bag, store, None).new


def test_a_missing_and_an_added_file_are_refused(bag, store):
    path = next((bag / "data/store/lens").rglob("*.nc"))
    path.rename(path.with_name("0" * 64 + ".nc"))
    refused(bag, store, "lens/tiny/own/")
    path.with_name("0" * 64 + ".nc").rename(path)
    (bag / "data/more").write_text("x")
    refused(bag, store, "more", "not in the bag's manifest")


def rebag(bag):
    """Checksums anew: a bag that is valid whatever is in it."""
    bagit.Bag(str(bag)).save(manifests=True)


def test_valid_checksums_do_not_vouch_for_an_artifact(bag, store):
    path = next((bag / "data/store/lens").rglob("*.nc"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    rebag(bag)
    refused(bag, store, path.name, "its bytes are not those of its digest")


def test_an_artifact_under_another_name_is_refused(bag, store):
    path = next((bag / "data/store/lens").rglob("*.nc"))
    other = path.with_name("0" * 64 + ".nc")
    path.rename(other)
    rebag(bag)
    refused(bag, store, other.name, "does not match")


@pytest.mark.parametrize(
    "name", ["store/evil.py", "store/lens/tiny/own/de/x.nc", "store/manifests/a.json", ".profile"]
)
def test_what_is_no_artifact_is_refused(bag, store, name):
    path = bag / "data" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    rebag(bag)
    refused(bag, store, name, "not a file of Isogloss")


def test_a_link_in_a_bag_is_refused(bag, store, tmp_path):
    (tmp_path / "secret").write_text("secret")
    path = next((bag / "data/store/lens").rglob("*.nc"))
    path.unlink()
    path.symlink_to(tmp_path / "secret")
    refused(bag, store, path.name, "a link")


def test_a_manifest_that_leads_out_is_refused(bag, store, tmp_path):
    secret = b"secret"
    (tmp_path / "secret").write_bytes(secret)
    with (bag / "manifest-sha256.txt").open("a") as file:
        file.write(f"{hashlib.sha256(secret).hexdigest()}  data/../../secret\n")
    refused(bag, store, "unsafe")


@pytest.mark.parametrize(
    "name",
    [
        "bag/../../evil",
        "/evil",
        "../evil",
        "bag/data/../../../evil",
        "C:/evil",
        "bag\\..\\evil",
        "evil",
    ],
)
def test_a_zip_file_that_leads_out_is_refused(source, tmp_path, store, name):
    bundle = tmp_path / "deep/er/bag.zip"
    bundle.parent.mkdir(parents=True)
    shutil.copy(source / "bag.zip", bundle)
    with zipfile.ZipFile(bundle, "a") as archive:
        archive.writestr(name, "evil")
    refused(bundle, store, "evil")
    assert not list(tmp_path.rglob("*evil*"))


def test_a_link_in_a_zip_file_is_refused(source, tmp_path, store):
    bundle = tmp_path / "bag.zip"
    shutil.copy(source / "bag.zip", bundle)
    link = zipfile.ZipInfo("bag/data/store")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(bundle, "a") as archive:
        archive.writestr(link, "/etc")
    refused(bundle, store, "bag/data/store", "a link")


def test_a_bundle_that_was_zipped_anew_is_read(bag, tmp_path, store):
    made = shutil.make_archive(str(tmp_path / "again"), "zip", bag.parent, bag.name)
    assert len(import_bundle(Path(made), store, None).new) == 5


# -- the commands ----------------------------------------------------------------------------------


def test_export_and_import_as_commands(source, tmp_path, monkeypatch, capsys):
    home = Path(shutil.copytree(source, tmp_path / "home"))
    monkeypatch.chdir(home)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for arguments in (["export", "b.zip"], ["import", "b.zip"]):
        monkeypatch.setattr(sys, "argv", ["share.py", *arguments])
        share.main()
    said = capsys.readouterr().out
    assert said == ("b.zip: 5 artifacts of stored\n0 artifacts imported into store, 5 were there\n")
