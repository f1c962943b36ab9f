"""Sections of a study that no result depends on: the cluster, sharing, what an estimate needs."""

from typing import Any, Literal

from pydantic import Field, model_validator

from isogloss.study.setting_types import Size, Slug, Strict


class Cluster(Strict):
    """What a cluster's nodes offer: what jobs ask for and what is refused, not what is computed."""

    gpus: int = Field(
        1, ge=0, description="GPUs of a job that runs a model; 0 on a cluster without any"
    )
    gpu_mem_mb: int | None = Field(
        None,
        ge=1,
        description="memory of one GPU [MB]: a model with device_map: auto asks for as many as "
        "hold it; null: for `gpus`",
    )
    max_gpus: int | None = Field(None, ge=0, description="most GPUs of one node; null: no limit")
    max_mem_mb: int | None = Field(
        None, ge=1, description="memory of the largest node [MB]; null: no limit"
    )
    max_runtime: int | None = Field(
        None, ge=1, description="longest time of a job [min]; null: no limit"
    )
    max_threads: int | None = Field(
        None, ge=1, description="most cores of a job; null: 8 where a model runs"
    )

    jobs_per_model: int = Field(
        1,
        ge=1,
        le=1000,
        description="jobs that share a model's languages in extraction, each with the model loaded",
    )

    @model_validator(mode="after")
    def _gpus_there(self) -> "Cluster":
        if self.max_gpus is not None and self.gpus > self.max_gpus:
            raise ValueError(
                f"gpus: {self.gpus} is more than max_gpus, {self.max_gpus}: correct one; "
                "gpus: 0 on a cluster without any"
            )
        return self


class Sharing(Strict):
    """Where collaborators keep artifacts in common. Credentials come from the environment."""

    kind: Literal["none", "fs", "s3"] = Field(
        "none", description="none: this machine's store alone; fs: a shared folder; s3: a bucket"
    )
    folder: str | None = Field(None, min_length=1, description="fs: the folder")
    bucket: str | None = Field(
        None, pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="s3: the bucket"
    )
    prefix: str = Field(
        "", pattern=r"^([\w.-]*\w(/[\w.-]*\w)*)?$", description="s3: folder in the bucket"
    )
    endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^@\s]+$",
        description="s3: address of the server; null: AWS's own",
    )
    publish: bool = Field(
        True, description="give others what is computed here; false: only read from the place"
    )

    @model_validator(mode="after")
    def _complete(self) -> "Sharing":
        needed = {"fs": "folder", "s3": "bucket"}.get(self.kind)
        if needed and not getattr(self, needed):
            raise ValueError(f"kind {self.kind} needs {needed}")
        return self


def named_in_config(name: str, more: str = "") -> Any:
    """A required setting with the name that config.json has for it, in its description too."""
    return Field(serialization_alias=name, description=name + more)


class Architecture(Strict):
    """A decoder's architecture, as its config.json has it."""

    layers: Size = named_in_config("num_hidden_layers")
    width: Size = named_in_config("hidden_size")
    intermediate: Size = named_in_config("intermediate_size")
    heads: Size = named_in_config("num_attention_heads")
    kv_heads: Size = named_in_config("num_key_value_heads")
    head_dim: Size = named_in_config("head_dim", "; hidden_size / num_attention_heads without it")
    vocabulary: Size = named_in_config("vocab_size")
    tied: bool = named_in_config("tie_word_embeddings")


class DatasetShape(Strict):
    """What a dataset will hold, in English."""

    items: Size = Field(description="number of items")
    choices: int = Field(ge=0, le=100, description="choices of an item; 0: sentences")
    prompt_words: float = Field(gt=0, le=1e6, description="words of a whole prompt")
    choice_words: float = Field(1, gt=0, le=1e6, description="words of a choice")


class Estimate(Strict):
    """What `snakemake estimate` cannot find here; nothing computed depends on it."""

    machine: str | None = Field(
        None,
        description="machine that the study will run on: here (measured once), cpu, a100, h100, "
        "or a file of rates; null: here, or h100 where device is cuda",
    )
    models: dict[Slug, Architecture] = Field(
        {}, description="architectures of models that are not here, by slug"
    )
    datasets: dict[Slug, DatasetShape] = Field(
        {}, description="sizes of datasets that are not here, by name"
    )
