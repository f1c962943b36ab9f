"""Calls on a second thread, one after the other, a bounded number of them waiting."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any


class Background:
    """Makes calls while its block goes on; leaving the block waits for all of them.

    What a call raises is raised by the next `call`, or at the end of the block. Where the block
    itself fails, or is stopped, the calls are finished too, and what it raises goes first. A signal
    that interrupts the waiting leaves them to the end of the program.

    Args:
        waiting: calls that may be under way; one more waits until the first of them is done.

    >>> said = []
    >>> with Background(waiting=2) as background:
    ...     for word in ("one", "two", "three"):
    ...         background.call(said.append, word)
    >>> said
    ['one', 'two', 'three']
    """

    def __init__(self, waiting: int) -> None:
        self._waiting = waiting
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._calls: deque[Future] = deque()

    def call(self, function: Callable, *arguments: Any) -> None:
        """Make a call on the thread, as soon as there is room for it."""
        while self._calls and (self._calls[0].done() or len(self._calls) >= self._waiting):
            self._first_done()
        self._calls.append(self._thread.submit(function, *arguments))

    def _first_done(self) -> None:
        self._calls[0].result()
        self._calls.popleft()  # not before: a signal may interrupt the waiting

    def __enter__(self) -> "Background":
        return self

    def __exit__(self, kind: type | None, *_: Any) -> None:
        try:
            while kind is None and self._calls:
                self._first_done()
        finally:
            self._thread.shutdown(wait=False)
            wait(self._calls)  # joining the thread, once interrupted, takes it for ended
