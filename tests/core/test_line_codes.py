"""The code of a line and whether another try may mend it: errors, blocks, stops, empty answers."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.line import Judgement, LineOutcome, judge
from penstock.core.provider_error import OTHER, bounded, code_of

PARTS = {"content": {"parts": [{"text": "hello"}]}}


def text(code: object, word: object = None, prefix: str = "Bad Request: ") -> str:
    """A status as the provider writes it."""
    error: dict[str, Any] = {"code": code, "message": 'so: "code": 500'}
    if word is not None:
        error["status"] = word
    return prefix + json.dumps({"error": error})


@pytest.mark.parametrize(
    ("number", "retryable"),
    [
        *((code, False) for code in (400, 401, 403, 404, 413, 501, 505)),
        *((code, True) for code in (408, 409, 425, 429, 499, 500, 502, 503, 504, 529, 599)),
    ],
)
def test_the_number_decides(number: int, *, retryable: bool) -> None:
    """Errors of the moment may be tried again, errors of the request not."""
    assert code_of(text(number, "WHATEVER")) == (str(number), retryable)
    assert code_of(text(str(number))) == (str(number), retryable)


@pytest.mark.parametrize(
    ("word", "retryable"),
    [
        *((word, True) for word in ("RESOURCE_EXHAUSTED", "UNAVAILABLE", "INTERNAL", "UNKNOWN")),
        *((word, True) for word in ("DEADLINE_EXCEEDED", "ABORTED", "CANCELLED", "DATA_LOSS")),
        *((word, False) for word in ("INVALID_ARGUMENT", "PERMISSION_DENIED", "NOT_FOUND")),
        *((word, False) for word in ("FAILED_PRECONDITION", "UNIMPLEMENTED", "OUT_OF_RANGE")),
        ("SOMETHING_NEW", True),
    ],
)
def test_the_word_decides_where_there_is_no_number(word: str, *, retryable: bool) -> None:
    """Google's words are as good as its numbers, and one that nobody knows may be tried again."""
    assert code_of(text(None, word)) == (word, retryable)
    assert code_of(text(0, word)) == (word, retryable)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("RESOURCE_EXHAUSTED error occurred", "RESOURCE_EXHAUSTED"),
        ("it went wrong: UNAVAILABLE.", "UNAVAILABLE"),
        ('Error: {"error": {"code": 429, "message": "cut off', "429"),
        ('Error: {"code": 429}', "429"),
        ("UNAVAILABLE {not json", "UNAVAILABLE"),
        ("nothing known", OTHER),
        ("{", OTHER),
        ("{" * 100_000, OTHER),
        (text(8), "RESOURCE_EXHAUSTED"),
        (text(3, prefix=""), "INVALID_ARGUMENT"),
        (text(8, "INTERNAL"), "INTERNAL"),
        (text(99), OTHER),
        (text(2**60), OTHER),
        (text([True]), OTHER),
        (text([1], {"a": 1}), OTHER),
        (text(None, "lower case"), OTHER),
        (text(None, "A" * 41), OTHER),
    ],
)
def test_any_text_has_a_code(status: str, code: str) -> None:
    """Without JSON, with half of it or with strange members there still is a code."""
    assert code_of(status)[0] == code


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=80) | st.builds(text, st.integers() | st.text(), st.text()))
def test_a_code_is_short_and_plain(status: str) -> None:
    """Whatever a provider writes, the code is a number, a word or `other`."""
    assert re.fullmatch(r"[1-5][0-9]{2}|[A-Z_]{1,40}|other", code_of(status)[0])


@pytest.mark.parametrize("word", ["", "a", "A-B", "A" * 41, 3, None, "SAFETY\n", "ŚAFETY"])
def test_a_strange_word_is_other(word: object) -> None:
    """Words from outside are kept only if they look like the provider's."""
    assert bounded(word) == OTHER


@pytest.mark.parametrize(
    "reason",
    [
        *("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR"),
        *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"),
    ],
)
def test_a_blocked_answer_says_why(reason: str) -> None:
    """The reason is the code, and the same request would be blocked again."""
    found = judge("", {"candidates": [{**PARTS, "finishReason": reason}]})
    assert found == Judgement(outcome=LineOutcome.BLOCKED, code=reason)


@pytest.mark.parametrize(
    ("reason", "code"), [("OTHER", "OTHER"), (None, "other"), ("no word", "other"), (3, "other")]
)
def test_a_blocked_prompt_says_why(reason: object, code: str) -> None:
    """The reason of the feedback is the code, `other` if it is none."""
    found = judge("", {"promptFeedback": {"blockReason": reason}})
    assert found == Judgement(outcome=LineOutcome.BLOCKED, code=code)


@pytest.mark.parametrize(
    ("reason", "code"),
    [("STOP", "no_content"), (None, "no_content"), ("NO_IMAGE", "NO_IMAGE"), ("?", "other")],
)
def test_an_empty_answer_may_be_tried_again(reason: str | None, code: str) -> None:
    """The reason is the code unless it says nothing, and another try may bring content."""
    found = judge("", {"candidates": [{"finishReason": reason}]})
    assert found == Judgement(outcome=LineOutcome.EMPTY, code=code, is_retryable=True)


def test_a_truncated_answer_is_not_tried_again_by_itself() -> None:
    """The same limit would cut it again."""
    found = judge("", {"candidates": [{**PARTS, "finishReason": "MAX_TOKENS"}]})
    assert found == Judgement(outcome=LineOutcome.TRUNCATED, code="MAX_TOKENS")


@pytest.mark.parametrize(
    ("reason", "code"), [("STOP", ""), (None, ""), ("LANGUAGE", "LANGUAGE"), ("?", "other")]
)
def test_an_unusual_good_answer_is_told_from_the_usual(reason: str | None, code: str) -> None:
    """A good answer has no code, unless the model stopped for another reason."""
    found = judge("", {"candidates": [{**PARTS, "finishReason": reason}]})
    assert found == Judgement(outcome=LineOutcome.OK, code=code)


@pytest.mark.parametrize("more", [{}, {"candidates": [PARTS]}])
def test_an_error_in_the_envelope_of_a_success_is_an_error(more: dict[str, object]) -> None:
    """`response.error` fails the line with its code, also beside an answer."""
    found = judge("", {**more, "error": {"code": 503, "message": "x", "status": "UNAVAILABLE"}})
    assert (found.outcome, found.code, found.is_retryable) == (LineOutcome.ERROR, "503", True)
    assert '{"error":{"code":503' in found.status


@pytest.mark.parametrize("error", [None, {}, [], "x"])
def test_no_error_in_the_envelope_is_no_error(error: object) -> None:
    """A null or empty member of that name changes nothing."""
    assert judge("", {"candidates": [PARTS], "error": error}).outcome is LineOutcome.OK


def test_a_corrupt_row_may_be_tried_again() -> None:
    """What the provider garbled it may write properly the next time."""
    found = judge("", {"candidates": []})
    assert (found.code, found.is_retryable) == ("corrupt_row", True)
