"""What can be known of a study's questions before anything runs: of those that lie here."""

from isogloss.errors import InputError
from isogloss.questions.datasets import is_local, load_dataset
from isogloss.questions.items import ParallelItems, check_apart, check_enough
from isogloss.questions.prompts import LETTERS, prompt_clusters
from isogloss.study.schema import Config
from isogloss.study.settings import dataset_spec, dump, prompt_style


def checked_questions(study: Config, name: str) -> ParallelItems | None:
    """The questions of a dataset that lie here or are made here, if extraction can use them.

    Returns:
        None where they are fetched when the study runs.

    Raises:
        InputError: a file is missing or wrong, a fold would be too small to fit or test, or a
            question has more choices than there are letters.
    """
    dataset, languages = study.datasets[name], study.languages_of(name)
    if not dataset.is_made_here and not is_local(dump(dataset), languages):
        return None
    items = load_dataset(dataset_spec(study, name), languages, name)
    style = prompt_style(dump(study.prompt_of(name)))
    check_enough(prompt_clusters(items, style), study.statistics.folds, name)
    most = int(items.n_choices.max())
    if study.extraction.letters and most > len(LETTERS):
        raise InputError(
            f"datasets.{name}: {most} choices, letters end at {LETTERS[-1]}: set"
            " extraction.letters: false, or leave these items out (exclude)"
        )
    return items


def check_pairs_apart(study: Config) -> None:
    """Refuse steering on questions that its vectors are fitted on under another dataset's name.

    Only the pivot's questions are read, and only where both datasets lie here: `steer` compares
    all languages, and the others.
    """
    for fitted, evaluated in study.steered_pairs:
        both = [(name, study.datasets[name]) for name in (fitted, evaluated)]
        here = all(is_local(dump(dataset), [study.pivot]) for _, dataset in both)
        if fitted != evaluated and here:
            check_apart(*(load_dataset(dump(d), [study.pivot], name) for name, d in both))
