"""A check of a study before the hours: what would end it, what it cannot show, what it costs.

It looks at what is here (configuration, questions, models and tokenizers, the disk, the shared
place) and runs no model. What has to be fetched first is named and not looked at.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtri

from isogloss.cost.requests import Requests
from isogloss.errors import InputError, one_line
from isogloss.measures.lens import lens_layers
from isogloss.measures.statistics import Flips, minimum_detectable_effect
from isogloss.measures.verdicts import detectable_correlation
from isogloss.model.sources import (
    ModelSource,
    cache_folder,
    check_usable,
    folder_here,
    local_folder,
)
from isogloss.questions.items import ParallelItems, repeated_questions
from isogloss.questions.prompts import Tokens, control_language, prompt_clusters, questions
from isogloss.store.names import size_text
from isogloss.store.places import place_of
from isogloss.study.local_questions import check_pairs_apart, checked_questions
from isogloss.study.schema import Config
from isogloss.study.settings import dump, model_spec, prompt_style

FLIPS = 0.1
"""Answers that change under steering, as a share: what the detectable effect is worked out for."""


@dataclass
class Findings:
    """What a check found, each a line.

    Attributes:
        faults: what would end the run, or make it wrong.
        warnings: what would not, but is seldom meant.
        facts: what is known of the study: what it can detect.
        to_fetch: datasets and models that are not here, and so not looked at.
        items, tokens: questions and tokenizers that were read, for who needs them next.
    """

    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    to_fetch: list[str] = field(default_factory=list)
    items: dict[str, ParallelItems] = field(default_factory=dict)
    tokens: dict[str, Tokens] = field(default_factory=dict)

    def attempt(self, check: Callable[[], Any]) -> Any:
        """What `check` returns; None, and its fault noted, where it refuses."""
        try:
            return check()
        except InputError as error:
            if str(error) not in self.faults:
                self.faults.append(str(error))
            return None


def check_study(study: Config) -> Findings:
    """Everything that can be known of a study before any model runs."""
    findings = Findings()
    findings.warnings += control_warnings(study)
    for name in study.datasets:
        _read_items(study, name, findings)
    findings.attempt(lambda: check_pairs_apart(study))
    for slug in study.models:
        _check_model(study, slug, findings)
    for name, of_dataset in findings.items.items():
        findings.facts += detectable_effects(study, name, of_dataset)
    findings.facts += sizes(study)
    findings.attempt(lambda: _check_place(study))
    return findings


LANGUAGES_PLANNED = 40
"""A dry-run leaves datasets of more languages to `configure.py --check`: reading takes too long."""


def quick_check(study: Config) -> Findings:
    """The faults of questions and models' folders that are seen in a second, for a dry-run.

    To load tokenizers and to work out a cost, PyTorch and transformers have to be imported. A
    shared place that cannot be reached is named by every plan, which goes on without it.
    """
    findings = Findings()
    for name in study.datasets:
        if len(study.languages_of(name)) <= LANGUAGES_PLANNED:
            _read_items(study, name, findings)
    for slug in study.models:
        findings.attempt(partial(_model_folder, study, slug))
    return findings


def faults_before_extraction(requests: Requests) -> list[str]:
    """Those that `quick_check` finds, where a run has something to extract."""
    study, artifacts = requests.study, requests.artifacts
    lists = [name for name, (stage, _) in requests.manifests.items() if stage == "activations"]
    if all(Path(study.store, name).exists() for name in lists):
        return []
    os.environ.update(HF_DATASETS_OFFLINE="1")  # questions are looked up, never fetched
    findings = quick_check(study)
    if not findings.faults and requests.shared:  # the plan asks for digests of the same questions
        for name, items in findings.items.items():
            artifacts.know(name, items)
    return findings.faults


# Questions


def _read_items(study: Config, name: str, findings: Findings) -> None:
    """Read the questions of a dataset that lie here, and check them."""
    before = len(findings.faults)
    items = findings.attempt(lambda: checked_questions(study, name))
    if items is None:
        if len(findings.faults) == before:
            findings.to_fetch.append(f"questions of {name}")
        return
    findings.items[name] = items
    findings.warnings += repeated_questions(items)
    most = study.datasets[name].max_items
    # A draw of whole clusters ends below `max_items` by less than one of them.
    largest = int(np.bincount(items.clusters).max())
    if most is not None and study.limit is None and most >= len(items.item_ids) + largest:
        findings.warnings.append(
            f"datasets.{name}.max_items: {most}, there are {len(items.item_ids)}: all are taken"
        )


def control_warnings(study: Config) -> Iterator[str]:
    """Languages that the lens compares with no third one, and controls that no dataset has."""
    if not study.with_lens:
        return
    for name in study.questions:
        tags = study.languages_of(name)
        known = [tag for tag in study.extraction.control if tag in tags]
        alone = [tag for tag in tags if control_language(tag, study.pivot, known) is None]
        if alone:
            yield (
                f"extraction.control: {', '.join(alone)} of {name} have no control language in the"
                f" lens: name two of {', '.join(tag for tag in tags if tag != study.pivot)}"
            )
    all_tags = {tag for name in study.questions for tag in study.languages_of(name)}
    if "control" in study.extraction.model_fields_set:
        for tag in study.extraction.control:
            if tag not in all_tags:
                yield f"extraction.control: no dataset has {tag}: it is left out"


# Models


def _model_folder(study: Config, slug: str) -> Path | None:
    """The folder of a model that is here, if it is whole; None where it has to be fetched.

    None too for a local folder that is not here but known by its digest: who only analyses what
    others have computed needs no weights.
    """
    source = _source(study, slug)
    if source.source == "path":
        assert source.path is not None
        if source.sha256 and not os.path.lexists(source.path):
            return None
        return check_usable(local_folder(source), source)
    folder = folder_here(source, cache_folder(study.cache))
    return folder and check_usable(folder, source)


def _source(study: Config, slug: str) -> ModelSource:
    return ModelSource.from_spec(slug, model_spec(study, slug))


def _check_model(study: Config, slug: str, findings: Findings) -> None:
    """A model's folder, and every prompt and phrase in its tokenizer."""
    from isogloss.model.load import tokens_here  # PyTorch

    before = len(findings.faults)
    folder = findings.attempt(lambda: _model_folder(study, slug))
    if folder is None:
        if (path := study.models[slug].path) and len(findings.faults) == before:
            findings.warnings.append(
                f"models.{slug}.path: {path} is not here: only what the store and the shared place"
                " have can be used, nothing of this model can be computed"
            )
        elif len(findings.faults) == before:
            findings.to_fetch.append(f"the model {slug}")
        return
    tokens = findings.attempt(lambda: tokens_here(_source(study, slug), cache_folder(study.cache)))
    config = findings.attempt(lambda: _configuration(folder, study, slug))
    if tokens is None or config is None:
        return
    findings.tokens[slug] = tokens
    wanted, layers = study.extraction.lens_layers, config.num_hidden_layers
    if isinstance(wanted, int) and wanted > len(lens_layers(layers, "all")):
        findings.warnings.append(
            f"extraction.lens_layers: {wanted}, {slug} has {layers + 1}, the embedding among them:"
            " all are kept"
        )
    for name in findings.items:
        findings.attempt(partial(_tokenise, study, slug, name, findings, config))


def _configuration(folder: Path, study: Config, slug: str) -> Any:
    from isogloss.model.load import read_config

    try:
        return read_config(_source(study, slug), folder).get_text_config()
    except Exception as error:  # of many kinds, by what the file says
        raise InputError(
            f"models.{slug}: {folder}: config.json is not usable ({one_line(error)}): fetch the"
            " model again"
        ) from error


def _tokenise(study: Config, slug: str, name: str, findings: Findings, config: Any) -> None:
    """Make every question as extraction does.

    Raises:
        InputError: the first that this model cannot take.
    """
    from isogloss.model.adapt import context_length

    items, tokens, tags = findings.items[name], findings.tokens[slug], study.languages_of(name)
    known = [tag for tag in study.extraction.control if tag in tags]
    style = prompt_style(dump(study.prompt_of(name)))
    try:
        for tag in tags:
            questions(
                items,
                tag,
                tokens,
                style,
                pivot=study.pivot,
                control=control_language(tag, study.pivot, known),
                pmi=study.extraction.pmi,
                letters=study.extraction.letters,
                context_length=context_length(config),
                vocabulary=config.vocab_size,
            )
    except InputError as error:
        raise InputError(f"datasets.{name} with {slug}: {error}") from error


# What the study can show


def detectable_effects(study: Config, name: str, items: ParallelItems) -> Iterator[str]:
    """The smallest effects that tests on a dataset detect with 80% power, as the run will say them.

    Source: `minimum_detectable_effect`, where a share `FLIPS` of the answers changes in each
    steered language, at the study's level over these languages together; correlations over pairs
    of languages as if pairs were independent, which they are not.
    """
    if name not in study.questions:
        return
    clusters = prompt_clusters(items, prompt_style(dump(study.prompt_of(name))))
    tags = study.languages_of(name)
    pairs = len(tags) * (len(tags) - 1) // 2
    line = f"{name}: {len(items.item_ids)} questions in {len(np.unique(clusters))} clusters"
    level = 1 - study.statistics.confidence
    if study.steering and name in study.steering.evaluate_on:
        changes = np.zeros(len(items.item_ids))
        changes[:: round(1 / FLIPS)] = 1.0
        changes[:: 2 * round(1 / FLIPS)] = -1.0
        alpha = level / len(study.steering.languages)
        least = minimum_detectable_effect(changes, clusters, alpha, flips=Flips.of(changes))
        line += (
            f"; a change of accuracy under steering is detected from {100 * least:.0f} points on in"
            f" one language, if {FLIPS:.0%} of the answers change"
        )
    if pairs > 3:
        half = np.tanh(ndtri(0.975) / np.sqrt(pairs - 3))
        least = detectable_correlation(-half, half, 0.95, level)
        line += f"; a correlation over its {pairs} pairs of languages from {least:.2f} on, at best"
    yield line


def sizes(study: Config) -> Iterator[str]:
    """Whether claims about size can be decided at all."""
    families: dict[str, set[int]] = {}
    for model in study.models.values():
        families.setdefault(model.family, set()).add(model.parameters)
    if all(len(sizes) < 3 for sizes in families.values()):
        yield "no family has three sizes: the paper's claims about size will stay undecided"


# The machine


def _check_place(study: Config) -> None:
    """See if the shared place can be reached and, where this study publishes, written to."""
    place = place_of(study)
    if place is None:
        return
    if study.sharing.publish:
        place.check_writable()
    else:
        place.names()


def check_disk(store: Path, needed: float) -> None:
    """Refuse a study whose artifacts do not fit on the disk of its store.

    Raises:
        InputError: names the folder, what is needed and what is free.
    """
    here = next(p for p in [store.absolute(), *store.absolute().parents] if p.exists())
    free = shutil.disk_usage(here).free
    if needed > free:
        raise InputError(
            f"store: {store} needs {size_text(round(needed))}, {size_text(free)} are free: keep it"
            " on another disk, or fewer layers (extraction.lens_layers)"
        )
