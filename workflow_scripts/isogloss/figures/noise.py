"""Wordings in the summary: how much of inconsistency is noise, and what averaging mends."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import xarray as xr

from isogloss.figures.text import as_markdown, between, markdown_table, percent, points
from isogloss.files.netcdf import confidence_of
from isogloss.measures.statistics import detectable
from isogloss.questions.languages import language_name

NOTE = (
    "Wordings of the questions: {wordings}. Two languages agree no better than each with itself "
    "under another wording: *of it noise* is the share of disagreement (1 − rho) between languages "
    "that is there within a language too, *corrected* is their consistency without it (Spearman's "
    "correction; 1: they differ by noise alone). Means over all pairs; intervals over clusters of "
    "items, for these wordings; *over languages too*, for other languages like these. A preference "
    "for certain choices, whatever is asked, agrees with itself and is no noise here."
)
HEADER = (
    "model", "dataset", "consistency", "with itself", "of it noise [%]", "over languages too [%]",
    "corrected", "item share: between / within a language", "of dissociation noise [%]",
)  # fmt: skip


class Worded(Protocol):
    """A result of `isogloss.figures.summary` whose questions may have several wordings."""

    @property
    def model(self) -> str: ...
    @property
    def dataset(self) -> str: ...
    @property
    def variants(self) -> xr.Dataset | None: ...


def noise_table(results: Sequence[Worded]) -> str:
    """How much of inconsistency is noise: a row per model and dataset, and what it means."""
    rows, lines = [], []
    for result in results:
        if (variants := result.variants) is None:
            continue
        pairs = variants.sel(scope="all_pairs")
        crossed = [float(pairs[f"mean_noise_share_crossed_{end}"]) for end in ("low", "high")]
        over = f"[{', '.join(percent(e, unit='') for e in crossed)}]"
        rows.append(
            [
                result.model,
                result.dataset,
                between(pairs, "mean_consistency_across_wordings"),
                between(variants, "mean_self_consistency"),
                between(pairs, "mean_noise_share", _share),
                over if np.isfinite(crossed).all() else "–",
                between(pairs, "mean_consistency_corrected"),
                f"{between(variants, 'item_share_across_middle')} / "
                f"{between(variants, 'item_share_self_middle')}",
                between(variants, "dissociation_noise_share", _share),
            ]
        )
        lines += _uncorrected(result, variants)
    names = dict.fromkeys(
        ", ".join(map(str, r.variants["variant"].values)) for r in results if r.variants is not None
    )
    note = NOTE.format(wordings=as_markdown("; ".join(names)))
    return "\n\n".join([note, markdown_table(HEADER, rows), *lines])


def _share(value: float | xr.DataArray) -> str:
    return percent(value, unit="")


def _uncorrected(result: Worded, variants: xr.Dataset) -> list[str]:
    """Which languages do not agree with themselves beyond doubt."""
    usable = variants["correctable"].astype(bool)
    names = [language_name(str(tag)) for tag in variants["language"].values[~usable.values]]
    if not names:
        return []
    return [
        f"{result.model}, {result.dataset}: no corrected consistency in {', '.join(names)}, where "
        "the model does not agree with itself beyond doubt."
    ]


def averaging_line(variants: xr.Dataset) -> str:
    """What the mean of the wordings' scores does to accuracy and to consistency with the pivot."""
    pairs, pivot = variants.sel(scope="pivot_pairs"), language_name(str(variants.attrs["pivot"]))
    n, level = variants.sizes["variant"], confidence_of(variants)
    gain = f"{between(variants, 'mean_accuracy_gain', points)} points"
    low, high = (float(variants[f"mean_accuracy_gain_{end}"]) for end in ("low", "high"))
    if low <= 0 <= high:
        least = 100 * float(detectable(low, high, level))
        gain += f" (not significant; {least:.1f} points would have been detected with 80% power)"
    return (
        f"the mean of {n} wordings' scores, at {n} times the cost, changes accuracy by {gain} and "
        f"consistency with {pivot} by {between(pairs, 'mean_consistency_gain')} against single "
        f"wordings. The best wording, chosen on other items, is right "
        f"{between(variants, 'mean_accuracy_range', points)} points more often than the worst."
    )
