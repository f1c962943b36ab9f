"""A model that is loaded already, on parallel questions, without a study.

    import isogloss as iso

    model = AutoModelForCausalLM.from_pretrained(...)
    result = iso.evaluate(model, tokenizer, {"en": [...], "de": [...]})
    result.behaviour.accuracy

The same functions as those of a study, so the same numbers; nothing is kept on the disk.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import xarray as xr

from isogloss.errors import InputError
from isogloss.files.activation_file import open_activations, open_scores, open_states
from isogloss.files.canonical import key_of
from isogloss.measures.behaviour import behaviour
from isogloss.measures.similarity import MIN_CLUSTERS, similarity
from isogloss.measures.trajectories import trajectories
from isogloss.questions.items import ParallelItems, spellings
from isogloss.questions.local_files import load_files
from isogloss.questions.prompts import control_language
from isogloss.questions.records import Exclude, Rows, distinct, parallel, reference_of, rows_of
from isogloss.versions import EXTRACTION_VERSION

TEMPLATE = "{context}\nQ: {question}\nA:"

Records = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Evaluation:
    """What a model gave; each an `xarray.Dataset` with languages by tag and items by id.

    Attributes:
        scores: log-likelihood of every choice (language, item, choice) [nat].
        states: residual stream, mean over the prompt without its first token, and at its last
            token (language, item, layer, feature).
        behaviour: accuracy, consistency, transfer.
        lens: latent log-probabilities by layer (language, item, latent, choice, layer) [nat].
        trajectories: the lens over layers, summed up.
        similarity: same place, same shape, dissociation; None for one language, or fewer than five
            clusters of items.
    """

    scores: xr.Dataset
    states: xr.Dataset
    behaviour: xr.Dataset
    lens: xr.Dataset
    trajectories: xr.Dataset
    similarity: xr.Dataset | None

    def __repr__(self) -> str:
        languages = " ".join(map(str, self.scores.language.values))
        sizes = self.states.sizes
        size = f"{sizes['layer']} layers of {sizes['feature']}"
        return f"<Evaluation: {sizes['item']} items in {languages}; {size}>"


def evaluate(
    model: Any,
    tokenizer: Any,
    questions: "str | PathLike[str] | Records | ParallelItems",
    languages: Sequence[str] | None = None,
    pivot: str = "en",
    template: str = TEMPLATE,
    control: Sequence[str] = (),
    score: str = "token",
    lens_layers: int | str = "all",
    permutations: int = 199,
    batch_tokens: int = 2048,
) -> Evaluation:
    """Scores, states, lens and similarity of a causal language model on parallel questions.

    Args:
        model: an `AutoModelForCausalLM` on any device, in any type.
        tokenizer: its own.
        questions: a folder of <language>.jsonl; or records by language, as the lines of such a
            file (`item_id`, `question`, `choices`, `answer`); or parallel items.
        languages: tags; None: all that the questions have (needed for a folder).
        pivot: the language that others are compared with.
        template: of the prompt, with {context} and {question}.
        control: candidates for the lens's third latent language; empty: any.
        score: what ranks the choices: "token", "sum", "char" or "byte".
        lens_layers: "all", or how many, evenly spread.
        permutations: behind the test of dissociation.
        batch_tokens: tokens of a batch, padding counted.

    Raises:
        InputError: questions that are not parallel or that the model cannot take, or a model whose
            parts are not found.
    """
    from isogloss.model.adapt import adapt
    from isogloss.model.logit_lens import lens_of_file

    items = _items(questions, languages)
    tags = list(items.languages)
    if pivot not in tags:
        raise InputError(f"pivot: {pivot} is not among the languages {' '.join(tags)}: add it")
    with _given_back(model), TemporaryDirectory(prefix="isogloss-") as folder:
        decoder = adapt(model, tokenizer, "model")
        identities = {
            tag: _identity(decoder, items, tag, pivot, template, control or tags, lens_layers)
            for tag in tags
        }
        files = _extracted(decoder, items, identities, Path(folder), batch_tokens)
        paths = list(files.values())
        scores = open_scores(paths)
        spelling = spellings(items, tags)[..., : scores.sizes["choice"]]
        scores = scores.assign(spelling=(("language", "item", "choice"), spelling))
        lenses = {tag: lens_of_file(path, decoder.readout).load() for tag, path in files.items()}
        return Evaluation(
            scores=scores,
            states=_states(files),
            behaviour=behaviour(scores, score),
            lens=xr.concat(lenses.values(), xr.Variable("language", tags), join="outer"),
            trajectories=trajectories(lenses, "sum" if score == "sum" else "token"),
            similarity=similarity(open_states(paths), pivot, permutations, min(permutations, 199))
            if len(tags) > 1 and len(np.unique(items.clusters)) >= MIN_CLUSTERS
            else None,
        )


@contextmanager
def _given_back(model: Any) -> Iterator[None]:
    """Leave a user's model as it was: its products, what it trains, and its modes."""
    from isogloss.model.matrix_products import as_before

    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        as_before(model)
        for parameter, requires_grad in trained:
            parameter.requires_grad_(requires_grad)
        for module, training in modes:
            module.training = training


def _items(questions: Any, languages: Sequence[str] | None) -> ParallelItems:
    """The questions as parallel items."""
    if isinstance(questions, ParallelItems):
        return questions
    if not isinstance(questions, Mapping):
        if languages is None:
            raise InputError(f"{questions}: a folder: say which languages")
        return load_files(Path(questions), languages, "questions")
    wanted = distinct(languages or questions)
    rows: dict[str, Rows] = {}
    by_tag = {distinct([given])[0]: records for given, records in questions.items()}
    if missing := [tag for tag in wanted if tag not in by_tag]:
        raise InputError(f"questions: none in {missing[0]}: there are {', '.join(by_tag)}")
    for tag in dict.fromkeys((reference_of(by_tag), *wanted)):
        places = [f"questions[{tag!r}][{n}]" for n in range(len(by_tag[tag]))]
        rows[tag] = rows_of(zip(places, by_tag[tag], strict=True), tag)
    return parallel(rows, wanted, "questions", "", Exclude())


def _identity(
    decoder: Any,
    items: ParallelItems,
    tag: str,
    pivot: str,
    template: str,
    control: Sequence[str],
    lens_layers: int | str,
) -> dict[str, Any]:
    """What an activation file of this language is, as far as files are compared."""
    known = [tag for tag in control if tag in items.items]
    return {
        "model": decoder.slug,
        "dtype": str(decoder.dtype).removeprefix("torch."),
        "dataset": items.name,
        "language": tag,
        "pivot": pivot,
        "control": control_language(tag, pivot, known),
        "lens_layers": lens_layers,
        "prompt": {"mode": "raw", "template": template, "shots": 0, "truncate": False},
        "scores": {"pmi": False, "letters": False},
        "extraction_version": EXTRACTION_VERSION,
    }


def _extracted(
    decoder: Any,
    items: ParallelItems,
    identities: Mapping[str, Mapping[str, Any]],
    folder: Path,
    batch_tokens: int,
) -> dict[str, Path]:
    """The activation file of each language, in a folder that goes."""
    from isogloss.extraction.extract import extract_languages, language_extraction

    files = {tag: folder / f"{key_of(about)}.h5" for tag, about in identities.items()}
    extractions = {
        tag: language_extraction(decoder, items, identities[tag], path)
        for tag, path in files.items()
    }
    extract_languages(decoder, extractions, batch_tokens, {}, lambda tag: None, lambda: decoder)
    return files


def _states(files: Mapping[str, Path]) -> xr.Dataset:
    """Pooled states of all languages."""
    parts = []
    for tag, path in files.items():
        whole = open_activations(path)
        part = whole[["prompt_mean", "prompt_last"]].load()
        part = part.assign_coords(item=np.asarray(whole.item_id)).drop_vars("item_id")
        parts.append(part.expand_dims(language=[tag]))
    return xr.concat(parts, "language", join="exact", combine_attrs="drop_conflicts")
