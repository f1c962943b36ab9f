"""The dissociation score: how far languages lie apart in the middle half of a model's depth."""

import numpy as np
import xarray as xr

from isogloss.measures.pooled import BOUNDS, pooled, with_bounds

MIDDLE = (0.25, 0.75)  # relative depths that the dissociation score is a mean over
LIMITS = (0.0, 2.0)  # of 1 - a correlation
PAIR = ("language", "language_2")
POOLED = ("dissociation", "dissociation_pivot", "cka_middle_mean")
LONG_NAMES = {
    "item_share_middle": "item share of a pair, middle half of relative depth",
    "cka_middle": "debiased CKA of a pair, middle half of relative depth",
    "cka_middle_mean": "debiased CKA, middle half of relative depth, mean over pairs",
    "dissociation": "1 - item share, middle half of relative depth, all languages",
    "dissociation_pivot": "1 - item share, middle half of relative depth, pivot pairs",
    "dissociation_by_language": "1 - item share with the pivot, middle half of relative depth",
    "dissociation_length_adjusted": "dissociation without log token count",
    "dissociation_null": "dissociation, items shuffled",
    "dissociation_null_low": "dissociation that chance goes below with 1 - confidence",
    "dissociation_p": "p of the dissociation score against shuffled items",
    "dissociation_reason": "why there is no dissociation score",
}


def is_middle(depths: np.ndarray) -> np.ndarray:
    """(layer,) bool: layers in the middle half of relative depth.

    >>> is_middle(np.array([0.0, 0.25, 0.8])).tolist()
    [False, True, False]
    """
    return (depths >= MIDDLE[0]) & (depths <= MIDDLE[1])


def dissociation(
    maps: xr.Dataset,
    middle: np.ndarray,
    share_left_out: np.ndarray,
    cka_left_out: np.ndarray,
    null: np.ndarray,
    sizes: np.ndarray,
    row: int,
    confidence: float,
) -> xr.Dataset:
    """The dissociation score and what stands beside it.

    Args:
        maps: `item_share_pair`, `cka_pair`, `item_share_length_adjusted` and `reason` by layer.
        middle: (layer,) bool of `is_middle`.
        share_left_out, cka_left_out: (cluster, language, language), means over the middle half.
        null: (permutation,) item share there, items shuffled, mean over pairs.
        sizes: (cluster,) items of each cluster.
        row: index of the pivot.
        confidence: of the intervals.

    Returns:
        The variables of LONG_NAMES. Those of POOLED also with each cluster of items and each
        language left out, so that models can be compared on the same items and languages.
    """
    share, cka = (
        maps[name].values[middle].mean(axis=0) for name in ("item_share_pair", "cka_pair")
    )
    apart, apart_left_out = 1 - share, 1 - share_left_out
    maps_apart = apart, apart_left_out, confidence
    values = pooled("dissociation", *maps_apart, None, LIMITS, sizes)
    values |= pooled("dissociation_pivot", *maps_apart, row, LIMITS, sizes)
    values |= pooled("cka_middle_mean", cka, cka_left_out, confidence)
    by_language = with_bounds(
        "dissociation_by_language", apart[row], apart_left_out[:, row], confidence, LIMITS, sizes
    )
    score, shuffled = values["dissociation"], 1 - null
    p = (1 + (shuffled <= score + 1e-6).sum()) / (1 + len(shuffled))
    adjusted = maps["item_share_length_adjusted"].values[middle]
    return xr.Dataset(
        {
            **{name: (_dims(name), value) for name, value in values.items()},
            **{name: ("language", value + 0 * apart[row]) for name, value in by_language.items()},
            "item_share_middle": (PAIR, share),
            "cka_middle": (PAIR, cka),
            "dissociation_null": shuffled.mean(),
            "dissociation_null_low": np.quantile(shuffled, 1 - confidence),
            "dissociation_p": p if np.isfinite(score) else np.nan,
            "dissociation_length_adjusted": 1 - adjusted.mean(),
            "dissociation_reason": " | ".join(filter(None, maps["reason"].values[middle])),
        }
    )


def _dims(name: str) -> tuple[str, ...]:
    """Dimensions of a variable of POOLED or of what goes with it."""
    left_out = [what for what in ("cluster", "language") if name.endswith(f"_without_{what}")]
    return tuple(left_out)


def no_dissociation(maps: xr.Dataset) -> xr.Dataset:
    """The same variables for a model without a layer in the middle half: NaN, and why."""

    def missing(*dims: str) -> tuple[tuple[str, ...], np.ndarray]:
        return dims, np.full([maps.sizes[dim] for dim in dims], np.nan)

    names = [*POOLED, *(f"{name}_{end}" for name in POOLED for end in BOUNDS)]
    names += [f"dissociation_{end}" for end in ("null", "null_low", "p", "length_adjusted")]
    by_language = [f"dissociation_by_language{end}" for end in ("", "_low", "_high")]
    reason = {"dissociation_reason": "no layer in the middle half of relative depth"}
    return xr.Dataset(
        {name: missing(*_dims(name)) for name in names}
        | {name: missing("language") for name in by_language}
        | {name: missing(*PAIR) for name in ("item_share_middle", "cka_middle")}
        | reason
    )
