"""A study as its configuration file describes it, outside Snakemake: settings and artifacts."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from isogloss.errors import InputError
from isogloss.study.keys import Artifact, Artifacts
from isogloss.study.schema import Config, read
from isogloss.study.settings import Settings


@dataclass(frozen=True)
class Study:
    """A configuration file and its content."""

    path: Path
    config: Config

    @classmethod
    def of(cls, path: Path) -> "Study":
        """Read a configuration file.

        Raises:
            InputError: as `schema.read`.
        """
        return cls(path, read(path))

    @property
    def store(self) -> Path:
        """The folder of this machine's artifacts."""
        return Path(self.config.store)

    @cached_property
    def settings(self) -> Settings:
        """What each rule gets of the study."""
        return Settings(self.config)

    def artifacts(self) -> list[Artifact]:
        """Every artifact that the study names.

        Raises:
            InputError: its questions or its models' digests cannot be had.
        """
        try:
            return list(Artifacts(self.settings).all())
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from error


def usual_configs(folder: Path = Path("config")) -> Iterator[Path]:
    """The configurations of a tree: the default study, then the others."""
    yield folder / "config.yaml"
    yield from sorted((folder / "studies").glob("*.yaml"))
