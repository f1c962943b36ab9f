"""The cost model's formulas, against counted operations and written bytes."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.unit import test_steered as steering
from tests.unit.test_extraction import RAW, ask, extract, items
from torch.utils.flop_counter import FlopCounterMode
from transformers.integrations import sdpa_attention

from isogloss.cost.costs import (
    DIFFERENT,
    Architecture,
    Cost,
    Grid,
    Job,
    Model,
    Work,
    activation_bytes,
    compared,
    evaluated,
    lens,
    resampled,
    self_tests,
    steered,
    subspaces,
    unsteered_pivot,
    whole,
)
from isogloss.cost.costs import extract as cost
from isogloss.cost.fitting import fitted_shares
from isogloss.cost.machines import known, named
from isogloss.cost.workload import Forwards, Rows, Scored, counted
from isogloss.extraction import capture
from isogloss.extraction import self_tests as extraction_checks
from isogloss.extraction.self_tests import check_lens, check_packing, precision
from isogloss.model import attention as segments
from isogloss.model.forward import run
from isogloss.model.packing import collate, lay_out
from isogloss.model.readout import readout_of
from isogloss.model.sources import ModelSource
from isogloss.model.tiny_models import tiny_model
from isogloss.model.token_scores import token_log_probabilities
from isogloss.questions.prompts import PromptStyle, Tokens
from isogloss.steering.sweep import Condition
from isogloss.study.steering_methods import CONTROLS

GERMAN = Scored("de", "en", "zh")
NOMINAL = {"blocks": 0.4, "head": 0.4, "lens": 0.4, "steer": 0.25, "steer_head": 0.25}
NOMINAL |= {"attention": 0.4, "write": 1.0}
TINY = Architecture(4, 32, 64, 4, 2, 8, 384, by_segments=True)


def rows_of(decoder, data, scored=GERMAN, style=RAW):
    """All of them: the sample is larger."""
    return counted(data, Tokens(decoder.tokenizer, decoder.bos_id), style, scored)


def alike(n, each=20, scale=1.0):
    """Questions whose every number is the same."""
    return Rows(*np.full((6, n), each), main=np.ones(n, bool), scale=scale)


@contextmanager
def watched(decoder, monkeypatch):
    """What a tiny model really runs, as `Work`: filled in at the end."""
    attention, pairs, mlp, head, found = [], [], [], [], {}
    piece, sdpa = segments._piece, sdpa_attention.sdpa_attention_forward

    def of_piece(query, key, *rest):
        pairs.append(len(query) * query.shape[2] * key.shape[2])
        return piece(query, key, *rest)

    def of_rows(module, query, *rest, **kwargs):
        pairs.append(len(query) * query.shape[2] ** 2)
        return sdpa(module, query, *rest, **kwargs)

    monkeypatch.setattr(segments, "_piece", of_piece)
    monkeypatch.setattr(sdpa_attention, "sdpa_attention_forward", of_rows)
    hooks = [decoder.head.register_forward_hook(lambda _, args, __: head.append(args[0][..., 0]))]
    for block in decoder.layers:
        hooks.append(block.self_attn.q_proj.register_forward_hook(
            lambda _, args, __: attention.append(args[0].shape[:2])))  # fmt: skip
        hooks.append(block.mlp.up_proj.register_forward_hook(
            lambda _, args, __: mlp.append(args[0][..., 0].numel())))  # fmt: skip
    for module in (capture, extraction_checks):

        def scoring(states, *rest):
            head.append(states[..., 0])
            return token_log_probabilities(states, *rest)

        monkeypatch.setattr(module, "token_log_probabilities", scoring)
    yield found
    for hook in hooks:
        hook.remove()
    of_mlp = 3 * TINY.width * TINY.intermediate
    blocks = 2 * (TINY.block_weights - of_mlp) * sum(n * length for n, length in attention)
    seen = 4 * TINY.heads * TINY.head_dim * sum(pairs)
    blocks += seen + 2 * of_mlp * sum(mlp)
    found["work"] = Work(
        blocks, seen, len(attention), TINY.head_flops(sum(x.numel() for x in head))
    )


def test_a_block_by_hand():
    # Queries and output 32 x 32 each, keys and values 32 x 16 each, three matrices 32 x 64.
    assert TINY.block_weights == 2 * 1024 + 2 * 512 + 3 * 2048 == 9216
    assert TINY.weights == 4 * 9216 + 384 * 32
    assert replace(TINY, tied=False).weights - TINY.weights == 384 * 32
    # One row of 10 tokens: 2 x 9216 x 10, and scores and mixtures of 4 heads of 8.
    assert TINY.block_flops(Forwards(1, 10, 100), 1) == 184_320 + 2 * 2 * 4 * 8 * 100
    assert TINY.head_flops(3) == 2 * 3 * 32 * 384


@pytest.fixture
def counted_products(monkeypatch):
    """torch counts its own products, not those that oneDNN is asked for."""
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)


@pytest.mark.parametrize("family", ["gemma2", "gemma3", "qwen2", "qwen3", "llama", "mistral"])
def test_flops_of_the_blocks_are_those_that_torch_counts(family, counted_products):
    decoder = tiny_model(family, attention="eager")  # torch does not count sdpa's on a CPU
    trees = [lay_out(question) for question in ask(decoder, items())]
    batch = collate(trees, range(len(trees)))
    with FlopCounterMode(display=False) as counter:
        run(decoder, batch, lambda layer, states: None)
    n_rows, length = batch.tokens.shape
    wanted = TINY.block_flops(Forwards.batch(n_rows, length), 4)
    assert counter.get_total_flops() == wanted


def test_flops_of_the_head_are_those_that_torch_counts(counted_products):
    decoder = tiny_model("llama")
    states, row = torch.randn(37, 32), torch.arange(37)
    with FlopCounterMode(display=False) as counter:
        token_log_probabilities(states, readout_of(decoder), row, row)
    assert counter.get_total_flops() == TINY.head_flops(37)


@pytest.mark.parametrize("n", [5, 40])
@pytest.mark.parametrize("budget", [16, 256, 2048])
def test_extraction_runs_what_was_said(n, budget, tmp_path, monkeypatch):
    decoder, data = tiny_model("llama"), items(n)
    settings = {"pmi": True, "letters": True}
    rows = rows_of(decoder, data, replace(GERMAN, **settings))
    asked = ask(decoder, data, **settings)
    with watched(decoder, monkeypatch) as found:
        extract(decoder, data, asked, tmp_path, budget=budget)
    assert found["work"] == whole(TINY, rows.forwards(budget, joined=True), rows.states)
    assert len(rows.length) > n


@pytest.mark.parametrize("sentences", [False, True])
def test_the_self_tests_run_what_was_said(sentences, monkeypatch):
    decoder, data = tiny_model("gemma3"), items(4, sentences)
    asked = ask(decoder, data)
    with watched(decoder, monkeypatch) as found:
        check_packing(decoder, readout_of(decoder), asked, data.item_ids)
        check_lens(decoder, readout_of(decoder), asked)
    assert found["work"] == self_tests(TINY, rows_of(decoder, data))


def test_the_comparison_with_float32_runs_what_was_said(tmp_path, monkeypatch):
    decoder, data = tiny_model("llama", dtype=torch.bfloat16), items(9)
    asked = {tag: ask(decoder, data, tag) for tag in ("de", "zh")}
    rows = [rows_of(decoder, data, Scored(tag, "en", "zh")) for tag in asked]
    monkeypatch.setattr(extraction_checks, "load", lambda *_: decoder)
    with watched(decoder, monkeypatch) as found:
        precision(
            ModelSource("tiny", "path"), tmp_path, "cpu", decoder, readout_of(decoder), asked, 6
        )
    both = compared(TINY, rows, 6) + compared(TINY, rows, 6)
    assert found["work"] == both


@pytest.mark.parametrize("budget", [64, 512, 4096])
def test_steering_runs_what_was_said(budget, monkeypatch):
    """With one layer in the grid it is known which one is selected."""
    decoder = steering.model("gemma3")
    steering.fitted(), steering.stored_scores()  # kept from then on
    with watched(decoder, monkeypatch) as found:
        steering.evaluated(layers=(1,), depths=(0.25,), budget=budget)
    style = PromptStyle("raw", {"default": "Q: {question}\nA:"})
    data = steering.items(steering.N)
    own, pivot = (
        rows_of(decoder, data, Scored(tag, "en", latents=False), style) for tag in ("de", "en")
    )
    grid = Grid((1,), settings=2 * 2, methods=2, controls=len(CONTROLS) - 1 + 2, folds=2)
    wanted = evaluated(TINY, own, pivot, grid, budget)
    wanted += unsteered_pivot(TINY, pivot, grid, budget)
    assert found["work"].blocks == pytest.approx(wanted.blocks, rel=1e-12)
    assert (found["work"].calls, found["work"].head) == (wanted.calls, wanted.head)


@pytest.mark.parametrize("layers", [[3, 1, 1, 3], [4, 0, 2, 4]])
@pytest.mark.parametrize("budget", [64, 512])
def test_a_grid_runs_what_was_said(layers, budget, monkeypatch):
    decoder, data = steering.model("llama"), steering.items(12)
    trees = steering.trees_of("llama", n=12)
    ways = [Condition(layer, None) for layer in layers]
    with watched(decoder, monkeypatch) as found:
        steering.scores_of("llama", ways, trees, budget=budget)
    style = PromptStyle("raw", {"default": "Q: {question}\nA:"})
    rows = rows_of(decoder, data, Scored("de", "en", latents=False), style)
    assert found["work"] == steered(TINY, rows, layers, budget)


@pytest.mark.parametrize("layers", [(), (0, 2, 4)])
@pytest.mark.parametrize("n", [7, 200])
def test_bytes_of_an_activation_file(tmp_path, n, layers):
    decoder, data = tiny_model("llama"), items(n)
    asked = ask(decoder, data)
    written = extract(decoder, data, asked, tmp_path, layers).stat().st_size
    rows = rows_of(decoder, data)
    rows = replace(rows, scale=n / rows.main.sum())
    found = activation_bytes(Model(TINY, "float32", 4), rows, len(layers), 3)
    # What does not grow with the model is 25 kB or so, whatever is in it.
    assert found == pytest.approx(written, rel=0.05, abs=15_000)


def test_chunks_that_are_not_full_take_their_room():
    model = Model(TINY, "bfloat16", 2)
    one, last = alike(1, 65, scale=65.0), alike(1, 64, scale=64.0)
    pooled = 2 * 64 * 5 * 32 * 4
    assert activation_bytes(model, one, 0, 4) - activation_bytes(model, last, 0, 4) > pooled


def test_languages_that_are_there_cost_nothing():
    rows = {tag: alike(3) for tag in ("en", "de")}
    how = {"budget": 2048, "precision_items": 6, "n_choices": 4}
    job = cost(Model(TINY, "bfloat16", 4), named("cpu"), rows, 3, **how)
    assert job.of([]) == Cost()
    one, both = job.of(["de"]), job.of(["en", "de"])
    assert 0 < one.flops < both.flops and one.seconds < both.seconds < 2 * one.seconds
    assert both.disk == 2 * one.disk


def test_the_lens_grows_with_states_layers_and_vocabulary():
    rows = {"en": alike(3)}

    def flops(layers, **changes):
        model = Model(replace(TINY, **changes), "float32", 4)
        job = lens(model, named("cpu"), rows, layers)
        return job.of(["en"]).flops

    assert flops([1]) == TINY.head_flops(60)
    assert flops([1, 2, 3]) == 3 * flops([1]) and flops([1], vocabulary=768) == 2 * flops([1])
    # The last layer's scores are the model's; at the embedding many states are the same.
    assert flops([0, 2]) == pytest.approx((1 + DIFFERENT) * flops([1]))
    assert flops([2, 4]) == flops([1])


def test_steering_by_hand():
    """Two layers, one method and strength, `zero` and one more control: lower blocks are shared."""
    grid = Grid(layers=(1, 3), settings=1, methods=1, controls=2, folds=1)
    one = np.ones(1, int)
    rows = Rows(10 * one, 8 * one, 3 * one, 4 * one, 2 * one, 2 * one, one > 0)
    # Grid: 3 blocks below; above layer 3 unsteered and a setting, above layer 1 the other setting.
    # From its middle the controls, unsteered first, and the pivot; the overhead: four forwards.
    runs = [(3, 1), (1, 2), (3, 1), (2, 3), (2, 1), (4 * 4, 1)]
    found = evaluated(TINY, rows, rows, grid, budget=400)
    assert found.calls == sum(blocks for blocks, _ in runs)
    # Seven states of ten are spared the last block's MLP where conditions are run.
    spared = (3 + 3 + 1) * 7 * 2 * 3 * 32 * 64
    wanted = sum(TINY.block_flops(Forwards.batch(n, 10), blocks) for blocks, n in runs) - spared
    assert found.blocks == pytest.approx(wanted)
    assert found.head == (3 + 3 + 1) * TINY.head_flops(3)
    # What is not kept is computed again, up to the middle of the grid.
    more = evaluated(TINY, rows, rows, grid, budget=400, again=1.0)
    assert more.calls == found.calls + 2 + 2
    once = unsteered_pivot(TINY, rows, grid, budget=400)
    assert (once.calls, once.head) == (3 + 1, TINY.head_flops(3))
    assert grid.conditions == 1 + 2 + 1 + 2 + 2


def test_shares_that_a_machine_leaves_out_are_those_of_all(tmp_path):
    common = known()["cpu"].share
    assert known()["h100"].share == {**common, **NOMINAL}
    file = tmp_path / "here.yaml"
    file.write_text("like: cpu\nshare: {lens: 0.5}\n", encoding="utf-8")
    assert named(str(file)).share == {**common, "lens": 0.5}


def test_fitted_shares_are_those_that_the_run_times_were_made_with():
    """Two models whose heads weigh differently, and a fixed part that no share explains."""
    truth = {"blocks": 0.5, "head": 0.25, "lens": 0.8}
    guess = {"blocks": 0.7, "head": 0.4, "lens": 0.8}
    ideal = [{"blocks": 20.0, "head": 2.0}, {"blocks": 9.0, "head": 5.0}]

    def job(parts, share):
        return Cost(10 + sum(parts[name] / share[name] for name in parts), at_full_rate=parts)

    predicted = [job(parts, guess) for parts in ideal]
    took = [job(parts, truth).seconds for parts in ideal]
    found = fitted_shares(guess, predicted, took)
    assert found == pytest.approx(truth, abs=0.02)
    # Jobs that do not tell the two apart: both change, and none becomes negative.
    found = fitted_shares(guess, predicted[:1], took[:1])
    assert job(ideal[0], found).seconds == pytest.approx(took[0], rel=0.02)
    assert found["blocks"] < 0.7 and 0 < found["head"] < 0.4 and found["lens"] == 0.8


def test_jobs_in_a_row_add_up_and_memory_is_that_of_the_largest():
    one, two = Cost(1, 2, memory=5, disk=3, scratch=1), Cost(10, 20, memory=4, disk=30, scratch=2)
    assert one + two == Cost(11, 22, memory=5, disk=33, scratch=2)
    assert Job(one, {"a": two}).of(["a"]) == one + two


def test_more_gpus_hold_more_and_are_no_faster():
    rows = {"en": alike(3)}
    how = {"budget": 2048, "precision_items": 0, "n_choices": 4}
    one, four = (
        cost(Model(TINY, "bfloat16", 2, gpus), known()["h100"], rows, 0, **how).of(["en"])
        for gpus in (1, 4)
    )
    assert one.seconds == four.seconds


def test_memory_of_behaviour_is_that_of_all_pairs_in_all_draws():
    machine = known()["cpu"]

    def beyond(n: int) -> float:
        return resampled(machine, n, 900, 2000, 20, True, 2).memory - machine.process

    # Measured with 900 items in 488 clusters and 2,000 draws.
    for n, measured in ((15, 0.18e9), (30, 0.55e9), (60, 2.0e9)):
        assert measured * 0.9 < beyond(n) < 1.6 * measured
    assert beyond(122) > 8e9


def test_memory_of_subspaces_is_that_of_the_states_not_of_their_pairs():
    machine = known()["cpu"]
    narrow = replace(TINY, width=64)

    def beyond(permutations: int) -> float:
        cost = subspaces(machine, narrow, 30, 300, 7, permutations, 5)
        return cost.memory - machine.process

    # Measured; all pairs of states in float32 would be 324 MB.
    for permutations, measured in ((19, 50e6), (99, 65e6)):
        assert measured * 0.9 < beyond(permutations) < 1.3 * measured
