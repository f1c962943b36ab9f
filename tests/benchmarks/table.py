"""What the benchmarks found: rows, as JSON and as a Markdown table."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from isogloss.files.atomic import whole_file


@dataclass(frozen=True)
class Row:
    """One number beside the bar that it has to reach.

    Attributes:
        what: is measured, on what.
        against: whom; '' where there is nobody.
        ours, theirs: the two quantities behind the value, as text with units.
        value: a ratio, or a quantity by itself.
        low, high: the spread of the value over the turns; None where there are none.
        bar: that the value has to reach; None for what is only reported.
        at_least: whether the value must be at least the bar, or else at most.
        unit: of the value: "x" for a ratio.
        note: what else a reader must know.
    """

    what: str
    against: str
    ours: str
    theirs: str
    value: float
    low: float | None = None
    high: float | None = None
    bar: float | None = None
    at_least: bool = True
    unit: str = "x"
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the bar is reached; None where there is none."""
        if self.bar is None:
            return None
        return self.value >= self.bar if self.at_least else self.value <= self.bar


def write(
    folder: Path, comparison: str, rows: Sequence[Row], conditions: Mapping[str, Any]
) -> dict[str, Any]:
    """Put one comparison's rows into the folder's files, in place of its earlier ones.

    Args:
        folder: of `benchmark.json` and `benchmark.md`.
        comparison: its name.
        rows: what it found.
        conditions: machine, settings, time.

    Returns:
        Everything that the files now hold.
    """
    file = folder / "benchmark.json"
    whole: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    made = [asdict(row) | {"reached": row.reached} for row in rows]
    whole[comparison] = dict(conditions) | {"rows": made}
    for path, text in (
        (file, json.dumps(whole, indent=1, sort_keys=True) + "\n"),
        (folder / "benchmark.md", markdown(whole)),
    ):
        with whole_file(path) as temporary:
            temporary.write_text(text)
    return whole


def markdown(whole: Mapping[str, Any]) -> str:
    """The table of everything found, and the machines and settings that it was found on.

    Args:
        whole: by comparison: `machine`, `settings`, `finished` and `rows` (`Row` as a mapping).
    """
    lines = [
        "| what | against | ours | theirs | value (spread) | bar | reached |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    notes: list[str] = []
    for measured in whole.values():
        for row in measured["rows"]:
            mark = ""
            if row["note"]:
                if row["note"] not in notes:
                    notes.append(row["note"])
                mark = f" [{notes.index(row['note']) + 1}]"
            cells = (row["what"] + mark, row["against"], row["ours"], row["theirs"])
            lines.append(f"| {' | '.join((*cells, *_judged(row)))} |")
    lines += [""] + [f"{i}. {note}" for i, note in enumerate(notes, 1)]
    by_machine: dict[str, list[str]] = {}
    for name, measured in whole.items():
        by_machine.setdefault(_described(measured), []).append(name)
    for described, names in by_machine.items():
        lines += ["", f"{', '.join(names)}: {described}"]
    return "\n".join(lines) + "\n"


def _judged(row: Mapping[str, Any]) -> tuple[str, str, str]:
    spread = ""
    if row["low"] is not None:
        spread = f" ({shown(row['low'])} to {shown(row['high'])})"
    if row["bar"] is None:
        return f"{shown(row['value'])} {row['unit']}{spread}", "", ""
    sign = ">=" if row["at_least"] else "<="
    bar = f"{sign} {shown(row['bar'])} {row['unit']}"
    return (
        f"{shown(row['value'])} {row['unit']}{spread}",
        bar,
        "yes" if row["reached"] else "**no**",
    )


def _described(versions: Mapping[str, Any]) -> str:
    machine, settings = versions["machine"], dict(versions["settings"])
    settings.pop("load before", None)
    parts = [f"{name} {value}" for name, value in (machine | settings).items()]
    return "; ".join(parts) + "."


def shown(number: float) -> str:
    """A number with three digits that count.

    >>> shown(1234.5), shown(7.846), shown(0.0421)
    ('1234', '7.85', '0.0421')
    """
    return f"{number:.0f}" if abs(number) >= 1000 else f"{number:.3g}"
