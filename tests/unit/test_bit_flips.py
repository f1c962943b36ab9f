"""A bit that flips on a disk or on the way is refused, or makes no difference to any reader."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors import safe_open
from tests.unit.test_activations import extract, model

from isogloss.errors import Damaged
from isogloss.files.activation_file import open_activations
from isogloss.files.canonical import key_of
from isogloss.files.netcdf import open_artifact, write_artifact
from isogloss.model.logit_lens import lens_of_file
from isogloss.model.readout import read_readout, readout_of, write_readout
from isogloss.store.verification import verify_artifact
from isogloss.study.keys import lens_identity

FLIPS = 100
HEADERS = 4096
"""Attributes and addresses lie at the beginning, and are few among the bytes of a file."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small activation file, its lens file and the model's readout."""
    folder = tmp_path_factory.mktemp("made")
    activations = extract(folder, "de")
    readout = readout_of(model("gemma3"))
    lens = lens_of_file(activations, readout)
    spec = lens_identity(activations.stem, "0" * 64)
    write_artifact(lens.assign_attrs(language="de"), folder / f"{key_of(spec)}.nc", spec)
    path = folder / f"{key_of({'model': 'tiny'})}.safetensors"
    write_readout(model("gemma3"), path, {"model": "tiny"})
    return {".h5": activations, ".nc": folder / f"{key_of(spec)}.nc", ".safetensors": path}


def content(path):
    """All that a reader is given of an artifact, in a form that compares."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["isogloss"])
        fields = asdict(read_readout(path))
        same = {n: v.view(torch.uint8).numpy().tobytes() for n, v in fields.items() if is_tensor(v)}
        return about, {n: v for n, v in fields.items() if not is_tensor(v)}, same
    opened = open_activations(path) if path.suffix == ".h5" else open_artifact(path)
    return opened.load()


def is_tensor(value):
    return isinstance(value, torch.Tensor)


def equal(first, other):
    return first.identical(other) if isinstance(first, xr.Dataset) else first == other


@pytest.mark.parametrize("suffix", [".h5", ".nc", ".safetensors"])
@pytest.mark.parametrize("within", [None, HEADERS], ids=["anywhere", "headers"])
def test_a_flipped_bit_is_refused_or_changes_nothing(made, tmp_path, suffix, within):
    original = content(made[suffix])
    whole = made[suffix].read_bytes()
    path = tmp_path / made[suffix].name
    rng, refused = np.random.default_rng(7), 0
    for place in rng.integers(0, within or len(whole), FLIPS):
        bit = int(rng.integers(8))
        flipped = bytearray(whole)
        flipped[place] ^= 1 << bit
        path.write_bytes(flipped)
        try:
            verify_artifact(path)
        except Damaged:
            refused += 1
            continue
        assert equal(content(path), original), f"byte {place}, bit {bit}"
    assert refused > FLIPS / 2
