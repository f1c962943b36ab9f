"""A model's architecture without its weights, and the sizes and operations that follow from it."""

from dataclasses import dataclass
from typing import Any

from isogloss.cost.machines import Machine
from isogloss.cost.requests import BYTES, gpus, too_large_for_a_gpu
from isogloss.cost.tokens import Text
from isogloss.errors import InputError, one_line
from isogloss.model.sources import ModelSource, cache_folder, folder_here
from isogloss.study.resources import Architecture
from isogloss.study.schema import Config


@dataclass(frozen=True)
class Model:
    """A decoder as it is loaded; norms and biases are left out."""

    shape: Architecture
    dtype: str  # of the weights when computing
    stored: int  # bytes per weight on the disk
    # Accelerators that one job holds, 0 on a CPU. Blocks are spread over them and run one after the
    # other, so that more of them hold more and are no faster.
    gpus: int = 0

    @property
    def block_weights(self) -> int:
        """Weights of one block: queries and output, keys and values, three matrices of the MLP."""
        shape = self.shape
        attention = 2 * (shape.heads + shape.kv_heads) * shape.head_dim
        return shape.width * (attention + 3 * shape.intermediate)

    @property
    def head_weights(self) -> int:
        """Weights of the unembedding."""
        return self.shape.vocabulary * self.shape.width

    @property
    def weights(self) -> int:
        """All weights: blocks, embedding, and the unembedding where it is another matrix."""
        return self.shape.layers * self.block_weights + self.head_weights * (2 - self.shape.tied)

    @property
    def number_bytes(self) -> int:
        """Bytes of a weight, or of a number in a state, when computing."""
        return BYTES[self.dtype]

    def flops(self, text: Text, blocks: float, states: float) -> float:
        """Operations of matrix products: a text through some blocks, some states through the head.

        A product with weights has two per weight and token; attention has two products more, of
        each row with itself.
        """
        attention = 4 * self.shape.heads * self.shape.head_dim * text.squares
        through = blocks * (2 * self.block_weights * text.tokens + attention)
        return through + 2 * self.head_weights * states


def loaded_model(study: Config, source: ModelSource, machine: Machine) -> Model:
    """A model of the study as it is loaded on a machine.

    Raises:
        InputError: its architecture is unknown, or it fits no GPU.
    """
    entry, cluster, n_gpus = study.models[source.slug], study.cluster, 0
    if machine.gpu:
        memory = cluster.gpu_mem_mb or int(machine.gpu_memory / 1e6)
        asked = {"gpus": max(1, cluster.gpus), "gpu_mem_mb": memory}
        cluster = cluster.model_copy(update=asked)
        if fault := too_large_for_a_gpu({source.slug: entry}, cluster):
            raise InputError(fault)
        n_gpus = gpus(entry, cluster)
    shape = study.estimate.models.get(source.slug) or _architecture(study, source)
    stored = 4 if source.source == "package" else BYTES[entry.dtype]
    return Model(shape, entry.dtype, stored, n_gpus)


def _architecture(study: Config, source: ModelSource) -> Architecture:
    """What config.json says, of the model's folder or, some kilobytes, of the hub.

    Raises:
        InputError: neither has it; the message says what to do.
    """
    from transformers import AutoConfig

    folder = folder_here(source, cache_folder(study.cache))
    where = f"models.{source.slug}: architecture unknown"
    remedy = f"fetch it first (`snakemake download`), or give estimate.models.{source.slug}"
    if folder is None and source.source != "hub":
        raise InputError(f"{where}: {remedy}")
    try:
        config: Any = AutoConfig.from_pretrained(
            folder or source.repo,
            revision=None if folder else source.revision,
            local_files_only=folder is not None,
            trust_remote_code=source.trust_remote_code,
        ).get_text_config()
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
    except Exception as error:  # of many kinds, by transport and by what the file says
        raise InputError(f"{where} ({one_line(error)}): {remedy}") from error
