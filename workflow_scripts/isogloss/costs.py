"""What the stages of a study cost: floating-point operations, bytes and memory, then seconds.

The work follows from the model's architecture and from the rows that it runs (`workload`); what a
machine makes of it from a few measured rates and shares (`machines`). Nothing is run here.

FLOPs are those of matrix products, two for each multiplication with its addition; norms, rotary
embeddings and activation functions are in the shares.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from isogloss.machines import Machine
from isogloss.prompts import LATENTS
from isogloss.workload import Rows

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}

# Of an activation file: items and rows of a chunk, which is stored whole even where it is not full.
ITEM_CHUNK = 64
ROW_CHUNK = 1024
TARGET_BYTES = 6 * 8 + 4
"""A scored token: six integers and its log-probability."""

# Measured on files of the default study: structure, attributes and small variables [byte], and
# what compression leaves of float32.
FILE_BYTES = {"activations": 25_000, "lens": 38_000, "vectors": 40_000, "steered": 70_000}
COMPRESSED = 0.93

# Of steering.evaluate: forwards that its overhead is timed by.
TIMED_FORWARDS = 6
# Questions and forms of the packing self-test.
TESTED_QUESTIONS = 2
PAIR_BYTES = 42
"""Memory of similarity for every two states of all languages, measured."""
# Block of logits that the lens holds: rows, vocabulary, and its copies in float32.
LOGITS = 512 * 4096 * 4 * 4


@dataclass(frozen=True)
class Architecture:
    """A decoder, as far as its costs go.

    Attributes:
        layers: blocks.
        width: of the residual stream.
        intermediate: width of the gated feed-forward part (three matrices).
        heads, kv_heads, head_dim: of the attention.
        vocabulary: tokens.
        tied: whether the unembedding is the embedding.
        assumed: what of it was not known, '' where all was.
    """

    layers: int
    width: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool = True
    assumed: str = ""

    @property
    def block_weights(self) -> int:
        """Weights of one block's matrices: queries and output, keys and values, three of the MLP.

        >>> Architecture(18, 640, 2048, 4, 1, 256, 262_144).block_weights
        5570560
        """
        own, shared = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return self.width * (2 * own + 2 * shared + 3 * self.intermediate)

    @property
    def weights(self) -> int:
        """All matrices; norms are left out."""
        return self.layers * self.block_weights + self.vocabulary * self.width * (2 - self.tied)

    def block_flops(self, tokens: float, squares: float, blocks: float) -> float:
        """Of some blocks: products with the weights, and the attention's two, whose mask is full.

        Args:
            tokens: padding counted.
            squares: sum over rows of the length squared.
            blocks: how many.
        """
        return blocks * (2 * self.block_weights * tokens + 4 * self.heads * self.head_dim * squares)

    def head_flops(self, states: float) -> float:
        """Of the product with the unembedding, over the whole vocabulary."""
        return 2.0 * states * self.width * self.vocabulary


@dataclass(frozen=True)
class Cost:
    """What one job costs, or several together.

    Attributes:
        seconds: of run time, one job after the other.
        flops: floating-point operations.
        memory: peak of the host's memory, of the largest job [byte].
        device_memory: peak of the accelerators' memory [byte]; 0 where none is used.
        disk: what it leaves [byte].
        scratch: what it needs meanwhile [byte].
        gpu_seconds: seconds times GPUs held.
    """

    seconds: float = 0.0
    flops: float = 0.0
    memory: float = 0.0
    device_memory: float = 0.0
    disk: float = 0.0
    scratch: float = 0.0
    gpu_seconds: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.seconds + other.seconds,
            self.flops + other.flops,
            max(self.memory, other.memory),
            max(self.device_memory, other.device_memory),
            self.disk + other.disk,
            max(self.scratch, other.scratch),
            self.gpu_seconds + other.gpu_seconds,
        )


@dataclass(frozen=True)
class Model:
    """A model as it is loaded.

    Attributes:
        architecture: of it.
        dtype: when computing.
        stored: bytes a weight on the disk.
        gpus: accelerators that one job holds; 0 on a CPU. Blocks are spread over them and run
            one after the other, so that more of them hold more and are no faster.
    """

    architecture: Architecture
    dtype: str
    stored: int
    gpus: int = 0

    @property
    def bytes(self) -> int:
        return self.architecture.weights * BYTES[self.dtype]


@dataclass(frozen=True)
class Job:
    """A stage of one model and dataset.

    Attributes:
        fixed: what it costs before the first language.
        languages: what each language adds, by tag.
    """

    fixed: Cost
    languages: dict[str, Cost] = field(default_factory=dict)

    def of(self, missing: Sequence[str]) -> Cost:
        """The cost of some of its languages; nothing where none is missing."""
        total = self.fixed if missing else Cost()
        for tag in missing:
            total = total + self.languages[tag]
        return total


# -- stages that run a model -----------------------------------------------------------------------


def start(model: Model, machine: Machine, tokenizer: bool = True) -> Cost:
    """A job's way to a loaded model: imports, weights, tokenizer."""
    one = model.architecture
    seconds = machine.imports + one.weights * model.stored / machine.load
    seconds += tokenizer * machine.tokenizer * one.vocabulary
    return Cost(seconds, memory=machine.process + _on_host(model))


def _on_host(model: Model) -> float:
    """Weights in the host's memory: all on a CPU, a part at a time on the way to a GPU."""
    return min(model.bytes, 5e9) if model.gpus else model.bytes


def _forwards(
    model: Model, machine: Machine, rows: Rows, budget: int, dtype: str | None = None
) -> Cost:
    """Blocks over all rows, and the head where states predict."""
    one, kind = model.architecture, dtype or model.dtype
    calls, tokens, squares = rows.forwards(budget)
    blocks, head = one.block_flops(tokens, squares, one.layers), one.head_flops(rows.states)
    seconds = blocks / (machine.blocks[kind] * machine.share["blocks"])
    seconds += head / (machine.lens[kind] * machine.share["head"])
    seconds += calls * one.layers * machine.block_call
    return Cost(seconds, blocks + head)


def extract(
    model: Model,
    machine: Machine,
    rows: dict[str, Rows],
    lens_layers: int,
    *,
    budget: int,
    precision_items: int,
    n_choices: int,
) -> Job:
    """One forward a question, states and scores to the disk.

    Args:
        rows: of each language.
        lens_layers: layers whose rows are kept.
        budget: tokens of a batch.
        precision_items: questions a language that are scored in float32 too.
        n_choices: most choices of an item.
    """
    languages = {}
    for tag, own in rows.items():
        size = activation_bytes(model, own, lens_layers, n_choices)
        run = _forwards(model, machine, own, budget)
        seconds = run.seconds + size / machine.write
        languages[tag] = Cost(seconds, run.flops, disk=size, scratch=size)
    longest = max(int(own.length.max()) for own in rows.values())
    fixed = start(model, machine) + _self_tests(model, machine, next(iter(rows.values())))
    if precision_items and model.dtype != "float32":
        fixed += _precision(model, machine, list(rows.values()), precision_items)
    return Job(_with_batch(fixed, model, machine, max(budget, longest)), languages)


def _with_batch(fixed: Cost, model: Model, machine: Machine, tokens: int) -> Cost:
    """A job's fixed cost with the memory of one batch."""
    one, size = model.architecture, BYTES[model.dtype]
    batch = tokens * (6 * one.width + 3 * one.intermediate) * size + LOGITS
    if not model.gpus:
        return fixed + Cost(memory=fixed.memory + batch)
    held = model.bytes + batch
    return fixed + Cost(memory=fixed.memory + 1e9, device_memory=held)


def _self_tests(model: Model, machine: Machine, rows: Rows) -> Cost:
    """Each phrase of two questions in a forward of its own, which reads all the weights."""
    one = model.architecture
    forwards = TESTED_QUESTIONS * (1 + rows.targets.mean() / 3)
    read = one.weights * BYTES[model.dtype] / machine.memory
    tokens = forwards * float(rows.length.mean())
    compute = one.block_flops(tokens, 0, one.layers) / (
        machine.blocks[model.dtype] * machine.share["blocks"]
    )
    seconds = max(forwards * read, compute) + forwards * one.layers * machine.block_call
    return Cost(seconds, one.block_flops(tokens, 0, one.layers))


def _precision(model: Model, machine: Machine, rows: Sequence[Rows], items: int) -> Cost:
    """The model a second time, in float32, and some questions of each language in both types."""
    one = model.architecture
    total = Cost(one.weights * model.stored / machine.load)
    for own in rows:
        few = _first(own, items)
        total += _forwards(model, machine, few, 2048)
        total += _forwards(model, machine, few, 2048, "float32")
    held = machine.process + _on_host(model) + 4 * one.weights
    if model.gpus:
        return total + Cost(memory=held, device_memory=model.bytes + 4 * one.weights)
    return total + Cost(memory=held)


def _first(rows: Rows, n: int) -> Rows:
    """The first main questions."""
    at = rows.main.nonzero()[0][:n]
    return Rows(
        rows.length[at], rows.prompt[at], rows.predicting[at], rows.targets[at], rows.main[at]
    )


def lens(
    model: Model,
    machine: Machine,
    rows: dict[str, Rows],
    lens_layers: int,
    *,
    n_choices: int,
    phrases: dict[str, int],
) -> Job:
    """Every kept state at every kept layer against the whole vocabulary.

    Args:
        phrases: scored after one question, by language.
    """
    one = model.architecture
    weight = one.vocabulary * one.width * BYTES[model.dtype]
    base = machine.process + weight + LOGITS
    languages = {}
    for tag, own in rows.items():
        flops = lens_layers * one.head_flops(own.kept_states)
        stored = lens_layers * own.kept_states * one.width * BYTES[model.dtype]
        seconds = flops / (machine.lens[model.dtype] * machine.share["lens"])
        seconds += stored / machine.read
        # The layer as it was stored, as float32, and after the norm.
        layer = own.kept_states * one.width * (4 + 2 * BYTES[model.dtype])
        languages[tag] = Cost(
            seconds,
            flops,
            memory=base + layer,
            device_memory=(weight + layer + LOGITS) * bool(model.gpus),
            disk=lens_bytes(own, lens_layers, phrases[tag]),
        )
    return Job(Cost(machine.imports + weight / machine.load, memory=base), languages)


def readout(model: Model, machine: Machine) -> Cost:
    """Final norm and unembedding, out of the whole model."""
    one = model.architecture
    size = one.vocabulary * one.width * BYTES[model.dtype]
    fixed = start(model, machine)
    return fixed + Cost(size / machine.write, disk=size, memory=fixed.memory + size)


@dataclass(frozen=True)
class Grid:
    """What a steered evaluation runs.

    Attributes:
        layers: indices of the layers steered.
        settings: methods times strengths, run at each layer.
        methods: how many.
        controls: run at the selected layer, draws counted.
        folds: in which items are evaluated.
        steered: languages.
        selected_on, tested_on: shares of the items that grid and controls run on.
    """

    layers: tuple[int, ...]
    settings: int
    methods: int
    controls: int
    folds: int
    steered: int = 1
    selected_on: float = 1.0
    tested_on: float = 1.0

    @property
    def conditions(self) -> int:
        """Of a steered file: unsteered, grid, selected, controls, the pivot's two."""
        return 1 + self.settings * len(self.layers) + self.methods + self.controls + 2


def steer(
    model: Model,
    machine: Machine,
    rows: dict[str, Rows],
    pivot: Rows,
    grid: Grid,
    *,
    budget: int,
    n_choices: int,
) -> Job:
    """The grid, the controls at the selected setting, and the pivot's own questions.

    The blocks under a steered layer run once, those above it once a condition; the pivot's
    questions unsteered once a job. The selected layer is not known before: the middle of the
    grid's stands for it.

    Args:
        rows: of each steered language, with its own choices only.
        pivot: the pivot's.
    """
    languages = {}
    on, n = grid.selected_on, model.architecture.layers
    once = _passes(model, machine, pivot, on * n, on, budget)
    for tag, own in rows.items():
        run = _steered(model, machine, own, pivot, grid, budget)
        size = steered_bytes(own, grid, n_choices)
        languages[tag] = run + Cost(disk=size)
    fixed = start(model, machine) + once
    return Job(_with_batch(fixed, model, machine, budget), languages)


def _steered(
    model: Model, machine: Machine, own: Rows, pivot: Rows, grid: Grid, budget: int
) -> Cost:
    """One language's conditions."""
    n, last = model.architecture.layers, max(grid.layers)
    selected = sum(grid.layers) / len(grid.layers)
    # The unsteered rows and the control that adds nothing start at the last layer steered.
    above = sum(n - layer for layer in grid.layers) * grid.settings + 2 * (n - last)
    on, heads = grid.selected_on, 2 + grid.settings * len(grid.layers)
    total = _passes(model, machine, own, on * (last + above), on * heads, budget)
    on, heads = grid.tested_on, grid.controls - 1
    total += _passes(model, machine, own, on * heads * (n - selected), on * heads, budget)
    total += _passes(model, machine, pivot, on * (n - selected), on, budget)
    held = own.scale * len(own.length) / grid.folds * float(own.length.mean())
    timed = min(1.0, budget / held) / grid.folds
    forwards = TIMED_FORWARDS * (1 + grid.methods) * timed
    return total + _passes(model, machine, own, forwards * n, 0, budget)


def _passes(
    model: Model, machine: Machine, rows: Rows, blocks: float, heads: float, budget: int
) -> Cost:
    """All rows through a number of blocks, and their states through the head some times.

    Conditions are rows of a batch: a quarter of the budget is questions.
    """
    one, kind = model.architecture, model.dtype
    calls, tokens, squares = rows.forwards(budget // 4, len(rows.length))
    work, head = one.block_flops(tokens, squares, blocks), heads * one.head_flops(rows.states)
    seconds = work / (machine.blocks[kind] * machine.share["steer"])
    seconds += head / (machine.lens[kind] * machine.share["steer"])
    seconds += calls * blocks / 4 * machine.block_call
    return Cost(seconds, work + head)


# -- stages on states ------------------------------------------------------------------------------


def vectors(
    machine: Machine, one: Architecture, languages: int, items: int, grid: Grid, draws: int,
    linear_map: bool,
) -> Cost:  # fmt: skip
    """Means, language subspaces and random directions, a fold and layer each."""
    folds, layers = 1 + grid.folds, len(grid.layers)
    read = 2 * layers * languages * items * one.width * 4
    work = 2 * folds * layers * languages * items * one.width * (2 + 2 * draws)
    per = languages * (1 + draws) + 1 + languages - 1
    size: float = folds * layers * 2 * per * one.width * 4
    size += linear_map * layers * 2 * languages * items * one.width * 4
    memory = machine.process + size + 16 * languages * items * one.width
    seconds = machine.analysis_start + 2 * read / machine.read + work / machine.analysis
    return Cost(seconds, work, memory, disk=COMPRESSED * size + FILE_BYTES["vectors"])


def similarity(machine: Machine, one: Architecture, languages: int, items: int, maps: int) -> Cost:
    """Gram matrices of all items of all languages, layer by layer, and shuffled pairings.

    Args:
        maps: shuffled pairings behind the maps; those of the score hardly count.
    """
    layers, states = one.layers + 1, languages * items
    products = layers * 3 * 2 * states**2 * one.width
    centred = layers * maps * 2 * (languages * items) ** 2
    shuffled = layers * maps * languages * items**2
    # Products of states are in float32, twice as fast as what else there is.
    seconds = machine.analysis_start + (products / 2 + centred) / machine.analysis
    seconds += layers * states**2 * machine.entry + shuffled * machine.shuffled
    size = layers * languages**2 * 4 * 40
    memory = machine.process + PAIR_BYTES * states**2 + 24 * layers * maps * languages**2
    memory += 40 * states * one.width
    return Cost(seconds, products + centred, memory, disk=0.45 * size + 300_000)


def subspaces(
    machine: Machine, one: Architecture, languages: int, items: int, layers: int,
    permutations: int, folds: int,
) -> Cost:  # fmt: skip
    """Variance shares at all layers; axes, shared directions and separability at some."""
    states = languages * items
    everywhere = (one.layers + 1) * 6 * states * one.width * (1 + languages)
    gram = layers * folds * 2 * (2 * states**2 * one.width + 25 * min(states, one.width) ** 3)
    axes = layers * 40 * languages * (2 * items**2 * one.width + 25 * items**3)
    nulls = layers * folds * permutations * languages * (items / 4) ** 2 * (items + 25 * languages)
    work = everywhere + gram + axes + nulls
    size = (one.layers + 1) * one.width * languages * 4 + layers * 200 * languages**2 * 4
    memory = machine.process + 60 * states * one.width + 16 * min(states, one.width) ** 2
    return Cost(
        machine.analysis_start + work / machine.analysis / machine.share["subspaces"],
        work, memory, disk=0.93 * size + 200_000,
    )  # fmt: skip


def resampled(
    machine: Machine, languages: int, items: int, draws: int, columns: float, pairs: bool,
    starts: float,
) -> Cost:  # fmt: skip
    """Behaviour, trajectories and steering effects: a bootstrap of `columns` a language.

    Args:
        pairs: whether measures are of pairs of languages.
        starts: run time without the bootstrap, in those of a program that does nothing.
    """
    measured = languages**2 if pairs else languages
    work = 2.0 * draws * items * measured * columns
    memory = machine.process + 8 * (draws * items + draws * measured * 8 + items * measured * 8)
    size = 120_000 * starts + 100 * measured * columns
    return Cost(starts * machine.analysis_start + work / machine.analysis, work, memory, disk=size)


# -- bytes -----------------------------------------------------------------------------------------


def _whole(n: float, chunk: int) -> float:
    """Entries that are stored for n of them: whole chunks, none larger than there are entries."""
    held = max(1, min(chunk, math.ceil(n)))
    return math.ceil(n / held) * held


def activation_bytes(model: Model, rows: Rows, lens_layers: int, n_choices: int) -> float:
    """Size of an activation file.

    2 x items x (layers + 1) x width x 4 for the two pooled states, whole chunks of 64 items;
    rows x lens layers x width x 2 (4 in float32), whole chunks of 1024 rows; 52 for each scored
    token, kept with rows only.
    """
    one, items = model.architecture, float(rows.main.sum()) * rows.scale
    size: float = 2 * _whole(items, ITEM_CHUNK) * (one.layers + 1) * one.width * 4
    if lens_layers and rows.kept_states:
        stored = _whole(rows.kept_states, ROW_CHUNK)
        size += stored * lens_layers * one.width * BYTES[model.dtype]
        size += rows.kept_targets * TARGET_BYTES
    size += items * (80 + len(LATENTS) * n_choices * 8 + n_choices * 9)
    return size + FILE_BYTES["activations"]


def lens_bytes(rows: Rows, lens_layers: int, phrases: int) -> float:
    """Size of a lens file: two numbers for each phrase and layer, compressed."""
    items = float(rows.main.sum()) * rows.scale
    return COMPRESSED * lens_layers * items * phrases * 8 + FILE_BYTES["lens"]


def steered_bytes(rows: Rows, grid: Grid, n_choices: int) -> float:
    """Size of a file of steered scores."""
    items = float(rows.main.sum()) * rows.scale
    return COMPRESSED * grid.conditions * items * n_choices * 4 + FILE_BYTES["steered"]
