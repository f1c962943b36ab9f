"""Subspaces: planted ranks, spans and shares, independent implementations, calibrated nulls."""

import tracemalloc

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import subspace_angles
from simulated_states import clustered_states, parallel_states, spectrum
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from isogloss.errors import InputError
from isogloss.files.netcdf import open_netcdf, write_netcdf
from isogloss.measures.shuffles import label_orders
from isogloss.measures.subspaces import (
    N_SHARED,
    common_axes,
    generalised_cca,
    half_of,
    language_rank,
    lda_scores,
    mean_correlation,
    offset_energy,
    overlap_floor,
    overlaps,
    principal_angles,
    principal_axes,
    separability,
    shared_correlations,
    split_half_overlaps,
    subspaces,
    variance_shares,
    whitening,
)

NO_ORDERS: list = []


def orthonormal(rng, k: int, width: int) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(width, k)))[0].T


# Variance shares


def test_variance_shares_are_those_planted():
    rng = np.random.default_rng(0)
    states = (
        np.sqrt(3.0) * rng.normal(size=(1, 60, 50))
        + np.sqrt(2.0) * rng.normal(size=(8, 1, 50))
        + np.sqrt(2.0) * rng.normal(size=(8, 60, 50))
    )
    np.testing.assert_allclose(variance_shares(states), np.array([3, 2, 2]) / 7, atol=0.04)


@given(st.integers(0, 10**6))
def test_variance_shares_sum_to_1_and_do_not_see_the_scale_of_dimensions(seed):
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(3, 6, 4)) + rng.normal(size=(3, 1, 4))
    shares = variance_shares(states)
    assert shares.sum() == pytest.approx(1)
    scaled = variance_shares(states * np.array([1, 1e4, 1e-3, 7]) + 50)
    np.testing.assert_allclose(scaled, shares, atol=1e-6)


def test_variance_shares_by_hand():
    # One dimension, 2 x 2: cells 0, 2 / 2, 8. Means 1, 5, spreads 1, 3, pooled sqrt(5):
    # deviations -1, 1 in both, offsets -2, 2 over sqrt(5). MS item 4, language 3.2, rest 0.
    states = np.array([[[0.0], [2.0]], [[2.0], [8.0]]])
    np.testing.assert_allclose(variance_shares(states), [5 / 9, 4 / 9, 0], atol=1e-12)


def test_variance_shares_do_not_see_how_widely_a_language_spreads():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(30, 6))
    z = z - z.mean(axis=0)
    np.testing.assert_allclose(variance_shares(np.stack([z, 5 * z])), [1, 0, 0], atol=0.01)
    # Offsets count by the pooled spread: the root of the mean of 1 and 25.
    alike, unlike = (np.stack([z, n * z + 2 * np.sqrt((1 + n**2) / 2)]) for n in (1, 5))
    np.testing.assert_allclose(variance_shares(unlike), variance_shares(alike), atol=1e-9)
    assert 0.2 < variance_shares(alike)[1] < 0.8


def test_dimensions_constant_in_one_language_have_no_part_in_the_shares():
    states = np.random.default_rng(0).normal(size=(3, 20, 4))
    states[1, :, 2] = 7.0
    np.testing.assert_allclose(variance_shares(states), variance_shares(states[..., [0, 1, 3]]))


def test_variance_shares_of_what_does_not_vary_are_no_number():
    assert np.isnan(variance_shares(np.ones((3, 5, 2)))).all()
    with pytest.raises(ValueError, match="2 languages"):
        variance_shares(np.ones((1, 5, 2)))


def test_language_rank_by_hand():
    assert language_rank(np.array([18.0, 2.0, 0.0]), 0.9) == 1
    assert language_rank(np.array([18.0, 2.0, 0.0]), 0.91) == 2
    assert language_rank(np.zeros(3)) == 0


def energy_by_gram(centred: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Offset energy by the Gram matrix of all states, as an oracle."""
    n_languages, n_items, _ = centred.shape
    flat = centred.reshape(n_languages * n_items, -1)
    gram, energy = flat @ flat.T, []
    for order in orders:
        members = np.zeros((n_languages, len(flat)))
        for label, row in enumerate(order):
            members[label, row * n_items + np.arange(n_items)] = 1 / n_items
        energy.append(((members @ gram) * members).sum())
    return np.array(energy)


def test_offset_energy_is_that_of_the_relabelled_states():
    rng = np.random.default_rng(0)
    states = rng.normal(size=(3, 7, 4)) + 100 * rng.normal(size=(1, 7, 4))
    orders = label_orders(np.arange(7), 3, 5, 0)
    found = offset_energy(states - states.mean(axis=0), orders)
    oracle = energy_by_gram(states - states.mean(axis=0), orders)
    np.testing.assert_allclose(found, oracle, rtol=1e-9)
    for order, energy in zip(orders, found, strict=True):
        moved = np.take_along_axis(states, order[..., None], 0).mean(axis=1)
        assert energy == pytest.approx(((moved - moved.mean(axis=0)) ** 2).sum())


@pytest.mark.parametrize("clusters", [np.arange(45), np.arange(45) // 3])
def test_languages_in_one_place_have_no_offsets_however_their_items_cluster(clusters):
    rng, p = np.random.default_rng(0), []
    for seed in range(200):
        states = clustered_states(rng, clusters, 4, spectrum(8), shared=0.3, within=0.9)
        orders = label_orders(clusters, 4, 99, seed)
        centred = states - states.mean(axis=0)
        same = np.broadcast_to(np.arange(4)[:, None], states.shape[:2])
        observed, null = offset_energy(centred, same[None]), offset_energy(centred, orders)
        p.append((1 + (null >= observed).sum()) / 100)
    assert np.mean(np.array(p) <= 0.05) < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)


def test_offset_energy_holds_no_matrix_of_all_pairs_of_states():
    states = np.random.default_rng(0).normal(size=(20, 100, 2))
    orders = label_orders(np.arange(100), 20, 3, 0)
    tracemalloc.start()
    offset_energy(states, orders)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.1 * 4 * 2000**2


# Within-language subspaces


@pytest.mark.parametrize("shape", [(30, 12), (12, 30)])
def test_principal_axes_are_those_of_sklearn(shape):
    rng = np.random.default_rng(0)
    states = rng.normal(size=shape) * np.arange(1, shape[1] + 1) + 5
    ours, theirs = principal_axes(states, 4), PCA(4).fit(states).components_
    np.testing.assert_allclose(np.abs(ours @ theirs.T), np.eye(4), atol=1e-6)
    pooled = common_axes(np.stack([states, states + 9]), 4)
    np.testing.assert_allclose(np.abs(pooled @ theirs.T), np.eye(4), atol=1e-6)


def test_principal_axes_beyond_the_rank_are_zero():
    rng = np.random.default_rng(0)
    states = rng.normal(size=(20, 2)) @ rng.normal(size=(2, 9))
    norms = np.linalg.norm(principal_axes(states, 5), axis=1)
    np.testing.assert_allclose(norms, [1, 1, 0, 0, 0], atol=1e-9)
    assert not principal_axes(np.ones((4, 3)), 2).any()


def test_principal_angles_are_those_of_scipy():
    rng = np.random.default_rng(0)
    axes = np.stack([orthonormal(rng, 3, 10) for _ in range(3)])
    found = principal_angles(axes)
    for i, j in [(0, 1), (1, 2), (2, 0)]:
        expected = np.degrees(np.sort(subspace_angles(axes[i].T, axes[j].T)))
        np.testing.assert_allclose(found[i, j], expected, atol=1e-6)
        cosines = np.cos(np.radians(found[i, j]))
        assert overlaps(axes, axes)[i, j] == pytest.approx((cosines**2).mean())
    np.testing.assert_allclose(found[0, 0], 0, atol=1e-4)


def test_languages_in_one_subspace_reach_their_ceiling_and_others_their_floor():
    rng = np.random.default_rng(0)
    one, two = orthonormal(rng, 4, 200), orthonormal(rng, 4, 200)
    loadings = 5 * rng.normal(size=(3, 80, 4))
    states = np.stack([loadings[0] @ one, loadings[1] @ one, loadings[2] @ two])
    states += 0.3 * rng.normal(size=states.shape)
    found = split_half_overlaps(states, np.arange(80), 4, 0)
    np.testing.assert_allclose(found, found.T)
    assert found[0, 1] == pytest.approx(found[0, 0], abs=0.03) and found[0, 0] > 0.9
    assert found[0, 2] < 0.1


def test_the_floor_of_isotropic_states_is_k_over_width_and_higher_for_others():
    rng = np.random.default_rng(0)
    isotropic = rng.normal(size=(2, 2000, 40))
    assert overlap_floor(isotropic, 4, 0) == pytest.approx(4 / 40, abs=0.02)
    elongated = isotropic * np.where(np.arange(40) < 6, 10, 1)
    assert overlap_floor(elongated, 4, 0) > 0.4


def test_halves_are_disjoint_balanced_and_tear_no_cluster():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(20), 3)
    halves = np.array([half_of(clusters, rng) for _ in range(50)])
    for half in halves:
        assert not set(clusters[half]) & set(clusters[~half])
        assert 27 <= half.sum() <= 33
    assert 0.3 < halves.mean(axis=0).min()


def test_a_large_cluster_goes_where_the_halves_become_more_equal():
    rng = np.random.default_rng(0)
    clusters = np.concatenate([np.zeros(36, int), np.arange(1, 25)])
    sizes = np.array([half_of(clusters, rng).sum() for _ in range(100)])
    # 12 of the 24 single items before it make both sides equally good.
    assert np.minimum(sizes, 60 - sizes).min() >= 12
    assert (sizes < 30).any() and (sizes > 30).any()
    # Nothing moves where items are their own clusters: the larger half of an odd number is first.
    assert [half_of(np.arange(n), rng).sum() for n in (4, 5, 9)] == [2, 3, 5]


def test_overlaps_of_halves_too_small_to_fit_are_no_number():
    states = np.random.default_rng(0).normal(size=(2, 112, 20))
    lopsided = np.concatenate([np.zeros(100, int), np.arange(1, 13)])
    assert np.isnan(split_half_overlaps(states, lopsided, 12, 0)).all()
    assert np.isfinite(split_half_overlaps(states, lopsided, 4, 0)).all()
    assert np.isnan(split_half_overlaps(states, np.zeros(112, int), 1, 0)).all()


def test_a_dataset_of_one_large_cluster_has_no_overlaps_but_the_rest():
    rng = np.random.default_rng(0)
    clusters = np.concatenate([np.zeros(100, int), np.arange(1, 13)])
    fold = np.concatenate([np.zeros(100, int), 1 + np.arange(12) % 2])
    states = parallel_states([rng.normal(size=(2, 112, 20))], clusters)
    found = subspaces(states, fold, n_components=12, permutations=1)
    for name in ("overlap", "overlap_ceiling", "overlap_normalised"):
        assert np.isnan(found[name]).all(), name
    for name in ("overlap_floor", "principal_angle", "separability"):
        assert np.isfinite(found[name]).any(), name


# Shared directions


def test_whitening_makes_the_scatter_the_identity():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 4)) * [1, 5, 10, 0.1]
    white = x @ whitening(x, ridge=0)
    np.testing.assert_allclose(white.T @ white, np.eye(4), atol=1e-6)


def planted_shared(rng, rank: int, n_items: int, rotate: bool) -> np.ndarray:
    """Three languages with `rank` shared directions, in the same or in different places."""
    loadings = 4 * rng.normal(size=(n_items, rank))
    place = orthonormal(rng, rank, 30)
    places = [orthonormal(rng, rank, 30) if rotate else place for _ in range(3)]
    return np.stack([loadings @ p for p in places]) + rng.normal(size=(3, n_items, 30))


@pytest.mark.parametrize("rotate", [False, True])
def test_held_out_correlations_find_the_planted_rank_wherever_the_languages_are(rotate):
    rng = np.random.default_rng(0)
    states = planted_shared(rng, 3, 160, rotate)
    found, null = shared_correlations(states[:, :120], states[:, 120:], 30, NO_ORDERS)
    assert found.shape == (N_SHARED,) and null.shape == (0, N_SHARED)
    assert found[:3].min() > 0.7 and np.abs(found[3:]).max() < 0.4


def test_generalised_cca_of_two_languages_is_canonical_correlation():
    rng = np.random.default_rng(0)
    x = planted_shared(rng, 2, 60, True)[:2, :, :5]
    x = x - x.mean(axis=1, keepdims=True)
    white = np.stack([one @ whitening(one, ridge=1e-12) for one in x])
    projected = white @ generalised_cca(white, 5)
    expected = np.linalg.svd(white[0].T @ white[1], compute_uv=False)
    np.testing.assert_allclose(mean_correlation(projected), expected, atol=1e-6)


def test_mean_correlation_is_the_mean_over_pairs():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 20, 1))
    pairs = [np.corrcoef(x[i, :, 0], x[j, :, 0])[0, 1] for i, j in [(0, 1), (0, 2), (1, 2)]]
    assert mean_correlation(x)[0] == pytest.approx(np.mean(pairs))
    assert np.isnan(mean_correlation(np.zeros((3, 20, 1)))[0])


def test_in_sample_correlation_is_1_on_noise_and_the_held_out_one_is_not():
    rng = np.random.default_rng(0)
    states = rng.normal(size=(3, 80, 100))
    x = states[:, :20] - states[:, :20].mean(axis=1, keepdims=True)
    white = np.stack([one @ whitening(one, ridge=1e-9) for one in x])
    assert mean_correlation(white @ generalised_cca(white, 3))[0] > 0.99
    held_out, _ = shared_correlations(states[:, :20], states[:, 20:], 5, NO_ORDERS)
    assert np.isnan(held_out[5:]).all() and abs(held_out[0]) < 0.3


# Separability


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
    accuracy, margin, _ = separability(apart[:, :40], apart[:, 40:], 10, NO_ORDERS)
    assert accuracy > 0.98 and margin > 5
    accuracy, margin, _ = separability(same[:, :40], same[:, 40:], 10, NO_ORDERS)
    assert accuracy == pytest.approx(1 / 3, abs=0.15) and margin < 0


def test_the_margin_still_grows_where_accuracy_is_saturated():
    rng = np.random.default_rng(0)
    noise, offsets = rng.normal(size=(3, 60, 10)), rng.normal(size=(3, 1, 10))
    near, far = (
        separability((noise + d * offsets)[:, :40], (noise + d * offsets)[:, 40:], 10, NO_ORDERS)
        for d in (6, 12)
    )
    assert near[0] == far[0] == 1 and far[1] > 2 * near[1]


# The dataset


RANK, WIDTH, N_ITEMS = 2, 24, 60
FOLDS = np.arange(N_ITEMS) % 4


def planted_layer(rng) -> np.ndarray:
    """Shared items of rank 3, and offsets of rank 2."""
    items = 4 * rng.normal(size=(N_ITEMS, 3)) @ orthonormal(rng, 3, WIDTH)
    offsets = 6 * rng.normal(size=(4, RANK)) @ orthonormal(rng, RANK, WIDTH)
    return items + offsets[:, None] + 0.3 * rng.normal(size=(4, N_ITEMS, WIDTH))


@pytest.fixture(scope="module")
def layers() -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.normal(size=(4, N_ITEMS, WIDTH)), planted_layer(rng), planted_layer(rng)]


@pytest.fixture(scope="module")
def dataset(layers) -> xr.Dataset:
    return subspaces(parallel_states(layers), FOLDS, n_layers=2, permutations=19)


def test_offsets_are_found_with_their_rank(dataset, layers):
    means = layers[1].mean(axis=1)
    np.testing.assert_allclose(dataset["offset"][1], means - means.mean(axis=0), atol=1e-5)
    assert dataset["language_rank"].values[1:].tolist() == [RANK, RANK]
    rebuilt = dataset["offset_coordinate"][1].values @ dataset["basis"][1].values
    np.testing.assert_allclose(rebuilt, dataset["offset"][1], atol=1e-4)
    assert float(dataset["offset_variance"][1].sum()) == pytest.approx(1)
    assert float(dataset["offset_reliability"][1]) > 0.95


def test_offsets_stand_out_of_permuted_labels_where_they_are_planted(dataset):
    assert dataset["offset_p"].values[1:].tolist() == [0.05, 0.05]
    assert float(dataset["offset_p"][0]) > 0.05
    assert dataset["offset_energy_ratio"].values[1] > 10
    assert dataset["offset_energy_ratio"].values[0] == pytest.approx(1, abs=0.5)


def test_costly_measures_are_taken_at_the_layers_asked_for(dataset):
    for name in (
        "overlap_floor",
        "separability",
        "separability_margin",
        "shared_correlation",
        "principal_angle",
    ):
        measured = np.isfinite(dataset[name].values.reshape(3, -1)).any(axis=1)
        assert measured.tolist() == [True, False, True], name


def test_planted_structure_is_found_and_noise_is_not(dataset):
    assert dataset["shared_correlation"].values[2, :3].min() > 0.95
    assert dataset["shared_correlation_p"].values[2, 0] == 0.05
    assert dataset["shared_correlation_p"].values[0, 0] > 0.05
    assert dataset["separability"].values[2] > 0.99
    assert dataset["separability_p"].values[2] == 0.05
    assert dataset["separability_p"].values[0] > 0.05
    assert dataset["separability_null"].values[2] == pytest.approx(0.25, abs=0.08)
    share = dataset["variance_share"].sel(source=["item", "language", "residual"])
    assert share.values[0, 2] > 0.9
    assert share.values[2, 2] < 0.2


def test_the_dataset_survives_its_file(dataset, tmp_path):
    write_netcdf(dataset, tmp_path / "subspaces.nc")
    xr.testing.assert_allclose(open_netcdf(tmp_path / "subspaces.nc"), dataset)


def test_degenerate_layers_are_nan_with_their_reason(layers):
    constant = np.repeat(layers[1][:, :1], N_ITEMS, axis=1)
    d = subspaces(parallel_states([constant, layers[1]]), FOLDS, permutations=9)
    assert str(d["reason"].values[0]).startswith("en: constant over items")
    assert str(d["reason"].values[1]) == ""
    for name in (
        "offset_p",
        "separability",
        "overlap_floor",
        "shared_correlation",
        "overlap",
        "variance_share",
        "separability_p",
        "offset_reliability",
    ):
        assert np.isnan(d[name].values[0]).all(), name
        assert np.isfinite(d[name].values[1]).any(), name


def test_p_values_of_pure_noise_are_not_small_too_often():
    rng = np.random.default_rng(0)
    small: dict[str, list[bool]] = {"offset_p": [], "separability_p": []}
    for seed in range(40):
        states = parallel_states([rng.normal(size=(3, 16, 5))])
        d = subspaces(states, np.arange(16) % 2, permutations=19, seed=seed)
        for name, found in small.items():
            found.append(float(d[name][0]) <= 0.1)
    for name, found in small.items():
        assert np.mean(found) < 0.25, name


def test_what_has_no_subspaces_is_refused(layers):
    good = parallel_states(layers)
    torn = parallel_states(layers, clusters=np.arange(N_ITEMS) // 2)
    for call, words in [
        (lambda: subspaces(parallel_states([x[:1] for x in layers]), FOLDS), "one language"),
        (lambda: subspaces(torn, FOLDS), "whole clusters"),
        (lambda: subspaces(good, np.zeros(N_ITEMS, int)), "items to fit on"),
        (lambda: subspaces(good, np.arange(N_ITEMS)), "a fold of 1 items"),
    ]:
        with pytest.raises(InputError, match=words):
            call()
