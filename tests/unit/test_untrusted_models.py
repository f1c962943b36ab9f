"""A model's folder is data: nothing in it is run, unless the configuration says so by name."""

import ast
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from isogloss.errors import InputError
from isogloss.extraction.work_folder import read_shard
from isogloss.model.fetching import fetch
from isogloss.model.load import load
from isogloss.model.sources import ModelSource, model_digest
from isogloss.model.tiny_models import save_tiny_model, tiny_tokenizer
from isogloss.questions.prompts import PromptStyle, _chat

ROOT = Path(__file__).resolve().parents[2]


class Planted:
    """An object whose pickle makes a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "gemma3"
    save_tiny_model(folder, "gemma3")
    return folder


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What is there only if something was run."""
    return tmp_path / "mark"


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def opened(folder: Path, **settings: Any) -> Any:
    spec = {"source": "path", "path": str(folder), **settings}
    return load(ModelSource.from_spec("m", spec), folder.parent / "cache", "cpu")


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


# -- pickles ---------------------------------------------------------------------------------------

PICKLES = (
    "pytorch_model.bin", "model.pt", "model.pth", "weights.pkl", "training_args.bin",
    "adapter_model.bin", "tokenizer.pkl", "model.ckpt",
)  # fmt: skip


def test_the_planted_pickle_does_what_it_is_for(mark: Path) -> None:
    pickle.loads(pickle.dumps(Planted(mark)))
    assert mark.exists()


def test_pickles_beside_the_weights_are_never_opened(model: Path, mark: Path) -> None:
    for name in PICKLES:
        (model / name).write_bytes(pickle.dumps(Planted(mark)))
    adapter = {"peft_type": "LORA", "base_model_name_or_path": str(model)}
    assert opened(model).n_layers == 4
    (model / "adapter_config.json").write_text(json.dumps(adapter))
    with pytest.raises(InputError, match="adapter_config.json: its adapter"):
        opened(model)
    assert not mark.exists()


def test_pickled_weights_alone_are_refused(model: Path, mark: Path) -> None:
    (model / "model.safetensors").unlink()
    for name in PICKLES:
        (model / name).write_bytes(pickle.dumps(Planted(mark)))
    with pytest.raises(InputError, match="pickled weights are not opened"):
        opened(model)
    (model / "model.safetensors").write_bytes(pickle.dumps(Planted(mark)))
    with pytest.raises(InputError, match="not a whole safetensors file"):
        opened(model)
    assert not mark.exists()


@pytest.mark.parametrize(
    "listed", ["pytorch_model.bin", "../model.safetensors", "/x.safetensors", 3]
)
def test_an_index_lists_safetensors_of_its_folder_only(
    model: Path, mark: Path, listed: str | int
) -> None:
    (model / "model.safetensors").rename(model / "other.safetensors")
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Planted(mark)))
    index = {"metadata": {}, "weight_map": {"model.norm.weight": listed}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="index.json lists .*, which is no .*safetensors of the"):
        fetch(ModelSource.from_spec("m", {"source": "path", "path": str(model)}), model)
    assert not mark.exists()


def test_arrays_with_pickled_objects_are_refused(tmp_path: Path, mark: Path) -> None:
    shard = tmp_path / "shard.npz"
    np.savez(shard, states=np.array([Planted(mark)], dtype=object))
    with pytest.raises(InputError, match="shard.npz: not a whole shard"):
        read_shard(shard)
    assert not mark.exists()


FORBIDDEN = {
    "eval", "exec", "compile", "__import__", "pickle", "cPickle", "dill", "joblib", "marshal",
    "shelve", "os.system", "os.popen", "torch.load", "yaml.full_load", "yaml.unsafe_load",
}  # fmt: skip


@pytest.mark.parametrize(
    "path", sorted((ROOT / "workflow_scripts").rglob("*.py")), ids=lambda path: path.stem
)
def test_no_program_can_run_what_it_reads(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in FORBIDDEN, ast.unparse(node)
            given = {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert given.get("shell", "False") == "False", ast.unparse(node)
            assert given.get("allow_pickle", "False") == "False", ast.unparse(node)
            if ast.unparse(node.func) == "np.load":
                assert "allow_pickle" in given, ast.unparse(node)
            if ast.unparse(node.func) == "yaml.load":
                safe = ("_OnceLoader", "_Loader")  # of study files; of the harness's tasks
                assert given["Loader"] in safe, ast.unparse(node)
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", "")}
            assert not names & FORBIDDEN, ast.unparse(node)


# -- code ------------------------------------------------------------------------------------------

MAPS = {
    # what asks for code: (file, changes to it)
    "a model that is known": (
        "config.json",
        {"auto_map": {"AutoConfig": "planted.C", "AutoModelForCausalLM": "planted.M"}},
    ),
    "a model that is not": (
        "config.json",
        {"model_type": "planted", "auto_map": {"AutoConfig": "planted.C"}},
    ),
    "a tokenizer": (
        "tokenizer_config.json",
        {"tokenizer_class": "T", "auto_map": {"AutoTokenizer": ["planted.T", None]}},
    ),
}


@pytest.mark.parametrize("kind", MAPS)
def test_code_is_run_only_where_the_configuration_says_so(
    model: Path, mark: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(model.parent / "modules"))
    name, changes = MAPS[kind]
    change(model / name, **changes)
    (model / "planted.py").write_text(f"import os\nos.makedirs({str(mark)!r}, exist_ok=True)\n")
    if kind == "a model that is not":
        with pytest.raises(InputError, match="custom code.*trust_remote_code: true runs it"):
            opened(model)
    else:
        assert opened(model).n_layers == 4
    assert not mark.exists()
    with pytest.raises(InputError, match="planted"):  # it holds nothing that could be loaded
        opened(model, trust_remote_code=True)
    assert mark.exists()


def test_a_chat_template_runs_in_a_sandbox(mark: Path) -> None:
    tokenizer = tiny_tokenizer(begins_with_bos=True)
    reach = "cycler.__init__.__globals__.os.mkdir"
    tokenizer.chat_template = "{{ " + reach + "('" + str(mark) + "') }}"
    tokens: Any = SimpleNamespace(tokenizer=tokenizer)
    with pytest.raises(InputError, match="the model's chat template fails .*: use raw"):
        _chat("hello", tokens, PromptStyle("chat", {"default": "{question}"}, 0, False))
    assert not mark.exists()


# -- descriptions ----------------------------------------------------------------------------------

DAMAGED: dict[str, tuple[str, str | dict[str, Any], str]] = {
    # what is wrong: (file, its text or changes to it, what the message must name)
    "no JSON": ("config.json", "{", "not a valid JSON file"),
    "a list": ("config.json", "[]", "Unrecognized model"),
    "nested": ("config.json", "[" * 100_000, "maximum recursion depth"),
    "no kind of model": ("config.json", {"model_type": "nothing"}, "model type `nothing`"),
    "a width of text": ("config.json", {"hidden_size": "many"}, "'hidden_size' expected int"),
    "negative layers": ("config.json", {"num_hidden_layers": -1}, "num_hidden_layers"),
    "more layers": ("config.json", {"num_hidden_layers": 4.5}, "num_hidden_layers"),
    "a tokenizer of nothing": ("tokenizer.json", "{}", "no usable tokenizer"),
    "a nested tokenizer": ("tokenizer.json", "[" * 100_000, "no usable tokenizer (maximum rec"),
    "a tokenizer of text": ("tokenizer.json", "merges", "no usable tokenizer"),
}


@pytest.mark.parametrize("fault", DAMAGED)
def test_a_damaged_description_is_named_with_its_folder(model: Path, fault: str) -> None:
    name, content, named = DAMAGED[fault]
    if isinstance(content, str):
        (model / name).write_text(content, "utf-8")
    else:
        change(model / name, **content)
    with pytest.raises(InputError) as caught:
        opened(model)
    said = str(caught.value)
    assert said.startswith(f"models.m: {model}: ") and named in said and said.isprintable()


def test_odd_things_in_a_models_folder_are_no_part_of_it(model: Path, tmp_path: Path) -> None:
    source = ModelSource.from_spec("m", {"source": "path", "path": str(model)})
    (model / "folder.json").mkdir()
    (model / "gone.json").symlink_to("nowhere")
    (model / "loop.txt").symlink_to("loop.txt")
    assert fetch(source, tmp_path) == model
    assert len(model_digest(source, tmp_path / "cache")) == 64
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file.*: .*the folder named by `cache`"):
        model_digest(source, tmp_path / "file")


def test_code_of_another_repository_is_refused_whatever_is_trusted(model: Path) -> None:
    """It can change while the model's own revision, and with it every key, stays."""
    change(model / "config.json", auto_map={"AutoModelForCausalLM": "other/code--modeling.Model"})
    message = r"config.json runs code of another repository \(other/code--modeling.Model\)"
    with pytest.raises(InputError, match=message):
        opened(model, trust_remote_code=True)
