"""Similarity: planted structure, naive implementations, calibrated nulls, degenerate states."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from isogloss.errors import InputError
from isogloss.files.netcdf import open_netcdf, write_netcdf
from isogloss.files.parallel_states import ParallelStates
from isogloss.measures.similarity import (
    cosines,
    csls,
    degenerate_reason,
    jackknife_bounds,
    largest_gallery,
    left_out_ckas,
    left_out_item_shares,
    max_t,
    mean_over_pairs,
    pair_cka,
    pair_item_share,
    retrieval,
    shuffled_ckas,
    shuffled_orders,
    shuffled_pair_shares,
    similarity,
    standardised,
    without_length,
)


def parallel_states(layers: list[np.ndarray], clusters=None, n_tokens=None) -> ParallelStates:
    """States of (language, item, feature) arrays, one a layer."""
    n_languages, n = layers[0].shape[:2]
    return ParallelStates(
        languages=("en", "it", "sw", "th")[:n_languages],
        item_ids=tuple(f"i{i}" for i in range(n)),
        clusters=np.arange(n) if clusters is None else clusters,
        depths=np.linspace(0, 1, len(layers)),
        n_tokens=np.full((n_languages, n), 9) if n_tokens is None else n_tokens,
        at=lambda layer: layers[layer].astype(np.float32),
    )


def planted(share: float, rng, n_languages=3, n_items=40, width=30, distance=3.0) -> np.ndarray:
    """States whose items have `share` of their variance in common, and whose means differ."""
    common = rng.normal(size=(1, n_items, width))
    own = rng.normal(size=(n_languages, n_items, width))
    offsets = distance * rng.normal(size=(n_languages, 1, width))
    return np.sqrt(share) * common + np.sqrt(1 - share) * own + offsets


def item_share(states: np.ndarray) -> float:
    return float(mean_over_pairs(pair_item_share(standardised(states))))


def anova_item_share(states: np.ndarray) -> float:
    """The intraclass correlation from its mean squares, dimension by dimension."""
    n_languages, n_items, width = states.shape
    shares = []
    for d in range(width):
        z = np.array([(x - x.mean()) / x.std() for x in states[..., d]])
        means = z.mean(axis=0)
        ms_item = n_languages * (means**2).sum() / (n_items - 1)
        ms_rest = ((z - means) ** 2).sum() / ((n_items - 1) * (n_languages - 1))
        shares.append((ms_item - ms_rest) / (ms_item + (n_languages - 1) * ms_rest))
    return float(np.mean(shares))


def naive_unbiased_hsic(k: np.ndarray, m: np.ndarray) -> float:
    """Mean over quadruples of distinct items, as Song et al. define the U-statistic."""
    n, total, count = len(k), 0.0, 0
    for i in range(n):
        for j in range(n):
            for q in range(n):
                for r in range(n):
                    if len({i, j, q, r}) == 4:
                        total += k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q])
                        count += 1
    return total / count


def grams_of(states: np.ndarray) -> np.ndarray:
    centred = states - states.mean(axis=1, keepdims=True)
    return centred @ centred.transpose(0, 2, 1)


# Item share


@given(st.integers(0, 10**6), st.integers(2, 5), st.floats(0, 0.9))
def test_item_share_is_the_intraclass_correlation(seed, n_languages, share):
    states = planted(share, np.random.default_rng(seed), n_languages, 12, 5)
    assert item_share(states) == pytest.approx(anova_item_share(states), abs=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_item_share_finds_the_planted_share_whatever_the_width(share):
    rng = np.random.default_rng(0)
    for width in (50, 1000):
        assert item_share(planted(share, rng, 4, 200, width)) == pytest.approx(share, abs=0.03)


def test_item_share_does_not_see_offsets_or_the_scale_of_dimensions():
    rng = np.random.default_rng(0)
    states = planted(0.5, rng)
    moved = states * rng.uniform(0.1, 1e4, size=(3, 1, 30)) + 100 * rng.normal(size=(3, 1, 30))
    assert item_share(moved) == pytest.approx(item_share(states), abs=1e-4)


def test_rotated_languages_share_shape_but_not_place():
    rng = np.random.default_rng(0)
    items = rng.normal(size=(200, 256))
    rotation, _ = np.linalg.qr(rng.normal(size=(256, 256)))
    same, rotated = np.stack([items, items]), np.stack([items, items @ rotation])
    assert item_share(same) > 0.99
    assert abs(item_share(rotated)) < 0.1
    assert pair_cka(grams_of(rotated))[0, 1] == pytest.approx(1, abs=1e-9)


def test_item_share_by_hand():
    # Correlations 1 and -1 in two dimensions; the third is constant and is left out.
    states = np.array([[[1, 1, 7], [2, 2, 7], [3, 3, 7]], [[2, 9, 7], [4, 8, 7], [6, 7, 7]]])
    assert item_share(states.astype(float)) == pytest.approx(0, abs=1e-7)
    assert item_share(states[..., :1].astype(float)) == pytest.approx(1)
    assert np.isnan(item_share(states[..., 2:].astype(float)))


def test_left_out_item_shares_equal_those_computed_without_the_cluster():
    rng = np.random.default_rng(1)
    states, clusters = planted(0.4, rng, 3, 20, 7), np.arange(20) // 2 * 3
    found = left_out_item_shares(standardised(states), clusters)
    for cluster, left in zip(np.unique(clusters), found, strict=True):
        direct = pair_item_share(standardised(states[:, clusters != cluster]))
        np.testing.assert_allclose(left, direct, atol=1e-5)


def test_without_length_takes_out_exactly_what_follows_log_tokens():
    rng = np.random.default_rng(0)
    n_tokens = rng.integers(5, 60, size=(2, 80))
    length = np.log(n_tokens)[..., None] * rng.normal(size=(2, 1, 20)) * 10
    noise = planted(0.0, rng, 2, 80, 20)
    left = without_length(noise + length, n_tokens)
    for residual, tokens in zip(left, n_tokens, strict=True):
        np.testing.assert_allclose(
            (np.log(tokens) - np.log(tokens).mean()) @ residual, 0, atol=1e-8
        )
    np.testing.assert_allclose(left, without_length(noise, n_tokens), atol=1e-8)
    constant = without_length(noise, np.full((2, 80), 9))
    np.testing.assert_allclose(constant, noise - noise.mean(axis=1, keepdims=True))


# Debiased CKA


def test_debiased_cka_is_the_u_statistic_over_distinct_items():
    rng = np.random.default_rng(0)
    grams = grams_of(planted(0.5, rng, 2, 8, 4))
    hsic = [[naive_unbiased_hsic(a, b) for b in grams] for a in grams]
    expected = hsic[0][1] / np.sqrt(hsic[0][0] * hsic[1][1])
    assert pair_cka(grams)[0, 1] == pytest.approx(expected, abs=1e-10)


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


def test_left_out_ckas_equal_those_computed_without_the_cluster():
    rng = np.random.default_rng(1)
    grams, clusters = grams_of(planted(0.4, rng, 3, 18, 7)), np.arange(18) % 7
    found = left_out_ckas(grams, clusters)
    for cluster, left in zip(range(7), found, strict=True):
        keep = np.flatnonzero(clusters != cluster)
        np.testing.assert_allclose(left, pair_cka(grams[:, keep[:, None], keep]), atol=1e-9)


def test_cka_needs_four_items():
    with pytest.raises(ValueError, match="4 items"):
        pair_cka(np.ones((2, 3, 3)))


# Retrieval


def gram_of_all(states: np.ndarray) -> np.ndarray:
    flat = states.reshape(-1, states.shape[2])
    return (flat @ flat.T).reshape(*states.shape[:2], *states.shape[:2])


def test_retrieval_by_hand():
    # Item 0 and 1 find themselves, item 2's nearest is item 0.
    s = np.zeros((2, 3, 2, 3))
    s[0, :, 1] = [[3, 1, 0], [1, 3, 0], [3, 0, 2]]
    accuracy, left_out = retrieval(s, np.arange(3), 3)
    assert accuracy[0, 1] == pytest.approx(2 / 3)
    # Without item 0 all find themselves; without item 2 too; without item 1 one of two does.
    np.testing.assert_allclose(left_out[:, 0, 1], [1, 0.5, 1])
    # Of the two galleries of 2 for item 2, one holds item 0.
    assert retrieval(s, np.arange(3), 2)[0][0, 1] == pytest.approx((1 + 1 + 0.5) / 3)


def test_retrieval_over_fixed_galleries_is_the_mean_over_drawn_ones():
    rng = np.random.default_rng(0)
    states = planted(0.15, rng, 2, 30, 12, distance=0)
    clusters = np.arange(30) // 2
    cosine = cosines(gram_of_all(states))
    exact = retrieval(cosine, clusters, 8)[0][0, 1]
    hits = []
    for _ in range(3000):
        i = rng.integers(30)
        others = rng.choice(np.flatnonzero(clusters != clusters[i]), 7, replace=False)
        hits.append(cosine[0, i, 1, i] > cosine[0, i, 1, others].max())
    assert exact == pytest.approx(np.mean(hits), abs=0.03)


def test_retrieval_at_chance_is_one_in_the_gallery():
    rng = np.random.default_rng(0)
    found = [
        retrieval(cosines(gram_of_all(rng.normal(size=(3, 60, 20)))), np.arange(60), 10)[0]
        for _ in range(10)
    ]
    assert np.mean([mean_over_pairs(f) for f in found]) == pytest.approx(0.1, abs=0.01)


def test_items_of_the_same_cluster_are_never_candidates():
    s = np.zeros((2, 6, 2, 6))
    clusters = np.arange(6) // 2
    s[:, np.arange(6), :, np.arange(6)] = 1
    for i in range(6):
        s[:, i, :, i ^ 1] = 2  # the other item of the cluster is nearer
    assert retrieval(s, clusters, 5)[0][0, 1] == 1
    assert retrieval(s, np.arange(6), 6)[0][0, 1] == 0
    assert largest_gallery(clusters) == 5
    with pytest.raises(ValueError, match="gallery of 6"):
        retrieval(s, clusters, 6)


def test_csls_is_the_published_formula():
    rng = np.random.default_rng(0)
    cosine = cosines(gram_of_all(rng.normal(size=(2, 15, 6))))
    found = csls(cosine, k=4)
    for i, j in [(0, 0), (3, 9), (14, 2)]:
        r_x = np.sort(cosine[0, i, 1])[-4:].mean()
        r_y = np.sort(cosine[1, j, 0])[-4:].mean()
        assert found[0, i, 1, j] == pytest.approx(2 * cosine[0, i, 1, j] - r_x - r_y)


def test_csls_finds_translations_that_a_hub_hides():
    rng = np.random.default_rng(0)
    items = rng.normal(size=(40, 20))
    states = np.stack([items, items + 0.9 * rng.normal(size=items.shape)])
    states[0] += 1.5  # an offset, which makes hubs of what lies in its direction
    cosine = cosines(gram_of_all(states))
    plain = retrieval(cosine, np.arange(40), 40)[0]
    corrected = retrieval(csls(cosine), np.arange(40), 40)[0]
    assert mean_over_pairs(corrected) > mean_over_pairs(plain) + 0.05


# Nulls and intervals


def test_shuffled_orders_keep_clusters_together_and_differ_by_language():
    clusters = np.array([0, 0, 0, 1, 1, 2, 3, 3])
    orders = shuffled_orders(clusters, 2, 200, 0)
    np.testing.assert_array_equal(
        np.sort(orders, axis=-1), np.broadcast_to(np.arange(8), orders.shape)
    )
    runs = (np.diff(clusters[orders], axis=-1) != 0).sum(axis=-1)
    assert (runs == 3).all()
    assert (orders[:, 0] != orders[:, 1]).any(axis=1).mean() > 0.9
    alone = shuffled_orders(np.arange(8), 2, 2000, 0)[:, 1]
    share = (alone[..., None] == np.arange(8)).mean(axis=0)
    np.testing.assert_allclose(share, 1 / 8, atol=0.03)  # uniform


def test_shuffled_shares_are_those_of_the_shuffled_states():
    rng = np.random.default_rng(0)
    z = standardised(planted(0.5, rng, 3, 15, 6))
    orders = shuffled_orders(np.arange(15), 3, 4, 0)
    found = shuffled_pair_shares(gram_of_all(z) / 6, orders)
    for order, shares in zip(orders, found, strict=True):
        moved = np.stack([x[o] for x, o in zip(z, order, strict=True)])
        direct = pair_item_share(moved)
        np.testing.assert_allclose(shares[0, 1:], direct[0, 1:], atol=1e-6)
        assert mean_over_pairs(shares) == pytest.approx(mean_over_pairs(direct), abs=1e-6)


def test_shuffled_ckas_are_those_of_the_shuffled_states():
    rng = np.random.default_rng(0)
    states = planted(0.5, rng, 2, 15, 6)
    orders = shuffled_orders(np.arange(15), 2, 3, 0)
    for order, found in zip(orders, shuffled_ckas(grams_of(states), orders), strict=True):
        moved = np.stack([x[o] for x, o in zip(states, order, strict=True)])
        np.testing.assert_allclose(found, pair_cka(grams_of(moved)), atol=1e-9)


def test_max_t_errs_in_about_one_family_in_twenty_on_pure_noise():
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        maps = rng.normal(size=(100, 30)) * np.linspace(0.1, 9, 30)
        _, threshold, p = max_t(maps[0], maps[1:], 0.95)
        wrong += (p <= 0.05).any()
        np.testing.assert_array_equal(p <= 0.05, maps[0] > threshold)
    assert 0.025 < wrong / 400 < 0.08


def test_max_t_leaves_out_what_has_no_number():
    rng = np.random.default_rng(0)
    observed = np.array([9.0, np.nan, 0.0])
    _, _, p = max_t(observed, rng.normal(size=(99, 3)), 0.95)
    assert p[0] == 0.01 and np.isnan(p[1]) and p[2] > 0.1
    assert np.isnan(max_t(np.array([np.nan]), np.full((9, 1), np.nan), 0.95)[2]).all()


def jackknife_of(statistic, values, clusters):
    """`jackknife_bounds` of a statistic of values, from the data without each cluster."""
    left_out = [statistic(values[clusters != cluster]) for cluster in np.unique(clusters)]
    return jackknife_bounds(statistic(values), np.array(left_out), 0.95)


def test_jackknife_bounds_of_a_mean_are_the_textbook_ones():
    values = np.random.default_rng(0).normal(size=25)
    low, high = jackknife_of(np.mean, values, np.arange(25))
    assert (low, high) == pytest.approx(
        stats.t.interval(0.95, 24, values.mean(), stats.sem(values))
    )


def test_jackknife_bounds_cover_a_statistic_that_compares_items():
    rng = np.random.default_rng(0)
    clusters, held = np.repeat(np.arange(30), 4), []
    for _ in range(80):
        values = rng.normal(size=30)[clusters] + rng.normal(size=120)
        low, high = jackknife_of(lambda kept: kept.var(ddof=1), values, clusters)
        held.append(low <= 2 <= high)
    assert 0.87 <= np.mean(held) <= 1


def test_degenerate_states_say_why():
    rng = np.random.default_rng(0)
    good = rng.normal(size=(20, 5)).astype(np.float32)
    assert degenerate_reason(good) == ""
    rounding = 1000 + 1e-5 * good
    assert degenerate_reason(rounding) == "constant over items"
    assert degenerate_reason(good[np.arange(20) % 3]) == "3 distinct states for 20 items"
    bad = good.copy()
    bad[0, 0] = np.inf
    assert degenerate_reason(bad) == "not finite"


# The dataset


SHARES = (0.0, 0.5, 0.7, 0.5, 0.1)


@pytest.fixture(scope="module")
def planted_dataset() -> xr.Dataset:
    rng = np.random.default_rng(0)
    layers = [planted(share, rng, 3, 60, 40) for share in SHARES]
    return similarity(parallel_states(layers), "en", 199, 39)


def test_the_hump_of_planted_shares_is_found(planted_dataset):
    np.testing.assert_allclose(planted_dataset["item_share"], SHARES, atol=0.05)
    expected = 1 - np.mean(SHARES[1:4])  # depths 0.25, 0.5, 0.75
    assert float(planted_dataset["dissociation"]) == pytest.approx(expected, abs=0.03)
    assert planted_dataset["dissociation_low"] < expected < planted_dataset["dissociation_high"]
    assert float(planted_dataset["dissociation_null"]) == pytest.approx(1, abs=0.01)
    assert float(planted_dataset["dissociation_p"]) == pytest.approx(1 / 200)
    assert str(planted_dataset["dissociation_reason"].values) == ""


def test_maps_are_marked_where_sharing_is_planted_and_nowhere_else(planted_dataset):
    for name in ("item_share_pair", "cka_pair"):
        p = planted_dataset[f"{name}_p"].max(["language", "language_2"])
        assert (p[[1, 2, 3]] <= 0.05).all()
        assert float(p[0]) > 0.05


def test_summaries_are_means_of_their_maps(planted_dataset):
    d = planted_dataset
    for pair, mean, pivot in [
        ("item_share_pair", "item_share", "item_share_pivot"),
        ("cka_pair", "cka", "cka_pivot"),
        ("retrieval", "retrieval_mean", "retrieval_pivot"),
    ]:
        np.testing.assert_allclose(d[mean], d[pair].mean(["language", "language_2"]), atol=1e-6)
        both = [
            d[pair].sel(language="en").mean("language_2"),
            d[pair].sel(language_2="en").mean("language"),
        ]
        np.testing.assert_allclose(d[pivot], (both[0] + both[1]) / 2, atol=1e-6)
    by_language = d["dissociation_by_language"]
    assert np.isnan(by_language.sel(language="en"))
    assert float(by_language.mean()) == pytest.approx(float(d["dissociation_pivot"]))


def test_measures_that_have_a_null_are_put_between_it_and_1(planted_dataset):
    d = planted_dataset
    one = dict(layer=2, language=0, language_2=1)
    raw, null = (float(d[name][one]) for name in ("cosine_raw", "cosine_raw_null"))
    assert float(d["cosine_raw_normalised"][one]) == pytest.approx((raw - null) / (1 - null))
    assert float(d["cosine_centred_null"][one]) == pytest.approx(0, abs=0.02)
    assert float(d["retrieval_chance"]) == pytest.approx(1 / 50)


def test_raw_cosine_is_saturated_by_what_all_states_share_and_centred_cosine_is_not():
    rng = np.random.default_rng(0)
    unrelated = planted(0.0, rng, 2, 40, 30, distance=0) + 100 * rng.normal(size=30)
    d = similarity(parallel_states([unrelated]), "en", 19, 19)
    assert d["cosine_raw"].values[0, 0, 1] > 0.99
    for name in ("cosine_raw_normalised", "cosine_centred", "cosine_centred_normalised"):
        assert abs(d[name].values[0, 0, 1]) < 0.1


def test_retrieval_gives_massive_dimensions_no_more_weight_than_others():
    rng = np.random.default_rng(0)
    states = planted(0.6, rng, 2, 60, 40)
    states[..., 0] = 1e4 * rng.normal(size=(2, 60))  # nothing in common, and huge
    d = similarity(parallel_states([states]), "en", 19, 19)
    assert d["retrieval"].values[0, 0, 1] > 0.9
    assert abs(d["cosine_centred"].values[0, 0, 1]) < 0.3


def test_the_dataset_survives_its_file(planted_dataset, tmp_path):
    write_netcdf(planted_dataset, tmp_path / "similarity.nc")
    again = open_netcdf(tmp_path / "similarity.nc")
    xr.testing.assert_allclose(again, planted_dataset)


def test_the_dissociation_test_is_calibrated_on_pure_noise():
    rng = np.random.default_rng(0)
    p = []
    for seed in range(100):
        z = standardised(rng.normal(size=(3, 20, 6)))
        orders = shuffled_orders(np.arange(20), 3, 99, seed)
        null = mean_over_pairs(shuffled_pair_shares(gram_of_all(z) / 6, orders))
        p.append((1 + (null >= item_share(z)).sum()) / 100)
    assert np.mean(p) == pytest.approx(0.5, abs=0.1)
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.08)


def test_a_shared_length_effect_is_taken_out():
    rng = np.random.default_rng(0)
    n_tokens = np.repeat(rng.integers(5, 60, size=(1, 60)), 2, axis=0)
    effect = 3 * np.log(n_tokens)[..., None] * rng.normal(size=20)
    layers = [planted(0.0, rng, 2, 60, 20) + effect for _ in range(3)]
    d = similarity(parallel_states(layers, n_tokens=n_tokens), "en", 19, 19)
    assert float(d["item_share"][1]) > 0.4
    assert abs(float(d["item_share_length_adjusted"][1])) < 0.08
    assert float(d["dissociation_length_adjusted"]) > 0.92


def test_degenerate_layers_are_nan_with_their_reason_and_cost_the_others_nothing():
    rng = np.random.default_rng(0)
    layers = [planted(0.5, rng, 3, 30, 10) for _ in range(3)]
    clean = similarity(parallel_states(layers), "en", 19, 19)
    layers[0] = np.repeat(layers[0][:, :1], 30, axis=1)  # a fixed last token
    half = layers[2].copy()
    half[2] = half[2][np.arange(30) % 4]
    layers[2] = half
    d = similarity(parallel_states(layers), "en", 19, 19)
    assert str(d["reason"][0].values).startswith("en: constant over items; it:")
    assert str(d["reason"][2].values) == "sw: 4 distinct states for 30 items"
    for name in ("item_share", "cka", "retrieval_mean", "item_share_length_adjusted"):
        assert np.isnan(d[name].values[[0, 2]]).all() and np.isfinite(d[name].values[1])
    for name in (
        "item_share_pair",
        "cka_pair",
        "cosine_centred",
        "cosine_raw",
        "retrieval",
        "retrieval_csls",
    ):
        pairs = d[name].values[2]
        assert np.isfinite(pairs[0, 1]) and np.isnan(pairs[0, 2]) and np.isnan(pairs[2, 0])
        assert pairs[0, 1] == pytest.approx(clean[name].values[2, 0, 1], abs=1e-5)
    assert float(d["dissociation"]) == pytest.approx(float(clean["dissociation"]))


def test_a_degenerate_middle_layer_leaves_no_dissociation_score():
    rng = np.random.default_rng(0)
    layers = [planted(0.5, rng, 2, 20, 6) for _ in range(3)]
    layers[1] = np.ones_like(layers[1])
    d = similarity(parallel_states(layers), "en", 19, 19)
    assert np.isnan(d["dissociation"]) and np.isnan(d["dissociation_p"])
    assert "constant" in str(d["dissociation_reason"].values)
    none = similarity(parallel_states([layers[0], layers[2]]), "en", 19, 19)
    assert np.isnan(none["dissociation"])
    assert "no layer" in str(none["dissociation_reason"].values)
    assert set(none.data_vars) == set(d.data_vars)


def test_too_little_to_compare_is_refused():
    rng = np.random.default_rng(0)
    layers = [planted(0.5, rng, 2, 20, 6)]
    with pytest.raises(InputError, match="pivot 'xx'"):
        similarity(parallel_states(layers), "xx")
    with pytest.raises(InputError, match="4 clusters"):
        similarity(parallel_states(layers, clusters=np.arange(20) % 4), "en")
