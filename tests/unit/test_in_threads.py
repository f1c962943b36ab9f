"""Parts side by side: the results in order, each of one thread's products."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from isogloss.measures.in_threads import in_threads, n_threads


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_results_are_those_of_a_loop_in_its_order(threads):
    states = np.random.default_rng(0).normal(size=(20, 70, 300)).astype(np.float32)
    with threadpool_limits(threads, "blas"):
        made = np.array(list(in_threads(lambda part: part @ part.T, states)))
        assert n_threads() == threads
    with threadpool_limits(1, "blas"):
        np.testing.assert_array_equal(made, [part @ part.T for part in states])


def test_products_of_a_part_take_one_thread():
    with threadpool_limits(2, "blas"):
        assert list(in_threads(lambda _: n_threads(), range(4))) == [1] * 4


def test_parts_are_read_as_their_results_are():
    read = []
    with threadpool_limits(2, "blas"):
        results = in_threads(abs, (read.append(n) or n for n in range(50)))
        assert next(results) == 0 and len(read) <= 3
        assert list(results) == list(range(1, 50))


def test_what_a_part_raises_is_raised():
    with threadpool_limits(2, "blas"), pytest.raises(ZeroDivisionError):
        list(in_threads(lambda n: 1 / n, [1, 0, 2]))
