"""The summary: its table holds every model, dataset and language, and null results their power."""

import json

import h5py
import numpy as np
import pytest
import xarray as xr
from tests.simulated_states import clustered_states, parallel_states
from tests.simulated_worlds import Wordings

from isogloss.errors import InputError
from isogloss.figures.summary import Result, default_steering, findings, main_table, summary
from isogloss.files.canonical import canonical_json
from isogloss.files.netcdf import write_netcdf
from isogloss.measures.variant_states import variant_similarity
from isogloss.measures.variants import variants
from isogloss.measures.verdicts import LONG_NAMES
from isogloss.store.manifests import write_manifest
from summary import results_of

LANGUAGES = ["de", "en", "sw"]
MODEL = "gemma-3-270m (converted from 4-bit GGUF (Q4_K_M))"


def with_bounds(name, dims, values, half=0.05):
    values = np.asarray(values, float)
    return {
        name: (dims, values),
        f"{name}_low": (dims, values - half),
        f"{name}_high": (dims, values + half),
    }


def behaviour(lift=0.1):
    pair = ("language", "language_2")
    data = with_bounds("accuracy", "language", [0.5, 0.9, 0.25])
    data |= with_bounds("consistency", pair, np.full((3, 3), 0.3))
    for name, value in (("transfer", 0.6), ("lift_independent", lift)):
        data |= with_bounds(name, ("sign", *pair), np.full((2, 3, 3), value))
    data |= with_bounds("mean_accuracy", (), 0.55)
    data |= with_bounds("mean_consistency", ("scope",), [0.3])
    data |= with_bounds("mean_lift_independent", ("sign", "scope"), np.full((2, 1), lift))
    data |= {"chance": ((), 0.25), "near_chance": ("language", np.array([0, 0, 1], np.int8))}
    data |= {"mostly_alike": ("language", np.zeros(3, np.int8))}
    data |= {"correct": (("language", "item"), np.zeros((3, 120)))}
    coords = {"language": LANGUAGES, "language_2": LANGUAGES}
    coords |= {"sign": ["positive", "negative"], "scope": ["all_pairs"]}
    attrs = {"pivot": "en", "confidence": 0.95, "n_clusters": 87}
    return xr.Dataset(data, coords=coords, attrs=attrs)


def similarity():
    data = with_bounds("dissociation_by_language", "language", [0.4, np.nan, 0.87])
    data |= with_bounds("dissociation", (), 0.61) | with_bounds("cka_middle_mean", (), 0.3)
    for name, value in (("dissociation", 0.61), ("cka_middle_mean", 0.3)):
        bounds = with_bounds(f"{name}_crossed", (), value, half=0.15)
        data |= {end: bounds[end] for end in bounds if end != f"{name}_crossed"}
    data |= {"dissociation_null": ((), 1.0), "dissociation_p": ((), 0.001)}
    data |= {"few_decide": ("language", np.zeros(3, np.int8))}
    return xr.Dataset(data, coords={"language": LANGUAGES})


def steering(effects=((-0.06, 0.02),), p_holm=0.5, primary=None):
    """Effects of two methods in German; `primary` is the first one's p in its own family."""
    dims = ("language", "method")
    data = with_bounds("effect", dims, effects)
    data |= {"p_holm": (dims, np.full((1, 2), p_holm))}
    data |= {"minimum_detectable_effect": (dims, np.array([[0.1, 0.12]]))}
    data |= with_bounds("pooled_effect", ("method",), effects[0])
    data |= {"pooled_p_holm": ("method", np.full(2, p_holm))}
    data |= {"pooled_minimum_detectable_effect": ("method", np.full(2, 0.05))}
    primary_p = p_holm if primary is None else primary
    data |= {"primary_p_holm": ("language", [primary_p]), "pooled_primary_p": ((), primary_p)}
    data |= {"primary_minimum_detectable_effect": ("language", [0.09])}
    data |= {"pooled_primary_minimum_detectable_effect": ((), 0.04)}
    methods = ["mean_difference", "shared_projection"]
    data |= {"zero_same_batch_difference": ("language", [0.0])}
    data |= {"flipped_right": (dims, [[3, 9]]), "flipped_wrong": (dims, [[4, 9]])}
    data |= {f"zero_flipped_{way}": ("language", [1]) for way in ("right", "wrong")}
    data |= {"unsteered_max_abs_difference": ("language", [0.39])}
    data |= {"norm_ratio": (dims, [[1.02, 1.5]]), "overhead": (dims, [[0.004, 0.5]])}
    data |= {"forward_seconds": ("language", [0.0125])}
    data |= {"evaluation_seconds": ("language", [71.6])}
    attrs = {"default_method": methods[0], "confidence": 0.95}
    return xr.Dataset(data, coords={"language": ["de"], "method": methods}, attrs=attrs)


def record(largest, phrases):
    return {
        "precision": {"largest": largest, "mean": largest / 4, "phrases": phrases},
        "self_test": {"lens": {"difference": 0.06, "allowed": 0.25}},
        "licence": {"model": "Gemma Terms of Use"},
        "seconds": 3.0,
        "truncated_prompts": 1,
        "excluded_items": {"ids": 0, "repeated_choices": 9},
    }


def result(**changes):
    datasets = {
        "behaviour": behaviour(),
        "similarity": similarity(),
        "steering": {"everyday": steering()},
        "records": {"de": record(0.4, 10), "sw": record(0.8, 30)},
    }
    return Result(MODEL, "everyday", **(datasets | changes))


def text_of(results):
    """The summary, with a table of verdicts of which there are none."""
    verdicts = xr.Dataset({name: ("row", []) for name in LONG_NAMES})
    about = {"dataset": "everyday", "pivot": "en", "n_tests": 0, "default_method": ""}
    return summary(results, "default", verdicts.assign_attrs(about), {})


def table_of(text, heading):
    """Cells of the Markdown table below a heading: rows, the header first."""
    lines = text.split(f"## {heading}", 1)[1].split("|\n\n")[0].split("\n")
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    return [row for row in rows if set(row) != {"---"}]


def test_cka_that_a_few_questions_decide_is_marked_wherever_it_is_read():
    assert "‡" not in text_of([result()]).split("‡ marks languages")[0]
    few = similarity()
    few["few_decide"].loc[{"language": "de"}] = 1
    text = text_of([result(similarity=few)])
    rows = table_of(text, "everyday: main table")
    assert [row[1].endswith("‡") for row in rows[1:]] == [False, True, False]
    overall = text.split("Means over languages and their pairs.")[1].split("## ")[0]
    assert "0.30 [0.25, 0.35] ‡ | [0.15, 0.45] ‡ |" in overall


def test_the_main_table_has_a_row_a_model_and_language_with_the_pivot_first():
    rows = table_of(text_of([result()]), "everyday: main table")
    assert [row[1] for row in rows] == ["language", "English", "German", "Swahili *"]
    assert {row[0] for row in rows[1:]} == {MODEL}
    assert {len(row) for row in rows} == {9}


def test_values_stand_in_their_columns_with_intervals():
    header, pivot, german, _ = table_of(text_of([result()]), "everyday: main table")
    cells = dict(zip(header, german, strict=True))
    assert cells["accuracy [%]"] == "50 [45, 55]"
    assert cells["lift [points]"] == "+10.0 [+5.0, +15.0]"
    assert cells["dissociation from English"] == "0.40 [0.35, 0.45]"
    assert cells["steering"] == "mean difference (everyday)"
    assert cells["its effect [points]"] == "−6.0 [−11.0, −1.0]"
    assert pivot[3:] == ["–"] * 6


def test_steering_stands_by_language_with_what_it_took():
    header, german = table_of(text_of([result()]), "everyday: steering by language")
    cells = dict(zip(header, german, strict=True))
    assert cells["accuracy [points]"] == "−6.0 [−11.0, −1.0]" and cells["language"] == "German"
    assert cells["items flipped right, wrong"] == "3, 4"
    assert cells["norm, steered over before"] == "1.02"
    assert cells["forward [ms per question]"] == "12.50" and cells["steering adds [%]"] == "0.40"
    assert cells["all settings and controls [s]"] == "72"
    assert "Controls are run at the method's layer and strength" in text_of([result()])
    searched = steering().assign_attrs(controls_search=1)
    assert "Controls choose their own" in text_of([result(steering={"everyday": searched})])
    assert "steering by language" not in text_of([result(steering={})])


def test_the_csv_table_keeps_the_numbers_unrounded():
    table = main_table([result()]).set_index("language")
    assert table.loc["de", "steering_effect"] == -0.06
    assert table.loc["de", "steering_primary_minimum_detectable_effect"] == 0.09
    assert table.loc["de", "steering_primary_p_holm"] == 0.5
    assert not {"steering_p_holm", "steering_minimum_detectable_effect"} & set(table)
    assert table["near_chance"].to_dict() == {"en": False, "de": False, "sw": True}
    assert np.isnan(table.loc["en", "consistency_with_pivot"])


def test_steering_is_that_of_the_first_method_and_vectors_even_where_others_do_better():
    both = {"lexicon": steering(((-0.06, 0.02),)), "everyday": steering(((0.03, 0.05),))}
    shown = default_steering(result(steering=both), "de")
    assert (shown["fitted"], shown["method"]) == ("lexicon", "mean_difference")
    assert shown["effect"] == -0.06
    assert default_steering(result(), "sw") == {}
    assert default_steering(result(steering={}), "de") == {}


def test_null_results_say_what_would_have_been_detected():
    lines = list(findings(result(behaviour=behaviour(lift=0.01))))
    assert "transfer beyond accuracy is not significant" in lines[0]
    assert "7.1 points would have been detected with 80% power" in lines[0]
    assert "effect of 9 points would" in lines[2] and "effect of 12 points would" in lines[3]
    assert "4 points detectable" in lines[2] and "5 points detectable" in lines[3]
    assert all("not significant in any language" in line for line in lines[2:])


def test_significant_effects_are_not_called_null():
    lines = list(findings(result(steering={"everyday": steering(p_holm=0.001)})))
    assert "transfer beyond what the accuracies give is +10.0" in lines[0]
    assert all("significant in German" in line and "80%" not in line for line in lines[2:])


def test_the_method_named_beforehand_is_tested_in_the_family_of_the_main_claim():
    effects = steering(p_holm=0.07, primary=0.03)
    first, other = list(findings(result(steering={"everyday": effects})))[2:]
    family = "(sign-flip, Holm over languages, the family of the main claim)"
    assert "(p = 0.03)" in first and f"significant in German {family}" in first
    assert "(p = 0.07, Holm over methods, 5 points detectable)" in other
    assert "not significant in any language (sign-flip, Holm over languages and methods)" in other


def test_precision_is_weighted_by_phrases_and_its_largest_is_kept():
    header, row = table_of(text_of([result()]), "What was measured, and how exactly")
    cells = dict(zip(header, row, strict=True))
    assert cells["scores against float32 [nat]"] == "0.17 on average, 0.8 at most"
    assert cells["items"] == "120 (left out: 9 repeated choices)"
    assert (cells["phrases compared"], cells["prompts cut"]) == ("40", "2")
    assert cells["clusters"] == "87"


def test_unknown_detectable_effects_are_dashes_and_no_number():
    effects = steering()
    for name in ("minimum_detectable_effect", "primary_minimum_detectable_effect"):
        effects[name][:] = effects[f"pooled_{name}"][...] = np.nan
    lines = list(findings(result(steering={"everyday": effects})))[2:]
    assert all("nan" not in line and "an effect of – would" in line for line in lines)


def test_the_level_of_tests_is_that_of_the_result():
    effects = steering(p_holm=0.07).assign_attrs(confidence=0.9)
    lines = list(findings(result(steering={"everyday": effects})))
    assert all("significant in German" in line for line in lines[2:])


def test_checks_of_steering_stand_beside_those_of_extraction():
    text = text_of([result()])
    header, row = table_of(text, "What was measured, and how exactly")
    cells = dict(zip(header, row, strict=True))
    assert cells["steered by 0 against unsteered [nat]"] == "0 at most"
    assert cells["unsteered against stored [nat]"] == "0.39 at most"
    assert cells["items flipped by rounding, by steering"] == "2, 7"
    header, row = table_of(text_of([result(steering={})]), "What was measured")
    assert dict(zip(header, row, strict=True))["unsteered against stored [nat]"] == "–"


def test_precision_that_could_not_be_compared_says_why():
    records = {"de": {**record(0.1, 1), "precision": {"not_compared": "out of memory"}}}
    text = text_of([result(records=records)])
    assert "not compared (out of memory)" in text
    records |= {"sw": record(0.8, 30)}
    assert "0.8 at most" in text_of([result(records=records)])


def written_study(folder):
    """Files of two models on two datasets, named against the alphabet, and their manifests."""
    models, datasets = ("zebra", "ant"), ("words", "everyday")
    manifests = []
    for model in models:
        for dataset in datasets:
            place = folder / "results" / model / dataset
            for name, written in (("behaviour", behaviour()), ("similarity", similarity())):
                for variable in written.data_vars.values():
                    variable.attrs |= {"long_name": "x", "units": "1"}
                write_netcdf(written, place / f"{name}.nc")
            file = folder / f"{model}-{dataset}.h5"
            with h5py.File(file, "w") as written:
                written.attrs["record"] = json.dumps({"tokens": f"{model} on {dataset}"})
            manifest = folder / f"{model}-{dataset}.json"
            write_manifest(manifest, "activations", {"slug": model, "name": dataset}, {"de": file})
            manifests.append(manifest)
    spec = {
        "results": str(folder / "results"),
        "models": [{"slug": m, "name": f"{m} (4-bit)", "dtype": "float32"} for m in models],
        "datasets": [{"name": d, "fitted": [], "lens": False, "variants": False} for d in datasets],
    }
    return json.loads(canonical_json(spec)), manifests


@pytest.mark.parametrize("order", [1, -1])
def test_manifests_go_with_their_own_model_whatever_the_order(tmp_path, order):
    spec, manifests = written_study(tmp_path)
    results = results_of(spec, manifests[::order])
    assert [(r.model, r.dataset) for r in results] == [
        (f"{m} (4-bit)", d) for m in ("zebra", "ant") for d in ("words", "everyday")
    ]
    for r in results:
        assert r.records["de"]["tokens"] == f"{r.model.split()[0]} on {r.dataset}"


def test_a_model_without_a_manifest_is_named(tmp_path):
    spec, manifests = written_study(tmp_path)
    with pytest.raises(InputError, match="no manifest of ant on everyday"):
        results_of(spec, manifests[:-1])


def test_models_in_float32_have_nothing_to_compare():
    records = {"de": {**record(0.1, 1), "precision": {}}}
    assert "not compared" in text_of([result(records=records)])


def test_what_memory_did_not_allow_to_compare_breaks_nothing():
    short = {**record(0.1, 1), "precision": {"not_compared": "out of memory"}}
    assert "not compared" in text_of([result(records={"de": short})])
    text = text_of([result(records={"de": short, "sw": record(0.8, 40)})])
    assert "0.2 on average, 0.8 at most" in text


def test_models_are_named_as_they_are():
    text = text_of([result()])
    assert f"- {MODEL}; licence: Gemma Terms of Use" in text
    assert "nothing here is a claim about the originals" in text
    original = Result("qwen", "everyday", behaviour(), similarity())
    assert "originals" not in text_of([original])


def test_languages_near_chance_are_listed():
    assert f"- {MODEL}, everyday: 1 of 3: Swahili" in text_of([result()])


def test_languages_that_spell_choices_alike_are_marked_wherever_their_agreement_is_read():
    measured = behaviour()
    measured["mostly_alike"] = ("language", np.array([1, 1, 0], np.int8))
    text = text_of([result(behaviour=measured)])
    rows = table_of(text, "everyday: main table")
    assert [row[1] for row in rows[1:]] == ["English †", "German †", "Swahili *"]
    assert f"- {MODEL}, everyday: 2 of 3: English, German" in text
    assert (
        "may be a preference for certain strings" in list(findings(result(behaviour=measured)))[1]
    )
    assert "mostly spelled alike" not in text_of([result()])


def test_what_the_choices_alone_give_stands_beside_transfer():
    measured = behaviour()
    measured = measured.assign(with_bounds("mean_consistency_choices_only", ("scope",), [0.28]))
    measured = measured.assign(
        with_bounds("mean_lift_independent_choices_only", ("scope",), [0.09])
    )
    line = list(findings(result(behaviour=measured)))[1]
    assert "a consistency of 0.28 [0.23, 0.33]" in line
    assert "a transfer lift of +9.0 [+4.0, +14.0] points" in line


def test_the_lens_is_read_against_the_choices_alone_and_the_prompts_language():
    dims = ("language", "latent")
    data = {"latent_accuracy": ((*dims, "layer"), np.full((3, 2, 3), 0.5))}
    data |= {"latent_accuracy_choices_only": (dims, np.full((3, 2), 0.35))}
    data["latent_accuracy"][1][:, 1] = [0.35, 0.6, 0.4]
    contrast = np.array([[0.0, 0.23, 0.1], [0.0, 0.3, 0.4]])
    data |= with_bounds("mean_latent_accuracy_contrast", ("contrast", "layer"), contrast)
    coords = {"language": LANGUAGES, "latent": ["prompt", "pivot"], "layer": [0, 9, 18]}
    coords |= {"contrast": ["pivot_prompt", "pivot_control"]}
    coords |= {"relative_depth": ("layer", [0.0, 0.5, 1.0])}
    line = list(findings(result(trajectories=xr.Dataset(data, coords))))[1]
    assert "at relative depth 0.50: 60% right (by the choices alone: 35%)" in line
    assert "a difference of +23.0 [+18.0, +28.0] points from the prompt" in line


def worded(noise, n_items=60):
    """What a study with three wordings has: languages that differ by their noise alone."""
    rng, clusters = np.random.default_rng(0), np.arange(n_items)
    world = Wordings(language=0.0, noise=noise)
    dataset = variants(world.scores(rng, clusters), ["main", "plain", "labelled"])
    layer = clustered_states(rng, clusters, len(noise), shared=0.5)
    states = [parallel_states([layer] * 3, clusters) for _ in range(2)]
    dataset = dataset.assign_coords(language=LANGUAGES, language_2=LANGUAGES).assign_attrs(
        pivot="en"
    )
    similar = variant_similarity(states).assign_coords(language=LANGUAGES, language_2=LANGUAGES)
    return dataset.merge(similar)


def test_wordings_say_how_much_of_inconsistency_is_noise():
    dataset = worded((1.0, 1.0, 1.0), 200)
    text = text_of([result(variants=dataset), result()])
    header, row = table_of(text, "How much of inconsistency is noise")
    at = {name: column for name, column in zip(header, row, strict=True)}
    share = float(dataset["mean_noise_share"].sel(scope="all_pairs"))
    assert 0.9 < share < 1.1 and at["of it noise [%]"].startswith(f"{100 * share:.0f} [")
    alone = float(dataset["mean_self_consistency"])
    assert at["with itself"].startswith(f"{alone:.2f} [")
    assert at["item share: between / within a language"].endswith("1.00 [1.00, 1.00]")
    assert (
        text.count("the mean of 3 wordings' scores, at 3 times the cost, changes accuracy by") == 1
    )
    assert "How much of inconsistency is noise" not in text_of([result()])


def test_a_language_that_contradicts_itself_and_a_gain_that_is_none_are_said():
    text = text_of([result(variants=worded((0.0, 0.0, 500.0)))])
    assert "no corrected consistency in Swahili, where the model does not agree with itself" in text
    text = text_of([result(variants=worded((0.0, 0.0, 0.2), 30))])
    assert "(not significant; " in text and "would have been detected with 80% power)" in text
