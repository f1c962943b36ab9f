"""A study as its configuration file describes it, outside Snakemake: settings and artifacts."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from isogloss.errors import InputError
from isogloss.model.sources import ModelSource, cache_folder, model_digest
from isogloss.study.keys import Inventory, Named
from isogloss.study.schema import Config, read
from isogloss.study.settings import Slices, dump


@dataclass(frozen=True)
class Study:
    """A configuration file and what it holds."""

    path: Path
    config: Config

    @classmethod
    def of(cls, path: Path) -> "Study":
        """Read a configuration file.

        Raises:
            InputError: as `config.read`.
        """
        return cls(path, read(path))

    @property
    def store(self) -> Path:
        """The folder of this machine's artifacts."""
        return Path(self.config.store)

    def artifacts(self) -> list[Named]:
        """Every artifact that the study names.

        Raises:
            InputError: its questions or its models' digests cannot be had.
        """
        try:
            return list(Inventory(Slices(self.config, self.weights_of)).all())
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from error

    def weights_of(self, model: str) -> str:
        """What identifies a model's weights."""
        source = ModelSource.from_spec(model, dump(self.config.models[model]))
        return model_digest(source, cache_folder(self.config.cache))


def usual_configs(folder: Path = Path("config")) -> Iterator[Path]:
    """The configurations of a tree: the default study, then the others."""
    yield folder / "config.yaml"
    yield from sorted((folder / "studies").glob("*.yaml"))
