"""Steering vectors: planted effects, cross-fitting, and controls that differ in one respect."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from isogloss.errors import InputError
from isogloss.files.netcdf import open_netcdf, write_netcdf
from isogloss.files.parallel_states import ParallelStates
from isogloss.measures.language_offsets import language_basis
from isogloss.steering.design import ALL_ITEMS
from isogloss.steering.interventions import (
    Intervention,
    control,
    cosine_at_mean,
    farthest_layer,
    intervention,
    map_factors,
    other_language,
)
from isogloss.steering.vectors import fit_vectors, map_penalty, random_directions
from isogloss.study.steering_methods import CONTROLS, METHODS

LANGUAGES = ("en", "it", "sw", "th")
N_ITEMS, WIDTH = 30, 24
FOLDS = np.arange(N_ITEMS) % 5


def parallel_states(layers: list[np.ndarray], clusters: np.ndarray | None = None) -> ParallelStates:
    """States of (language, item, feature) arrays, one a layer."""
    n = layers[0].shape[1]
    return ParallelStates(
        languages=LANGUAGES[: len(layers[0])],
        item_ids=tuple(f"i{i}" for i in range(n)),
        clusters=np.arange(n) if clusters is None else clusters,
        depths=np.linspace(0, 1, len(layers)),
        n_tokens=np.full(layers[0].shape[:2], 9),
        at=lambda layer: layers[layer].astype(np.float32),
    )


def planted(seed: int, n_layers: int = 3) -> list[np.ndarray]:
    """Shared items plus an offset a language plus noise, at every layer."""
    rng = np.random.default_rng(seed)
    return [
        rng.normal(size=(1, N_ITEMS, WIDTH))
        + 5 * rng.normal(size=(len(LANGUAGES), 1, WIDTH))
        + 0.1 * rng.normal(size=(len(LANGUAGES), N_ITEMS, WIDTH))
        for _ in range(n_layers)
    ]


def steered(change: Intervention, states: np.ndarray, alpha: float = 1.0) -> np.ndarray:
    """States steered by a change."""
    return states + alpha * change.displacement(states)


MEAN_STATES, LAST_STATES = planted(1), planted(2)


@pytest.fixture(scope="module")
def vectors() -> xr.Dataset:
    return fit_vectors(
        parallel_states(MEAN_STATES), parallel_states(LAST_STATES), FOLDS, "en", [0, 2]
    )


def fit_states(fold: int, language: str, layer: int, states: list = MEAN_STATES) -> np.ndarray:
    return states[layer][LANGUAGES.index(language), FOLDS != fold]


@pytest.mark.parametrize(
    "pooling, states", [("prompt_mean", MEAN_STATES), ("prompt_last", LAST_STATES)]
)
def test_mean_difference_maps_the_fit_mean_on_the_pivots(vectors, pooling, states):
    change = intervention(
        vectors, "mean_difference", language="sw", fold=3, layer=2, pooling=pooling
    )
    moved = steered(change, fit_states(3, "sw", 2, states)).mean(axis=0)
    np.testing.assert_allclose(moved, fit_states(3, "en", 2, states).mean(axis=0), atol=1e-5)


def test_means_are_fitted_on_the_other_folds_only():
    held_out = FOLDS == 2
    changed = [x.copy() for x in MEAN_STATES]
    for x in changed:
        x[:, held_out] += 1000
    plain = fit_vectors(
        parallel_states(MEAN_STATES), parallel_states(LAST_STATES), FOLDS, "en", [1], ["linear_map"]
    )
    other = fit_vectors(
        parallel_states(changed), parallel_states(LAST_STATES), FOLDS, "en", [1], ["linear_map"]
    )
    for name in ("mean", "overall_mean", "basis_variance", "map_penalty"):
        np.testing.assert_array_equal(plain[name].sel(fold=2), other[name].sel(fold=2))
    assert not np.allclose(plain["mean"].sel(fold=1), other["mean"].sel(fold=1))
    for fold, same in ((2, True), (1, False)):
        a, b = (
            intervention(v, "linear_map", language="it", fold=fold, layer=1) for v in (plain, other)
        )
        assert np.allclose(a.up, b.up) == same


def test_the_all_items_fold_is_the_mean_of_all_items(vectors):
    mean = vectors["mean"].sel(pooling="prompt_mean", fold=ALL_ITEMS, layer=0, language="th")
    np.testing.assert_allclose(mean, MEAN_STATES[0][3].mean(axis=0), atol=1e-5)


def test_shared_projection_removes_exactly_the_language_component(vectors):
    change = intervention(vectors, "shared_projection", language="sw", fold=1, layer=0)
    fits = np.stack([fit_states(1, name, 0).mean(axis=0) for name in LANGUAGES])
    basis = np.linalg.qr((fits - fits.mean(axis=0))[:-1].T)[0].T
    h = MEAN_STATES[0][2]
    after = steered(change, h, 1.0)
    np.testing.assert_allclose((after - fits[0]) @ basis.T, 0, atol=1e-4)
    outside = np.eye(WIDTH) - basis.T @ basis
    np.testing.assert_allclose(after @ outside, h @ outside, atol=1e-4)


def test_shared_projection_at_half_strength_halves_the_language_component(vectors):
    change = intervention(vectors, "shared_projection", language="sw", fold=1, layer=0)
    h = MEAN_STATES[0][2]
    before, after = ((x - change.centre) @ change.down.T for x in (h, steered(change, h, 0.5)))
    np.testing.assert_allclose(after, before / 2, atol=1e-4)


def test_shared_centroid_moves_to_the_mean_of_all_languages(vectors):
    change = intervention(vectors, "shared_centroid", language="th", fold=0, layer=2)
    moved = steered(change, fit_states(0, "th", 2)).mean(axis=0)
    overall = np.mean([fit_states(0, name, 2).mean(axis=0) for name in LANGUAGES], axis=0)
    np.testing.assert_allclose(moved, overall, atol=1e-5)


def test_language_basis_finds_the_planted_rank_and_span():
    rng = np.random.default_rng(0)
    span = np.linalg.qr(rng.normal(size=(40, 2)))[0].T
    means = rng.normal(size=(6, 2)) @ span + rng.normal(size=40)
    basis, variance = language_basis(means)
    kept = np.linalg.norm(basis, axis=1) > 0
    assert kept.tolist() == [True, True, False, False, False]
    np.testing.assert_allclose(basis.T @ basis, span.T @ span, atol=1e-9)
    np.testing.assert_allclose(variance.sum(), ((means - means.mean(0)) ** 2).sum())


def test_language_basis_puts_the_strongest_component_first():
    means = np.array([[0, 1.0, 0], [3.0, 0, 0], [-3.0, 0, 0], [0, -1.0, 0]])
    basis, variance = language_basis(means)
    np.testing.assert_allclose(np.abs(basis), [[1, 0, 0], [0, 1, 0], [0, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(variance, [18, 2, 0], atol=1e-12)


def test_map_factors_are_ridge_regression_towards_the_identity():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 12, 7))
    down, up = map_factors(x, y, 2.5)
    primal = np.linalg.solve(x.T @ x + 2.5 * np.eye(7), x.T @ (y - x))
    np.testing.assert_allclose(down.T @ up, primal, atol=1e-10)


def test_linear_map_leaves_alone_what_the_items_do_not_span(vectors):
    change = intervention(vectors, "linear_map", language="it", fold=0, layer=2)
    source = fit_states(0, "it", 2) - fit_states(0, "it", 2).mean(axis=0)
    narrow = source[:5]  # fewer items than dimensions
    down, up = map_factors(narrow, narrow * 2, 1e-3)
    outside = np.linalg.svd(narrow)[2][5:]
    np.testing.assert_allclose(outside @ down.T @ up, 0, atol=1e-9)
    assert change.down.shape == (24, WIDTH)


def test_linear_map_recovers_a_planted_rotation_of_held_out_items():
    rng = np.random.default_rng(3)
    n = 200
    source = rng.normal(size=(n, 10))
    rotation = np.linalg.qr(rng.normal(size=(10, 10)))[0]
    states = [np.stack([source @ rotation + 4, source])]
    folds = np.arange(n) % 5
    both = parallel_states(states)
    vectors = fit_vectors(both, both, folds, "en", [0], ["linear_map"])
    change = intervention(vectors, "linear_map", language="it", fold=0, layer=0)
    held_out = folds == 0
    error = steered(change, source[held_out]) - states[0][0, held_out]
    assert np.abs(error).max() < 0.05


def test_map_penalty_is_large_where_the_pair_has_nothing_in_common_but_the_mean():
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(2, 60, 20))
    x, noise = x - x.mean(0), noise - noise.mean(0)
    unit = (x**2).sum() / 60
    assert map_penalty(x, x + noise) > 100 * unit
    assert map_penalty(x, x @ np.diag(np.arange(20.0))) < unit
    assert map_penalty(np.zeros((5, 3)), np.zeros((5, 3))) == np.inf


def test_random_directions_have_the_mean_covariance_of_the_languages():
    rng = np.random.default_rng(0)
    states = rng.normal(size=(2, 50, 4)) * [[[10, 3, 1, 0]], [[1, 3, 6, 0]]] + rng.normal(size=4)
    drawn = random_directions(states, 1, 4000)
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1)
    covariance = np.mean([np.cov(x.T) for x in states], axis=0)
    gaussian = np.random.default_rng(2).multivariate_normal(np.zeros(4), covariance, size=4000)
    expected = gaussian / np.linalg.norm(gaussian, axis=1, keepdims=True)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(expected.T), atol=0.03)
    assert np.isnan(random_directions(np.zeros((2, 5, 3)), 0, 2)).all()


def test_a_draw_is_one_direction_in_all_folds_and_languages_with_each_ones_norm(vectors):
    where = {"layer": 2, "draw": 3}
    shifts = []
    for language in ("it", "sw", "th"):
        for fold in (0, 3, ALL_ITEMS):
            at = where | {"language": language, "fold": fold}
            shift = control(vectors, "random", **at).shift
            method = intervention(
                vectors, "mean_difference", language=language, fold=fold, layer=2
            ).shift
            assert np.linalg.norm(shift) == pytest.approx(np.linalg.norm(method), rel=1e-5)
            shifts.append(shift / np.linalg.norm(shift))
    np.testing.assert_allclose(shifts, np.broadcast_to(shifts[0], (9, WIDTH)), atol=1e-6)


def test_ranks_among_random_draws_of_what_is_itself_random_are_uniform():
    """A direction's effect is what it has of a hidden axis; the method's is one more draw.

    Draws that differed between folds and languages would lie closer together than methods do:
    p would be .05 or less in a quarter of the worlds.
    """
    n, draws, low = 200, 19, 0
    for seed in range(n):
        rng = np.random.default_rng(seed)
        states = [rng.normal(size=(3, N_ITEMS, 8)) + 3 * rng.normal(size=(3, 1, 8))]
        both, axis = parallel_states(states), rng.normal(size=8)
        v = fit_vectors(both, both, FOLDS, "en", [0], [], draws=draws, seed=seed)
        directions = v["random"].sel(pooling="prompt_mean", layer=0)
        shared = [name for name in directions.dims if name not in ("draw", "feature")]
        effects = directions.mean(shared).values @ axis
        centred = (states[0] - states[0].mean(1, keepdims=True)).reshape(-1, 8)
        method = rng.normal(size=len(centred)) @ centred
        reached = (effects >= method @ axis / np.linalg.norm(method)).sum()
        low += (1 + reached) / (1 + draws) <= 0.05
    assert low / n <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / n)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "name", ["random", "shuffled_language", "shuffled_orthogonal", "wrong_layer"]
)
def test_controls_are_as_strong_as_the_method_on_the_languages_mean(vectors, method, name):
    where = {"language": "sw", "fold": 2, "layer": 2}
    mean = fit_states(2, "sw", 2).mean(axis=0)
    change = intervention(vectors, method, **where).displacement(mean)
    other = control(vectors, name, method=method, **where).displacement(mean)
    assert np.linalg.norm(other) == pytest.approx(np.linalg.norm(change), rel=1e-4)
    assert abs(other @ change) < 0.95 * (change @ change)


def test_random_draws_differ_by_seed_draw_layer_and_pooling_and_repeat(vectors):
    both = (parallel_states(MEAN_STATES), parallel_states(LAST_STATES))
    again, other = (
        fit_vectors(*both, FOLDS, "en", [0, 2], ["mean_difference"], seed=seed) for seed in (0, 1)
    )

    def shift(v: xr.Dataset = vectors, **changes) -> tuple:
        where = {"language": "sw", "fold": 2, "layer": 2, "draw": 0} | changes
        return tuple(control(v, "random", **where).shift)

    assert shift() == shift(again)
    others = [shift(other), shift(draw=1), shift(layer=0), shift(pooling="prompt_last")]
    assert len({shift(), *others}) == 5


def test_the_second_shuffled_control_is_the_first_without_the_methods_direction(vectors):
    where = {"language": "sw", "fold": 2, "layer": 2}
    method = intervention(vectors, "mean_difference", **where)
    first, second = (
        control(vectors, f"shuffled_{name}", **where) for name in ("language", "orthogonal")
    )
    where["pooling"] = "prompt_mean"
    between = cosine_at_mean(vectors, first, method, **where)
    a, b = first.shift, method.shift
    assert between == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-6)
    assert cosine_at_mean(vectors, second, method, **where) == pytest.approx(0, abs=1e-6)
    sine = np.sqrt(1 - between**2)
    assert cosine_at_mean(vectors, first, second, **where) == pytest.approx(sine, abs=1e-6)
    assert cosine_at_mean(vectors, method.reversed(), method, **where) == pytest.approx(-1)
    zero = control(vectors, "zero", language="sw", fold=2, layer=2)
    assert np.isnan(cosine_at_mean(vectors, zero, method, **where))


def test_languages_with_one_direction_leave_nothing_of_the_second_shuffled_control():
    offsets = np.outer([0.0, 1, 2, 3], np.ones(WIDTH))[:, None]
    items = np.random.default_rng(0).normal(size=(1, N_ITEMS, WIDTH))
    both = parallel_states([items + offsets])
    v = fit_vectors(both, both, FOLDS, "en", [0], ["mean_difference"])
    assert not control(v, "shuffled_orthogonal", language="it", fold=0, layer=0).shift.any()


@pytest.mark.parametrize("method", METHODS)
def test_reverse_undoes_and_zero_does_nothing(vectors, method):
    where = {"language": "sw", "fold": 2, "layer": 2}
    h = MEAN_STATES[2][2].astype(np.float32)
    change = intervention(vectors, method, **where)
    back = control(vectors, "reverse", method=method, **where)
    np.testing.assert_allclose(change.displacement(h), -back.displacement(h), atol=1e-4)
    zero = control(vectors, "zero", method=method, **where)
    np.testing.assert_array_equal(steered(zero, h, 3.0), h)
    assert steered(zero, h, 3.0).dtype == np.float32


def test_the_other_language_is_never_itself_nor_the_pivot(vectors):
    for name in LANGUAGES:
        others = {other_language(vectors, name, draw) for draw in range(6)}
        assert others == set(LANGUAGES) - {"en", name}
    assert [other_language(vectors, name) for name in LANGUAGES] == ["it", "sw", "th", "it"]


def reordered(states: ParallelStates, order: list[int]) -> ParallelStates:
    """The same states under the same tags, the languages in another order."""
    return replace(
        states,
        languages=tuple(states.languages[i] for i in order),
        n_tokens=states.n_tokens[order],
        at=lambda layer: states.at(layer)[order],
    )


def test_nothing_depends_on_the_order_of_the_languages(vectors):
    mean, last = (reordered(parallel_states(s), [2, 0, 3, 1]) for s in (MEAN_STATES, LAST_STATES))
    assert mean.languages == ("sw", "en", "th", "it")
    other = fit_vectors(mean, last, FOLDS, "en", [0, 2])
    xr.testing.assert_identical(other, vectors)
    where = {"language": "it", "fold": 2, "layer": 2}
    backwards = vectors.isel(language=slice(None, None, -1))
    for name in set(CONTROLS) - {"patch"}:
        shifts = [control(v, name, **where).shift for v in (vectors, other, backwards)]
        np.testing.assert_array_equal(shifts[0], shifts[1])
        np.testing.assert_array_equal(shifts[0], shifts[2])


@pytest.mark.parametrize("method", METHODS)
def test_controls_of_states_that_do_not_vary_are_numbers(method):
    alike = [np.repeat(x[:, :1], N_ITEMS, axis=1) for x in MEAN_STATES]
    both = parallel_states(alike)
    vectors = fit_vectors(both, both, FOLDS, "en", [0, 2])
    where = {"language": "sw", "fold": 2, "layer": 0, "method": method}
    assert not control(vectors, "random", **where).shift.any()
    assert control(vectors, "random", **where).shift.dtype == np.float32
    for name in set(CONTROLS) - {"patch"}:
        assert np.isfinite(control(vectors, name, **where).shift).all(), name


def test_the_wrong_layer_is_the_farthest(vectors):
    assert farthest_layer(vectors, 0) == 2
    assert farthest_layer(vectors, 2) == 0
    with pytest.raises(InputError, match="two layers"):
        farthest_layer(vectors.sel(layer=[0]), 0)


def test_the_pivot_is_not_moved_by_mean_difference(vectors):
    change = intervention(vectors, "mean_difference", language="en", fold=0, layer=0)
    assert not change.shift.any()


def test_vectors_survive_their_file(vectors, tmp_path):
    write_netcdf(vectors, tmp_path / "vectors.nc", spec={"a": 1})
    again = open_netcdf(tmp_path / "vectors.nc")
    for method in METHODS:
        where = {"language": "th", "fold": 4, "layer": 2}
        before, after = (intervention(v, method, **where) for v in (vectors, again))
        np.testing.assert_array_equal(before.up, after.up)
        np.testing.assert_array_equal(before.shift, after.shift)
    for name in set(CONTROLS) - {"patch"}:
        control(again, name, language="th", fold=4, layer=2)


def test_a_fitting_set_of_its_own_gives_one_fit_on_all_its_items():
    mean, last = parallel_states(MEAN_STATES), parallel_states(LAST_STATES)
    v = fit_vectors(mean, last, None, "en", [0], ["mean_difference"])
    assert v["fold"].values.tolist() == [ALL_ITEMS]
    fitted = v["mean"].sel(pooling="prompt_mean", fold=ALL_ITEMS, layer=0, language="en")
    np.testing.assert_allclose(fitted, MEAN_STATES[0][0].mean(axis=0), atol=1e-5)


def test_what_cannot_be_fitted_is_refused():
    good, last = parallel_states(MEAN_STATES), parallel_states(LAST_STATES)
    torn = parallel_states(MEAN_STATES, clusters=np.arange(N_ITEMS) // 2)
    for arguments, words in [
        ((good, last, FOLDS, "xx", [0]), "pivot 'xx'"),
        ((good, last, FOLDS, "en", [7]), "from 0 to 2"),
        ((good, last, FOLDS, "en", []), "layers"),
        ((good, last, FOLDS, "en", [0], ["magic"]), "no method 'magic'"),
        ((torn, last, FOLDS, "en", [0]), "whole clusters"),
        ((good, last, FOLDS[:-1], "en", [0]), "same dataset"),
        ((good, last, np.where(FOLDS == 0, 1, 0) * 0, "en", [0]), "items to fit on"),
    ]:
        with pytest.raises(InputError, match=words):
            fit_vectors(*arguments)


def test_what_was_not_fitted_is_not_read(vectors):
    where = {"language": "sw", "fold": 2, "layer": 2}
    for changes, words in [
        ({"fold": 9}, "fold 9"),
        ({"layer": 1}, "layer 1"),
        ({"language": "xx"}, "'xx'"),
        ({"pooling": "max"}, "'max'"),
    ]:
        with pytest.raises(InputError, match=words):
            intervention(vectors, "mean_difference", **(where | changes))
    with pytest.raises(InputError, match="no control"):
        control(vectors, "magic", **where)
    with pytest.raises(InputError, match="draw 99"):
        control(vectors, "random", draw=99, **where)
    with pytest.raises(InputError, match="no linear_map"):
        intervention(vectors.drop_vars("state"), "linear_map", **where)


def test_an_intervention_whose_arrays_do_not_fit_cannot_be_made():
    with pytest.raises(ValueError, match="do not fit"):
        Intervention(np.zeros(3), np.zeros(3), np.zeros((1, 3)), np.zeros((2, 3)))
