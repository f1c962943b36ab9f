"""What each stage of a study costs: time, memory, disk.

Work follows from the model's architecture (`architecture`) and from its text (`tokens`); time is
that work over the machine's rates (`machines`). Constants are measured unless they say otherwise.
Nothing is run here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from isogloss.cost.architecture import Model
from isogloss.cost.machines import Machine
from isogloss.cost.requests import BYTES, PAIR_ITEM_BYTES, similarity_mb, wordings_mb
from isogloss.cost.tokens import Text
from isogloss.measures.language_pairs import PAIR_ITEMS_AT_ONCE
from isogloss.measures.lens import lens_layers
from isogloss.measures.principal_axes import ITERATED_FROM
from isogloss.measures.retrieval import layers_with_retrieval
from isogloss.measures.shared_directions import MAX_COMMON
from isogloss.questions.prompts import LATENTS
from isogloss.study.organisms import Organism
from isogloss.study.schema import Config, Steering
from isogloss.study.steering_methods import UNSEARCHED

COMPRESSED = 0.93  # what compression leaves of float32
DIFFERENT = 0.25  # different states of the embedding, of all its states that predict: 0.1 to 0.4
BUFFERS = 300e6  # memory beside weights and batches, of a program with a model [byte]
LOGITS = 512 * 4096 * 4 * 4  # a block of logits: states, vocabulary, its copies in float32 [byte]
UNSTEERED = 1e9  # unsteered states that steering keeps, of the pivot and of a language, at most
WRITING = 2.6  # time of writing an activation file, by that of its bytes: shards, copies, digests
# Training: tokens of a sequence; share of NumPy's rate and a step's time beyond its products [s],
# measured at widths 16 to 176 on a core.
SEQUENCE, TRAINING, STEP_SECONDS = 5, 0.7, 0.012
FLOAT32 = 1.6  # how much faster than its usual mix NumPy is where nearly all is in float32


@dataclass(frozen=True)
class Cost:
    """What one job costs, or several together."""

    seconds: float = 0.0  # of run time, one job after the other
    memory: float = 0.0  # peak of the host's memory, of the largest job [byte]
    device_memory: float = 0.0  # peak of the accelerators' memory [byte]; 0 where none is used
    disk: float = 0.0  # what it leaves [byte]
    gpu_seconds: float = 0.0  # seconds times GPUs held

    def __add__(self, other: "Cost") -> "Cost":
        pairs = {name: (value, getattr(other, name)) for name, value in vars(self).items()}
        peaks = ("memory", "device_memory")
        return Cost(**{name: (max if name in peaks else sum)(pair) for name, pair in pairs.items()})


@dataclass(frozen=True)
class Work:
    """One model on one dataset of a study."""

    study: Config
    machine: Machine
    model: Model
    languages: Sequence[str]  # of the dataset
    items: int
    choices: int  # most of an item
    wordings: int = 1  # of the questions
    with_rows: bool = True  # whether states are kept for the lens: not of further wordings

    def seconds(self, runs: Sequence[tuple[Text, float, float]], share: float = 1) -> float:
        """Run time of texts, each through some blocks, with some of its states through the head.

        Args:
            share: of the machine's rates that is reached.
        """
        model, batch, seconds = self.model, self.study.extraction.batch_tokens, 0.0
        for text, blocks, states in runs:
            together = not model.plain or model.padded
            calls = math.ceil(text.tokens / batch) if together else text.sequences
            flops = model.block_flops(text, blocks) + model.head_flops(states)
            seconds += calls * blocks * self.machine.block_call
            seconds += flops / self.machine.products[model.dtype] / share
        return seconds

    def lens_seconds(self, texts: Sequence[Text]) -> float:
        """Run time of the lens: at the embedding only different states count; at the last layer the
        scores are there already."""
        parts = {0: DIFFERENT, self.model.layers: 0.0}
        layers = sum(parts.get(n, 1.0) for n in self.lens_layers)
        return self.seconds([(text, 0, layers * text.stored_states) for text in texts])

    @property
    def lens_layers(self) -> list[int]:
        wanted = self.study.extraction.lens_layers if self.with_rows else 0
        return lens_layers(self.model.layers, wanted)

    @property
    def steering(self) -> Steering:
        assert self.study.steering is not None
        return self.study.steering

    @property
    def steered_layers(self) -> list[int]:
        return sorted({round(depth * self.model.layers) for depth in self.steering.layers})


# -- stages that run a model, or a part of one -----------------------------------------------------


def train(model: Model, machine: Machine, organism: Organism, parts: Sequence[None]) -> Cost:
    """Training an organism, on a core: every token forwards and backwards, and evaluations."""
    tokens = organism.steps * organism.batch * SEQUENCE
    seconds = 6 * model.weights * tokens / (TRAINING * machine.analysis)
    seconds += organism.steps * STEP_SECONDS + machine.model_start
    memory = machine.process + BUFFERS + 16 * model.weights  # and gradient, and two moments
    return Cost(len(parts) * seconds, memory, disk=len(parts) * 4 * model.weights)


def readout(model: Model, machine: Machine, *_: object) -> Cost:
    """Final norm and unembedding, taken out of the model's files."""
    size = model.head_weights * model.number_bytes
    seconds = model.head_weights * model.stored / machine.load + size / machine.write
    return Cost(machine.model_start + seconds, memory=machine.process + 3 * size, disk=size)


def extract(work: Work, texts: Sequence[Text]) -> Cost:
    """The forwards of the questions of some languages; states and scores to the disk."""
    model, machine, items = work.model, work.machine, work.study.extraction.precision_items
    rows = work.study.extraction.rows
    disk = sum(activation_bytes(work, text, rows) for text in texts)
    forward = work.seconds([(text, model.layers, text.states) for text in texts])
    loading, dtypes = load_seconds(model, machine), [model.dtype]
    seconds = loading + forward + disk * WRITING / machine.write
    if rows == "none":
        seconds += work.lens_seconds(texts)
    if items and model.dtype != "float32":
        # The model a second time, in float32, and some questions per language in both types.
        dtypes.append("float32")
        slower = 1 + machine.products[model.dtype] / machine.products["float32"]
        seconds += loading - machine.model_start + forward * slower * min(1, items / work.items)
    memory, on_gpus = model_memory(work, dtypes)
    return Cost(seconds, memory, on_gpus, disk, seconds * model.gpus)


def lens(work: Work, texts: Sequence[Text]) -> Cost:
    """Every stored state at every layer of the lens against the whole vocabulary.

    Where extraction has done that (`extraction.rows: none`), its numbers are put together.
    """
    model, machine, layers = work.model, work.machine, len(work.lens_layers)
    # Two numbers for each phrase and layer.
    disk = sum(COMPRESSED * layers * text.phrases * 8 + 38_000 for text in texts)
    if work.study.extraction.rows == "none":
        return Cost(machine.model_start + 0.1 * len(texts), machine.process + 1e9, disk=disk)
    state, weight = model.width * model.number_bytes, model.head_weights * model.number_bytes
    read = weight + sum(text.stored_states for text in texts) * layers * state
    seconds = machine.model_start + read / machine.load + work.lens_seconds(texts)
    # A layer as it was stored, as float32, and after the norm; one language at a time.
    layer = max(text.stored_states for text in texts) * (2 * state + 4 * model.width)
    working, gpus = weight + layer + LOGITS, min(1, model.gpus)
    return Cost(seconds, machine.process + working, working * gpus, disk, seconds * gpus)


def steer(work: Work, texts: Sequence[Text]) -> Cost:
    """The grid, the controls at the selected setting, and the pivot's questions.

    Per question the blocks under a steered layer run once, those above it once per condition; the
    plain path runs all of them per condition. The selected layer is not known before: the middle of
    the grid's stands for it, and a language's questions for those of the pivot.

    Args:
        texts: of steered languages, with their choices only.
    """
    model, machine, how, layers = work.model, work.machine, work.steering, work.steered_layers
    selected_on = tested_on = 1.0  # shares of the items
    if (split := work.study.statistics.split) is not None:
        whole = split.fit + split.select + split.test
        selected_on, tested_on = 1 - split.fit / whole, split.test / whole
    n = model.layers
    above = [n if model.plain else n - layer for layer in layers]  # blocks that a condition runs
    settings = len(how.methods) * len(how.strengths)
    controls = len(how.controls) - 1 + how.random_draws  # beside the selected setting
    if how.controls_search:  # each with a grid of its own
        with_search = controls - len(set(UNSEARCHED) & set(how.controls))
        settings, controls = settings + with_search * len(how.strengths), controls - with_search
    grid = selected_on * (n + settings * sum(above))
    # The pivot steered, and unsteered once more beside the control that changes nothing.
    tested, chosen = tested_on * (2 + controls), sum(above) / len(above)
    heads = selected_on * (1 + settings * len(layers)) + tested
    runs = [(text, grid + tested * chosen, heads * text.states) for text in texts]
    runs += [(texts[0], selected_on * n, selected_on * texts[0].states)]  # the pivot unsteered
    seconds = load_seconds(model, machine) + work.seconds(runs, machine.steering)
    memory, on_gpus = model_memory(work, [model.dtype])
    tokens = selected_on * max(text.tokens for text in texts)
    memory += 2 * min(UNSTEERED, tokens * len(layers) * model.width * model.number_bytes)
    # Unsteered, the grid, the selected setting, its controls, and the pivot's two.
    conditions = 1 + settings * len(layers) + len(how.methods) + controls + 2
    disk = len(texts) * (COMPRESSED * conditions * work.items * work.choices * 4 + 70_000)
    return Cost(seconds, memory, on_gpus, disk, seconds * model.gpus)


def load_seconds(model: Model, machine: Machine) -> float:
    """Run time to a loaded model: imports, tokenizer, weights."""
    return machine.model_start + model.weights * model.stored / machine.load


def model_memory(work: Work, dtypes: Sequence[str]) -> tuple[float, float]:
    """Peak of the host's memory and of the GPUs', while a batch runs [byte].

    Args:
        dtypes: types in which the weights are held. Where their file has none of these it is
            mapped beside them while they are loaded.
    """
    model, sizes = work.model, [BYTES[dtype] for dtype in dtypes]
    weights, program = model.weights * sum(sizes), work.machine.process + BUFFERS
    states = 6 * model.width + 3 * model.intermediate
    batch = work.study.extraction.batch_tokens * states * max(sizes) + LOGITS
    if model.gpus:  # weights pass through the host's memory some at a time
        return program + min(weights, 5e9) + 1e9, weights + batch
    mapped = 0 if model.stored in sizes else model.weights * model.stored
    return program + weights + mapped + batch, 0.0


def activation_bytes(work: Work, text: Text, rows: str) -> float:
    """Size of an activation file, in whole chunks.

    Two pooled states in float32 per item and layer; a state per lens layer of those that predict,
    or without rows a number per scored token (as many as states and phrases); of each scored token
    six integers and its log-probability.

    Args:
        rows: "keep" or "none".
    """
    model, layers = work.model, len(work.lens_layers)
    size: float = 2 * in_chunks(work.items, 64) * (model.layers + 1) * model.width * 4
    if layers and text.stored_states:
        tokens = text.stored_states + text.phrases
        of_layer = in_chunks(text.stored_states, 1024) * model.width * model.number_bytes
        size += layers * (of_layer if rows == "keep" else 4 * tokens)
        size += tokens * (6 * 8 + 4)
    return size + work.items * (80 + work.choices * (8 * len(LATENTS) + 9)) + 25_000


def in_chunks(n: float, chunk: int) -> float:
    """Entries for n of them: whole chunks, none larger than there are entries."""
    return n if n <= chunk else math.ceil(n / chunk) * chunk


# -- stages on states, on processors ---------------------------------------------------------------


def vectors(work: Work, *_: object) -> Cost:
    """Means, language subspaces and random directions per fold and layer."""
    machine, how, width = work.machine, work.steering, work.model.width
    languages, layers = len(work.languages), len(work.steered_layers)
    folds = 1 + (2 if work.study.statistics.split else work.study.statistics.folds)
    states = languages * work.items * width
    per_fold = 2 * languages * (2 + how.random_draws) * width
    maps = 2 * states if "linear_map" in how.methods else 0
    size = 4 * layers * (folds * per_fold + maps)
    seconds = machine.analysis_start + 16 * layers * states / machine.load
    return Cost(seconds, machine.process + size + 16 * states, disk=COMPRESSED * size + 40_000)


def analysis(
    machine: Machine, starts: float, flops: float = 0, memory: float = 0, disk: float = 3e5
) -> Cost:
    """A stage that takes some times as long as a program that does nothing, and some operations."""
    seconds = starts * machine.analysis_start + flops / machine.analysis
    return Cost(seconds, machine.process + memory, disk=disk)


def analyses(work: Work) -> dict[str, Cost]:
    """Stages on states that grow with the study, by name: the others take seconds.

    Operations are of NumPy's usual mix of types; looking numbers up, moving and
    adding them counts as so many operations as take its time.
    """
    study, width, layers = work.study, work.model.width, work.model.layers + 1
    items, n, cost = work.items, len(work.languages), partial(analysis, work.machine)
    states, asked = n * items, n * work.wordings  # of a layer; languages in each wording
    how, sub, pivots = study.similarity, study.subspaces, study.pivots
    folds = study.statistics.folds
    # Sums over paired items and their shuffles, shuffled Gram matrices, products for retrieval.
    shuffles = how.permutations + how.map_permutations
    paired = n * (how.map_permutations + 10) + 100 * how.map_permutations + 15 * how.permutations
    grams = how.map_permutations * items * (n / 2 + 100)
    retrieved = len(layers_with_retrieval(layers, n, how.retrieval_layers))
    similar = layers * states * (width * paired + grams) + retrieved * states**2 * (width + 350)
    # Eigenvectors of all states and of each language's, and nulls, at some layers.
    side, shared, at = min(states, width), MAX_COMMON, min(sub.layers, layers)
    spaces = 50 * folds * (side**3 if side < ITERATED_FROM else 40 * side**2)
    spaces += 40 * n * items**2 * (2 * width + 25 * items)
    null = items**2 * (n * shared + 2 * items) + states * shared * (4 * shared + 2 * n)
    spaces += folds * sub.permutations * null
    permuted = (24 * sub.permutations + 1000) * states + 8 * (folds + 4) * side**2
    # Gram matrices of each language and wording; item shares with each cluster left out.
    worded = asked * items * (width * (items + 2 * asked) + 350 * items)
    # Item shares of each language with a pivot, in half of the layers; those of two pivots once.
    share, around = 2000 * layers * states * width, n / 2 if pivots == "all" else len(pivots)
    pairs = PAIR_ITEM_BYTES * min(PAIR_ITEMS_AT_ONCE, n * states)
    similarity = min(40 * states * (width + items), how.memory_gb * 1e9)
    similarity += 1e6 * similarity_mb(n, items, shuffles)
    subspaces = min(60 * states * width, sub.memory_gb * 1e9) + permuted
    variants = 1e6 * wordings_mb(n, items, work.wordings) + 30 * asked * items * width
    axes = COMPRESSED * 4 * n * (layers * width + at * 200 * n)
    return {  # starts, operations, memory, disk
        "behaviour": cost(2, 0, pairs, 240_000 + 2000 * n**2),
        "breakdown": cost(2.5, 2 * share, 8 * states * width, 400_000),
        "pivots": cost(2.5, around * share, 8 * states * width, 400_000 + 400 * around * n),
        "similarity": cost(1, similar / FLOAT32, similarity, 300_000 + 72 * layers * n**2),
        "subspaces": cost(1, at * spaces, subspaces, 200_000 + axes),
        "variants": cost(2, 2 * layers * worded / FLOAT32, variants, 200_000 + 200 * layers * n**2),
    }
