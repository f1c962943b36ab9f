"""Transfer between languages: which answers two languages share, and which of them need explaining.

transfer+(l1 -> l2) = |F_l1 & F_l2| / |F_l1| and transfer-(l1 -> l2) = shared incorrect answers /
|not F_l1|, F_l the items answered correctly in l (Lim, Aji and Cohn 2025). Alone they rise with
accuracy, so each stands beside what chance, item difficulty and popular distractors give.
"""

from dataclasses import dataclass

import numpy as np

from isogloss.measures.statistics import EVERY, ROUNDING, Jackknife, divide

# Under so many items in the denominator a transfer is not a number worth reading.
MIN_ITEMS = 10
LIFT_REASON = "why there is no lift of transfer; empty where there is one"


@dataclass(frozen=True)
class Transfer:
    """One kind of transfer from language (second axis) to language (third axis).

    Attributes:
        observed: (row, first language, language) share of the first language's items; NaN where
            they are fewer than `MIN_ITEMS`. Rows are those of a `Jackknife`; row 0 is the data.
        independent: the same if items were paired at random; NaN on the diagonal, as below. Where
            a language is right (or wrong) on all items there is no `lift_rows` over it.
        difficulty: the same from how hard items are in the other languages; NaN with fewer than
            three languages, and where the others are not above chance: their answers then say
            nothing of difficulty.
        popularity: as difficulty, with the choices that the other languages take when wrong; None
            where the kind of transfer does not ask which choice is shared.
        relative: baselines that use up what languages share on average. Their lift compares a pair
            with the other languages: over all targets of one source it averages to 0 whatever the
            model does, since what all languages share cannot be separated from difficulty.
        scale: (row, first language, language) what `difficulty` and `popularity` are divided by,
            the mean slope of the other languages; None before it is known.
        n_items: (first language, 1) items behind the shares of each first language.
    """

    observed: np.ndarray
    independent: np.ndarray
    difficulty: np.ndarray
    popularity: np.ndarray | None = None
    relative: tuple[str, ...] = ()
    n_items: np.ndarray | float = np.nan
    scale: np.ndarray | None = None


def transfers(
    predictions: np.ndarray,
    answers: np.ndarray,
    n_choices: np.ndarray,
    jackknife: Jackknife,
    first: slice = EVERY,
) -> dict[str, Transfer]:
    """The three kinds of transfer, on the data and on every row of a jackknife.

    Args:
        predictions: (language, item) int index of the predicted choice.
        answers, n_choices: (item,) int.
        first: the languages from which transfer is taken; it goes to all of them.

    Returns:
        "positive", "negative" (the same wrong choice) and "both_wrong" (any wrong choice).

    Source: positive, negative: Lim, Aji and Cohn (2025); the baselines are our choice.
    """
    right = (predictions == answers).T.astype(float)
    wrong = 1 - right
    same = predictions.T[:, first, None] == predictions.T[:, None, :]
    shared_wrong = wrong[:, first, None] * same
    guess = 1 / (n_choices - 1.0)[:, None, None]
    popular = popular_choice(predictions, answers, n_choices, first)
    expect = _Expectation.of(right, n_choices, jackknife, first)
    ones = np.ones_like(guess)
    first_right, first_wrong = right[:, first, None], wrong[:, first, None]
    sums = jackknife.sums
    positive = Transfer(
        sums(first_right * right[:, None, :]),
        expect.independent(first_right, right=True),
        expect.difficulty(first_right, right=True),
        relative=("difficulty",),
    )
    negative = Transfer(
        sums(shared_wrong),
        expect.independent(first_wrong * guess, right=False),
        expect.difficulty(first_wrong * guess, right=False),
        expect.difficulty(first_wrong * popular, right=False),
        relative=("popularity",),
    )
    both_wrong = Transfer(
        sums(first_wrong * wrong[:, None, :]),
        expect.independent(first_wrong * ones, right=False),
        expect.difficulty(first_wrong * ones, right=False),
        relative=("difficulty",),
    )
    return {
        "positive": _shares(positive, sums(right), expect, first),
        "negative": _shares(negative, sums(wrong), expect, first),
        "both_wrong": _shares(both_wrong, sums(wrong), expect, first),
    }


def transfer_rows(source: np.ndarray, target: np.ndarray, jackknife: Jackknife) -> np.ndarray:
    """Share of the items right in `source` that are right in `target`, on every row.

    Args: source, target (item, ...) float 0 or 1, NaN where not evaluated.
    Returns: (row, ...), NaN where fewer than `MIN_ITEMS` items of the data are right in `source`.
    """
    right = jackknife.sums(source)
    rows = divide(jackknife.sums(source * target), right)
    return np.where(right[0] >= MIN_ITEMS, rows, np.nan)


def expected_rows(
    source: np.ndarray, target: np.ndarray, n_choices: np.ndarray, jackknife: Jackknife
) -> np.ndarray:
    """`transfer_rows` as it would be by the target's accuracy alone, on every row.

    Args: source, target as there; n_choices (item,).
    """
    by_accuracy = _by_accuracy(source, target, n_choices, jackknife)
    return divide(by_accuracy, jackknife.sums(source))


def _by_accuracy(
    weight: np.ndarray, right: np.ndarray, n_choices: np.ndarray, jackknife: Jackknife
) -> np.ndarray:
    """Expected sum of weight over the items that are right, on every row: (row, ...).

    Accuracy is that on items with as many choices: what has two is right more often than what has
    eight in every language, whatever they share.

    Args: weight, right (item, ...), which broadcast; n_choices (item,).
    """
    total: np.ndarray | float = 0.0
    for n in np.unique(n_choices):
        of = (n_choices == n).reshape(-1, *[1] * (right.ndim - 1))
        accuracy = np.nan_to_num(jackknife.means(np.where(of, right, np.nan)))
        total = total + jackknife.sums(np.where(of, weight, 0.0)) * accuracy
    return np.asarray(total)


def lift_rows(observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Transfer above what is expected of it, on every row.

    Where a language is right (or wrong) on all items, transfer is its expectation whatever the
    model does. There is then nothing to compare with: NaN, not a lift of 0 that looks certain.

    Args: observed, expected (row, ...), the data first. Returns (row, ...).
    """
    rows = observed - expected
    return np.where((np.abs(rows) <= ROUNDING).all(axis=0), np.nan, rows)


def missing_lift(right: np.ndarray, others: np.ndarray) -> str:
    """Why there is no lift over accuracy from the pivot in any other language; empty if there is.

    Args: right (item,) whether right in the pivot, others (item, language) 0 or 1.
    """
    if right.sum() < MIN_ITEMS:
        return f"fewer than {MIN_ITEMS} items are right in the pivot"
    if right.all():
        return "all items are right in the pivot"
    if (others == others[0]).all():
        return "other languages are right on all items or on none"
    return ""


def popular_choice(
    predictions: np.ndarray, answers: np.ndarray, n_choices: np.ndarray, first: slice = EVERY
) -> np.ndarray:
    """How often the other languages, when wrong, take the choice that the first language took.

    Args:
        predictions: (language, item); answers, n_choices: (item,).
        first: the first languages of the pairs.

    Returns:
        (item, first language, language): among the languages other than the two that are wrong, the
        share with the first one's choice; 1 / (n_choices - 1) where none of them is wrong.
        Meaningless where the first language is right.
    """
    taken = predictions.T[:, :, None] == np.arange(n_choices.max())
    counts = taken.sum(axis=1)
    of_first = np.take_along_axis(counts, predictions.T[:, first], axis=1)[:, :, None]
    same = predictions.T[:, first, None] == predictions.T[:, None, :]
    wrong = predictions.T != answers[:, None]
    others_wrong = wrong.sum(axis=1)[:, None, None] - wrong[:, first, None] - wrong[:, None, :]
    uniform = 1 / (n_choices - 1.0)[:, None, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (of_first - 1 - same) / others_wrong
    return np.where(others_wrong > 0, share, uniform)


@dataclass(frozen=True)
class _Expectation:
    """Expected shared answers when languages meet only through their accuracy, or difficulty too.

    The chance that language 2 is right on item i is taken as
    accuracy_2 + sensitivity (p_i - mean p), p_i the share of the other languages (neither of the
    two) that are right on i. It is linear in p_i on purpose: the noise of a share of few languages
    then averages out, where a logistic curve or a regression would bend it. The sensitivity is
    that of a logistic curve above a guessing floor c, (a - c)(1 - a), relative to the mean of the
    other languages: languages at the floor or at the ceiling do not follow difficulty. It has no
    bound, since intervals do not cover at a kink; where the others are not above the floor by more
    than their noise it is NaN.

    Attributes:
        jackknife: of the items.
        right: (item, 1, language) right answers of the second language.
        n_choices: (item,).
        ease: (item, first language, language) p_i of each pair.
        accuracy: (row, 1, language) of the second language.
        mean_ease: (row, first language, language).
        slope: (row, first language, language) mean slope of the other languages.
        sensitivity: (row, first language, language).
    """

    jackknife: Jackknife
    right: np.ndarray
    n_choices: np.ndarray
    ease: np.ndarray
    accuracy: np.ndarray
    mean_ease: np.ndarray
    slope: np.ndarray
    sensitivity: np.ndarray

    @classmethod
    def of(
        cls, right: np.ndarray, n_choices: np.ndarray, jackknife: Jackknife, first: slice
    ) -> "_Expectation":
        """From (item, language) right answers, of pairs with some first languages."""
        n_languages = right.shape[1]
        n_items = jackknife.sums(np.ones(len(right)))[:, None]
        accuracy = divide(jackknife.sums(right), n_items)
        floor = divide(jackknife.sums(1.0 / n_choices)[:, None], n_items)
        n_others = n_languages - 2 if n_languages > 2 else np.nan
        known = right.sum(axis=1)[:, None, None]
        ease = (known - right[:, first, None] - right[:, None, :]) / n_others
        slope = (accuracy - floor) * (1 - accuracy)
        second = slope[:, None, :]
        of_others = (slope.sum(axis=1)[:, None, None] - slope[:, first, None] - second) / n_others
        above_chance = (of_others[0] > 0) & ~(jackknife.interval(of_others).low <= 0)
        return cls(
            jackknife,
            right[:, None, :],
            n_choices,
            ease,
            accuracy[:, None, :],
            divide(jackknife.sums(ease), n_items[:, :, None]),
            of_others,
            np.where(above_chance, divide(second, of_others), np.nan),
        )

    def independent(self, weight: np.ndarray, right: bool) -> np.ndarray:
        """Expected sum of weight over items that language 2 has right (or wrong), by accuracy.

        Args: weight (item, first language, 1). Returns (row, first language, language).
        """
        second = self.right if right else 1 - self.right
        return _by_accuracy(weight, second, self.n_choices, self.jackknife)

    def difficulty(self, weight: np.ndarray, right: bool) -> np.ndarray:
        """The same by accuracy and the item's ease; weight (item, first, 1 or language)."""
        total = self.jackknife.sums(weight)
        expected = (self.accuracy - self.sensitivity * self.mean_ease) * total
        expected += self.sensitivity * self.jackknife.sums(weight * self.ease)
        return expected if right else total - expected


def _shares(counts: Transfer, of: np.ndarray, expect: _Expectation, first: slice) -> Transfer:
    """Counts over (row, language) items of the first language, few items and diagonals left out."""
    apart = ~np.eye(of.shape[1], dtype=bool)[first]
    of = of[:, first]
    enough = (of[0] >= MIN_ITEMS)[None, :, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        per_item = np.where(enough & (of[:, :, None] > 0), 1 / of[:, :, None], np.nan)
    apart_per_item = np.where(apart, per_item, np.nan)
    return Transfer(
        counts.observed * per_item,
        counts.independent * apart_per_item,
        counts.difficulty * apart_per_item,
        None if counts.popularity is None else counts.popularity * apart_per_item,
        counts.relative,
        of[0][:, None],
        expect.slope,
    )
