"""behind: one task at a time in another thread, and no error is lost."""

import threading

import pytest

from penstock.lifecycle.behind import Behind


def test_tasks_run_in_order_in_one_other_thread() -> None:
    """All blocks arrive, in order, in a thread that is not ours."""
    seen: list[tuple[bytes, int]] = []
    with Behind("test") as behind:
        for block in (b"a", b"b", b"c"):
            behind.do(lambda one: seen.append((one, threading.get_ident())), block)
        behind.wait()
    assert [block for block, _ in seen] == [b"a", b"b", b"c"]
    assert len({thread for _, thread in seen} | {threading.get_ident()}) == 2


def test_a_task_overlaps_with_its_owner() -> None:
    """`do` returns while the task is still under way."""
    go = threading.Event()
    with Behind("test") as behind:
        behind.do(lambda _block: None if go.wait(10) else pytest.fail("was waited for"), b"")
        go.set()
        behind.wait()


def fail(_block: bytes) -> None:
    """Fail as a full disk does."""
    raise OSError("full")


def test_an_error_comes_at_the_next_call_and_once() -> None:
    """What a task raised is raised where its owner can still act on it."""
    with Behind("test") as behind:
        behind.do(fail, b"")
        with pytest.raises(OSError, match="full"):
            behind.do(fail, b"")
        behind.wait()
        behind.do(fail, b"")
        with pytest.raises(OSError, match="full"):
            behind.wait()


def give_up(behind: Behind) -> None:
    """Fail while a task is under way."""
    with behind:
        behind.do(fail, b"")
        raise ZeroDivisionError


def test_the_thread_ends_with_its_owner() -> None:
    """Nothing is left running, also when the owner fails."""
    name = "test-ends-with-its-owner"
    with pytest.raises(ZeroDivisionError):
        give_up(Behind(name))
    assert not [one for one in threading.enumerate() if one.name.startswith(name)]
