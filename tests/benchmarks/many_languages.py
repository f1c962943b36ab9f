"""Measures of many languages: time, memory, and how they grow.

    export PYTHONPATH=workflow_scripts OMP_NUM_THREADS=1
    python -m tests.benchmarks.many_languages similarity --languages 8 16 32 --items 900

States are random, a part of them shared, of one layer in the middle half and with all measures; a
study has as many as its model. Answers and lenses are of simulated models, lenses with 13 layers.
Each size runs in a process of its own; seconds are those of the processor, of all threads together,
so that other work on the machine counts little; wall_seconds pass. Prints JSON: a row per size, and
by what power of the number of languages the last two sizes differ.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import xarray as xr
from tests.simulated_worlds import Answers, Lens

from isogloss.files.parallel_states import ParallelStates
from isogloss.measures.behaviour import behaviour
from isogloss.measures.breakdown import breakdown
from isogloss.measures.groups import Group
from isogloss.measures.pivots import pivots
from isogloss.measures.similarity import similarity
from isogloss.measures.subspaces import subspaces
from isogloss.measures.trajectories import trajectories
from isogloss.questions.items import folds
from isogloss.steering.vectors import fit_vectors

MEASURES = [
    "similarity",
    "subspaces",
    "vectors",
    "behaviour",
    "breakdown",
    "pivots",
    "trajectories",
]
Job = Callable[[], object]


def made_states(languages: int, items: int, width: int) -> ParallelStates:
    """One layer of random states; pairs of items are a cluster, as questions on a passage."""

    def read(_: int, language: int) -> np.ndarray:
        shared, alone = np.random.default_rng(0), np.random.default_rng((1, language))
        shape, scale = (items, width), np.linspace(3, 0.3, width)
        states = 0.7 * shared.normal(size=shape) + alone.normal(size=shape)
        return np.asarray(states * scale + alone.normal(size=width), np.float32)

    return ParallelStates(
        languages=tuple(f"l{n}" for n in range(languages)),
        item_ids=tuple(map(str, range(items))),
        clusters=np.arange(items) // 2,
        depths=np.array([0.5]),
        n_tokens=np.random.default_rng(2).integers(5, 60, (languages, items)),
        at=lambda layer: np.stack([read(layer, n) for n in range(languages)]),
        read=read,
    )


def made_scores(languages: int, items: int) -> xr.Dataset:
    """Scores of four choices, of the clusters of `made_states`."""
    rng = np.random.default_rng(0)
    scores = Answers.of_languages(rng, languages).scores(rng, np.arange(items) // 2)
    return scores.assign_coords(item=[str(n) for n in range(items)])


def groups(languages: int, items: int) -> list[Group]:
    """All, ten categories of the items, and families of ten languages beside the pivot."""
    category, family = np.arange(items) // 2 % 10, np.arange(languages - 1) // 10
    every_item, every_language = category >= 0, family >= 0
    made = [Group("all", "all", every_item, every_language)]
    made += [Group("category", f"c{n}", category == n, every_language) for n in range(10)]
    return made + [
        Group("family", f"f{n}", every_item, family == n) for n in range(int(family.max()) + 1)
    ]


def of_states(what: str, states: ParallelStates, retrieval: bool) -> Job:
    """What is measured of states alone."""
    fold = folds(states.clusters, 5, 0)
    if what == "similarity":
        return lambda: similarity(states, "l0", retrieval_layers=None if retrieval else 0)
    if what == "subspaces":
        return lambda: subspaces(states, fold)
    return lambda: fit_vectors(states, states, fold, "l0", [0], ["mean_difference"])


def job(what: str, languages: int, items: int, width: int, retrieval: bool) -> Job:
    """What is measured, its material ready."""
    if what == "trajectories":
        rng, clusters = np.random.default_rng(0), np.arange(items) // 2
        tags = [f"l{n}" for n in range(languages)]
        lenses = {tag: Lens(n_layers=13).file(rng, tag, clusters) for tag in tags}
        return lambda: trajectories(lenses)
    states = made_states(languages, items, width)
    if what in ("similarity", "subspaces", "vectors"):
        return of_states(what, states, retrieval)
    scores = made_scores(languages, items)
    return {
        "behaviour": lambda: behaviour(scores),
        "breakdown": lambda: breakdown(scores, states, groups(languages, items)),
        "pivots": lambda: pivots(scores, states, states.languages),
    }[what]


def measure(what: str, languages: int, items: int, width: int, retrieval: bool) -> dict[str, float]:
    """Seconds of the processor and the peak of memory [GB], in this process."""
    wanted = job(what, languages, items, width, retrieval)
    start, started = time.process_time(), time.monotonic()
    wanted()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {
        "seconds": round(time.process_time() - start, 2),
        "wall_seconds": round(time.monotonic() - started, 2),
        "peak_gb": round(peak, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=MEASURES)
    parser.add_argument("--languages", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--items", type=int, default=900, help="default: %(default)s")
    parser.add_argument("--width", type=int, default=1024, help="default: %(default)s")
    parser.add_argument("--without-retrieval", action="store_true")
    args = parser.parse_args()
    if len(args.languages) == 1:
        sizes = (args.languages[0], args.items, args.width)
        print(json.dumps(measure(args.what, *sizes, not args.without_retrieval)))
        return
    options = ["--items", str(args.items), "--width", str(args.width)]
    options += ["--without-retrieval"] if args.without_retrieval else []
    command = [sys.executable, "-m", "tests.benchmarks.many_languages", args.what, *options]
    rows = []
    for n in args.languages:
        said = subprocess.check_output([*command, "--languages", str(n)], text=True)
        rows.append({"languages": n, **json.loads(said)})
        print(json.dumps(rows[-1]), file=sys.stderr)
    last = rows[-2:]
    power = {
        name: round(
            math.log(last[1][name] / last[0][name])
            / math.log(last[1]["languages"] / last[0]["languages"]),
            2,
        )
        for name in ("seconds", "peak_gb")
    }
    print(json.dumps({"items": args.items, "width": args.width, "rows": rows, "power": power}))


if __name__ == "__main__":
    main()
