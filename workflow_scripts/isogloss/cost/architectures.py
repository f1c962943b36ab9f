"""A model's architecture without its weights: as the study gives it, or from its config.json."""

from pathlib import Path
from typing import Any

from isogloss.cost.costs import Architecture
from isogloss.errors import InputError, one_line
from isogloss.model.sources import ModelSource, folder_here
from isogloss.study.schema import Config


def architecture_of(study: Config, source: ModelSource, cache: Path) -> Architecture:
    """The architecture of one model of a study; no weights are fetched.

    `estimate.models` goes first, then the folder that the model is in, then the hub's config.json,
    which is some kilobytes.

    Raises:
        InputError: none of them has it; the message says what to do.
    """
    if (given := study.estimate.models.get(source.slug)) is not None:
        return Architecture(**given.model_dump())
    if folder := folder_here(source, cache):
        return _of_config(_read(str(folder), source, local=True))
    remedy = f"fetch it first (`snakemake download`), or give estimate.models.{source.slug}"
    if source.source != "hub":
        raise InputError(f"models.{source.slug}: architecture unknown: {remedy}")
    try:
        return _of_config(_read(source.repo, source, local=False))
    except InputError as error:
        raise InputError(f"{error}: {remedy}") from error


def _read(place: str, source: ModelSource, local: bool) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(
            place,
            revision=None if local else source.revision,
            local_files_only=local,
            trust_remote_code=source.trust_remote_code,
        ).get_text_config()
    except Exception as error:  # of many kinds, by transport and by what the file says
        raise InputError(
            f"models.{source.slug}: architecture unknown ({one_line(error)})"
        ) from error


def _of_config(config: Any) -> Architecture:
    """What transformers' configuration of a decoder says."""
    heads = config.num_attention_heads
    return Architecture(
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        intermediate=config.intermediate_size,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        vocabulary=config.vocab_size,
        tied=bool(config.tie_word_embeddings),
    )
