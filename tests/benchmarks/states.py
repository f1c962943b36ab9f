"""States of prompts to disk, against nnsight and nnterp: time and memory."""

from typing import Any

import numpy as np
from benchmarks import ours, peers
from benchmarks.material import LONG, Setting
from benchmarks.measuring import Job, Run, Worker, alternate, check_equal, ratio, seconds
from benchmarks.table import Row

from isogloss.files.activation_file import open_activations

SPEED, MEMORY = 2.0, 0.5
TOLERANCE = 1e-4
N_ITEMS = (6, 2)
BATCH_SIZES = (1, 4)

PROMPTS, CHOICES = "prompts alone", "prompts with their choices"


def prepare_ours(setting: Setting, n: int, what: str) -> Job:
    tool, language = ours.loaded(setting), setting.languages(LONG)[0]
    items = tool.items(LONG, language, n)

    def job() -> np.ndarray:
        asked = tool.ask(items, LONG, language)
        if what == PROMPTS:
            asked = ours.prompts_alone(asked)
        file = tool.extract(setting.scratch, items, asked, language)
        return open_activations(file).prompt_last[0].values

    return job


OTHERS: dict[str, tuple[str, Any]] = {
    PROMPTS: ("nnterp", peers.nnterp_states),
    CHOICES: ("nnsight", peers.nnsight_states),
}


def compare(setting: Setting, what: str) -> list[Row]:
    """The prompts' ends alone with nnterp, or every choice's states with nnsight."""
    n, (name, prepare) = setting.n(*N_ITEMS), OTHERS[what]
    with (
        Worker("isogloss", prepare_ours, setting=setting, n=n, what=what) as we,
        Worker(name, prepare, setting=setting, n=n, file=setting.scratch / name) as they,
    ):
        return _rows(setting, what, name, we, they)


def _rows(setting: Setting, what: str, name: str, we: Worker, they: Worker) -> list[Row]:
    n = setting.n(*N_ITEMS)
    label = f"states to disk, {setting.name(LONG)} {what}"
    tried = {size: they.run(batch_size=size).seconds for size in BATCH_SIZES}
    best = min(tried, key=lambda size: tried[size])

    def theirs() -> Run:
        return they.run(batch_size=best)

    runs = alternate({"ours": we.run, "theirs": theirs}, setting.repetitions, label)
    ours, expected = runs["ours"][-1].value[1:], np.asarray(runs["theirs"][-1].value)
    scale = np.abs(expected).max(axis=1, keepdims=True)
    check_equal(ours / scale, expected / scale, TOLERANCE, label)
    speed = ratio(seconds(runs["theirs"]), seconds(runs["ours"]))
    rates = [n / float(np.median(seconds(runs[key]))) for key in ("ours", "theirs")]
    note = f"{n} items a turn; ours keeps the embedding and means too, with checksums and digest"
    against = f"{name}, batch {best}"
    rows = [
        Row(
            f"{label}: time", against, f"{rates[0]:.3g} items/s", f"{rates[1]:.3g} items/s",
            speed.value, speed.low, speed.high, SPEED, note=note,
        )
    ]  # fmt: skip
    for field, words, bar in (
        ("peak", "peak memory of the process", MEMORY),
        ("above", "memory beyond the loaded model", MEMORY),
    ):
        peak, other = ([getattr(run, field) / 1e9 for run in runs[k]] for k in ("ours", "theirs"))
        share = ratio(peak, other)
        rows.append(
            Row(
                f"{label}: {words}", against, f"{max(peak):.3g} GB", f"{max(other):.3g} GB",
                share.value, share.low, share.high, bar, at_least=False, note=note,
            )
        )  # fmt: skip
    return rows
