import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import h5netcdf
import h5py
import numpy as np
import pytest
import torch
import xarray as xr

from isogloss.errors import InputError
from isogloss.extraction.assembly import assemble
from isogloss.extraction.language import LanguageExtraction
from isogloss.extraction.shards import as_bits, compute_shards
from isogloss.files.activation_file import (
    ActivationWriter,
    check_items,
    decode_states,
    open_activations,
    open_scores,
    open_states,
    widen_bfloat16,
)
from isogloss.files.canonical import key_of
from isogloss.files.hdf5 import check_header, content_digest, verify_hdf5
from isogloss.measures.behaviour import choice_scores
from isogloss.model.tiny_models import tiny_model
from isogloss.questions.items import Item, ParallelItems
from isogloss.questions.prompts import LATENTS, PromptStyle, Tokens, questions

LANGUAGES = ("en", "de", "zh")
model = cache(tiny_model)


def items():
    made = {
        tag: tuple(
            Item(f"q{i}", "", f"what {tag} {'city ' * i}?", (f"{tag}a", f"{tag}b", "c")[: 3 - i], 1)
            for i in range(2)
        )
        for tag in LANGUAGES
    }
    return ParallelItems("made", made, np.array([7, 3]))


def spec_of(language, **other):
    return {
        "language": language, "pivot": "en", "model": "tiny", "dataset": "made",
        "extraction_version": 1,
    } | other  # fmt: skip


def extract(folder, language, weights=torch.float32, layers=(0, 2, 4), extra=False, **other):
    decoder, data = model("gemma3", dtype=weights), items()
    style = PromptStyle("raw", {"default": "Q: {question}"})
    tokens = Tokens(decoder.tokenizer, decoder.start)
    asked = questions(
        data, language, tokens, style, pivot="en", control=None, pmi=extra, letters=extra
    )
    spec = spec_of(language, **other)
    path = folder / f"{key_of(spec)}.h5"
    extraction = LanguageExtraction(path, spec, data, asked, layers)
    assemble(extraction, {"seconds": 1}, compute_shards(decoder, extraction, 512))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    return {tag: extract(folder, tag) for tag in LANGUAGES}


@pytest.fixture
def copy(files, tmp_path):
    """A copy of the German file, under its own name, to be damaged."""
    made = tmp_path / files["de"].name
    made.write_bytes(files["de"].read_bytes())
    return made


# -- what is read is what was written --------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_states_come_back_bit_for_bit(dtype, tmp_path):
    states = torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(0)) * 100
    states = states.to(getattr(torch, dtype))
    path = tmp_path / f"{key_of(spec_of('de'))}.h5"
    bits = as_bits(states)
    with ActivationWriter(path, spec_of("de"), {}) as writer:
        stored = writer.states("state", (6, 3, 4), bits.dtype, "rows")
        stored.append(bits[:2])
        stored.append(bits[2:])
        stored.finish()
    verify_hdf5(path)
    reread = open_activations(path).rows_state
    assert reread.dtype == np.float32
    assert np.array_equal(reread.values, states.float().numpy())
    with h5py.File(path) as file:
        assert file["rows/state"].dtype.itemsize == (4 if dtype == "float32" else 2)


def test_bfloat16_widens_exactly_for_every_finite_value():
    bits = np.arange(2**16, dtype=np.uint32).astype(np.uint16)
    expected = torch.from_numpy(bits.view(np.int16).copy()).view(torch.bfloat16).float().numpy()
    assert np.array_equal(widen_bfloat16(bits), expected, equal_nan=True)
    assert decode_states(np.array([1.5], np.float16), "").dtype == np.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_an_activation_file_of_each_type_opens_with_named_dimensions(dtype, tmp_path):
    path = extract(tmp_path, "de", weights=dtype)
    verify_hdf5(path)
    activations = open_activations(path)
    assert (
        activations.prompt_mean.dims == activations.prompt_last.dims == ("item", "layer", "feature")
    )
    assert activations.rows_state.dims == ("row", "lens_layer", "feature")
    assert activations.log_probability.dims == ("item", "latent", "choice")
    assert activations.latent.values.tolist() == list(LATENTS)
    assert activations.layer.values.tolist() == [0, 1, 2, 3, 4]
    assert activations.lens_layer.values.tolist() == [0, 2, 4]
    with h5py.File(path) as file:
        stored = decode_states(file["rows/state"][...], file["rows/state"].attrs.get("stored_as"))
        mean = file["prompt_mean"][...]
    assert np.array_equal(activations.prompt_mean.sel(layer=3).values, mean[:, 3])
    assert np.array_equal(activations.rows_state.sel(lens_layer=2).values, stored[:, 1])
    picked = activations.rows_state.isel(row=[5, 1, 1], feature=slice(None, None, -2))
    assert np.array_equal(picked.values, stored[[5, 1, 1]][:, :, ::-2])
    assert np.array_equal(activations.rows_state.isel(row=-1, lens_layer=0).values, stored[-1, 0])


def test_opening_reads_no_states_and_selecting_reads_only_what_is_selected(files, monkeypatch):
    from isogloss.files import activation_file as activations

    read, before = [], activations._StoredStates._read

    def spy(self, key):
        values = before(self, key)
        read.append((self.name, values.shape))
        return values

    monkeypatch.setattr(activations._StoredStates, "_read", spy)
    german = open_activations(files["de"])
    layer = german.prompt_mean.sel(layer=3)
    assert read == []
    assert np.isfinite(layer.values).all()
    assert read == [("/prompt_mean", (2, 32))]


def test_every_variable_has_a_long_name_and_units(files):
    with h5netcdf.File(files["de"], "r") as file:
        nodes = [file, *file.groups.values()]
        attrs = {v.name: set(v.attrs) for node in nodes for v in node.variables.values()}
    assert len(attrs) > 20
    assert [
        name for name, attributes in attrs.items() if not {"long_name", "units"} <= attributes
    ] == []


def test_other_netcdf_readers_open_it(files):
    with xr.open_dataset(files["de"], engine="h5netcdf") as dataset:
        assert dataset.prompt_mean.dims == ("item", "layer", "feature")
        activations = open_activations(files["de"])
        assert np.array_equal(dataset.prompt_mean.values, activations.prompt_mean.values)


# -- damaged and foreign files ---------------------------------------------------------------------


def named(path, words):
    return re.escape(str(path)) + ".*" + words


def rewrite(path, name, value):
    with h5py.File(path, "r+") as file:
        file.attrs[name] = value


def test_a_whole_file_passes(copy):
    assert check_header(copy)["language"] == "de"
    verify_hdf5(copy)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=named(tmp_path / "x.h5", "no such artifact: run")):
        check_header(tmp_path / "x.h5")


@pytest.mark.parametrize("size", [0, 7, 100, 2000, -100])
def test_a_truncated_file_is_refused_by_its_name(copy, size):
    content = copy.read_bytes()
    copy.write_bytes(content[:size])
    for check in (check_header, open_activations):
        with pytest.raises(InputError, match=named(copy, "not a whole HDF5 file")):
            check(copy)
    with pytest.raises(InputError, match=named(copy, "does not end with its digest")):
        verify_hdf5(copy)


@pytest.mark.parametrize("end", [-48, -33, -32, -1, None])
def test_a_damaged_seal_is_refused(copy, end):
    content = copy.read_bytes()
    copy.write_bytes(content[:end] if end else content + b"x")
    with pytest.raises(InputError, match=named(copy, "does not end with its digest")):
        verify_hdf5(copy)


def test_text_is_refused_by_its_name(copy):
    copy.write_text("version https://git-lfs.github.com/spec/v1\n" * 100)
    with pytest.raises(InputError, match=named(copy, "not a whole HDF5 file")):
        check_header(copy)


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "other.h5"
    xr.Dataset({"a": 1}).to_netcdf(path, engine="h5netcdf")
    with pytest.raises(InputError, match=named(path, "schema_version is absent, this program")):
        check_header(path)


@pytest.mark.parametrize("version", [1, "two"])
def test_another_schema_version_is_refused(copy, version):
    rewrite(copy, "schema_version", version)
    with pytest.raises(InputError, match=named(copy, f"schema_version is {version}")):
        open_activations(copy)


@pytest.mark.parametrize("name", ["spec", "key"])
def test_a_missing_or_damaged_header_is_refused(copy, name):
    rewrite(copy, name, "{")
    with pytest.raises(InputError, match=named(copy, "does not match")):
        check_header(copy)
    with h5py.File(copy, "r+") as file:
        del file.attrs[name]
    with pytest.raises(InputError, match=named(copy, "does not match")):
        check_header(copy)


def test_a_file_under_another_name_is_refused(copy):
    other = copy.with_name("0" * 64 + ".h5")
    copy.rename(other)
    with pytest.raises(InputError, match=named(other, r"key [0-9a-f]{12} does not match")):
        check_header(other)


def test_a_changed_spec_is_refused(copy):
    rewrite(copy, "spec", json.dumps(spec_of("sw")))
    with pytest.raises(InputError, match=named(copy, "does not match the spec")):
        check_header(copy)


@pytest.mark.parametrize("name", ["prompt_mean", "rows/state", "targets/log_probability"])
def test_one_flipped_bit_is_found(copy, name):
    with h5py.File(copy) as file:
        chunk = file[name].id.get_chunk_info(0)
    content = bytearray(copy.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 1
    copy.write_bytes(content)
    check_header(copy)
    with pytest.raises(InputError, match=named(copy, "its bytes are not those of its digest")):
        verify_hdf5(copy)


@pytest.mark.parametrize("name", ["answer", "item_id", "prompt_last"])
def test_a_changed_value_is_found(copy, name):
    with h5py.File(copy, "r+") as file:
        file[name][0] = b"other" if name == "item_id" else file[name][0] + 1
    with pytest.raises(InputError, match=named(copy, "does not end with its digest")):
        verify_hdf5(copy)


def test_a_missing_variable_is_found(copy):
    with h5py.File(copy, "r+") as file:
        del file["targets/token"]
    with pytest.raises(InputError, match=named(copy, "does not end with its digest")):
        verify_hdf5(copy)


def test_content_digest_is_of_the_content(files, tmp_path):
    again = extract(tmp_path, "de")
    assert content_digest(again) == content_digest(files["de"])
    assert content_digest(files["de"]) != content_digest(files["en"])


# -- several languages -----------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["prompt_mean", "prompt_last"])
def test_states_of_several_languages(files, pooling):
    states = open_states([files[tag] for tag in LANGUAGES], pooling)
    assert states.languages == LANGUAGES and states.item_ids == ("q0", "q1")
    assert states.clusters.tolist() == [7, 3]
    assert states.depths.tolist() == [0, 0.25, 0.5, 0.75, 1]
    for i, tag in enumerate(LANGUAGES):
        activations = open_activations(files[tag])
        assert states.n_tokens[i].tolist() == activations.n_prompt_tokens.values.tolist()
        assert np.array_equal(states.at(2)[i], activations[pooling].values[:, 2])
    assert states.at(2).dtype == np.float32 and states.at(2).shape == (3, 2, 32)


def test_states_of_one_language_are_refused(files):
    with pytest.raises(InputError, match="comparing languages needs two or more"):
        open_states([files["de"]])


@pytest.mark.parametrize("field", ["model", "dataset", "extraction_version", "dtype"])
def test_states_that_do_not_belong_together_are_refused(files, tmp_path, field):
    other = extract(tmp_path, "de", **{field: "other"})
    assert check_header(other)[field] == "other"
    with pytest.raises(InputError, match=named(other, f"{field} differs from that of")):
        open_states([files["en"], other])


def test_scores_of_several_languages(files):
    scores = open_scores([files[tag] for tag in LANGUAGES])
    assert scores["sum"].dims == ("language", "item", "choice")
    assert scores.language.values.tolist() == list(LANGUAGES)
    assert scores.item.values.tolist() == ["q0", "q1"]
    assert scores.attrs["pivot"] == "en"
    assert scores.answer.values.tolist() == [1, 1] and scores.n_choices.values.tolist() == [3, 2]
    assert scores.cluster.values.tolist() == [7, 3]
    activations = open_activations(files["zh"]).sel(latent="prompt")
    np.testing.assert_array_equal(scores["sum"].sel(language="zh"), activations.log_probability)
    assert np.isnan(scores["sum"][:, 1, 2]).all() and np.isfinite(scores["sum"][:, :, :2]).all()
    assert scores.identical_to_pivot.dtype == bool
    assert scores.identical_to_pivot.sel(language="de")[0].values.tolist() == [False, False, True]
    assert scores.n_truncated_tokens.dims == ("language", "item")
    assert "pmi" not in scores and "letter" not in scores
    per_token = choice_scores(scores, "token")
    np.testing.assert_allclose(
        per_token[:, 0], scores["sum"][:, 0] / scores.n_tokens[:, 0], rtol=1e-6
    )


def test_extra_passes_become_scores(tmp_path):
    path = extract(tmp_path, "de", extra=True)
    scores, activations = open_scores([path]), open_activations(path).sel(latent="prompt")
    np.testing.assert_array_equal(
        scores.pmi[0], activations.log_probability - activations.unconditional
    )
    np.testing.assert_array_equal(scores.letter[0], activations.letter)
    assert np.isfinite(scores.pmi[0, :, :2]).all() and np.isfinite(scores.letter[0, :, :2]).all()


def test_questions_that_were_edited_after_extraction_are_refused(tmp_path):
    spec = {"items": {"de": "1" * 64, "en": "2" * 64}}
    path = tmp_path / f"{key_of(spec)}.h5"
    with ActivationWriter(path, spec, {}):
        pass
    now = {"de": "1" * 64, "en": "2" * 64}
    check_items({"de": path, "en": path}, now.__getitem__)
    now["en"] = "3" * 64
    with pytest.raises(InputError, match=r"its questions \(en\) are not those that are read now"):
        check_items({"de": path, "en": path}, now.__getitem__)


def test_files_are_opened_without_locks():
    """Some shared file systems have none: HDF5 then fails with ENOLCK, ENOSYS or EAGAIN."""
    import isogloss

    programs = Path(isogloss.__file__).parents[1].glob("*.py")
    early = [p.name for p in programs if re.search("^(import|from) h5", p.read_text(), re.M)]
    assert not early, "h5py reads the variable when it is imported: import it in functions"
    script = "import isogloss, os; print(os.environ['HDF5_USE_FILE_LOCKING'])"
    env = {k: v for k, v in os.environ.items() if k != "HDF5_USE_FILE_LOCKING"}
    env["PYTHONPATH"] = str(Path(isogloss.__file__).parents[1])
    said = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert said.stdout == "FALSE\n"
