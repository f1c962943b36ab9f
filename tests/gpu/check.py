"""What the library does on a GPU: right beside the plain forward and the processor, and how fast?

Random models of a billion parameters, built here: no downloads. It needs torch, transformers, h5py,
xarray and NumPy, and ends in some minutes on one card:

    PYTHONPATH=workflow_scripts:tests:. python -m tests.gpu.check

Checks end in PASS or FAIL, rates in figures; one FAIL gives exit code 1. `--device cpu --small`
runs every line of it on a processor.
"""

import argparse
import copy
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from architectures.families import build as any_family

from isogloss.extraction.shards import compute_shard
from isogloss.model.adapt import adapt
from isogloss.model.decoder import Decoder
from isogloss.model.load import load
from isogloss.model.packing import Tree, lay_out
from isogloss.model.readout import readout_of
from isogloss.model.sources import ModelSource
from isogloss.model.tiny_models import save_tiny_model, tiny_tokenizer
from isogloss.model.token_scores import token_log_probabilities
from isogloss.questions.prompts import Phrase, Question
from isogloss.steering.interventions import constant_shift
from isogloss.steering.sweep import Condition, steered_scores

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FLOAT32_NAT = 1e-3
"""How far log-probabilities may differ between two orders of float32 sums [nat]."""


@dataclass
class Report:
    """What was seen, line by line."""

    failed: list[str] = field(default_factory=list)

    def say(self, name: str, value: str) -> None:
        print(f"       {name:<58} {value}", flush=True)

    def check(self, name: str, value: float, bound: float, unit: str = "") -> None:
        good = bool(np.isfinite(value)) and value <= bound
        print(f"{'PASS' if good else 'FAIL'}   {name:<58} {value:.3g} (<= {bound:.3g}) {unit}")
        sys.stdout.flush()
        if not good:
            self.failed.append(name)


@dataclass(frozen=True)
class Size:
    """How large the models and the work are."""

    width: int
    hidden: int
    layers: int
    heads: int
    vocabulary: int
    questions: int
    prompt: tuple[int, int]
    batch_tokens: int
    product: int
    steered: int


LARGE = Size(2048, 8192, 16, 32, 128256, 512, (40, 400), 16384, 8192, 64)
SMALL = Size(64, 128, 4, 4, 600, 12, (5, 30), 256, 256, 4)


def configuration(family: str, size: Size) -> Any:
    """Llama 3.2 1B's shape, or Gemma 3's of about the same size: windows, soft norms, wide head."""
    import transformers

    common: dict[str, Any] = {
        "vocab_size": size.vocabulary,
        "hidden_size": size.width,
        "intermediate_size": size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.heads // 4,
        "head_dim": size.width // size.heads,
        "max_position_embeddings": 8192,
        "initializer_range": 0.04,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
        "tie_word_embeddings": True,
    }
    if family == "llama":
        return transformers.LlamaConfig(**common)
    types = ["sliding_attention"] * 5 + ["full_attention"]
    return transformers.Gemma3TextConfig(
        **common,
        sliding_window=min(128, size.prompt[1] // 2),
        query_pre_attn_scalar=size.width // size.heads,
        layer_types=(types * size.layers)[: size.layers],
    )


def build(family: str, size: Size, dtype: torch.dtype, device: torch.device) -> Decoder:
    """A random model, the same in every type."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    with device:
        model = AutoModelForCausalLM.from_config(configuration(family, size)).to(dtype)
    return adapt(model, tiny_tokenizer(True), family)


def family_of(decoder: Decoder) -> str:
    return str(decoder.model.config.model_type)


def ask(size: Size) -> list[Question]:
    """Questions of random tokens: four choices of one to eight tokens."""
    draw = np.random.default_rng(0)
    made = []
    for item in range(size.questions):
        prompt = (0, *draw.integers(2, size.vocabulary, draw.integers(*size.prompt)).tolist())
        phrases = tuple(
            Phrase(0, choice, tuple(draw.integers(2, size.vocabulary, n).tolist()), False)
            for choice, n in enumerate(draw.integers(1, 9, 4))
        )
        made.append(Question(item, "main", prompt, phrases))
    return made


@torch.inference_mode()
def plain(decoder: Decoder, questions: Sequence[Question], budget: int) -> np.ndarray:
    """(target,) log-probabilities by transformers alone: a sequence a choice, right-padded batches
    of similar length, the head at every place."""
    device = decoder.input_device
    pairs = [(q, phrase) for q in questions for phrase in q.phrases]
    order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i][0].prompt + pairs[i][1].tokens))
    scores: list[np.ndarray] = [np.empty(0)] * len(pairs)
    while order:
        longest = len(pairs[order[0]][0].prompt) + len(pairs[order[0]][1].tokens)
        chosen, order = order[: max(1, budget // longest)], order[max(1, budget // longest) :]
        ids = torch.ones(len(chosen), longest, dtype=torch.long)
        seen = torch.zeros(len(chosen), longest, dtype=torch.long)
        for row, i in enumerate(chosen):
            sequence = [*pairs[i][0].prompt, *pairs[i][1].tokens]
            ids[row, : len(sequence)] = torch.tensor(sequence)
            seen[row, : len(sequence)] = 1
        logits = decoder.model(
            input_ids=ids.to(device), attention_mask=seen.to(device), use_cache=False
        ).logits
        for row, i in enumerate(chosen):
            question, phrase = pairs[i]
            start, tokens = len(question.prompt) - 1, torch.tensor(phrase.tokens, device=device)
            log_probability = torch.log_softmax(
                logits[row, start : start + len(tokens)].float(), -1
            )
            scores[i] = log_probability.gather(1, tokens[:, None])[:, 0].cpu().numpy()
    return np.concatenate(scores)


def seconds(work: Callable[[], Any], device: torch.device, repeat: int = 3) -> float:
    """Least run time of some turns of work that has run before."""
    times = []
    for _ in range(repeat):
        synchronize(device)
        began = time.perf_counter()
        work()
        synchronize(device)
        times.append(time.perf_counter() - began)
    return min(times)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_bytes(work: Callable[[], Any], device: torch.device) -> int:
    """Most memory of the card during some work, beyond what it held before."""
    if device.type != "cuda":
        work()
        return 0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    return torch.cuda.max_memory_allocated(device) - before


def rates(size: Size, device: torch.device, report: Report) -> dict[str, float]:
    """The card's matrix products by type [FLOP/s], on random numbers."""
    measured = {}
    for name, dtype in DTYPES.items():
        a, b = (torch.randn(size.product, size.product, device=device).to(dtype) for _ in range(2))
        torch.mm(a, b)
        took = seconds(lambda a=a, b=b: [torch.mm(a, b) for _ in range(5)], device) / 5
        measured[name] = 2 * size.product**3 / took
        report.say(
            f"matrix product of {size.product}, {name}", f"{measured[name] / 1e12:.3g} TFLOP/s"
        )
    return measured


def block_flops(decoder: Decoder, trees: Sequence[Tree]) -> float:
    """Operations of the blocks' and the head's products, attention left out."""
    weights = sum(p.numel() for layer in decoder.layers for p in layer.parameters() if p.ndim == 2)
    predicting = sum(len(tree.predicting) for tree in trees)
    head = decoder.width * decoder.vocabulary
    return 2.0 * (weights * sum(map(len, trees)) + head * predicting)


def extraction(
    decoder: Decoder, size: Size, matrix_rate: float, reference: np.ndarray | None, report: Report
) -> np.ndarray:
    """Packed scores beside plain ones, with rates and memory; returns the plain ones."""
    device, name = decoder.input_device, f"{family_of(decoder)}, {str(decoder.dtype)[6:]}"
    questions = ask(size)
    trees = [lay_out(q) for q in questions]
    layers = [decoder.n_layers // 2, decoder.n_layers]

    def packed(budget: int = size.batch_tokens) -> dict[str, np.ndarray]:
        return compute_shard(decoder, trees, range(len(trees)), layers, budget)

    def by_transformers() -> np.ndarray:
        return plain(decoder, questions, size.batch_tokens)

    plain(decoder, questions[:8], size.batch_tokens)  # warms up
    began = time.perf_counter()
    expected = by_transformers()
    theirs = time.perf_counter() - began
    scores = packed()["log_probability"]
    if decoder.dtype == torch.float32:
        report.check(f"{name}: packed = plain", np.abs(scores - expected).max(), FLOAT32_NAT, "nat")
        other = packed(size.batch_tokens // 7)["log_probability"]
        report.check(f"{name}: batch size", np.abs(scores - other).max(), FLOAT32_NAT, "nat")
    elif reference is not None:
        ours, its = (np.abs(s - reference).mean() for s in (scores, expected))
        report.say(f"{name}: plain from float32, mean", f"{its:.3g} nat")
        report.check(f"{name}: packed from float32, mean", ours, 1.2 * its, "nat")
    took = seconds(packed, device)
    tokens, flops = sum(map(len, trees)), block_flops(decoder, trees)
    report.say(f"{name}: extraction", f"{tokens / took:,.0f} packed tokens/s, {took:.2f} s")
    report.say(f"{name}: share of the matrix rate", f"{flops / took / matrix_rate:.2f}")
    report.say(f"{name}: one sequence a choice", f"{theirs:.2f} s, {theirs / took:.1f} x ours")
    report.say(f"{name}: memory beyond weights", f"{peak_bytes(packed, device) / 1e9:.2f} GB")
    few = peak_bytes(lambda: plain(decoder, questions[:64], size.batch_tokens), device)
    report.say(f"{name}: the same, plain", f"{few / 1e9:.2f} GB")
    return expected


def own_forward(decoder: Decoder, size: Size, expected: np.ndarray, report: Report) -> None:
    """The plain path, which this model would not take by itself, beside transformers alone."""
    name = f"{family_of(decoder)}, {str(decoder.dtype)[6:]}: plain path"
    trees = [lay_out(q) for q in ask(size)[: max(4, size.questions // 8)]]
    slow = replace(decoder, fast=False, padded=True)

    def extract(by: Decoder = slow) -> np.ndarray:
        layers = [decoder.n_layers]
        return compute_shard(by, trees, range(len(trees)), layers, size.batch_tokens)[
            "log_probability"
        ]

    off = np.abs(extract() - expected[: sum(len(tree.target_token) for tree in trees)])
    if decoder.dtype == torch.float32:
        report.check(f"{name} = transformers alone", float(off.max()), FLOAT32_NAT, "nat")
    took, packed = (
        seconds(lambda by=by: extract(by), decoder.input_device) for by in (slow, decoder)
    )
    report.say(name, f"{took:.2f} s, {took / packed:.1f} x packed rows")


def attention_plans(decoder: Decoder, size: Size, report: Report) -> None:
    """The same batches with cuDNN's attention and without it: when their shapes are new, and again.

    `adapt` has kept cuDNN from everything before, so that it knows none of these shapes.
    """
    trees, layers = [lay_out(q) for q in ask(size)[:128]], [decoder.n_layers]
    scores, device = {}, decoder.input_device
    for name, enabled in (("with cuDNN", True), ("without", False)):
        torch.backends.cuda.enable_cudnn_sdp(enabled)

        def extract(n: int = len(trees)) -> np.ndarray:
            shard = compute_shard(decoder, trees, range(n), layers, size.batch_tokens // 4)
            return shard["log_probability"]

        extract(2)  # loads libraries
        first = seconds(extract, device, repeat=1)
        again = seconds(extract, device)
        scores[name] = extract()
        report.say(f"attention {name}: new shapes, again", f"{first:.3f} s, {again:.3f} s")
    torch.backends.cuda.enable_cudnn_sdp(False)
    off = np.abs(scores["with cuDNN"] - scores["without"]).mean()
    report.say("attention with and without cuDNN, mean", f"{off:.3g} nat")


def own_kinds(device: torch.device, report: Report) -> None:
    """Tiny models that take the plain path, on the card and on the processor."""
    for family in ("BLOOM", "Gemma 3n", "Mamba"):
        trees = [lay_out(q) for q in tiny_questions()]
        shards = []
        for place in (torch.device("cpu"), device):
            decoder = adapt(any_family(family, torch.float32).to(place), tiny_tokenizer(True), "m")
            shards.append(compute_shard(decoder, trees, range(len(trees)), [2, 4], 256))
        worst = np.abs(shards[0]["log_probability"] - shards[1]["log_probability"]).max()
        report.check(f"{family}: {decoder.path['taken']}", float(worst), FLOAT32_NAT, "nat")


def profile(decoder: Decoder, size: Size) -> None:
    """Print which operations an extraction spends its time on."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiling

    trees = [lay_out(q) for q in ask(size)[:128]]
    on_card = decoder.input_device.type == "cuda"
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_card else [])]
    with profiling(activities=kinds) as seen:
        layers = [decoder.n_layers // 2, decoder.n_layers]
        compute_shard(decoder, trees, range(len(trees)), layers, size.batch_tokens)
        synchronize(decoder.input_device)
    for order in ["self_cuda_time_total"] * on_card + ["self_cpu_time_total"]:
        print(seen.key_averages().table(sort_by=order, row_limit=12, max_name_column_width=50))


def on_the_processor(decoder: Decoder, size: Size, report: Report) -> None:
    """States and scores of some questions, computed here and on the processor."""
    questions = ask(size)[:6]
    trees, layers = [lay_out(q) for q in questions], [decoder.n_layers]
    there = compute_shard(decoder, trees, range(6), layers, size.batch_tokens)
    family = family_of(decoder)
    model = copy.deepcopy(decoder.model).to("cpu")
    here = adapt(model, decoder.tokenizer, family)
    shard = compute_shard(here, trees, range(6), layers, size.batch_tokens)
    name = f"{family}, float32: beside the processor"
    for part in ("mean", "last"):
        scale = np.linalg.norm(shard[part], axis=-1, keepdims=True)
        relative = np.linalg.norm(there[part] - shard[part], axis=-1, keepdims=True) / scale
        report.check(f"{name}, {part}, relative", float(relative.max()), 1e-4)
    worst = np.abs(there["log_probability"] - shard["log_probability"]).max()
    report.check(f"{name}, scores", float(worst), FLOAT32_NAT, "nat")


@torch.inference_mode()
def lens(decoder: Decoder, size: Size, matrix_rate: float, report: Report) -> None:
    """The lens beside a plain log-softmax in float64, and its share of the matrix rate."""
    device, readout = decoder.input_device, readout_of(decoder)
    name = f"{family_of(decoder)}, {str(decoder.dtype)[6:]}: lens"
    rows = 4096 if size is LARGE else 64
    draw = torch.Generator().manual_seed(1)
    states = torch.randn(rows, decoder.width, generator=draw).to(decoder.dtype)
    row, token = torch.arange(rows), torch.randint(decoder.vocabulary, (rows,), generator=draw)
    read = token_log_probabilities(states.float(), readout, row, token).cpu()
    few = slice(0, 64)
    normed = readout.norm(states[few].to(device)).double()
    logits = normed @ readout.weight.double().T
    exact = torch.log_softmax(logits, -1).cpu()[torch.arange(64), token[few]]
    bound = 1e-4 if decoder.dtype == torch.float32 else 0.02
    report.check(f"{name} = log-softmax", float((read[few] - exact).abs().max()), bound, "nat")
    states = states.to(device)
    took = seconds(lambda: token_log_probabilities(states, readout, row, token), device)
    share = 2.0 * rows * decoder.width * decoder.vocabulary / took / matrix_rate
    report.say(f"{name}, share of the matrix rate", f"{share:.2f}")


@torch.inference_mode()
def steered_plainly(
    decoder: Decoder, question: Question, layer: int, shift: torch.Tensor
) -> np.ndarray:
    """(choice,) log-likelihoods with a hook on one block that shifts the prompt but its first
    token: transformers' own forward, a sequence a choice."""
    end = len(question.prompt)

    def change(_: Any, __: tuple, output: Any) -> Any:
        states = (output[0] if isinstance(output, tuple) else output).clone()
        states[:, 1:end] += shift
        return (states, *output[1:]) if isinstance(output, tuple) else states

    handle = decoder.layers[layer - 1].register_forward_hook(change)
    try:
        scores = [plain(decoder, [Question(0, "main", question.prompt, (phrase,))], 1 << 20).sum()
                 for phrase in question.phrases]  # fmt: skip
    finally:
        handle.remove()
    return np.array(scores)


def steering(decoder: Decoder, size: Size, report: Report) -> None:
    """The sweep beside plain hooks; unsteered conditions beside the unsteered forward."""
    device, n = decoder.input_device, size.steered
    name = f"{family_of(decoder)}, {str(decoder.dtype)[6:]}: steering"
    questions = ask(size)[:n]
    trees, readout = [lay_out(q) for q in questions], readout_of(decoder)
    draw = np.random.default_rng(2)
    shift = (draw.normal(size=decoder.width) * 0.5).astype(np.float32)
    depths = sorted({max(1, round(d * decoder.n_layers)) for d in (0.25, 0.5, 0.75)})
    conditions = [
        Condition(layer, change, 1.0)
        for layer in depths
        for change in (None, constant_shift(shift))
    ]

    def sweep() -> np.ndarray:
        outcome = steered_scores(
            decoder, readout, trees, [conditions] * n, budget=size.batch_tokens
        )
        return outcome.log_probability

    swept = sweep()
    if decoder.dtype == torch.float32:
        moved = torch.from_numpy(shift).to(device)
        worst = max(
            np.abs(
                swept[2 * i + 1, q, :4] - steered_plainly(decoder, questions[q], layer, moved)
            ).max()
            for i, layer in enumerate(depths)
            for q in range(min(n, 4))
        )
        report.check(f"{name} = plain hooks", float(worst), 2 * FLOAT32_NAT, "nat")
    same = np.abs(swept[0] - swept[2::2]).max()
    report.check(f"{name}: nothing changed is the same at every layer", float(same), 0.5, "nat")
    took = seconds(sweep, device, repeat=1)
    each = 1000 * took / n / len(conditions)
    report.say(f"{name}: {len(conditions)} conditions", f"{each:.2f} ms per question and condition")


def placed(device: torch.device, report: Report) -> None:
    """A checkpoint loaded with device maps: on the card, half of it, on the processor."""
    with tempfile.TemporaryDirectory() as scratch:
        for family in ("llama", "gemma3"):
            folder = Path(scratch) / family
            save_tiny_model(folder, family)
            on_card: Any = device.index or 0 if device.type == "cuda" else "cpu"
            ends = ("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head")
            there, here = ((f"model.layers.{i}" for i in pair) for pair in ((0, 3), (1, 2)))
            maps = {
                "the processor": {"": "cpu"},
                "the card": {"": on_card},
                "both": dict.fromkeys((*ends, *there), on_card) | dict.fromkeys(here, "cpu"),
            }
            scores = {}
            for name, device_map in maps.items():
                source = ModelSource(family, "path", path=folder, device_map=device_map)
                decoder = load(source, Path(scratch) / "cache")
                trees = [lay_out(q) for q in tiny_questions()]
                shard = compute_shard(decoder, trees, range(len(trees)), [2, 4], 256)
                scores[name] = shard["log_probability"]
            for name in ("the card", "both"):
                worst = np.abs(scores[name] - scores["the processor"]).max()
                report.check(f"device_map, {family}: {name}", float(worst), FLOAT32_NAT, "nat")


def tiny_questions() -> list[Question]:
    return ask(Size(0, 0, 0, 0, 384, 8, (5, 30), 0, 0, 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, cpu")
    parser.add_argument("--profile", action="store_true", help="what an extraction's time goes to")
    parser.add_argument("--small", action="store_true", help="tiny shapes: does it run at all?")
    args = parser.parse_args()
    device, size, report = torch.device(args.device), SMALL if args.small else LARGE, Report()
    torch.set_grad_enabled(False)
    import transformers

    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "processor"
    print(f"{card}, torch {torch.__version__}, transformers {transformers.__version__}")
    began = time.perf_counter()
    placed(device, report)
    own_kinds(device, report)
    matrix_rate = rates(size, device, report)
    for family in ("llama", "gemma3"):
        reference = None
        for name, dtype in DTYPES.items():
            decoder = build(family, size, dtype, device)
            plain_scores = extraction(decoder, size, matrix_rate[name], reference, report)
            reference = plain_scores if reference is None else reference
            if args.profile:
                profile(decoder, size)
            lens(decoder, size, matrix_rate[name], report)
            steering(decoder, size, report)
            own_forward(decoder, size, plain_scores, report)
            if dtype == torch.bfloat16:
                attention_plans(decoder, size, report)
            if dtype == torch.float32:
                on_the_processor(decoder, size, report)
            del decoder
            if device.type == "cuda":
                torch.cuda.empty_cache()
    print(f"{time.perf_counter() - began:.0f} s; {len(report.failed)} failed")
    sys.exit(bool(report.failed))


if __name__ == "__main__":
    main()
