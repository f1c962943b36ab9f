"""What every program shares: its errors, and how far it has come."""

import argparse
import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from isogloss.errors import InputError

Step = TypeVar("Step")
AGAIN_SECONDS = 2.0
# Allocations between two collections; at Python's 700 a sixth of importing transformers is that.
COLLECT_AFTER = 100_000


def run(main: Callable[[], None]) -> None:
    """Run a program: bad input ends in one line on standard error and exit code 1.

    With ISOGLOSS_TRACEBACK set in the environment, the traceback is shown too. Ctrl-C and SIGTERM
    end it in one line too, with 128 and the signal's number as its exit code.
    """
    gc.set_threshold(COLLECT_AFTER)
    try:
        with orderly_stop():
            main()
    except InputError as error:
        if os.environ.get("ISOGLOSS_TRACEBACK"):
            raise
        sys.exit(f"error: {error}")
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


class Stopped(BaseException):
    """A signal asked the program to end."""


@contextmanager
def orderly_stop() -> Iterator[None]:
    """Leave the block on SIGINT and SIGTERM as on an exception, so that it cleans up, and exit.

    By default SIGTERM, which schedulers send, ends a process where it stands.
    """

    asked: list[int] = []

    def stop(number: int, _: Any) -> None:
        asked.append(number)
        # Python drops an exception in a callback of HDF5: then the next one ends the program.
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
        raise Stopped

    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = {number: signal.signal(number, stop) for number in handled}
    try:
        with suppress(Stopped):
            yield
        if asked:  # nothing is left to do but to exit
            before = dict.fromkeys(before, signal.SIG_IGN)
            name = signal.Signals(asked[0]).name
            with suppress(BrokenPipeError):  # Ctrl-C ends the `tee` behind standard error too
                say(f"stopped by {name}: run again to go on with what is finished")
            sys.exit(128 + asked[0])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """The option `--spec`, in `args.settings`: what a rule gets of the study.

    It keeps this name because Snakemake compares commands with those that it recorded: another
    would plan every job that costs a model again.
    """
    parser.add_argument(
        "--spec", dest="settings", metavar="JSON", type=json.loads, required=True,
        help="settings as JSON",
    )  # fmt: skip


def analysis_parser(about: str | None) -> argparse.ArgumentParser:
    """Options of a program that writes a netCDF: the settings and `--output`."""
    parser = argparse.ArgumentParser(description=about)
    add_settings(parser)
    parser.add_argument("--output", type=Path, required=True, help="netCDF to write")
    return parser


def artifact_parser(about: str | None) -> argparse.ArgumentParser:
    """Options of a program that writes artifacts: the settings, `--store` and `--sharing`."""
    parser = argparse.ArgumentParser(description=about)
    add_settings(parser)
    parser.add_argument("--store", type=Path, required=True, help="folder of keyed artifacts")
    parser.add_argument(
        "--sharing",
        type=json.loads,
        default={"kind": "none", "publish": True},
        help="the configuration's `sharing` as JSON; not shared by default",
    )
    return parser


def say(text: str) -> None:
    """One line for the log and the terminal."""
    print(text, file=sys.stderr, flush=True)


SILENT = 60.0
"""A job that takes less says nothing of its progress in a log [s]."""

THIRDS = 3
STARTED = time.monotonic()
_outermost: list[str] = []
"""What shows progress in a log: the loop that no other one is around."""


def progress(steps: Collection[Step], label: str, unit: str = "step") -> Iterable[Step]:
    """The same steps behind a progress bar; in a log, a line at each third of a long job.

    In a log, loops inside the steps of another are silent: how many lines a job has depends
    neither on its languages nor on the speed of the machine.

    Args:
        steps: with a length.
        label: what is done, and to what.
        unit: what a step is, in the singular.
    """
    if not len(steps):
        return steps
    if sys.stderr.isatty():
        return tqdm(steps, desc=label, unit=unit, dynamic_ncols=True, leave=False, mininterval=0.5)
    return _thirds(steps, label, unit)


def _thirds(steps: Collection[Step], label: str, unit: str) -> Iterator[Step]:
    if _outermost or len(steps) == 1:
        yield from steps
        return
    _outermost.append(label)
    try:
        for done, step in enumerate(steps, start=1):
            yield step
            seconds = time.monotonic() - STARTED
            passed = THIRDS * done // len(steps) > THIRDS * (done - 1) // len(steps)
            if passed and done < len(steps) and seconds >= SILENT:
                now, took = time.strftime("%H:%M:%S"), timedelta(seconds=round(seconds))
                say(f"{now}  ...    {label}: {done} of {len(steps)} {unit}s after {took}")
    finally:
        _outermost.pop()
