"""Independent parts of a measure side by side, on the threads that NumPy's products have."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import ThreadpoolController, threadpool_limits

Part = TypeVar("Part")
Result = TypeVar("Result")


def n_threads() -> int:
    """Threads of NumPy's linear algebra, which OMP_NUM_THREADS sets: 1 where it has none."""
    known = ThreadpoolController().select(user_api="blas").info()
    return max((library["num_threads"] for library in known), default=1)


def in_threads(function: Callable[[Part], Result], parts: Iterable[Part]) -> Iterator[Result]:
    """What a function gives for each part, in their order.

    Each part's products take one thread, so the results have the same bits however many there are.
    At most one part more than there are threads is ahead of what is read.

    >>> list(in_threads(abs, [-1, 2]))
    [1, 2]
    """
    threads = n_threads()
    if threads == 1:
        yield from map(function, parts)
        return
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        started: deque[Future[Result]] = deque()
        for part in parts:
            started.append(pool.submit(function, part))
            if len(started) > threads:
                yield started.popleft().result()
        while started:
            yield started.popleft().result()
