"""Scale: planted slopes and associations, and no slope where there can be none."""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import spearmanr

from isogloss.errors import InputError
from isogloss.files.netcdf import open_netcdf, write_netcdf
from isogloss.measures.scale import (
    BEHAVIOURS,
    MEASURES,
    ModelResult,
    rank_correlation,
    scale,
    slope_per_decade,
    symmetric,
    tokens_per_character,
)

LANGUAGES = ["en", "de", "es", "id", "sw", "th", "ja"]
N = len(LANGUAGES)


def result(slug: str, family: str, parameters: float, dissociation: float) -> ModelResult:
    """A model whose near languages are consistent, and whose other behaviour is noise."""
    rng = np.random.default_rng(round(100 * dissociation))
    near = symmetric(rng.uniform(size=(N, N)))
    noise = {"dims": ("sign", "language", "language_2")}
    pairs = ("language", "language_2")
    names = {"language": LANGUAGES, "language_2": LANGUAGES}
    similarity = xr.Dataset(
        {
            "item_share_middle": (pairs, near),
            "cka_middle": (pairs, symmetric(rng.uniform(size=(N, N)))),
            "dissociation_by_language": ("language", [np.nan, *np.linspace(0.2, 0.8, N - 1)]),
        },
        coords=names,
        attrs={"pivot": "en"},
    )
    for name in ("dissociation", "dissociation_pivot", "cka_middle_mean"):
        for end, shift in (("", 0), ("_low", -0.1), ("_high", 0.1)):
            similarity[name + end] = dissociation + shift
    behaviour = xr.Dataset(
        {
            "accuracy": ("language", rng.uniform(size=N)),
            "consistency": (pairs, 2 * near + 1),
            "identical_share": ("language", [1, *np.linspace(0.3, 0, N - 1)]),
            **{
                f"lift_{b}": (noise["dims"], rng.normal(size=(2, N, N)))
                for b in ("independent", "difficulty")
            },
        },
        coords=names
        | {
            "sign": ["positive", "negative"],
            "scope": ["all_pairs", "pivot_pairs", "from_pivot", "to_pivot"],
        },
    )
    for end in ("", "_low", "_high"):
        behaviour[f"mean_accuracy{end}"] = 0.5
        behaviour[f"mean_consistency{end}"] = ("scope", [0.1, 0.2, 0.3, 0.4])
        for name in ("independent", "difficulty"):
            behaviour[f"mean_lift_{name}{end}"] = (("sign", "scope"), np.arange(8.0).reshape(2, 4))
    scores = xr.Dataset(
        {
            "n_tokens": (("language", "item", "choice"), np.full((N, 2, 2), 3.0)),
            "n_characters": (
                ("language", "item", "choice"),
                np.broadcast_to(np.arange(1, N + 1)[:, None, None] * 3.0, (N, 2, 2)),
            ),
        },
        coords={"language": LANGUAGES},
    )
    scores["n_tokens"][:, 0, 1] = np.nan
    scores["n_characters"] = scores["n_characters"].where(scores["n_tokens"].notnull())
    return ModelResult(slug, family, parameters, similarity, behaviour, scores)


@pytest.fixture(scope="module")
def models() -> list[ModelResult]:
    return [
        result("a-small", "a", 1e8, 0.40),
        result("a-middle", "a", 1e9, 0.45),
        result("a-large", "a", 1e10, 0.50),
        result("b", "b", 3e8, 0.7),
    ]


@pytest.fixture(scope="module")
def dataset(models) -> xr.Dataset:
    return scale(models, permutations=199)


def test_a_planted_slope_is_found_with_an_interval_that_holds_it():
    rng = np.random.default_rng(0)
    parameters = np.logspace(8, 11, 7)
    held = 0
    for _ in range(300):
        values = 0.2 + 0.05 * np.log10(parameters) + 0.02 * rng.normal(size=7)
        slope, low, high, _, reason = slope_per_decade(parameters, values)
        held += low < 0.05 < high
        assert reason == "" and low < slope < high
    assert 0.91 < held / 300 < 0.985


@pytest.mark.parametrize(
    "parameters, values, why",
    [
        ([1e8], [0.1], "1 size: a slope needs 3"),
        ([1e8, 1e9], [0.1, 0.2], "2 sizes: a slope needs 3"),
        ([1e8, 1e8, 1e9], [0.1, 0.2, 0.3], "2 sizes: a slope needs 3"),
        ([1e8, 1e9, 1e10], [0.1, np.nan, 0.3], "2 sizes: a slope needs 3"),
    ],
)
def test_fewer_than_three_sizes_have_no_slope_and_say_why(parameters, values, why):
    *numbers, reason = slope_per_decade(np.array(parameters), np.array(values))
    assert np.isnan(numbers).all() and reason == why


def test_slopes_are_by_family_and_missing_ones_say_why(dataset):
    slope = dataset["slope"].sel(measure="dissociation")
    assert float(slope.sel(family="a")) == pytest.approx(0.05)
    assert np.isnan(slope.sel(family="b"))
    assert str(dataset["reason"].sel(family="a", measure="dissociation").values) == ""
    assert str(dataset["reason"].sel(family="b", measure="dissociation").values) == (
        "1 size: a slope needs 3"
    )
    assert dataset["n_sizes"].values.tolist() == [3, 1]


def test_two_models_of_two_families_have_points_and_no_slope(models):
    d = scale([models[0], models[3]], permutations=19)
    assert np.isnan(d["slope"]).all()
    assert (d["reason"] != "").all()
    assert d["value"].sel(measure="dissociation").values.tolist() == [0.4, 0.7]


def test_values_are_those_of_the_models(dataset):
    value = dataset["value"].sel(model="b")
    assert float(value.sel(measure="dissociation")) == pytest.approx(0.7)
    assert float(dataset["value_low"].sel(model="b", measure="cka")) == pytest.approx(0.6)
    assert float(value.sel(measure="consistency")) == 0.1
    assert float(value.sel(measure="lift")) == 0
    assert float(value.sel(measure="lift_to_pivot")) == 3
    assert dataset["measure"].values.tolist() == list(MEASURES)
    assert dataset["family_of"].values.tolist() == ["a", "a", "a", "b"]


def test_the_planted_association_is_found_and_no_other(dataset):
    planted = dataset["association"].sel(similarity="item_share_middle", behaviour="consistency")
    np.testing.assert_allclose(planted, 1)
    p = dataset["association_p"]
    assert (p.sel(similarity="item_share_middle", behaviour="consistency") <= 0.02).all()
    others = p.sel(behaviour=[b for b in BEHAVIOURS if b != "consistency"])
    assert float((others <= 0.05).mean()) < 0.25
    assert (dataset["association_p_holm"] >= p).all()


def test_languages_in_another_order_are_matched_by_name(models, dataset):
    mixed = models[0].behaviour.isel(
        language=[3, 1, 0, 2, 6, 5, 4], language_2=slice(None, None, -1)
    )
    moved = ModelResult("a-small", "a", 1e8, models[0].similarity, mixed, models[0].scores)
    found = scale([moved], permutations=19)["association"][0]
    np.testing.assert_allclose(found, dataset["association"].sel(model="a-small"), atol=1e-12)


def test_covariates_of_languages(dataset):
    assert dataset["script"].values.tolist()[:5] == ["Latn"] * 5
    covariate = dataset["covariate"].sel(model="b")
    same = covariate.sel(covariate_name="same_script").values
    assert same.tolist() == [1, 1, 1, 1, 1, 0, 0]
    cost = covariate.sel(covariate_name="tokens_per_character").values
    np.testing.assert_allclose(cost, 1 / np.arange(1, N + 1))
    distance = covariate.sel(covariate_name="typological_distance").values
    assert distance[0] == pytest.approx(0, abs=1e-6)
    rho = dataset["covariate_correlation"].sel(model="b")
    assert float(rho.sel(covariate_name="string_identity")) == pytest.approx(-1)
    assert float(dataset["covariate_p"].sel(model="b", covariate_name="string_identity")) < 0.05


def test_tokens_per_character_counts_what_there_is():
    scores = xr.Dataset(
        {
            "n_tokens": (("language", "item", "choice"), [[[2.0, np.nan], [4.0, 3.0]]]),
            "n_characters": (("language", "item", "choice"), [[[5.0, np.nan], [6.0, 7.0]]]),
        }
    )
    assert float(tokens_per_character(scores)[0]) == pytest.approx(9 / 18)


def test_rank_correlation_is_spearmans_and_calibrated():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 9))
    y[2] = y[3]
    assert rank_correlation(x, y)[0] == pytest.approx(spearmanr(x, y).statistic)
    small = [
        rank_correlation(*rng.normal(size=(2, 8)), n_perm=99, seed=i)[1] <= 0.1 for i in range(300)
    ]
    assert 0.05 < np.mean(small) < 0.16


def test_rank_correlation_of_too_few_languages_or_a_constant_is_no_number():
    x = np.arange(8.0)
    assert np.isnan(rank_correlation(x, np.ones(8))).all()
    assert np.isnan(rank_correlation(x, np.where(x < 4, x, np.nan))).all()


def test_the_dataset_survives_its_file(dataset, tmp_path):
    write_netcdf(dataset, tmp_path / "scale.nc")
    xr.testing.assert_allclose(open_netcdf(tmp_path / "scale.nc"), dataset)


def test_models_that_cannot_stand_side_by_side_are_refused(models):
    fewer = ModelResult(
        "c",
        "c",
        1,
        models[0].similarity.isel(language=slice(3)),
        models[0].behaviour,
        models[0].scores,
    )
    for given, words in [
        ([], "no models"),
        ([models[0]] * 2, "twice"),
        ([models[0], fewer], "other languages"),
    ]:
        with pytest.raises(InputError, match=words):
            scale(given)
