"""The JSONL itself as the body."""

import functools

import pytest
from hypothesis import given
from tests.ingest.naive import GOOD, Taken, Turned, take, through
from tests.ingest.test_properties import LIMITS, inputs, moderate, sizes

from penstock.ingest.intake import Envelope
from penstock.ingest.raw import RawIntake

ENVELOPE = Envelope(model="m", payload={"note": "mine"}, flat=True)
RAW = functools.partial(RawIntake, LIMITS, ENVELOPE)


@moderate
@given(inputs(), sizes)
def test_a_raw_body_is_judged_like_its_lines(data: bytes, cuts: list[int]) -> None:
    """Good and bad lines get what the core says of them, in any chunks."""
    result = through(RAW, data, cuts)
    bare = take(data, (), LIMITS, raw=True)
    if isinstance(bare, Turned):
        assert result == bare
    else:
        assert result == Taken(ENVELOPE, bare.line_count, bare.stored, bare.rows)


def test_bad_lines_of_a_raw_body_have_their_numbers() -> None:
    """Blank lines count, so that an editor shows the same number."""
    refusal = through(RAW, GOOD + b"\n\nbad\r\n" + GOOD + b"\n{}")
    assert isinstance(refusal, Turned)
    assert [problem.line for problem in refusal.problems] == [3, 5]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b" \n"])
def test_blank_lines_are_bounded(end: bytes) -> None:
    """There is room for as many blank lines as requests, and no more."""
    most = LIMITS.job_lines_max
    assert isinstance(through(RAW, (GOOD + b"\n" + end) * most), Taken)
    for blank in (end * (2 * most), GOOD + end * (2 * most + 1)):
        refusal = through(RAW, blank + GOOD, [1] * len(blank))
        assert isinstance(refusal, Turned)
        assert refusal.code == "too_many_lines"
