"""preallocated: blocks are there before what is written, and nobody relies on them."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.lifecycle.preallocated import AHEAD_BYTES, Preallocated

BLOCK_BYTES = 512
"""Of which `st_blocks` counts, on all systems that have it."""


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    """An empty file."""
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def test_what_is_covered_has_its_blocks(descriptor: int) -> None:
    """The file has room for what was asked for and more, and is cut to what it holds."""
    blocks = Preallocated(descriptor)
    os.pwrite(descriptor, b"begin", 0)
    blocks.cover(5)
    assert os.fstat(descriptor).st_blocks * BLOCK_BYTES >= AHEAD_BYTES
    blocks.cover(AHEAD_BYTES + 6)
    assert os.fstat(descriptor).st_blocks * BLOCK_BYTES >= 2 * AHEAD_BYTES
    blocks.cut(7)
    assert os.pread(descriptor, 100, 0) == b"begin\0\0"


def test_blocks_are_asked_for_seldom(descriptor: int) -> None:
    """Once for each of many megabytes, and never twice for the same."""
    asked: list[tuple[int, int, int]] = []
    blocks = Preallocated(descriptor, lambda *what: asked.append(what))
    for size in (1, 2, AHEAD_BYTES + 1, AHEAD_BYTES + 2, AHEAD_BYTES // 2):
        blocks.cover(size)
    assert asked == [
        (descriptor, 0, AHEAD_BYTES + 1),
        (descriptor, AHEAD_BYTES + 1, AHEAD_BYTES + 1),
    ]


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSPC, errno.EFBIG])
def test_who_cannot_is_not_asked_again(descriptor: int, number: int) -> None:
    """No blocks are no error: whoever writes finds out whether there is room."""
    asked = 0

    def refuse(*_what: int) -> None:
        nonlocal asked
        asked += 1
        raise OSError(number, os.strerror(number))

    blocks = Preallocated(descriptor, refuse)
    blocks.cover(1)
    blocks.cover(10 * AHEAD_BYTES)
    os.pwrite(descriptor, b"begin", 0)
    blocks.cut(5)
    assert (asked, os.fstat(descriptor).st_size) == (1, 5)


def test_a_system_without_it_is_left_alone(descriptor: int) -> None:
    """The file grows with what is written."""
    blocks = Preallocated(descriptor, None)
    blocks.cover(1)
    assert os.fstat(descriptor).st_size == 0
