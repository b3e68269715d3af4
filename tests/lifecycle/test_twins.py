"""twins: the table finds the first of each request, and its file says so."""

import os
import random
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import BlobCorrupt
from penstock.lifecycle.twins import (
    Table,
    pack_leaders,
    read_leaders,
    spelled,
)


@given(st.lists(st.integers(0, 40), max_size=200))
def test_the_first_of_its_like_leads(requests: list[int]) -> None:
    """Each line gets the number of the first line with the same request."""
    table = Table(len(requests))

    def spelled_of(number: int) -> bytes:
        return spelled(requests[number - 1])

    found = [table.leader(spelled(one), at, spelled_of) for at, one in enumerate(requests, start=1)]
    assert found == [requests.index(one) + 1 for one in requests]


class Clash(bytes):
    """A spelling whose fingerprint is that of all others."""

    __slots__ = ()

    def __hash__(self) -> int:
        return -8


def test_requests_with_one_fingerprint_are_told_apart() -> None:
    """What is equal by its fingerprint alone is compared, and what differs goes on to a free place.

    The place is the table's last one, so the search goes on at its beginning.
    """
    table = Table(3)
    spellings = [Clash(bytes([number])) for number in range(3)]

    def spelled_of(number: int) -> bytes:
        return spellings[number - 1]

    for _ in range(2):
        found = [table.leader(one, at, spelled_of) for at, one in enumerate(spellings, start=1)]
        assert found == [1, 2, 3]


def test_a_place_may_be_taken_by_another_fingerprint() -> None:
    """Requests are not even compared then."""

    class Near(Clash):
        __slots__ = ()

        def __hash__(self) -> int:
            return -8 + 2**40

    def never(number: int) -> bytes:
        raise AssertionError(number)

    table = Table(2)
    assert [table.leader(Clash(b"a"), 1, never), table.leader(Near(b"a"), 2, never)] == [1, 2]


def test_two_hundred_thousand_lines_take_six_megabytes() -> None:
    """The size depends on the number of lines alone, and half of the places stay free."""
    table = Table(200_000)
    dice = random.Random(7)  # noqa: S311  # reproducible, not secret
    for number in range(1, 5_001):
        assert table.leader(dice.randbytes(16), number, dice.randbytes) == number
    assert table.size_bytes == 524_288 * 12


def test_the_order_of_members_makes_no_difference() -> None:
    """A request is the same however its members are ordered, at any depth."""
    one = {"contents": [{"role": "user", "parts": [{"text": "a"}]}], "model": "m"}
    other = {"model": "m", "contents": [{"parts": [{"text": "a"}], "role": "user"}]}
    assert spelled(one) == spelled(other)
    assert spelled(one) != spelled({**one, "model": "n"})


def test_the_file_has_four_bytes_a_line(tmp_path: Path) -> None:
    """What is written is read back, little-endian."""
    leaders = array("I", [1, 1, 3])
    path = tmp_path / "twins"
    path.write_bytes(pack_leaders(leaders))
    assert path.read_bytes() == b"\1\0\0\0\1\0\0\0\3\0\0\0"
    twins = os.open(path, os.O_RDONLY)
    try:
        assert read_leaders(twins, 3) == leaders
        for lines in (2, 4):
            with pytest.raises(BlobCorrupt, match=f"is not of {lines} lines"):
                read_leaders(twins, lines)
    finally:
        os.close(twins)
