"""What another tool or an independent implementation gives beside ours, and how it is written."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

TITLES = {
    "choices": "Log-likelihoods of choices [nat]",
    "states": "States of the residual stream, relative to their norm",
    "lens": "Logit lens [nat]",
    "steered": "Steered scores [nat]",
    "statistics": "Measures and statistics",
}


@dataclass(frozen=True)
class Agreement:
    """A number of ours beside theirs.

    Attributes:
        part: of TITLES.
        what: was compared.
        against: by what it was computed again.
        n: values compared; 0 where nothing could be.
        difference: the largest one.
        bound: that it may not exceed; None where the line only informs.
        note: what a reader has to know.
    """

    part: str
    what: str
    against: str
    n: int
    difference: float
    bound: float | None
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether something was compared and lies within the bound."""
        return self.n > 0 and (self.bound is None or self.difference <= self.bound)


def compared(
    part: str, what: str, against: str, ours: Any, theirs: Any, bound: float | None, note: str = ""
) -> Agreement:
    """The largest difference of two arrays; infinite where one has a number and the other none."""
    first, second = (np.asarray(values, dtype=float) for values in (ours, theirs))
    if first.shape != second.shape:
        raise ValueError(f"{what}: shapes {first.shape} and {second.shape}: not the same")
    known = np.isfinite(first)
    if not np.array_equal(known, np.isfinite(second)):
        return Agreement(part, what, against, int(first.size), float("inf"), bound, note)
    n = int(known.sum())
    difference = float(np.abs(first - second)[known].max()) if n else float("nan")
    return Agreement(part, what, against, n, difference, bound, note)


def not_compared(part: str, against: str, error: Exception) -> Agreement:
    """The line for a tool that is not there or does not run."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return Agreement(part, "nothing", against, 0, float("nan"), None, f"not compared: {reason}")


def guarded(
    part: str, against: str, compare: Callable[[], Iterable[Agreement]]
) -> Iterator[Agreement]:
    """Agreements of one tool; one line instead where it cannot be imported."""
    try:
        yield from compare()
    except ImportError as error:
        yield not_compared(part, against, error)


def markdown(rows: Sequence[Agreement], conditions: dict[str, str]) -> str:
    """A table a part, what is beyond its bound named first."""
    beyond = [row for row in rows if not row.holds]
    lines = [
        "Made by `make verify`. " + "; ".join(f"{k}: {v}" for k, v in conditions.items()) + "."
    ]
    if beyond:
        failed = "\n".join(f"- {r.what}, {r.against}: {_shown(r)}" for r in beyond)
        lines.append(f"Beyond their bound, or not compared:\n\n{failed}")
    else:
        lines.append(f"All {sum(r.bound is not None for r in rows)} comparisons are within bounds.")
    for part, title in TITLES.items():
        of_part = [row for row in rows if row.part == part]
        if not of_part:
            continue
        lines.append(f"### {title}")
        table = ["| what | beside | values | largest difference | bound |"]
        table.append("| --- | --- | --- | --- | --- |")
        for row in of_part:
            bound = "–" if row.bound is None else f"{row.bound:g}"
            table.append(f"| {row.what} | {row.against} | {row.n} | {_difference(row)} | {bound} |")
        lines.append("\n".join(table))
        notes = dict.fromkeys(row.note for row in of_part if row.note)
        if notes:
            lines.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(lines) + "\n"


def _difference(row: Agreement) -> str:
    return f"{row.difference:.1e}" if row.n else "–"


def _shown(row: Agreement) -> str:
    if not row.n:
        return row.note or "nothing to compare"
    return f"{row.difference:.2g}, {row.bound:g} is allowed"
