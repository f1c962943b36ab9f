"""The calibration: planted sharing that a measure follows, or does not."""

import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from isogloss.errors import InputError
from isogloss.figures.calibration import against_sharing, calibration_section
from isogloss.figures.style import Subject, use_style
from isogloss.files.parallel_states import ParallelStates
from isogloss.measures.calibration import YARDSTICKS, PlantedModel, calibration
from isogloss.measures.custom import load_measure, middle_value

LEVELS, SEEDS = (0.0, 0.5, 1.0), (1, 2, 3)
DOCS = Path(__file__).resolve().parents[2] / "docs/calibration.md"


def planted(sharing: float, seed: int) -> PlantedModel:
    """Results in which item share follows sharing, and CKA does not."""
    noise = 0.01 * np.random.default_rng((seed, int(10 * sharing))).normal()
    by_layer = {"layer": [0, 1, 2], "relative_depth": ("layer", [0.0, 0.5, 1.0])}
    values = {"retrieval_mean": sharing, "retrieval_csls": sharing, "cosine_raw": 1.0}
    similarity = xr.Dataset(
        {name: ("layer", [9.0, value + noise, 9.0]) for name, value in values.items()}
        | {"cosine_centred_normalised": ("layer", [9.0, sharing + noise, 9.0])}
        | {"dissociation": 1 - sharing + noise, "cka_middle_mean": 0.5 + (seed - 2) * 0.1},
        by_layer,
    )
    correct = np.ones((2, 4), dtype=bool)
    correct[0, 0] = sharing > 0.4
    behaviour = xr.Dataset(
        {
            "mean_consistency": ("scope", [sharing + noise, 0.0]),
            "mean_lift_independent": (("sign", "scope"), [[0.1, 0.1]]),
            "mean_lift_difficulty": (("sign", "scope"), [[0.1, 0.1]]),
            "mean_accuracy": 0.5 + sharing / 2,
            "correct": (("language", "item"), correct),
        },
        {"scope": ["all_pairs", "to_pivot"], "sign": ["positive"]},
    )
    steering = xr.Dataset(
        {
            "pooled_effect": ("method", [0.1 * sharing]),
            "pooled_control_effect": ("control", [0.0, 0.2 * sharing]),
        },
        {"method": ["mean_difference"], "control": ["zero", "patch"]},
    )
    seen = np.array([[False, True, True, True]] * 2)
    results = {"similarity": similarity, "behaviour": behaviour, "steering": steering}
    return PlantedModel(f"s{sharing}-{seed}", sharing, seed, results, seen, {"mine": -sharing})


@pytest.fixture(scope="module")
def table() -> xr.Dataset:
    return calibration([planted(s, seed) for s in LEVELS for seed in SEEDS])


def test_what_follows_sharing_tracks_it_and_what_does_not_fails(table: xr.Dataset) -> None:
    tracks = dict(zip(table["measure"].values, table["tracks"].values, strict=True))
    assert tracks["dissociation"] and tracks["retrieval"] and tracks["mine"]
    assert not tracks["cka"] and not tracks["lift"]
    assert float(table["rank_correlation"].sel(measure="dissociation")) < -0.9
    assert "separability" not in tracks and set(tracks) - {"mine", "accuracy_unseen"} <= set(
        YARDSTICKS
    )


def test_a_measure_in_the_other_direction_fails() -> None:
    models = [planted(s, seed) for s in LEVELS for seed in SEEDS]
    turned = [
        PlantedModel(m.slug, 1 - m.sharing, m.seed, m.results, m.seen, m.custom) for m in models
    ]
    turned_row = calibration(turned).sel(measure="dissociation")
    assert float(turned_row["rank_correlation"]) > 0.9 and not bool(turned_row["tracks"])


def test_a_language_with_itself_is_no_overlap() -> None:
    overlap = np.where(np.eye(3, dtype=bool), 1.0, 0.2)
    subspaces = xr.Dataset(
        {"overlap_normalised": (("layer", "language", "language_2"), overlap[None])},
        {"relative_depth": ("layer", [0.5]), "language": list("abc"), "language_2": list("abc")},
    )
    assert YARDSTICKS["overlap"].of(subspaces) == pytest.approx(0.2)


def test_curves_are_means_with_intervals_over_seeds(table: xr.Dataset) -> None:
    of = table.sel(measure="cka", sharing=0.5)
    assert float(of["mean"]) == pytest.approx(0.5)
    # Student's t with two degrees of freedom: 4.303 times 0.1 / sqrt(3).
    assert float(of["mean_high"] - of["mean"]) == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-4)


def test_unseen_facts_are_counted_alone(table: xr.Dataset) -> None:
    # One language of two has the only unseen fact wrong at s = 0.
    means = table["mean"].sel(measure="accuracy_unseen").values
    np.testing.assert_allclose(means, [0.5, 1.0, 1.0])


def test_steering_stands_beside_the_oracle(table: xr.Dataset) -> None:
    assert table["method"].values.tolist() == ["mean_difference", "patch"]
    np.testing.assert_allclose(table["steering"].isel(model=-1), [0.1, 0.2])


def test_one_sharing_is_no_calibration() -> None:
    with pytest.raises(InputError, match="the same sharing"):
        calibration([planted(0.5, 1), planted(0.5, 2)])


def test_summary_and_figure_say_which_fail(table: xr.Dataset) -> None:
    text = calibration_section(table)
    failing = re.search(r"\*\*Failing\*\*: (.*?)\. Brackets", text)
    assert failing and "debiased CKA" in failing[1] and "dissociation" not in failing[1]
    use_style()
    drawing = against_sharing(table, Subject("", "", "qaa"))
    assert "debiased CKA" in drawing.caption and len(drawing.figure.axes) == 16
    assert {"mean", "steering"} <= set(drawing.numbers["quantity"])


def states() -> ParallelStates:
    x = np.random.default_rng(0).normal(size=(3, 30, 8)).astype(np.float32)
    names = tuple(f"i{n}" for n in range(30))
    depths, n_tokens = np.array([0.0, 0.5, 1.0]), np.ones((3, 30))
    return ParallelStates(
        ("qaa", "qab", "qac"), names, np.arange(30), depths, n_tokens, lambda i: x
    )


def test_the_measure_of_the_docs_is_one(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    (place,) = re.findall(r"measures: \{agreement: (.*?)\}", DOCS.read_text("utf-8"))
    name, _, function = place.partition(":")
    (tmp_path / name).write_text(code, encoding="utf-8")
    measure = load_measure(f"{tmp_path / name}:{function}")
    assert abs(middle_value(measure, states(), "agreement")) < 0.1
    same = np.repeat(np.random.default_rng(0).normal(size=(1, 30, 8)), 3, axis=0)
    assert measure(same) == pytest.approx(1)


@pytest.mark.parametrize(
    ("code", "function", "said"),
    [
        (None, "f", "no such file"),
        ("x = 1", "f", "has no function f"),
        ("1 / 0", "f", "does not run"),
        ("def f(states):\n    return 'x'", "f", "measures.mine: fails"),
    ],
)
def test_a_measure_that_is_none_is_refused_in_one_line(
    code: str | None, function: str, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "own.py"
    if code is not None:
        file.write_text(code, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        middle_value(load_measure(f"{file}:{function}"), states(), "mine")
