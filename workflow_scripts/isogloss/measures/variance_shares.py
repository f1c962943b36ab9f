"""What states vary with: shares of variance of items, of languages, and of neither alone."""

import numpy as np

SOURCES = ("item", "language", "residual")
CROSSED_SOURCES = (
    "item",
    "language",
    "wording",
    "item x language",
    "item x wording",
    "language x wording",
    "rest",
)


def variance_share_sums(states: np.ndarray) -> tuple[np.ndarray, int]:
    """Shares of variance by expected mean squares, per dimension and summed.

    The design is item x language, both random, one state per cell: the residual is what a question
    has of its own in a language, in meaning or in wording. Per dimension, a language's deviations
    from its own mean are divided by its own spread, so that languages which spread more do not
    pass for a residual; the languages' offsets by the pooled spread, the root of the mean of their
    variances, so that they stay comparable. Not clipped: slightly negative where a source has
    nothing.

    Args:
        states: (language, item, feature), of which any features.

    Returns:
        (3,) shares of SOURCES, summed over the dimensions that vary in every language, and how
        many these are, to which the shares add up.

    Raises:
        ValueError: fewer than two languages or items.

    Source: two-way random-effects analysis of variance, Searle, Casella and McCulloch (1992);
    the scale and the average over dimensions are our choice.

    >>> offsets = np.array([-10.0, 10.0])[:, None, None]
    >>> sums, count = variance_share_sums(offsets + np.array([-1.0, 0.0, 1.0])[None, :, None])
    >>> sums.round(3).tolist(), count
    ([0.005, 0.995, 0.0], 1)
    """
    n_languages, n_items, _ = states.shape
    if min(n_languages, n_items) < 2:
        raise ValueError(f"needs 2 languages and 2 items, got {n_languages} and {n_items}")
    x = states.astype(np.float64)
    x -= x.mean(axis=(0, 1))
    offset, total = x.mean(axis=1, keepdims=True), (x**2).mean(axis=(0, 1))
    x -= offset
    variance = (x**2).mean(axis=1, keepdims=True)
    varies = (variance > 1e-12 * total).all(axis=(0, 1))
    if not varies.any():
        return np.zeros(len(SOURCES)), 0
    x, offset, variance = (part[..., varies] for part in (x, offset, variance))
    x /= np.sqrt(variance)
    x += offset / np.sqrt(variance.mean(axis=0))
    language, item = x.mean(axis=1), x.mean(axis=0)
    ms_item = n_languages * (item**2).sum(axis=0) / (n_items - 1)
    ms_language = n_items * (language**2).sum(axis=0) / (n_languages - 1)
    rest = x - language[:, None] - item
    ms_rest = (rest**2).sum(axis=(0, 1)) / ((n_items - 1) * (n_languages - 1))
    components = np.stack(
        [(ms_item - ms_rest) / n_languages, (ms_language - ms_rest) / n_items, ms_rest]
    )
    return (components / components.sum(axis=0)).sum(axis=1), int(varies.sum())


def crossed_components(values: np.ndarray) -> np.ndarray:
    """Variance components of items, languages, wordings and their interactions.

    The design is wording x language x item, all random, one value per cell: the rest is the
    interaction of all three. With wordings, what an item has of its own in a language is told
    from what a wording does to it there.

    Args:
        values: (wording, language, item, ...).

    Returns:
        (7, ...) components of CROSSED_SOURCES, in squared units of the values. Unbiased, so
        slightly negative where a source has nothing.

    Raises:
        ValueError: fewer than two wordings, languages or items.

    Source: expected mean squares of the three-way random-effects analysis of variance, Searle,
    Casella and McCulloch (1992).

    >>> item = np.array([-1.0, 0.0, 1.0])
    >>> crossed_components(np.broadcast_to(item, (2, 2, 3))).round(6).tolist()
    [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    sizes = values.shape[:3]
    if min(sizes) < 2:
        raise ValueError(f"needs 2 wordings, languages and items, got {sizes}")
    x = values - values.mean(axis=(0, 1, 2))
    means: dict[tuple[int, ...], np.ndarray] = {}  # effects, by the axes that they vary along
    mean_squares: dict[tuple[int, ...], np.ndarray] = {}
    for axes in ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)):
        others = tuple(axis for axis in range(3) if axis not in axes)
        effect = x.mean(axis=others, keepdims=True) if others else x
        effect = effect - sum(means[part] for part in means if set(part) < set(axes))
        means[axes] = effect
        repeats = np.prod([sizes[axis] for axis in others]) if others else 1
        degrees = np.prod([sizes[axis] - 1 for axis in axes])
        mean_squares[axes] = repeats * (effect**2).sum(axis=(0, 1, 2)) / degrees
    wording, language, item = (mean_squares[(axis,)] for axis in range(3))
    wl, wi, li, rest = (mean_squares[axes] for axes in ((0, 1), (0, 2), (1, 2), (0, 1, 2)))
    n_wordings, n_languages, n_items = sizes
    return np.stack(
        [
            (item - li - wi + rest) / (n_wordings * n_languages),
            (language - li - wl + rest) / (n_wordings * n_items),
            (wording - wi - wl + rest) / (n_languages * n_items),
            (li - rest) / n_wordings,
            (wi - rest) / n_languages,
            (wl - rest) / n_items,
            rest,
        ]
    )


def crossed_shares(values: np.ndarray) -> np.ndarray:
    """`crossed_share_sums` averaged: (7,), which sum to 1; NaN where no dimension varies."""
    shares, n_varying = crossed_share_sums(values)
    return shares / (n_varying or np.nan)


def crossed_share_sums(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Shares of variance of CROSSED_SOURCES, per dimension and summed.

    Scaled as in `variance_share_sums`: deviations from a language's mean are divided by its own
    spread, over items and wordings, its offset by the pooled one.

    Args:
        values: (wording, language, item, feature), of which any features.

    Returns:
        (7,) shares, summed over the dimensions that vary in every language, and how many these are.
    """
    x = values.astype(np.float64)
    x -= x.mean(axis=(0, 1, 2))
    offset, total = x.mean(axis=(0, 2), keepdims=True), (x**2).mean(axis=(0, 1, 2))
    x -= offset
    variance = (x**2).mean(axis=(0, 2), keepdims=True)
    varies = (variance > 1e-12 * total).all(axis=(0, 1, 2))
    if not varies.any():
        return np.zeros(len(CROSSED_SOURCES)), 0
    x, offset, variance = (part[..., varies] for part in (x, offset, variance))
    x = x / np.sqrt(variance) + offset / np.sqrt(variance.mean(axis=1, keepdims=True))
    components = crossed_components(x)
    return (components / components.sum(axis=0)).sum(axis=1), int(varies.sum())
