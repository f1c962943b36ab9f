"""The last words of a run on the terminal: what came of the paper's claims, and where to look."""

from pathlib import Path

from isogloss.files.netcdf import open_netcdf
from isogloss.measures.verdicts import CONTRADICTED, SUPPORTED, UNDECIDED

WIDTH = 96


def closing_box(results: Path, report: Path) -> str:
    """Three lines of verdicts, then where the report, the table and the figures are.

    Args:
        results: folder of a finished study.
        report: its page; left out where there is none.
    """
    verdicts = open_netcdf(results / "verdicts.nc")
    rows = [(v, f"{s} ({m})") for v, s, m in zip(
        *(verdicts[name].values.tolist() for name in ("verdict", "statement", "subject")),
        strict=True,
    )]  # fmt: skip
    lines = []
    for verdict in (SUPPORTED, CONTRADICTED, UNDECIDED):
        claims = [claim for of_row, claim in rows if of_row == verdict]
        named = "" if verdict == UNDECIDED else "; ".join(claims)
        lines.append(_cut(f"{verdict:<13}{len(claims):>3} of {len(rows)}  {named}".rstrip()))
    places = [
        ("report", report), ("table", results / "summary.md"), ("figures", results / "*/*/figures")
    ]  # fmt: skip
    lines += [
        "",
        *(f"{name:<13}{path}" for name, path in places if name != "report" or path.exists()),
    ]
    rule = "─" * WIDTH
    return "\n".join([rule, "The paper's claims, put to these models:", *lines, rule])


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"
