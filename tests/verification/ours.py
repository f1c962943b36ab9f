"""What is compared: questions, and what Isogloss computes on them by the functions of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from benchmarks.material import EVERYDAY, TEMPLATES, chosen, spread

from isogloss.extraction.assembly import assemble
from isogloss.extraction.language import LanguageExtraction
from isogloss.extraction.shards import compute_shards
from isogloss.files.activation_file import open_activations, open_scores, open_states
from isogloss.files.canonical import key_of
from isogloss.model.decoder import Decoder
from isogloss.model.load import load
from isogloss.model.logit_lens import lens_of_file
from isogloss.model.packing import lay_out
from isogloss.model.sources import ModelSource
from isogloss.questions.items import ParallelItems
from isogloss.questions.languages import separator
from isogloss.questions.local_files import load_files
from isogloss.questions.prompts import PromptStyle, Question, Tokens, prompt_text, questions
from isogloss.steering.design import ALL_ITEMS
from isogloss.steering.interventions import Intervention, intervention
from isogloss.steering.sweep import Condition, steered_scores
from isogloss.steering.vectors import fit_vectors

BUDGET = 2048
PUBLISHED = {"xcopa": ("en", "th", "sw"), "xquad_mc": ("en", "hi", "zh")}
OWN, OWN_FORWARD = ("en", "de", "es", "sw", "zh"), ("en", "sw", "zh")
METHODS = ("mean_difference", "shared_projection", "linear_map")


@dataclass(frozen=True)
class Sizes:
    """How many questions per language.

    Attributes:
        measured: for measures and statistics.
        short, long: for other tools' forwards, without and with a passage (0: none).
        every_layer: whose states, lens and steered scores are compared.
    """

    measured: int = 60
    short: int = 20
    long: int = 2
    every_layer: int = 3


FEW = Sizes(measured=20, short=6, long=0, every_layer=2)


@dataclass(frozen=True)
class Material:
    """Parallel questions and how they become prompts; the pivot is the first language."""

    name: str
    items: ParallelItems
    languages: tuple[str, ...]
    style: PromptStyle

    def texts(self, language: str) -> list[tuple[str, list[str]]]:
        """Each item's prompt, and its choices as they stand after it."""
        gap = separator(language)
        return [
            (prompt_text(self.items, language, i, self.style), [gap + c for c in item.choices])
            for i, item in enumerate(self.items.items[language])
        ]


def everyday(languages: tuple[str, ...], n: int) -> Material:
    """Questions that come along: four choices, clusters."""
    items = load_files(EVERYDAY, languages, "everyday")
    style = PromptStyle("raw", {"default": "Q: {question}\nA:"})
    return Material("everyday", first_items(items, n), languages, style)


def published(data: Path, name: str, sizes: Sizes) -> Material:
    """Questions of a folder of published data: short (XCOPA) or long (XQuAD-MC) prompts."""
    languages, kind = PUBLISHED[name], "short" if name == "xcopa" else "long"
    items = load_files(data / name, languages, name)
    rows = spread(len(items.item_ids), sizes.short if kind == "short" else sizes.long)
    style = PromptStyle("raw", {"default": TEMPLATES[kind]})
    return Material(name, chosen(items, rows), languages, style)


def first_items(items: ParallelItems, n: int) -> ParallelItems:
    """The first n items with their clusters."""
    kept = {tag: of_language[:n] for tag, of_language in items.items.items()}
    return ParallelItems(items.name, kept, items.clusters[:n])


@dataclass(frozen=True)
class Computed:
    """What Isogloss computed on some material with one model.

    Attributes:
        asked: by language, the questions as token ids.
        files: activation file of each language.
        lens: by language, of its first items.
    """

    material: Material
    asked: dict[str, list[Question]]
    files: dict[str, Path]
    lens: dict[str, xr.Dataset]

    @cached_property
    def scores(self) -> xr.Dataset:
        """`sum` (language, item, choice) and what describes the items."""
        return open_scores(list(self.files.values()))

    def states(self, language: str, pooling: str) -> np.ndarray:
        """(item, layer, feature)."""
        return open_activations(self.files[language])[pooling].values

    def parallel(self, pooling: str = "prompt_mean") -> Any:
        return open_states(list(self.files.values()), pooling)


@dataclass(frozen=True)
class Isogloss:
    """A model as a run loads it."""

    source: ModelSource
    decoder: Decoder

    @classmethod
    def loaded(cls, source: ModelSource, cache: Path) -> "Isogloss":
        return cls(source, load(source, cache, "cpu"))

    def compute(self, material: Material, folder: Path, lens: bool = True) -> Computed:
        """Extract every language of the material into activation files, and read their lens."""
        tokens = Tokens(self.decoder.tokenizer, self.decoder.start)
        layers = list(range(self.decoder.n_layers + 1)) if lens else []
        pivot = material.languages[0]
        asked, files, lenses = {}, {}, {}
        for tag in material.languages:
            asked[tag] = questions(
                material.items, tag, tokens, material.style, pivot=tag, control=None, latents=False
            )
            digest = material.items.digest(tag)
            spec = {"language": tag, "pivot": pivot, "items": digest, "model": self.source.slug}
            files[tag] = folder / f"{key_of(spec)}.h5"
            extraction = LanguageExtraction(files[tag], spec, material.items, asked[tag], layers)
            assemble(extraction, {}, compute_shards(self.decoder, extraction, BUDGET))
            if lens:
                lenses[tag] = lens_of_file(files[tag], self.decoder.readout)
        return Computed(material, asked, files, lenses)

    def interventions(self, computed: Computed, language: str) -> list[tuple[int, str, Any]]:
        """Layer, position and change of every method: at all tokens, and later at the last."""
        layers = [round(self.decoder.n_layers * depth) for depth in (1 / 3, 2 / 3)]
        vectors = fit_vectors(
            computed.parallel("prompt_mean"),
            computed.parallel("prompt_last"),
            None,
            computed.material.languages[0],
            layers,
            METHODS,
        )
        places = zip(layers, ("prompt", "last"), ("prompt_mean", "prompt_last"), strict=True)
        return [
            (
                layer,
                at,
                intervention(
                    vectors, method, language=language, fold=ALL_ITEMS, layer=layer, pooling=pooling
                ),
            )
            for layer, at, pooling in places
            for method in METHODS
        ]

    def steered(
        self, asked: Sequence[Question], changes: Sequence[tuple[int, str, Intervention]]
    ) -> np.ndarray:
        """(change, question, choice) scores under each change at full strength."""
        trees = [lay_out(question) for question in asked]
        scores = []
        for layer, positions, change in changes:
            swept = steered_scores(
                self.decoder,
                self.decoder.readout,
                trees,
                [[Condition(layer, change, 1.0)]] * len(trees),
                positions=positions,
                budget=BUDGET,
            )
            scores.append(swept.log_probability[0])
        return np.stack(scores)
