"""The local store: a folder of artifacts named by the key of what they are.

Where a study is shared, the store is filled from the shared place first, and what is computed is
published there.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isogloss.store.places import Place, open_place


@dataclass(frozen=True)
class Store:
    """The local folder of artifacts, and the place where collaborators share theirs.

    Attributes:
        folder: of this machine.
        place: None where nothing is shared.
        publish: whether what is computed here goes there.
        say: takes lines for the log.
    """

    folder: Path
    place: Place | None = None
    publish: bool = True
    say: Callable[[str], None] = print

    @classmethod
    def of(
        cls, folder: Path, sharing: Mapping[str, Any], say: Callable[[str], None] = print
    ) -> "Store":
        """The store of a configuration's `store` and `sharing`."""
        return cls(folder, open_place(sharing), sharing["publish"], say)

    def missing(
        self, names: Mapping[str, str], progress: Callable[[Iterable], Iterable] = iter
    ) -> list[str]:
        """Which artifacts have to be computed, after fetching those that are shared.

        Args:
            names: by language (or whatever the caller computes one by one), the names.
            progress: wraps the artifacts that are fetched.

        Returns:
            Languages that are neither here nor shared. Permission to publish them is checked.

        Raises:
            InputError: the place cannot be used; Damaged: an artifact there or here is.
        """
        shared = self._shared(names.values())
        absent = {tag: name for tag, name in names.items() if not self.path(name).exists()}
        wanted = [name for name in absent.values() if name in shared]
        for name in progress(wanted) if wanted else ():
            self._fetch(name)
        missing = [tag for tag, name in absent.items() if name not in shared]
        if self.place is not None and self.publish:
            if missing:
                self.place.check_writable()
            for name in names.values():
                if name not in shared and self.path(name).exists():
                    from isogloss.store.verification import verify_artifact  # HDF5, as in sharing

                    verify_artifact(self.path(name))  # it may be old, and stays where it goes
                    self.keep(name)
        elif missing and self.place is not None:
            self.say(f"not in {self.place.url} either, to be computed here: {' '.join(missing)}")
        return missing

    def path(self, name: str) -> Path:
        """Where an artifact lies here."""
        return self.folder / name

    def paths(self, names: Mapping[str, str]) -> dict[str, Path]:
        """Where several artifacts lie here, by the same names."""
        return {tag: self.path(name) for tag, name in names.items()}

    def keep(self, name: str) -> None:
        """Publish an artifact that is whole; where another was quicker, theirs is taken.

        Raises:
            InputError: it could not be published; it is kept here.
        """
        if self.place is None or not self.publish:
            return
        if self.place.publish(self.path(name), name):
            self.say(f"published: {self.place.url}/{name}")
        else:
            self.say(f"published by somebody else meanwhile: {self.place.url}/{name}")
            self._fetch(name)

    def _fetch(self, name: str) -> None:
        assert self.place is not None
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.place.fetch(name, self.path(name))
        self.say(f"fetched: {self.place.url}/{name}")

    def _shared(self, names: Iterable[str]) -> set[str]:
        """Which artifacts the place has, by one listing of each stage and dataset."""
        if self.place is None:
            return set()
        folders = sorted({"/".join(name.split("/")[:3]) for name in names if name.count("/") > 2})
        folders += sorted({name.rpartition("/")[0] for name in names if name.count("/") <= 2})
        return {name for folder in folders for name in self.place.names(folder)}
