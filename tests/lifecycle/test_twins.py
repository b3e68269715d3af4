"""twins: the table of digests finds the first of each request, and its file says so."""

import random
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import BlobCorrupt
from penstock.lifecycle.twins import (
    Table,
    count_twins,
    digest_of,
    pack_leaders,
    read_leaders,
)


@given(st.lists(st.integers(0, 40), max_size=200))
def test_the_first_of_its_like_leads(requests: list[int]) -> None:
    """Each line gets the number of the first line with the same request."""
    table = Table(len(requests))
    found = [table.leader(digest_of(one), at) for at, one in enumerate(requests, start=1)]
    assert found == [requests.index(one) + 1 for one in requests]


def test_digests_that_share_a_place_are_told_apart() -> None:
    """What comes to a taken place goes on to the next free one, and is found there again."""
    table = Table(2)
    same_low = [bytes(8) + number.to_bytes(8, "little") for number in range(2)]
    assert [table.leader(one, at) for at, one in enumerate(same_low, start=1)] == [1, 2]
    assert [table.leader(one, 9) for one in same_low] == [1, 2]


def test_two_hundred_thousand_lines_take_ten_megabytes() -> None:
    """The size depends on the number of lines alone, and half of the places stay free."""
    table = Table(200_000)
    dice = random.Random(7)  # noqa: S311  # reproducible, not secret
    for number in range(1, 5_001):
        table.leader(dice.randbytes(16), number)
    assert table.size_bytes == 524_288 * 20


def test_the_order_of_members_makes_no_difference() -> None:
    """A request is the same however its members are ordered, at any depth."""
    one = {"contents": [{"role": "user", "parts": [{"text": "a"}]}], "model": "m"}
    other = {"model": "m", "contents": [{"parts": [{"text": "a"}], "role": "user"}]}
    assert digest_of(one) == digest_of(other)
    assert digest_of(one) != digest_of({**one, "model": "n"})


def test_the_file_has_four_bytes_a_line(tmp_path: Path) -> None:
    """What is written is read back, little-endian."""
    leaders = array("I", [1, 1, 3])
    path = tmp_path / "twins"
    path.write_bytes(pack_leaders(leaders))
    assert path.read_bytes() == b"\1\0\0\0\1\0\0\0\3\0\0\0"
    assert read_leaders(path, 3) == leaders
    assert count_twins(leaders) == 1
    with pytest.raises(BlobCorrupt, match="12 bytes for 4 lines"):
        read_leaders(path, 4)
