"""One case of the corpus: bytes, and the verdict that they must get.

A verdict is `ok:3` (accepted, so many requests), `code` (the body as a whole is refused) or
`code@2,code@5` (bad lines, each with its number; `+7` for those that are counted and not listed).

`not_json` stands for three codes that differ in their hint only; which hint fits is judged by
tests/ingest/test_lines.py.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

import msgspec
from tests.ingest.naive import Taken, Turned

from penstock.core.limits import Limits

NOT_JSON: Final = frozenset({"invalid_json", "pretty_printed_json", "multiple_objects_on_line"})

GOOD: Final = b'{"request":{"contents":[{"parts":[{"text":"hi"}]}]}}'
"""A line that is right."""

PIECE_BYTES: Final = 262_144

Bytes = bytes | tuple[tuple[bytes, int], ...]
"""Bytes as they are, or pieces with how often each stands there."""

NO_HEAD: Final[Mapping[str, str]] = MappingProxyType({})


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent and what is said of it."""

    id: str
    kind: str
    """The class: J1, J2, ..."""

    given: Bytes
    verdict: str
    limits: Limits = Limits()
    head: Mapping[str, str] = NO_HEAD
    """Header fields that go with the bytes."""

    is_streamed: bool = False
    """So large that it is never one piece; one door is enough then, the JSONL itself."""

    @property
    def data(self) -> bytes:
        """The bytes."""
        return b"".join(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes in pieces of up to `PIECE_BYTES`, or as they are given."""
        for piece, times in ((self.given, 1),) if isinstance(self.given, bytes) else self.given:
            at_once = max(1, PIECE_BYTES // len(piece)) if piece else 1
            for done in range(0, times, at_once):
                yield piece * min(at_once, times - done)

    @property
    def seed(self) -> int:
        """A number of the case's own, for what must be random and always the same."""
        return zlib.crc32(self.id.encode())


Row = tuple[str, Bytes, str]
"""Id, bytes, verdict."""


def cases(kind: str, rows: Iterable[Row], limits: Limits = Limits()) -> list[Case]:  # noqa: B008  # frozen
    """Make cases of a table."""
    return [
        Case(id=f"{kind}/{name}", kind=kind, given=given, verdict=verdict, limits=limits)
        for name, given, verdict in rows
    ]


def on_line_one(kind: str, rows: Iterable[Row]) -> list[Case]:
    """Make cases of a table of single lines, whose verdicts are `ok` or a code."""
    return cases(
        kind,
        (
            (name, given, "ok:1" if verdict == "ok" else f"{verdict}@1")
            for name, given, verdict in rows
        ),
    )


def verdict_of(result: Taken | Turned) -> str:
    """Return what a door said, in the words of the corpus."""
    if isinstance(result, Taken):
        return f"ok:{result.line_count}"
    lines = [problem for problem in result.problems if problem.line is not None]
    if not lines:
        return family(result.code)
    listed = ",".join(f"{family(problem.code)}@{problem.line}" for problem in lines)
    more = result.total - len(lines)
    return f"{listed}+{more}" if more else listed


def family(code: str) -> str:
    """Return `not_json` for the codes that it stands for."""
    return "not_json" if code in NOT_JSON else code
