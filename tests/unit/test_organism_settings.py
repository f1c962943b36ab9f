"""Settings of organisms: one world for models and questions, and clear words where it is not so."""

from pathlib import Path
from typing import Any

import pytest

from isogloss.errors import InputError
from isogloss.study.keys import Artifacts
from isogloss.study.schema import Config, read, validate
from isogloss.study.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
STUDIES = ("calibration", "ladder")


def study(**changes: Any) -> dict[str, Any]:
    recipe = {"source": "organism", "family": "f"}
    return {
        "languages": ["qaa", "qab"],
        "pivot": "qaa",
        "world": {"entities": 10, "relations": 2},
        "models": {"m": recipe | {"organism": {"sharing": 0.5}}},
        "datasets": {"facts": {"source": "world", "items": 20}},
        "extraction": {"control": []},
        "steering": None,
    } | changes


def test_models_and_questions_have_the_worlds_settings_and_its_languages() -> None:
    settings = Settings(validate(study()))
    of_model = settings.activations("m", "facts")["model"]["world"]
    assert (
        of_model == settings.questions("facts")["world"] == settings.organism("m")["model"]["world"]
    )
    assert of_model["entities"] == 10 and of_model["languages"] == ["qaa", "qab"]


def test_a_calibration_says_whose_vectors_it_shows() -> None:
    """One without steering is none of a study that steers."""
    controls = {"languages": ["qab"], "controls": ["random", "zero"]}
    steered = {"steering": {"fit_on": ["facts"], "evaluate_on": ["facts"]} | controls}
    every = [Settings(validate(study(**changes))).calibration() for changes in ({}, steered)]
    assert [settings["fitted"] for settings in every] == [[], ["facts"]]


def test_an_organism_is_counted_in_float32_and_its_seed_is_the_models() -> None:
    model = validate(study()).models["m"]
    assert model.parameters == 64 * (3 + 2 * 37) + 4 * (10 * 64**2 + 2 * 64) + 64
    assert (model.dtype, model.seed) == ("float32", 0)
    assert validate(study()).model_dump(mode="json") == validate(
        validate(study()).model_dump(mode="json")
    ).model_dump(mode="json")


def organism(**settings: Any) -> dict[str, Any]:
    about = {"source": "organism", "family": "f", "organism": settings or None}
    return {"models": {"m": {key: value for key, value in about.items() if value is not None}}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"world": None}, "models.m: needs a world that it is about: add `world: {}`"),
        ({"languages": ["qaa", "en"]}, "en is no synthetic language.*qaa to qtz"),
        ({"datasets": {"facts": {"source": "world", "items": 21}}}, "21 are more than the world's"),
        ({"datasets": {"facts": {"source": "world", "path": "x"}}}, "has no path: leave it out"),
        (organism(), "source organism needs organism"),
        (organism(width=20), "models.m.organism.width"),
        (organism(sharing=1.5), "models.m.organism.sharing"),
        (organism(bridge=0.1, batch=8), "less than two sequences of a batch"),
        ({"models": {"m": {"source": "hub", "family": "f"}}}, "needs repo, revision, parameters"),
        (
            {"models": {"m": organism(width=16)["models"]["m"] | {"parameters": 7}}},
            "models.m.parameters: 7, but there are",
        ),
        ({"measures": {"mine": "file.py"}}, "measures.mine: file.py: write path.py:function"),
    ],
)
def test_what_does_not_fit_the_world_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        validate(study(**changes))


@pytest.mark.parametrize("name", STUDIES)
def test_the_studies_name_a_checkpoint_for_every_organism(name: str) -> None:
    config: Config = read(ROOT / f"config/studies/{name}.yaml")
    checkpoints = [a for a in Artifacts(Settings(config)).all() if a.stage == "organism"]
    assert [a.model for a in checkpoints] == config.organisms
    assert len({a.key for a in checkpoints}) == len(config.models)


def test_the_calibration_has_three_seeds_of_five_sharings_and_the_ladder_five_sizes() -> None:
    calibration, ladder = (read(ROOT / f"config/studies/{name}.yaml") for name in STUDIES)
    sharings = [m.organism.sharing for m in calibration.models.values() if m.organism]
    assert sorted(sharings) == sorted([0, 0.25, 0.5, 0.75, 1] * 3)
    assert len(calibration.planted) == 15 and not calibration.rungs and not ladder.planted
    sizes = [m.parameters for m in ladder.models.values() if m.family == "ladder"]
    assert len(sizes) == 15 and len(set(sizes)) == 5 and max(sizes) > 100 * min(sizes)
