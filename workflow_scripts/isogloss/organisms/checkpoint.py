"""The checkpoint of an organism: one file in the store, unpacked as an ordinary model.

The file holds the weights, and in its header how training went. Unpacked it is a folder as
`save_pretrained` writes it, which every later stage loads like any other model.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from isogloss.files.atomic import whole_folder
from isogloss.model.sources import ModelSource, organism_folder, organism_identity
from isogloss.model.tensor_file import read_tensors, write_tensors
from isogloss.organisms.evaluation import Exam
from isogloss.organisms.organism import Organism, llama_config
from isogloss.organisms.sequences import Corpus
from isogloss.organisms.training import Schedule, train
from isogloss.questions.world import BEGIN, END, SPECIAL, UNKNOWN, World, asked_facts

N_ASKED = 120
"""Facts that an organism is asked for while it is trained; fewer where the world has fewer."""


def train_checkpoint(
    source: ModelSource, path: Path, progress: Callable[[range], Iterable[int]] = iter
) -> None:
    """Train the organism of a source and write its checkpoint, on one thread.

    What has been reached lies beside it until it is written, as `<key>.work`.
    """
    assert source.organism is not None and source.world is not None
    settings, world = source.organism, World.from_spec(source.world)
    torch.set_num_threads(1)
    organism = Organism(
        world, settings["width"], settings["layers"], settings["sharing"], settings["seed"]
    )
    corpus = Corpus(world, settings["bridge"], settings["seed"])
    exam = Exam.of(corpus, asked_facts(world, min(N_ASKED, world.facts.size), seed=0))
    schedule = Schedule(
        settings["steps"],
        settings["batch"],
        settings["learning_rate"],
        settings.get("until_loss"),
        settings["evaluate_every"],
    )
    work = path.with_suffix(".work")
    history = train(organism, corpus, exam, schedule, work, progress)
    weights = organism.ordinary().state_dict()
    del weights["lm_head.weight"]  # tied
    about = {"kind": "organism", "record": {"history": history, "torch": torch.__version__}}
    write_tensors(weights, path, organism_identity(source), about)
    work.unlink(missing_ok=True)


def unpack(source: ModelSource, path: Path, cache: Path) -> Path:
    """The folder of an organism's model, made from its checkpoint where it is not there.

    Raises:
        Damaged: the checkpoint is.
    """
    folder = organism_folder(source, cache)
    if folder.is_dir():
        return folder
    from transformers import LlamaForCausalLM
    from transformers.utils import logging

    assert source.organism is not None and source.world is not None
    world, settings = World.from_spec(source.world), source.organism
    weights, _ = read_tensors(path, "organism")
    logging.disable_progress_bar()
    with torch.random.fork_rng(devices=[]):
        model = LlamaForCausalLM(llama_config(world, settings["width"], settings["layers"]))
    model.load_state_dict(weights, strict=False)  # `lm_head` is tied
    with whole_folder(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer(world).save_pretrained(temporary)
    return folder


def tokenizer(world: World) -> Any:
    """A tokenizer of whole words between spaces, BOS before a text."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    ids: Mapping[str, int] = {text: number for number, text in enumerate(world.vocabulary)}
    core = Tokenizer(WordLevel(dict(ids), unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.decoder = decoders.WordPiece(prefix="")
    core.add_special_tokens(list(SPECIAL))
    core.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", pair=f"{BEGIN} $A {BEGIN} $B", special_tokens=[(BEGIN, ids[BEGIN])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=BEGIN, eos_token=END, pad_token=END, unk_token=UNKNOWN
    )
