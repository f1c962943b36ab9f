"""Wordings of the questions as a setting: what is allowed, and what they cost in artifacts."""

import numpy as np
import pytest
from tests.unit.stored_study import write_config, write_questions
from tests.unit.test_extraction import items, model

from isogloss.errors import InputError
from isogloss.extraction.extract import language_extraction
from isogloss.files.canonical import key_of
from isogloss.questions.items import Item, ParallelItems
from isogloss.questions.prompts import LATENTS, other_partners
from isogloss.study.keys import Artifacts, activation_identity
from isogloss.study.schema import validate
from isogloss.study.settings import manifest_name, prompt_style
from isogloss.study.study import Study

MAIN = {"default": "{context}\nQ: {question}\nA:"}
PLAIN = {"default": "{context}\n{question}"}


def worded(**variants):
    return {"prompt": {"templates": MAIN, "variants": variants}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (worded(a={"de": "{context}{question}"}), r"prompt: variants\.a needs an entry `default`"),
        (worded(a={"default": "{quest}"}), r"prompt: variants\.a\.default has a field other than"),
        (worded(a={"default": "Q:"}), r"prompt: variants\.a\.default does not use \{question\}"),
        (worded(a={"default": "{question}"}), r"a\.default and templates must both use \{context}"),
        (worded(a=PLAIN | {"fr": "{context}{question}"}), r"variants\.a\.fr: fr is not one of"),
        (worded(a=MAIN), r"prompt\.variants\.a: has in en the same text as templates: word it"),
        (worded(a=PLAIN, b=PLAIN), r"variants\.b: has in en the same text as variants\.a"),
        (worded(a=PLAIN, b={"default": " {context}\n{question}\n"}), r"same text as variants\.a"),
        (worded(main=PLAIN), r"variants\.main: so is called what `templates` make: rename it"),
        (worded(**{"A b": PLAIN}), r"prompt\.variants\.A b.*: use lower-case letters"),
        (
            {"datasets": {"s": {"source": "sentences", "path": "x", **worded(a=PLAIN)}}},
            r"datasets\.s\.prompt\.variants: sentences have no choices",
        ),
    ],
)
def test_a_wording_that_is_none_is_refused_in_one_line(content, message):
    with pytest.raises(InputError, match=message) as caught:
        validate(content | {"steering": None})
    assert "\n" not in str(caught.value)


def test_languages_without_a_template_of_their_own_have_the_default(monkeypatch):
    study = validate(worded(a=PLAIN | {"zh-CN": "{context}\n{question}。"}) | {"steering": None})
    assert study.prompt.variants["a"] == PLAIN | {"zh": "{context}\n{question}。"}
    assert study.variants_of("everyday") == ["a"] and study.variants_of("lexicon") == []
    assert "variants" in study.results_of("everyday")
    assert "variants" not in study.results_of("lexicon")


@pytest.fixture
def studies(tmp_path, monkeypatch):
    """The same study with one wording and with three."""
    monkeypatch.chdir(tmp_path)
    write_questions(tmp_path)
    of_german = {"default": "{context}\n{question} =", "de": "{context}\n{question} Antwort:"}
    more = worded(plain=PLAIN, labelled=of_german)
    single = Study.of(write_config(tmp_path, "one.yaml"))
    return single, Study.of(write_config(tmp_path, "three.yaml", **more))


def test_the_main_wording_keeps_its_keys_and_manifests(studies):
    single, three = studies
    both = [{artifact.name for artifact in study.artifacts()} for study in studies]
    assert both[0] < both[1]
    added = both[1] - both[0]
    assert len(added) == 2 * 2 and all(name.startswith("activations/") for name in added)
    before, after = (study.settings.manifests() for study in studies)
    assert before.items() < after.items() and len(after) == len(before) + 2
    for name in set(after) - set(before):
        key = name.rsplit("-", 1)[1].removesuffix(".json")
        variant = three.settings.variant_of("tiny", "own", key)
        assert manifest_name("activations", three.settings.activations("tiny", "own", variant)) == (
            name
        )


def test_wordings_that_swap_their_names_make_another_result(studies):
    _, three = studies
    wordings = three.config.prompt.variants
    other = dict(zip(wordings, reversed(wordings.values()), strict=True))
    swapped = three.config.model_copy(deep=True)
    swapped.prompt.variants = other
    assert type(three.settings)(swapped).variants("own") != three.settings.variants("own")


def test_a_language_has_the_files_of_its_own_template_alone(studies):
    """Another German wording names other German files, and no other ones."""
    _, three = studies
    changed = three.config.model_copy(deep=True)
    changed.prompt.variants["labelled"]["de"] = "{context}\n{question} Lösung:"
    keys = [
        {a.language: a.key for a in Artifacts(settings).activations("tiny", "own", "labelled")}
        for settings in (three.settings, type(three.settings)(changed))
    ]
    assert keys[0]["en"] == keys[1]["en"] and keys[0]["de"] != keys[1]["de"]


def test_a_study_names_files_by_the_right_choices_that_are_alike(studies):
    """As extraction does: the questions decide, whoever has read them."""
    single, three = studies
    settings = single.settings.activations("tiny", "own")
    answers = [0, 0, 1, 0, 1, 1]
    data = ParallelItems(
        "own",
        {
            tag: tuple(Item(f"q{i}", "", f"{tag} {i}?", words, a) for i, a in enumerate(answers))
            for tag, words in (("en", ("yes", "no")), ("de", ("ja", "nein")))
        },
        np.arange(6),
    )
    artifacts = Artifacts(three.settings)
    artifacts.know("own", data)
    moved = other_partners(data, prompt_style(settings["prompt"]), settings["pivot"])
    assert moved == {"en", "de"}
    names = {a.language: a.key for a in artifacts.activations("tiny", "own")}
    for tag in moved:
        identity = activation_identity(settings, data.digests(), tag, moved)
        assert identity["mismatched"] == "another right choice" and names[tag] == key_of(identity)
    wording = three.settings.activations("tiny", "own", "plain")
    names = {a.language: a.key for a in artifacts.activations("tiny", "own", "plain")}
    assert names["de"] == key_of(activation_identity(wording, data.digests(), "de"))


def test_a_wording_is_scored_in_its_own_language_and_keeps_no_rows(studies, tmp_path):
    _, three = studies
    settings, data = three.settings.activations("tiny", "own", "plain"), items()
    identity = activation_identity(settings, data.digests(), "de")
    extraction = language_extraction(model("gemma3"), data, identity, tmp_path / "x.h5")
    assert list(extraction.lens_layers) == [] and identity["control"] is None
    spoken = {phrase.latent for question in extraction.questions for phrase in question.phrases}
    assert spoken == {LATENTS.index("prompt")}
    main = activation_identity(three.settings.activations("tiny", "own"), data.digests(), "de")
    whole = language_extraction(model("gemma3"), data, main, tmp_path / "y.h5")
    tokens = [np.sum([len(tree) for tree in e.trees]) for e in (extraction, whole)]
    assert tokens[0] < tokens[1] and "latents" not in main
