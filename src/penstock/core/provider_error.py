"""What kind of failure a provider's text tells of, and whether another try may mend it.

A failed row says `Bad Request: {"error": {"code": 400, ...}}`: prose, then JSON from the first
brace on. Neither is promised, so numbers and words are looked for wherever they may stand.
"""

import re
from typing import Any, Final

import msgspec

OTHER: Final = "other"
"""The code of what has no readable one."""

_WORD: Final = re.compile(r"[A-Z][A-Z_]{0,39}")
_NUMBER: Final = re.compile(r'"code"\s*:\s*"?([1-5][0-9]{2})\b')
_HTTP: Final = range(400, 600)

_RETRYABLE_NUMBERS: Final = frozenset({408, 409, 425, 429, 499})
"""4xx that tell of the moment and not of the request: late, in conflict, too many, hung up."""
_FINAL_NUMBERS: Final = frozenset({501, 505})
"""5xx that tell of the request: nobody will be able to do it a minute later."""

_WORDS: Final = {
    "CANCELLED": True,
    "UNKNOWN": True,
    "INVALID_ARGUMENT": False,
    "DEADLINE_EXCEEDED": True,
    "NOT_FOUND": False,
    "ALREADY_EXISTS": False,
    "PERMISSION_DENIED": False,
    "RESOURCE_EXHAUSTED": True,
    "FAILED_PRECONDITION": False,
    "ABORTED": True,
    "OUT_OF_RANGE": False,
    "UNIMPLEMENTED": False,
    "INTERNAL": True,
    "UNAVAILABLE": True,
    "DATA_LOSS": True,
    "UNAUTHENTICATED": False,
}
"""Google's words in the order of their numbers, from 1, and whether another try may help. `UNKNOWN`
and what nobody can read say nothing against the request, and a failed line is not billed."""
_NUMBERED: Final = tuple(_WORDS)
_SOME_WORD: Final = re.compile(r"\b(" + "|".join(_WORDS) + r")\b")


class _Inner(msgspec.Struct):
    code: Any = None
    status: Any = None


class _Outer(msgspec.Struct):
    error: _Inner


_OUTER: Final = msgspec.json.Decoder(_Outer)


def bounded(word: object) -> str:
    """Return the provider's word for something if it looks like one, else `other`."""
    return word if isinstance(word, str) and _WORD.fullmatch(word) else OTHER


def code_of(status: str) -> tuple[str, bool]:
    """Return the code of a failure, and whether another try may mend it."""
    code, word = _stated(status)
    number = _number(code)
    if number in _HTTP:
        return str(number), _is_passing(number)
    if 1 <= number <= len(_NUMBERED) and not word:
        word = _NUMBERED[number - 1]
    if not word:
        found = _SOME_WORD.search(status)
        word = OTHER if found is None else found[1]
    return word, _WORDS.get(word, True)


def is_retryable(code: str) -> bool | None:
    """Return whether another try may mend an error of this code; None if it is not a provider's."""
    if code.isascii() and code.isdigit():
        return _is_passing(int(code[:4]))
    return _WORDS.get(code, True) if _WORD.fullmatch(code) else None


def _is_passing(number: int) -> bool:
    if number < 500:  # noqa: PLR2004 - 4xx
        return number in _RETRYABLE_NUMBERS
    return number not in _FINAL_NUMBERS


def _stated(status: str) -> tuple[object, str]:
    """Return the code and the word that the JSON in the text states."""
    try:
        error = _OUTER.decode(status[status.index("{") :]).error
    except (ValueError, RecursionError):
        # No JSON, or half of it; msgspec's errors are ValueErrors.
        found = _NUMBER.search(status)
        return (None if found is None else found[1]), ""
    word = error.status
    return error.code, "" if word is None else bounded(word)


def _number(code: object) -> int:
    if isinstance(code, str) and len(code) <= 3 and code.isascii() and code.isdigit():  # noqa: PLR2004 - digits
        return int(code)
    return code if isinstance(code, int) and not isinstance(code, bool) else 0
