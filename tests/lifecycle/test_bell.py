"""bell: a wait ends when somebody rings, and for good when nobody has to wait any more."""

import threading
from inspect import signature

from dbos._queue import queue_worker_thread

from penstock.lifecycle.bell import Bell, listen

PATIENCE_SECONDS = 30.0
LONG_SECONDS = 3600.0
"""A wait that nobody cuts short would hang the test."""


def test_a_ring_ends_a_wait_however_long() -> None:
    """Who waits goes on at once, and the event is not set for that."""
    bell = Bell(0.0)
    waited: list[bool] = []
    waiter = threading.Thread(target=lambda: waited.append(bell.wait(LONG_SECONDS)), daemon=True)
    waiter.start()
    bell.ring()
    waiter.join(PATIENCE_SECONDS)
    assert waited == [False]


def test_a_ring_before_the_wait_is_heard() -> None:
    """Nobody has to be waiting: a ring that comes during a look ends the next wait, and only it."""
    bell = Bell(0.0)
    bell.ring()
    bell.ring()
    assert bell.wait(LONG_SECONDS) is False
    assert bell.wait(0.0) is False


def test_the_end_is_for_good() -> None:
    """Every wait ends at once and says so, also one that would gather rings."""
    bell = Bell(LONG_SECONDS)
    bell.set()
    assert bell.wait(LONG_SECONDS) is True
    assert bell.wait() is True


def test_rings_are_gathered() -> None:
    """Right after a look the next one waits a while, until then or until the end."""
    bell = Bell(LONG_SECONDS)
    bell.ring()
    assert bell.wait(LONG_SECONDS) is False
    bell.ring()
    ended: list[bool] = []
    waiter = threading.Thread(target=lambda: ended.append(bell.wait(0.0)), daemon=True)
    waiter.start()
    assert ended == []
    bell.set()
    waiter.join(PATIENCE_SECONDS)
    assert ended == [True]


def test_a_loop_that_ends_or_fails_is_begun_anew() -> None:
    """Nobody else would look at the queue, as long as the process lives."""
    bell = Bell(0.0)
    begun: list[int] = []

    def serve(heard: Bell) -> None:
        begun.append(len(begun))
        if len(begun) == 1:
            raise RuntimeError("a bug")
        if len(begun) == 3:
            heard.set()

    listen(bell, serve, 0.0)
    assert begun == [0, 1, 2]


def test_the_engines_loop_takes_an_event_of_ours() -> None:
    """It is private: a version that changes what it takes has to be looked at."""
    assert list(signature(queue_worker_thread).parameters) == ["stop_event", "dbos", "queue"]
    assert isinstance(Bell(), threading.Event)
