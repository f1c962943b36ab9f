"""Calls on a second thread: in order, few at a time, and no failure goes unseen."""

import threading
import time

import pytest
from tests.patience import PATIENCE, until

from isogloss.extraction.background import Background


def test_calls_are_made_in_order_and_all_done_at_the_end():
    done = []

    def slowly(number):
        time.sleep(0.01)
        done.append((number, threading.current_thread() is threading.main_thread()))

    with Background(waiting=3) as background:
        for number in range(6):
            background.call(slowly, number)
    assert done == [(number, False) for number in range(6)]


def test_only_so_many_calls_are_under_way():
    begun, gate = [], threading.Event()
    answers = []

    def blocked(number):
        gate.wait(PATIENCE)

    def ask():
        with Background(waiting=2) as background:
            for number in range(4):
                background.call(blocked, number)
                begun.append(number)
        answers.append("done")

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: len(begun) >= 2, "two calls")
    time.sleep(0.1)  # a third one would have come
    assert begun == [0, 1]
    gate.set()
    asking.join(PATIENCE)
    assert answers == ["done"] and begun == [0, 1, 2, 3]


def fail():
    raise OSError("disk full")


def test_a_failure_is_raised_at_the_next_call():
    with pytest.raises(OSError, match="disk full"):
        with Background(waiting=2) as background:
            background.call(fail)
            until = time.monotonic() + PATIENCE
            while time.monotonic() < until:
                background.call(lambda: None)


def test_a_failure_is_raised_at_the_end_of_the_block():
    with pytest.raises(OSError, match="disk full"):
        with Background(waiting=2) as background:
            background.call(fail)


def test_a_block_that_is_stopped_loses_no_call():
    done = []

    def slowly(what):
        time.sleep(0.05)
        done.append(what)

    with pytest.raises(KeyboardInterrupt):
        with Background(waiting=3) as background:
            background.call(slowly, "first")
            background.call(fail)
            background.call(slowly, "second")
            raise KeyboardInterrupt
    assert done == ["first", "second"]
