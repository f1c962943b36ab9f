import json

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from isogloss.errors import InputError
from isogloss.files.atomic import whole_file, write_json
from isogloss.files.canonical import canonical_json, file_digest, key_of
from isogloss.files.netcdf import open_netcdf, write_netcdf

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def dataset():
    values = np.array([[1.5, np.nan], [0.0, -2.0]])
    return xr.Dataset(
        {"a": (("x", "y"), values, {"long_name": "some values", "units": "nat"})},
        coords={"x": ["en", "中文"]},
    )


@given(st.dictionaries(st.text(), VALUES, max_size=5), st.randoms())
def test_the_order_of_keys_does_not_change_a_key_and_content_does(spec, random):
    shuffled = list(spec.items())
    random.shuffle(shuffled)
    assert key_of(dict(shuffled)) == key_of(spec)
    assert key_of(spec) != key_of(spec | {"another key": 1})
    assert json.loads(canonical_json(spec)) == spec


def test_keys_never_change():
    """A key that another version computes otherwise would orphan every store."""
    spec = {"b": [1, 2.5, None, True], "a": {"é": "中"}}
    assert canonical_json(spec) == '{"a":{"é":"中"},"b":[1,2.5,null,true]}'
    assert key_of(spec) == "b190aea726ac4393f84041926446b566653af141f574e5149741fad890446b66"


def test_file_digest_is_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a").startswith("ba7816bf8f01cfea414140de5dae2223b00361a3")


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "new" / "a.txt"
    with pytest.raises(ZeroDivisionError), whole_file(target) as temporary:
        temporary.write_text("half")
        assert not target.exists() and temporary.parent == target.parent
        raise ZeroDivisionError
    assert list(target.parent.iterdir()) == []
    with whole_file(target) as temporary:
        temporary.write_text("whole")
    assert target.read_text() == "whole" and list(target.parent.iterdir()) == [target]


def test_a_failure_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), whole_file(target) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_json_is_written_for_people(tmp_path):
    write_json({"b": 1, "a": "中"}, tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n "a": "中",\n "b": 1\n}\n'


def test_datasets_come_back_with_their_spec(tmp_path):
    write_netcdf(dataset(), tmp_path / "a.nc", {"b": 1, "a": 2})
    reread = open_netcdf(tmp_path / "a.nc")
    assert reread.attrs == {"spec": '{"a":2,"b":1}'}
    assert reread.drop_attrs(deep=False).identical(dataset())
    assert list(tmp_path.iterdir()) == [tmp_path / "a.nc"]


def test_the_given_dataset_is_left_as_it_was(tmp_path):
    given_dataset = dataset()
    write_netcdf(given_dataset, tmp_path / "a.nc", {"a": 1})
    assert given_dataset.attrs == {}


@pytest.mark.parametrize("missing", ["long_name", "units"])
def test_undescribed_variables_are_refused(tmp_path, missing):
    bare = dataset()
    del bare["a"].attrs[missing]
    with pytest.raises(ValueError, match=r"a.nc: variables without long_name and units: \['a'\]"):
        write_netcdf(bare, tmp_path / "a.nc")
    assert not (tmp_path / "a.nc").exists()


def test_a_missing_artifact_is_named(tmp_path):
    with pytest.raises(InputError, match="a.nc: no such artifact: run the rule"):
        open_netcdf(tmp_path / "a.nc")


@pytest.mark.parametrize("keep", [0, 10, 500, -1])
def test_a_truncated_artifact_is_named(tmp_path, keep):
    path = tmp_path / "a.nc"
    write_netcdf(dataset(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="a.nc: not a whole netCDF file .*: delete it and run"):
        open_netcdf(path)
