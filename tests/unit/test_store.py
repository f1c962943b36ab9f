import json

import pytest

from isogloss.errors import InputError
from isogloss.files.canonical import key_of
from isogloss.store.manifests import read_manifest, write_manifest
from isogloss.study.keys import artifact_name


@pytest.fixture
def listed(tmp_path):
    """A manifest of two artifacts, German first."""
    artifacts = {tag: tmp_path / f"{tag}.h5" for tag in ("de", "en")}
    for file in artifacts.values():
        file.touch()
    write_manifest(tmp_path / "manifest.json", "activations", {"b": 1, "a": 2}, artifacts)
    return tmp_path / "manifest.json", artifacts


def test_a_manifest_gives_back_its_artifacts_in_their_order(listed):
    manifest, artifacts = listed
    assert list(read_manifest(manifest).items()) == list(artifacts.items())
    content = json.loads(manifest.read_text())
    assert content["stage"] == "activations" and content["spec"] == '{"a":2,"b":1}'


def test_a_gone_artifact_is_named(listed):
    manifest, artifacts = listed
    artifacts["en"].unlink()
    with pytest.raises(InputError, match=r"manifest.json: lists .*en.h5, which is gone \(1 in all"):
        read_manifest(manifest)
    artifacts["de"].unlink()
    with pytest.raises(InputError, match=r"lists .*de.h5, which is gone \(2 in all\): delete this"):
        read_manifest(manifest)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"artifacts": 3}',
        '{"artifacts": [1]}',
        '{"artifacts": [{"path": "a"}]}',
        '{"artifacts": [{"language": "en", "path": 3}]}',
    ],
)
def test_a_damaged_manifest_is_named(tmp_path, content):
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(InputError, match=r"m.json: not a manifest \(.*\): delete it and run again"):
        read_manifest(tmp_path / "m.json")


def test_a_missing_or_binary_manifest_is_named(tmp_path):
    with pytest.raises(InputError, match="m.json: not a manifest"):
        read_manifest(tmp_path / "m.json")
    (tmp_path / "m.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="m.json: not a manifest"):
        read_manifest(tmp_path / "m.json")


def test_an_artifact_lies_under_its_key():
    spec = {"model": "m"}
    name = artifact_name("lens", "gemma", "everyday", "sw", spec)
    assert name == f"lens/gemma/everyday/sw/{key_of(spec)}.nc"
    other = artifact_name("lens", "gemma", "everyday", "sw", {"model": "n"})
    assert other.rpartition("/")[0] == name.rpartition("/")[0] and other != name
