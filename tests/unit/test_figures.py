"""Figures: every one can be drawn, says what its dataset holds, and can be read by everybody."""

import warnings
from dataclasses import replace

import matplotlib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import font_manager
from matplotlib.figure import Figure
from simulated_worlds import Answers, steering_effects

from isogloss.errors import InputError
from isogloss.figures import behaviour as behaviour_figures
from isogloss.figures import (
    breakdown,
    lens,
    lens_items,
    pivots,
    scale,
    similarity,
    steering,
    subspaces,
    variants,
)
from isogloss.figures.colours import SEQUENTIAL
from isogloss.figures.many import MOST_ROWS, named_lines, shown_languages
from isogloss.figures.style import (
    Subject,
    font_families,
    font_files,
    label_ends,
    language_styles,
    save,
    spread,
    use_style,
)
from isogloss.files.parallel_states import ParallelStates
from isogloss.measures.behaviour import behaviour
from isogloss.measures.breakdown import breakdown as breakdown_of
from isogloss.measures.groups import groups_of
from isogloss.measures.model_results import ModelResult
from isogloss.measures.pivots import pivots as pivots_of
from isogloss.measures.scale import scale as scale_of
from isogloss.measures.similarity import similarity as similarity_of
from isogloss.measures.subspaces import subspaces as subspaces_of
from isogloss.measures.trajectories import shares_among_choices
from isogloss.measures.trajectories import trajectories as trajectories_of
from isogloss.measures.variant_states import variant_similarity
from isogloss.measures.variants import variants as variants_of
from isogloss.questions.items import Item, ParallelItems

LANGUAGES = ("en", "de", "ar", "sw")
N, WIDTH, LAYERS = 24, 3, 4
MODEL = "tiny (converted from 4-bit GGUF (Q4_0))"
SUBJECT = Subject(MODEL, "planted", "en", frozenset({"sw"}))


@pytest.fixture(autouse=True)
def project_style():
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("error", message="Glyph")
        use_style()
        yield


def scores():
    """Random scores, right more often in the languages that come first; none near certainty."""
    rng = np.random.default_rng(0)
    answers = rng.integers(WIDTH, size=N)
    sums = rng.normal(size=(len(LANGUAGES), N, WIDTH))
    sums[np.arange(len(LANGUAGES))[:, None], np.arange(N), answers] += np.array(
        [[2], [1], [1], [0]]
    )
    dims = ("language", "item", "choice")
    count = np.full(sums.shape, 2.0)
    return xr.Dataset(
        {
            "sum": (dims, sums),
            **{name: (dims, count) for name in ("n_tokens", "n_characters", "n_bytes")},
            "identical_to_pivot": (dims, np.zeros(sums.shape, bool)),
            "spelling": (dims, np.arange(sums.size).reshape(sums.shape)),
            "answer": ("item", answers),
            "n_choices": ("item", np.full(N, WIDTH)),
            "cluster": ("item", np.arange(N)),
        },
        coords={"language": list(LANGUAGES), "item": [f"i{i}" for i in range(N)]},
        attrs={"pivot": "en"},
    )


def lens_file(language):
    """A lens file of random log-probabilities."""
    rng = np.random.default_rng(LANGUAGES.index(language))
    latents = ["prompt", "pivot", "control", "prompt_mismatched", "pivot_mismatched"]
    values = rng.normal(-4, 1, size=(LAYERS, N, len(latents), WIDTH))
    if language == "en":
        values[:, :, [1, 4]] = np.nan
    dims = ("layer", "item", "latent", "choice")
    return xr.Dataset(
        {
            "log_probability": (dims, values),
            "first_token": (dims, values / 2),
            "n_tokens": (dims[1:], np.full((N, len(latents), WIDTH), 2)),
            "answer": ("item", scores()["answer"].values),
            "n_choices": ("item", np.full(N, WIDTH)),
            "cluster": ("item", np.arange(N)),
            "identical_to_pivot": (("item", "choice"), np.zeros((N, WIDTH), np.int8)),
        },
        coords={
            "layer": np.arange(LAYERS),
            "relative_depth": ("layer", np.linspace(0, 1, LAYERS)),
            "item": [f"i{i}" for i in range(N)],
            "latent": latents,
        },
        attrs={"language": language, "pivot": "en", "control": "de"},
    )


def parallel_states():
    rng = np.random.default_rng(0)
    items = rng.normal(size=(N, 12))
    noise = rng.normal(size=(LAYERS, len(LANGUAGES), N, 12))
    offsets = rng.normal(size=(len(LANGUAGES), 1, 12))
    return ParallelStates(
        LANGUAGES,
        tuple(f"i{i}" for i in range(N)),
        np.arange(N),
        np.linspace(0, 1, LAYERS),
        np.full((len(LANGUAGES), N), 9),
        lambda layer: (items + offsets + noise[layer]).astype(np.float32),
    )


def questions():
    def item(index, language):
        choices = {"ar": ("العسل", "الحليب", "الخبز")}.get(language, ("honey", "milk", "bread"))
        asked = "ماذا يصنع النحل؟" if language == "ar" else "What do bees make?"
        return Item(f"i{index}", "", asked, choices, int(scores()["answer"][index]))

    items = {tag: tuple(item(i, tag) for i in range(N)) for tag in LANGUAGES}
    return ParallelItems("planted", items, np.arange(N))


@pytest.fixture(scope="module")
def results():
    datasets = {"behaviour": behaviour(scores())}
    groups = groups_of(["logic", "physics"] * (N // 2), LANGUAGES[1:])
    datasets["breakdown"] = breakdown_of(scores(), parallel_states(), groups)
    datasets["pivots"] = pivots_of(scores(), parallel_states(), LANGUAGES)
    datasets["lenses"] = {tag: lens_file(tag) for tag in LANGUAGES}
    datasets["trajectories"] = trajectories_of(datasets["lenses"])
    states = parallel_states()
    datasets["similarity"] = similarity_of(states, "en", permutations=19, map_permutations=19)
    datasets["subspaces"] = subspaces_of(
        states, np.arange(N) % 3, n_layers=2, n_components=2, permutations=5
    )
    model = ModelResult(
        "tiny", "Tiny", 6e4, datasets["similarity"], datasets["behaviour"], scores()
    )
    datasets["scale"] = scale_of([model], permutations=19)
    datasets["steering"] = steering_effects()
    rng = np.random.default_rng(1)
    wordings = [scores(), scores()]
    wordings[1]["sum"] = wordings[1]["sum"] + rng.normal(size=wordings[1]["sum"].shape)
    datasets["variants"] = variants_of(wordings, ["main", "plain"])
    moved = replace(states, at=lambda layer: states.at(layer) + rng.normal(size=(4, N, 12)))
    datasets["variants"] = datasets["variants"].merge(variant_similarity([states, moved]))
    return datasets


DRAWN = {
    "accuracy": lambda r: behaviour_figures.accuracy_and_consistency(r["behaviour"], SUBJECT),
    "transfer": lambda r: behaviour_figures.transfer(r["behaviour"], SUBJECT),
    "breakdown": lambda r: breakdown.breakdown(r["breakdown"], SUBJECT),
    "pivots": lambda r: pivots.pivots(r["pivots"], SUBJECT),
    "lens_accuracy": lambda r: lens.latent_accuracy(r["trajectories"], SUBJECT),
    "lens_language": lambda r: lens.latent_language(r["trajectories"], SUBJECT),
    "lens_items": lambda r: lens_items.item_lenses(
        r["lenses"], r["trajectories"], questions(), SUBJECT, 3
    ),
    "place_and_shape": lambda r: similarity.place_and_shape(r["similarity"], SUBJECT),
    "language_pairs": lambda r: similarity.language_pairs(r["similarity"], SUBJECT),
    "language_subspace": lambda r: subspaces.language_subspace(r["subspaces"], SUBJECT),
    "surface": lambda r: steering.surface(r["steering"], SUBJECT, "planted"),
    "effect": lambda r: steering.effect(r["steering"], SUBJECT, "planted"),
    "wordings": lambda r: variants.consistency_and_ceiling(r["variants"], SUBJECT),
    "wordings_averaged": lambda r: variants.ensembles(
        r["variants"], SUBJECT, {"planted": r["steering"]}
    ),
    "wordings_states": lambda r: variants.states_and_ceiling(r["variants"], SUBJECT),
    "scale": lambda r: scale.against_scale(r["scale"], SUBJECT, {"tiny": MODEL}),
}


@pytest.mark.parametrize("name", DRAWN)
def test_every_figure_comes_with_its_numbers_and_a_caption_of_this_run(name, results, tmp_path):
    drawing = DRAWN[name](results)
    save(drawing, tmp_path / name, ["png"])
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}.{s}" for s in ("png", "csv", "rst")
    }
    assert np.isfinite(drawing.numbers["estimate"]).any()
    assert {"quantity", "units"} <= set(drawing.numbers)
    finding, reading = drawing.caption.split("*How to read it*")
    assert MODEL in finding and any(digit in finding for digit in "0123456789")
    assert "nan" not in finding.split() and len(reading) > 50


def test_the_numbers_beside_a_figure_are_those_of_the_dataset(results):
    table = DRAWN["accuracy"](results).numbers
    rows = table[table["quantity"] == "accuracy"].set_index("language")
    for column, name in (("estimate", "accuracy"), ("low", "accuracy_low")):
        series = results["behaviour"][name].to_series()
        assert (rows[column] == series[rows.index]).all()


def test_languages_near_chance_bear_an_asterisk_and_a_hollow_mark(results):
    figure = DRAWN["accuracy"](results).figure
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["English", "German", "Arabic", "Swahili*"]
    colors = figure.axes[0].collections[-1].get_facecolors()[:, :3]
    assert [bool((color == 1).all()) for color in colors] == [False, False, False, True]
    assert "* accuracy not above chance" in figure.get_supxlabel()


def test_languages_that_spell_choices_alike_bear_a_dagger(results):
    behaviour = results["behaviour"].copy(deep=True)
    behaviour["mostly_alike"].loc[{"language": ["en", "de"]}] = True
    behaviour["identical_share_pairs"].loc[{"language": "en", "language_2": "de"}] = 0.83
    for figure in (behaviour_figures.accuracy_and_consistency, behaviour_figures.transfer):
        drawing = figure(behaviour, SUBJECT)
        assert "Up to 83% of the choices are the same strings" in drawing.caption
        below = drawing.figure.get_supxlabel().replace("\n", " ")
        assert "† choices mostly spelled alike" in below and f"{N} items in {N} clusters" in below
    names = [t.get_text() for t in drawing.figure.axes[2].get_yticklabels()]
    assert names == ["en†", "de†", "ar", "sw*"]


def test_averaging_is_shown_beside_steering_where_something_is_steered(results):
    both, alone = (
        variants.ensembles(results["variants"], SUBJECT, steered)
        for steered in ({"planted": results["steering"]}, {})
    )
    accuracy = both.figure.axes[0]
    assert [text for _, text in zip(*accuracy.get_legend_handles_labels(), strict=True)] == [
        "mean of the wordings' scores", "steering, first method",
    ]  # fmt: skip
    steered = accuracy.collections[-1].get_offsets()
    effect = results["steering"]["effect"].sel({"method": "mean_difference"})
    assert steered[1, 0] == pytest.approx(100 * float(effect.sel(language="de")))
    assert np.isnan(np.ma.filled(steered[0, 0], np.nan))  # English is not steered
    assert "Steering with vectors from planted changes them by" in both.caption
    assert "nothing is steered in this study" in alone.figure.get_supxlabel()
    assert "Steering" not in alone.caption


def test_the_lens_caption_gives_the_choices_alone_and_both_contrasts(results):
    finding = lens.latent_accuracy(results["trajectories"], SUBJECT).caption
    assert "by the English choices alone" in finding
    assert "points from those in the prompt's language" in finding
    assert "points from those in the control language" in finding


def test_the_pivot_comes_first_wherever_the_study_names_it():
    assert Subject("m", "d", "de").order(["en", "sw", "de"]) == ["de", "en", "sw"]


# An item's own picture


def planted_lens():
    """Item 0: wrong at the end, right in the pivot; 1: right at the end; 2: wrong in both."""
    lens = lens_file("de").isel(item=slice(0, 3)).copy(deep=True)
    values = np.full(lens["log_probability"].shape, -9.0)
    gold = lens["answer"].values
    other = (gold + 1) % WIDTH
    items = np.arange(3)
    values[-1, items, 0, np.where(items == 1, gold, other)] = -1
    values[1, items, 1, np.where(items == 2, other, gold)] = -1
    return lens.assign(log_probability=(lens["log_probability"].dims, values))


def test_items_are_candidates_where_the_pivot_is_right_and_the_answer_wrong():
    fits, margin = lens_items.candidates(planted_lens(), 1)
    assert fits.tolist() == [True, False, False]
    assert margin[0] == pytest.approx(4.0)  # (9 - 1) nat over 2 tokens


@pytest.mark.parametrize(
    ("score", "tokens", "said"),
    [("token", 2, "log-probability per token)"), ("sum", 1, "log-probability)")],
)
def test_single_items_are_shown_by_the_score_of_the_study(results, score, tokens, said):
    table = trajectories_of(results["lenses"], score)
    drawing = lens_items.item_lenses(results["lenses"], table, questions(), SUBJECT, 1)
    assert said in drawing.caption
    example = lens_items.choose_examples(results["lenses"], table, SUBJECT, 1)[0]
    of_item = results["lenses"][example.language].sel(latent="prompt").isel(item=example.item)
    scores = of_item["log_probability"].transpose("layer", "choice").values / tokens
    rest = np.log(example.shares[0]) - scores  # the same for all choices of a layer
    np.testing.assert_allclose(rest, np.broadcast_to(rest[:, :1], rest.shape), atol=1e-9)


def test_questions_that_are_not_those_of_the_lens_are_refused(results):
    """They were edited meanwhile: a figure would show the text of other items."""
    asked = questions()
    fewer = {tag: rows[1:] for tag, rows in asked.items.items()}
    asked = replace(asked, items=fewer, clusters=asked.clusters[1:])
    with pytest.raises(InputError, match="planted: its questions have changed since extraction"):
        lens_items.item_lenses(results["lenses"], results["trajectories"], asked, SUBJECT, 1)


def test_the_item_of_median_margin_is_shown(results):
    trajectories = results["trajectories"]
    example = lens_items.choose_examples(results["lenses"], trajectories, SUBJECT, 1)[0]
    through = trajectories["latent_accuracy"].sel(language=example.language, latent="pivot")
    fits, margin = lens_items.candidates(
        results["lenses"][example.language], int(through.values.argmax())
    )
    assert fits[example.item]
    shown, margin = margin[example.item], margin[fits]
    below, above = (margin < shown).sum(), (margin > shown).sum()
    assert abs(int(below) - int(above)) <= 1


def test_languages_near_chance_are_shown_last(results):
    examples = lens_items.choose_examples(results["lenses"], results["trajectories"], SUBJECT, 3)
    assert examples[-1].language == "sw"
    assert "those not above chance last" in DRAWN["lens_items"](results).caption


def test_shares_are_among_the_choices_that_an_item_has():
    lens = lens_file("de")
    lens["n_choices"][0] = 2
    shares = shares_among_choices(lens, lens_items.DRAWN_LATENTS)
    np.testing.assert_allclose(np.nansum(shares, axis=-1), 1)
    assert np.isnan(shares[:, :, 0, 2]).all() and np.isfinite(shares[:, :, 1]).all()


@pytest.mark.parametrize(
    ("language", "text"), [("en", "a much longer question"), ("zh", "字" * 30)]
)
def test_texts_are_cut_to_the_room_that_there_is(language, text):
    cut = lens_items.shorten(text, language, 12)
    assert cut.endswith("…") and len(cut) <= 12 and text.startswith(cut.rstrip(" …")[:3])


# Steering


def test_folds_are_counted_at_the_cell_that_they_chose():
    part = steering_effects().sel({"language": "de", "method": "mean_difference"})
    assert steering.chosen(part, part["relative_depth"].values) == {(1, 0): 3}


def test_a_depth_that_some_other_number_of_layers_would_fit_is_framed_where_it_was_chosen():
    part = steering_effects().sel({"language": "de", "method": "mean_difference"})
    part["relative_depth"] = [0.5, 1.0]
    part["selected_depth"][:] = 1.0
    part["selected_layer"][:] = 4
    assert steering.chosen(part, part["relative_depth"].values) == {(1, 0): 3}


def test_captions_say_what_vectors_were_fitted_and_settings_chosen_on():
    effects = steering_effects()
    alone = effects.assign_attrs(separate_sets=1)
    draw = (steering.surface, steering.effect)
    for figure in draw:
        own = figure(effects, SUBJECT, SUBJECT.dataset).caption
        other = figure(effects, SUBJECT, "elsewhere").caption
        separate = figure(alone, SUBJECT, SUBJECT.dataset).caption
        assert "fitted on" in own and "all items of elsewhere" not in own
        assert "fitted on all items of elsewhere" in other and "in part on this" not in other
        assert "other folds" in own and "fold" not in separate
    own, other, separate = (
        steering.effect(*given).caption
        for given in (
            (effects, SUBJECT, SUBJECT.dataset),
            (effects, SUBJECT, "elsewhere"),
            (alone, SUBJECT, "elsewhere"),
        )
    )
    assert "choose anew under every sign pattern" in own and "choose anew" in other
    assert "take the choice as it is" in separate and "choose anew" not in separate


def test_unknown_detectable_effects_are_dashes_and_no_number():
    effects = steering_effects().assign(primary_p_holm=("language", np.ones(2)))
    effects["primary_minimum_detectable_effect"][:] = np.nan
    caption = steering.effect(effects, SUBJECT, "planted").caption
    assert "an effect of – would have been detected" in caption and "nan" not in caption


def test_the_caption_names_languages_whose_effect_is_significant():
    caption = steering.effect(steering_effects(), SUBJECT, "planted").caption
    assert "significant in Swahili" in caption
    none = steering_effects().assign(primary_p_holm=("language", np.ones(2)))
    assert "80% power" in steering.effect(none, SUBJECT, "planted").caption


def test_the_caption_counts_flips_of_rounding_beside_those_of_the_method():
    caption = steering.effect(steering_effects(), SUBJECT, "planted").caption
    assert "flips 7 to 12 items per language" in caption
    assert "adding nothing flips 0 to 2" in caption
    assert "have not seen it" not in caption and "no choice has seen this item's answers" in caption


def test_an_effect_without_bounds_is_a_point_and_a_number():
    effects = steering_effects()
    for end in ("_low", "_high"):
        effects[f"effect{end}"][:] = np.nan
        effects[f"pooled_effect{end}"][:] = np.nan
    assert "nan" not in steering.effect(effects, SUBJECT, "planted").caption


def test_the_effect_is_corrected_in_the_family_of_the_main_claim_and_its_numbers_say_both():
    effects = steering_effects()
    effects["primary_p_holm"][:] = 1.0
    effects["primary_minimum_detectable_effect"][:] = 0.09
    effects["p_holm"][:] = 0.001
    drawing = steering.effect(effects, SUBJECT, "planted")
    assert "an effect of 9 points would have been detected" in drawing.caption
    assert "p = 0.0123" in drawing.caption
    assert "Holm over languages, the family of the main claim" in drawing.caption
    numbers = drawing.numbers.set_index("quantity")["estimate"]
    assert (numbers["primary_p_holm"] == 1).all() and (numbers["p_holm"] == 0.001).all()
    assert numbers["pooled_primary_p"] == 0.0123


# What readers need


@pytest.mark.parametrize(
    "text", ["ماذا يصنع النحل؟", "मधुमक्खियाँ", "蜜蜂会制造什么？", "пчёлы", "ş ğ ı"]
)
def test_the_scripts_of_the_questions_have_glyphs(text):
    assert font_families(every_script=True)
    known = set()
    for package in ("", "_arabic", "_devanagari"):
        for file in font_files(f"fontpkg_noto_sans{package}"):
            known |= set(font_manager.get_font(file).get_charmap())
    for file in font_files("noto_cjk_sans_otc"):
        known |= set(font_manager.get_font(file).get_charmap())
    assert {ord(character) for character in text} <= known


THIRTY = (
    "en de nl sv da es fr it pt ro ru pl cs uk bg hi bn mr ur fa zh ar he am id ms tl tr sw yo ta"
).split()


@pytest.mark.parametrize("layers", [[1, 2, 3], [3]])
def test_without_the_embedding_the_lens_leaves_no_layer_out(results, layers):
    kept = results["trajectories"].isel(layer=layers).copy(deep=True)
    kept["pivot_log_odds"][:, 0] += 9.0  # the layer to name
    drawing = lens.latent_language(kept, SUBJECT)
    depth = float(kept["relative_depth"][0])
    assert f"at relative depth {depth:.2f}, from" in drawing.caption
    band = drawing.figure.axes[0].collections[0].get_paths()[0]
    assert len(np.unique(band.vertices[:, 0])) == len(layers)


def test_of_many_steered_languages_the_caption_says_that_it_names_two(results):
    effects = results["steering"]
    places = [place % effects.sizes["language"] for place in range(10)]
    tags = ["de", "es", "fr", "it", "pt", "ru", "pl", "cs", "id", "tr"]
    many = effects.isel(language=places).assign_coords(language=tags)
    finding = steering.effect(many, SUBJECT, "planted").caption.partition("\n\n")[0]
    assert "percentage points (the highest and the lowest of 10 languages)" in finding
    few = steering.effect(effects, SUBJECT, "planted").caption
    assert "the lowest of" not in few


def test_thirty_languages_are_distinct_without_their_colours():
    styles = language_styles(THIRTY, Subject("m", "d", "en"))
    looks = {(style["marker"], style["linestyle"]) for tag, style in styles.items() if tag != "en"}
    assert len(looks) == len(THIRTY) - 1
    neighbours = [styles[tag]["marker"] for tag in THIRTY[1:12]]
    assert len(set(neighbours)) == len(neighbours)


def test_colours_are_families():
    colors = {tag: s["color"] for tag, s in language_styles(THIRTY, SUBJECT).items()}
    assert colors["de"] == colors["hi"] != colors["ar"] == colors["he"]
    assert colors["id"] == colors["ms"] not in (colors["de"], colors["ar"])


def test_of_many_lines_the_extremes_are_named():
    ax = Figure().subplots()
    ends = {f"l{i}": float(i) for i in range(40)} | {"mean": 20.0}
    ax.set_ylim(0, 40)
    label_ends(ax, 1.0, ends, dict.fromkeys(ends, "k"), 2.0, always=["mean"])
    named = {text.get_text() for text in ax.texts}
    assert named == {"l0", "l1", "l2", "l37", "l38", "l39", "mean"}


MANY = [*THIRTY, *"ca eu hr sr af be bs et el gl ka kk la lt lv sk sl hy is fi hu ja ko".split()]


def test_of_many_languages_the_highest_and_the_lowest_have_a_row():
    values = xr.DataArray([0.5, 0.9, 0.1, np.nan, 0.3, 0.7], coords={"language": list("abcdef")})
    of_a = Subject("m", "d", "a")
    assert shown_languages("abcdef", values, of_a, 5) == list("abcdef")
    assert shown_languages("abcdef", values, of_a, 4) == ["a", "b", "f", "e", "c"]
    assert shown_languages("bcdef", values, of_a, 2) == ["b", "c"]
    assert named_lines(values.drop_sel(language="d"), 3) == ["c", "e", "a", "f", "b"]


def test_a_figure_of_many_languages_fits_and_its_numbers_are_of_all():
    rng = np.random.default_rng(0)
    data = Answers.of_languages(rng, len(MANY)).scores(rng, np.arange(40))
    data = data.assign_coords(language=MANY).assign_attrs(pivot="en")
    drawing = behaviour_figures.accuracy_and_consistency(behaviour(data), SUBJECT)
    left, right = drawing.figure.axes[:2]
    assert drawing.figure.get_figheight() < 14
    assert len(left.get_yticks()) == MOST_ROWS + 1
    assert f"{MOST_ROWS + 1} of {len(MANY)} languages" in drawing.figure._supxlabel.get_text()
    table = drawing.numbers[drawing.numbers["quantity"] == "accuracy"]
    assert set(table["language"]) == set(MANY)
    drawing.figure.canvas.draw()
    for axis, end in ((right.xaxis, "x"), (right.yaxis, "y")):
        names = [label.get_window_extent() for label in axis.get_ticklabels()]
        edges = [sorted((getattr(box, f"{end}0"), getattr(box, f"{end}1"))) for box in names]
        edges.sort()
        assert all(a[1] <= b[0] + 1 for a, b in zip(edges, edges[1:], strict=False))


# Captions and labels on awkward data


def test_odds_of_the_pivot_that_are_not_known_are_said_to_be_so(results):
    trajectories = results["trajectories"].copy(deep=True)
    for name in [
        n for n in trajectories if str(n).startswith("pivot_log_odds") and trajectories[n].dims[1:]
    ]:
        trajectories[name][:] = np.nan
    drawing = lens.latent_language(trajectories, SUBJECT)
    finding = drawing.caption.split("*How to read it*")[0]
    assert "is unknown, since no gold choice is spelled otherwise there" in finding
    assert "unknown nat" not in finding and "from unknown" not in finding
    assert any("unknown" in text.get_text() for text in drawing.figure.axes[0].texts)


def test_a_negative_odds_is_less_likely_and_not_likelier_by_less_than_nothing(results):
    trajectories = results["trajectories"].copy(deep=True)
    trajectories["pivot_log_odds"][:] = -0.07
    finding = lens.latent_language(trajectories, SUBJECT).caption.split("*How to read it*")[0]
    assert "less likely by 0.07 nat per token in English" in finding and "by −" not in finding


def test_pairs_that_are_not_known_are_no_span(results):
    dataset = results["similarity"].copy(deep=True)
    dataset["cka_middle"][:] = np.nan
    caption = similarity.language_pairs(dataset, SUBJECT).caption
    assert "debiased CKA is unknown." in caption and "item share in the middle" in caption


def test_captions_name_languages_of_which_a_few_questions_decide_cka(results):
    dataset = results["similarity"].copy(deep=True)
    for draw in (similarity.place_and_shape, similarity.language_pairs):
        assert "massive activations" not in draw(dataset, SUBJECT).caption
    dataset["few_decide"][-1] = True
    for draw in (similarity.place_and_shape, similarity.language_pairs):
        assert "of the states in Swahili (massive activations)" in draw(dataset, SUBJECT).caption


def test_one_component_holds(results):
    dataset = results["subspaces"].copy(deep=True)
    dataset["language_rank"][:] = 1
    assert "1 component holds 95%" in subspaces.language_subspace(dataset, SUBJECT).caption


def test_transfer_says_how_many_items_it_rests_on(results):
    right = int(results["behaviour"]["correct"].sel(language="en").sum())
    drawing = behaviour_figures.transfer(results["behaviour"], SUBJECT)
    assert f"rests on {right} items right there, negative on {N - right} wrong" in drawing.caption
    assert len(drawing.figure.legends[0].get_texts()) == 4, "whatever the negative panel holds"


def test_the_mean_of_one_language_is_no_row():
    effects = steering_effects().isel(language=[0])
    names = [
        t.get_text()
        for t in steering.effect(effects, SUBJECT, "p").figure.axes[0].get_yticklabels()
    ]
    assert len(names) == 1 and names != ["mean"]


def test_choices_are_cut_where_they_differ():
    names = lens_items.choice_names(
        ["Veins appear blue because of light", "Veins appear blue because of iron"], "en", 22
    )
    assert names == ["… light", "… iron"]
    assert lens_items.choice_names(["yes", "no"], "en", 22) == ["yes", "no"]


def test_no_word_of_a_title_is_split():
    word = "Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen"
    shown = lens_items.wrapped("German", f"Was ist eine {word} und was nicht?", "de", 46)
    assert {*shown.split()} <= {"German:", "Was", "ist", "eine", word, "und", "was", "nicht?", "…"}


def test_heat_maps_keep_their_order_in_grey():
    colors = matplotlib.colormaps[SEQUENTIAL](np.linspace(0, 1, 50))[:, :3]
    assert (np.diff(colors @ [0.299, 0.587, 0.114]) > 0).all()


@given(st.lists(st.floats(-100, 100), max_size=12), st.floats(0.1, 5))
def test_labels_keep_their_order_and_their_distance(values, gap):
    placed = np.array(spread(values, gap))[np.argsort(values, kind="stable")]
    assert (np.diff(placed) >= gap - 1e-6).all()


def test_labels_with_room_stay_where_they_are():
    assert spread([3.0, 1.0], 0.5) == [3.0, 1.0]


def test_the_subspace_is_shown_at_the_measured_layer_nearest_to_the_middle(results):
    dataset = results["subspaces"].copy(deep=True)
    dataset["principal_angle"][:] = np.nan
    dataset["principal_angle"][3] = 1.0
    assert subspaces.middle_layer(dataset) == 3


def test_an_unknown_overlap_is_drawn_and_said_to_be_unknown(results):
    dataset = results["subspaces"].copy(deep=True)
    dataset["overlap_floor"][:] = 0.0
    known = subspaces.language_subspace(dataset, SUBJECT).caption
    assert "on average (ceiling" in known and "the highest in" in known
    dataset["overlap_floor"][:] = 0.99
    below = subspaces.language_subspace(dataset, SUBJECT).caption
    assert "on average (too few items for subspaces: ceiling" in below
    for name in ("overlap", "overlap_ceiling", "overlap_normalised"):
        dataset[name][:] = np.nan
    drawing = subspaces.language_subspace(dataset, SUBJECT)
    assert "own subspace is unknown, as is its ceiling (floor 0." in drawing.caption
    assert "the highest in" not in drawing.caption and "nan" not in drawing.caption
    drawing.figure.canvas.draw()


# Captions


@pytest.mark.parametrize(("confidence", "said"), [(0.95, "in 5% of"), (0.9, "in 10% of")])
def test_captions_take_the_confidence_from_the_result(results, confidence, said):
    dataset = results["similarity"].assign_attrs(spec=f'{{"confidence":{confidence}}}', pivot="en")
    assert said in similarity.place_and_shape(dataset, SUBJECT).caption
    effects = steering_effects().assign_attrs(confidence=confidence)
    effects["primary_p_holm"][:] = 0.07
    caption = steering.effect(effects, SUBJECT, "planted").caption
    assert ("not significant in any language" in caption) == (confidence == 0.95)


def test_the_peak_of_the_lens_is_not_sought_at_the_embedding(results):
    trajectories = results["trajectories"].copy(deep=True)
    trajectories["pivot_log_odds"][{"layer": 0}] = 99.0
    finding = lens.latent_language(trajectories, SUBJECT).caption.split("*How to read it*")[0]
    assert "99" not in finding


def test_transfer_beyond_difficulty_is_that_to_the_pivot(results):
    behaviour = results["behaviour"].copy(deep=True)
    behaviour["mean_lift_difficulty"].loc[{"scope": "to_pivot", "sign": "positive"}] = 0.123
    caption = behaviour_figures.transfer(behaviour, SUBJECT).caption
    assert "to English, +12.3 [" in caption and "item difficulty would give" in caption


def test_transfer_that_is_not_known_has_its_reason(results):
    behaviour = results["behaviour"].copy(deep=True)
    behaviour["lift_independent"][:] = 0.1
    assert "fewer than" not in behaviour_figures.transfer(behaviour, SUBJECT).caption
    behaviour["lift_independent"].loc[{"sign": "positive", "language": "de"}] = np.nan
    assert "fewer than 10 items right" in behaviour_figures.transfer(behaviour, SUBJECT).caption


def test_accuracies_of_other_languages_are_not_a_span_where_there_is_none():
    of = behaviour_figures._span
    assert of(pd.Series({"de": 0.42, "sw": 0.42}), SUBJECT) == "42% in all other languages"
    assert of(pd.Series({"de": 0.42}), SUBJECT) == "42% in German"
    span = of(pd.Series({"de": 0.42, "es": 0.6}), SUBJECT)
    assert span == "from 42% (German) to 60% (Spanish) in the other languages"


def test_a_share_has_no_interval_beyond_all(results):
    similarity = results["similarity"]
    for name in ("retrieval", "retrieval_mean", "retrieval_pivot"):
        assert (
            float(similarity[f"{name}_high"].max()) <= 1
            and float(similarity[f"{name}_low"].min()) >= 0
        )


# Models side by side


def many_models(results, count):
    slugs = [f"m{i}" for i in range(count)]
    models = [
        ModelResult(slug, "Tiny", 6e4 * 2**i, results["similarity"], results["behaviour"], scores())
        for i, slug in enumerate(slugs)
    ]
    return scale_of(models, permutations=19), {slug: f"{slug} (4-bit)" for slug in slugs}


@pytest.mark.parametrize("count", [1, 12])
def test_every_model_is_named_at_its_point_and_as_it_is_below(results, count):
    similarity, labels = many_models(results, count)
    figure = scale.against_scale(similarity, SUBJECT, labels).figure
    assert {text.get_text() for text in figure.axes[0].texts} == set(labels)
    below = figure.get_supxlabel().replace("\n", " ")
    assert all(name in below for name in labels.values())


def three_sizes(results):
    """Models of one family whose dissociation grows with size and differs by item."""
    rng, models = np.random.default_rng(0), []
    for index in range(3):
        similarity = results["similarity"].copy()
        for name in similarity.data_vars:
            if str(name).startswith("dissociation") and similarity[name].dtype.kind == "f":
                noise = rng.normal(size=similarity[name].shape) * str(name).endswith(
                    "_without_cluster"
                )
                similarity[name] = similarity[name] + 0.05 * index + 0.002 * noise
        size = 6e4 * 10**index
        models.append(
            ModelResult(f"m{index}", "Tiny", size, similarity, results["behaviour"], scores())
        )
    return scale_of(models, permutations=19)


def test_slopes_are_drawn_with_what_they_hold_for(results):
    similarity = three_sizes(results)
    drawing = scale.against_scale(similarity, SUBJECT, {f"m{i}": f"m{i}" for i in range(3)})
    assert "changes by 0.05 [" in drawing.caption
    assert "Holm over the figure; for other items, these models and languages" in drawing.caption
    below = drawing.figure.get_supxlabel().replace("\n", " ")
    assert "slopes hold for other items, these models and languages (Tiny)" in below
    slopes = drawing.numbers[drawing.numbers["quantity"] == "slope"]
    assert slopes["estimate"].iloc[0] == pytest.approx(0.05) and np.isfinite(slopes["low"].iloc[0])


def test_a_panel_without_a_slope_says_why_where_the_first_has_one(results):
    similarity = three_sizes(results)
    at = {"measure": "lift"}
    for name in ("slope", "slope_low", "slope_high"):
        similarity[name].loc[at] = np.nan
    similarity["reason"] = similarity["reason"].astype(object)
    similarity["reason"].loc[at] = "the models' means are over other pairs"
    labels = {f"m{i}": f"m{i}" for i in range(3)}
    drawing = scale.against_scale(similarity, SUBJECT, labels)
    below = drawing.figure.get_supxlabel().replace("\n", " ")
    said = "no slope of transfer above accuracy, mean over pairs: Tiny (the models' means are over"
    assert said in below and below.count("no slope") == 1


def test_a_slope_is_drawn_through_the_models_that_have_a_value(results):
    similarity = three_sizes(results)
    large = similarity.isel(model=[2]).assign_coords(model=["m3"], parameters=("model", [6e7]))
    similarity = xr.concat([similarity, large], "model", data_vars="minimal")
    similarity["value"][dict(model=3)] = np.nan
    labels = {f"m{i}": f"m{i}" for i in range(4)}
    ax = scale.against_scale(similarity, SUBJECT, labels).figure.axes[0]
    x, y = next(line.get_xydata() for line in ax.lines if len(line.get_xdata()) == 2).T
    values = similarity["value"].sel(measure="dissociation").values[:3]
    assert x == pytest.approx([6e4, 6e6]) and y.mean() == pytest.approx(values.mean())


def test_names_keep_clear_of_each_other_on_a_logarithmic_axis(results):
    similarity, labels = many_models(results, 4)
    figure = scale.against_scale(similarity, SUBJECT, labels).figure
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_sizes_are_written_as_they_are_spoken_of():
    assert [scale.parameters_text(n) for n in (134_515_008, 2.6e9, 6e4)] == ["135M", "2.6B", "60k"]


@pytest.mark.parametrize("name", ["breakdown", "pivots"])
def test_a_missing_lift_is_a_dash_with_its_reason_in_caption_and_table(results, name):
    dimension = {"breakdown": "group", "pivots": "pivot"}[name]
    table, first = results[name].copy(), {dimension: 0}
    for end in ("", "_low", "_high", "_crossed_low", "_crossed_high"):
        values = table[f"transfer_lift{end}"].copy()
        values[first] = np.nan
        table[f"transfer_lift{end}"] = values
    reason = "all items are right in the pivot"
    table["transfer_lift_reason"] = table["transfer_lift_reason"].astype(object)
    table["transfer_lift_reason"][first] = reason
    drawing = DRAWN[name](results | {name: table})
    dashes = [text.xy[1] for text in drawing.figure.axes[2].texts if text.get_text() == "–"]
    assert 0 in dashes
    assert reason in drawing.caption.split("*How to read it*")[0]
    rows = drawing.numbers[drawing.numbers["reason"] != ""]
    assert set(rows["quantity"]) == {"transfer_lift"} and rows["estimate"].isna().all()
