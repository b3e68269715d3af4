import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.api.negotiation import RangeNotSatisfiable, is_known, part_of, prefers_zstd


@pytest.mark.parametrize(
    "header",
    [
        "zstd",
        "gzip, deflate, br, zstd",
        "ZSTD",
        "zstd;q=0.5",
        "zstd ; q=1.000, identity;q=0.9",
        "zstd, identity",
        "zstd;q=0.001, *;q=0",
        "zstd, *;q=0.5",
        "identity;q=0, *",
        "identity;q=0, zstd;q=0.1",
    ],
)
def test_who_names_zstd_gets_it(header: str) -> None:
    """Whoever likes zstd no less than the plain bytes, or rules those out, gets zstd."""
    assert prefers_zstd([header])


@pytest.mark.parametrize(
    "header",
    [
        "",
        "*",
        "identity",
        "gzip, br",
        "zstd;q=0",
        "zstd;q=0.000, gzip",
        "zstd;q=0.5, identity",
        "identity;q=1.0, zstd;q=0.9",
        "zstd;q=0.5, *;q=0.6",
        "identity;q=0",
        "identity;q=0, *;q=0",
        "zstd;q=2",
        "zstd;q=yes",
        "x-zstd",
    ],
)
def test_everybody_else_gets_the_plain_bytes(header: str) -> None:
    """Not named, refused, liked less or unclear: the plain bytes are always right."""
    assert not prefers_zstd([header])


def test_a_header_may_come_in_parts() -> None:
    """Several Accept-Encoding headers are one list, and none of them asks for nothing."""
    assert prefers_zstd(["gzip", "zstd"])
    assert not prefers_zstd([])


@pytest.mark.parametrize("tags", [['"a"'], ['W/"a"'], ['"b", "a"'], ['"b"', '"a"'], ["*"]])
def test_a_known_tag_is_found(tags: list[str]) -> None:
    """The tag is found weak or strong, in a list, in several headers, and by the star."""
    assert is_known(tags, '"a"')


@pytest.mark.parametrize("tags", [[], [""], ['"b"'], ["a"], ['"a-zstd"']])
def test_another_tag_is_not_known(tags: list[str]) -> None:
    """Another representation's tag, one without quotes or none at all is not the tag."""
    assert not is_known(tags, '"a"')


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-0", range(1)),
        ("bytes=2-5", range(2, 6)),
        ("bytes=2-", range(2, 10)),
        ("bytes=-3", range(7, 10)),
        ("bytes=-10", range(10)),
        ("bytes=-11", range(10)),
        ("bytes=9-99999999999999999999", range(9, 10)),
        (" Bytes = 4-4 ", range(4, 5)),
    ],
)
def test_one_range_is_found(header: str, part: range) -> None:
    """First, middle, last and over-long ranges give the bytes that exist."""
    assert part_of(header, 10) == part


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes=",
        "bytes=-",
        "bytes=5-4",
        "bytes=0-1,3-4",
        "bytes=0-1,",
        "bytes=a-b",
        "bytes=+1-2",
        "bytes=1.0-2",
        "bytes=\u0661-2",
        "bytes 0-1",
        "lines=0-1",
        "bytes=" + "9" * 5_000 + "-",
    ],
)
def test_what_is_no_single_range_gets_the_whole_file(header: str | None) -> None:
    """Lists, other units and what cannot be read are ignored, as RFC 9110 permits."""
    assert part_of(header, 10) is None


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-10", "bytes=99-", "bytes=-0"])
def test_a_range_behind_the_end_is_refused(header: str) -> None:
    """A good range without a byte in the file is refused; an empty file has none."""
    for size in (10, 0):
        with pytest.raises(RangeNotSatisfiable, match=f"{size} bytes"):
            part_of(header, size)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 20))
def test_a_range_is_what_a_slice_would_be(first: int, last: int, size: int) -> None:
    """For any numbers the part holds exactly the places that the header names."""
    named = [place for place in range(size) if first <= place <= last]
    try:
        part = part_of(f"bytes={first}-{last}", size)
    except RangeNotSatisfiable:
        assert not named
    else:
        assert part is None or list(part) == named
        assert (part is None) == (last < first)
