"""What stages cost, against counted operations, written bytes and measured memory."""

from dataclasses import replace

import pytest
import torch
from tests.architectures.families import COMMON, FAMILIES
from tests.unit.test_cost_tokens import counted_of
from tests.unit.test_extraction import ask, extract, items
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig

from isogloss.cost import stages
from isogloss.cost.architecture import counted
from isogloss.cost.machines import known
from isogloss.cost.stages import Cost, Work
from isogloss.cost.tokens import Text
from isogloss.model.forward import run_blocks
from isogloss.model.packing import collate, lay_out
from isogloss.model.readout import readout_of
from isogloss.model.tiny_models import tiny_model
from isogloss.model.token_scores import token_log_probabilities
from isogloss.study.schema import Config

TINY = counted(LlamaConfig(**COMMON, tie_word_embeddings=True), "float32")
BLOCK, HEAD = 2 * TINY.block_weights, 2 * 384 * 32  # operations per token, and per state
UNIT = replace(
    known()["cpu"], products=dict.fromkeys(("float32", "bfloat16"), 1.0), block_call=0.0,
    write=1e12, load=1e12, model_start=0.0, analysis=1e12, analysis_start=0.0,
)  # fmt: skip
"""A machine that does one operation in a second, and takes no time for anything else."""


def work_of(model=TINY, machine=UNIT, languages=("en", "de"), items=3, choices=4, **settings):
    study = Config.model_validate(Config().model_dump() | settings)
    return Work(study, machine, model, languages, items, choices)


def analysed(stage, work):
    return stages.analyses(work)[stage]


def text_of(tokens=10, states=3, n=3):
    """Questions that are alike, of two phrases each."""
    return Text(n * tokens, n * tokens**2, n, n * states, n * states, 2 * n)


@pytest.fixture
def counted_products(monkeypatch):
    """torch counts its own products, not those that oneDNN is asked for."""
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)


def test_a_model_by_hand():
    # Queries and output 32 x 32 each, keys and values 32 x 16 each, three matrices 32 x 64; norms.
    assert TINY.block_weights * 4 == 4 * (2 * 1024 + 2 * 512 + 3 * 2048 + 2 * 32) + 32
    assert TINY.weights == 4 * TINY.block_weights + 384 * 32
    untied = counted(LlamaConfig(**COMMON, tie_word_embeddings=False), "float32")
    assert untied.weights - TINY.weights == 384 * 32
    # Three rows of 10 tokens, whose scores and mixtures have 4 heads of 8.
    attention = 2 * 2 * 4 * 8 * 3 * 100
    assert TINY.block_flops(text_of(), 2) == 2 * (30 * BLOCK + attention)


@pytest.mark.parametrize(
    "family, path", [("Mixtral", ""), ("OPT", ""), ("GPT-Neo", "padded"), ("LFM2", "single")]
)
def test_any_decoder_is_counted_and_its_path_is_known_without_weights(family, path):
    import transformers

    name, settings = FAMILIES[family]
    config = getattr(transformers, name)(**COMMON | settings)
    model, made = counted(config, "float32"), transformers.AutoModelForCausalLM.from_config(config)
    assert model.weights == sum(weights.numel() for weights in made.parameters())
    assert (bool(model.plain), model.padded) == (path != "", path != "single")
    if family == "Mixtral":  # each token is sent to two of four experts
        experts = sum(w.numel() for n, w in made.named_parameters() if ".experts." in n)
        ends = 2 * 384 * 32
        assert model.block_weights == (model.weights - ends - experts / 2) / 4


@pytest.mark.parametrize("family", ["gemma2", "gemma3", "qwen2", "qwen3", "llama", "mistral"])
def test_operations_are_those_that_torch_counts(family, counted_products):
    decoder = tiny_model(family, attention="eager")  # torch does not count sdpa's on a CPU
    trees = [lay_out(question) for question in ask(decoder, items())]
    batch = collate(trees, range(len(trees)))
    states, row = torch.randn(37, 32), torch.arange(37)
    with FlopCounterMode(display=False) as counter:
        run_blocks(decoder, batch, lambda layer, states: None)
        token_log_probabilities(states, readout_of(decoder), row, row)
    n_rows, length = batch.tokens.shape
    text = text_of(length, 0, n_rows)
    # Norms and biases are counted as weights, but are no products.
    flops = TINY.block_flops(text, 4) + TINY.head_flops(37)
    assert counter.get_total_flops() == pytest.approx(flops, rel=0.01)


@pytest.mark.parametrize("layers", [0, [0.0, 0.5, 1.0]])
@pytest.mark.parametrize("n", [7, 65, 200])
def test_bytes_of_an_activation_file(tmp_path, n, layers):
    decoder, data = tiny_model("llama"), items(n)
    kept = () if layers == 0 else (0, 2, 4)
    written = extract(decoder, data, ask(decoder, data), tmp_path, kept).stat().st_size
    work = work_of(items=n, choices=3, extraction={"lens_layers": layers})
    size = stages.extract(work, [counted_of(data)]).disk
    # What does not grow with the model is 25 kB or so, whatever is in it.
    assert size == pytest.approx(written, rel=0.05, abs=15_000)


def test_extraction_is_one_forward_per_question_and_grows_with_languages():
    text, work = text_of(), work_of()
    single, double = (stages.extract(work, [text] * n) for n in (1, 2))
    flops = TINY.block_flops(text, 4) + TINY.head_flops(text.states)
    assert single.seconds == pytest.approx(flops)
    assert double.disk == 2 * single.disk and double.memory == single.memory
    both = [stages.extract(work_of(machine=known()["cpu"]), [text] * n).seconds for n in (1, 2)]
    assert both[0] < both[1] < 2 * both[0]  # the model is loaded once


def test_the_plain_path_calls_blocks_for_each_sequence_and_steers_from_the_first():
    calls = replace(UNIT, block_call=1e12)
    text = replace(text_of(), sequences=12)
    for padded, forwards in ((True, 1), (False, 12)):
        plain = replace(TINY, plain="carries a state", padded=padded)
        cost = stages.extract(work_of(plain, calls), [text])
        assert cost.seconds == pytest.approx(forwards * 4 * 1e12, rel=0.01)
    packed, plain = (
        stages.steer(work_of(replace(TINY, plain=why)), [text]).seconds for why in ("", "x")
    )
    assert 1.2 * packed < plain < 4 * packed


def test_precision_takes_the_model_in_float32_too():
    model = replace(TINY, dtype="bfloat16", stored=2)
    with_it, without = (
        stages.extract(work_of(model, extraction={"precision_items": n}), [text_of()])
        for n in (6, 0)
    )
    assert with_it.seconds > without.seconds
    # Its weights, and a batch of float32 in place of bfloat16.
    batch = 2048 * (6 * 32 + 3 * 64) * 2
    assert with_it.memory - without.memory == pytest.approx(model.weights * 4 + batch)


def test_the_lens_grows_with_states_layers_and_vocabulary():
    def flops(depths, vocabulary=384):
        model = replace(TINY, vocabulary=vocabulary)
        work = work_of(model, extraction={"lens_layers": depths})
        return stages.lens(work, [text_of()]).seconds

    # The last layer's scores are the model's; at the embedding many states are the same.
    single = flops([0.25, 1.0])
    assert single == pytest.approx(9 * HEAD)
    assert flops([0.25, 0.5, 0.75, 1.0]) == pytest.approx(3 * single)
    assert flops([0.25, 1.0], 768) == pytest.approx(2 * single)
    assert flops([0.0, 0.5, 1.0]) == pytest.approx((1 + stages.DIFFERENT) * single)


def test_steering_by_hand():
    """Layers 1 and 3, one method and strength, two controls: lower blocks are shared."""
    steering = Config().steering.model_dump() | {
        "layers": [0.25, 0.75],
        "methods": ["mean_difference"],
        "strengths": [1.0],
        "controls": ["random", "zero"],
        "random_draws": 1,
        "languages": ["de"],
    }
    text = text_of()
    cost = stages.steer(work_of(steering=steering), [text])
    # Grid: a whole forward, and the blocks above layers 1 and 3. From its middle the two controls
    # and unsteered once more, and the pivot steered; the pivot unsteered once, all blocks.
    wanted = TINY.block_flops(text, 4 + 3 + 1 + 4 * 2) + TINY.head_flops((3 + 4) * 9)
    wanted += TINY.block_flops(text, 4) + TINY.head_flops(9)
    assert cost.seconds == pytest.approx(wanted)
    # Conditions: unsteered, two of the grid, the selected one, two controls, the pivot's two.
    assert cost.disk == pytest.approx(0.93 * 8 * 3 * 4 * 4 + 70_000)


def test_steering_runs_the_items_of_a_split():
    split = {"fit": 2, "select": 1, "test": 1}
    whole, part = (
        stages.steer(work_of(**settings), [text_of()]).seconds
        for settings in ({}, {"statistics": Config().statistics.model_dump() | {"split": split}})
    )
    assert whole / 4 < part < whole / 2


def test_jobs_in_a_row_add_up_and_memory_is_that_of_the_largest():
    first, second = Cost(1, memory=5, disk=3), Cost(10, memory=4, disk=30)
    assert first + second == Cost(11, memory=5, disk=33)


def test_more_gpus_hold_more_and_are_no_faster():
    single, four = (
        stages.extract(work_of(replace(TINY, gpus=gpus), known()["h100"]), [text_of()])
        for gpus in (1, 4)
    )
    assert single.seconds == four.seconds == single.gpu_seconds == four.gpu_seconds / 4
    assert single.device_memory > TINY.weights * 4


def test_the_time_of_pivots_grows_with_pairs_of_languages():
    many, more, single, grouped = (
        analysed("pivots", work_of(pivots="all", languages=["x"] * 8)),
        analysed("pivots", work_of(pivots="all", languages=["x"] * 16)),
        analysed("pivots", work_of(pivots=["en"], languages=["x"] * 8)),
        analysed("breakdown", work_of(languages=["x"] * 8)),
    )
    assert more.seconds == pytest.approx(4 * many.seconds)
    assert many.seconds == pytest.approx(4 * single.seconds) and single.seconds > 0
    assert grouped.seconds == pytest.approx(2 * single.seconds)  # of all items, and by category


def test_memory_of_subspaces_is_that_of_the_states_not_of_their_pairs():
    narrow = replace(TINY, width=64)
    # Measured; all pairs of states in float32 would be 324 MB.
    for permutations, measured in ((19, 50e6), (99, 65e6)):
        how = Config().subspaces.model_dump() | {"permutations": permutations}
        work = work_of(narrow, languages=("x",) * 30, items=300, subspaces=how)
        beyond = analysed("subspaces", work).memory - work.machine.process
        assert measured * 0.9 < beyond < 1.3 * measured


def test_memory_of_similarity_is_bounded_but_for_its_results():
    memory = [
        analysed(
            "similarity",
            work_of(
                languages=("x",) * 122,
                items=900,
                similarity=Config().similarity.model_dump() | {"memory_gb": room},
            ),
        ).memory
        for room in (1, 2)
    ]
    assert memory[1] - memory[0] == pytest.approx(1e9)
    assert memory[0] < known()["cpu"].process + 1e9 + 1.3e9


def test_similarity_without_retrieval_at_every_layer_costs_less():
    some, all_layers = (
        analysed(
            "similarity",
            work_of(
                languages=("x",) * 122,
                items=900,
                similarity=Config().similarity.model_dump() | {"retrieval_layers": layers},
            ),
        )
        for layers in (1, 1000)
    )
    assert some.seconds < 0.7 * all_layers.seconds


def test_rows_that_are_not_kept_move_their_time_and_save_their_disk():
    def costs(rows):
        work = work_of(extraction=Config().extraction.model_dump() | {"rows": rows})
        texts = [text_of(), text_of()]
        return stages.extract(work, texts), stages.lens(work, texts)

    (kept, lens), (saved, put_together) = costs("keep"), costs("none")
    rows = 2 * 9 * len(work_of().lens_layers) * TINY.width * TINY.number_bytes
    assert kept.disk - saved.disk > 0.5 * rows
    assert saved.seconds > kept.seconds and put_together.seconds < lens.seconds
    assert put_together.disk == lens.disk and put_together.gpu_seconds == 0
