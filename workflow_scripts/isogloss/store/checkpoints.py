"""Checkpoints of organisms, from the store to where models are loaded from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isogloss.errors import InputError
from isogloss.model.sources import organism_identity
from isogloss.store.local import Store
from isogloss.study.keys import artifact_name
from isogloss.study.settings import source_of


def unpack_organism(settings: Mapping[str, Any], store: Store, cache: Path) -> None:
    """Make an organism ready to be loaded; a model of another source is so already.

    Raises:
        InputError: its checkpoint is neither here nor shared; Damaged: it is.
    """
    source = source_of(settings)
    if source.source != "organism":
        return
    from isogloss.organisms.checkpoint import unpack

    name = artifact_name("organism", source.slug, "", "", organism_identity(source))
    if store.missing({source.slug: name}):
        raise InputError(f"{store.path(name)}: no such checkpoint: run the rule `train`")
    unpack(source, store.path(name), cache)
