"""Coverage of intervals and level of tests in simulated worlds, as tables in a document."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from isogloss.errors import InputError
from isogloss.files.atomic import whole_file
from isogloss.program import run

BEGIN, END = "<!-- coverage: begin -->", "<!-- coverage: end -->"
TITLE = "Coverage of intervals, level of tests"
CLUSTERS = {
    "none": "none",
    "everyday": "as in `everyday`",
    "threes": "threes",
}


def main() -> None:
    root = Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--worlds", type=int, default=1000, help="worlds per setting; fewer where they take long"
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
    known = read_results(args.results, args.seed, simulated) if args.results else []
    results = []
    with ProcessPoolExecutor(args.jobs) as pool:
        for result in simulated.run(
            settings, args.worlds, args.seed, args.only, mapped=pool.map, known=known
        ):
            results.append(result)
            print(f"{result.experiment}, {result.setting}", file=sys.stderr, flush=True)
            if args.results and result not in known:
                with args.results.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps({"seed": args.seed, **asdict(result)}) + "\n")
    results.sort(key=lambda result: list(simulated.EXPERIMENTS).index(result.experiment))
    text = tables(results, settings, simulated.ALPHAS, simulated.WANTED)
    with whole_file(args.document) as temporary:
        temporary.write_text(between_markers(args.document, text), encoding="utf-8")


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


def tables(
    results: Sequence[Any], settings: Sequence[Any], alphas: Sequence[float], wanted: float
) -> str:
    """Both tables as Markdown, what falls short named beneath.

    Args: results as `simulated_coverage.run` gives them; settings are the columns in their order.
    """
    short = [
        f"- {name}: {share:.3f} {place(result)}, {errors_below(share, wanted, result.n_worlds)}"
        for result in results
        for name, share in result.coverage.items()
        if share < wanted
    ]
    above = [
        f"- {name}: {share:.3f} at {alpha:g} {place(result)}"
        for result in results
        for name, shares in result.rejections.items()
        for alpha, share in zip(alphas, shares, strict=True)
        if share > alpha + 2 * monte_carlo_error(alpha, result.n_worlds)
    ]
    levels = " / ".join(f"{alpha:g}" for alpha in alphas)
    errors = ", ".join(
        f"{monte_carlo_error(0.95, n):.3f} with {n} worlds"
        for n in sorted({result.n_worlds for result in results}, reverse=True)
    )
    parts = [
        "Made by `python workflow_scripts/coverage.py`; `tests/simulated_coverage.py` says how the "
        "worlds are made. Columns: items, and how they cluster. The Monte Carlo error of a "
        f"coverage of 0.95 is {errors}, where a world gives one value; it is smaller where it is "
        "a mean over several (languages, pairs, layers). A dash: not computed.",
        "Share of 95% intervals that hold the truth:",
        table("quantity", results, settings, "coverage", "{:.3f}".format),
        listed(f"Below {wanted:.0%}", short),
        f"Share of tests with p at most {levels} where nothing is there:",
        table("test", results, settings, "rejections", three),
        listed("Above the level by more than two Monte Carlo errors", above),
    ]
    return "\n\n".join(parts) + "\n"


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
