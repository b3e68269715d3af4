"""What to do about lines: a sentence for every outcome and every code."""

import pytest

from penstock.core.answer_schema import NOT_JSON, SCHEMA_MISMATCH
from penstock.core.hints import GENERAL, HINTS, hint
from penstock.core.line import CORRUPT_ROW, NO_CONTENT, LineOutcome
from penstock.core.look import PENDING

OUTCOMES = tuple(LineOutcome)
OWN = [
    (LineOutcome.ERROR, CORRUPT_ROW),
    (LineOutcome.ERROR, "duplicate_row"),
    (LineOutcome.ERROR, "integrity_mismatch"),
    (LineOutcome.ERROR, "other"),
    (LineOutcome.EMPTY, NO_CONTENT),
    (LineOutcome.INVALID_OUTPUT, NOT_JSON),
    (LineOutcome.INVALID_OUTPUT, SCHEMA_MISMATCH),
    (LineOutcome.MISSING, "missing_row"),
    (LineOutcome.MISSING, "provider_output_unreadable"),
    (LineOutcome.MISSING, PENDING),
]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_outcome_has_a_sentence(outcome: LineOutcome) -> None:
    """A code that nobody has thought of still gets advice."""
    assert hint(outcome, "zzz") == GENERAL[outcome]
    assert len(GENERAL) == len(OUTCOMES)


@pytest.mark.parametrize(("outcome", "code"), OWN)
def test_every_code_of_ours_has_a_sentence_of_its_own(outcome: LineOutcome, code: str) -> None:
    """What we call something we also explain."""
    assert hint(outcome, code) == HINTS[outcome, code] != ""


def test_hints_are_sentences() -> None:
    """Each is one printable sentence; only a plain success needs none."""
    texts = [text for kind, text in HINTS.items() if kind != (LineOutcome.OK, "")]
    for text in (*texts, *GENERAL.values()):
        assert text[0].isupper()
        assert text.endswith(".")
        assert text.isprintable()
    assert hint(LineOutcome.OK, "") == ""


@pytest.mark.parametrize("code", ["500", "503", "408", "UNAVAILABLE", "INTERNAL", "NEW_WORD"])
def test_passing_errors_may_be_tried_again(code: str) -> None:
    """Errors of the moment lead to a retry."""
    assert "/retry" in hint(LineOutcome.ERROR, code)


@pytest.mark.parametrize("code", ["400", "413", "501", "INVALID_ARGUMENT", "OUT_OF_RANGE"])
def test_errors_of_the_request_are_to_be_corrected(code: str) -> None:
    """Errors of the request lead to a correction and not to another try."""
    assert "/retry" not in hint(LineOutcome.ERROR, code)
    assert "correct the line" in hint(LineOutcome.ERROR, code)


@pytest.mark.parametrize("code", ["invalid_json", "line_too_long"])
def test_lines_that_were_put_aside_are_to_be_corrected(code: str) -> None:
    """A code of our own checks says that the line was never sent."""
    assert "never sent" in hint(LineOutcome.ERROR, code)
