import json
from pathlib import Path

import pytest
import yaml

from isogloss.errors import InputError
from isogloss.measures.lens import lens_layers
from isogloss.model.sources import ModelSource
from isogloss.study.default_study import commented, schema, tables
from isogloss.study.keys import activation_identity, steered_identity
from isogloss.study.schema import Config, read, validate
from isogloss.study.settings import Settings, prompt_style

ROOT = Path(__file__).resolve().parents[2]


def changed(path, value):
    """The default configuration with one key, named by its path, set to a value."""
    content = Config().model_dump(mode="json")
    *parents, last = path.split("/")
    node = content
    for part in parents:
        node = node[part]
    node[last] = value
    return content


def test_the_default_validates():
    assert validate({}) == Config()
    assert validate(Config().model_dump(mode="json")) == Config()


def test_the_commented_default_is_the_default(tmp_path):
    text = commented(Config())
    assert validate(yaml.safe_load(text)) == Config()
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    assert read(tmp_path / "c.yaml") == Config()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("study", "2026"),
        ("study", "null"),
        ("languages", ["en", "no", "de", "es", "id", "sw"]),
        ("steering", None),
        ("steering/strengths", [-1.0, 1e-3, 2.0]),
        ("steering/fit_on", ["everyday", "lexicon"]),
        ("datasets/everyday/languages", ["en", "de", "es", "id", "sw"]),
        (
            "prompt/templates",
            {"default": 'Q: "{question}" # no comment\nA:', "zh": "问：{question}"},
        ),
        (
            "datasets/everyday/configs",
            {"en": {"path": "cais/mmlu", "config": "all", "columns": {"choices": "choices"}}},
        ),
        ("datasets/everyday/configs", {"de": "DE_DE"}),
        ("datasets/lexicon/kinds", ["emoji"]),
        ("device", "cuda:1"),
        ("device", "mps"),
        ("steering/controls", ["zero", "random"]),
        ("extraction/lens_layers", "all"),
        ("extraction/lens_layers", [0.25, 1.0]),
        ("extraction/lens_layers", 0),
        ("extraction/control", []),
        ("cache", "/a path/with: colon"),
    ],
)
def test_commented_parses_back_to_the_same_configuration(path, value):
    config = validate(changed(path, value))
    assert config != Config()
    assert validate(yaml.safe_load(commented(config))) == config


def test_every_key_is_preceded_by_its_meaning():
    lines = commented(Config()).splitlines()
    for name, field in Config.model_fields.items():
        at = next(i for i, line in enumerate(lines) if line.startswith(f"{name}:"))
        assert lines[at - 1].startswith("# ")
        first = field.description.split()[0]
        assert any(first in line for line in lines[max(0, at - 4) : at])
    assert max(len(line) for line in lines) <= 100


@pytest.mark.parametrize("name", ["config.yaml", "schema.json"])
def test_what_is_written_from_the_models_is_up_to_date(name):
    path = ROOT / "config" / name
    if name == "schema.json":
        assert path.read_text(encoding="utf-8") == schema()
    else:
        assert read(path) == Config()


def test_the_schema_is_json_and_knows_every_key():
    known = json.loads(schema())
    assert set(known["properties"]) == set(Config.model_fields)
    assert known["additionalProperties"] is False


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("langauges", ["en"], r"langauges: no such key: did you mean languages\?"),
        ("extraction/pim", True, r"extraction\.pim: no such key: did you mean pmi\?"),
        ("max_items", 60, r"max_items: no such key here: it belongs to datasets\.<name>$"),
        ("extraction/shots", 2, r"here: it belongs to datasets\.<name>\.prompt or prompt$"),
        ("prompt/languages", ["en"], r"belongs to the top level or datasets\.<name> or steering$"),
        ("models/gemma-3-270m/dtyp", "x", r"models\.gemma-3-270m\.dtyp: no such key: .* dtype\?"),
        (
            "datasets/everyday/prompt",
            {"x": 1},
            r"datasets\.everyday\.prompt\.x: no such key: config",
        ),
        ("pivots", ["fr"], r"pivots: fr is not one of languages: add it"),
        ("pivot", "fr", r"pivot: fr is not one of languages: add it"),
        ("pivot", "English", r"pivot: .*language tag.*\(got 'English'\)"),
        ("languages", ["en", "en", "de"], r"languages: en is named twice"),
        ("languages", ["en", "zh", "zh-CN"], r"languages: zh is named twice"),
        ("datasets/everyday/languages", ["en", "de", "de"], r"everyday\.languages: de is named tw"),
        ("extraction/control", ["es", "es"], r"extraction\.control: es is named twice"),
        ("steering/strengths", [1, 1.0], r"steering\.strengths: 1\.0 is named twice"),
        ("steering/strengths", [float("inf")], r"steering\.strengths\.0: .*finite"),
        ("steering/strengths", [1.0, float("nan")], r"steering\.strengths\.1: .*finite"),
        ("steering/methods", ["linear_map"] * 2, r"steering\.methods: linear_map is named twice"),
        ("steering/fit_on", ["everyday"] * 2, r"steering\.fit_on: everyday is named twice"),
        ("steering/evaluate_on", ["everyday"] * 2, r"steering\.evaluate_on: everyday is named tw"),
        ("steering/languages", ["de", "sw", "swh"], r"steering\.languages: sw is named twice"),
        ("steering/layers", [0.5, 0.5], r"steering\.layers: 0\.5 is named twice"),
        ("steering/controls", ["random", "zero", "zero"], r"steering\.controls: zero is named tw"),
        ("steering/controls", [], r"steering\.controls: random and zero must be among them"),
        ("steering/controls", ["reverse", "random"], r"steering\.controls: zero must be among"),
        ("datasets/lexicon/kinds", ["flags"], r"lexicon\.kinds\.0: .*'flag'.*\(got 'flags'\)"),
        ("device", "gpu", r"device: .*auto, cpu.*\(got 'gpu'\)"),
        ("device", "cuda:", r"device: .*\(got 'cuda:'\)"),
        ("models/gemma-3-270m/attention", "flex_attention", r"attention: .*'sdpa' or 'eager'"),
        (
            "prompt/templates",
            {"default": "{question}", "German": "F: {question}"},
            r"prompt: templates\.German is neither a language tag nor `default`",
        ),
        (
            "prompt/templates",
            {"default": "{question}", "zh": "{question}", "zh-CN": "{question}"},
            r"prompt: templates\.zh-CN: zh is named twice",
        ),
        (
            "prompt/templates",
            {"default": "{question}", "fr": "{question}"},
            r"prompt\.templates\.fr: fr is not one of languages",
        ),
        (
            "datasets/everyday/prompt",
            {"templates": {"default": "{question}", "fr": "{question}"}},
            r"datasets\.everyday\.prompt\.templates\.fr: fr is not one of languages",
        ),
        (
            "datasets/everyday/configs",
            {"en": {"config": "all", "colums": {}}},
            r"datasets\.everyday\.configs\.en\.colums: no such key: .*columns\?$",
        ),
        ("datasets/everyday/configs", {"en": {}}, r"everyday\.configs\.en\.config: is needed"),
        ("datasets/everyday/configs", {"en": 3}, r"everyday\.configs\.en: use a text \(got 3\)"),
        ("languages", ["en"], r"languages: .*at least 2"),
        ("languages", ["en", False], r"languages: false has no place here: .* quotes"),
        ("models", {}, r"models: .*at least 1"),
        ("models/Gemma", {}, r"models\.Gemma"),
        ("models/gemma-3-270m/source", "hub", r"models\.gemma-3-270m: source hub needs repo, rev"),
        ("models/gemma-3-270m/source", "path", r"models\.gemma-3-270m: source path needs path"),
        ("models/gemma-3-270m/sha256", None, r"gemma-3-270m: source package needs sha256"),
        ("models/gemma-3-270m/parameters", 0, r"parameters: .*greater than 0 \(got 0\)"),
        ("models/gemma-3-270m/dtype", "int8", r"dtype: .*'float32', 'bfloat16' or 'float16'"),
        ("datasets/everyday/path", None, r"datasets\.everyday: source jsonl needs path"),
        ("datasets/everyday/languages", ["de"], r"datasets\.everyday\.languages: the pivot en"),
        ("datasets/everyday/languages", ["en", "fr"], r"everyday\.languages: fr is not one of"),
        ("datasets/lexicon/items", 3, r"datasets\.lexicon\.items: .*10 \(got 3\)"),
        ("prompt/templates", {}, r"prompt: templates needs an entry `default`"),
        ("prompt/templates", {"default": "{quest}"}, r"prompt: templates\.default has a field"),
        ("prompt/templates", {"default": "{}{question}"}, r"prompt: templates\.default has a fie"),
        ("prompt/templates", {"default": "{question"}, r"prompt: templates\.default has a field"),
        ("prompt/templates", {"default": "{question.x}"}, r"prompt: templates\.default has a fie"),
        ("prompt/templates", {"default": "{question[x]}"}, r"prompt: templates\.default has a f"),
        ("prompt/templates", {"default": "Q:"}, r"prompt: templates\.default does not use"),
        ("prompt/mode", "few_shot", r"prompt: mode few_shot needs shots"),
        ("prompt/mode", "fewshot", r"prompt\.mode: .*'raw', 'chat' or 'few_shot'"),
        ("extraction/lens_layers", -1, r"extraction\.lens_layers.*\(got -1\)"),
        ("extraction/lens_layers", "some", r"extraction\.lens_layers.*\(got 'some'\)"),
        ("extraction/lens_layers", [0.5, 7], r"extraction\.lens_layers.*\(got 7\)"),
        ("extraction/batch_tokens", 1, r"extraction\.batch_tokens: .*\(got 1\)"),
        ("behaviour/score", "tokens", r"behaviour\.score: .*'token'"),
        ("behaviour/score", "pmi", r"behaviour\.score: pmi cannot be steered: set steering: null"),
        ("similarity/permutations", 3, r"similarity\.permutations: .*\(got 3\)"),
        ("steering/methods", ["magic"], r"steering\.methods\.0: use 'mean.* \(got 'magic'\)"),
        ("models/Big", {}, r"models\.Big: use lower-case letters"),
        ("prompt/templates", {"default": "{qestion}"}, r"templates\.default has .*: qestion"),
        ("steering/methods", [], r"steering\.methods: .*at least 1"),
        ("steering/layers", [], r"steering\.layers: .*at least 1"),
        ("steering/layers", [1.5], r"steering\.layers\.0: .*1 \(got 1\.5\)"),
        ("steering/strengths", [], r"steering\.strengths: .*at least 1"),
        ("steering/strengths", [0.0, 1.0], r"steering\.strengths: 0 is the unsteered model"),
        ("steering/controls", ["rand"], r"steering\.controls\.0: .*\(got 'rand'\)"),
        ("steering/languages", ["fr"], r"steering\.languages: fr is not one of languages"),
        ("steering/languages", ["en"], r"steering\.languages: the pivot is steered as a control"),
        ("steering/fit_on", ["other"], r"steering\.fit_on: other is not a dataset; known: everyda"),
        ("steering/evaluate_on", ["x"], r"steering\.evaluate_on: x is not a dataset"),
        ("statistics/confidence", 95, r"statistics\.confidence: .*less than 1 \(got 95\)"),
        ("statistics/folds", 1, r"statistics\.folds: .*\(got 1\)"),
        ("figures/formats", ["gif"], r"figures\.formats\.0: .*\(got 'gif'\)"),
    ],
)
def test_a_wrong_key_is_named_with_what_is_allowed(path, value, message):
    with pytest.raises(InputError, match="study.yaml: .*" + message) as caught:
        validate(changed(path, value), "study.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("seeds", "fault"),
    [
        ((1, 2), None),
        ((None, None), None),
        ((1, None), "models.again.seed: gemma-3-270m of the same family and size has one"),
        ((1, 1), "models: gemma-3-270m, again: seed 1 is given twice"),
    ],
)
def test_seeds_tell_models_of_one_size_apart(seeds, fault):
    content = changed("study", "seeds")
    again = dict(content["models"]["gemma-3-270m"])
    content["models"]["again"] = again | {"seed": seeds[1]}
    content["models"]["gemma-3-270m"]["seed"] = seeds[0]
    if fault:
        with pytest.raises(InputError, match=fault):
            validate(content)
    else:
        study = Settings(validate(content))
        given = [model.get("seed") for model in study.scale()["models"]]
        assert given == [seeds[0], None, seeds[1]]
        # No artifact is of a seed: the weights say which model it is.
        without = Settings(validate(changed("study", "seeds")))
        for settings in (Settings.readout, lambda s, m: s.activations(m, "everyday")):
            assert settings(study, "gemma-3-270m") == settings(without, "gemma-3-270m")


def test_a_search_for_controls_is_in_steered_keys_alone_and_only_where_it_is_asked_for():
    pair = ("gemma-3-270m", "everyday")
    plain = Settings(validate(changed("steering/controls_search", False)))
    searched = Settings(validate(changed("steering/controls_search", True)))
    assert "controls_search" not in plain.steered(*pair, "everyday")["steering"]
    assert searched.vectors(*pair) == plain.vectors(*pair)
    keys = []
    for settings in (plain, searched):
        about = settings.steered(*pair, "everyday")
        keys.append(steered_identity(about, "v", "a", "p", "de")["steering"])
    assert keys[1] == keys[0] | {"controls_search": True}


def test_few_shot_alone_says_how_worked_items_are_taken():
    """Files of an earlier way are computed anew; keys of other modes stay."""
    for prompt in ({"mode": "raw"}, {"mode": "chat"}, {"mode": "few_shot", "shots": 2}):
        content = changed("prompt", prompt) | {"steering": None}
        settings = Settings(validate(content)).activations("gemma-3-270m", "everyday")
        identity = activation_identity(settings, {"en": "0", "de": "1"}, "de")
        assert identity["prompt"].get("worked_items") == (
            "one pool, one cluster" if prompt["mode"] == "few_shot" else None
        )


def test_questions_with_few_answers_alone_say_how_phrases_are_mismatched():
    """Their files are computed anew; all others keep their names."""
    study = validate(changed("steering", None))
    settings = Settings(study).activations("gemma-3-270m", "everyday")
    of = settings, {"en": "0", "de": "1"}, "de"
    before = activation_identity(*of)
    assert activation_identity(*of, {"en"}) == before and "mismatched" not in before
    assert activation_identity(*of, {"de"}) == before | {"mismatched": "another right choice"}
    worded = {**settings, "extraction": {**settings["extraction"], "latents": False}}
    assert "mismatched" not in activation_identity(worded, *of[1:], {"de"})


def test_all_faults_are_named_at_once():
    content = changed("statistics/folds", 1)
    content["figures"]["dpi"] = "fine"
    with pytest.raises(InputError, match=r"statistics\.folds.*; figures\.dpi"):
        validate(content)


@pytest.mark.parametrize("score", ["pmi", "letter"])
def test_scores_need_their_extra_pass(score):
    content = changed("steering", None) | {"behaviour": {"score": score}}
    with pytest.raises(InputError, match=f"behaviour.score: {score} needs extraction.{score}"):
        validate(content)
    content["extraction"] |= {"pmi": True, "letters": True}
    assert validate(content).behaviour.score == score


def test_sentences_cannot_be_evaluated_but_can_be_fitted_on():
    content = changed("datasets/flores", {"source": "sentences", "path": "data/flores"})
    content["steering"]["fit_on"] = ["flores"]
    assert validate(content).steering.fit_on == ["flores"]
    content["steering"]["evaluate_on"] = ["flores"]
    with pytest.raises(InputError, match="steering.evaluate_on: flores are sentences"):
        validate(content)


def test_the_lens_reads_the_last_layer():
    """What it calls the answer, and what settles, is what stands there."""
    content = changed("extraction/lens_layers", [0.5, 0.75])
    with pytest.raises(InputError, match=r"extraction\.lens_layers: .*1\.0.*last layer"):
        validate(content)
    for depths in ([0.5, 1.0], [1.0], []):
        content["extraction"]["lens_layers"] = depths
        assert validate(content).extraction.lens_layers == depths


@pytest.mark.parametrize("place", ["prompt", "datasets.flores.prompt"])
def test_sentences_have_no_answers_that_few_shot_could_show(place):
    content = changed("datasets/flores", {"source": "sentences", "path": "data/flores"})
    few = {"mode": "few_shot", "shots": 2}
    content["steering"], content["prompt"] = None, few if place == "prompt" else {}
    content["datasets"]["flores"]["prompt"] = None if place == "prompt" else few
    with pytest.raises(InputError, match=r"datasets\.flores: .*few_shot.*prompt: \{mode: raw\}"):
        validate(content)
    content["datasets"]["flores"]["prompt"] = {"mode": "raw"}
    assert validate(content).prompt_of("flores").mode == "raw"


@pytest.mark.parametrize("key", ["fit_on", "evaluate_on"])
def test_steered_languages_are_those_of_the_datasets_that_they_need(key):
    content = changed("datasets/small", {"source": "jsonl", "path": "x", "languages": ["en", "de"]})
    content["steering"][key] = ["small"]
    with pytest.raises(InputError, match=rf"steering\.{key}: small has no es, id, sw"):
        validate(content)
    content["steering"] |= {"languages": ["de"], "controls": ["random", "reverse", "zero"]}
    assert validate(content).steering.languages == ["de"]


def test_a_shuffled_language_needs_a_third():
    content = changed("datasets/everyday/languages", ["en", "de"])
    content["steering"]["languages"] = ["de"]
    with pytest.raises(InputError, match="shuffled_language needs a third language in everyday"):
        validate(content)


def test_vectors_are_not_fitted_behind_worked_items_of_other_folds():
    few = {"mode": "few_shot", "shots": 2}
    for path in ("prompt", "datasets/everyday/prompt"):
        content = changed(path, few)
        with pytest.raises(
            InputError, match=r"fit_on: prompts of everyday are few_shot.*: use raw"
        ):
            validate(content)
        assert validate(content | {"steering": None}).prompt_of("everyday").mode == "few_shot"
    content = changed("datasets/words", {"source": "lexicon", "prompt": few})
    content["steering"]["evaluate_on"] = ["words"]
    assert validate(content).steered_pairs == [("everyday", "words")]


def test_the_wrong_layer_needs_two_layers():
    with pytest.raises(InputError, match=r"steering\.controls: wrong_layer needs two layers"):
        validate(changed("steering/layers", [0.5]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a\n- b", "expected keys and values, got list"),
        ("", "is empty: config/studies/own-data.yaml is a study to copy"),
        ("a: [", "cannot be read"),
        ("a: 1\n\tb: 2", "cannot be read"),
        ("langauges: [en, de]", "langauges: no such key"),
    ],
)
def test_a_bad_file_is_named(tmp_path, content, message):
    path = tmp_path / "c.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=f"c.yaml(:[0-9]+:[0-9]+)?: {message}"):
        read(path)


def test_a_missing_or_binary_file_is_named(tmp_path):
    with pytest.raises(InputError, match="c.yaml: cannot be read"):
        read(tmp_path / "c.yaml")
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(InputError, match="c.yaml: cannot be read"):
        read(tmp_path / "c.yaml")


def test_a_file_that_names_only_what_differs_keeps_the_rest(tmp_path):
    (tmp_path / "c.yaml").write_text("statistics: {folds: 3}\n")
    settings = read(tmp_path / "c.yaml")
    assert settings.statistics.folds == 3 and settings.statistics.seed == Config().statistics.seed


def test_templates_go_by_the_tags_of_the_study():
    config = validate(
        changed("prompt/templates", {"default": "{question}", "zh-CN": "{question}。"})
    )
    assert config.prompt.templates == {"default": "{question}", "zh": "{question}。"}


def test_languages_and_prompts_of_a_dataset():
    content = changed("datasets/everyday/languages", ["sw", "en", "de", "es", "id"])
    config = validate(content)
    assert config.languages_of("everyday") == ["en", "de", "es", "id", "sw"]
    assert config.languages_of("lexicon") == config.languages
    assert config.prompt_of("everyday") == config.prompt
    assert config.prompt_of("lexicon").templates == {"default": "{question}"}


def test_what_is_validated_can_be_used():
    config = Config()
    for slug, model in config.models.items():
        assert ModelSource.from_spec(slug, model.model_dump(mode="json")).slug == slug
    assert prompt_style(config.prompt.model_dump(mode="json")).mode == "raw"
    assert lens_layers(18, config.extraction.lens_layers)[-1] == 18


def test_every_key_of_every_section_has_a_row_in_the_tables():
    text = tables()
    for place, key, default in (
        ("Top level", "pivot", '`"en"`'),
        ("`models.<name>`", "dtype", '`"bfloat16"`'),
        ("`datasets.<name>.configs.<name>`", "config", "needed"),
        ("`statistics.split`", "fit", "needed"),
        ("`estimate.models.<name>`", "layers", "needed"),
    ):
        section = text.split(f"## {place}\n")[1].split("\n## ")[0]
        assert f"| `{key}` | {default} |" in section
    assert text.count("## `prompt`") + text.count("## `datasets.<name>.prompt`") == 1


def test_verdicts_are_of_the_first_questions_that_are_steered():
    content = Config().model_dump(mode="json")
    assert validate(content, "a study").main_dataset == "everyday"
    content["steering"]["evaluate_on"] = ["lexicon"]
    assert validate(content, "a study").main_dataset == "lexicon"
    content["steering"] = None
    assert validate(content, "a study").main_dataset == next(iter(content["datasets"]))


def test_a_language_without_a_configuration_on_the_hub_is_named():
    far = {"source": "hub", "path": "a/b", "languages": ["en", "de"]}
    for configs, absent in (({}, "en"), ({"en": "eng"}, "de")):
        with pytest.raises(InputError, match=rf"far\.configs: no configuration for {absent}"):
            validate(changed("datasets/far", far | {"configs": configs}))


def test_a_first_look_draws_from_every_dataset_into_a_folder_of_its_own():
    limited = validate(changed("limit", 20))
    assert limited.results == "results-limit-20"
    assert {dataset.max_items for dataset in limited.datasets.values()} == {20}
    again = validate(limited.model_dump(mode="json"))  # as results/config.yaml has it
    assert again.results == "results-limit-20"
