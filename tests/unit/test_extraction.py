import threading
import time
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from tests.patience import PATIENCE, until

from isogloss.errors import InputError
from isogloss.extraction import extract as extract_module
from isogloss.extraction import self_tests as extraction_checks
from isogloss.extraction import shards as extraction
from isogloss.extraction.assembly import assemble, target_table
from isogloss.extraction.capture import capture
from isogloss.extraction.extract import extract_languages, language_extraction
from isogloss.extraction.language import LanguageExtraction
from isogloss.extraction.self_tests import check_lens, check_packing, precision
from isogloss.extraction.shards import compute_shard, compute_shards, first_not_finite, shards
from isogloss.extraction.work_folder import write_shard
from isogloss.files.activation_file import open_activations
from isogloss.files.canonical import key_of
from isogloss.files.hdf5 import check_header, content_digest, verify_hdf5
from isogloss.measures.trajectories import pivot_log_odds
from isogloss.model import logit_lens
from isogloss.model.load import load
from isogloss.model.logit_lens import lens_of_file, lens_of_files
from isogloss.model.packing import collate_rows, lay_out, packed_batches
from isogloss.model.readout import write_readout
from isogloss.model.sources import ModelSource
from isogloss.model.tiny_models import FAMILIES, save_tiny_model, tiny_model
from isogloss.questions.items import Item, ParallelItems
from isogloss.questions.prompts import LATENTS, Phrase, PromptStyle, Question, Tokens, questions

RAW = PromptStyle("raw", {"default": "{context}\nQ: {question}\nA:"})
model = cache(tiny_model)


def items(n=5, sentences=False):
    """Items with 2 or 3 choices, prompts of different lengths."""
    made = {
        tag: tuple(
            Item(
                f"q{i}",
                "",
                f"{tag} {'what city ' * (i % 3 + 1)}{i}?",
                () if sentences else (f"{tag}a", f"{tag}a b{i}", "same")[: 3 - i % 2],
                -1 if sentences else i % 2,
            )
            for i in range(n)
        )
        for tag in ("en", "de", "zh")
    }
    return ParallelItems("made", made, np.arange(n))


def ask(decoder, data, language="de", **settings):
    tokens = Tokens(decoder.tokenizer, decoder.start)
    settings = {"pivot": "en", "control": "zh"} | settings
    return questions(data, language, tokens, RAW, **settings)


def language_of(data, asked, folder, layers=(0, 2, 4), language="de"):
    """What the activation file of some questions is made of."""
    spec = {"language": language, "pivot": "en", "model": "tiny", "dataset": "made"}
    spec |= {"extraction_version": 1}
    return LanguageExtraction(folder / f"{key_of(spec)}.h5", spec, data, asked, layers)


def extract(decoder, data, asked, folder, layers=(0, 2, 4), budget=128, **record):
    extraction = language_of(data, asked, folder, layers)
    assemble(extraction, record, compute_shards(decoder, extraction, budget))
    return extraction.path


def unwritten(data, asked):
    """The same for the packing self-test, which writes nothing."""
    return language_of(data, asked, Path("nowhere"))


@torch.inference_mode()
def plain_score(decoder, question, phrase):
    """Summed log-likelihood of a phrase, from one forward of the model itself."""
    ids = torch.tensor([[*question.prompt, *phrase.tokens]])
    log_probability = torch.log_softmax(decoder.model(input_ids=ids).logits[0].float(), -1)
    place = torch.arange(len(question.prompt) - 1, ids.shape[1] - 1)
    return float(log_probability[place, list(phrase.tokens)].sum())


@torch.inference_mode()
def plain_states(decoder, question):
    """(layer, token, feature) of the model's own hidden states, all layers but the last."""
    ids = torch.tensor([question.prompt])
    states = decoder.backbone(input_ids=ids, output_hidden_states=True).hidden_states
    return torch.stack(states[:-1])[:, 0].numpy()


@pytest.mark.parametrize("family", ["gemma3", "qwen2"])
def test_a_file_holds_what_the_model_gives(family, tmp_path):
    decoder, data = model(family), items()
    asked = ask(decoder, data)
    path = extract(decoder, data, asked, tmp_path)
    verify_hdf5(path)
    activations = open_activations(path)
    assert activations.item_id.values.tolist() == list(data.item_ids)
    for question in asked:
        i = question.item
        states = plain_states(decoder, question)
        last, mean = (activations[f"prompt_{p}"][i].values[:-1] for p in ("last", "mean"))
        assert np.abs(last - states[:, -1]).max() < 1e-4
        assert np.abs(mean - states[:, 1:].mean(1)).max() < 1e-4
        assert np.abs(mean - states.mean(1)).max() > 1e-2  # the first position is left out
        assert activations.n_prompt_tokens[i] == len(question.prompt)
        for phrase in question.phrases:
            place = {"item": i, "latent": phrase.latent, "choice": phrase.choice}
            value = float(activations.log_probability[place])
            assert value == pytest.approx(plain_score(decoder, question, phrase), abs=1e-4)
            assert int(activations.phrase_tokens[place]) == len(phrase.tokens)
    assert np.isnan(activations.log_probability.sel(latent="prompt")[1, 2])  # item 1 has 2 choices


def test_stored_rows_are_the_states_that_predict_each_token(tmp_path):
    decoder, data = model("gemma3"), items(3)
    asked = ask(decoder, data)
    activations = open_activations(extract(decoder, data, asked, tmp_path)).load()
    for t in range(0, activations.sizes["target"], 5):
        row = {n: int(activations[f"targets_{n}"][t]) for n in ("row", "item", "latent", "choice")}
        position = int(activations.targets_position[t])
        question = asked[row["item"]]
        (phrase,) = (
            p for p in question.phrases if (p.latent, p.choice) == (row["latent"], row["choice"])
        )
        assert int(activations.targets_token[t]) == phrase.tokens[position]
        before = replace(question, prompt=(*question.prompt, *phrase.tokens[:position]))
        states = plain_states(decoder, before)[:, -1]
        assert np.abs(activations.rows_state[row["row"], :2].values - states[[0, 2]]).max() < 1e-4


def test_pmi_and_letters_are_scored_by_the_model(tmp_path):
    decoder, data = model("llama"), items(3)
    asked = ask(decoder, data, pmi=True, letters=True)
    activations = open_activations(extract(decoder, data, asked, tmp_path)).load()
    letters = {}
    for question in asked:
        for phrase in question.phrases:
            value, place = plain_score(decoder, question, phrase), (question.item, phrase.choice)
            if question.kind == "unconditional":
                assert float(activations.unconditional[place]) == pytest.approx(value, abs=1e-4)
            if question.kind == "letter":
                letters.setdefault(place, []).append(value)
    assert letters and all(len(v) == data.n_choices[i] for (i, _), v in letters.items())
    for place, values in letters.items():
        assert float(activations.letter[place]) == pytest.approx(np.mean(values), abs=1e-4)
    plain = open_activations(extract(decoder, data, ask(decoder, data), tmp_path / "plain"))
    assert "letter" not in plain and "unconditional" not in plain
    for name in ("prompt_mean", "rows_state", "log_probability"):  # extra passes leave no trace
        np.testing.assert_allclose(activations[name], plain[name], atol=1e-4)
    assert activations.sizes["target"] == plain.sizes["target"]


def test_items_that_are_worked_for_one_another_are_one_cluster_of_the_file():
    prompt = {"mode": "few_shot", "template": "Q: {question}\nA:", "shots": 1, "truncate": False}
    identity = {
        "language": "de", "pivot": "en", "control": None, "prompt": prompt, "lens_layers": 0,
        "scores": {"pmi": False, "letters": False},
    }  # fmt: skip
    made = language_extraction(tiny_model("llama"), items(), identity, Path("nowhere"))
    assert made.items.clusters.tolist() == [0, 0, 2, 3, 4]
    raw = {**identity, "prompt": prompt | {"mode": "raw"}}
    made = language_extraction(tiny_model("llama"), items(), raw, Path("nowhere"))
    assert made.items.clusters.tolist() == [0, 1, 2, 3, 4]


def test_the_lens_finds_the_partners_of_questions_with_few_answers(tmp_path):
    """Every mismatched phrase is another right choice, and the file says whose."""
    decoder, answers = model("llama"), [0, 0, 1, 0, 0, 1, 0]
    asked = {
        tag: tuple(Item(f"q{i}", "", f"{tag} {i}?", words, a) for i, a in enumerate(answers))
        for tag, words in (("en", ("yes", "no")), ("de", ("ja", "nein")))
    }
    data = ParallelItems("made", asked, np.arange(len(answers)))
    prompt = {"mode": "raw", "template": "Q: {question}\nA:", "shots": 0, "truncate": False}
    identity = {
        "language": "de", "pivot": "en", "control": None, "prompt": prompt, "lens_layers": "all",
        "scores": {"pmi": False, "letters": False}, "mismatched": "another right choice",
    }  # fmt: skip
    made = language_extraction(decoder, data, identity, tmp_path / f"{key_of(identity)}.h5")
    assemble(made, {}, compute_shards(decoder, made, 128))
    lens = lens_of_file(made.path, decoder.readout)
    partner = lens.mismatched_item.values
    assert (data.answers[partner] != data.answers).all()
    after = lens.log_probability.sel(latent="prompt_mismatched", choice=0).values
    own = lens.log_probability.sel(latent="prompt").values
    assert after == pytest.approx(own[:, range(7), 1 - data.answers], abs=1e-4)
    assert pivot_log_odds(lens).corrected.shape == (5, 7)


def test_sentences_have_states_and_no_scores(tmp_path):
    decoder, data = model("gemma3"), items(3, sentences=True)
    path = extract(decoder, data, ask(decoder, data), tmp_path)
    verify_hdf5(path)
    activations = open_activations(path).load()
    assert np.isfinite(activations.prompt_mean).all() and activations.prompt_mean.shape == (
        3,
        5,
        32,
    )
    assert (
        np.isnan(activations.log_probability).all()
        and activations.answer.values.tolist() == [-1] * 3
    )


def test_without_lens_layers_no_rows_are_kept(tmp_path):
    decoder, data = model("gemma3"), items(3)
    activations = open_activations(extract(decoder, data, ask(decoder, data), tmp_path, layers=()))
    assert (
        "rows_state" not in activations and np.isfinite(activations.log_probability[:, 0, :2]).all()
    )


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(extraction, "SHARD_QUESTIONS", 2)


def counted(monkeypatch, fail_at=None):
    """Every member that `compute_shard` is asked for; fails at the given call."""
    asked = []

    def spy(decoder, trees, members, *rest):
        if fail_at is not None and len(asked) == fail_at:
            raise KeyboardInterrupt
        asked.append(tuple(members))
        return compute_shard(decoder, trees, members, *rest)

    monkeypatch.setattr(extraction, "compute_shard", spy)
    return asked


def test_a_killed_run_goes_on_where_it_stopped(tmp_path, monkeypatch, small_shards):
    decoder, data = model("gemma3"), items(7)
    asked = ask(decoder, data)
    whole = extract(decoder, data, asked, tmp_path / "whole", seconds=1.0)
    first = counted(monkeypatch, fail_at=2)
    with pytest.raises(KeyboardInterrupt):
        extract(decoder, data, asked, tmp_path / "killed")
    assert len(first) == 2 and not list((tmp_path / "killed").glob("*.h5"))
    second = counted(monkeypatch)
    killed = extract(decoder, data, asked, tmp_path / "killed", seconds=2.0)
    assert sorted(first + second) == [(0, 1), (2, 3), (4, 5), (6,)]
    verify_hdf5(killed)
    assert content_digest(killed, {"record"}) == content_digest(whole, {"record"})
    assert not killed.with_suffix(".work").exists()
    assert list((tmp_path / "killed").iterdir()) == [killed]


def test_only_deleted_shards_are_computed_again(tmp_path, monkeypatch, small_shards):
    decoder, data = model("llama"), items(7)
    asked = ask(decoder, data)
    extraction = language_of(data, asked, tmp_path)
    files = compute_shards(decoder, extraction, 128)
    before = [file.read_bytes() for file in files]
    files[1].unlink()
    files[3].unlink()
    done = counted(monkeypatch)
    again = compute_shards(decoder, extraction, 128)
    assert sorted(done) == [(2, 3), (6,)] and again == files
    for file, content in zip(files, before, strict=True):
        with np.load(file) as new:
            file.write_bytes(content)
            with np.load(file) as old:
                assert all(np.array_equal(new[name], old[name]) for name in old)


def test_a_half_written_shard_is_never_taken_for_a_whole_one(tmp_path, monkeypatch):
    decoder, data = model("llama"), items(2)

    def broken(file, **_):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", broken)
    with pytest.raises(OSError, match="disk full"):
        extract(decoder, data, ask(decoder, data), tmp_path)
    assert not [f for f in tmp_path.rglob("*") if f.is_file()]


def test_computing_waits_for_a_slow_disk(tmp_path, monkeypatch, small_shards):
    decoder, data = model("llama"), items(12)
    asked, computed, gate = ask(decoder, data), counted(monkeypatch), threading.Event()

    def slow(file, shard):
        gate.wait(PATIENCE)
        write_shard(file, shard)

    monkeypatch.setattr(extraction, "write_shard", slow)
    running = threading.Thread(target=extract, args=(decoder, data, asked, tmp_path))
    running.start()
    expected = extraction.WRITTEN_BEHIND + 1
    until(lambda: len(computed) >= expected, "shards that wait for the disk")
    time.sleep(0.1)  # one more would have come
    waiting = len(computed)
    gate.set()
    running.join(PATIENCE)
    assert waiting == expected and len(computed) == 6
    assert len(list(tmp_path.glob("*.h5"))) == 1


def test_a_failed_write_ends_the_run(tmp_path, monkeypatch, small_shards):
    decoder, data = model("llama"), items(12)
    computed = counted(monkeypatch)

    def broken(file, shard):
        raise OSError("disk full")

    monkeypatch.setattr(extraction, "write_shard", broken)
    with pytest.raises(OSError, match="disk full"):
        extract(decoder, data, ask(decoder, data), tmp_path)
    assert len(computed) <= extraction.WRITTEN_BEHIND + 1


def test_the_file_does_not_show_how_questions_were_shared_out(tmp_path, monkeypatch):
    decoder, data = model("gemma3"), items(11)
    asked = ask(decoder, data, pmi=True)
    plain = open_activations(extract(decoder, data, asked, tmp_path / "plain")).load()
    for size, budget in ((2, 4096), (3, 64), (4, 300)):
        monkeypatch.setattr(extraction, "SHARD_QUESTIONS", size)
        folder = tmp_path / str(size)
        activations = open_activations(extract(decoder, data, asked, folder, budget=budget)).load()
        assert activations.sizes == plain.sizes
        for name in plain.data_vars:
            if plain[name].dtype.kind == "f":
                np.testing.assert_allclose(activations[name], plain[name], atol=1e-4, err_msg=name)
            else:
                assert (activations[name] == plain[name]).all(), name


def test_a_damaged_shard_is_named(tmp_path, small_shards):
    decoder, data = model("llama"), items(3)
    asked = ask(decoder, data)
    extraction = language_of(data, asked, tmp_path)
    files = compute_shards(decoder, extraction, 128)
    files[1].write_bytes(files[1].read_bytes()[:-40])
    with pytest.raises(InputError, match=f"{files[1].name}: not a whole shard"):
        assemble(extraction, {}, files)
    assert not extraction.path.exists() and files[0].exists()


def test_shards_are_named_by_what_is_in_them(small_shards):
    asked = ask(model("llama"), items(5))
    names = [name for name, _ in shards(asked, "key")]
    assert [members for _, members in shards(asked, "key")] == [[0, 1], [2, 3], [4]]
    changed = [*asked[:2], replace(asked[2], prompt=(0, 7, 8)), *asked[3:]]
    other = [name for name, _ in shards(changed, "key")]
    assert other[0] == names[0] and other[2] == names[2] and other[1] != names[1]
    assert not set(names) & {name for name, _ in shards(asked, "another key")}


def test_states_that_are_not_finite_are_refused_with_item_and_layer(tmp_path):
    decoder, data = tiny_model("llama"), items(2)
    asked = ask(decoder, data)
    token = set(asked[1].prompt) - set(asked[0].prompt)
    decoder.embed.weight[token.pop()] = torch.nan
    with pytest.raises(InputError, match=r'item "q1": states of layer 0 are not finite in torch'):
        extract(decoder, data, asked, tmp_path)
    assert not list(tmp_path.rglob("*.npz")) and not list(tmp_path.rglob("*.h5"))


def test_overflow_in_float16_is_refused(tmp_path):
    decoder, data = tiny_model("llama", dtype=torch.float16), items(2)
    decoder.embed.weight *= 1e6
    with pytest.raises(InputError, match="not finite in torch.float16: set the model's dtype"):
        extract(decoder, data, ask(decoder, data), tmp_path)


@pytest.fixture
def finite_shard():
    """A shard of the last two of three questions with rows of layers 1 and 3, all zero."""
    data = items(3)
    extraction = language_of(data, ask(model("llama"), data), Path("nowhere"), (1, 3))
    trees = extraction.trees[1:]
    rows, scores = (sum(len(getattr(t, n)) for t in trees) for n in ("predicting", "target_token"))
    shard = {name: np.zeros((2, 5, 3)) for name in ("mean", "last")}
    shard |= {"lens": np.zeros((rows, 2, 3)), "log_probability": np.zeros(scores)}
    assert first_not_finite(shard, extraction, [1, 2]) is None
    return shard, extraction


def test_scores_that_are_not_finite_are_seen(finite_shard):
    shard, extraction = finite_shard
    shard["log_probability"][-1] = np.nan
    assert first_not_finite(shard, extraction, [1, 2]) == (2, "scores")


def test_rows_that_are_not_finite_are_seen_with_question_and_layer(finite_shard):
    shard, extraction = finite_shard
    shard["lens"][len(extraction.trees[1].predicting), 1, 0] = np.inf
    assert first_not_finite(shard, extraction, [1, 2]) == (2, "states of layer 3")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rows_keep_the_models_own_bits(dtype, tmp_path):
    decoder, data = tiny_model("qwen3", dtype=dtype), items(2)
    asked = ask(decoder, data)
    path = extract(decoder, data, asked, tmp_path, layers=[4], budget=4096)
    trees = [lay_out(q) for q in asked]
    (rows,) = packed_batches(trees, range(2), 4096)
    batch = collate_rows(trees, rows)
    captured = capture(decoder, batch, trees, [4])
    assert captured.lens.dtype == dtype
    with h5py.File(path) as file:
        stored = file["rows/state"]
        assert stored.dtype == (np.uint16 if dtype == torch.bfloat16 else np.float16)
        assert stored.attrs.get("stored_as", "") == ("bfloat16" * (dtype == torch.bfloat16))
    rows = open_activations(path).rows_state.values
    order = np.concatenate(
        [np.flatnonzero(np.repeat(batch.members, [len(trees[m].predicting) for m in batch.members])
                        == m) for m in range(2)]
    )  # fmt: skip
    assert np.array_equal(rows, captured.lens.float().numpy()[order])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_passes_its_self_tests(family):
    decoder = model(family)
    asked = ask(decoder, items())
    assert check_lens(decoder, asked[0])["difference"] <= 1e-4
    assert check_packing(decoder, unwritten(items(), asked))["packing_difference"] <= 1e-4


def test_bfloat16_passes_its_self_tests_within_what_is_allowed():
    decoder = tiny_model("gemma3", dtype=torch.bfloat16)
    asked = ask(decoder, items())
    difference = check_lens(decoder, asked[0])
    assert difference["difference"] <= difference["allowed"] and difference["allowed"] > 1e-3
    packed = check_packing(decoder, unwritten(items(), asked))
    assert packed["packing_difference"] <= packed["packing_allowed"]


@pytest.mark.parametrize(
    ("family", "wrong"),
    [("gemma2", {"softcap": None}), ("gemma3", {"style": "weight"}), ("llama", {"eps": 1.0})],
)
def test_the_lens_self_test_sees_a_wrong_readout(family, wrong):
    decoder = replace(model(family))
    readout = decoder.readout
    part = readout if "softcap" in wrong else readout.norm
    wrong_part = replace(part, **wrong)
    decoder.readout = wrong_part if part is readout else replace(readout, norm=wrong_part)
    with pytest.raises(InputError, match=r"lens self-test: .* differs from the model by \d"):
        check_lens(decoder, ask(decoder, items())[0])


def test_the_packing_self_test_sees_places_taken_for_positions(monkeypatch):
    decoder = model("gemma3")
    monkeypatch.setattr(decoder, "sliding_window", None)
    with pytest.raises(InputError, match=r"packing self-test: .* unpacked ones by \d"):
        check_packing(decoder, unwritten(items(), ask(decoder, items())))


def test_the_packing_self_test_says_that_scores_are_not_finite():
    decoder = tiny_model("llama", dtype=torch.float16)
    decoder.embed.weight *= 1e6
    with pytest.raises(InputError, match="not finite in torch.float16: set the model's dtype"):
        check_packing(decoder, unwritten(items(), ask(decoder, items())))


def test_sentences_have_nothing_to_pack():
    decoder = model("llama")
    asked = ask(decoder, items(2, sentences=True))
    assert check_packing(decoder, unwritten(items(2, sentences=True), asked)) == {}
    assert check_lens(decoder, asked[0])["difference"] <= 1e-4


def test_what_bfloat16_costs_is_measured_against_float32(tmp_path):
    save_tiny_model(tmp_path / "tiny", "llama")
    source = ModelSource("tiny", "path", path=tmp_path / "tiny", family="llama", dtype="bfloat16")
    narrow = load(source, tmp_path, "cpu")
    asked = {"de": ask(narrow, items(3))}
    load_exact = partial(load, replace(source, dtype="float32"), tmp_path, "cpu")
    costs = precision(narrow, load_exact, asked, 2)["de"]
    assert costs["phrases"] == sum(len(q.phrases) for q in asked["de"][:2])
    exact, difference = model("llama"), []
    for question in asked["de"][:2]:
        for phrase in question.phrases:
            tree = [lay_out(replace(question, phrases=(phrase,)))]
            low = compute_shard(narrow, tree, [0], [], 512)["log_probability"]
            difference.append(abs(low.sum() - plain_score(exact, question, phrase)))
    assert 0 < costs["mean"] <= costs["largest"]
    assert costs["largest"] == pytest.approx(max(difference), rel=0.5)
    assert precision(narrow, load_exact, asked, 0) == {}


def no_memory(*_):
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_no_memory_for_float32_is_recorded_and_stops_nothing(monkeypatch):
    narrow = tiny_model("llama", dtype=torch.bfloat16)
    asked = {tag: ask(narrow, items(2), tag, control=None) for tag in ("de", "zh")}
    said = {"not_compared": "out of memory"}
    assert precision(narrow, no_memory, asked, 1) == {"de": said, "zh": said}
    monkeypatch.setattr(extraction_checks, "capture", no_memory)
    assert precision(narrow, partial(model, "llama"), asked, 1) == {"de": said, "zh": said}


@pytest.mark.parametrize("step", ["check_packing", "check_lens"])
def test_no_memory_in_the_self_tests_is_said_in_one_line(tmp_path, monkeypatch, step):
    decoder, data = model("llama"), items(2)
    languages = {"de": language_of(data, ask(decoder, data), tmp_path)}
    monkeypatch.setattr(extract_module, step, no_memory)
    with pytest.raises(InputError, match="^extract tiny-llama made: self-tests: out of memory"):
        extract_languages(decoder, languages, 128, {}, print, partial(model, "llama"))


def test_no_memory_for_the_lens_is_said_in_one_line(tmp_path, monkeypatch):
    decoder, data = model("llama"), items(2)
    path = extract(decoder, data, ask(decoder, data), tmp_path)
    readout = tmp_path / f"{key_of({})}.safetensors"
    write_readout(decoder, readout, {})
    monkeypatch.setattr(logit_lens, "token_log_probabilities", no_memory)
    with pytest.raises(InputError, match="^lens tiny made de: out of memory"):
        list(lens_of_files({"de": path}, readout, "cpu", "lens tiny made"))


def test_a_file_without_rows_has_no_lens(tmp_path):
    decoder, data = model("llama"), items(2)
    path = extract(decoder, data, ask(decoder, data), tmp_path, layers=())
    with pytest.raises(InputError, match=f"{path}: keeps no rows for the lens: set extraction"):
        lens_of_file(path, decoder.readout)


def test_other_faults_of_the_float32_copy_are_not_hidden(tmp_path):
    narrow = tiny_model("llama", dtype=torch.bfloat16)
    source = ModelSource("tiny", "path", path=tmp_path / "none", family="llama")
    with pytest.raises(InputError, match="none"):
        precision(narrow, partial(load, source, tmp_path, "cpu"), {"de": []}, 1)


def test_header_names_the_key_and_the_self_made_spec(tmp_path):
    decoder, data = model("llama"), items(2)
    path = extract(decoder, data, ask(decoder, data), tmp_path, licence="CC0-1.0")
    assert check_header(path)["language"] == "de"
    assert open_activations(path).attrs["record"] == '{"licence":"CC0-1.0"}'


def test_choices_that_are_spelled_as_in_the_pivot_are_marked(tmp_path):
    decoder, data = model("llama"), items(2)
    activations = open_activations(extract(decoder, data, ask(decoder, data), tmp_path))
    assert activations.identical_to_pivot.values.tolist() == [[0, 0, 1], [0, 0, 0]]
    assert activations.n_characters[0].values.tolist() == [3, 6, 4]
    assert activations.n_choices.values.tolist() == [3, 2]


def test_latents_are_at_the_places_that_their_names_say():
    phrase = Phrase(LATENTS.index("control"), 1, (5,), False)
    question = Question(0, "main", (0, 3), (phrase,))
    table = target_table([question], [lay_out(question)])
    assert (table["latent"].tolist(), table["choice"].tolist()) == ([2], [1])
