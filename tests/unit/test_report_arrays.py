"""What the report's page draws from, of made-up results."""

import base64
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from isogloss.errors import InputError
from isogloss.report.arrays import steered_part


def unpacked(packed):
    values = np.frombuffer(base64.b64decode(packed["data"]), "<f4")
    return values.reshape(packed["shape"])


def study_of(items):
    """A study that steered some of its questions, right in the first, wrong in the others."""
    sums = np.full((1, len(items), 2), -1.0)
    sums[0, :, 1], sums[0, 0, 1] = 0.0, -2.0
    per_choice = (("item", "choice"), np.ones((len(items), 2)))
    file = xr.Dataset(
        {
            "log_probability": (("condition", "item", "choice"), sums),
            "n_tokens": per_choice,
            "n_choices": ("item", np.full(len(items), 2)),
        },
        coords={
            "item": items,
            "role": ("condition", ["unsteered"]),
            "method": ("condition", ["unsteered"]),
        },
        attrs={"language": "de", "score": "token"},
    )
    return SimpleNamespace(
        config=SimpleNamespace(fitted_for=lambda dataset: ["own"]),
        steering=lambda model, dataset, fitted: xr.Dataset(coords={"language": ["de"]}),
        steered=lambda model, dataset, tag, fitted: file,
    )


def test_questions_that_were_only_fitted_on_have_no_steered_answers():
    part = steered_part(study_of(["c", "a"]), "model", "own", ["a", "b", "c"])["de"]["own"]
    assert part["conditions"] == ["unsteered"]
    np.testing.assert_array_equal(unpacked(part["prediction"]), [[1, np.nan, 0]])
    shares = unpacked(part["shares"])
    assert shares.shape == (1, 3, 2) and np.isnan(shares[0, 1]).all()
    np.testing.assert_allclose(shares[0, 2], [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))], rtol=1e-6)


def test_steered_answers_to_other_questions_are_refused():
    with pytest.raises(InputError, match="de, steered, has other items"):
        steered_part(study_of(["x"]), "model", "own", ["a", "b"])
