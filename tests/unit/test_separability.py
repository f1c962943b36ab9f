"""Separability: linear discriminant analysis, and languages apart or in one place."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from isogloss.measures.separability import lda_scores, separability

NO_ORDERS: list = []


def test_lda_is_that_of_sklearn():
    rng = np.random.default_rng(0)
    fit = rng.normal(size=(3, 40, 6)) * [1, 2, 3, 1, 1, 1] + rng.normal(size=(3, 1, 6))
    test = rng.normal(size=(50, 6))
    scores = lda_scores(fit, test, 0.0)
    reference = LinearDiscriminantAnalysis(solver="lsqr", priors=[1 / 3] * 3)
    reference.fit(fit.reshape(-1, 6), np.repeat(np.arange(3), 40))
    np.testing.assert_array_equal(scores.argmax(axis=1), reference.predict(test))
    ours = scores - scores.mean(axis=1, keepdims=True)
    theirs = reference.decision_function(test)
    np.testing.assert_allclose(ours, theirs - theirs.mean(axis=1, keepdims=True), atol=1e-8)


def test_languages_apart_are_separable_and_languages_in_one_place_are_not():
    rng = np.random.default_rng(0)
    same = rng.normal(size=(3, 60, 10))
    apart = same + 4 * rng.normal(size=(3, 1, 10))
    accuracy, margin, _ = separability(apart[:, :40], apart[:, 40:], NO_ORDERS)
    assert accuracy > 0.98 and margin > 5
    accuracy, margin, _ = separability(same[:, :40], same[:, 40:], NO_ORDERS)
    assert accuracy == pytest.approx(1 / 3, abs=0.15) and margin < 0


def test_the_margin_still_grows_where_accuracy_is_saturated():
    rng = np.random.default_rng(0)
    noise, offsets = rng.normal(size=(3, 60, 10)), rng.normal(size=(3, 1, 10))
    near, far = (
        separability((noise + d * offsets)[:, :40], (noise + d * offsets)[:, 40:], NO_ORDERS)
        for d in (6, 12)
    )
    assert near[0] == far[0] == 1 and far[1] > 2 * near[1]
