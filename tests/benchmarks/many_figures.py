"""Every figure of many languages, drawn from results on simulated data: how they look, how long.

    export PYTHONPATH=workflow_scripts OMP_NUM_THREADS=1
    python -m tests.benchmarks.many_figures /tmp/figures --languages 122

Results come from the library's own measures on small simulated data; those of steering are made
up. Writes PNG files and prints JSON: seconds of the processor by figure.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr
from tests.simulated_states import clustered_states
from tests.simulated_worlds import Answers, Lens, steering_effects

from figures import DRAWN, STEERING
from isogloss.figures import lens_items, scale, variants
from isogloss.figures.style import Drawing, Subject, save, use_style
from isogloss.figures.titles import FIGURES
from isogloss.files.parallel_states import ParallelStates
from isogloss.measures.behaviour import behaviour as behaviour_of
from isogloss.measures.breakdown import breakdown as breakdown_of
from isogloss.measures.groups import groups_of
from isogloss.measures.model_results import ModelResult
from isogloss.measures.pivots import pivots as pivots_of
from isogloss.measures.scale import scale as scale_of
from isogloss.measures.similarity import similarity as similarity_of
from isogloss.measures.subspaces import subspaces as subspaces_of
from isogloss.measures.trajectories import trajectories as trajectories_of
from isogloss.measures.variant_states import variant_similarity
from isogloss.measures.variants import variants as variants_of
from isogloss.questions.items import Item, ParallelItems, folds
from isogloss.questions.languages import RESOURCE_CLASSES

ITEMS, WIDTH, LAYERS = 80, 48, 13
DEPTHS = np.linspace(0, 1, LAYERS)
CLUSTERS = np.arange(ITEMS) // 2


def tags_of(count: int) -> list[str]:
    """So many languages, those with most resources first; English, the pivot, is the first."""
    every = " ".join(RESOURCE_CLASSES.values()).split()
    return ["en", *(tag for tag in every if tag != "en")][:count]


def made_states(tags: list[str], seed: int = 0) -> ParallelStates:
    """States that share most in the middle of the depth, the more the better a language's place."""
    rng = np.random.default_rng(seed)
    items = np.random.default_rng(9).normal(size=(ITEMS, WIDTH))
    place = np.linspace(1.5, 0.3, len(tags))[:, None, None]
    offsets = np.random.default_rng(8).normal(size=(len(tags), 1, WIDTH))
    noise = [clustered_states(rng, CLUSTERS, len(tags), np.ones(WIDTH), within=0.3) for _ in DEPTHS]
    hump = 1.2 * np.sin(np.pi * DEPTHS)
    return ParallelStates(
        tuple(tags),
        tuple(map(str, range(ITEMS))),
        CLUSTERS,
        DEPTHS,
        np.random.default_rng(2).integers(5, 60, (len(tags), ITEMS)),
        lambda layer: (hump[layer] * place * items + offsets + noise[layer]).astype(np.float32),
    )


def made_scores(tags: list[str], seed: int = 0) -> xr.Dataset:
    """Answers that are best in English, and at chance in the last languages."""
    rng = np.random.default_rng(seed)
    world = Answers(tuple(np.linspace(2.5, 0.0, len(tags))))
    scores = world.scores(np.random.default_rng(1), CLUSTERS)
    scores["sum"] = scores["sum"] + 0.5 * seed * rng.normal(size=scores["sum"].shape)
    names = {"language": tags, "item": list(map(str, range(ITEMS)))}
    return scores.assign_coords(names).assign_attrs(pivot="en")


def made_effects(tags: list[str]) -> xr.Dataset:
    """Made-up effects of steering in all languages but the pivot."""
    rng, base = np.random.default_rng(0), steering_effects()
    effects = base.isel(language=np.arange(len(tags) - 1) % 2).assign_coords(language=tags[1:])
    for name in ("effect", "consistency_change", "control_effect", "surface", "random_draws"):
        moved = xr.DataArray(rng.normal(0, 0.05, len(tags) - 1), dims="language")
        for end in ("", "_low", "_high"):
            if name + end in effects:
                effects[name + end] = effects[name + end] + moved
    return effects


def made_items(tags: list[str]) -> ParallelItems:
    def item(number: int, tag: str) -> Item:
        choices = tuple(f"{tag} {word}" for word in ("honey", "milk", "bread", "salt"))
        return Item(str(number), "", f"In {tag}: what do bees make?", choices, 0)

    items = {tag: tuple(item(n, tag) for n in range(ITEMS)) for tag in tags}
    return ParallelItems("planted", items, CLUSTERS)


def results_of(tags: list[str]) -> dict[str, xr.Dataset]:
    """What the figures are drawn from, but lenses."""
    scores, states, rng = made_scores(tags), made_states(tags), np.random.default_rng(0)
    kinds = [("logic", "physics", "history", "sport")[n % 4] for n in CLUSTERS]
    wordings = [scores, made_scores(tags, 1)]
    made = {
        "behaviour": behaviour_of(scores),
        "breakdown": breakdown_of(scores, states, groups_of(kinds, tags[1:])),
        "pivots": pivots_of(scores, states, tags),
        "similarity": similarity_of(states, "en", permutations=19, map_permutations=19),
        "subspaces": subspaces_of(
            states, folds(CLUSTERS, 5, 0), n_layers=4, n_components=4, permutations=5
        ),
        "steering": made_effects(tags),
        "variants": variants_of(wordings, ["main", "plain"]).merge(
            variant_similarity([states, made_states(tags, int(rng.integers(1, 9)))])
        ),
    }
    model = ModelResult("tiny", "Tiny", 6e4, made["similarity"], made["behaviour"], scores)
    return made | {"scale": scale_of([model], permutations=19)}


def lenses_of(tags: list[str]) -> dict[str, xr.Dataset]:
    rng = np.random.default_rng(0)
    lenses = {}
    for number, tag in enumerate(tags):
        lean = 1.5 * number / len(tags)
        file = Lens(lean=lean, n_layers=LAYERS).file(rng, "l0" if tag == "en" else tag, CLUSTERS)
        file = file.assign_coords(item=list(map(str, range(ITEMS))))
        lenses[tag] = file.assign_attrs(language=tag, pivot="en", control="es")
    return lenses


def drawings(tags: list[str]) -> dict[str, Callable[[], Drawing]]:
    """By name, what draws a figure."""
    made, lenses = results_of(tags), lenses_of(tags)
    made["trajectories"] = trajectories_of(lenses)
    near = made["behaviour"]["near_chance"].values.astype(bool)
    subject = Subject("tiny", "planted", "en", frozenset(np.array(tags)[near]))
    steered = made["steering"]
    named: dict[str, Callable[[], Drawing]] = {
        figure.name: partial(DRAWN[figure.name], made[figure.result], subject)
        for figure in FIGURES
        if figure.name in DRAWN
    }
    return named | {
        "lens_items": lambda: lens_items.item_lenses(
            lenses, made["trajectories"], made_items(tags), subject
        ),
        "wordings_averaged": lambda: variants.ensembles(
            made["variants"], subject, {"planted": steered}
        ),
        **{name: partial(draw, steered, subject, "planted") for name, draw in STEERING.items()},
        "scale": lambda: scale.against_scale(
            made["scale"], replace(subject, model=""), {"tiny": "tiny"}
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where to write the pictures")
    parser.add_argument("--languages", type=int, default=122, help="default: %(default)s")
    parser.add_argument("--only", nargs="*", default=[], help="names of figures; default: all")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    use_style()
    seconds = {}
    for name, draw in drawings(tags_of(args.languages)).items():
        if args.only and name not in args.only:
            continue
        start = time.process_time()
        save(draw(), args.folder / name, ["png"])
        seconds[name] = round(time.process_time() - start, 1)
    print(json.dumps({"languages": args.languages, "seconds": seconds}, indent=1))


if __name__ == "__main__":
    main()
