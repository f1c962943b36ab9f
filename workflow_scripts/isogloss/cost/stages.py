"""What each stage of a study costs, one function per stage: time, operations, memory, disk.

Work follows from the model's architecture (`architecture`) and from its text (`tokens`); time is
that work over the machine's rates (`machines`). Constants are measured unless they say otherwise.
Nothing is run here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

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

# Structure, attributes and small variables of a file [byte].
FILE_BYTES = {"activations": 25_000, "lens": 38_000, "vectors": 40_000, "steered": 70_000}
COMPRESSED = 0.93  # what compression leaves of float32
DIFFERENT = 0.25  # different states of the embedding, of all its states that predict: 0.1 to 0.4
BUFFERS = 300e6  # memory beside weights and batches, of a program with a model [byte]
LOGITS = 512 * 4096 * 4 * 4  # a block of logits: states, vocabulary, its copies in float32 [byte]
UNSTEERED = 1e9  # unsteered states that steering keeps, of the pivot and of a language, at most
WRITING = 2.6  # time of writing an activation file, by that of its bytes: shards, copies, digests
# Training: tokens of a sequence; share of NumPy's rate and a step's time beyond its products [s],
# measured at widths 16 to 176 on a core.
SEQUENCE, TRAINING, STEP_SECONDS = 5, 0.7, 0.012
# Operations in whose time `similarity` looks an entry of an (item, item) matrix up, moves one to
# its shuffled place, moves a state's feature there, and adds one to a sum over languages.
LOOKED_UP, MOVED, GATHERED, ADDED = 700, 200, 100, 60


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
    with_rows: bool = True  # whether states are kept for the lens: not of further wordings

    def seconds(self, texts: Sequence[tuple[Text, float, float]], share: float = 1) -> float:
        """Run time of texts, each through some blocks, with some of its states through the head.

        Args:
            share: of the machine's rates that is reached.
        """
        model, machine = self.model, self.machine
        batch, packed = self.study.extraction.batch_tokens, not model.plain
        seconds = 0.0
        for text, blocks, states in texts:
            together = math.ceil(text.tokens / batch) if packed or model.padded else text.sequences
            seconds += together * blocks * machine.block_call
            seconds += model.block_flops(text, blocks) / machine.blocks[model.dtype] / share
            seconds += model.head_flops(states) / machine.head[model.dtype] / share
        return seconds

    @property
    def lens_layers(self) -> list[int]:
        if not self.with_rows:
            return []
        return lens_layers(self.model.layers, self.study.extraction.lens_layers)

    @property
    def steering(self) -> Steering:
        assert self.study.steering is not None
        return self.study.steering

    @property
    def steered_layers(self) -> list[int]:
        return sorted({round(depth * self.model.layers) for depth in self.steering.layers})


# -- stages that run a model, or a part of one -----------------------------------------------------


def readout(model: Model, machine: Machine, *_: object) -> Cost:
    """Final norm and unembedding, taken out of the model's files."""
    size = model.head_weights * model.number_bytes
    seconds = model.head_weights * model.stored / machine.load + size / machine.write
    return Cost(machine.model_start + seconds, memory=machine.process + 3 * size, disk=size)


def extract(work: Work, texts: Sequence[Text]) -> Cost:
    """The forwards of the questions of some languages; states and scores to the disk."""
    model, machine, items = work.model, work.machine, work.study.extraction.precision_items
    runs = [(text, model.layers, text.states) for text in texts]
    disk = sum(activation_bytes(work, text) for text in texts)
    forward, loading = work.seconds(runs), load_seconds(model, machine)
    seconds = loading + forward + disk * WRITING / machine.write
    if work.study.extraction.rows == "none" and work.with_rows:
        seconds += lens_flops(work, texts) / machine.head[model.dtype]
    dtypes = [model.dtype]
    if items and model.dtype != "float32":
        # The model a second time, in float32, and some questions per language in both types.
        dtypes.append("float32")
        slower = 1 + machine.blocks[model.dtype] / machine.blocks["float32"]
        seconds += loading - machine.model_start + forward * slower * min(1, items / work.items)
    memory, on_gpus = model_memory(work, dtypes)
    return Cost(seconds, memory, on_gpus, disk, seconds * model.gpus)


def lens(work: Work, texts: Sequence[Text]) -> Cost:
    """Every stored state at every layer of the lens against the whole vocabulary.

    Where extraction has done that (`extraction.rows: none`), its numbers are put together.
    """
    model, machine, layers = work.model, work.machine, work.lens_layers
    states, state = sum(t.stored_states for t in texts), model.width * model.number_bytes
    if work.study.extraction.rows == "none":
        disk = sum(COMPRESSED * len(layers) * t.phrases * 8 + FILE_BYTES["lens"] for t in texts)
        return Cost(machine.model_start + 0.1 * len(texts), machine.process + 1e9, disk=disk)
    flops = lens_flops(work, texts)
    weight = model.head_weights * model.number_bytes
    seconds = machine.model_start + (weight + states * len(layers) * state) / machine.load
    seconds += flops / machine.head[model.dtype]
    # A layer as it was stored, as float32, and after the norm; one language at a time.
    layer = max(t.stored_states for t in texts) * (2 * state + 4 * model.width)
    working, gpus = weight + layer + LOGITS, min(1, model.gpus)
    # Two numbers for each phrase and layer.
    disk = sum(COMPRESSED * len(layers) * t.phrases * 8 + FILE_BYTES["lens"] for t in texts)
    return Cost(seconds, machine.process + working, working * gpus, disk, seconds * gpus)


def lens_flops(work: Work, texts: Sequence[Text]) -> float:
    """Operations of the lens: at the embedding only different states count; at the last layer the
    scores are there already."""
    parts = {0: DIFFERENT, work.model.layers: 0.0}
    states = sum(text.stored_states for text in texts)
    return work.model.head_flops(sum(parts.get(n, 1.0) for n in work.lens_layers) * states)


def steer(work: Work, pivot: Text, texts: Sequence[Text]) -> Cost:
    """The grid, the controls at the selected setting, and the pivot's questions.

    Per question the blocks under a steered layer run once, those above it once per condition; the
    plain path runs all of them per condition. The selected layer is not known before: the middle of
    the grid's stands for it.

    Args:
        pivot: the text of the pivot, with its choices only.
        texts: of steered languages, likewise.
    """
    model, machine, how, layers = work.model, work.machine, work.steering, work.steered_layers
    selected_on = tested_on = 1.0  # shares of the items
    if (split := work.study.statistics.split) is not None:
        tested_on = split.test / (split.fit + split.select + split.test)
        selected_on = 1 - split.fit / (split.fit + split.select + split.test)
    n = model.layers
    above = [n if model.plain else n - layer for layer in layers]  # blocks that a condition runs
    settings = len(how.methods) * len(how.strengths)
    controls = len(how.controls) - 1 + how.random_draws  # beside the selected setting
    if how.controls_search:  # each with a grid of its own
        with_search = controls - len(set(UNSEARCHED) & set(how.controls))
        settings, controls = settings + with_search * len(how.strengths), controls - with_search
    grid = selected_on * (n + settings * sum(above))
    # And unsteered once more, beside the control that changes nothing.
    tested, chosen = tested_on * (1 + controls), sum(above) / len(above)
    heads = selected_on * (1 + settings * len(layers)) + tested
    runs = [(text, grid + tested * chosen, heads * text.states) for text in texts]
    runs += [(pivot, tested_on * chosen, tested_on * pivot.states) for _ in texts]
    runs += [(pivot, selected_on * n, selected_on * pivot.states)]  # unsteered, once
    seconds = load_seconds(model, machine) + work.seconds(runs, machine.steering)
    memory, on_gpus = model_memory(work, [model.dtype])
    tokens = selected_on * max(text.tokens for text in (*texts, pivot))
    memory += 2 * min(UNSTEERED, tokens * len(layers) * model.width * model.number_bytes)
    # Unsteered, the grid, the selected setting, its controls, and the pivot's two.
    conditions = 1 + settings * len(layers) + len(how.methods) + controls + 2
    scores = conditions * work.items * work.choices * 4
    disk = len(texts) * (COMPRESSED * scores + FILE_BYTES["steered"])
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


def activation_bytes(work: Work, text: Text) -> float:
    """Size of an activation file.

    2 x items x (layers + 1) x width x 4 for the two pooled states, whole chunks of 64 items;
    states x lens layers x width x 2 (4 in float32), whole chunks of 1024 states, and for each
    scored token, as many as states and phrases, six integers and its log-probability. Without rows
    a number per scored token and lens layer takes the place of the states.
    """

    def stored(n: float, chunk: int) -> float:
        """Entries for n of them: whole chunks, none larger than there are entries."""
        size = max(1, min(chunk, math.ceil(n)))
        return math.ceil(n / size) * size

    model, kept = work.model, len(work.lens_layers)
    size: float = 2 * stored(work.items, 64) * (model.layers + 1) * model.width * 4
    if kept and text.stored_states:
        tokens = text.stored_states + text.phrases
        if work.study.extraction.rows == "keep":
            size += stored(text.stored_states, 1024) * kept * model.width * model.number_bytes
        else:
            size += tokens * kept * 4
        size += tokens * (6 * 8 + 4)
    size += work.items * (80 + len(LATENTS) * work.choices * 8 + work.choices * 9)
    return size + FILE_BYTES["activations"]


# -- stages on states, on processors ---------------------------------------------------------------


def vectors(work: Work, *_: object) -> Cost:
    """Means, language subspaces and random directions per fold and layer."""
    machine, width, layers = work.machine, work.model.width, len(work.steered_layers)
    folds = 1 + (2 if work.study.statistics.split else work.study.statistics.folds)
    languages, draws = len(work.languages), work.steering.random_draws
    states, per_fold = languages * work.items * width, 2 * languages * (2 + draws) * width
    maps = 2 * states if "linear_map" in work.steering.methods else 0
    size = 4 * layers * (folds * per_fold + maps)
    cost = small(machine, 1, COMPRESSED * size + FILE_BYTES["vectors"])
    seconds = 16 * layers * states / machine.load  # reading
    return cost + Cost(seconds, memory=machine.process + size + 16 * states)


def similarity(work: Work) -> Cost:
    """Sums over paired items, Gram matrices of languages, products of states for retrieval."""
    machine, width, layers = work.machine, work.model.width, work.model.layers + 1
    languages, how, n = len(work.languages), work.study.similarity, work.items
    pairs, states = languages**2 / 2, languages * n * width
    paired = 2 * pairs * n * width * (how.map_permutations + 10)
    paired += GATHERED * how.map_permutations * states
    shuffled_grams = how.map_permutations * n**2 * (pairs + MOVED * languages / 2)
    middle = ADDED * how.permutations * states / 2  # half of the layers
    looked_up = pairs * n**2 * (2 * width + LOOKED_UP)
    with_retrieval = len(layers_with_retrieval(layers, languages, how.retrieval_layers))
    flops = layers * (paired + 4 * states * n + shuffled_grams + middle)
    flops += with_retrieval * looked_up
    # Nearly all in float32, twice as fast as what else there is.
    seconds = machine.analysis_start + flops / (1.6 * machine.analysis)
    shuffles = how.permutations + how.map_permutations
    needed = 40 * states + 40 * languages * n**2
    memory = machine.process + min(needed, how.memory_gb * 1e9)
    memory += 1e6 * similarity_mb(languages, n, shuffles)
    disk = 72 * layers * languages**2 + 300_000
    return Cost(seconds, memory, disk=disk)


def subspaces(work: Work) -> Cost:
    """Variance shares at all layers; axes, shared directions and separability at some.

    Time goes into the scatter of all states, the eigenvectors of each language's and the nulls.
    """
    study, machine, width, items = work.study, work.machine, work.model.width, work.items
    languages, everywhere = len(work.languages), work.model.layers + 1
    how, folds = study.subspaces, study.statistics.folds
    states, layers = languages * items, min(how.layers, everywhere)
    side, k = min(states, width), MAX_COMMON
    scatter = 2 * states * width * (width if states > width else 2 * folds * states)
    eigenvectors = 2 * folds * 25 * (side**3 if side < ITERATED_FROM else 40 * side**2)
    axes = 40 * languages * (2 * items**2 * width + 25 * items**3)
    null = items**2 * (languages * k + 2 * items) + states * k * (4 * k + 2 * languages)
    flops = layers * (scatter + eigenvectors + axes + folds * how.permutations * null)
    flops += everywhere * how.permutations * 2 * states * width
    seconds = machine.analysis_start + flops / machine.analysis
    memory = machine.process + min(60 * width * states, how.memory_gb * 1e9)
    # Of a state: its places in the permutations of two nulls, what it is along the axes.
    memory += (24 * how.permutations + 1000) * states
    memory += 8 * (folds + 4) * width**2 if states > width else 16 * states**2
    size = everywhere * width * languages * 4 + layers * 200 * languages**2 * 4
    return Cost(seconds, memory, disk=COMPRESSED * size + 200_000)


def behaviour(work: Work) -> Cost:
    """Measures for each pair of languages, each cluster of questions left out in turn."""
    pairs = len(work.languages) ** 2
    at_once = min(PAIR_ITEMS_AT_ONCE, pairs * work.items)
    memory = work.machine.process + PAIR_ITEM_BYTES * at_once
    return small(work.machine, 2, 240_000 + 2000 * pairs) + Cost(memory=memory)


def variants(work: Work, n_wordings: int) -> Cost:
    """States of every language and wording against each other, each cluster left out in turn."""
    machine, width, languages = work.machine, work.model.width, n_wordings * len(work.languages)
    layers, states = work.model.layers + 1, languages * work.items
    # Gram matrices of each language and wording; item shares with each cluster left out.
    flops = 2.0 * layers * width * work.items * (states + 2 * languages**2)
    flops += layers * LOOKED_UP * languages * work.items**2
    memory = 1e6 * wordings_mb(len(work.languages), work.items, n_wordings)
    memory += machine.process + 30 * states * width
    cost = small(machine, 2, 200_000 + 200 * layers * len(work.languages) ** 2)
    return cost + Cost(flops / (1.6 * machine.analysis), memory)


def train(model: Model, machine: Machine, organism: Organism, parts: Sequence[None]) -> Cost:
    """Training an organism, on a core: every token forwards and backwards, and evaluations."""
    tokens = organism.steps * organism.batch * SEQUENCE
    seconds = 6 * model.weights * tokens / (TRAINING * machine.analysis)
    seconds += organism.steps * STEP_SECONDS + machine.model_start
    memory = machine.process + BUFFERS + 16 * model.weights  # and gradient, and two moments
    return Cost(len(parts) * seconds, memory, disk=len(parts) * 4 * model.weights)


def small(machine: Machine, starts: float, disk: float) -> Cost:
    """A stage that takes some times as long as a program that does nothing, whatever the study."""
    return Cost(starts * machine.analysis_start, memory=machine.process, disk=disk)
