"""Models side by side: their values, slopes by family, associations, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from isogloss.errors import InputError
from isogloss.files.netcdf import open_netcdf, write_netcdf
from isogloss.measures.associations import BEHAVIOURS, symmetric
from isogloss.measures.model_results import ModelResult
from isogloss.measures.scale import HOLDS_FOR_ITEMS, HOLDS_FOR_SEEDS, MEASURES, SHOWN, scale

LANGUAGES = ["en", "de", "es", "id", "sw", "th", "ja"]
N = len(LANGUAGES)


CLUSTERS = np.arange(12)


def with_ends(name: str, dims: tuple[str, ...], value: np.ndarray | float, rng) -> xr.Dataset:
    """A mean over languages with its bounds, and without each cluster and language."""
    value = np.asarray(value, dtype=float)
    variables = {name: (dims, value)}
    for end, shift in (("low", -0.1), ("high", 0.1), ("crossed_low", -0.3), ("crossed_high", 0.3)):
        variables[f"{name}_{end}"] = (dims, value + shift)
    for unit, n in (("cluster", len(CLUSTERS)), ("language", N)):
        spread = 0.01 * rng.normal(size=(*value.shape, n))
        variables[f"{name}_without_{unit}"] = ((*dims, unit), value[..., None] + spread)
    return xr.Dataset(variables)


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
        coords=names | {"cluster": CLUSTERS},
        attrs={"pivot": "en"},
    )
    for name in ("dissociation", "dissociation_pivot", "cka_middle_mean"):
        similarity = similarity.merge(with_ends(name, (), dissociation, rng))
    behaviour = xr.Dataset(
        {
            "accuracy": ("language", rng.uniform(size=N)),
            "consistency": (pairs, 2 * near + 1),
            "near_chance": ("language", np.arange(N) == N - 1),
            "mostly_alike": ("language", np.zeros(N, dtype=bool)),
            "correct": (("language", "item"), np.zeros((N, 20))),
            "identical_share": ("language", [1, *np.linspace(0.3, 0, N - 1)]),
            **{
                f"lift_{b}": (noise["dims"], rng.normal(size=(2, N, N)))
                for b in ("independent", "difficulty")
            },
        },
        coords=names
        | {
            "cluster": CLUSTERS,
            "sign": ["positive", "negative"],
            "scope": ["all_pairs", "pivot_pairs", "from_pivot", "to_pivot"],
        },
    )
    for mean, dims, value in (
        ("mean_accuracy", (), 0.5),
        ("mean_consistency", ("scope",), [0.1, 0.2, 0.3, 0.4]),
        ("mean_lift_independent", ("sign", "scope"), np.arange(8.0).reshape(2, 4)),
        ("mean_lift_difficulty", ("sign", "scope"), np.arange(8.0).reshape(2, 4)),
    ):
        behaviour = behaviour.merge(with_ends(mean, dims, value, rng))
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


def test_slopes_are_by_family_and_missing_ones_say_why(dataset):
    slope = dataset["slope"].sel(measure="dissociation")
    assert float(slope.sel(family="a")) == pytest.approx(0.05)
    low, high = (dataset[f"slope_{end}"].sel(family="a") for end in ("low", "high"))
    assert (low < dataset["slope"].sel(family="a")).all() and (high > low).all()
    assert (dataset["slope_crossed_high"].sel(family="a") > high).all()
    assert np.isnan(slope.sel(family="b"))
    assert str(dataset["reason"].sel(family="a", measure="dissociation").values) == ""
    assert str(dataset["reason"].sel(family="b", measure="dissociation").values) == (
        "1 size: a slope needs 3"
    )
    assert dataset["n_sizes"].values.tolist() == [3, 1]


def test_means_over_other_pairs_of_languages_give_no_slope(models):
    small = models[0].behaviour.copy(deep=True)
    small["lift_independent"].loc["positive", LANGUAGES[1], LANGUAGES[2]] = np.nan
    compared = scale([replace(models[0], behaviour=small), *models[1:]], permutations=19)
    of_family = compared["reason"].sel(family="a")
    assert "over other pairs of languages" in str(of_family.sel(measure="lift").values)
    for other in ("consistency", "lift_to_pivot", "dissociation"):
        assert str(of_family.sel(measure=other).values) == ""


def test_the_slopes_of_the_figure_are_one_family_of_tests(dataset):
    p, adjusted = (dataset[name].sel(family="a") for name in ("slope_p", "slope_p_holm"))
    assert np.isfinite(p).all()
    assert adjusted["measure"][np.isfinite(adjusted)].values.tolist() == list(SHOWN)
    assert float(adjusted.sel(measure="dissociation")) == pytest.approx(
        min(1, 4 * float(p.sel(measure="dissociation")))
    )


def test_what_a_slope_holds_for_is_said(models, dataset):
    assert dataset["slope_holds_for"].values.tolist() == [HOLDS_FOR_ITEMS] * 2
    seed = result("a-small-2", "a", 1e8, 0.42)
    assert scale([*models, seed], permutations=19)["slope_holds_for"][0] == HOLDS_FOR_SEEDS


def test_two_models_of_two_families_have_points_and_no_slope(models):
    d = scale([models[0], models[3]], permutations=19)
    assert np.isnan(d["slope"]).all()
    assert (d["reason"] != "").all()
    assert d["value"].sel(measure="dissociation").values.tolist() == [0.4, 0.7]


def test_values_are_those_of_the_models(dataset):
    value = dataset["value"].sel(model="b")
    assert float(value.sel(measure="dissociation")) == pytest.approx(0.7)
    assert float(dataset["value_low"].sel(model="b", measure="cka")) == pytest.approx(0.6)
    assert float(dataset["value_crossed_low"].sel(model="b", measure="cka")) == pytest.approx(0.4)
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
    adjusted = dataset["association_adjusted"]
    np.testing.assert_allclose(
        adjusted.sel(similarity="item_share_middle", behaviour="consistency"), 1
    )
    # A pair's accuracy is nothing but that of its languages.
    assert np.isnan(adjusted.sel(behaviour="accuracy")).all()


def test_languages_in_another_order_are_matched_by_name(models, dataset):
    mixed = models[0].behaviour.isel(
        language=[3, 1, 0, 2, 6, 5, 4], language_2=slice(None, None, -1)
    )
    moved = ModelResult("a-small", "a", 1e8, models[0].similarity, mixed, models[0].scores)
    association = scale([moved], permutations=19)["association"][0]
    np.testing.assert_allclose(association, dataset["association"].sel(model="a-small"), atol=1e-12)


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
    items = models[0].similarity.assign_coords(cluster=CLUSTERS + 1)
    others = ModelResult("d", "d", 1, items, models[0].behaviour, models[0].scores)
    for given, words in [
        ([], "no models"),
        ([models[0], others], "other clusters of items"),
        ([models[0]] * 2, "twice"),
        ([models[0], fewer], "other languages"),
    ]:
        with pytest.raises(InputError, match=words):
            scale(given)
