"""A small study on a random tiny model: run once, then planned again or copied by the tests.

Snakemake runs in copies of the tree only, with a cache of their own and no way to a network.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from filelock import FileLock
from tests.patience import PATIENCE
from tests.workflow import programs

ROOT = Path(__file__).resolve().parents[2]
TREE = ("Snakefile", "rules", "workflow_scripts", "config", "data", "profiles", "report")
MODEL = "models/tiny"
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "NO_COLOR": "1",
}

WITH_A_MODEL = {"readout", "extract", "lens", "steer"}
"""Rules that load a model's weights or its readout: what costs hours on a real study."""

STATISTICS = {
    "behaviour", "breakdown", "trajectories", "similarity", "subspaces",
    "steering_effects", "scale", "verdicts",
}  # fmt: skip
COMPUTE = WITH_A_MODEL | STATISTICS | {"vectors", "variants", "pivots"}

SMALL: dict[str, Any] = {
    "study": "small",
    "results": "results",
    "languages": ["en", "de", "es"],
    "pivots": "all",
    "models": {
        "tiny": {
            "source": "path", "path": MODEL, "family": "tiny", "parameters": 60000,
            "dtype": "float32",
        }
    },
    "datasets": {
        "own": {"source": "jsonl", "path": "questions", "licence": "CC0-1.0"},
        "lexicon": {
            "source": "lexicon", "items": 18, "prompt": {"templates": {"default": "{question}"}},
        },
    },
    "extraction": {"control": ["de", "es"], "lens_layers": "all", "precision_items": 0},
    "similarity": {"permutations": 19, "map_permutations": 19},
    "subspaces": {"layers": 2, "permutations": 19},
    "steering": {
        "fit_on": ["own"], "evaluate_on": ["own"], "languages": ["de", "es"], "layers": [0.5, 0.75],
        "strengths": [8.0], "random_draws": 2,
    },
    "statistics": {"folds": 3},
    "figures": {"dpi": 60},
    "estimate": {"machine": "cpu"},
}  # fmt: skip
"""30 questions in three languages; a fourth, sw, has its questions there but is not asked for."""


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with some of its keys, at any depth, set to other values."""
    result = dict(base)
    for key, value in changes.items():
        deeper = isinstance(value, dict) and isinstance(base.get(key), dict)
        result[key] = merged(base[key], value) if deeper else value
    return result


@dataclass(frozen=True)
class Study:
    """A copy of the tree, and the configuration that its commands use.

    Attributes:
        folder: the copy, where Snakemake runs.
        config: written for each command; None leaves the default, config/config.yaml.
    """

    folder: Path
    config: dict[str, Any] | None = None

    def changed(self, **changes: Any) -> "Study":
        """The same folder under another configuration."""
        return replace(self, config=merged(self.config or {}, changes))

    def copy(self, folder: Path) -> "Study":
        """Everything once more, modification times and Snakemake's memory included."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return replace(self, folder=folder)

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Snakemake here and return what it said, whether or not it succeeded."""
        options = [] if self.config is None else ["--configfile", self.written()]
        return self.python("-m", "snakemake", *arguments, *options)

    def written(self) -> str:
        """The configuration as a file of the folder: its name."""
        text = json.dumps(self.config)
        path = self.folder / f"study-{crc32(text.encode()):08x}.yaml"
        path.write_text(text, encoding="utf-8")
        return path.name

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python here, away from the network and from the user's caches."""
        command = [programs.python(), *arguments]
        # Files: what a program leaves running would hold pipes open.
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as error:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=error,
                timeout=PATIENCE,
            )
            said = [log.read() for log in (out, error) if log.seek(0) == 0]
        return subprocess.CompletedProcess(command, done.returncode, *said)

    @property
    def environment(self) -> dict[str, str]:
        """Without a network, and with caches of its own."""
        return os.environ | ENVIRONMENT | {"ISOGLOSS_CACHE": str(self.cache)}

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def run(self, *arguments: str) -> str:
        """Run Snakemake to the end; its messages, or a failure that shows them."""
        done = self.snakemake("--cores", "2", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def plan(self, *arguments: str) -> Counter[str]:
        """How many jobs of each rule a dry-run names; `all` itself left out."""
        done = self.snakemake("--dry-run", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        table = re.search(r"Job stats:\njob +count\n-[- ]*\n(.*?)\ntotal ", done.stdout, re.DOTALL)
        if table is None:
            assert "Nothing to be done" in done.stdout + done.stderr
            return Counter()
        rows = (line.rsplit(maxsplit=1) for line in table[1].splitlines())
        return Counter({rule: int(count) for rule, count in rows if rule != "all"})

    def computing(self, *arguments: str) -> Counter[str]:
        """`plan`, of the rules that compute something: figures and tables left out."""
        plan = self.plan(*arguments)
        return Counter({rule: count for rule, count in plan.items() if rule in COMPUTE})

    def artifacts(self, stage: str = "*") -> dict[str, tuple[int, int]]:
        """Inode and modification time of every artifact in the store, by path."""
        paths = (self.folder / "store").glob(f"{stage}/*/*/*/*.*")
        stats = {str(path.relative_to(self.folder)): path.stat() for path in paths}
        return {name: (s.st_ino, s.st_mtime_ns) for name, s in stats.items()}


def copy_tree(folder: Path) -> Study:
    """The repository's own files in a new folder."""
    folder.mkdir(parents=True)
    for name in TREE:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        elif (ROOT / name).exists():
            shutil.copy2(ROOT / name, folder / name)
    return Study(folder)


def write_questions(folder: Path, languages: list[str], every: int = 4) -> None:
    """Some of the everyday questions, in several languages."""
    folder.mkdir()
    for tag in languages:
        lines = (ROOT / f"data/everyday/{tag}.jsonl").read_text("utf-8").splitlines(keepends=True)
        (folder / f"{tag}.jsonl").write_text("".join(lines[::every]), encoding="utf-8")


def made_study(folder: Path) -> Study:
    """The small study with its questions and its model, not run."""
    study = replace(copy_tree(folder), config=SMALL)
    write_questions(folder / "questions", ["en", "de", "es", "sw"])
    made = study.python("workflow_scripts/make_tiny_model.py", MODEL)
    assert made.returncode == 0, made.stderr
    return study


def made_once(
    factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
    name: str,
    make: Callable[[Path], object],
) -> Path:
    """A folder of this run of the tests, made by one of pytest-xdist's workers for all."""
    base = factory.getbasetemp()
    folder = (base.parent if hasattr(request.config, "workerinput") else base) / name
    done = folder.with_suffix(".done")
    with FileLock(folder.with_suffix(".lock")):
        if not done.exists():
            assert not folder.exists(), f"{name}: it failed in another worker: see its test"
            said = make(folder)
            done.write_text(said if isinstance(said, str) else "", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Study:
    """The small study, run to the end once a session. Copy it before changing files in it."""
    made = made_once(tmp_path_factory, request, "finished", lambda path: made_study(path).run())
    return Study(made, SMALL)


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The tree as a clone has it, with nothing run and nothing in the cache."""
    return copy_tree(tmp_path_factory.mktemp("clone") / "tree")


@pytest.fixture(scope="module")
def unmade(tree: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The small study with nothing run; its model is pinned but nowhere, so none is ever loaded."""
    study = tree.copy(tmp_path_factory.mktemp("unmade") / "tree")
    write_questions(study.folder / "questions", ["en", "de", "es"])
    pinned = {"source": "hub", "repo": "a/b", "revision": "0" * 40, "path": None}
    return replace(study, config=merged(SMALL, {"models": {"tiny": pinned}}))


@pytest.fixture
def copied(finished: Study, tmp_path: Path) -> Callable[..., Study]:
    """Make a copy of the finished study, under a changed configuration where one is given."""

    def copy(**changes: Any) -> Study:
        return finished.copy(tmp_path / "study").changed(**changes)

    return copy
