"""What the stages of a study cost: floating-point operations, bytes and memory, then seconds.

The work follows from the model's architecture and from the rows that it runs (`workload`); what a
machine makes of it from a few measured rates and shares (`machines`). Nothing is run here.

FLOPs are those of matrix products, two for each multiplication with its addition; norms, rotary
embeddings and activation functions are in the shares.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from isogloss.cost.machines import Machine
from isogloss.cost.requests import draws_mb, pairs_mb
from isogloss.cost.workload import Forwards, Rows, in_place_of_trees, together
from isogloss.extraction.self_tests import CHECKED, CHECKED_TOKENS, PRECISION_TOKENS
from isogloss.model.packing import batches, packed_rows
from isogloss.questions.prompts import LATENTS

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

# Different states of the embedding, of all its states that predict: 0.1 to 0.4, measured.
DIFFERENT = 0.25
# Memory of a program that runs a model, beyond weights and batches, measured: the tokenizer, the
# libraries' own, what allocators keep.
BUFFERS = 300e6
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
        by_segments: whether it attends by segments (`attention.py`), as on a CPU.
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
    by_segments: bool = False

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

    def block_flops(self, run: Forwards, blocks: float) -> float:
        """Of some blocks: products with the weights, and the attention's two, whose mask is full.

        Args:
            run: forwards through each of them.
            blocks: how many.
        """
        return blocks * 2 * self.block_weights * run.tokens + self.attention_flops(run, blocks)

    def attention_flops(self, run: Forwards, blocks: float) -> float:
        """The attention's part of it."""
        return blocks * 4 * self.heads * self.head_dim * run.squares

    def mlp_flops(self, tokens: float) -> float:
        """Of one block's gated feed-forward part."""
        return 2.0 * 3 * self.width * self.intermediate * tokens

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
        at_full_rate: of products, by the share of the rates that they reach [s]: so much of the
            run time, divided by the share.
    """

    seconds: float = 0.0
    flops: float = 0.0
    memory: float = 0.0
    device_memory: float = 0.0
    disk: float = 0.0
    scratch: float = 0.0
    gpu_seconds: float = 0.0
    at_full_rate: Mapping[str, float] = field(default_factory=dict)

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.seconds + other.seconds,
            self.flops + other.flops,
            max(self.memory, other.memory),
            max(self.device_memory, other.device_memory),
            self.disk + other.disk,
            max(self.scratch, other.scratch),
            self.gpu_seconds + other.gpu_seconds,
            {
                name: self.at_full_rate.get(name, 0.0) + other.at_full_rate.get(name, 0.0)
                for name in {**self.at_full_rate, **other.at_full_rate}
            },
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

    @property
    def converted(self) -> bool:
        """Whether its weights are stored in another type."""
        return self.stored != BYTES[self.dtype]


@dataclass(frozen=True)
class Work:
    """What forwards come to.

    Attributes:
        blocks: floating-point operations of blocks.
        attention: those of them that are the attention's.
        calls: of blocks.
        head: floating-point operations of the product with the unembedding.
    """

    blocks: float = 0.0
    attention: float = 0.0
    calls: float = 0.0
    head: float = 0.0

    @classmethod
    def of(cls, one: Architecture, run: Forwards, blocks: float) -> "Work":
        """Forwards through some blocks."""
        parts = one.block_flops(run, blocks), one.attention_flops(run, blocks)
        return cls(*parts, calls=run.calls * blocks)

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.blocks + other.blocks,
            self.attention + other.attention,
            self.calls + other.calls,
            self.head + other.head,
        )

    def cost(self, model: Model, machine: Machine, stages: tuple[str, str]) -> Cost:
        """Its operations and its time: every call of a block reads its weights, at least.

        Args:
            stages: whose shares of the rates blocks and head reach.
        """
        rate, products = machine.blocks[model.dtype], self.blocks - self.attention
        ideal = {stages[0]: products / rate, "attention": self.attention / rate}
        ideal[stages[1]] = self.head / machine.lens[model.dtype]
        read = self.calls * model.architecture.block_weights * BYTES[model.dtype] / machine.memory
        if read > ideal[stages[0]] / machine.share[stages[0]]:
            del ideal[stages[0]]
        else:
            read = 0.0
        found = in_shares(machine, ideal, self.blocks + self.head)
        return found + Cost(read + self.calls * machine.block_call)


def in_shares(machine: Machine, ideal: Mapping[str, float], flops: float) -> Cost:
    """What takes some time at the full rate and longer at a share of it."""
    seconds = sum(time / machine.share[name] for name, time in ideal.items())
    return Cost(seconds, flops, at_full_rate=ideal)


EXTRACTED, STEERED = ("blocks", "head"), ("steer", "steer_head")
"""Shares of `Work.cost`."""


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


def start(model: Model, machine: Machine) -> Cost:
    """A job's way to a loaded model: imports, weights, tokenizer."""
    one = model.architecture
    seconds = machine.imports + one.weights * model.stored / machine.load
    seconds += machine.tokenizer * one.vocabulary
    return Cost(seconds, memory=machine.process + BUFFERS + _on_host(model))


def _on_host(model: Model) -> float:
    """Weights in the host's memory: all on a CPU, a part at a time on the way to a GPU.

    Where they are stored in another type their file is mapped beside them while they are loaded.
    """
    if model.gpus:
        return min(model.bytes, 5e9)
    return model.bytes + model.architecture.weights * model.stored * model.converted


def whole(one: Architecture, run: Forwards, states: float) -> Work:
    """Forwards through all blocks, and some states through the head."""
    return Work.of(one, run, one.layers) + Work(head=one.head_flops(states))


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
    one, languages = model.architecture, {}
    for tag, own in rows.items():
        size = activation_bytes(model, own, lens_layers, n_choices)
        work = whole(
            model.architecture, own.forwards(budget, model.architecture.by_segments), own.states
        )
        run = work.cost(model, machine, EXTRACTED)
        run += in_shares(machine, {"write": size / machine.write}, 0)
        languages[tag] = run + Cost(disk=size, scratch=size)
    longest = max(int(own.length.max()) for own in rows.values())
    tests = self_tests(one, next(iter(rows.values())))
    fixed = start(model, machine) + tests.cost(model, machine, EXTRACTED)
    if precision_items and model.dtype != "float32":
        fixed += _precision(model, machine, list(rows.values()), precision_items)
    return Job(_with_batch(fixed, model, max(budget, longest)), languages)


def _with_batch(fixed: Cost, model: Model, tokens: int) -> Cost:
    """A job's fixed cost with the memory of one batch."""
    batch = _batch(model, tokens)
    if not model.gpus:
        return fixed + Cost(memory=fixed.memory + batch)
    return fixed + Cost(memory=fixed.memory + 1e9, device_memory=model.bytes + batch)


def _batch(model: Model, tokens: int) -> float:
    """Memory of one batch in a block, and of a block of logits."""
    one = model.architecture
    return tokens * (6 * one.width + 3 * one.intermediate) * BYTES[model.dtype] + LOGITS


def self_tests(one: Architecture, rows: Rows) -> Work:
    """`extraction_checks`: some questions packed, then phrase by phrase; and a prompt."""
    scored = np.flatnonzero(rows.phrases)
    held = rows.at(scored[:CHECKED] if len(scored) else slice(0, CHECKED))
    trees = in_place_of_trees(held.length)
    run = forwards(one, trees, CHECKED_TOKENS)
    states = held.states + held.targets.sum() * bool(len(scored))
    if len(scored):
        for n_rows, length in zip(held.phrases, held.prompt + held.longest, strict=True):
            run += Forwards.batch(n_rows, length)
    prompt = int(rows.prompt[0])
    run += Forwards.batch(1, prompt)
    return whole(one, run, states + 2 * prompt)


def _precision(model: Model, machine: Machine, rows: Sequence[Rows], items: int) -> Cost:
    """The model a second time, in float32, and some questions of each language in both types."""
    one, exact = model.architecture, replace(model, dtype="float32")
    work = compared(one, rows, items)
    total = Cost(exact.converted * one.weights * model.stored / machine.load)
    for kind in (model, exact):
        total += work.cost(kind, machine, EXTRACTED)
    held = machine.process + BUFFERS + min(model.bytes, _on_host(model)) + _on_host(exact)
    batch = _batch(exact, PRECISION_TOKENS)
    if model.gpus:
        return total + Cost(memory=held, device_memory=model.bytes + exact.bytes + batch)
    return total + Cost(memory=held + batch)


def compared(one: Architecture, rows: Sequence[Rows], items: int) -> Work:
    """The first questions of each language, batched together."""
    few = together([own.at(np.flatnonzero(own.main & (own.phrases > 0))[:items]) for own in rows])
    trees = in_place_of_trees(few.length)
    return whole(one, forwards(one, trees, PRECISION_TOKENS), few.states)


def forwards(one: Architecture, trees: Sequence[Any], budget: int) -> Forwards:
    """Those of some questions that are batched together."""
    rows = packed_rows(trees, range(len(trees)), budget, one.by_segments)
    return Forwards.of(trees, rows, one.by_segments)


def lens(
    model: Model,
    machine: Machine,
    rows: dict[str, Rows],
    layers: Sequence[int],
) -> Job:
    """Every kept state at every kept layer against the whole vocabulary.

    At the embedding only different states count; at the last layer the scores are there already.

    Args:
        layers: those whose rows are kept.
    """
    one = model.architecture
    weight = one.vocabulary * one.width * BYTES[model.dtype]
    base = machine.process + weight + LOGITS
    languages = {}
    for tag, own in rows.items():
        computed = sum({0: DIFFERENT, one.layers: 0.0}.get(layer, 1.0) for layer in layers)
        flops = computed * one.head_flops(own.kept_states)
        run = in_shares(machine, {"lens": flops / machine.lens[model.dtype]}, flops)
        stored = len(layers) * own.kept_states * one.width * BYTES[model.dtype]
        # The layer as it was stored, as float32, and after the norm.
        layer = own.kept_states * one.width * (4 + 2 * BYTES[model.dtype])
        languages[tag] = run + Cost(
            stored / machine.read,
            memory=base + layer,
            device_memory=(weight + layer + LOGITS) * bool(model.gpus),
            disk=lens_bytes(own, len(layers)),
        )
    return Job(Cost(machine.imports + weight / machine.load, memory=base), languages)


def readout(model: Model, machine: Machine) -> Cost:
    """Final norm and unembedding, out of the model's ends."""
    one = model.architecture
    weight, size = one.vocabulary * one.width, one.vocabulary * one.width * BYTES[model.dtype]
    seconds = machine.imports + weight * model.stored / machine.load + size / machine.write
    return Cost(seconds, memory=machine.process + 3 * size, disk=size)


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
    from isogloss.steering.sweep import KEPT

    one = model.architecture
    languages, most = {}, 0.0
    for tag, own in rows.items():
        size = max(below_bytes(model, each.share(grid.selected_on), grid) for each in (own, pivot))
        most = max(most, size)
        work = evaluated(one, own, pivot, grid, budget, again=max(0.0, 1 - KEPT / size))
        run = work.cost(model, machine, STEERED)
        languages[tag] = run + Cost(disk=steered_bytes(own, grid, n_choices))
    once = unsteered_pivot(one, pivot, grid, budget).cost(model, machine, STEERED)
    job = _with_batch(start(model, machine) + once, model, budget)
    kept = 2 * min(KEPT, most)  # of the pivot's questions and of one language's
    return Job(job + Cost(memory=job.memory + kept), languages)


def below_bytes(model: Model, rows: Rows, grid: Grid) -> float:
    """Unsteered states at the layers that are steered."""
    states = rows.tokens * len(grid.layers)
    return states * model.architecture.width * BYTES[model.dtype]


def unsteered_pivot(one: Architecture, pivot: Rows, grid: Grid, budget: int) -> Work:
    """The pivot's own questions."""
    return steered(one, pivot.share(grid.selected_on), [max(grid.layers)], budget)


def evaluated(
    one: Architecture, own: Rows, pivot: Rows, grid: Grid, budget: int, again: float = 0.0
) -> Work:
    """One language's conditions: the grid, the controls, the pivot's; and the overhead's timing.

    Args:
        again: share of the questions whose states below are not kept from the grid, or from the
            unsteered pivot, for what comes later.
    """
    from isogloss.steering.sweep import FAN_OUT, TIMED  # not before: it takes SciPy along

    selected = sum(grid.layers) / len(grid.layers)
    settings: list[float] = [max(grid.layers)]  # unsteered
    settings += [layer for layer in grid.layers for _ in range(grid.settings)]
    tested = own.share(grid.tested_on)
    work = steered(one, own.share(grid.selected_on), settings, budget)
    # And unsteered once more, beside the control that changes nothing.
    work += steered(one, tested, [selected] * (1 + grid.controls), budget, again)
    work += steered(one, pivot.share(grid.tested_on), [selected], budget, again)
    trees, _ = own.share(grid.selected_on).all()
    first = batches(trees, range(len(trees)), budget // FAN_OUT)[0]
    timed = Forwards.batch(len(first), len(trees[first[0]]), one.by_segments).times(1 + TIMED)
    return work + whole(one, timed, 0)


def steered(
    one: Architecture, rows: Rows, layers: Sequence[float], budget: int, below: float = 1.0
) -> Work:
    """Some conditions, as `steered.steered_scores` runs them.

    The blocks under the highest layer run once; those above a condition's layer once more for
    it, but the last one's feed-forward part at the states alone that predict.

    Args:
        layers: of each condition.
        below: share of the questions whose states below are computed.
    """
    from isogloss.steering.sweep import FAN_OUT, cases

    trees, each = rows.all()
    work = Work()
    for members in batches(trees, range(len(trees)), budget // FAN_OUT) if layers else ():
        length = len(trees[members[0]])
        batch = Forwards.batch(len(members), length, one.by_segments)
        work += Work.of(one, batch.times(below), max(layers))
        of_row = np.tile(np.array(layers), (len(members), 1))
        for chosen, conditions in cases(of_row, max(1, budget // length)):
            above = one.layers - layers[conditions[0]]
            run = Forwards.batch(len(chosen), length, one.by_segments)
            spared = one.mlp_flops(run.tokens) if above else 0.0
            work += Work.of(one, run, above) + Work(-spared)
    last = sum(layer < one.layers for layer in layers) * rows.states
    work = Work(work.blocks * each, work.attention * each, work.calls * each)
    return work + Work(one.mlp_flops(last), head=one.head_flops(len(layers) * rows.states))


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
    memory = machine.process + 1e6 * pairs_mb(languages, items) + 24 * layers * maps * languages**2
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
    # Of a state: its copies, its places in the permutations of two nulls, and the floor's draws.
    per_state = 60 * one.width + 24 * permutations + 1000
    memory = machine.process + per_state * states + 16 * min(states, one.width) ** 2
    run = in_shares(machine, {"subspaces": work / machine.analysis}, work)
    return run + Cost(machine.analysis_start, memory=memory, disk=0.93 * size + 200_000)


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
    of_pairs = 1e6 * draws_mb(languages, draws, items)
    rows = of_pairs if pairs else 64 * measured * (draws + items)
    memory = machine.process + 8 * draws * items + rows
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
    one, items = model.architecture, rows.kept_items
    size: float = 2 * _whole(items, ITEM_CHUNK) * (one.layers + 1) * one.width * 4
    if lens_layers and rows.kept_states:
        stored = _whole(rows.kept_states, ROW_CHUNK)
        size += stored * lens_layers * one.width * BYTES[model.dtype]
        size += rows.kept_targets * TARGET_BYTES
    size += items * (80 + len(LATENTS) * n_choices * 8 + n_choices * 9)
    return size + FILE_BYTES["activations"]


def lens_bytes(rows: Rows, lens_layers: int) -> float:
    """Size of a lens file: two numbers for each phrase and layer, compressed."""
    return COMPRESSED * lens_layers * rows.kept_phrases * 8 + FILE_BYTES["lens"]


def steered_bytes(rows: Rows, grid: Grid, n_choices: int) -> float:
    """Size of a file of steered scores."""
    return COMPRESSED * grid.conditions * rows.kept_items * n_choices * 4 + FILE_BYTES["steered"]
