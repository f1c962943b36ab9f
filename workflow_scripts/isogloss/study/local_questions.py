"""What can be known of a study's questions before anything runs: of those that lie here."""

from isogloss.program import say
from isogloss.questions.datasets import is_local, load_dataset
from isogloss.questions.items import check_apart, check_enough, repeated_questions
from isogloss.study.schema import Config
from isogloss.study.settings import dump


def check_questions(study: Config) -> None:
    """Read the questions that lie here, and see whether they are enough for the folds.

    Raises:
        InputError: a file is missing or wrong, a fold would be too small to fit or test, or
            steering would evaluate on questions that its vectors are fitted on.
    """
    for name, dataset in study.datasets.items():
        languages = study.languages_of(name)
        if is_local(dump(dataset), languages):
            items = load_dataset(dump(dataset), languages, name)
            for line in repeated_questions(items):
                say(f"warning: {line}")
            check_enough(items.clusters, study.statistics.folds, name)
    check_pairs_apart(study)


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
