"""How fast this machine is: the forward of `extract` and the lens, on a small random model.

Seconds are the processor's, of one thread, so that other work on the machine counts for little.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from timeit import repeat
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from isogloss.cost.architecture import counted
from isogloss.cost.tokens import Text
from isogloss.extraction.shards import compute_shard
from isogloss.model.adapt import adapt
from isogloss.model.packing import lay_out
from isogloss.model.tiny_models import tiny_tokenizer
from isogloss.model.token_scores import token_log_probabilities
from isogloss.questions.prompts import Phrase, Question

PARALLEL = 0.9
"""Power of the number of threads by which models are faster than on one; measured on two."""


def measure() -> dict[str, Any]:
    """Rates of a `Machine`: of a model's width of 640, a 64 MB file, a program's imports."""
    torch.set_num_threads(1)
    at_once = min(8, os.cpu_count() or 1) ** PARALLEL
    blocks, head = {}, {}
    for dtype in ("float32", "bfloat16"):
        rates = _model_rates(dtype)
        blocks[dtype], head[dtype], call = at_once * rates[0], at_once * rates[1], rates[2]
    square, before = torch.randn(1024, 1024, dtype=torch.float64), os.times()
    imports = "import torch, transformers, h5netcdf, xarray"
    subprocess.run([sys.executable, "-c", imports], check=True)
    start = os.times().children_user + os.times().children_system
    start -= before.children_user + before.children_system
    return {
        "blocks": blocks | {"float16": blocks["bfloat16"]},
        "head": head | {"float16": head["bfloat16"]},
        "block_call": call,
        "write": _write_rate(),
        "model_start": start,
        "analysis": 2 * 1024**3 / _seconds(lambda: square @ square),
        "analysis_start": 0.55 * start,  # as measured on the table's machine
    }


def _model_rates(dtype: str) -> tuple[float, float, float]:
    """Of a thread: FLOP/s of blocks and of the head, and a block's call beside its products [s]."""
    config = LlamaConfig(
        vocab_size=32768, hidden_size=640, intermediate_size=2048, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=1, head_dim=256, tie_word_embeddings=True,
    )  # fmt: skip
    made = AutoModelForCausalLM.from_config(config).to(getattr(torch, dtype))
    priced, decoder = counted(config, dtype), adapt(made, tiny_tokenizer(True), "measured")
    phrases = tuple(Phrase(0, i, (2 + i, 20 + i, 40 + i), False) for i in range(12))
    asked = [Question(0, "main", tuple(range(i, i + 64)), phrases) for i in range(23)]
    trees, text = [lay_out(question) for question in asked], Text.of(asked, True)
    states, rows = torch.randn(1024, 640).to(made.dtype), torch.arange(1024)
    ids = torch.tensor([[2, 3]])
    with torch.inference_mode():
        call = _seconds(lambda: decoder.backbone(input_ids=ids, use_cache=False), 20) / 2
    lens = _seconds(lambda: token_log_probabilities(states, decoder.readout, rows, rows))
    forward = _seconds(lambda: compute_shard(decoder, trees, range(len(trees)), [1], 2048))
    flops = priced.block_flops(text, 2) + priced.head_flops(text.states)
    return flops / (forward - 2 * call), priced.head_flops(1024) / lens, call


def _seconds(what: Callable[[], Any], times: int = 3) -> float:
    """The shortest of some run times, the first left out [s of the processor]."""
    return min(repeat(what, number=1, repeat=1 + times, timer=time.process_time)[1:])


def _write_rate(size: int = 64 << 20) -> float:
    """Bytes/s of writing a file to the disk."""
    values = os.urandom(size)

    def write() -> None:
        with tempfile.TemporaryFile(dir=".") as file:
            file.write(values)
            os.fsync(file.fileno())

    return size / min(repeat(write, number=1, repeat=3))
