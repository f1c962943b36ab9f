"""Language offsets: their rank, their energy, and its calibrated null."""

import tracemalloc

import numpy as np
import pytest
from simulated_states import clustered_states, spectrum

from isogloss.measures.language_offsets import language_rank, offset_energy
from isogloss.measures.shuffles import label_orders


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
    energies = offset_energy(states - states.mean(axis=0), orders)
    oracle = energy_by_gram(states - states.mean(axis=0), orders)
    np.testing.assert_allclose(energies, oracle, rtol=1e-9)
    for order, energy in zip(orders, energies, strict=True):
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
