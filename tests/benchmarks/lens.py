"""The lens over stored rows, against the machine's own matrix products and against peers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5netcdf
import numpy as np
import torch
from benchmarks import ours, peers
from benchmarks.material import LONG, Setting
from benchmarks.measuring import Job, Run, Worker, alternate, check_equal, ratio, seconds
from benchmarks.table import Row

from isogloss.files.canonical import key_of
from isogloss.model.logit_lens import lens_of_file
from isogloss.model.packing import lay_out
from isogloss.model.readout import read_readout, write_readout
from isogloss.model.token_scores import token_log_probabilities

SHARE = {"float32": 0.80, "bfloat16": 0.65}
MEMORY = 1.5
PEERS = 3.0
TOLERANCE = 1e-3
LEAST = -60.0
"""Log-probabilities below this count as this: nnterp gives probabilities, in float32 [nat]."""
ROWS_ITEMS = (32, 2)
PROMPTS = (6, 2)
SHAPES = ((512, 4096), (512, 16384), (512, 65536), (4096, 4096), (128, 16384))
"""Blocks of (rows, vocabulary) that are tried as the machine's own product; the best one counts."""


def prepare_file(setting: Setting) -> Job:
    """Write an activation file and the readout, in a process that then ends."""
    tool = ours.loaded(setting)

    def job() -> tuple[Path, Path]:
        language = setting.languages(LONG)[0]
        items = tool.items(LONG, language, setting.n(*ROWS_ITEMS))
        file = tool.extract(setting.scratch, items, tool.ask(items, LONG, language), language)
        spec = {"dtype": setting.source.dtype}
        readout = setting.scratch / f"{key_of(spec)}.safetensors"
        write_readout(tool.decoder, readout, spec)
        return file, readout

    return job


def prepare_lens(file: Path, readout: Path) -> Job:
    weights = read_readout(readout)
    weights.weight.sum()  # brings in what is only mapped

    def job() -> float:
        lens = lens_of_file(file, weights)
        return float(lens.attrs["last_layer_difference"])

    return job


def prepare_product(file: Path, readout: Path) -> Job:
    """The same product by itself: one layer's rows with the whole unembedding, in blocks."""
    weight = read_readout(readout).weight
    weight.sum()
    with h5netcdf.File(file, "r") as stored:
        n_rows, _, width = stored.groups["rows"]["state"].shape
    rows = torch.randn(n_rows, width).to(weight.dtype)

    @torch.inference_mode()
    def job(shape: tuple[int, int]) -> tuple[int, int]:
        out = torch.empty(min(shape[0], n_rows), shape[1], dtype=weight.dtype)
        for i in range(0, n_rows, shape[0]):
            block = rows[i : i + shape[0]]
            for j in range(0, len(weight), shape[1]):
                part = weight[j : j + shape[1]].T
                torch.mm(block, part, out=out[: len(block), : part.shape[1]])
        return n_rows, len(weight)

    return job


def prepare_ours(setting: Setting) -> Job:
    """Forward and lens of the same prompts: the right choice's first token, at every layer."""
    tool, language = ours.loaded(setting), setting.languages(LONG)[0]
    items = tool.items(LONG, language, setting.n(*PROMPTS))

    def job() -> np.ndarray:
        asked = ours.first_tokens(tool.ask(items, LONG, language), items)
        trees = [lay_out(question) for question in asked]
        states = torch.from_numpy(tool.compute(trees)["last"])
        targets = torch.tensor([tree.target_token[0] for tree in trees])
        every = torch.arange(len(trees))
        layers = [
            token_log_probabilities(states[:, layer], tool.decoder.readout, every, targets)
            for layer in tool.layers
        ]
        return torch.stack(layers).numpy()

    return job


def against_product(setting: Setting, dtype: str) -> list[Row]:
    """Share of the matrix rate, and memory."""
    setting = setting.in_type(dtype)
    with Worker("extraction", prepare_file, setting=setting) as maker:
        file, readout = maker.run().value
    with (
        Worker("lens", prepare_lens, file=file, readout=readout) as lens,
        Worker("product", prepare_product, file=file, readout=readout) as product,
    ):
        for _ in range(2):  # the first one warms up
            tried = {shape: product.run(shape=shape).seconds for shape in SHAPES}
        best = min(tried, key=lambda shape: tried[shape])
        n_rows, vocabulary = product.run(shape=best).value

        def theirs() -> Run:
            return product.run(shape=best)

        label = f"lens, {dtype}"
        runs = alternate({"lens": lens.run, "product": theirs}, setting.repetitions, label)
    with h5netcdf.File(file, "r") as stored:
        _, n_layers, width = stored.groups["rows"]["state"].shape
    work = 2e-12 * n_rows * width * vocabulary
    per_layer = [run.seconds / n_layers for run in runs["lens"]]
    share = ratio(seconds(runs["product"]), per_layer)
    rates = [work / float(np.median(times)) for times in (per_layer, seconds(runs["product"]))]
    memory = max(run.above for run in runs["lens"]) / 1e9
    note = f"{n_rows} rows, {n_layers} layers, width {width}, vocabulary {vocabulary}"
    return [
        Row(
            f"lens over stored rows, {dtype}: share of the matrix rate",
            f"matrix product in blocks of {best[0]} x {best[1]}",
            f"{rates[0]:.3g} TFLOP/s", f"{rates[1]:.3g} TFLOP/s",
            share.value, share.low, share.high, SHARE[dtype], unit="of it", note=note,
        ),
        Row(
            f"lens over stored rows, {dtype}: memory beyond the weights", "",
            f"{memory:.3g} GB", "", memory, None, None, MEMORY, at_least=False, unit="GB",
            note=note,
        ),
    ]  # fmt: skip


OTHERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "nnterp": (peers.nnterp_lens, (1, 4)),
    "TransformerLens": (peers.bridge_lens, (1,)),
}


def against_peers(setting: Setting) -> Iterator[Row]:
    """The same prompts' lens, from text to log-probabilities."""
    with Worker("isogloss", prepare_ours, setting=setting) as we:
        for name, (prepare, sizes) in OTHERS.items():
            with Worker(name, prepare, setting=setting, n=setting.n(*PROMPTS)) as they:
                what = f"lens of {setting.name(LONG)} prompts, float32, forward included"
                tried = {size: they.run(batch_size=size).seconds for size in sizes}
                best = min(tried, key=lambda size: tried[size])
                calls = {"ours": we.run, name: lambda t=they, b=best: t.run(batch_size=b)}
                runs = alternate(calls, setting.repetitions, f"{what}: {name}")
            ours, expected = runs["ours"][-1].value, np.asarray(runs[name][-1].value)
            both = (np.maximum(values, LEAST) for values in (ours[-len(expected) :], expected))
            difference = check_equal(*both, TOLERANCE, what)
            speed = ratio(seconds(runs[name]), seconds(runs["ours"]))
            n = setting.n(*PROMPTS)
            rates = [n / float(np.median(seconds(runs[key]))) for key in ("ours", name)]
            yield Row(
                what, f"{name}, batch {best}", f"{rates[0]:.3g} prompts/s",
                f"{rates[1]:.3g} prompts/s", speed.value, speed.low, speed.high, PEERS,
                note=f"{n} prompts a turn, all layers, whole vocabulary; largest difference "
                f"{difference:.1g} nat",
            )  # fmt: skip
