"""Retrieval: exact over galleries of one item a cluster, at chance where nothing is shared."""

import numpy as np
import pytest
from simulated_states import UNEVEN, clustered_states, planted, spectrum

from isogloss.measures.retrieval import (
    Galleries,
    candidates,
    hubness,
    largest,
    largest_gallery,
    retrieval_of_pairs,
    unit_states,
)


def retrieval(
    similarities: np.ndarray, clusters: np.ndarray, gallery: int
) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy (pair,), and with each cluster left out (cluster, pair)."""
    return Galleries(clusters, gallery).retrieval(similarities)


def cosines(states: np.ndarray) -> np.ndarray:
    """Cosines (pair, item, item) of every ordered pair of languages (language, item, feature)."""
    units, n = unit_states(states), len(states)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    return np.stack([units[i] @ units[j].T for i, j in pairs])


def csls(cosine: np.ndarray, k: int = 10) -> np.ndarray:
    """Cosines (pair, item, item) corrected for hubs, as published."""
    columns = hubness(cosine.transpose(0, 2, 1), k)
    return 2 * cosine - hubness(cosine, k)[:, :, None] - columns[:, None]


def test_retrieval_by_hand():
    # Item 0 and 1 find themselves, item 2's nearest is item 0.
    s = np.array([[[3, 1, 0], [1, 3, 0], [3, 0, 2]]])
    accuracy, left_out = retrieval(s, np.arange(3), 3)
    assert accuracy[0] == pytest.approx(2 / 3)
    # Without item 0 all find themselves; without item 2 too; without item 1 one of two does.
    np.testing.assert_allclose(left_out[:, 0], [1, 0.5, 1])
    # Of the two galleries of 2 for item 2, one holds item 0.
    assert retrieval(s, np.arange(3), 2)[0][0] == pytest.approx((1 + 1 + 0.5) / 3)


def test_retrieval_over_fixed_galleries_is_the_mean_over_drawn_ones():
    rng = np.random.default_rng(0)
    states = planted(0.15, rng, 2, 30, 12, distance=0)
    clusters = np.arange(30) // 2
    cosine = cosines(states)[0]
    exact = retrieval(cosine[None], clusters, 8)[0][0]
    hits = []
    for _ in range(3000):
        i = rng.integers(30)
        drawn = rng.choice(np.setdiff1d(clusters, clusters[i]), 7, replace=False)
        others = 2 * drawn + rng.integers(2, size=7)
        hits.append(cosine[i, i] > cosine[i, others].max())
    assert exact == pytest.approx(np.mean(hits), abs=0.03)


def test_retrieval_at_chance_is_one_in_the_gallery():
    rng = np.random.default_rng(0)
    rates = [
        retrieval(cosines(rng.normal(size=(3, 60, 20))), np.arange(60), 10)[0] for _ in range(10)
    ]
    assert np.mean(rates) == pytest.approx(0.1, abs=0.01)


def test_items_of_the_same_cluster_are_never_candidates():
    s, clusters = np.eye(6)[None], np.arange(6) // 2
    for i in range(6):
        s[0, i, i ^ 1] = 2  # the other item of the cluster is nearer
    assert retrieval(s, clusters, 3)[0][0] == 1
    assert retrieval(s, np.arange(6), 6)[0][0] == 0
    assert largest_gallery(clusters) == 3
    with pytest.raises(ValueError, match="gallery of 4"):
        retrieval(s, clusters, 4)


@pytest.mark.parametrize("clusters", [np.arange(60) // 3, UNEVEN])
@pytest.mark.parametrize("how", [lambda cosine: cosine, csls])
def test_unrelated_languages_are_at_chance_however_their_items_cluster(clusters, how):
    rng, gallery = np.random.default_rng(0), largest_gallery(clusters)
    times_chance = []
    for _ in range(40):
        states = clustered_states(rng, clusters, 4, spectrum(64), within=0.9)
        accuracy = retrieval(how(cosines(states)), clusters, gallery)[0]
        times_chance.append(gallery * accuracy.mean())
    error = np.std(times_chance) / np.sqrt(len(times_chance))
    assert np.mean(times_chance) == pytest.approx(1, abs=3 * error) and error < 0.1


def test_left_out_retrieval_equals_that_without_the_cluster():
    rng = np.random.default_rng(0)
    clusters = np.array([4, 0, 0, 1, 2, 1, 0, 3, 5, 2, 6, 7])
    cosine = cosines(planted(0.3, rng, 3, 12, 5, distance=0))
    for gallery in (1, 4, 8):
        left_out = retrieval(cosine, clusters, gallery)[1]
        for cluster, values in zip(np.unique(clusters), left_out, strict=True):
            keep = np.flatnonzero(clusters != cluster)
            rest = cosine[:, keep][:, :, keep]
            # The largest cluster has three items, with or without another: as many galleries.
            if cluster != 0:
                direct = retrieval(rest, clusters[keep], min(gallery, 7))[0]
                np.testing.assert_allclose(values, direct, atol=1e-6)


def test_both_ways_between_a_language_and_others_are_looked_up_as_each_alone():
    rng, clusters = np.random.default_rng(0), np.arange(24) // 2
    units = unit_states(planted(0.2, rng, 3, 24, 5, distance=0))
    both = retrieval_of_pairs(units[1:], units[0], Galleries(clusters, 6))
    for number, (rows, columns) in enumerate((((1, 2), (0, 0)), ((0, 0), (1, 2)))):
        alone = np.stack([units[a] @ units[b].T for a, b in zip(rows, columns, strict=True)])
        accuracy, left_out, corrected = both[number]
        direct = retrieval(alone, clusters, 6)
        np.testing.assert_allclose(accuracy, direct[0])
        np.testing.assert_allclose(left_out, direct[1])
        np.testing.assert_allclose(corrected, retrieval(csls(alone), clusters, 6)[0])


@pytest.mark.parametrize("n_items", [7, 30, 95, 240])
def test_the_largest_are_those_of_a_sorted_row_ties_included(n_items):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 9, n_items)).round(1).astype(np.float32)
    for given in (values, values.transpose(0, 2, 1)):
        k = min(6, given.shape[2])
        np.testing.assert_array_equal(
            np.sort(largest(given, k), axis=2), np.sort(given, axis=2)[..., -k:]
        )


def test_every_item_of_a_cluster_is_a_candidate_in_turn():
    drawn = candidates(np.array([1, 0, 0, 2, 0]))
    assert drawn.tolist() == [[1, 0, 3], [2, 0, 3], [4, 0, 3]]


def test_csls_is_the_published_formula():
    cosine = cosines(np.random.default_rng(0).normal(size=(2, 15, 6)))
    scores = csls(cosine, k=4)
    for i, j in [(0, 0), (3, 9), (14, 2)]:
        r_x = np.sort(cosine[0, i])[-4:].mean()
        r_y = np.sort(cosine[1, j])[-4:].mean()
        assert scores[0, i, j] == pytest.approx(2 * cosine[0, i, j] - r_x - r_y)


def test_csls_finds_translations_that_a_hub_hides():
    rng = np.random.default_rng(0)
    items = rng.normal(size=(40, 20))
    states = np.stack([items, items + 0.9 * rng.normal(size=items.shape)])
    states[0] += 1.5  # an offset, which makes hubs of what lies in its direction
    cosine = cosines(states)
    plain = retrieval(cosine, np.arange(40), 40)[0]
    corrected = retrieval(csls(cosine), np.arange(40), 40)[0]
    assert corrected.mean() > plain.mean() + 0.05
