import os
import sys
import threading

import pytest

from penstock.api.giving_way import NICENESS_MAX, giving_way


def niceness() -> int:
    """The niceness of this thread."""
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has none of its own")
@pytest.mark.parametrize("more", [5, 100])
def test_only_its_threads_give_way(more: int) -> None:
    """The pool's threads are nicer, at most as nice as can be, and nobody else is."""
    before = niceness()
    with giving_way(1, "test", more) as pool:
        assert pool.submit(niceness).result() == min(before + more, NICENESS_MAX)
    assert niceness() == before
