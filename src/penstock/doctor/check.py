"""What a check is and what it finds: data, so that each can be listed, counted and documented."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec

UNEXPECTED: Final = 1
USAGE: Final = 2
NOT_ALLOWED: Final = 4
NOT_FOUND: Final = 5
LIMIT: Final = 7
"""Exit codes of the command line, as `penstock --help` lists them."""

_WORST_FIRST: Final = (UNEXPECTED, USAGE, NOT_ALLOWED, NOT_FOUND, LIMIT)


class Verdict(StrEnum):
    """How a check ended."""

    HOLDS = "holds"
    WARNS = "warns"
    """It works, and something should be done all the same."""
    FAILS = "fails"
    UNKNOWN = "unknown"
    """It could not be found out; `saw` says why."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a check found, in a line."""

    check: str
    """Its id, which stays the same over versions."""
    verdict: Verdict
    saw: str
    todo: str = ""
    """What to do about it."""
    exit_code: int = 0
    """Of the command line, if it fails."""
    facts: dict[str, Any] = {}
    """Figures and names for programs."""


def holds(check: str, saw: str, **facts: Any) -> Finding:  # noqa: ANN401  # any JSON
    """Return that all is well."""
    return Finding(check=check, verdict=Verdict.HOLDS, saw=saw, facts=facts)


def warns(check: str, saw: str, todo: str, **facts: Any) -> Finding:  # noqa: ANN401  # any JSON
    """Return that something should be done."""
    return Finding(check=check, verdict=Verdict.WARNS, saw=saw, todo=todo, facts=facts)


def fails(check: str, saw: str, todo: str, exit_code: int = UNEXPECTED) -> Finding:
    """Return that something does not work."""
    return Finding(check=check, verdict=Verdict.FAILS, saw=saw, todo=todo, exit_code=exit_code)


def unknown(check: str, why: str, todo: str = "") -> Finding:
    """Return that it could not be found out."""
    return Finding(check=check, verdict=Verdict.UNKNOWN, saw=why, todo=todo)


def exit_code_of(findings: Sequence[Finding]) -> int:
    """Return 0 unless something fails, else the code of the worst."""
    codes = {finding.exit_code for finding in findings if finding.verdict is Verdict.FAILS}
    return next((code for code in _WORST_FIRST if code in codes), 0)
