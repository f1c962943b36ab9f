"""A model without its weights, and the sizes and operations that follow from its architecture."""

from dataclasses import dataclass, replace
from typing import Any

from isogloss.cost.requests import BYTES, gpus, too_large_for_a_gpu
from isogloss.cost.tokens import Text
from isogloss.errors import InputError, one_line
from isogloss.model.load import read_config
from isogloss.model.sources import ModelSource, cache_folder, folder_here
from isogloss.study.schema import Config

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
"""What configurations call how many experts a block has."""


@dataclass(frozen=True)
class Model:
    """A decoder as it is loaded."""

    dtype: str  # of the weights when computing
    stored: int  # bytes per weight on the disk
    layers: int
    width: int
    intermediate: int  # width of the MLP
    vocabulary: int
    block_weights: float  # of one block, that a token meets: of experts, those that it is sent to
    weights: float  # of the whole model
    plain: str = ""  # why it takes the plain path; '' where it takes packed rows
    padded: bool = True  # whether sequences of the plain path run together
    # Accelerators that one job holds, 0 on a CPU. Blocks are spread over them and run one after the
    # other, so that more of them hold more and are no faster.
    gpus: int = 0

    @property
    def head_weights(self) -> int:
        """Weights of the unembedding."""
        return self.vocabulary * self.width

    @property
    def number_bytes(self) -> int:
        """Bytes of a weight, or of a number in a state, when computing."""
        return BYTES[self.dtype]

    def block_flops(self, text: Text, blocks: float) -> float:
        """Operations of a text through some blocks: two per weight and token, and in attention two
        products of each sequence with itself, with heads as wide together as the states."""
        return blocks * (2 * self.block_weights * text.tokens + 4 * self.width * text.squares)

    def head_flops(self, states: float) -> float:
        """Operations of some states through the unembedding."""
        return 2 * self.head_weights * states


def loaded_model(study: Config, source: ModelSource, gpu_memory: float) -> Model:
    """A model of the study as it is loaded on accelerators of some memory [byte]; 0: without any.

    Raises:
        InputError: its architecture is unknown, or it fits no GPU.
    """
    entry, cluster = study.models[source.slug], study.cluster
    if gpu_memory:
        there = {"gpu_mem_mb": cluster.gpu_mem_mb or int(gpu_memory / 1e6)}
        cluster = cluster.model_copy(update=there | {"gpus": max(1, cluster.gpus)})
        if fault := too_large_for_a_gpu({source.slug: entry}, cluster):
            raise InputError(fault)
    try:
        model = counted(_configuration(study, source), entry.dtype, source.trust_remote_code)
    except Exception as error:  # of many kinds, by transport and by what the file says
        raise InputError(
            f"models.{source.slug}: architecture unknown ({one_line(error)}): fetch it first "
            f"(`snakemake --cores 1 download`), or give estimate.models.{source.slug}"
        ) from error
    stored = 4 if source.source == "package" else BYTES[entry.dtype]
    return replace(model, stored=stored, gpus=gpus(entry, cluster) if gpu_memory else 0)


def _configuration(study: Config, source: ModelSource) -> Any:
    """As the study gives it, an organism's, or config.json, of the hub where it is not here."""
    from transformers import LlamaConfig

    if given := study.estimate.models.get(source.slug):
        return LlamaConfig(**given.model_dump(by_alias=True))
    if organism := study.models[source.slug].organism:
        from isogloss.organisms.organism import llama_config

        assert study.the_world is not None
        return llama_config(study.the_world, organism.width, organism.layers)
    folder = folder_here(source, cache_folder(study.cache))
    if folder is None and source.source != "hub":
        raise InputError("its folder is not here")
    return read_config(source, folder).get_text_config()


def counted(config: Any, dtype: str, trusted: bool = False) -> Model:
    """A model made without weights: these are counted, and its modules say which path it takes.

    Args:
        trusted: whether code beside the configuration may run.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from isogloss.model.adapt import not_packed

    with torch.device("meta"):
        made: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=trusted)
    plain, single = not_packed(made, getattr(made.base_model, "decoder", made.base_model), made)
    sizes = {name: weights.numel() for name, weights in made.named_parameters()}
    whole, experts = sum(sizes.values()), sum(sizes[n] for n in sizes if ".experts." in n)
    n_experts = next(filter(None, (getattr(config, name, None) for name in EXPERTS)), 1)
    idle = experts * (1 - getattr(config, "num_experts_per_tok", n_experts) / n_experts)
    ends = {made.get_input_embeddings().weight, made.get_output_embeddings().weight}
    wide = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    layers = config.num_hidden_layers
    return Model(
        dtype=dtype,
        stored=BYTES[dtype],
        layers=layers,
        width=config.hidden_size,
        intermediate=max(wide) if isinstance(wide, list) else wide,  # of Gemma 3n, by block
        vocabulary=config.vocab_size,
        block_weights=(whole - idle - sum(end.numel() for end in ends)) / layers,
        weights=whole,
        plain=plain or "",
        padded=not single,
    )
