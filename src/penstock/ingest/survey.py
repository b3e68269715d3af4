"""What a trial tells of good lines: what is done to them, what to look at, which are the same.

Constant memory a line: sixteen bytes. Two different requests out of 200,000 share a digest of 64
bits once in a billion files, and then a report says one duplicate too many.
"""

import re
from array import array
from hashlib import blake2b
from typing import Any, Final, Protocol

import msgspec
import orjson

from penstock.core.normalise import DONE, normalisations, normalised
from penstock.errors import Problem
from penstock.ingest.treatment import Done, Group, Report

READ_BYTES_MAX: Final = 1_048_576
"""Longer lines are not built for this: what they become would be many times their size."""

GROUPS_MAX: Final = 20
GROUP_LINES_MAX: Final = 5

WARNED: Final = {
    "numeric_text": "a text looks like a number; Vertex AI's importer may turn it into one, and "
    'then "007" becomes 7',
}
"""What is worth a look, by the code under which it is reported."""

_NUMERIC: Final = re.compile(r"[ \t]*[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?[ \t]*")


class Judged(Protocol):
    """What a trial said of a file."""

    @property
    def line_count(self) -> int: ...  # noqa: D102  # as in Accepted
    @property
    def input_bytes(self) -> int: ...  # noqa: D102
    @property
    def problem_count(self) -> int: ...  # noqa: D102
    @property
    def problems(self) -> tuple[Problem, ...]: ...  # noqa: D102
    @property
    def report(self) -> Report | None: ...  # noqa: D102


class Duplicates(msgspec.Struct, frozen=True, kw_only=True):
    """How many lines repeat the request of one before them."""

    lines: int
    groups: int
    largest: tuple[Group, ...]


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """A trial as it is told to people."""

    valid: bool
    line_count: int
    input_bytes: int
    problem_count: int
    problems: tuple[Problem, ...]
    warnings: tuple[Done, ...]
    normalisations: tuple[Done, ...]
    duplicates: Duplicates
    unread_lines: int


def described(judged: Judged, *, bad_max: int) -> Described:
    """Return a trial as it is told; at most so many bad lines are put up with, never all."""
    report = judged.report or Report()
    return Described(
        valid=judged.problem_count <= min(bad_max, judged.line_count - 1),
        line_count=judged.line_count,
        input_bytes=judged.input_bytes,
        problem_count=judged.problem_count,
        problems=judged.problems,
        warnings=report.warnings,
        normalisations=report.normalisations,
        duplicates=Duplicates(
            lines=report.duplicate_lines,
            groups=report.duplicate_groups,
            largest=report.duplicates,
        ),
        unread_lines=report.unread_lines,
    )


class _Parts(msgspec.Struct):
    text: Any = None


class _Content(msgspec.Struct):
    parts: list[_Parts] = []


class _Texts(msgspec.Struct):
    contents: list[_Content] = []


class Survey:
    """Looks at the good lines of one file, in order."""

    def __init__(self) -> None:
        self._done: dict[str, list[int]] = {}
        self._warned: dict[str, list[int]] = {}
        self._digests = array("Q")
        self._numbers = array("Q")
        self._unread_lines = 0

    def take(self, line: bytes, number: int) -> None:
        """Look at a line, which is number `number` of the file."""
        if len(line) > READ_BYTES_MAX:
            self._unread_lines += 1
            return
        request = orjson.loads(line)["request"]
        for code in normalisations(request):
            _count(self._done, code, number)
        copy = normalised(request)
        if _holds_numeric_text(copy):
            _count(self._warned, "numeric_text", number)
        spelled = orjson.dumps(copy, option=orjson.OPT_SORT_KEYS)
        digest = blake2b(spelled, digest_size=8).digest()
        self._digests.append(int.from_bytes(digest, "big"))
        self._numbers.append(number)

    def report(self) -> Report:
        """Return what was found."""
        groups = self._groups()
        shown = sorted(groups, key=len, reverse=True)[:GROUPS_MAX]
        return Report(
            warnings=_told(self._warned, WARNED),
            normalisations=_told(self._done, DONE),
            duplicate_lines=sum(len(group) - 1 for group in groups),
            duplicate_groups=len(groups),
            duplicates=tuple(
                Group(lines=len(group), first_lines=tuple(group[:GROUP_LINES_MAX]))
                for group in shown
            ),
            unread_lines=self._unread_lines,
        )

    def _groups(self) -> list[list[int]]:
        """Return the numbers of lines that share a request, in the order of their first lines."""
        digests = self._digests
        order = sorted(range(len(digests)), key=digests.__getitem__)
        groups: list[list[int]] = []
        begin = 0
        for end in range(1, len(order) + 1):
            if end < len(order) and digests[order[end]] == digests[order[begin]]:
                continue
            if end - begin > 1:
                # The sort keeps the order of equal ones.
                groups.append([self._numbers[at] for at in order[begin:end]])
            begin = end
        return sorted(groups)


def _count(counted: dict[str, list[int]], code: str, number: int) -> None:
    counts = counted.setdefault(code, [0, number])
    counts[0] += 1


def _told(counted: dict[str, list[int]], words: dict[str, str]) -> tuple[Done, ...]:
    return tuple(
        Done(code=code, message=words[code], lines=lines, first_line=first)
        for code, (lines, first) in sorted(counted.items())
    )


def _holds_numeric_text(request: dict[str, Any]) -> bool:
    try:
        texts = msgspec.convert(request, _Texts)
    except msgspec.ValidationError:
        # Something else stands where texts do; that is the provider's to judge.
        return False
    return any(
        isinstance(part.text, str) and _NUMERIC.fullmatch(part.text) is not None
        for content in texts.contents
        for part in content.parts
    )
