"""Ways of doing one job, timed in turns, each in a process of its own: medians and ratios."""

import gc
import multiprocessing
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from isogloss.errors import InputError
from isogloss.program import progress

Job = Callable[..., Any]
"""What is timed. It gives back what it found, so that results can be compared."""

PAUSE_SECONDS = 0.3
"""Between two runs: the threads of the one that ended spin for a moment before they sleep."""


@dataclass(frozen=True)
class Run:
    """One call of a job.

    Attributes:
        seconds: it took.
        peak: largest resident memory of its process meanwhile [byte].
        above: of that, what was not resident before its first call [byte].
        value: what it gave back.
    """

    seconds: float
    peak: int
    above: int
    value: Any


class Worker:
    """A tool in a process of its own, ready to run.

    Args:
        name: of the tool.
        prepare: called in that process; loads what the tool needs and gives back its job.
        options: its arguments.

    Raises:
        RuntimeError: what went wrong in the process, with its traceback.
    """

    def __init__(self, name: str, prepare: Callable[..., Job], **options: Any) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, prepare, options), daemon=True)
        self._process.start()
        theirs.close()
        self._receive()

    def run(self, **arguments: Any) -> Run:
        """Call the job once."""
        self._connection.send(arguments)
        return self._receive()

    def _receive(self) -> Any:
        try:
            kind, value = self._connection.recv()
        except EOFError as error:
            self._process.join()
            code = self._process.exitcode
            raise RuntimeError(f"{self.name}: its process ended with exit code {code}") from error
        if kind == "failed":
            raise RuntimeError(f"{self.name}:\n{value}")
        return value

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.terminate()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def _serve(connection: Connection, prepare: Callable[..., Job], options: dict[str, Any]) -> None:
    try:
        job = prepare(**options)
        gc.collect()
        before = resident("VmRSS")
        connection.send(("ready", None))
        while True:
            arguments = connection.recv()
            gc.collect()
            reset_peak()
            began = time.perf_counter()
            value = job(**arguments)
            seconds = time.perf_counter() - began
            peak = resident("VmHWM")
            connection.send(("done", Run(seconds, peak, peak - before, value)))
    except EOFError:
        return
    except Exception:
        connection.send(("failed", traceback.format_exc()))


def resident(field: str) -> int:
    """A field of this process's memory [byte]: VmRSS is what is resident now, VmHWM its peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise InputError(f"/proc/self/status has no {field}: the benchmarks need Linux")


def reset_peak() -> None:
    """Let the peak of resident memory begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def alternate(
    calls: Mapping[str, Callable[[], Run]], repetitions: int, label: str
) -> dict[str, list[Run]]:
    """Run some tools in turns, after each has run once to warm up.

    Every second turn goes the other way round, so that none is always the first.
    """
    runs: dict[str, list[Run]] = {name: [] for name in calls}
    for turn in progress(range(repetitions + 1), label, "turn"):
        order = list(calls) if turn % 2 else list(reversed(calls))
        for name in order:
            result = calls[name]()
            if turn:
                runs[name].append(result)
            time.sleep(PAUSE_SECONDS)
    return runs


@dataclass(frozen=True)
class Ratio:
    """A ratio of medians, and the smallest and largest ratio of one turn."""

    value: float
    low: float
    high: float


def ratio(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """The ratio of two tools' medians, with the spread of the ratios turn by turn.

    >>> ratio([4.0, 6.0, 5.0], [1.0, 2.0, 2.0])
    Ratio(value=2.5, low=2.5, high=4.0)
    """
    if len(above) != len(below) or not above:
        raise ValueError(f"turns of two tools: {len(above)} and {len(below)}")
    each = [a / b for a, b in zip(above, below, strict=True)]
    return Ratio(statistics.median(above) / statistics.median(below), min(each), max(each))


def seconds(runs: Sequence[Run]) -> list[float]:
    """Time of each run [s]."""
    return [run.seconds for run in runs]


def check_equal(ours: Any, expected: Any, tolerance: float, what: str) -> float:
    """Refuse to compare the speed of two tools that do not compute the same.

    Returns:
        The largest absolute difference.

    Raises:
        InputError: it is more than the tolerance, or there is nothing to compare.
    """
    first, other = np.asarray(ours, dtype=float), np.asarray(expected, dtype=float)
    if first.shape != other.shape or first.size == 0:
        raise InputError(f"{what}: results of shapes {first.shape} and {other.shape}: not the same")
    difference = float(np.abs(first - other).max())
    if not difference <= tolerance:
        raise InputError(
            f"{what}: results differ by {difference:.2g}, {tolerance:.2g} is allowed: "
            "the tools do not compute the same, so their times say nothing"
        )
    return difference


def tell(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)
