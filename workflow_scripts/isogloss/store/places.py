"""A place where collaborators share artifacts: a folder or an S3 bucket, reached through fsspec.

Publishing is create-only: a name that is taken stays as it is, whoever comes second. What is
fetched is verified before it gets its name here. Nothing in a run deletes or replaces anything.
Credentials come from the environment or from the usual files, and are never part of a setting.
"""

import errno
import os
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from isogloss.errors import Damaged, InputError, one_line
from isogloss.files.atomic import temporary_name
from isogloss.study.schema import Config
from isogloss.study.settings import dump

MARKER = "isogloss-store.json"
"""Lies at the root of every place; writing it again is how permission is asked for."""

MARKER_FILE = Path(__file__).with_name("store_marker.json")

TAKEN = {"PreconditionFailed", "ConditionalRequestConflict"}
"""What S3 answers to a conditional write of a name that is taken."""

PIECE = 2**16
"""How much is read ahead [byte] where an artifact is read piece by piece."""

KEYS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, or AWS_PROFILE and "
    "~/.aws/credentials"
)
REASONS = {
    # what S3 answers: what it means, what to do
    "InvalidAccessKeyId": ("the access key is unknown there", KEYS),
    "SignatureDoesNotMatch": ("the secret key is wrong", KEYS),
    "InvalidToken": ("the session token is wrong", KEYS),
    "ExpiredToken": ("the session token has expired", KEYS),
    "NoCredentialsError": ("no credentials", KEYS),
    "PartialCredentialsError": ("half of the credentials", KEYS),
    "ProfileNotFound": ("no such profile", KEYS),
    "NoSuchBucket": ("no such bucket", "create it, or correct sharing.bucket"),
    "NotImplemented": (
        "the server does not know conditional writes (If-None-Match)",
        "use one that does: without them two writers could replace each other's artifacts",
    ),
}
UNREACHABLE = (
    "EndpointConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ConnectionClosedError",
    "ClientConnectorError",
    "ServerDisconnectedError",
    "ConnectionError",
    "HTTPClientError",
    "ResponseStreamingError",
    "IncompleteReadError",
)


class Place(ABC):
    """A shared store: names are paths below its root, as in the local store."""

    def __init__(self, url: str, filesystem: Any, root: str) -> None:
        self.url, self.filesystem, self.root = url, filesystem, root

    def names(self, under: str = "") -> dict[str, int]:
        """Every artifact below a folder, with its size [byte]; one listing.

        Raises:
            InputError: not reachable, not there, or no permission, and which of them.
        """
        files = self.files(under)
        return {n: s for n, s in files.items() if n != MARKER and not is_temporary(n)}

    def files(self, under: str = "") -> dict[str, int]:
        """As `names`, with what is being written, or was when its writer was killed."""
        start = f"{self.root}/{under}".rstrip("/")
        with self._plainly("list"):
            self.filesystem.invalidate_cache()
            self._exists()
            entries = self.filesystem.find(start, detail=True)
        cut = len(self.root) + 1
        return {path[cut:]: int(entry["size"]) for path, entry in entries.items()}

    def modified(self, name: str) -> datetime:
        """When a file was last written to."""
        with self._plainly("read"):
            moment: datetime = self.filesystem.modified(f"{self.root}/{name}")
            return moment

    def fetch(self, name: str, target: Path) -> None:
        """Copy an artifact here and give it its name once it is verified.

        Raises:
            Damaged: it is not what its name says; nothing is kept.
            InputError: it cannot be read.
        """
        folder = temporary_name(target)
        folder.mkdir(parents=True)
        try:
            with self._plainly("read"):
                self.filesystem.get_file(f"{self.root}/{name}", str(folder / target.name))
            from isogloss.store.verification import verify_artifact  # HDF5, not for plans

            try:
                verify_artifact(folder / target.name)
            except Damaged as error:
                raise Damaged(f"{self.url}/{name}", error.reason) from error
            os.replace(folder / target.name, target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, source: Path, name: str) -> bool:
        """Give a whole file a name that nobody else has taken; False where somebody has.

        Raises:
            InputError: it cannot be written; nothing half-written is left under the name.
        """
        with self._plainly("write to"):
            self._exists()
            self._refuse_where_replaced()
            return self._create(source, f"{self.root}/{name}")

    def check_writable(self) -> None:
        """Refuse early, before an hour is spent on what cannot be published.

        Raises:
            InputError: no permission to write.
        """
        self.publish(MARKER_FILE, MARKER)

    def open(self, name: str) -> BinaryIO:
        """An artifact to read from, piece by piece: a header costs some kB, not the file."""
        with self._plainly("read"):
            path = f"{self.root}/{name}"
            file: BinaryIO = self.filesystem.open(path, "rb", block_size=PIECE)
            return file

    def remove(self, name: str) -> None:
        """Delete an artifact: only commands that say so call this, never a run."""
        with self._plainly("delete from"):
            self.filesystem.rm_file(f"{self.root}/{name}")

    def move(self, name: str, to: str) -> None:
        """Give an artifact another name."""
        with self._plainly("move in"):
            self.filesystem.makedirs(f"{self.root}/{to}".rsplit("/", 1)[0], exist_ok=True)
            self.filesystem.mv(f"{self.root}/{name}", f"{self.root}/{to}")

    @abstractmethod
    def _exists(self) -> None:
        """Refuse a place that is not there; nothing in a run makes one."""

    @abstractmethod
    def _refuse_where_replaced(self) -> None:
        """Refuse a place in which a second writer would replace what the first has written.

        Raises:
            InputError: it is such a place.
        """

    @abstractmethod
    def _create(self, source: Path, path: str) -> bool:
        """Write a whole file under a new name; False where the name is taken."""

    @contextmanager
    def _plainly(self, doing: str) -> Iterator[None]:
        """Say what went wrong with the place in one line."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # of many kinds, by transport and version
            meaning, remedy = _reason(error, doing)
            raise InputError(f"{self.url}: {meaning}: {remedy}") from error


class Folder(Place):
    """A folder that all collaborators see."""

    def _exists(self) -> None:
        if not Path(self.root).is_dir():
            raise InputError(f"{self.url}: no such folder: make it, or correct sharing.folder")

    def _refuse_where_replaced(self) -> None:
        """A link replaces nothing on any file system."""

    def _create(self, source: Path, path: str) -> bool:
        """Copy under a temporary name, then link: a link never replaces what is there."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_name(target)
        try:
            self.filesystem.put_file(str(source), str(temporary))
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.link(temporary, target)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True


class Bucket(Place):
    """A bucket of an S3 server that honours `If-None-Match`."""

    _known = False
    _tried = False

    def _exists(self) -> None:
        # Some servers make a bucket that is written to: a misspelt one must not come to be.
        if not self._known:
            self.filesystem.find(f"{self.root.split('/')[0]}/{MARKER}")
            self._known = True

    def _refuse_where_replaced(self) -> None:
        """Try it with the marker, once: older servers take the condition and ignore it."""
        if self._tried:
            return
        path = f"{self.root}/{MARKER}"
        for what, create in (("", self._create), (" of files in parts", self._create_in_parts)):
            if create(MARKER_FILE, path) and create(MARKER_FILE, path):
                raise InputError(
                    f"{self.url}: the server ignores If-None-Match{what}, and two writers would "
                    "replace each other's artifacts: share through another server or a folder, or "
                    "set sharing.publish: false to only read from it"
                )
        self._tried = True

    def _create(self, source: Path, path: str) -> bool:
        try:
            self.filesystem.put_file(str(source), path, mode="create")
        except Exception as error:
            if _codes(error) & TAKEN:
                return False
            raise
        return True

    def _create_in_parts(self, source: Path, path: str) -> bool:
        """As `_create` does with a large file, with a small one: a single part may be so small."""
        bucket, key, _ = self.filesystem.split_path(path)
        call, of = self.filesystem.call_s3, {"Bucket": bucket, "Key": key}
        of["UploadId"] = call("create_multipart_upload", **of)["UploadId"]
        try:
            part = call("upload_part", **of, PartNumber=1, Body=source.read_bytes())
            parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
            call("complete_multipart_upload", **of, MultipartUpload=parts, IfNoneMatch="*")
        except Exception as error:
            call("abort_multipart_upload", **of)
            if _codes(error) & TAKEN:
                return False
            raise
        return True


def open_place(settings: Mapping[str, Any]) -> Place | None:
    """The place that a configuration's `sharing` describes; None where nothing is shared."""
    import fsspec

    if settings["kind"] == "none":
        return None
    if settings["kind"] == "fs":
        root = str(Path(settings["folder"]).expanduser().absolute())
        return Folder(root, fsspec.filesystem("file"), root)
    root = "/".join(part for part in (settings["bucket"], settings.get("prefix")) if part)
    filesystem = fsspec.filesystem(
        "s3",
        endpoint_url=settings.get("endpoint"),
        config_kwargs={"connect_timeout": 10, "read_timeout": 60},
    )
    return Bucket(f"s3://{root}", filesystem, root)


def is_temporary(name: str) -> bool:
    """Whether a name is of a file that is being written, or was when its writer was killed."""
    return any(part.startswith(".") for part in name.split("/"))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what caused it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _codes(error: BaseException) -> set[str]:
    """Names of an error's kinds and S3's own codes, along the chain of causes."""
    codes = set()
    for cause in _chain(error):
        codes |= {kind.__name__ for kind in type(cause).__mro__}
        response = getattr(cause, "response", None)
        if isinstance(response, Mapping):
            codes.add(str(response.get("Error", {}).get("Code", "")))
    return codes


def _reason(error: BaseException, doing: str) -> tuple[str, str]:
    """What an error of a place means, and what to do."""
    codes = _codes(error)
    for code, said in REASONS.items():
        if code in codes:
            return said
    if codes & {"AccessDenied", "PermissionError", "Forbidden", "403"} or _errno(
        error, errno.EROFS
    ):
        remedy = "ask its owner, or set sharing.publish: false to only read from it"
        return f"no permission to {doing} it", remedy
    if codes & set(UNREACHABLE):
        remedy = "check sharing.endpoint and the network, then run again: nothing is lost"
        return "the server cannot be reached", remedy
    if _errno(error, errno.ENOSPC) or _errno(error, errno.EDQUOT):
        return "no space left there", "make room, then run again: what was computed is kept here"
    text = one_line(str(error) or type(error).__name__)
    return (
        f"cannot {doing} it ({text})",
        "mend that, then run again: what was computed is kept here",
    )


def _errno(error: BaseException, number: int) -> bool:
    return any(isinstance(e, OSError) and e.errno == number for e in _chain(error))


def local_place(folder: Path) -> Place:
    """A local store, to be listed and tidied like a shared one.

    Raises:
        InputError: there is none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder: nothing is computed yet, or correct `store`")
    return folder_place(str(folder), folder)


def folder_place(url: str, folder: Path) -> Place:
    """A folder of artifacts; `url` is how messages call it."""
    import fsspec

    return Folder(url, fsspec.filesystem("file"), str(folder.absolute()))


def place_of(study: Config) -> Place | None:
    """Where the collaborators of a study share; None where they do not."""
    return open_place(dump(study.sharing))


def shared_names(study: Config, otherwise: str) -> frozenset[str]:
    """Names of what the collaborators of a study share, by one listing.

    Where the place cannot be reached, none, and a line on standard error says so.

    Args:
        otherwise: what is done in that case, for the line.
    """
    try:
        place = place_of(study)
        return frozenset(place.names() if place else ())
    except InputError as error:
        print(f"{error} ({otherwise} as if nothing were there)", file=sys.stderr)
        return frozenset()
