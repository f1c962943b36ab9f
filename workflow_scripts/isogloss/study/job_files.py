"""Files that jobs read, by what their wildcards name: the inputs of the rules."""

import itertools
import os
from pathlib import Path

from isogloss.errors import InputError
from isogloss.files.atomic import read_object
from isogloss.questions.datasets import dataset_files, is_local
from isogloss.study.keys import Artifacts
from isogloss.study.settings import dump, manifest_name


class JobFiles:
    """Paths of what the jobs of one study read."""

    def __init__(self, artifacts: Artifacts) -> None:
        self.artifacts, self.study = artifacts, artifacts.study

    def questions(self, dataset: str) -> list[str]:
        """The files of a dataset that lie here.

        Raises:
            InputError: a language has none.
        """
        languages = self.study.languages_of(dataset)
        try:
            return list(map(str, dataset_files(dump(self.study.datasets[dataset]), languages)))
        except InputError as error:
            raise InputError(f"datasets.{dataset}: {error}") from error

    def check_times(self) -> None:
        """Refuse edited questions whose files look older than what was made of them.

        Snakemake goes by the time of modification, which `mv`, `cp -p` and `rsync -t` keep. Where
        the time of change is a later one, the questions are compared: all of a study that was
        copied are the same.
        """
        for model, dataset in itertools.product(self.study.models, self.study.datasets):
            listed = Path(self.manifest("activations", model, dataset))
            old = self._put_here_since(listed, dataset) if listed.exists() else []
            if old and self._are_others(model, dataset, listed):
                raise InputError(
                    f"datasets.{dataset}: {old[0]}: questions have changed, in files that look"
                    f" older than what was made of them: `touch {Path(old[0]).parent}/*`, and run"
                    " again"
                )

    def _put_here_since(self, listed: Path, dataset: str) -> list[str]:
        """The files of a dataset that were put here after a list was made, and look older."""
        try:
            if not is_local(dump(self.study.datasets[dataset]), self.study.languages_of(dataset)):
                return []
            files = {file: os.stat(file) for file in self.questions(dataset)}
        except InputError:
            return []  # the rules that need them say so
        made = listed.stat().st_mtime
        if any(at.st_mtime > made for at in files.values()):
            return []  # Snakemake compares what these hold, and extracts all of the dataset
        return [file for file, at in files.items() if at.st_ctime > made]

    def _are_others(self, model: str, dataset: str, listed: Path) -> bool:
        """Whether a list of activation files is of other questions than those that are here."""
        keys = {artifact.key for artifact in self.artifacts.activations(model, dataset)}
        return keys != {Path(a["path"]).stem for a in read_object(listed).get("artifacts", ())}

    def checkpoint(self, model: str) -> list[str]:
        """The checkpoint of a model that is trained here; none of another."""
        trained = self.study.models[model].organism
        return [f"{self.study.store}/{self.artifacts.organism(model).name}"] if trained else []

    def manifest(self, stage: str, *about: str | None) -> str:
        """The list of a stage's artifacts of a model on datasets; settings change its name."""
        settings = getattr(self.artifacts.settings, stage)(*about)
        return f"{self.study.store}/{manifest_name(stage, settings)}"

    def parts(self, model: str, dataset: str, key: str) -> list[str]:
        """The lists of the jobs that share an extraction; none where one job does all."""
        whole = f"{self.study.store}/manifests/{model}/{dataset}/activations-{key}"
        return [f"{whole}.{part}.json" for part in self.study.extraction_parts(dataset)]

    def wordings(self, model: str, dataset: str) -> list[str]:
        """The lists of a dataset's activation files, the main wording's first."""
        variants = (None, *self.study.variants_of(dataset))
        return [self.manifest("activations", model, dataset, variant) for variant in variants]

    def lens(self, model: str, dataset: str) -> list[str]:
        """The list of the lens files that figures show; none where the study has no lens there."""
        with_lens = "lenses" in self.study.results_of(dataset)
        return [self.manifest("lens", model, dataset)] if with_lens else []

    def results(self, model: str, dataset: str) -> list[str]:
        """The results of a model on a dataset that figures show."""
        files = self.study.result_files(dataset)
        return [f"{self.study.results}/{model}/{dataset}/{file}" for file in files]

    def of_organisms(self, result: str) -> list[str]:
        """A result of every organism of a calibration."""
        folders = (f"{model}/{self.study.asked_of_the_world}" for model in self.study.planted)
        return [f"{self.study.results}/{folder}/{result}.nc" for folder in folders]
