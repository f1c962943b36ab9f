from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from isogloss.model.forward import (
    attention_masks,
    last_mlp_at,
    residual_stream,
    run_blocks,
    without_blocks,
)
from isogloss.model.packing import collate, lay_out
from isogloss.model.tiny_models import FAMILIES, VOCABULARY, tiny_model
from isogloss.questions.prompts import Phrase, Question

model = cache(tiny_model)


def batch_of(*prompts):
    trees = [lay_out(Question(0, "main", tuple(p), ())) for p in prompts]
    return collate(trees, range(len(trees)))


def prompts():
    """Two prompts, the first longer than a window of 8."""
    rng = np.random.default_rng(0)
    return [[0, *rng.integers(2, VOCABULARY, n).tolist()] for n in (17, 6)]


def states_of(decoder, batch, change=None):
    """Residual stream at every layer; `change` maps a layer to what replaces its states."""
    kept = []

    def at(layer, states):
        new = change(layer, states) if change else None
        kept.append(states if new is None else new)
        return new

    run_blocks(decoder, batch, at)
    return kept


class Wrapped(nn.Module):
    """A block under another module, with what its backbone reads from it."""

    def __init__(self, inner, convert):
        super().__init__()
        self.inner, self.convert = inner, convert
        self.attention_type = getattr(inner, "attention_type", None)

    def forward(self, *args, **kwargs):
        return self.convert(self.inner(*args, **kwargs))


def returning_tuples(family):
    """A model whose blocks, as Isogloss sees them, return tuples."""
    decoder = tiny_model(family)
    inner = [Wrapped(block, lambda states: (states, "cache")) for block in decoder.layers]
    outer = [Wrapped(block, lambda pair: pair[0]) for block in inner]
    decoder.backbone.layers = nn.ModuleList(outer)
    decoder.layers, decoder.blocks_return_tuples = nn.ModuleList(inner), True
    return decoder


@pytest.mark.parametrize("family", FAMILIES)
def test_states_are_the_models_hidden_states_and_the_last_is_before_the_norm(family):
    decoder = model(family)
    for prompt in prompts():
        states = states_of(decoder, batch_of(prompt))
        with torch.inference_mode():
            expected = decoder.backbone(
                input_ids=torch.tensor([prompt]), output_hidden_states=True, use_cache=False
            ).hidden_states
            assert len(states) == len(expected) == decoder.n_layers + 1
            for layer in range(decoder.n_layers):
                assert (states[layer] - expected[layer]).abs().max() < 1e-5
            assert (decoder.final_norm(states[-1]) - expected[-1]).abs().max() < 1e-5
            assert (states[-1] - expected[-1]).abs().max() > 1e-2  # the model's own entry is normed


@pytest.mark.parametrize("family", ["gemma3", "llama"])
def test_blocks_that_return_tuples_are_read_and_changed_alike(family):
    plain, tuples = model(family), returning_tuples(family)
    batch = batch_of(*prompts())

    def change(layer, states):
        return states + 1 if layer in (0, 2) else None

    for changed in (None, change):
        pairs = zip(
            states_of(plain, batch, changed), states_of(tuples, batch, changed), strict=True
        )
        assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("family", ["gemma2", "qwen3"])
@pytest.mark.parametrize("layer", [0, 2, 4])
def test_what_is_returned_takes_the_place_of_a_layer(family, layer):
    decoder, batch = model(family), batch_of(prompts()[0])
    before = states_of(decoder, batch)
    states = states_of(decoder, batch, lambda i, s: torch.zeros_like(s) if i == layer else None)
    for i in range(layer):
        assert torch.equal(states[i], before[i])
    assert not states[layer].any()
    for i in range(layer + 1, decoder.n_layers + 1):
        assert (states[i] - before[i]).abs().max() > 1e-3


@pytest.mark.parametrize("make", [lambda: model("gemma3"), lambda: returning_tuples("llama")])
def test_blocks_left_out_below_given_states_change_nothing_above(make):
    decoder, batch = make(), batch_of(*prompts())
    whole = states_of(decoder, batch)
    for layer in (1, 3, 4):
        with without_blocks(decoder, range(layer)):
            states = states_of(
                decoder, batch, lambda i, s, at=layer: whole[at] if i == at else None
            )
        for i in range(layer, decoder.n_layers + 1):
            assert torch.equal(states[i], whole[i])


def test_blocks_left_out_above_the_last_wanted_layer_change_nothing_below():
    decoder, batch = model("gemma2"), batch_of(*prompts())
    whole = states_of(decoder, batch)
    with without_blocks(decoder, range(2, 4)):
        states = states_of(decoder, batch)
    assert all(torch.equal(states[i], whole[i]) for i in range(3))
    assert torch.equal(states[4], whole[2])


def test_blocks_and_hooks_are_as_before_even_after_an_error():
    decoder, batch = tiny_model("gemma3"), batch_of(prompts()[0])
    kept_by_accelerate = decoder.layers[1].forward
    decoder.layers[1].forward = kept_by_accelerate
    before = states_of(decoder, batch)

    def fails(layer, states):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), without_blocks(decoder, range(3)):
        run_blocks(decoder, batch, fails)
    assert decoder.layers[1].__dict__["forward"] is kept_by_accelerate
    assert "forward" not in decoder.layers[0].__dict__
    assert not any(b._forward_hooks or b._forward_pre_hooks for b in decoder.layers)
    assert torch.equal(states_of(decoder, batch)[-1], before[-1])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_mlp_at_some_places_gives_their_states_and_leaves_no_trace(family):
    decoder, batch = model(family), batch_of(*prompts())
    whole = states_of(decoder, batch)[-1]
    row, column = np.array([0, 1, 0]), np.array([16, 5, 3])
    with last_mlp_at(decoder, row, column):
        states = states_of(decoder, batch)[-1]
    torch.testing.assert_close(states[row, column], whole[row, column], atol=1e-5, rtol=0)
    assert not torch.allclose(states[0, 4], whole[0, 4], atol=1e-3)  # it was left out there
    assert torch.equal(states_of(decoder, batch)[-1], whole)


def test_rows_can_be_repeated_and_chosen():
    decoder, batch = model("gemma3"), batch_of(*prompts())
    whole, seen = states_of(decoder, batch), []
    run_blocks(decoder, batch, lambda layer, states: seen.append(states), rows=[1, 0, 1])
    assert seen[-1].shape[0] == 3
    assert (seen[-1] - whole[-1][[1, 0, 1]]).abs().max() < 1e-5


def test_window_counts_positions_on_a_path_not_places_in_the_row():
    phrases = (Phrase(0, 0, (2, 3, 4, 5), False), Phrase(0, 1, (6, 7, 8, 9), False))
    tree = lay_out(Question(0, "main", tuple(range(10, 16)), phrases))  # 6 + 3 + 3 tokens
    batch = collate([tree], [0])
    decoder = model("gemma3")
    masks = attention_masks(decoder, batch.mask, batch.positions, batch.segments)
    assert set(masks) == {"full_attention", "sliding_attention"}
    full, sliding = (masks[f"{kind}_attention"][0, 0] == 0 for kind in ("full", "sliding"))
    assert full[11].int().tolist() == [1] * 6 + [0] * 3 + [1] * 3
    # the last node stands at position 8: positions 1 to 8 are inside a window of 8
    assert sliding[11].int().tolist() == [0] + [1] * 5 + [0] * 3 + [1] * 3


def test_masks_take_the_form_of_the_attention_in_use():
    batch = batch_of(prompts()[1])
    length = batch.tokens.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()

    def mask(decoder):
        masks = attention_masks(decoder, batch.mask, batch.positions, batch.segments)
        return (masks["full_attention"] if isinstance(masks, dict) else masks)[0, 0]

    assert model("llama").by_segments and not model("gemma2").by_segments
    sdpa = mask(replace(model("llama"), attention="sdpa"))
    assert sdpa.dtype == torch.bool and torch.equal(sdpa, causal)
    for family in ("llama", "gemma2"):  # by segments, eager
        added = mask(model(family))
        assert torch.equal(added == 0, causal)
        assert (added[~causal] == torch.finfo(torch.float32).min).all()


def test_without_the_hand_on_it_the_model_runs_as_before():
    decoder = model("llama")
    ids = torch.tensor([prompts()[0]])
    with torch.inference_mode():
        before = decoder.model(input_ids=ids).logits
        with residual_stream(decoder, lambda layer, states: states * 0):
            assert not torch.equal(decoder.model(input_ids=ids).logits, before)
        assert torch.equal(decoder.model(input_ids=ids).logits, before)
