"""The dataset of subspaces: planted ranks, spans and shares, calibrated nulls."""

import numpy as np
import pytest
import xarray as xr
from simulated_states import parallel_states

from isogloss.errors import InputError
from isogloss.files.netcdf import open_netcdf, write_netcdf
from isogloss.measures.separability import separability
from isogloss.measures.shared_directions import shared_correlations
from isogloss.measures.subspaces import subspaces


def orthonormal(rng, k: int, width: int) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(width, k)))[0].T


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
        for name, p_values in small.items():
            p_values.append(float(d[name][0]) <= 0.1)
    for name, p_values in small.items():
        assert np.mean(p_values) < 0.25, name


def test_labels_are_permuted_once_for_all_folds(monkeypatch):
    """Folds go up and down together in the data: with draws of each fold's own, p was too small.

    P(p <= .05) of 3 languages that cannot be told, in 720 worlds: .089.
    """
    seen = []

    def read(x, y, orders):
        seen.append([np.stack(part) for part in zip(*orders, strict=True)])
        return separability(x, y, orders)

    monkeypatch.setattr("isogloss.measures.subspaces.separability", read)
    states = parallel_states([np.random.default_rng(0).normal(size=(3, 16, 5))])
    subspaces(states, np.arange(16) % 2, permutations=9)
    (fit, held_out), (fit_2, held_out_2) = seen
    np.testing.assert_array_equal(fit, held_out_2)
    np.testing.assert_array_equal(held_out, fit_2)
    assert (fit != held_out).any()


def test_items_are_paired_anew_once_for_all_folds(monkeypatch):
    """As labels are: with draws of each fold's own, p was too small.

    P(p <= .05) of 2 languages in 6 dimensions that share nothing, in 200 worlds of 40 items: .125.
    """
    seen = []

    def correlated(x, y, shuffles):
        seen.append(
            [[(s.order.tolist(), s.signs.tolist()) for s in p] for p in zip(*shuffles, strict=True)]
        )
        return shared_correlations(x, y, shuffles)

    monkeypatch.setattr("isogloss.measures.subspaces.shared_correlations", correlated)
    states = parallel_states([np.random.default_rng(0).normal(size=(3, 18, 5))])
    subspaces(states, np.arange(18) % 2, permutations=9)
    (fit, held_out), (fit_2, held_out_2) = seen
    assert fit == held_out_2 and held_out == fit_2 and fit != held_out
    assert all(sorted(order) == list(range(9)) for orders, _ in fit for order in orders)


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


def test_a_dataset_of_one_large_cluster_has_no_overlaps_but_the_rest():
    rng = np.random.default_rng(0)
    clusters = np.concatenate([np.zeros(100, int), np.arange(1, 13)])
    fold = np.concatenate([np.zeros(100, int), 1 + np.arange(12) % 2])
    states = parallel_states([rng.normal(size=(2, 112, 20))], clusters)
    result = subspaces(states, fold, n_components=12, permutations=1)
    for name in ("overlap", "overlap_ceiling", "overlap_normalised"):
        assert np.isnan(result[name]).all(), name
    for name in ("overlap_floor", "principal_angle", "separability"):
        assert np.isfinite(result[name]).any(), name


def test_little_memory_changes_no_value(layers, dataset):
    parts = subspaces(parallel_states(layers), FOLDS, n_layers=2, permutations=19, memory_gb=1e-4)
    xr.testing.assert_allclose(parts, dataset, atol=1e-9)


def test_states_in_more_dimensions_than_there_are_states_are_split_as_few_dimensions_are(layers):
    # The same states among dimensions that are all but empty: another way to the same axes.
    rng = np.random.default_rng(0)
    wide = [np.concatenate([x, 1e-3 * rng.normal(size=(4, N_ITEMS, 300))], 2) for x in layers]
    few, many = (
        subspaces(parallel_states(states), FOLDS, n_layers=2, permutations=19)
        for states in (layers, wide)
    )
    for name in ("shared_correlation", "separability"):
        np.testing.assert_allclose(many[name][2], few[name][2], atol=0.03)
