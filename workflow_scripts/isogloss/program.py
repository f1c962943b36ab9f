"""What every program shares: its errors, and how far it has come."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from isogloss.errors import InputError

Step = TypeVar("Step")


def run(main: Callable[[], None]) -> None:
    """Run a program: bad input ends in one line on standard error and exit code 1.

    With ISOGLOSS_TRACEBACK set in the environment, the traceback is shown too.
    """
    try:
        main()
    except InputError as error:
        if os.environ.get("ISOGLOSS_TRACEBACK"):
            raise
        sys.exit(f"error: {error}")
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def add_store(parser: argparse.ArgumentParser) -> None:
    """The options that say where artifacts lie: `--store` and `--sharing`."""
    parser.add_argument("--store", type=Path, required=True, help="folder of keyed artifacts")
    parser.add_argument(
        "--sharing",
        type=json.loads,
        default={"kind": "none", "publish": True},
        help="the configuration's `sharing` as JSON; not shared by default",
    )


def say(text: str) -> None:
    """One line for the log and the terminal."""
    print(text, file=sys.stderr, flush=True)


def progress(steps: Iterable[Step], label: str, unit: str = "it") -> Iterable[Step]:
    """The same steps behind a progress bar; in a log, one line at most every 30 seconds."""
    bar = sys.stderr.isatty()
    return tqdm(
        steps, desc=label, unit=unit, dynamic_ncols=bar, leave=not bar,
        mininterval=0.5 if bar else 30.0, file=sys.stderr if bar else _Lines(),
    )  # fmt: skip


class _Lines:
    """Standard error for tqdm where it is a log: whole lines in place of carriage returns."""

    def write(self, text: str) -> None:
        if line := text.strip("\r\n \x1b[A"):
            print(line, file=sys.stderr, flush=True)

    def flush(self) -> None:
        sys.stderr.flush()
