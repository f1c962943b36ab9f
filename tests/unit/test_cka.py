"""Debiased CKA: the U-statistic over clusters, planted nulls, and its jackknife."""

from itertools import permutations, product

import numpy as np
import pytest
from simulated_states import (
    PASSAGES,
    UNEVEN,
    cluster_sizes,
    clustered_states,
    grams_of,
    planted,
    spectrum,
)

from isogloss.measures import cka
from isogloss.measures.shuffles import Shuffle, rare_signs, shuffled_orders


def pair_cka(grams: np.ndarray, clusters: np.ndarray | None = None) -> np.ndarray:
    """`cka.pair_cka` of Gram matrices; every item a cluster where none are given."""
    clusters = np.arange(grams.shape[1]) if clusters is None else clusters
    return cka.pair_cka(cka.centred_over_clusters(grams, clusters))


def left_out_ckas(centred: cka.Centred) -> np.ndarray:
    return cka.cosine(cka.left_out_hsics(centred, centred))


def shuffles(
    clusters: np.ndarray, n_languages: int, n_permutations: int, languages: slice = slice(None)
) -> list[Shuffle]:
    """Shuffled pairings of some of so many languages."""
    drawn = (
        draw(clusters, n_languages, n_permutations, 0) for draw in (shuffled_orders, rare_signs)
    )
    return [Shuffle(o[languages], s[languages]) for o, s in zip(*drawn, strict=True)]


def naive_unbiased_hsic(k: np.ndarray, m: np.ndarray) -> float:
    """Mean over quadruples of distinct items, as Song et al. define the U-statistic."""
    return naive_hsic_over_clusters(k, m, np.arange(len(k)))


def naive_hsic_over_clusters(k: np.ndarray, m: np.ndarray, clusters: np.ndarray) -> float:
    """Mean over quadruples of different clusters of the mean over an item of each."""
    members = [np.flatnonzero(clusters == cluster) for cluster in np.unique(clusters)]
    return float(
        np.mean(
            [
                np.mean(
                    [k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in product(*four)]
                )
                for four in permutations(members, 4)
            ]
        )
    )


def naive_cka(grams: np.ndarray, clusters: np.ndarray) -> float:
    hsic = [[naive_hsic_over_clusters(a, b, clusters) for b in grams] for a in grams]
    return hsic[0][1] / np.sqrt(hsic[0][0] * hsic[1][1])


def song_hsic(k: np.ndarray, m: np.ndarray) -> float:
    """Unbiased HSIC as Song et al. (2012), equation 5, write it."""
    n = len(k)
    k, m = (np.where(np.eye(n, dtype=bool), 0, x) for x in (k, m))
    total = np.trace(k @ m) + k.sum() * m.sum() / ((n - 1) * (n - 2))
    return float((total - 2 / (n - 2) * (k @ m).sum()) / (n * (n - 3)))


def test_single_items_give_the_published_estimator():
    grams = grams_of(planted(0.5, np.random.default_rng(0), 2, 40, 9))
    hsic = [[song_hsic(a, b) for b in grams] for a in grams]
    expected = hsic[0][1] / np.sqrt(hsic[0][0] * hsic[1][1])
    assert pair_cka(grams)[0, 1] == pytest.approx(expected, abs=1e-12)
    grams = grams[:, :8, :8]
    assert song_hsic(*grams) == pytest.approx(naive_unbiased_hsic(*grams), rel=1e-9)


def test_clusters_give_the_u_statistic_over_quadruples_of_them():
    rng = np.random.default_rng(0)
    clusters = np.array([3, 0, 0, 1, 5, 1, 1, 2, 2])
    states = clustered_states(rng, clusters, 2, spectrum(5), shared=0.4, within=0.5)
    assert pair_cka(grams_of(states), clusters)[0, 1] == pytest.approx(
        naive_cka(grams_of(states), clusters), abs=1e-10
    )


def test_where_a_language_lies_makes_no_difference():
    rng = np.random.default_rng(0)
    states = clustered_states(rng, UNEVEN, 2, spectrum(20), shared=0.4, within=0.5)
    moved = states + 30 * rng.normal(size=(2, 1, 20))
    grams = moved @ moved.transpose(0, 2, 1)
    np.testing.assert_allclose(
        pair_cka(grams, UNEVEN), pair_cka(grams_of(states), UNEVEN), atol=1e-8
    )


@pytest.mark.parametrize("width", [64, 256, 1024])
@pytest.mark.parametrize("within", [0.5, 0.9])
@pytest.mark.parametrize("clusters", [np.arange(90) // 3, UNEVEN])
def test_unrelated_languages_have_no_cka_however_their_items_cluster(width, within, clusters):
    rng = np.random.default_rng(0)
    grams = grams_of(clustered_states(rng, clusters, 12, spectrum(width), within=within))
    pairs = pair_cka(grams, clusters)[np.triu_indices(12, 1)]
    error = pairs.std() / np.sqrt(len(pairs))
    assert abs(pairs.mean()) < 3 * error < 0.03
    # What pairs within clusters would make of it.
    assert pair_cka(grams)[np.triu_indices(12, 1)].mean() > 0.1


def test_unrelated_languages_have_no_cka_where_passages_have_two_questions():
    clusters = cluster_sizes(PASSAGES)[:300]
    grams = grams_of(clustered_states(np.random.default_rng(0), clusters, 6, spectrum(256), 0, 0.9))
    pairs = pair_cka(grams, clusters)[np.triu_indices(6, 1)]
    assert abs(pairs.mean()) < 0.02
    assert pair_cka(grams)[np.triu_indices(6, 1)].mean() > 0.1


def test_what_is_shared_is_found_whatever_the_clusters():
    rng = np.random.default_rng(0)
    values = {within: [] for within in (0.0, 0.8)}
    for within, of in values.items():
        for _ in range(40):
            states = clustered_states(rng, UNEVEN, 2, spectrum(40), shared=0.7, within=within)
            of.append(pair_cka(grams_of(states), UNEVEN)[0, 1])
    # Unit Gaussians that correlate by .7 have a CKA of .7^2 in every dimension alike.
    assert np.mean(values[0.0]) == pytest.approx(0.49, abs=0.04)
    assert np.mean(values[0.8]) == pytest.approx(0.49, abs=0.06)


def test_debiased_cka_of_unrelated_languages_is_near_0_where_the_biased_one_is_near_1():
    rng = np.random.default_rng(0)
    values, biased = [], []
    for _ in range(20):
        grams = grams_of(rng.normal(size=(2, 60, 300)))
        values.append(pair_cka(grams)[0, 1])
        biased.append(
            (grams[0] * grams[1]).sum() / np.sqrt((grams[0] ** 2).sum() * (grams[1] ** 2).sum())
        )
    assert abs(np.mean(values)) < 0.02
    assert min(biased) > 0.7


@pytest.mark.parametrize("clusters", [np.arange(18) % 7, np.random.default_rng(0).permutation(18)])
def test_left_out_ckas_equal_those_computed_without_the_cluster(clusters):
    grams = grams_of(planted(0.4, np.random.default_rng(1), 3, 18, 7))
    left_out = left_out_ckas(cka.centred_over_clusters(grams, clusters))
    for cluster, values in zip(np.unique(clusters), left_out, strict=True):
        keep = np.flatnonzero(clusters != cluster)
        direct = pair_cka(grams[:, keep[:, None], keep], clusters[keep])
        np.testing.assert_allclose(values, direct, atol=1e-9)


@pytest.mark.parametrize("clusters", [np.arange(15), np.array([0, 0, 1, 2, 1, *range(3, 13)])])
def test_shuffled_ckas_are_those_of_the_shuffled_states(clusters):
    states = planted(0.5, np.random.default_rng(0), 2, 15, 6)
    drawn = [Shuffle(each.order, np.ones_like(each.signs)) for each in shuffles(clusters, 2, 3)]
    centred = cka.centred_over_clusters(grams_of(states), clusters)
    shuffled = cka.cosine(cka.shuffled_hsics(centred, centred, drawn, drawn))
    for each, values in zip(drawn, shuffled, strict=True):
        np.testing.assert_allclose(values, pair_cka(grams_of(each.of(states)), clusters), atol=1e-6)


@pytest.mark.parametrize("clusters", [np.arange(150), np.arange(150) // 2, np.arange(150) // 35])
def test_languages_in_two_blocks_meet_as_they_do_in_one(clusters):
    states = planted(0.5, np.random.default_rng(0), 5, 150, 6)  # more rows than move at once
    drawn = [shuffles(clusters, 5, 3, some) for some in (slice(5), slice(2), slice(2, 5))]
    each = [cka.centred_over_clusters(gram[None], clusters) for gram in grams_of(states)]
    whole, first, second = map(cka.side_by_side, (each, each[:2], each[2:]))
    apart = cka.shuffled_hsics(first, second, *drawn[1:])
    together = cka.shuffled_hsics(whole, whole, drawn[0], drawn[0])
    for of_blocks, of_all in (
        (cka.hsic(first, second), cka.hsic(whole, whole)),
        (cka.left_out_hsics(first, second), cka.left_out_hsics(whole, whole)),
        (apart, together),
    ):
        np.testing.assert_allclose(of_blocks, of_all[..., :2, 2:], atol=1e-6, rtol=1e-6)


FEW_PASSAGES = np.repeat(np.arange(12), np.arange(4, 16))


def test_a_shuffled_pairing_holds_nothing_of_a_geometry_shared_by_clusters_that_stay():
    rng = np.random.default_rng(0)
    states = clustered_states(rng, FEW_PASSAGES, 2, spectrum(60), shared=0.9, within=0.9)
    centred = cka.centred_over_clusters(grams_of(states), FEW_PASSAGES)
    drawn = shuffles(FEW_PASSAGES, 2, 400)
    null = cka.cosine(cka.shuffled_hsics(centred, centred, drawn, drawn))
    assert null[:, 0, 1].mean() == pytest.approx(0, abs=0.06)
    np.testing.assert_allclose(null[:, 0, 0], 1, atol=1e-5)


@pytest.mark.parametrize("clusters", [FEW_PASSAGES, UNEVEN])
def test_a_shuffled_pairing_of_rare_sizes_tests_a_shared_geometry_at_its_level(clusters):
    rng, p = np.random.default_rng(0), []
    drawn = shuffles(clusters, 2, 99)
    for _ in range(200):
        states = clustered_states(rng, clusters, 2, spectrum(8), within=0.5)
        centred = cka.centred_over_clusters(grams_of(states), clusters)
        null = cka.cosine(cka.shuffled_hsics(centred, centred, drawn, drawn))[:, 0, 1]
        p.append((1 + (null >= cka.pair_cka(centred)[0, 1] - 1e-9).sum()) / 100)
    assert np.mean(np.array(p) <= 0.05) < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)
    assert np.mean(p) == pytest.approx(0.5, abs=0.07)


def test_too_few_clusters_are_refused():
    with pytest.raises(ValueError, match="needs 4 clusters"):
        pair_cka(np.ones((2, 6, 6)), np.arange(6) // 2)
    with pytest.raises(ValueError, match="needs 5 clusters"):
        left_out_ckas(cka.centred_over_clusters(np.ones((2, 4, 4)), np.arange(4)))
