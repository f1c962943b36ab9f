"""Parallel items: what a question is, and which questions must stay together."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from isogloss.errors import InputError
from isogloss.files.canonical import key_of


@dataclass(frozen=True)
class Item:
    """One question in one language; a sentence has no choices and the answer -1."""

    item_id: str
    context: str
    question: str
    choices: tuple[str, ...]
    answer: int
    category: str | None = None
    cluster: str | None = None


@dataclass(frozen=True, eq=False)
class ParallelItems:
    """The same items in several languages.

    Attributes:
        name: of the dataset.
        items: by canonical language tag; the same ids in the same order in each.
        clusters: (item,) int, items of one cluster are never divided between fit and test.
        licence: of the dataset.
        normalised: by language, how many strings normalisation changed.
        excluded: by reason, how many items the study leaves out.

    Raises:
        InputError: no items, or a language whose items are not parallel.
    """

    name: str
    items: Mapping[str, tuple[Item, ...]]
    clusters: np.ndarray
    licence: str = ""
    normalised: Mapping[str, int] = field(default_factory=dict)
    excluded: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_parallel(self.items, lambda language, row: self.name)
        if np.shape(self.clusters) != (len(self.item_ids),):
            raise ValueError(
                f"{self.name}: {len(self.item_ids)} items, clusters of {np.shape(self.clusters)}"
            )

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(self.items)

    @property
    def item_ids(self) -> tuple[str, ...]:
        return tuple(item.item_id for item in self._any)

    @property
    def n_choices(self) -> np.ndarray:
        """(item,) int, 0 for sentences."""
        return np.array([len(item.choices) for item in self._any], dtype=int)

    @property
    def answers(self) -> np.ndarray:
        """(item,) int, index of the right choice, -1 for sentences."""
        return np.array([item.answer for item in self._any], dtype=int)

    @cached_property
    def worked_order(self) -> np.ndarray:
        """(item,) items as they are taken for worked examples: one of each cluster, then others.

        Those of small clusters first, so that few items have to do with the examples.
        """
        _, codes, sizes = np.unique(self.clusters, return_inverse=True, return_counts=True)
        by_cluster = np.argsort(codes, kind="stable")
        number = np.empty(len(codes), int)  # of an item in its cluster
        number[by_cluster] = np.arange(len(codes)) - (np.cumsum(sizes) - sizes)[codes[by_cluster]]
        return np.lexsort((sizes[codes], number))

    @property
    def _any(self) -> tuple[Item, ...]:
        return next(iter(self.items.values()))

    def digest(self, language: str) -> str:
        """SHA-256 (hex) of what one language's items say, and of their clusters.

        Categories and the dataset's name are left out: they change no number of a model.
        """
        said = [
            [item.item_id, item.context, item.question, item.choices, item.answer]
            for item in self.items[language]
        ]
        return key_of({"items": said, "clusters": [int(label) for label in self.clusters]})

    def digests(self) -> dict[str, str]:
        """`digest` of every language, each computed once: they are needed for every key."""
        return {language: self.digest(language) for language in self.items}

    def sample(self, n_items: int, seed: int = 0) -> "ParallelItems":
        """A seeded draw of whole clusters, up to `n_items` items, in the dataset's order.

        All items where there are no more; the first cluster drawn is kept whatever its size.
        """
        order = np.random.default_rng(seed).permutation(np.unique(self.clusters))
        sizes = np.array([(self.clusters == cluster).sum() for cluster in order])
        drawn = order[: max(1, int((np.cumsum(sizes) <= n_items).sum()))]
        kept = np.flatnonzero(np.isin(self.clusters, drawn))
        items = {tag: tuple(asked[i] for i in kept) for tag, asked in self.items.items()}
        return replace(self, items=items, clusters=self.clusters[kept])


def repeated_questions(items: ParallelItems) -> list[str]:
    """A line for each language that asks a question far more often than the others do.

    A translation that went wrong: choices and answers are right, so that nothing else shows it.
    """
    asked = {
        language: Counter((item.context, item.question) for item in rows)
        for language, rows in items.items.items()
    }
    most = max(len(counts) for counts in asked.values())
    lines = []
    for language, counts in asked.items():
        (_, question), times = counts.most_common(1)[0]
        if len(counts) < 0.9 * most:
            lines.append(
                f"{items.name} ({language}): {len(counts)} different questions, another language"
                f' has {most}; {times} times "{question[:60]}": check the translation'
            )
    return lines


def normalise(text: str) -> str:
    """Text in NFC, without byte-order marks and outer spaces.

    >>> normalise("\\ufeff cafe\\u0301 ")
    'café'
    """
    return unicodedata.normalize("NFC", text.replace("\ufeff", "")).strip()


def same_text(text: str) -> str:
    """What two strings have in common when they are the same word: NFC, whatever the case.

    >>> same_text("CAFE\\u0301") == same_text("café")
    True
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def item_problem(item: Item) -> str | None:
    """What is wrong with one item by itself, and what to do; None where nothing is.

    >>> item_problem(Item("a", "", "Which?", ("x", "x"), 0))
    'the choice "x" is there twice: make choices different, or leave the item out (exclude)'
    """
    if not item.item_id:
        return "the id is empty: give every item an id"
    if not (item.context or item.question):
        return "context and question are both empty: write a question"
    if not item.choices and item.answer == -1:
        return None
    n = len(item.choices)
    if n < 2:
        return f"has {n} choices: give at least 2"
    if not all(item.choices):
        return f"choice {item.choices.index('')} is empty: give every choice a text"
    repeated = [text for text, count in Counter(item.choices).items() if count > 1]
    if repeated:
        return (
            f'the choice "{repeated[0]}" is there twice: make choices different, or leave the item'
            " out (exclude)"
        )
    if not 0 <= item.answer < n:
        return f"the answer is {item.answer}, the choices are 0 to {n - 1}: count choices from 0"
    return None


def check_parallel(
    items: Mapping[str, Sequence[Item]], where: Callable[[str, int], str], by_id: bool = True
) -> None:
    """Refuse items that are not the same in every language.

    Args:
        items: by language; the first language is the one the others are held against.
        where: names the place of a language's item by its row, for the message.
        by_id: ids are the data's; else they are the rows' numbers, which any row has.

    Raises:
        InputError: no items; an item wrong by itself; numbered rows that are not the same
            questions; an id that is repeated, missing or in another place; another number of
            choices or another answer than in the first language.
    """
    if not items or not any(items.values()):
        raise InputError("items: there are none: name a dataset with at least one item")
    first, reference = next(iter(items.items()))
    for language, rows in items.items():
        seen: dict[str, int] = {}
        for row, item in enumerate(rows):
            place = f'{where(language, row)}: item "{item.item_id}" ({language})'
            if problem := item_problem(item):
                raise InputError(f"{place}: {problem}")
            if item.item_id in seen:
                raise InputError(f"{place}: the id is there twice: give every item its own id")
            seen[item.item_id] = row
        if not by_id:
            _check_same_questions(language, rows, first, reference, where)
        _check_ids(language, rows, first, reference, where)
        for row, (item, other) in enumerate(zip(rows, reference, strict=True)):
            if problem := _difference(item, other, first):
                place = f'{where(language, row)}: item "{item.item_id}" ({language})'
                raise InputError(f"{place}: {problem}")


def _check_same_questions(
    language: str,
    rows: Sequence[Item],
    first: str,
    reference: Sequence[Item],
    where: Callable[[str, int], str],
) -> None:
    """Refuse numbered rows whose answers agree as those of other questions would.

    Translations agree in every row, other questions in one of k with k choices. Halfway between
    is the limit: above it single rows are wrong, and those are named one by one.
    """
    problems = [
        _difference(item, other, first) for item, other in zip(rows, reference, strict=False)
    ]
    wrong = [row for row, problem in enumerate(problems) if problem]
    by_chance = sum(1 - 1 / len(item.choices) for item in rows[: len(problems)] if item.choices)
    if wrong and len(wrong) >= by_chance / 2:
        row = wrong[0]
        fault = str(problems[row]).partition(":")[0]
        raise InputError(
            f'{where(language, row)}: item "{rows[row].item_id}" ({language}): {fault}, and'
            f" {len(wrong)} of {len(problems)} rows differ so: rows are not the same questions"
            " across languages: use parallel data, give item_id the columns that name a question,"
            " or correct answer_from"
        )


def _check_ids(
    language: str,
    rows: Sequence[Item],
    first: str,
    reference: Sequence[Item],
    where: Callable[[str, int], str],
) -> None:
    """Refuse a language whose ids are not the reference's, in the same order."""
    here, there = [item.item_id for item in rows], [item.item_id for item in reference]
    lost, extra = set(there) - set(here), set(here) - set(there)
    for absent, rich, poor, ids in ((lost, first, language, there), (extra, language, first, here)):
        if absent:
            row = min(map(ids.index, absent))
            raise InputError(
                f'{where(rich, row)}: item "{ids[row]}" ({poor}): missing in {poor}'
                f" ({len(absent)} such): give every language the same items, or leave out those"
                " that one lacks (exclude.rules: [incomplete])"
            )
    for row, (item_id, other) in enumerate(zip(here, there, strict=True)):
        if item_id != other:
            raise InputError(
                f'{where(language, row)}: item "{item_id}" ({language}): {first} has "{other}"'
                " here: give every language the same items in the same order"
            )


def _difference(item: Item, other: Item, first: str) -> str | None:
    """How an item differs from the reference language's, and what to do."""
    n, n_other = len(item.choices), len(other.choices)
    if n != n_other:
        return (
            f"has {n} choices, {first} has {n_other}:"
            " give every language the same choices in the same order"
        )
    if item.answer != other.answer:
        return (
            f"the answer is {item.answer}, in {first} it is {other.answer}:"
            " give every language the same choices in the same order"
        )
    return None


def find_clusters(items: Sequence[Item]) -> np.ndarray:
    """Which items of one language belong together.

    An item that names its cluster belongs to that. Of the others, those that share a context, or
    that have each other's gold answers among their choices, are joined, and so are sentences
    that say the same; clusters are the connected components.

    Args:
        items: the items of one language, so that adding a language cannot move an item.

    Returns:
        (item,) int, numbered as they first appear.

    Source: our choice (docs/reference.md, "Items, clusters, folds").

    >>> def ask(context, *choices):
    ...     return Item("x", context, "Which?", choices, 0)
    >>> find_clusters([ask("A", "1", "2"), ask("B", "3", "4"), ask("A", "5", "6"),
    ...                ask("C", "4", "3")]).tolist()
    [0, 1, 0, 1]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first_with: dict[Hashable, int] = {}
    links = []
    for row, item in enumerate(items):
        if key := _shared_key(item):
            links.append((first_with.setdefault(key, row), row))
    free = [row for row, item in enumerate(items) if item.cluster is None and item.choices]
    links += _mutual_golds(items, free)
    ends = np.array(links, dtype=int).reshape(-1, 2).T
    graph = coo_array((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=(len(items),) * 2)
    labels = connected_components(graph, directed=False)[1]
    order = {label: number for number, label in enumerate(dict.fromkeys(labels.tolist()))}
    return np.array([order[label] for label in labels.tolist()], dtype=int)


def _shared_key(item: Item) -> Hashable:
    """What joins an item to others with the same: its named cluster, its context, its sentence."""
    if item.cluster is not None:
        return ("cluster", item.cluster)
    if item.context:
        return ("context", same_text(item.context))
    return None if item.choices else ("sentence", same_text(item.question))


def _mutual_golds(items: Sequence[Item], rows: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of rows that join all items which have each other's gold answers among their choices.

    Not all such pairs: of many yes-or-no questions they would be too many.
    """
    first_with: dict[str, int] = {}  # of the items with a gold answer, which all are joined
    offered: set[tuple[str, str]] = set()  # a gold answer, and a choice beside it
    links = []
    for row in rows:
        gold = same_text(items[row].choices[items[row].answer])
        links.append((first_with.setdefault(gold, row), row))
        offered |= {(gold, same_text(choice)) for choice in items[row].choices}
    met = [(gold, other) for gold, other in offered if gold < other and (other, gold) in offered]
    return links + [(first_with[gold], first_with[other]) for gold, other in met]


LEAST_IN_A_FOLD = 3
"""Items that what is fitted on the other folds is tested on."""


def check_enough(clusters: np.ndarray, n_folds: int, dataset: str) -> None:
    """Refuse a dataset too small for the folds: it would end only after extraction.

    Args:
        clusters: (item,) labels.
        n_folds: as in `folds`, whose sizes depend on no seed.
        dataset: its name in the configuration.

    Raises:
        InputError: fewer clusters than folds, or fewer items in one than `LEAST_IN_A_FOLD`.
    """
    if (n_clusters := len(np.unique(clusters))) < n_folds:
        raise InputError(
            f"datasets.{dataset}: {len(clusters)} items in {n_clusters} clusters (items with a text"
            f" in common), {n_folds} folds need {n_folds} clusters: add items, or lower"
            " statistics.folds"
        )
    least = int(np.bincount(folds(clusters, n_folds)).min())
    if least < LEAST_IN_A_FOLD:
        raise InputError(
            f"datasets.{dataset}: {len(clusters)} items in {n_folds} folds leave {least} in one, "
            f"{LEAST_IN_A_FOLD} are needed: lower statistics.folds or add items"
        )


def folds(clusters: np.ndarray, n_folds: int = 5, seed: int = 0) -> np.ndarray:
    """Fold of each item: whole clusters, of sizes as equal as they allow.

    The largest clusters go first, each to the smallest fold so far; the seed orders clusters
    of one size. Folds depend on nothing but the clusters, so all languages have the same.

    Args:
        clusters: (item,) labels.
        n_folds: how many.
        seed: of the order.

    Returns:
        (item,) int, 0 to n_folds - 1.

    Raises:
        InputError: fewer clusters than folds, or fewer than two folds.

    >>> np.bincount(folds(np.arange(12), 5)).tolist()
    [3, 3, 2, 2, 2]
    """
    labels, sizes = np.unique(clusters, return_counts=True)
    if not 2 <= n_folds <= len(labels):
        raise InputError(
            f"folds: {n_folds} folds of {len(labels)} clusters of items: ask for at least 2 folds"
            " and at most as many as there are clusters"
        )
    load = np.zeros(n_folds, dtype=int)
    fold_of: dict[Hashable, int] = {}
    for cluster in _large_first(sizes, seed):
        fold_of[labels[cluster]] = int(load.argmin())
        load[load.argmin()] += sizes[cluster]
    return np.array([fold_of[label] for label in clusters], dtype=int)


def _large_first(sizes: np.ndarray, seed: int) -> np.ndarray:
    """Indices of clusters by falling size, in seeded order within one size."""
    shuffled = np.random.default_rng(seed).permutation(len(sizes))
    return shuffled[np.argsort(-sizes[shuffled], kind="stable")]


def split(clusters: np.ndarray, sizes: Mapping[str, float], seed: int = 0) -> np.ndarray:
    """Role of each item when fit, selection and test have sets of their own.

    Args:
        clusters: (item,) labels; clusters stay whole.
        sizes: by role, its share of the items; shares are taken relative to their sum.
        seed: of the order of clusters of one size.

    Returns:
        (item,) str, the role.

    Raises:
        InputError: a share that is not positive, or more roles than clusters.

    >>> roles = split(np.arange(10), {"fit": 0.6, "select": 0.2, "test": 0.2})
    >>> [int((roles == role).sum()) for role in ("fit", "select", "test")]
    [6, 2, 2]
    """
    labels, counts = np.unique(clusters, return_counts=True)
    names = list(sizes)
    shares = np.array([sizes[name] for name in names], dtype=float)
    if not names or not (shares > 0).all() or len(names) > len(labels):
        raise InputError(
            f"split: sizes {dict(sizes)} of {len(labels)} clusters of items: give every role a"
            " positive share, and have at least one cluster for each"
        )
    target = shares / shares.sum() * len(clusters)
    load = np.zeros(len(names))
    role_of: dict[Hashable, str] = {}
    for cluster in _large_first(counts, seed):
        # Roles still empty come first once only as many clusters are left as there are of them.
        must = (load == 0) if len(labels) - len(role_of) <= (load == 0).sum() else load >= 0
        role = int(np.where(must, target - load, -np.inf).argmax())
        role_of[labels[cluster]] = names[role]
        load[role] += counts[cluster]
    return np.array([role_of[label] for label in clusters])


def check_disjoint(
    fit_items: Iterable[int], evaluated_items: Iterable[int], clusters: np.ndarray
) -> None:
    """Make sure that nothing is evaluated with what was fitted on it.

    Args:
        fit_items: indices of the items fitted on.
        evaluated_items: indices of the items evaluated.
        clusters: (item,) labels.

    Raises:
        ValueError: an item or a cluster on both sides.
    """
    fit, evaluated = {int(i) for i in fit_items}, {int(i) for i in evaluated_items}
    both = fit & evaluated
    if both:
        raise ValueError(f"items fitted on and evaluated: {sorted(both)[:10]} of {len(both)}")
    shared = {clusters[i].item() for i in fit} & {clusters[i].item() for i in evaluated}
    if shared:
        raise ValueError(f"clusters fitted on and evaluated: {sorted(shared)[:10]}")


def identical_to(items: ParallelItems, language: str, pivot: str) -> np.ndarray:
    """Which choices are the same string in a language as in the pivot, whatever the case.

    Returns:
        (item, choice) bool, False beyond an item's own choices.
    """
    same = np.zeros((len(items.item_ids), int(items.n_choices.max())), dtype=bool)
    for row, (item, other) in enumerate(
        zip(items.items[language], items.items[pivot], strict=True)
    ):
        for column, (choice, again) in enumerate(zip(item.choices, other.choices, strict=True)):
            same[row, column] = same_text(choice) == same_text(again)
    return same


def spellings(items: ParallelItems, languages: Sequence[str]) -> np.ndarray:
    """(language, item, choice) number of each choice's text, the same for `same_text`; else -1."""
    numbers: dict[str, int] = {}
    shape = (len(languages), len(items.item_ids), int(items.n_choices.max()))
    spelling = np.full(shape, -1)
    for place, language in enumerate(languages):
        for row, item in enumerate(items.items[language]):
            texts = [numbers.setdefault(same_text(c), len(numbers)) for c in item.choices]
            spelling[place, row, : len(texts)] = texts
    return spelling


def check_folds(folds: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """The folds that items are evaluated in, after a check that no cluster is torn.

    Args:
        folds: (item,) int.
        clusters: (item,) int.

    Raises:
        InputError: a cluster is in two folds, or a fold leaves fewer than 3 items to fit on.
    """
    if len(folds) != len(clusters):
        raise InputError(
            f"folds: {len(folds)} items, the states have {len(clusters)}: use the same dataset"
        )
    evaluated = np.unique(folds)
    for fold in evaluated:
        inside = folds == fold
        if set(clusters[inside]) & set(clusters[~inside]):
            raise InputError(
                f"fold {fold}: a cluster is also in another fold: make folds of whole clusters"
            )
        if (~inside).sum() < 3:
            raise InputError(
                f"fold {fold}: {(~inside).sum()} items to fit on: use fewer folds or more items"
            )
    return evaluated


def question_digests(items: ParallelItems, language: str) -> list[str]:
    """What each item asks in a language: the same for the same question under any id or dataset.

    Case, Unicode form and the order of the choices make no difference.
    """
    return [
        key_of([same_text(i.context), same_text(i.question), sorted(map(same_text, i.choices))])
        for i in items.items[language]
    ]


def check_apart(fitted: ParallelItems, evaluated: ParallelItems) -> None:
    """Refuse to evaluate on items that something was fitted on under another dataset's name.

    Args:
        fitted, evaluated: datasets; languages that both have are compared, item by item.

    Raises:
        InputError: they have questions in common.
    """
    common = [tag for tag in evaluated.languages if tag in fitted.languages]
    seen = np.zeros(len(evaluated.item_ids), dtype=bool)
    for tag in common:
        known = set(question_digests(fitted, tag))
        seen |= [digest in known for digest in question_digests(evaluated, tag)]
    if seen.any():
        first = evaluated.item_ids[int(seen.argmax())]
        raise InputError(
            f"datasets.{evaluated.name}: {seen.sum()} of {len(seen)} questions ({seen.mean():.0%}) "
            f"are also in {fitted.name}, which steering vectors are fitted on, the first is "
            f'"{first}": take them out of either, or evaluate on {fitted.name} itself, '
            "whose folds keep fit and evaluation apart"
        )
