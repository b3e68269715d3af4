"""What a server says of a file that is only judged."""

import msgspec

from penstock.client.errors import Detail, InputInvalid
from penstock.client.money import Estimate


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was seen in, or would be done to, a number of lines."""

    code: str
    message: str
    lines: int = 0
    first_line: int = 0


class SameLines(msgspec.Struct, frozen=True, kw_only=True):
    """Lines with the same request, and some of their numbers."""

    lines: int = 0
    first_lines: list[int] = []


class Duplicates(msgspec.Struct, frozen=True, kw_only=True):
    """How many lines repeat the request of another one."""

    lines: int = 0
    groups: int = 0
    largest: list[SameLines] = []


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    """Why all of it would be refused although its lines are good."""

    code: str
    message: str
    hint: str | None = None


class Validation(msgspec.Struct, frozen=True, kw_only=True):
    """What would become of a file; nothing of it was kept."""

    valid: bool
    model: str = ""
    line_count: int = 0
    input_bytes: int = 0
    problem_count: int = 0
    problems: list[Detail] = []
    warnings: list[Finding] = []
    normalisations: list[Finding] = []
    duplicates: Duplicates = Duplicates()
    unread_lines: int = 0
    estimate: Estimate | None = None
    refusal: Rejection | None = None


def estimate_of(judged: Validation) -> Estimate:
    """Return what a file is expected to cost; raises `InputInvalid` if it would not be taken."""
    if judged.estimate is not None:
        return judged.estimate
    first = judged.problems[0] if judged.problems else None
    refusal = judged.refusal
    if refusal is not None:
        message, code, hint = refusal.message, refusal.code, refusal.hint
    else:
        where = "" if first is None else f"; line {first.line}: {first.message}"
        message = f"{judged.problem_count:,} of {judged.line_count:,} lines are bad{where}"
        code, hint = "invalid_input", None if first is None else first.hint
    raise InputInvalid(
        message,
        status=400,
        code=code,
        hint=hint,
        details=judged.problems,
        details_total=judged.problem_count,
    )
