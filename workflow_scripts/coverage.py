"""Coverage of intervals and level of tests in simulated worlds, as tables in a document."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isogloss.files.atomic import whole_file
from isogloss.program import run

BEGIN, END = "<!-- coverage: begin -->", "<!-- coverage: end -->"
CLUSTERS = {
    "none": "none",
    "everyday": "as in `everyday`",
    "threes": "threes",
}


def main() -> None:
    root = Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=1000, help="worlds per setting")
    parser.add_argument("--items", type=int, nargs="+", default=[60, 120, 240])
    parser.add_argument("--clusters", nargs="+", choices=CLUSTERS, default=list(CLUSTERS))
    parser.add_argument("--only", nargs="+", default=[], help="experiments, all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--document", type=Path, default=root / "docs/verification.md")
    args = parser.parse_args()

    sys.path.append(str(root / "tests"))  # worlds are shared with the tests
    import simulated_coverage as simulated

    settings = [simulated.Setting(n, how) for how in args.clusters for n in args.items]
    results = []
    for result in simulated.run(settings, args.worlds, args.seed, args.only):
        results.append(result)
        print(f"{result.experiment}, {result.setting}", file=sys.stderr)
    text = tables(results, settings, args.worlds, simulated.ALPHAS, simulated.WANTED)
    with whole_file(args.document) as temporary:
        temporary.write_text(between_markers(args.document, text), encoding="utf-8")


def between_markers(document: Path, text: str) -> str:
    """The document with the text between its markers, which are added where they are missing."""
    old = document.read_text(encoding="utf-8") if document.exists() else "# Verification\n"
    if BEGIN not in old:
        old = f"{old.rstrip()}\n\n## Coverage of intervals, level of tests\n\n{BEGIN}\n{END}\n"
    before, rest = old.split(BEGIN)
    return f"{before}{BEGIN}\n\n{text}\n{END}{rest.split(END)[1]}"


def tables(
    results: Sequence[Any],
    settings: Sequence[Any],
    n_worlds: int,
    alphas: Sequence[float],
    wanted: float,
) -> str:
    """Both tables as Markdown, what falls short named beneath."""
    error = (wanted * (1 - wanted) / n_worlds) ** 0.5
    head = [f"{s.n_items}, {CLUSTERS[s.how]}" for s in settings]
    covered: dict[str, dict[Any, float]] = {}
    rejected: dict[str, dict[Any, list[float]]] = {}
    for result in results:
        for name, share in result.coverage.items():
            covered.setdefault(name, {})[result.setting] = share
        for name, shares in result.rejections.items():
            rejected.setdefault(name, {})[result.setting] = shares
    short = [
        f"- {name}: {share:.3f} at {s.n_items} items, clusters {CLUSTERS[s.how]}"
        for name, row in covered.items()
        for s, share in row.items()
        if share < wanted
    ]
    above = [
        f"- {name}: {share:.3f} at {alpha:g}, {s.n_items} items, clusters {CLUSTERS[s.how]}"
        for name, row in rejected.items()
        for s, shares in row.items()
        for alpha, share in zip(alphas, shares, strict=True)
        if share > alpha + 2 * (alpha * (1 - alpha) / n_worlds) ** 0.5
    ]
    levels = " / ".join(f"{alpha:g}" for alpha in alphas)
    parts = [
        f"Made by `python workflow_scripts/coverage.py`: {n_worlds} worlds per column, whose "
        "simulation `tests/simulated_coverage.py` describes. Columns: items, and how they "
        f"cluster. A share has a Monte Carlo error of {error:.3f} at most where a quantity has "
        "one value per world, less where it has several, over which the share is a mean.",
        "Share of 95% intervals that hold the truth:",
        _table(["quantity", *head], covered, settings, lambda share: f"{share:.3f}"),
        _listed(f"Below {wanted:.0%}", short),
        f"Share of tests with p at most {levels} where nothing is there:",
        _table(
            ["test", *head],
            rejected,
            settings,
            lambda shares: " / ".join(f"{share:.3f}" for share in shares),
        ),
        _listed("Above the level by more than two Monte Carlo errors", above),
    ]
    return "\n\n".join(parts) + "\n"


def _listed(title: str, lines: Sequence[str]) -> str:
    return f"{title}:\n\n" + "\n".join(lines) if lines else f"{title}: none."


def _table(
    header: Sequence[str], rows: dict[str, dict[Any, Any]], settings: Sequence[Any], written: Any
) -> str:
    lines = [list(header), ["---"] * len(header)]
    for name, row in rows.items():
        lines.append([name, *(written(row[s]) if s in row else "–" for s in settings)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    run(main)
