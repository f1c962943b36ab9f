"""HDF5: what writing costs an extraction, how fast one layer is read, how large a state is."""

import os
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from benchmarks import ours
from benchmarks.material import LONG, SHORT, Setting
from benchmarks.measuring import Job, Run, Worker, alternate, ratio, seconds
from benchmarks.table import Row

from isogloss.files.activation_file import open_activations
from isogloss.model.adapt import adapt
from isogloss.model.packing import lay_out
from isogloss.model.tiny_models import VOCABULARY, tiny_tokenizer
from isogloss.questions.items import Item, ParallelItems
from isogloss.questions.prompts import Phrase, Question

WRITING, READING = 0.05, 200.0
N_ITEMS = {LONG: (48, 2), SHORT: (400, 8)}  # as large as files of such data are; default, quick
WIDE_ITEMS = (1200, 100)
PHRASES, PHRASE_TOKENS = 8, 3


def prepare_extraction(setting: Setting, kind: str) -> Job:
    """States and scores computed, or an activation file made of them."""
    tool, language = ours.loaded(setting), setting.languages(kind)[0]
    items = tool.items(kind, language, setting.n(*N_ITEMS[kind]))

    def job(written: bool) -> Path | None:
        asked = tool.ask(items, kind, language)
        if written:
            return tool.extract(setting.scratch, items, asked, language)
        tool.compute([lay_out(question) for question in asked])
        return None

    return job


def prepare_wide_file(setting: Setting) -> Job:
    """A large activation file of the right shape, from a random model as wide as Gemma 3 270M."""

    def job() -> Path:
        tool = wide_model(setting)
        n = setting.n(*WIDE_ITEMS)
        return tool.extract(setting.scratch, *wide_questions(n), "en")

    return job


def wide_model(setting: Setting) -> ours.Loaded:
    """Width 640 and 18 blocks, all else small: it costs little, and its states are as large."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=VOCABULARY, hidden_size=640, intermediate_size=64, num_hidden_layers=18,
        num_attention_heads=1, num_key_value_heads=1, head_dim=32,
    )  # fmt: skip
    model = Gemma3ForCausalLM(config)
    decoder = adapt(model, tiny_tokenizer(True), "wide")
    return ours.Loaded(setting, decoder)


def wide_questions(n: int) -> tuple[ParallelItems, list[Question]]:
    """Questions of random tokens, many phrases each: many rows, few tokens."""
    rng = np.random.default_rng(0)

    def drawn(size: int) -> tuple[int, ...]:
        return tuple(int(token) for token in rng.integers(2, VOCABULARY, size))

    choices = tuple(f"choice {place}" for place in range(PHRASES))
    items = tuple(Item(f"q{i}", "", f"question {i}", choices, 0) for i in range(n))
    asked = [
        Question(
            i, "main", (0, *drawn(4)),
            tuple(Phrase(0, c, drawn(PHRASE_TOKENS), False) for c in range(PHRASES)),
        )
        for i in range(n)
    ]  # fmt: skip
    return ParallelItems("wide", {"en": items}, np.arange(n)), asked


def prepare_reading(file: Path) -> Job:
    """One layer of all rows, or as many bytes of the file as they lie; cold."""
    with h5py.File(file) as stored:
        shape, itemsize = stored["rows/state"].shape, stored["rows/state"].dtype.itemsize
    size = shape[0] * shape[2] * itemsize

    layers = cycle(range(shape[1]))  # another one each turn

    def job(what: str) -> int:
        if what == "layer":
            states = open_activations(file).rows_state.isel(lens_layer=next(layers)).values
            assert states.shape == (shape[0], shape[2])
        elif what == "bytes":
            with file.open("rb", buffering=0) as raw:
                left = size
                while left > 0 and (piece := raw.read(min(left, 2**20))):
                    left -= len(piece)
        return size

    return job


def evict(file: Path) -> None:
    """Put a file out of the page cache."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def writing(setting: Setting) -> Iterator[Row]:
    """What writing costs for both kinds of prompts, and bytes a state, in both types."""
    for dtype in ("float32", "bfloat16"):
        for kind in (LONG, SHORT):
            yield from _writing(setting.in_type(dtype), kind)


def _writing(setting: Setting, kind: str) -> list[Row]:
    dtype, n = setting.source.dtype, setting.n(*N_ITEMS[kind])
    name = f"{setting.name(kind)}, {dtype}"
    with Worker("isogloss", prepare_extraction, setting=setting, kind=kind) as we:
        calls = {"written": lambda: we.run(written=True), "computed": lambda: we.run(written=False)}
        runs = alternate(calls, setting.repetitions, f"HDF5, {name}")
        file = runs["written"][-1].value
    share = ratio(seconds(runs["computed"]), seconds(runs["written"]))
    each = [float(np.median(seconds(runs[key]))) for key in ("written", "computed")]
    made = Row(
        f"HDF5, {name}: writing's share of extraction", "computing alone",
        f"{each[0]:.3g} s", f"{each[1]:.3g} s",
        1 - share.value, 1 - share.high, 1 - share.low, WRITING, at_least=False, unit="of it",
        note=f"{n} items a turn; written, sealed and published, against computed only",
    )  # fmt: skip
    return [*(_sizes(file, dtype) if kind == LONG else []), made]


def _sizes(file: Path, dtype: str) -> list[Row]:
    """Bytes a state, of every kind of state that a file of this type holds."""
    rows = []
    with h5py.File(file) as stored:
        for name in ("prompt_last", "prompt_mean", "rows/state"):
            variable: Any = stored[name]
            row_bytes = variable.id.get_storage_size() / np.prod(variable.shape[:-1])
            kept = variable.attrs.get("stored_as", str(variable.dtype))
            plain = variable.shape[-1] * variable.dtype.itemsize
            rows.append(
                Row(
                    f"HDF5, model in {dtype}: bytes a state of {name}, kept as {kept}", "values",
                    f"{row_bytes:.0f} B", f"{plain} B", float(row_bytes), unit="B",
                    note="storage with checksums and what the last chunk leaves empty, in a small "
                    "file",
                )
            )  # fmt: skip
    return rows


def reading(setting: Setting) -> list[Row]:
    """One layer of a large file, cold."""
    with Worker("writer", prepare_wide_file, setting=setting) as maker:
        file = maker.run().value
    with Worker("reader", prepare_reading, file=file) as reader:

        def cold(what: str) -> Run:
            evict(file)
            return reader.run(what=what)

        calls = {"layer": lambda: cold("layer"), "bytes": lambda: cold("bytes")}
        runs = alternate(calls, setting.repetitions, "HDF5, one layer cold")
    rates = {
        key: [run.value / 1e6 / run.seconds for run in timings] for key, timings in runs.items()
    }
    rate, disk = (float(np.median(rates[key])) for key in ("layer", "bytes"))
    size = file.stat().st_size / 1e6
    return [
        Row(
            "HDF5: one layer of all rows, cold, checksums on", "as many bytes as they lie",
            f"{rate:.0f} MB/s", f"{disk:.0f} MB/s", rate, min(rates["layer"]),
            max(rates["layer"]), READING, unit="MB/s",
            note=f"{runs['layer'][0].value / 1e6:.0f} MB of a file of {size:.0f} MB, out of the "
            "page cache before each turn; the disk itself may have a cache",
        )
    ]  # fmt: skip
