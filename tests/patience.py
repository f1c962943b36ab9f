"""How long tests wait for what should come: a guard against what hangs, and nothing else.

No result of a test may depend on how busy the machine is, so this is far beyond what anything
takes. Tests wait for a condition (`until`) rather than for seconds.
"""

import time
from collections.abc import Callable

PATIENCE = 1800.0
"""Seconds."""


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: it did not come.
    """
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {PATIENCE:.0f} s in vain for {what}")
        time.sleep(0.01)
