"""Choices scored, against lm-evaluation-harness, which keeps no states; ours keeps all layers'."""

from collections.abc import Iterator
from typing import Any

from benchmarks import ours, peers
from benchmarks.material import LONG, SHORT, Setting
from benchmarks.measuring import Job, Run, Worker, alternate, check_equal, ratio, seconds
from benchmarks.table import Row

BATCH_SIZES = (1, 4, 8, 16)
TOLERANCE = 1e-3
BARS = {
    (LONG, "float32"): 8.0,
    (SHORT, "float32"): 1.5,
    (LONG, "bfloat16"): 10.0,
    (SHORT, "bfloat16"): 2.5,
}
N_ITEMS = {LONG: (4, 2), SHORT: (32, 8)}  # default, quick
"""As many as lm-eval's time allows: a long item takes it four seconds in float32."""


def prepare_ours(setting: Setting) -> Job:
    tool = ours.loaded(setting)
    kept: dict[tuple, Any] = {}

    def job(kind: str, language: str, n: int) -> list[float]:
        if (kind, language, n) not in kept:  # read before the first turn, which is not kept
            kept[kind, language, n] = tool.items(kind, language, n)
        return tool.scored(kept[kind, language, n], kind, language)

    return job


def prepare_theirs(setting: Setting) -> Job:
    tool, kept = ours.loaded(setting), {}
    harness = peers.harness(tool)

    def job(kind: str, language: str, n: int, batch_size: int | None) -> list[float]:
        if (kind, language, n) not in kept:
            texts = ours.texts(tool.items(kind, language, n), kind, language)
            kept[kind, language, n] = peers.requests(texts)
        if batch_size is None:  # only made ready
            return []
        return peers.loglikelihoods(harness, kept[kind, language, n], batch_size)

    return job


def compare(setting: Setting, kind: str, dtype: str) -> Iterator[Row]:
    """One kind of questions in two languages."""
    per_type = setting.in_type(dtype)
    with (
        Worker("isogloss", prepare_ours, setting=per_type) as we,
        Worker("lm-eval", prepare_theirs, setting=per_type) as they,
    ):
        for language in setting.languages(kind):
            if language == setting.languages(kind)[0]:
                best = _best_batch(per_type, they, kind, language)
            yield _row(per_type, we, they, kind, language, best)


def _best_batch(setting: Setting, they: Worker, kind: str, language: str) -> int:
    """lm-eval's fastest batch size, tried on one language for both."""
    same = {"kind": kind, "language": language, "n": setting.n(*N_ITEMS[kind])}
    they.run(**same, batch_size=None)
    tried = {size: they.run(**same, batch_size=size).seconds for size in BATCH_SIZES}
    return min(tried, key=lambda size: tried[size])


def _row(setting: Setting, we: Worker, they: Worker, kind: str, language: str, best: int) -> Row:
    n, dtype = setting.n(*N_ITEMS[kind]), setting.source.dtype
    what = f"{setting.name(kind)} {language}, {dtype}: choices scored"
    same = {"kind": kind, "language": language, "n": n}

    def theirs() -> Run:
        return they.run(**same, batch_size=best)

    calls = {"ours": lambda: we.run(**same), "theirs": theirs}
    runs = alternate(calls, setting.repetitions, what)
    tolerance = TOLERANCE if dtype == "float32" else float("inf")
    scores, expected = runs["ours"][-1].value, runs["theirs"][-1].value
    difference = check_equal(scores, expected, tolerance, what)
    speed = ratio(seconds(runs["theirs"]), seconds(runs["ours"]))
    ours_rate, theirs_rate = (_rate(runs[name], n) for name in ("ours", "theirs"))
    return Row(
        what=what,
        against=f"lm-eval, batch {best}",
        ours=f"{ours_rate} items/s",
        theirs=f"{theirs_rate} items/s",
        value=speed.value,
        low=speed.low,
        high=speed.high,
        bar=BARS[kind, dtype],
        note=f"{n} items a turn; largest difference of a score {difference:.1g} nat",
    )


def _rate(runs: list[Run], n: int) -> str:
    times = sorted(seconds(runs))
    return f"{n / times[len(times) // 2]:.3g}"
