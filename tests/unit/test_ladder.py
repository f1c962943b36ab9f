"""The ladder: the same runs compared by three rules can say three things."""

import numpy as np
import pytest
import xarray as xr

from isogloss.figures.ladder import by_rule, ladder_section
from isogloss.figures.style import Subject, use_style
from isogloss.measures.ladder import PRIMARY, Rule, TrainedModel, ladder, step_reached
from isogloss.measures.slopes import slope_over_seeds

STEPS = list(range(50, 1001, 50))
SIZES = {1e4: 1.0, 1e5: 2.0, 1e6: 4.0}
"""Parameters, and how many times faster the model learns."""


def run(parameters: float, speed: float, seed: int, family: str = "ladder") -> TrainedModel:
    """Sharing grows with training, and is less in larger models at the same loss."""
    noise = 0.01 * np.random.default_rng((seed, int(speed))).normal()
    done = speed * np.array(STEPS) / 1000
    loss, decade = 3 * np.exp(-2 * done), np.log10(parameters)
    apart = 1 - 0.2 * done + 0.05 * (decade - 4) + noise
    history = {
        "step": STEPS, "loss": loss, "bridge_loss": 2 * loss, PRIMARY: apart,
        "accuracy_unseen": done / 8, "consistency": done / 8, "lift": done / 8,
    }  # fmt: skip
    values = {name: list(map(float, value)) for name, value in history.items()}
    return TrainedModel(f"{family}{parameters:g}-{seed}", family, int(parameters), seed, values)


@pytest.fixture(scope="module")
def compared() -> xr.Dataset:
    models = [run(size, speed, seed) for size, speed in SIZES.items() for seed in (1, 2, 3)]
    return ladder(models, losses=[1.0, 0.01], bridge_losses=[2.0])


def test_the_sign_depends_on_the_rule(compared: xr.Dataset) -> None:
    rules = dict(zip(compared["rule"].values, compared["verdict"].values[:, 0], strict=True))
    assert rules == {
        "equal steps (1000)": "contradicted",
        "equal loss (1)": "supported",
        "equal loss (0.01)": "",  # secondary: no verdict
        "equal bridge loss (2)": "supported",
    }
    slope = compared["slope"].sel(measure=PRIMARY, family="ladder")
    assert float(slope.sel(rule="equal steps (1000)")) == pytest.approx(0.05 - 0.3, abs=0.02)
    assert float(slope.sel(rule="equal loss (1)")) == pytest.approx(0.05, abs=0.02)


def test_models_are_compared_between_evaluations(compared: xr.Dataset) -> None:
    reached = compared["reached"].sel(rule="equal loss (1)").values
    np.testing.assert_allclose(reached, np.repeat([549.3, 274.7, 137.3], 3), atol=2)


def test_a_size_that_does_not_get_there_is_left_out(compared: xr.Dataset) -> None:
    at = compared.sel(rule="equal loss (0.01)", measure=PRIMARY, family="ladder")
    assert not np.isfinite(at["slope"]) and at["reason"].item().startswith("1 size")


def test_a_threshold_that_is_passed_before_the_first_evaluation_is_not_reached() -> None:
    history = {"step": [50, 100], "loss": [0.4, 0.2]}
    assert np.isnan(step_reached(history, Rule("loss", 0.5, True)))
    assert np.isnan(step_reached(history, Rule("steps", 150, True)))


def test_slopes_over_seeds_cover_the_true_slope() -> None:
    rng, sizes = np.random.default_rng(0), np.repeat([1e4, 1e5, 1e6, 1e7], 3)
    covered = 0
    for _ in range(400):
        values = 0.3 * np.log10(sizes) + rng.normal(0, 0.1, len(sizes))
        slope = slope_over_seeds(sizes, values)
        covered += slope.low <= 0.3 <= slope.high
    assert covered / 400 > 0.92
    values[0] = np.nan
    assert slope_over_seeds(sizes, values).value == pytest.approx(
        slope_over_seeds(sizes[3:], values[3:]).value
    )


def test_summary_and_figure_show_every_rule(compared: xr.Dataset) -> None:
    text = ladder_section(compared)
    assert text.count("**supported**") == 2 and text.count("**contradicted**") == 1
    assert "training length not matched" in text
    use_style()
    drawing = by_rule(compared, Subject("", "", "qaa"))
    assert len(drawing.figure.axes) == 12 and "equal steps" in drawing.caption
