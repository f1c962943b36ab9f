"""What can be known of a study's questions before anything runs: of those that lie here."""

from isogloss.program import say
from isogloss.questions.datasets import is_local, load_dataset
from isogloss.questions.items import check_apart, check_enough, repeated_questions
from isogloss.study.schema import Config
from isogloss.study.settings import dataset_spec, dump


def check_questions(study: Config) -> list[str]:
    """Read the questions that lie here or are made here, and see if they are enough for the folds.

    Returns:
        The datasets that could not be read: they are fetched when the study runs.

    Raises:
        InputError: a file is missing or wrong, a fold would be too small to fit or test, or
            steering would evaluate on questions that its vectors are fitted on.
    """
    unread = []
    for name, dataset in study.datasets.items():
        languages = study.languages_of(name)
        if not dataset.is_made_here and not is_local(dump(dataset), languages):
            unread.append(name)
            continue
        items = load_dataset(dataset_spec(study, name), languages, name)
        for line in repeated_questions(items):
            say(f"warning: {line}")
        check_enough(items.clusters, study.statistics.folds, name)
    check_pairs_apart(study)
    return unread


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
