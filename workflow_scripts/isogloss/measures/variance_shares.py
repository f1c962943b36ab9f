"""What states vary with: shares of variance of items, of languages, and of neither alone."""

import numpy as np

SOURCES = ("item", "language", "residual")


def variance_shares(states: np.ndarray) -> np.ndarray:
    """Shares of variance by expected mean squares, per dimension and averaged.

    The design is item x language, both random, one state per cell: the residual is what a question
    has of its own in a language, in meaning or in wording. Per dimension, a language's deviations
    from its own mean are divided by its own spread, so that languages which spread more do not
    pass for a residual; the languages' offsets by the pooled spread, the root of the mean of their
    variances, so that they stay comparable. Not clipped: slightly negative where a source has
    nothing.

    Args:
        states: (language, item, feature).

    Returns:
        (3,) shares of SOURCES, which sum to 1; NaN where no dimension varies in every language.

    Raises:
        ValueError: fewer than two languages or items.

    Source: two-way random-effects analysis of variance, Searle, Casella and McCulloch (1992);
    the scale and the average over dimensions are our choice.

    >>> offsets = np.array([-10.0, 10.0])[:, None, None]
    >>> states = offsets + np.array([-1.0, 0.0, 1.0])[None, :, None]
    >>> variance_shares(states).round(3).tolist()
    [0.005, 0.995, 0.0]
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
        return np.full(len(SOURCES), np.nan)
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
    return (components / components.sum(axis=0)).mean(axis=1)
