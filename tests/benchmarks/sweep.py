"""A steering sweep, against a packed forward anew for each condition, and against lm-eval's."""

import numpy as np
import torch
from benchmarks import ours, peers
from benchmarks.material import LONG, Setting
from benchmarks.measuring import Job, Run, Worker, alternate, check_equal, ratio, seconds
from benchmarks.table import Row

from isogloss.extraction.capture import score
from isogloss.model.forward import run_blocks
from isogloss.model.packing import Tree, batches, collate, lay_out
from isogloss.steering.interventions import constant_shift
from isogloss.steering.sweep import Condition, steer, steered_scores

DEPTHS = (0.2, 0.4, 0.6, 0.8)
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
N_CONDITIONS = len(DEPTHS) * len(STRENGTHS)
ANEW, HARNESS = 1.6, 10.0
TOLERANCE, HARNESS_TOLERANCE = 1e-4, 1e-3
N_ITEMS = (4, 2)
N_SWEPT = (2, 2)
N_HARNESS = (1, 1)
HARNESS_LAYERS = 2
BATCH_SIZES = (1, 4)


def shifts(tool: ours.Loaded) -> dict[int, np.ndarray]:
    """A seeded random vector for each of the four layers, of length 10."""
    rng = np.random.default_rng(0)
    made = {}
    for depth in DEPTHS:
        vector = rng.normal(size=tool.decoder.width)
        layer = round(depth * tool.decoder.n_layers)
        made[layer] = (10 * vector / np.linalg.norm(vector)).astype(np.float32)
    return made


def prepare_ours(setting: Setting, n: int) -> Job:
    """All conditions, shared below the steered layer (`how="sweep"`) or each by itself."""
    tool, language = ours.loaded(setting), setting.languages(LONG)[0]
    items = tool.items(LONG, language, n)
    conditions = [
        Condition(layer, constant_shift(shift), strength)
        for layer, shift in shifts(tool).items()
        for strength in STRENGTHS
    ]

    def job(how: str) -> np.ndarray:
        trees = [lay_out(question) for question in tool.ask(items, LONG, language)]
        if how == "sweep":
            steered = steered_scores(
                tool.decoder,
                tool.decoder.readout,
                trees,
                [conditions] * len(trees),
                budget=ours.BUDGET,
            )
            return steered.log_probability
        return np.stack([anew(tool, trees, condition) for condition in conditions])

    return job


def anew(tool: ours.Loaded, trees: list[Tree], condition: Condition) -> np.ndarray:
    """(question, phrase) log-likelihoods under one condition, by whole packed forwards."""
    decoder = tool.decoder
    scores = np.empty((len(trees), max(int(t.target_phrase.max()) + 1 for t in trees)))
    for members in batches(trees, range(len(trees)), ours.BUDGET):
        batch = collate(trees, members)
        place = torch.arange(batch.tokens.shape[1])
        chosen = (place >= 1) & (place < batch.n_prompt[:, None])
        row = np.repeat(np.arange(len(members)), [len(trees[m].predicting) for m in members])
        column = np.concatenate([trees[m].predicting for m in members])
        final: list[torch.Tensor] = []

        def at(
            layer: int,
            states: torch.Tensor,
            kept: list = final,
            where: torch.Tensor = chosen,
            at: tuple = (row, column),
        ) -> torch.Tensor | None:
            if layer == decoder.n_layers:
                kept.append(states[at])
            return steer(states, condition, where)[0] if layer == condition.layer else None

        run_blocks(decoder, batch, at)
        for member, values in zip(
            members, score(final[0], members, trees, tool.decoder.readout), strict=True
        ):
            scores[member] = np.bincount(trees[member].target_phrase, values)
    return scores


def prepare_harness(setting: Setting, n: int) -> Job:
    """One condition at some layers: what one costs there does not depend on the others."""
    tool, language = ours.loaded(setting), setting.languages(LONG)[0]
    asked = peers.requests(ours.texts(tool.items(LONG, language, n), LONG, language))
    shift_of_layer = dict(list(shifts(tool).items())[:HARNESS_LAYERS])
    steered = peers.Steered(tool, shift_of_layer, setting.scratch)

    def job(batch_size: int, strength: float) -> np.ndarray:
        scores = [
            peers.loglikelihoods(model, asked, batch_size)
            for (_, shift), model in steered.models.items()
            if shift == strength
        ]
        return np.array(scores)

    return job


def against_anew(setting: Setting) -> list[Row]:
    """Our sweep against our own forwards."""
    n, what = setting.n(*N_ITEMS), _name(setting)
    with Worker("isogloss", prepare_ours, setting=setting, n=n) as we:
        calls = {how: lambda how=how: we.run(how=how) for how in ("sweep", "anew")}
        runs = alternate(calls, setting.repetitions, what)
    swept, expected = (runs[how][-1].value for how in ("sweep", "anew"))
    difference = check_equal(swept, expected, TOLERANCE, what)
    speed = ratio(seconds(runs["anew"]), seconds(runs["sweep"]))
    each = {how: n * N_CONDITIONS / float(np.median(seconds(runs[how]))) for how in runs}
    return [
        Row(
            what, "our packed forward anew", f"{each['sweep']:.3g} /s", f"{each['anew']:.3g} /s",
            speed.value, speed.low, speed.high, ANEW,
            note=f"{n} items a turn; items times conditions a second; largest difference "
            f"{difference:.1g} nat",
        )
    ]  # fmt: skip


def _name(setting: Setting) -> str:
    what = f"steering sweep, {len(DEPTHS)} layers x {len(STRENGTHS)} conditions"
    return f"{what}, {setting.name(LONG)} {setting.languages(LONG)[0]}, {setting.source.dtype}"


def against_harness(setting: Setting) -> list[Row]:
    """Our sweep against `hf_steered`."""
    n, few, what = setting.n(*N_SWEPT), setting.n(*N_HARNESS), _name(setting)
    with (
        Worker("isogloss", prepare_ours, setting=setting, n=few) as unsteered,
        Worker("isogloss", prepare_ours, setting=setting, n=n) as we,
        Worker("lm-eval", prepare_harness, setting=setting, n=few) as they,
    ):
        zero = they.run(batch_size=1, strength=0.0).value
        plain = unsteered.run(how="sweep").value[:: len(STRENGTHS)][:HARNESS_LAYERS]
        check_equal(plain.reshape(zero.shape), zero, HARNESS_TOLERANCE, f"{what}: strength 0")
        tried = {b: they.run(batch_size=b, strength=1.0).seconds for b in BATCH_SIZES}
        best = min(tried, key=lambda size: tried[size])

        def theirs() -> Run:
            return they.run(batch_size=best, strength=1.0)

        calls = {"ours": lambda: we.run(how="sweep"), "theirs": theirs}
        runs = alternate(calls, setting.repetitions, f"{what}: lm-eval")
    each = [s / (n * N_CONDITIONS) for s in seconds(runs["ours"])]
    other = [s / (few * HARNESS_LAYERS) for s in seconds(runs["theirs"])]
    speed = ratio(other, each)
    return [
        Row(
            what, f"lm-eval hf_steered, batch {best}", f"{1 / float(np.median(each)):.3g} /s",
            f"{1 / float(np.median(other)):.3g} /s", speed.value, speed.low, speed.high, HARNESS,
            note=f"items times conditions a second; lm-eval's on {few} item and one condition at "
            f"{HARNESS_LAYERS} layers, since its conditions share nothing; it steers every "
            "position, so scores are compared at strength 0",
        )
    ]  # fmt: skip
