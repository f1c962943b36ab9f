"""How far languages agree, when a language does not always agree with itself.

A model that ranks the choices otherwise under another wording of the question cannot rank them as
its translation does. With several wordings an item's ranks in a language, centred and of unit
length (u), are a stable part and what the wording does. Between different wordings,

    r_lm = mean over items and wordings v, w (v and w different) of u_lv . u_mw

sees the stable parts alone: what a wording has in common in all languages is left out, too. r_ll is
how far a language agrees with itself, r_lm how far two languages do, and

    r_lm / sqrt(r_ll r_mm)

is the cosine of their stable parts, over all items: 1 where they rank the choices alike but for the
wording, whatever the wording does.

Source: Spearman (1904), The proof and measurement of association between two things; that wordings
are crossed is our choice.
"""

from typing import NamedTuple

import numpy as np

from isogloss.measures.statistics import Jackknife, divide


class Agreement(NamedTuple):
    """Mean agreement of languages over items, a row for the data and one without each cluster.

    Attributes:
        same: (row, language, language) between the same wordings.
        across: (row, language, language) between different wordings; on the diagonal a language
            with itself.
    """

    same: np.ndarray
    across: np.ndarray

    @property
    def alone(self) -> np.ndarray:
        """(row, language) agreement of each language with itself."""
        return np.einsum("rll->rl", self.across)


def agreement(units: np.ndarray, jackknife: Jackknife) -> Agreement:
    """Agreement within and between languages, by wording.

    Args:
        units: (variant, language, item, choice) of `behaviour.standardised_ranks`; 0 for choices
            that an item does not have, NaN where all choices are tied.

    Raises:
        ValueError: fewer than two wordings.
    """
    if len(units) < 2:
        raise ValueError(f"agreement across wordings needs 2 of them, got {len(units)}")
    ranked = np.isfinite(units[..., 0])
    values, count = np.nan_to_num(units), ranked[..., None].astype(float)
    sums = []
    for part in (values, count):
        by_item = part.transpose(2, 0, 1, 3)  # (item, variant, language, choice)
        same = (by_item @ by_item.transpose(0, 1, 3, 2)).sum(axis=1)
        both = by_item.sum(axis=1)
        sums.append((jackknife.sums(same), jackknife.sums(both @ both.transpose(0, 2, 1) - same)))
    (same, across), (n_same, n_across) = sums
    return Agreement(divide(same, n_same), divide(across, n_across))


def corrected(across: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Agreement between languages corrected for attenuation: (row, language, language).

    Args:
        across: (row, language, language), agreement with itself on the diagonal.
        usable: (language,) bool: whether the language agrees with itself beyond doubt.

    Returns:
        The same shape; above 1 by chance, NaN on the diagonal and where a language is not usable.
    """
    alone = np.einsum("rll->rl", across)
    alone = np.where(usable & (alone > 0), alone, np.nan)
    values = across / np.sqrt(alone[:, :, None] * alone[:, None])
    return np.where(np.eye(across.shape[1], dtype=bool), np.nan, values)


def noise_share(alone: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Share of disagreement between languages that is there within a language too.

    Args: alone, across (...) agreement within languages and between them. Returns (...).

    >>> round(float(noise_share(np.array(0.7), np.array(0.4))), 6)
    0.5
    """
    return divide(1 - alone, 1 - across)


RANK_SOURCES = ("item", "item x language", "item x wording", "rest")


def rank_shares(alone: np.ndarray, same: np.ndarray, across: np.ndarray) -> np.ndarray:
    """What ranks of choices vary with: shares of RANK_SOURCES, which sum to 1.

    Ranks are centred in their item, so that neither language nor wording has a share by itself.
    `item` is what all languages and wordings have in common about an item, the interaction `item x
    language` what a language thinks of it under every wording, `item x wording` what a wording does
    to it in every language.

    Args:
        alone, same, across: (...) mean agreement of languages with themselves, between languages
            under the same wording, and between languages under different wordings.

    Returns:
        (source, ...).
    """
    return np.stack([across, alone - across, same - across, 1 - alone - same + across])
