"""The dataset of similarities: planted structure, its means and intervals, degenerate states."""

import numpy as np
import pytest
import xarray as xr
from simulated_states import UNEVEN, clustered_states, parallel_states, planted, spectrum
from threadpoolctl import threadpool_limits

from isogloss.errors import InputError
from isogloss.files.netcdf import open_netcdf, write_netcdf
from isogloss.measures.layer_states import LayerStates
from isogloss.measures.similarity import similarity
from isogloss.measures.statistics import without_bias
from isogloss.questions.items import Item, ParallelItems
from isogloss.questions.prompts import PromptStyle, prompt_clusters, worked_items

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
    pair = dict(layer=2, language=0, language_2=1)
    raw, null = (float(d[name][pair]) for name in ("cosine_raw", "cosine_raw_null"))
    assert float(d["cosine_raw_normalised"][pair]) == pytest.approx((raw - null) / (1 - null))
    assert float(d["cosine_centred_null"][pair]) == pytest.approx(0, abs=0.02)
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


def test_languages_of_which_a_few_items_decide_cka_are_marked():
    """Massive activations beside the first token, in 3 of 60 prompts of the second language."""
    rng = np.random.default_rng(0)
    states = planted(0.6, rng, 3, 60, 40)
    plain = similarity(parallel_states([states] * 3), "en", 19, 19)
    assert float(plain["share_of_few"].max()) < 0.2 and not plain["few_decide"].any()
    states[1, :3, 0] += 100
    massive = similarity(parallel_states([states] * 3), "en", 19, 19)
    assert massive["few_decide"].values.tolist() == [False, True, False]
    assert float(massive["share_of_few"][0, 1]) > 0.8
    # What the mark is for: these lose the language, item share loses a dimension of 40.
    before, after = (d.isel(layer=0, language=0, language_2=1) for d in (plain, massive))
    assert after["cka_pair"] < 0.2 * before["cka_pair"]
    assert after["cosine_centred"] < 0.9 * before["cosine_centred"]
    assert after["item_share_pair"] > 0.95 * before["item_share_pair"]


def test_the_dataset_survives_its_file(planted_dataset, tmp_path):
    write_netcdf(planted_dataset, tmp_path / "similarity.nc")
    again = open_netcdf(tmp_path / "similarity.nc")
    xr.testing.assert_allclose(again, planted_dataset)


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


@pytest.mark.parametrize("clusters", [np.arange(60), UNEVEN])
def test_little_memory_changes_no_value(clusters, monkeypatch):
    rng = np.random.default_rng(0)
    layers = [
        clustered_states(rng, clusters, 5, spectrum(50, 0.3), share, 0.5) for share in (0.1, 0.5)
    ]
    layers[0][3] = 1  # degenerate, in the middle of a block
    layers[1][2, :, 7] = 5  # a dimension that one language lacks
    whole = similarity(parallel_states(layers, clusters), "en", 39, 39)
    rooms = []
    monkeypatch.setattr(LayerStates, "language_blocks", counted(LayerStates.language_blocks, rooms))
    parts = similarity(parallel_states(layers, clusters), "en", 39, 39, memory_gb=2e-4)
    assert max(rooms) == 5  # blocks of one language each
    bounds = [name for name in whole if str(name).endswith(("_low", "_high"))]
    xr.testing.assert_allclose(parts.drop_vars(bounds), whole.drop_vars(bounds), atol=2e-6)
    # What they lie around is rounded as often as there are clusters.
    xr.testing.assert_allclose(parts[bounds], whole[bounds], atol=5e-5)
    for name in ("item_share_pair_p", "cka_pair_p", "dissociation_p"):
        np.testing.assert_array_equal(parts[name], whole[name])


def test_threads_change_no_value():
    clusters = np.arange(60) // 2
    layers = [clustered_states(np.random.default_rng(0), clusters, 5, spectrum(50, 0.3), 0.3, 0.5)]
    results = []
    for threads in (1, 3):
        with threadpool_limits(threads, "blas"):
            results.append(similarity(parallel_states(layers, clusters), "en", 39, 39))
    xr.testing.assert_allclose(*results, rtol=0, atol=1e-9)
    for name in ("item_share_pair_p", "cka_pair_p"):
        np.testing.assert_array_equal(results[0][name], results[1][name])


def counted(method, lengths):
    """A method that also notes how long the lists are which it returns."""

    def noting(*arguments):
        blocks = method(*arguments)
        lengths.append(len(blocks))
        return blocks

    return noting


def test_retrieval_is_taken_at_some_layers_where_only_some_are_wanted(planted_dataset):
    rng = np.random.default_rng(0)
    layers = [planted(share, rng, 3, 60, 40) for share in SHARES]
    some = similarity(parallel_states(layers), "en", 199, 39, retrieval_layers=2)
    measured = np.isfinite(some["retrieval_mean"])
    assert measured.values.tolist() == [True, False, False, False, True]
    xr.testing.assert_allclose(some.sel(layer=[0, 4]), planted_dataset.sel(layer=[0, 4]))
    xr.testing.assert_identical(some["cka_pair"], planted_dataset["cka_pair"])


@pytest.mark.parametrize("clusters", [np.arange(60), np.arange(60) // 2])
def test_worked_items_in_the_prompts_give_unrelated_languages_nothing_in_common(clusters):
    asked = tuple(Item(f"q{i}", "", "which?", ("a", "b"), 0) for i in range(60))
    data, style = ParallelItems("m", {"en": asked}, clusters), PromptStyle("few_shot", {}, shots=3)
    in_prompts = [[index, *worked_items(data, index, style.shots)] for index in range(60)]
    rng, ckas, low = np.random.default_rng(0), [], []
    for _ in range(40):
        states = rng.normal(size=(3, 60, 32))[:, in_prompts].mean(axis=2)
        measured = similarity(parallel_states([states], prompt_clusters(data, style)), "en", 19, 39)
        ckas.append(measured["cka"].item())
        low.append(float(measured["cka_pair_p"].min()) <= 0.05)
    # Worked items that differ from item to item: .50 and all of 40.
    assert np.mean(ckas) == pytest.approx(0, abs=0.01)
    assert np.mean(low) < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 40)


def test_intervals_of_item_share_have_its_bias_taken_off_and_those_of_cka_none():
    rng, sizes = np.random.default_rng(0), np.bincount(UNEVEN)
    states = clustered_states(rng, UNEVEN, 3, (1.0,) * 8, 0.5, within=0.8)
    made = similarity(parallel_states([states] * 3, UNEVEN), "en", 19, 19)
    share, cka = made["dissociation"], made["cka_middle_mean"]
    centre = without_bias(share.values, made["dissociation_without_cluster"].values, sizes)
    for measure, expected in ((share, centre), (cka, float(cka))):
        for over in ("", "_crossed"):
            low, high = (made[f"{measure.name}{over}_{end}"] for end in ("low", "high"))
            assert float(low + high) / 2 == pytest.approx(float(expected), abs=1e-9)
