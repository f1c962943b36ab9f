import errno
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from isogloss.errors import Damaged, InputError
from isogloss.files.canonical import key_of
from isogloss.files.netcdf import write_artifact
from isogloss.store.local import Store
from isogloss.store.places import MARKER, Bucket, Folder, open_place
from isogloss.study.keys import artifact_name


def dataset(value=1.0):
    about = {"long_name": "x", "units": "1"}
    return xr.Dataset({"x": ("row", np.full(5, value), about)})


def made(folder: Path, spec=None, value=1.0) -> tuple[Path, str]:
    """A sealed artifact in a local store, and its name."""
    spec = spec or {"a": 1}
    name = artifact_name("lens", "m", "d", "en", spec)
    write_artifact(dataset(value), folder / name, spec)
    return folder / name, name


@pytest.fixture
def place(tmp_path):
    (tmp_path / "place").mkdir()
    return open_place({"kind": "fs", "folder": str(tmp_path / "place")})


def everything(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_is_published_is_there_once_and_stays(place, tmp_path):
    path, name = made(tmp_path / "one")
    other, _ = made(tmp_path / "two", value=2.0)
    assert place.publish(path, name)
    before = everything(tmp_path / "place")
    assert not place.publish(other, name)
    assert everything(tmp_path / "place") == before == {Path(name): path.read_bytes()}
    assert place.names() == place.names("lens/m/d") == {name: path.stat().st_size}
    assert place.names("lens/m/other") == {}


def test_of_many_writers_at_once_one_wins(place, tmp_path):
    paths = [made(tmp_path / str(i), value=float(i))[0] for i in range(8)]
    name, won, start = made(tmp_path / "0")[1], [], threading.Barrier(8)

    def publish(path):
        start.wait()
        won.append(place.publish(path, name))

    threads = [threading.Thread(target=publish, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]
    assert (tmp_path / "place" / name).read_bytes() in {path.read_bytes() for path in paths}
    assert len(everything(tmp_path / "place")) == 1


def test_what_is_fetched_is_verified_first(place, tmp_path):
    path, name = made(tmp_path / "one")
    place.publish(path, name)
    place.fetch(name, tmp_path / "here" / path.name)
    assert (tmp_path / "here" / path.name).read_bytes() == path.read_bytes()
    shared = tmp_path / "place" / name
    shared.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(Damaged, match=f"^{shared}: .*share.py set-aside {shared}"):
        place.fetch(name, tmp_path / "there" / path.name)
    assert not everything(tmp_path / "there")


def test_a_place_that_is_not_there_is_said(tmp_path):
    place = open_place({"kind": "fs", "folder": str(tmp_path / "none")})
    for use in (place.names, place.check_writable):
        with pytest.raises(InputError, match="none: no such folder: make it"):
            use()
    assert not (tmp_path / "none").exists()
    assert open_place({"kind": "none"}) is None


class Failing:
    """A file system that fails in one way."""

    def __init__(self, error):
        self.error = error

    def fail(self, *_, **__):
        raise self.error

    find = get_file = put_file = open = rm_file = fail

    def invalidate_cache(self):
        pass


def client_error(code):
    botocore = pytest.importorskip("botocore.exceptions")
    inner = botocore.ClientError({"Error": {"Code": code, "Message": "m"}}, "PutObject")
    outer = PermissionError("m") if code == "AccessDenied" else OSError(errno.EIO, "m")
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (client_error("InvalidAccessKeyId"), "the access key is unknown there: set AWS_ACCESS"),
        (client_error("SignatureDoesNotMatch"), "the secret key is wrong: set AWS_ACCESS"),
        (client_error("AccessDenied"), "no permission to list it: .*sharing.publish: false"),
        (client_error("NoSuchBucket"), "no such bucket: create it, or correct sharing.bucket"),
        (client_error("NotImplemented"), "the server does not know conditional"),
        (client_error("InternalError"), r"cannot list it \(.*\): mend that"),
        (ConnectionRefusedError(), "the server cannot be reached: check sharing.endpoint"),
        (OSError(errno.ENOSPC, "full"), "no space left there: make room"),
        (OSError(errno.EROFS, "read-only"), "no permission to list it"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_went_wrong_is_distinguished(error, said):
    with pytest.raises(InputError, match=f"^s3://b: {said}"):
        Bucket("s3://b", Failing(error), "b").names()


def test_a_failed_publication_leaves_nothing(place, tmp_path, monkeypatch):
    path, name = made(tmp_path / "one")

    def full(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(InputError, match="no space left there"):
        place.publish(path, name)
    assert not everything(tmp_path / "place")


class Taken(Exception):
    """As botocore raises it."""

    response = {"Error": {"Code": "PreconditionFailed"}}


class S3InMemory:
    """What `Bucket` uses of s3fs, with a server that honours conditions, or only takes them."""

    def __init__(self, honours):
        self.honours, self.objects, self.parts, self.writes = honours, {}, {}, 0

    def find(self, path):
        return []

    def split_path(self, path):
        return (*path.split("/", 1), None)

    def _write(self, kind, path, body):
        self.writes += 1
        if path in self.objects and kind in self.honours:
            raise Taken("412")
        self.objects[path] = body

    def put_file(self, source, path, mode):
        assert mode == "create"
        self._write("whole", path, Path(source).read_bytes())

    def call_s3(self, name, Bucket, Key, **options):
        if name == "create_multipart_upload":
            return {"UploadId": "1"}
        if name == "upload_part":
            self.parts[options["UploadId"]] = options["Body"]
            return {"ETag": "x"}
        if name == "abort_multipart_upload":
            return self.parts.pop(options["UploadId"])
        assert (name, options["IfNoneMatch"]) == ("complete_multipart_upload", "*")
        self._write("parts", f"{Bucket}/{Key}", self.parts[options["UploadId"]])
        return {}


@pytest.mark.parametrize(
    ("honours", "message"),
    [
        ((), "s3://lab/x: the server ignores If-None-Match, .*sharing.publish: false"),
        (("parts",), "the server ignores If-None-Match, "),
        (("whole",), "the server ignores If-None-Match of files in parts, "),
    ],
)
def test_a_server_that_ignores_conditions_is_not_published_to(tmp_path, honours, message):
    """Its second writer would replace the first one's artifact, and both be told success."""
    server = S3InMemory(honours)
    path, name = made(tmp_path / "one")
    for attempt in ("check_writable", "publish"):
        place = Bucket("s3://lab/x", server, "lab/x")
        with pytest.raises(InputError, match=message):
            place.check_writable() if attempt == "check_writable" else place.publish(path, name)
    assert list(server.objects) == [f"lab/x/{MARKER}"]


def test_a_server_that_honours_conditions_is_tried_once(tmp_path):
    server = S3InMemory(("whole", "parts"))
    for who in ("first", "second"):
        place = Bucket("s3://lab/x", server, "lab/x")
        place.check_writable()
        tried = server.writes
        path, name = made(tmp_path / who, value=len(who))
        assert place.publish(path, name) == (who == "first")
        assert server.writes == tried + 1
    assert server.objects[f"lab/x/{name}"] == (tmp_path / "first" / name).read_bytes()
    assert not server.parts


# -- the store -------------------------------------------------------------------------------------


def store_at(tmp_path, who, place, publish=True):
    said = []
    return Store(tmp_path / who, place, publish, said.append), said


def test_the_second_fetches_what_the_first_made(place, tmp_path):
    first, _ = store_at(tmp_path, "first", place)
    path, name = made(tmp_path / "first")
    assert first.missing({"en": name, "de": "lens/m/d/de/x.nc"}) == ["de"]  # publishes en
    second, said = store_at(tmp_path, "second", place)
    assert second.missing({"en": name, "de": "lens/m/d/de/x.nc"}) == ["de"]
    assert second.path(name).read_bytes() == path.read_bytes()
    assert said == [f"fetched: {place.url}/{name}"]


def test_what_is_damaged_here_is_not_given_to_others(place, tmp_path):
    first, _ = store_at(tmp_path, "first", place)
    path, name = made(tmp_path / "first")
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(Damaged, match=f"^{path}: "):
        first.missing({"en": name})
    assert place.names() == {}


def test_the_slower_of_two_takes_over_what_is_there(place, tmp_path):
    first, _ = store_at(tmp_path, "first", place)
    path, name = made(tmp_path / "first", value=1.0)
    second, said = store_at(tmp_path, "second", place)
    made(tmp_path / "second", value=1.5)
    first.keep(name)
    second.keep(name)
    assert second.path(name).read_bytes() == path.read_bytes()
    assert said[0].startswith("published by somebody else meanwhile")


def test_whoever_only_reads_publishes_nothing(place, tmp_path):
    reader, said = store_at(tmp_path, "reader", place, publish=False)
    _, name = made(tmp_path / "reader")
    assert reader.missing({"en": name, "de": "lens/m/d/de/x.nc"}) == ["de"]
    reader.keep(name)
    assert not everything(tmp_path / "place")
    assert said == [f"not in {place.url} either, to be computed here: de"]


def test_permission_is_asked_for_before_anything_is_computed(tmp_path):
    class ReadOnly(Folder):
        def _create(self, source, path):
            raise PermissionError("read-only")

    (tmp_path / "place").mkdir()
    root = str(tmp_path / "place")
    place = ReadOnly(root, open_place({"kind": "fs", "folder": root}).filesystem, root)
    store, _ = store_at(tmp_path, "here", place)
    with pytest.raises(InputError, match="no permission to write to it: .*publish: false"):
        store.missing({"en": "lens/m/d/en/x.nc"})
    assert store.missing({}) == []


def test_the_marker_is_no_artifact(place, tmp_path):
    place.check_writable()
    place.check_writable()
    assert [path.name for path in (tmp_path / "place").iterdir()] == [MARKER]
    assert place.names() == {}


def test_an_unshared_store_asks_nobody(tmp_path):
    store = Store.of(tmp_path, {"kind": "none", "publish": True})
    path, name = made(tmp_path)
    assert store.missing({"en": name, "de": f"lens/m/d/de/{key_of(1)}.nc"}) == ["de"]
    store.keep(name)
    assert path.exists() and store.place is None
