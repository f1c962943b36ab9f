"""The cost model's formulas, against counted operations and written bytes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.unit.test_extraction import ask, extract, items
from torch.utils.flop_counter import FlopCounterMode

from isogloss.costs import Architecture, Cost, Grid, Job, Model, activation_bytes, lens, steer
from isogloss.costs import extract as cost
from isogloss.forward import run
from isogloss.lens import token_log_probabilities
from isogloss.machines import known, named
from isogloss.models import readout_of
from isogloss.packing import batches, collate, lay_out
from isogloss.tiny_models import tiny_model
from isogloss.workload import Rows

TINY = Architecture(4, 32, 64, 4, 2, 8, 384)


def rows_of(trees, scale=1.0):
    return Rows(
        np.array([len(tree) for tree in trees]),
        np.array([tree.n_prompt for tree in trees]),
        np.array([len(tree.predicting) for tree in trees]),
        np.array([len(tree.target_token) for tree in trees]),
        np.ones(len(trees), bool),
        scale,
    )


def test_a_block_by_hand():
    # Queries and output 32 x 32 each, keys and values 32 x 16 each, three matrices 32 x 64.
    assert TINY.block_weights == 2 * 1024 + 2 * 512 + 3 * 2048 == 9216
    assert TINY.weights == 4 * 9216 + 384 * 32
    assert replace(TINY, tied=False).weights - TINY.weights == 384 * 32
    # One row of 10 tokens: 2 x 9216 x 10, and scores and mixtures of 4 heads of 8.
    assert TINY.block_flops(10, 100, 1) == 184_320 + 2 * 2 * 4 * 8 * 100
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
    wanted = TINY.block_flops(n_rows * length, n_rows * length**2, 4)
    assert counter.get_total_flops() == wanted


def test_flops_of_the_head_are_those_that_torch_counts(counted_products):
    decoder = tiny_model("llama")
    states, row = torch.randn(37, 32), torch.arange(37)
    with FlopCounterMode(display=False) as counter:
        token_log_probabilities(states, readout_of(decoder), row, row)
    assert counter.get_total_flops() == TINY.head_flops(37)


def test_forwards_are_the_batches_that_run():
    rows = Rows(np.array([9, 3, 8, 4]), *np.ones((4, 4)), scale=2.0)
    made = batches([range(9), range(3), range(8), range(4)], range(4), 18)
    assert made == [[0, 2], [3, 1]]
    assert rows.forwards(18) == (2 * 2, 2 * (18 + 8), 2 * (2 * 81 + 2 * 16))


@pytest.mark.parametrize("layers", [(), (0, 2, 4)])
@pytest.mark.parametrize("n", [7, 200])
def test_bytes_of_an_activation_file(tmp_path, n, layers):
    decoder, data = tiny_model("llama"), items(n)
    asked = ask(decoder, data)
    written = extract(decoder, data, asked, tmp_path, layers).stat().st_size
    rows = rows_of([lay_out(question) for question in asked])
    found = activation_bytes(Model(TINY, "float32", 4), rows, len(layers), 3)
    # What does not grow with the model is 25 kB or so, whatever is in it.
    assert found == pytest.approx(written, rel=0.05, abs=15_000)


def test_chunks_that_are_not_full_take_their_room():
    model = Model(TINY, "bfloat16", 2)
    one = Rows(*np.full((4, 1), 65), main=np.ones(1, bool), scale=65.0)
    last = Rows(*np.full((4, 1), 64), main=np.ones(1, bool), scale=64.0)
    pooled = 2 * 64 * 5 * 32 * 4
    assert activation_bytes(model, one, 0, 4) - activation_bytes(model, last, 0, 4) > pooled


def test_languages_that_are_there_cost_nothing():
    rows = {tag: Rows(*np.full((4, 3), 20), main=np.ones(3, bool)) for tag in ("en", "de")}
    how = {"budget": 2048, "precision_items": 6, "n_choices": 4}
    job = cost(Model(TINY, "bfloat16", 4), named("cpu"), rows, 3, **how)
    assert job.of([]) == Cost()
    one, both = job.of(["de"]), job.of(["en", "de"])
    assert 0 < one.flops < both.flops and one.seconds < both.seconds < 2 * one.seconds
    assert both.disk == 2 * one.disk


def test_the_lens_grows_with_states_layers_and_vocabulary():
    rows = {"en": Rows(*np.full((4, 3), 20), main=np.ones(3, bool))}

    def flops(layers, **changes):
        model = Model(replace(TINY, **changes), "float32", 4)
        job = lens(model, named("cpu"), rows, layers, n_choices=4, phrases={"en": 10})
        return job.of(["en"]).flops

    assert flops(1) == TINY.head_flops(60)
    assert flops(7) == 7 * flops(1) and flops(1, vocabulary=768) == 2 * flops(1)


def test_steering_by_hand():
    """Two layers, one method and strength, `zero` and one more control: lower blocks are shared."""
    grid = Grid(layers=(1, 3), settings=1, methods=1, controls=2, folds=1)
    rows = Rows(np.array([10]), np.array([8]), np.array([3]), np.array([4]), np.ones(1, bool))
    job = steer(
        Model(TINY, "float32", 4), named("cpu"), {"de": rows}, rows, grid, budget=40, n_choices=2
    )
    # Grid: 3 blocks below; from layer 1 one setting, from layer 3 one, the unsteered and `zero`.
    blocks = 3 + 3 + 3 * 1
    # Above the middle of the grid the control and the pivot steered; all blocks for the pivot
    # unsteered; the overhead: six forwards with and without.
    blocks += 2 + 2 + 4 + 6 * 2 * 4
    heads = 4 + 1 + 1 + 1
    wanted = TINY.block_flops(10, 100, blocks) + heads * TINY.head_flops(3)
    assert job.of(["de"]).flops == pytest.approx(wanted)
    assert grid.conditions == 1 + 2 + 1 + 2 + 2


def test_jobs_in_a_row_add_up_and_memory_is_that_of_the_largest():
    one, two = Cost(1, 2, memory=5, disk=3, scratch=1), Cost(10, 20, memory=4, disk=30, scratch=2)
    assert one + two == Cost(11, 22, memory=5, disk=33, scratch=2)
    assert Job(one, {"a": two}).of(["a"]) == one + two


def test_more_gpus_hold_more_and_are_no_faster():
    rows = {"en": Rows(*np.full((4, 3), 20), main=np.ones(3, bool))}
    how = {"budget": 2048, "precision_items": 0, "n_choices": 4}
    one, four = (
        cost(Model(TINY, "bfloat16", 2, gpus), known()["h100"], rows, 0, **how).of(["en"])
        for gpus in (1, 4)
    )
    assert one.seconds == four.seconds
