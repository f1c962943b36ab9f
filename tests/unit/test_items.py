from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isogloss.errors import InputError
from isogloss.questions.items import (
    Item,
    ParallelItems,
    check_apart,
    check_disjoint,
    find_clusters,
    folds,
    identical_to,
    normalise,
    repeated_questions,
    split,
)
from isogloss.questions.local_files import load_files
from isogloss.study.local_questions import check_pairs_apart
from isogloss.study.schema import validate

CLUSTERS = st.lists(st.integers(0, 12), min_size=12, max_size=80).map(
    lambda extra: np.array([*range(10), *extra])
)


def question(item_id: str, *choices: str, answer: int = 0, context: str = "") -> Item:
    return Item(item_id, context, f"What is {item_id}?", choices, answer)


def made(**items: list[Item]) -> ParallelItems:
    n = len(next(iter(items.values())))
    return ParallelItems("made", {k: tuple(v) for k, v in items.items()}, np.arange(n))


ENGLISH = [question("a", "water", "salt", "gold"), question("b", "yes", "no", answer=1)]
GERMAN = [question("a", "Wasser", "Salz", "Gold"), question("b", "ja", "no", answer=1)]


def test_parallel_items_say_what_they_hold() -> None:
    items = made(en=ENGLISH, de=GERMAN)
    assert items.languages == ("en", "de")
    assert items.item_ids == ("a", "b")
    assert items.n_choices.tolist() == [3, 2]
    assert items.answers.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("german", "message"),
    [
        (GERMAN[:1], r'item "b" \(de\): missing in de'),
        ([*GERMAN, question("c", "x", "y")], r'item "c" \(en\): missing in en'),
        (GERMAN[::-1], r'item "b" \(de\): en has "a" here'),
        ([GERMAN[0], GERMAN[0]], r'item "a" \(de\): the id is there twice'),
        ([replace(GERMAN[0], answer=2), GERMAN[1]], r"the answer is 2, in en it is 0"),
        ([replace(GERMAN[0], answer=3), GERMAN[1]], r"the answer is 3, the choices are 0 to 2"),
        ([replace(GERMAN[0], answer=-1), GERMAN[1]], r"the answer is -1, the choices are 0 to 2"),
        ([replace(GERMAN[0], choices=("x", "y")), GERMAN[1]], r"has 2 choices, en has 3"),
        ([replace(GERMAN[0], choices=("x",)), GERMAN[1]], r"has 1 choices: give at least 2"),
        ([replace(GERMAN[0], choices=("x", "", "z")), GERMAN[1]], r"choice 1 is empty"),
        ([replace(GERMAN[0], choices=("x", "x", "z")), GERMAN[1]], r'"x" is there twice'),
        ([replace(GERMAN[0], question=""), GERMAN[1]], r"context and question are both empty"),
        ([replace(GERMAN[0], item_id=""), GERMAN[1]], r"the id is empty"),
    ],
)
def test_items_that_are_not_parallel_are_refused(german: list[Item], message: str) -> None:
    with pytest.raises(InputError, match=message):
        made(en=ENGLISH, de=german)


def test_no_items_are_refused() -> None:
    with pytest.raises(InputError, match="there are none"):
        ParallelItems("made", {"en": ()}, np.arange(0))


def test_every_item_has_a_cluster() -> None:
    with pytest.raises(ValueError, match="2 items"):
        ParallelItems("made", {"en": tuple(ENGLISH)}, np.arange(3))


def test_digest_changes_with_the_text_the_answer_and_the_clusters_only() -> None:
    items = made(en=ENGLISH)
    same = ParallelItems(
        "other name", {"en": (replace(ENGLISH[0], category="c"), ENGLISH[1])}, np.arange(2), "CC0"
    )
    assert items.digest("en") == same.digest("en")
    others = [
        made(en=[replace(ENGLISH[0], context="Once."), ENGLISH[1]]),
        made(en=[replace(ENGLISH[0], answer=1), ENGLISH[1]]),
        made(en=[replace(ENGLISH[0], choices=("water", "salt", "Gold")), ENGLISH[1]]),
        ParallelItems("made", {"en": tuple(ENGLISH)}, np.zeros(2, dtype=int)),
    ]
    assert len({items.digest("en"), *(other.digest("en") for other in others)}) == 5


@given(st.text(max_size=40))
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert "\ufeff" not in once


def test_clusters_are_connected_components_of_contexts_and_mutual_golds() -> None:
    items = [
        question("0", "red", "blue", context="One."),
        question("1", "up", "down", context="One."),
        question("2", "down", "up"),  # golds of 1 and 2 are in each other's choices
        question("3", "left", "up"),  # holds the gold of 1, but 1 does not hold its gold
        question("4", "Left", "right", "Up"),  # the same gold as 3, whatever the case
        question("5", "north", "south"),
    ]
    assert find_clusters(items).tolist() == [0, 0, 0, 1, 1, 2]


@given(st.lists(st.tuples(st.permutations("abcdef"), st.integers(2, 4)), max_size=9))
def test_clusters_join_whatever_has_each_others_gold_answers(drawn: list) -> None:
    """As every pair of items says, taken one by one."""
    items = [question(str(n), *letters[:size]) for n, (letters, size) in enumerate(drawn)]
    expected = list(range(len(items)))
    for _ in items:
        for one, first in enumerate(items):
            for two, second in enumerate(items):
                if first.choices[0] in second.choices and second.choices[0] in first.choices:
                    expected[one] = expected[two] = min(expected[one], expected[two])
    found = find_clusters(items).tolist()
    assert found == [sorted(set(expected)).index(label) for label in expected]


def test_thousands_of_yes_or_no_questions_are_one_cluster() -> None:
    """Their pairs would be 200 million."""
    asked = [question(str(n), "yes", "no", answer=n % 2) for n in range(20_000)]
    assert not find_clusters(asked).any()


def test_a_named_cluster_wins_over_what_items_share() -> None:
    items = [
        replace(question("0", "x", "y", context="One."), cluster="p"),
        replace(question("1", "x", "y", context="One."), cluster="q"),
        replace(question("2", "a", "b"), cluster="p"),
        question("3", "x", "y", context="One."),
    ]
    assert find_clusters(items).tolist() == [0, 1, 0, 2]


def test_a_sentence_said_twice_is_one_cluster() -> None:
    said = ["Wash your hands.", "Stay at home.", "wash your hands."]
    items = [Item(str(i), "", text, (), -1) for i, text in enumerate(said)]
    assert find_clusters(items).tolist() == [0, 1, 0]


@given(CLUSTERS, st.integers(2, 10), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_folds_keep_clusters_whole_and_use_every_fold(
    clusters: np.ndarray, n_folds: int, seed: int
) -> None:
    fold = folds(clusters, n_folds, seed)
    assert sorted(set(fold)) == list(range(n_folds))
    assert all(len(set(fold[clusters == label])) == 1 for label in set(clusters))
    assert np.array_equal(fold, folds(clusters, n_folds, seed))
    sizes = np.bincount(fold)
    assert sizes.max() - sizes.min() <= np.bincount(clusters).max()


def test_folds_depend_on_the_seed_and_not_on_labels() -> None:
    clusters = np.arange(40)
    assert not np.array_equal(folds(clusters, 5, 0), folds(clusters, 5, 1))
    assert np.array_equal(folds(clusters, 5, 0), folds(clusters + 100, 5, 0))


def test_more_folds_than_clusters_are_refused() -> None:
    with pytest.raises(InputError, match="5 folds of 3 clusters"):
        folds(np.array([0, 0, 1, 1, 2, 2]), 5)
    with pytest.raises(InputError, match="1 folds"):
        folds(np.arange(5), 1)


@given(CLUSTERS, st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_split_keeps_clusters_whole_and_fills_every_role(clusters: np.ndarray, seed: int) -> None:
    roles = split(clusters, {"fit": 0.9, "select": 0.05, "test": 0.05}, seed)
    assert set(roles) == {"fit", "select", "test"}
    assert all(len(set(roles[clusters == label])) == 1 for label in set(clusters))


def test_split_sizes_are_shares_of_items() -> None:
    roles = split(np.arange(100), {"fit": 3, "select": 1, "test": 1})
    assert [int((roles == role).sum()) for role in ("fit", "select", "test")] == [60, 20, 20]


@pytest.mark.parametrize("sizes", [{}, {"fit": 1.0, "test": 0.0}, dict.fromkeys("abcd", 1.0)])
def test_impossible_splits_are_refused(sizes: dict[str, float]) -> None:
    with pytest.raises(InputError, match="split"):
        split(np.arange(3), sizes)


def test_an_item_or_a_cluster_on_both_sides_is_an_error() -> None:
    clusters = np.array([0, 0, 1, 2])
    check_disjoint([0, 1], [2, 3], clusters)
    with pytest.raises(ValueError, match=r"items fitted on and evaluated: \[1\]"):
        check_disjoint([0, 1], [1, 2], clusters)
    with pytest.raises(ValueError, match=r"clusters fitted on and evaluated: \[0\]"):
        check_disjoint([0, 2], [1, 3], clusters)


def test_folds_are_disjoint_with_their_clusters() -> None:
    clusters = np.repeat(np.arange(12), 3)
    fold = folds(clusters)
    for k in range(5):
        check_disjoint(np.flatnonzero(fold != k), np.flatnonzero(fold == k), clusters)


def test_identity_ignores_case_and_pads_with_false() -> None:
    same = identical_to(made(en=ENGLISH, de=GERMAN), "de", "en")
    assert same.tolist() == [[False, False, True], [False, True, False]]
    assert identical_to(made(en=ENGLISH), "en", "en").sum() == 5


def test_a_sample_keeps_whole_clusters_in_every_language_and_in_order():
    questions = tuple(
        Item(f"q{i}", "", f"Q{i}?", ("a", "b"), 0, cluster=str(i // 3)) for i in range(12)
    )
    data = ParallelItems("d", {"en": questions, "de": questions}, find_clusters(questions))
    drawn = data.sample(7, seed=1)
    assert len(drawn.item_ids) == 6 and drawn.items["en"] == drawn.items["de"]
    assert [i for i in data.item_ids if i in drawn.item_ids] == list(drawn.item_ids)
    for cluster in np.unique(data.clusters):
        members = {data.item_ids[i] for i in np.flatnonzero(data.clusters == cluster)}
        assert len(members & set(drawn.item_ids)) in (0, len(members))
    assert drawn.item_ids == data.sample(7, seed=1).item_ids
    assert data.sample(100).item_ids == data.item_ids


def renamed(items: ParallelItems, name: str, rows: list[int]) -> ParallelItems:
    """Some items of a dataset as somebody else might keep them."""
    kept = {
        tag: tuple(
            replace(
                questions[i],
                item_id=f"{name}-{i}",
                question=questions[i].question.upper(),
                choices=questions[i].choices[::-1],
                answer=len(questions[i].choices) - 1 - questions[i].answer,
            )
            for i in rows
        )
        for tag, questions in items.items.items()
    }
    return ParallelItems(name, kept, np.arange(len(rows)))


def test_questions_are_known_again_under_another_name_id_case_and_order_of_choices():
    everyday = load_files(Path("data/everyday"), ["en", "de"], "everyday")
    first, second = (everyday.sample(60, seed) for seed in (0, 1))
    other = renamed(everyday, "mine", [0, 5, 9])
    with pytest.raises(InputError, match=r"mine: 3 of 3 questions \(100%\) are also in everyday"):
        check_apart(everyday, other)
    with pytest.raises(InputError, match='the first is "'):
        check_apart(first, second)


def test_other_questions_are_apart_even_with_the_same_ids_and_wording():
    everyday = load_files(Path("data/everyday"), ["en"], "everyday")
    changed = {
        "en": tuple(replace(i, choices=(*i.choices[:-1], "none")) for i in everyday.items["en"])
    }
    check_apart(everyday, ParallelItems("other", changed, everyday.clusters))


def test_a_path_under_two_names_is_refused_before_anything_runs():
    everyday = {"source": "jsonl", "path": "data/everyday"}
    study = {
        "datasets": {"everyday": everyday, "again": everyday},
        "steering": {"fit_on": ["everyday"], "evaluate_on": ["everyday", "again"]},
    }
    with pytest.raises(InputError, match=r"again: 120 of 120 questions .* also in everyday"):
        check_pairs_apart(validate(study, "study.yaml"))
    study["steering"]["evaluate_on"] = ["everyday"]
    check_pairs_apart(validate(study, "study.yaml"))


def test_a_question_that_a_language_repeats_is_named():
    def rows(questions):
        return tuple(
            Item(str(i), "", text, (f"a{i}", f"b{i}"), 0) for i, text in enumerate(questions)
        )

    english = rows([f"Which {i}?" for i in range(18)])
    german = rows(["Welche?"] * 16 + ["Wer?", "Was?"])
    items = ParallelItems("quiz", {"en": english, "de": german}, np.arange(18))
    assert repeated_questions(items) == [
        'quiz (de): 3 different questions, another language has 18; 16 times "Welche?": check the'
        " translation"
    ]
    causes = rows(["cause", "effect"] * 9)
    alike = ParallelItems("xcopa", {"en": causes, "de": causes}, np.arange(18))
    assert repeated_questions(alike) == []
