"""The table of docs/models.md: `make models-table`."""

import sys
import tempfile
from pathlib import Path

import torch
import transformers
from architectures.check import check
from architectures.families import FAMILIES

from isogloss.errors import InputError, one_line

TYPES = (torch.float32, torch.bfloat16)


def row(family: str) -> str:
    """One line of Markdown: paths taken in both types, why, and the largest differences."""
    taken, differences, why = [], [], ""
    for dtype in TYPES:
        with tempfile.TemporaryDirectory() as folder:
            try:
                outcome = check(family, dtype, Path(folder))
            except InputError as error:
                taken.append("refused")
                differences.append("")
                why = one_line(error)
                continue
        taken.append(outcome.path["taken"])
        off = [f"{part.max():.0e}".replace("e-0", "e-") for part in outcome.differences]
        differences.append(", ".join(off))
        why = why or outcome.path["reason"] * ("plain" in taken[-1])
    return "| " + " | ".join([family, *taken, *differences, why]) + " |"


def main() -> None:
    transformers.logging.set_verbosity_error()
    print("| | float32 | bfloat16 | off, float32 | off, bfloat16 | why |\n" + "|---" * 6 + "|")
    for family in sys.argv[1:] or FAMILIES:
        print(row(family), flush=True)


if __name__ == "__main__":
    main()
