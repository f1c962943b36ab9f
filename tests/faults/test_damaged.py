"""Damaged files of the store are refused by name; damaged shards are computed again."""

import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tests.faults.conftest import SHARDS, Bench, contents, said_in_one_line

from isogloss.errors import InputError
from isogloss.extraction.work_folder import is_whole, read_shard, write_shard
from isogloss.files.activation_file import open_activations, open_scores, open_states

FLIPS = 40


def flip(path: Path, place: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def flip_in(name: str) -> Callable[[Path], None]:
    """Flip a bit in the middle of every chunk of a variable."""

    def damage(path: Path) -> None:
        with h5py.File(path) as file:
            stored = file[name].id
            chunks = [stored.get_chunk_info(i) for i in range(stored.get_num_chunks())]
        for chunk in chunks:
            flip(path, chunk.byte_offset + chunk.size // 2)

    return damage


def cut(size: int) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[:size])


def another_version(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = 99


@pytest.mark.parametrize(
    ("program", "damage", "says"),
    [
        ("lens", flip_in("rows/state"), "cannot be read whole"),
        ("lens", another_version, "schema_version is 99, this program reads"),
        ("vectors", flip_in("prompt_mean"), "cannot be read whole"),
        ("behaviour", flip_in("log_probability"), "cannot be read whole"),
        ("steer", cut(-5000), "not a whole HDF5 file"),
    ],
)
def test_a_damaged_activation_file_is_refused_by_name(
    program: str, damage: Callable[[Path], None], says: str, done: Bench, tmp_path: Path
) -> None:
    bench = done.copy(tmp_path / "bench")
    (path,) = bench.files("activations/*/*/de/*.h5")
    damage(path)
    stage = {"steer": "steered"}.get(program, program)
    for made in bench.files(f"{stage}/*/*/*/*.nc"):
        made.unlink()
    code, said = bench.run(program)
    error = said_in_one_line(said)
    assert code == 1 and error.startswith(f"error: {path.relative_to(bench.folder)}: {says}")
    assert f"`python workflow_scripts/share.py set-aside {path.relative_to(bench.folder)}`" in error


def everything(bench: Bench) -> list[Any]:
    """All numbers that the later stages take from the German activation file."""
    german, english = (bench.files(f"activations/*/*/{tag}/*.h5")[0] for tag in ("de", "en"))
    whole = open_activations(german).load()
    scores = open_scores([german, english]).load()
    values: list[Any] = [variable.values for variable in [*whole.values(), *scores.values()]]
    for pooling in ("prompt_mean", "prompt_last"):
        states = open_states([german, english], pooling)
        values += [states.at(layer) for layer in range(len(states.depths))]
    return values


def test_a_flipped_bit_is_refused_by_name_or_changes_nothing(done: Bench, tmp_path: Path) -> None:
    bench = done.copy(tmp_path / "bench")
    (path,) = bench.files("activations/*/*/de/*.h5")
    content, expected = path.read_bytes(), everything(bench)
    draw, refused = random.Random(0), 0
    for _ in range(FLIPS):
        path.write_bytes(content)
        place, bit = draw.randrange(len(content)), draw.randrange(8)
        flip(path, place, bit)
        try:
            values = everything(bench)
        except InputError as error:
            assert str(path) in str(error)
            refused += 1
        else:
            same = [np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in
                    zip(values, expected, strict=True)]  # fmt: skip
            assert all(same), f"byte {place}, bit {bit}: other numbers, and nobody noticed"
    assert refused > FLIPS / 2


@pytest.mark.parametrize("damage", ["flipped", "empty"])
def test_a_damaged_shard_is_computed_again(
    damage: str, bench: Bench, done: Bench, tmp_path: Path
) -> None:
    moment = {"doing": "assembling", "event": 1, "note": str(tmp_path / "where")}
    code, said = bench.run("extract", moment | {"signal": signal.SIGKILL})
    assert code == -signal.SIGKILL, said
    shards = bench.files("*.npz")
    if damage == "flipped":
        flip(shards[2], shards[2].stat().st_size // 2)
    else:
        cut(0)(shards[2])
    code, said = bench.run("extract")
    assert code == 0, said
    assert f"{shards[2].relative_to(bench.folder)}: damaged: computing it again" in said
    assert f": {SHARDS - 1} of {SHARDS} shards are there" in said
    for ours, theirs in zip(bench.files("*.h5"), done.files("activations/*/*/*/*"), strict=True):
        assert contents(ours) == contents(theirs)


def test_a_flipped_bit_in_a_shard_is_seen_or_changes_nothing(tmp_path: Path) -> None:
    rng, file = np.random.default_rng(0), tmp_path / "0.npz"
    shard = {name: rng.normal(size=(2, 3)) for name in ("last", "mean", "lens", "log_probability")}
    write_shard(file, shard)
    content = file.read_bytes()
    assert is_whole(file)
    seen = 0
    for place in range(0, len(content), 3):
        file.write_bytes(content)
        flip(file, place, place % 8)
        if is_whole(file):
            reread = read_shard(file)
            assert all(np.array_equal(reread[name], shard[name]) for name in shard), place
        else:
            seen += 1
    assert seen > len(content) / 6
