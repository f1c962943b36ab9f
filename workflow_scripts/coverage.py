"""Coverage of intervals and level of tests in simulated worlds, as tables in a document."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from isogloss.errors import InputError
from isogloss.files.atomic import whole_file
from isogloss.program import run

BEGIN, END = "<!-- coverage: begin -->", "<!-- coverage: end -->"
TITLE = "Coverage of intervals, level of tests"
CLUSTERS = {"none": "none", "everyday": "as in `everyday`", "threes": "threes"}


def main() -> None:
    root = Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--worlds", type=int, default=1000, help="worlds per setting; fewer where they take long"
    )
    parser.add_argument(
        "--again",
        type=int,
        default=1000,
        help="worlds of a second draw, with the next seed, where a first one falls short; 0: none",
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument(
        "--items", type=int, nargs="+", default=[60, 120, 240], help="items per world"
    )
    parser.add_argument(
        "--clusters", nargs="+", choices=CLUSTERS, default=list(CLUSTERS), help="how items cluster"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        help="experiments, all by default; the tables then hold these alone",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the worlds")
    parser.add_argument(
        "--document",
        type=Path,
        default=root / "docs/verification.md",
        help="where the tables stand",
    )
    parser.add_argument(
        "--results",
        type=Path,
        help="file (JSON lines) that each result is added to; what it holds is not drawn again, so "
        "a run that was stopped goes on",
    )
    args = parser.parse_args()

    sys.path.append(str(root / "tests"))  # worlds are shared with the tests
    import simulated_coverage as simulated

    if unknown := sorted(set(args.only) - simulated.EXPERIMENTS.keys()):
        known = ", ".join(simulated.EXPERIMENTS)
        raise InputError(f"--only {unknown[0]!r}: no such experiment: choose from {known}")
    settings = [simulated.Setting(n, how) for how in args.clusters for n in args.items]
    tasks = simulated.tasks(settings, args.worlds, args.only)
    with ProcessPoolExecutor(args.jobs) as pool:

        def draw(tasks: Sequence[Any], seed: int) -> list[Any]:
            known = read_results(args.results, seed, simulated) if args.results else []
            drawn = simulated.drawn(tasks, seed, mapped=pool.map, known=known)
            return list(kept(drawn, known, seed, args.results))

        first = draw(tasks, args.seed)
        short = [r for r in first if args.again and any(e.beyond for e in entries(r, simulated))]
        again = draw([(r.experiment, r.setting, args.again) for r in short], args.seed + 1)
    order = list(simulated.EXPERIMENTS)
    first.sort(key=lambda result: order.index(result.experiment))
    text = tables(first, again, settings, simulated)
    with whole_file(args.document) as temporary:
        temporary.write_text(between_markers(args.document, text), encoding="utf-8")


def kept(
    results: Iterable[Any], known: Sequence[Any], seed: int, path: Path | None
) -> Iterable[Any]:
    """The results as they come, those that are new added to a file."""
    for result in results:
        print(f"{result.experiment}, {result.setting}", file=sys.stderr, flush=True)
        if path and result not in known:
            with path.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({"seed": seed, **asdict(result)}) + "\n")
        yield result


def read_results(path: Path, seed: int, simulated: Any) -> list[Any]:
    """Results of one seed from a file that an earlier run added to; none where there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [
        simulated.Result(**row | {"setting": simulated.Setting(**row["setting"])})
        for row in map(json.loads, lines)
        if row.pop("seed") == seed
    ]


def between_markers(
    document: Path, text: str, title: str = TITLE, begin: str = BEGIN, end: str = END
) -> str:
    """The document with the text between its markers, which are added where they are missing."""
    old = document.read_text(encoding="utf-8") if document.exists() else "# Verification\n"
    if begin not in old:
        old = f"{old.rstrip()}\n\n## {title}\n\n{begin}\n{end}\n"
    before, rest = old.split(begin)
    return f"{before}{begin}\n\n{text}\n{end}{rest.split(end)[1]}"


@dataclass(frozen=True)
class Entry:
    """A share in the tables, beside what it is held to.

    Attributes:
        name: of the quantity or test.
        alpha: level of a test; None of a coverage.
        share: of intervals that hold the truth, or of p values at most alpha.
        beyond: whether it is lower than wanted, or above alpha by two Monte Carlo errors.
    """

    name: str
    alpha: float | None
    share: float
    beyond: bool


def entries(result: Any, simulated: Any) -> list[Entry]:
    """Every share of a result; `simulated` says what is wanted."""
    n_worlds, alphas = result.n_worlds, simulated.ALPHAS
    coverage = [
        Entry(name, None, share, share < simulated.WANTED)
        for name, share in result.coverage.items()
    ]
    return coverage + [
        Entry(name, alpha, share, share > alpha + 2 * monte_carlo_error(alpha, n_worlds))
        for name, shares in result.rejections.items()
        for alpha, share in zip(alphas, shares, strict=True)
    ]


def tables(
    first: Sequence[Any], again: Sequence[Any], settings: Sequence[Any], simulated: Any
) -> str:
    """Both tables as Markdown, what falls short named beneath.

    Args:
        first: results as `simulated_coverage.drawn` gives them.
        again: those of a second draw where the first fell short; they stand in its place.
        settings: the columns in their order.
    """
    second = {(result.experiment, result.setting): result for result in again}
    results = [second.get((result.experiment, result.setting), result) for result in first]
    levels = " / ".join(f"{alpha:g}" for alpha in simulated.ALPHAS)
    errors = ", ".join(
        f"{monte_carlo_error(0.95, n):.3f} with {n} worlds"
        for n in sorted({result.n_worlds for result in results}, reverse=True)
    )
    n_tests = sum(e.alpha is not None for result in first for e in entries(result, simulated))
    low, high = (beyond(first, second, simulated, of_tests) for of_tests in (False, True))
    wanted, above = f"{simulated.WANTED:.0%}", "the level by more than two Monte Carlo errors"
    parts = [
        "Made by `python workflow_scripts/coverage.py`; `tests/simulated_coverage.py` says how the "
        "worlds are made. Columns: items, and how they cluster. The Monte Carlo error of a "
        f"coverage of 0.95 is {errors}, where a world gives one value; it is smaller where it is "
        "a mean over several (languages, pairs, layers). A dash: not computed.",
        "Some of so many shares fall short by chance. So where one does, its worlds are drawn "
        "again, more of them and with another seed, and the second draw stands in the tables. What "
        "falls short in both is a fault.",
        "Share of 95% intervals that hold the truth:",
        table("quantity", results, settings, "coverage", "{:.3f}".format),
        listed(f"Below {wanted}{' in both draws' if again else ''}", low[0]),
        *([listed(f"Below {wanted} in the first draw alone", low[1])] if again else []),
        f"Share of tests with p at most {levels} where nothing is there:",
        table("test", results, settings, "rejections", three),
        listed(f"Above {above}{' in both draws' if again else ''}", high[0]),
        *([listed(f"Above {above} in the first draw alone", high[1])] if again else []),
        f"Of {n_tests} shares of tests at their level, chance alone puts about "
        f"{0.0228 * n_tests:.0f} above it by two errors in one draw.",
    ]
    return "\n\n".join(parts) + "\n"


def beyond(
    first: Sequence[Any], second: Mapping[Any, Any], simulated: Any, of_tests: bool
) -> tuple[list[str], list[str]]:
    """Lines on what falls short in every draw, and in the first of two alone.

    Args: first results, second ones by experiment and setting; of_tests or of intervals.
    """
    lines: tuple[list[str], list[str]] = [], []
    for result in first:
        other = second.get((result.experiment, result.setting))
        drawn = {(e.name, e.alpha): e for e in (entries(other, simulated) if other else ())}
        for entry in entries(result, simulated):
            if not entry.beyond or (entry.alpha is not None) != of_tests:
                continue
            at = f" at {entry.alpha:g}" if of_tests else ""
            line = f"- {entry.name}: {entry.share:.3f}{at} {place(result)}"
            if not of_tests:
                line += f", {errors_below(entry.share, simulated.WANTED, result.n_worlds)}"
            more = drawn.get((entry.name, entry.alpha))
            if more:
                line += f"; again {more.share:.3f} ({other.n_worlds} worlds)"
            lines[bool(more and not more.beyond)].append(line)
    return lines


def monte_carlo_error(share: float, n_worlds: int) -> float:
    """Standard error of a share of so many worlds."""
    return float((share * (1 - share) / n_worlds) ** 0.5)


def errors_below(share: float, wanted: float, n_worlds: int) -> str:
    """How far a coverage is below what is wanted, in its Monte Carlo errors."""
    errors = (wanted - share) / monte_carlo_error(wanted, n_worlds)
    return f"{errors:.1f} Monte Carlo errors below"


def place(result: Any) -> str:
    """Where a value stands in the table."""
    setting = result.setting
    how = CLUSTERS[setting.how]
    return f"({setting.n_items} items, clusters {how}, {result.n_worlds} worlds)"


def three(shares: Sequence[float]) -> str:
    return " / ".join(f"{share:.3f}" for share in shares)


def listed(title: str, lines: Sequence[str]) -> str:
    return f"{title}:\n\n" + "\n".join(lines) if lines else f"{title}: none."


def table(
    first: str,
    results: Sequence[Any],
    settings: Sequence[Any],
    values: str,
    written: Callable[[Any], str],
) -> str:
    """A Markdown table: a row per quantity, with its worlds; a column per setting."""
    rows: dict[str, dict[Any, str]] = {}
    worlds: dict[str, set[int]] = {}
    for result in results:
        for name, value in getattr(result, values).items():
            rows.setdefault(name, {})[result.setting] = written(value)
            worlds.setdefault(name, set()).add(result.n_worlds)
    header = [first, "worlds", *(f"{s.n_items}, {CLUSTERS[s.how]}" for s in settings)]
    lines = [header, ["---"] * len(header)]
    for name, row in rows.items():
        counts = " to ".join(str(n) for n in dict.fromkeys((min(worlds[name]), max(worlds[name]))))
        lines.append([name, counts, *(row.get(s, "–") for s in settings)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    run(main)
