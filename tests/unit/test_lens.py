from dataclasses import replace
from functools import cache

import h5netcdf
import numpy as np
import pytest
import torch

from isogloss.extraction.assembly import assemble
from isogloss.extraction.language import LanguageExtraction
from isogloss.extraction.shards import compute_shards
from isogloss.files.canonical import key_of
from isogloss.files.netcdf import open_netcdf, write_netcdf
from isogloss.measures.lens import lens_layers, phrase_means
from isogloss.model import logit_lens as lens
from isogloss.model import token_scores
from isogloss.model.forward import run_blocks
from isogloss.model.logit_lens import lens_of_file
from isogloss.model.norms import Norm
from isogloss.model.packing import collate, lay_out
from isogloss.model.readout import Readout, readout_of
from isogloss.model.tiny_models import FAMILIES, VOCABULARY, tiny_model
from isogloss.model.token_scores import _highest, token_log_probabilities
from isogloss.questions.items import Item, ParallelItems
from isogloss.questions.prompts import LATENTS, PromptStyle, Question, Tokens, questions

model = cache(tiny_model)


def random_readout(
    softcap=None, bias=True, vocabulary=97, width=12, style="weight", dtype=torch.float32
):
    draw = torch.Generator().manual_seed(0)
    return Readout(
        norm=Norm((torch.rand(width, generator=draw) + 0.5).to(dtype), 1e-6, style),
        weight=(torch.randn(vocabulary, width, generator=draw) * 3).to(dtype),
        bias=torch.randn(vocabulary, generator=draw).to(dtype) if bias else None,
        softcap=softcap,
    )


def naive(states, readout):
    """(row, token) log-probabilities, all logits at once, in float64."""
    h = states.double()
    h = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + readout.norm.eps)
    scale = readout.norm.weight.double() + (readout.norm.style == "one_plus_weight")
    logits = (h * scale) @ readout.weight.double().T
    if readout.bias is not None:
        logits = logits + readout.bias.double()
    if readout.softcap is not None:
        logits = readout.softcap * torch.tanh(logits / readout.softcap)
    return torch.log_softmax(logits, -1)


@pytest.mark.parametrize("softcap", [None, 4.0])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("style", ["weight", "one_plus_weight"])
@pytest.mark.parametrize("blocks", [(512, 8192), (3, 10), (7, 97), (1, 1)])
def test_blocks_give_the_naive_log_softmax(softcap, bias, style, blocks):
    readout = random_readout(softcap, bias, style=style)
    states = torch.randn(11, 12, generator=torch.Generator().manual_seed(1)) * 20
    row = torch.arange(11).repeat_interleave(97).flip(0)
    token = torch.arange(97).repeat(11)
    read_off = token_log_probabilities(
        states, readout, row, token, row_block=blocks[0], vocabulary_block=blocks[1]
    )
    assert read_off.dtype == torch.float32
    assert (read_off - naive(states, readout)[row, token]).abs().max() < 1e-4
    assert read_off.reshape(11, 97).exp().sum(1).sub(1).abs().max() < 1e-4


@pytest.mark.parametrize("softcap", [None, 4.0])
def test_the_size_of_a_block_is_without_effect(softcap):
    readout = random_readout(softcap, vocabulary=5000)
    states = torch.randn(70, 12, generator=torch.Generator().manual_seed(1)) * 20
    row, token = torch.arange(70).repeat(2), torch.arange(140) * 31
    first, *others = (
        token_log_probabilities(
            states, readout, row, token, row_block=rows, vocabulary_block=tokens
        )
        for rows, tokens in ((70, 5000), (7, 64), (64, 4999))
    )
    for other in others:
        torch.testing.assert_close(other, first, atol=1e-4, rtol=0)


@pytest.mark.parametrize("bits_below", [True, False])
def test_the_highest_logit_and_its_place(bits_below):
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 3000, generator=draw) * torch.logspace(-3, 2, 200)[:, None] - 7
    logits = logits if bits_below else logits.bfloat16().float()
    value, place = _highest(logits, 1000, bits_below)
    assert torch.equal(value, logits.gather(1, place)) and (place // 1000).eq(torch.arange(3)).all()
    highest = logits.view(200, 3, 1000).amax(-1)
    assert ((highest - value) <= highest.abs() / 128).all()


def test_only_plain_bfloat16_logits_have_no_bits_below():
    plain = random_readout(bias=False, dtype=torch.bfloat16)
    assert not plain.bits_below_bfloat16
    biased = replace(plain, bias=torch.zeros(len(plain.weight), dtype=torch.bfloat16))
    half = random_readout(bias=False, dtype=torch.float16)
    others = (half, replace(plain, softcap=30.0), biased)
    assert all(readout.bits_below_bfloat16 for readout in others)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_few_rows_take_several_blocks_at_a_time_and_find_the_same(dtype, monkeypatch):
    readout, at_once = random_readout(vocabulary=1030, dtype=dtype), []
    original = token_scores._log_sum_exp
    monkeypatch.setattr(
        token_scores, "_log_sum_exp", lambda *x: at_once.append(x[-1]) or original(*x)
    )
    states = torch.randn(9, 12, generator=torch.Generator().manual_seed(1)) * 20
    row, token = torch.arange(9).repeat(2), torch.arange(18) * 31
    many, few = (
        token_log_probabilities(states, readout, row, token, row_block=n, vocabulary_block=100)
        for n in (9, 36)
    )
    assert at_once == [1, 4]
    torch.testing.assert_close(many, few, atol=1e-5, rtol=0)


def test_repeated_states_are_read_once_and_give_identical_numbers(monkeypatch):
    readout, read = random_readout(), []
    draw = np.random.default_rng(0)
    states = draw.normal(size=(5, 12)).astype(np.float32)[draw.integers(0, 5, 60)]
    row, token = np.arange(60).repeat(2), draw.integers(0, 97, 120)
    whole = token_log_probabilities(
        torch.from_numpy(states), readout, torch.from_numpy(row), torch.from_numpy(token)
    )

    def spy(states, *rest):
        read.append(len(states))
        return token_log_probabilities(states, *rest)

    monkeypatch.setattr(lens, "token_log_probabilities", spy)
    (read_off,) = lens.lens_of_rows(lambda layer: states, [0], readout, row, token)
    assert read == [5]
    np.testing.assert_allclose(read_off, whole, atol=1e-5)


def test_huge_logits_do_not_overflow():
    readout = replace(random_readout(), weight=random_readout().weight * 1e4)
    states = torch.randn(3, 12, generator=torch.Generator().manual_seed(1))
    row, token = torch.tensor([0, 1, 2]), torch.tensor([5, 6, 7])
    read_off = token_log_probabilities(states, readout, row, token, vocabulary_block=10)
    expected = naive(states, readout)[row, token]
    assert torch.isfinite(read_off).all() and torch.allclose(read_off.double(), expected, rtol=1e-4)


def test_no_targets_give_no_values():
    none = torch.zeros(0, dtype=torch.long)
    states = torch.zeros(0, 12)
    assert token_log_probabilities(states, random_readout(), none, none).shape == (0,)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_lens_at_the_last_layer_is_the_models_own_log_softmax(family):
    decoder = model(family)
    prompt = [0, *np.random.default_rng(0).integers(2, VOCABULARY, 15).tolist()]
    final = []

    def at(layer, states):
        if layer == decoder.n_layers:
            final.append(states[0])

    run_blocks(decoder, collate([lay_out(Question(0, "main", tuple(prompt), ()))], [0]), at)
    with torch.inference_mode():
        expected = decoder.model(input_ids=torch.tensor([prompt])).logits[0].float().log_softmax(-1)
    row = torch.arange(len(prompt)).repeat_interleave(VOCABULARY)
    token = torch.arange(VOCABULARY).repeat(len(prompt))
    read_off = token_log_probabilities(final[0], readout_of(decoder), row, token)
    assert (read_off.reshape(expected.shape) - expected).abs().max() < 1e-4


def test_layers_of_the_lens():
    assert lens_layers(18, "all") == list(range(19))
    assert lens_layers(18, 7) == [0, 3, 6, 9, 12, 15, 18]
    assert lens_layers(18, 1) == [18]
    assert lens_layers(18, 0) == lens_layers(18, []) == []
    assert lens_layers(4, 100) == [0, 1, 2, 3, 4]
    assert lens_layers(18, [1.0, 0.0, 0.5, 0.51]) == [0, 9, 18]


def test_sums_of_phrases_worked_by_hand():
    targets = {
        "item": np.array([0, 0, 0, 1]),
        "latent": np.array([0, 0, 1, 1]),
        "choice": np.array([1, 1, 0, 1]),
        "position": np.array([0, 1, 0, 0]),
    }
    total, first = phrase_means(np.array([-1.0, -2.0, -4.0, 0.0]), targets, (2, 2, 2))
    nan = np.nan
    np.testing.assert_array_equal(total, [[[nan, -3], [-4, nan]], [[nan, nan], [nan, 0]]])
    np.testing.assert_array_equal(first, [[[nan, -1], [-4, nan]], [[nan, nan], [nan, 0]]])


# -- over an activation file -----------------------------------------------------------------------


def extract(
    folder,
    family="gemma2",
    layers=(0, 2, 4),
    language="de",
    sentences=False,
    dtype=torch.float32,
    **more,
):
    decoder = model(family, dtype=dtype)
    words = {"en": "bee", "de": "Biene", "zh": "蜂"}
    data = ParallelItems(
        "made",
        {
            tag: tuple(
                Item(f"q{i}", "", f"what {tag} {i}?", (), -1)
                if sentences
                else Item(f"q{i}", "", f"what {tag} {i}?", (w, f"{w} {i}", "la")[: 3 - i % 2], 0)
                for i in range(3)
            )
            for tag, w in words.items()
        },
        np.arange(3),
    )
    style = PromptStyle("raw", {"default": "Q: {question}\nA:"})
    tokens = Tokens(decoder.tokenizer, decoder.start)
    asked = questions(data, language, tokens, style, pivot="en", control="zh")
    spec = {"language": language, "pivot": "en", **more}
    path = folder / f"{key_of(spec)}.h5"
    extraction = LanguageExtraction(path, spec, data, asked, layers)
    assemble(extraction, {}, compute_shards(decoder, extraction, 512))
    return path, asked


def read(path, decoder):
    return lens_of_file(path, decoder.readout)


@pytest.mark.parametrize("family", ["gemma2", "mistral"])
def test_the_lens_of_a_file_is_the_head_on_the_normed_hidden_states(family, tmp_path):
    path, asked = extract(tmp_path, family)
    decoder = model(family)
    lens_file = read(path, decoder)
    assert lens_file.log_probability.dims == ("layer", "item", "latent", "choice")
    assert lens_file.layer.values.tolist() == [0, 2, 4]
    assert lens_file.relative_depth.values.tolist() == [0, 0.5, 1]
    assert lens_file.latent.values.tolist() == list(LATENTS)
    assert lens_file.item.values.tolist() == ["q0", "q1", "q2"]
    for question in asked:
        for phrase in question.phrases:
            ids = torch.tensor([[*question.prompt, *phrase.tokens]])
            with torch.inference_mode():
                hidden = decoder.backbone(input_ids=ids, output_hidden_states=True).hidden_states[2]
                logits = decoder.head(decoder.final_norm(hidden))[0].float()
            if decoder.softcap:
                logits = decoder.softcap * torch.tanh(logits / decoder.softcap)
            place = torch.arange(len(question.prompt) - 1, ids.shape[1] - 1)
            each = logits.log_softmax(-1)[place, list(phrase.tokens)]
            where = {"layer": 1, "item": question.item, "latent": phrase.latent}
            where["choice"] = phrase.choice
            assert float(lens_file.log_probability[where]) == pytest.approx(
                float(each.sum()), abs=1e-4
            )
            assert float(lens_file.first_token[where]) == pytest.approx(float(each[0]), abs=1e-4)
            del where["layer"]
            assert int(lens_file.n_tokens[where]) == len(phrase.tokens)
    assert np.isnan(lens_file.log_probability.sel(latent="prompt")[:, 1, 2]).all()
    assert np.isnan(lens_file.log_probability.sel(latent="prompt_mismatched")[:, :, 1:]).all()


def test_the_lens_at_the_last_layer_is_the_stored_score(tmp_path):
    path, _ = extract(tmp_path)
    lens_file = read(path, model("gemma2"))
    with h5netcdf.File(path, "r") as file:
        stored = file["log_probability"][...]
    np.testing.assert_allclose(lens_file.log_probability[-1], stored, atol=1e-4)
    assert lens_file.attrs["last_layer_difference"] < 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_lens_inside_extraction_is_that_of_the_rows_which_it_saves(dtype, tmp_path):
    decoder = model("gemma2", dtype=dtype)
    kept, saved = (extract(tmp_path, dtype=dtype, **more)[0] for more in ({}, {"rows": "none"}))
    with h5netcdf.File(saved, "r") as file:
        assert set(file.groups["rows"].variables) == {"lens_layer"}
    of_rows, computed = read(kept, decoder), read(saved, decoder)
    assert computed.attrs["last_layer_difference"] < (1e-4 if dtype == torch.float32 else 0.1)
    for name in of_rows.data_vars:
        np.testing.assert_allclose(computed[name], of_rows[name], atol=1e-5)
    # Nothing is computed again: another readout changes no layer but by being compared.
    wrong = lens_of_file(saved, replace(decoder.readout, softcap=None))
    np.testing.assert_array_equal(wrong.log_probability, computed.log_probability)


def test_a_wrong_readout_shows_in_the_last_layer(tmp_path):
    path, _ = extract(tmp_path)
    wrong = replace(model("gemma2").readout, softcap=None)
    assert lens_of_file(path, wrong).attrs["last_layer_difference"] > 1e-2


def test_without_the_last_layer_there_is_nothing_to_compare_it_with(tmp_path):
    path, _ = extract(tmp_path, layers=(0, 2))
    assert np.isnan(read(path, model("gemma2")).attrs["last_layer_difference"])


def test_the_pivots_own_prompts_have_no_pivot_rows(tmp_path):
    path, _ = extract(tmp_path, language="en")
    lens_file = read(path, model("gemma2"))
    for latent in ("pivot", "pivot_mismatched"):
        assert np.isnan(lens_file.log_probability.sel(latent=latent)).all()
    assert np.isfinite(lens_file.log_probability.sel(latent="prompt")[:, :, :2]).all()


def test_sentences_give_an_empty_lens(tmp_path):
    path, _ = extract(tmp_path, sentences=True)
    lens_file = read(path, model("gemma2"))
    assert np.isnan(lens_file.log_probability).all()
    assert np.isnan(lens_file.attrs["last_layer_difference"])


def test_a_lens_file_can_be_written_and_read(tmp_path):
    path, _ = extract(tmp_path)
    lens_file = read(path, model("gemma2"))
    write_netcdf(lens_file, tmp_path / "lens.nc", {"lens_version": 1})
    again = open_netcdf(tmp_path / "lens.nc")
    assert again.equals(lens_file) and again.attrs["spec"] == '{"lens_version":1}'


def test_progress_sees_every_layer(tmp_path):
    path, _ = extract(tmp_path)
    steps = []

    def progress(layers):
        for layer in layers:
            steps.append(layer)
            yield layer

    lens_of_file(path, model("gemma2").readout, progress)
    assert len(steps) == 3


def test_no_token_gets_more_than_probability_one_in_bfloat16():
    """Rows that one token dominates: its logit is exact on both sides of the difference."""
    generator = torch.Generator().manual_seed(0)
    weight = (torch.randn(6000, 64, generator=generator) * 0.5).bfloat16()
    target = torch.arange(0, 6000, 60)
    states = (weight[target].float() * 3).bfloat16()
    rows = torch.arange(len(target))
    narrow = Readout(Norm(torch.zeros(64).bfloat16(), 1e-6, "one_plus_weight"), weight)
    exact = Readout(Norm(torch.zeros(64), 1e-6, "one_plus_weight"), weight.float())
    read_off = token_log_probabilities(states, narrow, rows, target)
    assert read_off.max() <= 1e-6
    full = token_log_probabilities(narrow.norm(states).float(), _unnormed(exact), rows, target)
    assert (read_off - full).abs().max() < 0.02


def _unnormed(readout):
    """The same readout for states that have been through the final norm already."""
    return replace(readout, norm=replace(readout.norm, style="none"))
