"""The rows of a job: every line answered, in seeded disorder, as the service writes them."""

import os
import random
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import orjson

from penstock.emulator.answers import Answerer, Outcome
from penstock.emulator.directives import find_directives, may_hold_directive
from penstock.emulator.importer import LineIndex
from penstock.emulator.once import Once
from penstock.emulator.scripts import Script, scripted
from penstock.emulator.spoiling import Spoiler
from penstock.emulator.timestamps import row_time

_WRITE_BUFFER_BYTES: Final = 1 << 20
_ABORT_CHECK_ROWS: Final = 256
_RESERVED: Final = ("request", "response", "status", "processed_time")
_PART_MEMBERS: Final = ("contents", "systemInstruction", "system_instruction")
_ROW_DIRECTIVES: Final = frozenset(
    {"missing", "duplicate", "foreign", "garbage", "truncated-row", "bad-utf8"}
)
"""A line that orders one of these has its say before any rule."""
_BAD_USAGE: Final[dict[str, object]] = {
    "promptTokenCount": -5,
    "candidatesTokenCount": 12.5,
    "thoughtsTokenCount": "many",
    "totalTokenCount": 2**63,
}


class RowOptions(NamedTuple):
    """How the rows of a job are written."""

    no_total: bool = False
    retype: bool = False
    spoiler: Spoiler | None = None


class Timeline(NamedTuple):
    """When the rows of a job are done: evenly between `started_us` and `ends_us`."""

    started_us: int
    ends_us: int
    rows: int

    def done_at_us(self, row: int) -> int:
        """When the row with this number (in output order) is done."""
        return self.started_us + (self.ends_us - self.started_us) * (row + 1) // self.rows

    def rows_done(self, now_us: int) -> int:
        """How many rows are done by now."""
        length = max(1, self.ends_us - self.started_us)
        passed = now_us - self.started_us
        return max(0, min(self.rows, self.rows * passed // length))


class RowLedger:
    """What each written row was, in output order: where it ends, whether it failed, its tokens."""

    def __init__(self) -> None:
        self._ends = array("Q")
        self._failed = bytearray()
        self._tokens = (array("Q"), array("Q"), array("Q"))

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, end: int, outcome: Outcome) -> None:
        """Append one row."""
        self._ends.append(end)
        self._failed.append(1 if outcome.status else 0)
        usage = outcome.response.get("usageMetadata", {})
        for column, name in zip(self._tokens, _USAGE_MEMBERS, strict=True):
            value = usage.get(name, 0)
            column.append(value if isinstance(value, int) and 0 <= value < 1 << 63 else 0)

    def bytes_of(self, rows: int) -> int:
        """The size of the first `rows` rows."""
        return self._ends[rows - 1] if rows else 0

    def failed_of(self, rows: int) -> int:
        """How many of the first `rows` rows failed."""
        return self._failed.count(1, 0, rows)

    def usage_of(self, rows: int) -> dict[str, int]:
        """The tokens of the first `rows` rows, which is what the account would be charged for."""
        return {
            name: sum(column[:rows])
            for name, column in zip(_USAGE_MEMBERS, self._tokens, strict=True)
        }


_USAGE_MEMBERS: Final = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount")


class RowWriter:
    """Writes the answers of one job into one file."""

    def __init__(
        self,
        answerer: Answerer,
        timeline: Timeline,
        options: RowOptions,
        once: Once,
        scripts: list[Script],
    ) -> None:
        self._once = once
        self._scripts = scripts
        self._answerer = answerer
        self._timeline = timeline
        self._options = options

    def write(
        self,
        target: Path,
        sources: list[IO[bytes]],
        lines: LineIndex,
        order: Sequence[int],
        check_not_aborted: Callable[[], None],
    ) -> RowLedger:
        """Answer the lines in `order` and give the ledger of what was written.

        `check_not_aborted` is called now and then and may raise. Memory: the ledger and one row at
        a time.
        """
        ledger = RowLedger()
        end = 0
        with target.open("wb", buffering=_WRITE_BUFFER_BYTES) as out:
            for number, row in enumerate(order):
                if number % _ABORT_CHECK_ROWS == 0:
                    check_not_aborted()
                file, offset, length = lines.locate(row)
                line = os.pread(sources[file].fileno(), length, offset)
                outcome, made = self._row(line, number)
                for piece in made:
                    out.write(piece)
                    end += len(piece)
                ledger.add(end, outcome)
        return ledger

    def _row(self, line: bytes, number: int) -> tuple[Outcome, Iterable[bytes]]:
        at_us = self._timeline.done_at_us(number)
        row: dict[str, Any] = orjson.loads(line)
        request = row.get("request")
        written = find_directives(request) if may_hold_directive(line) else {}
        # What the prompt itself says goes before what a script says of it.
        directives = self._once.resolve(request, scripted(request, self._scripts) | written)
        outcome = self._answerer.answer(request, directives, at_us)
        usage = outcome.response.get("usageMetadata")
        if usage is not None:
            self._spoil_usage(outcome.response, usage, directives)
        echo = {k: v for k, v in row.items() if k not in _RESERVED}
        if request is not None:
            _add_null_siblings(request)
        if self._options.retype:
            echo, request = _retyped(echo), _retyped(request)
        made = {
            "status": outcome.status,
            "processed_time": row_time(at_us),
            **echo,
            "request": request,
            "response": outcome.response,
        }
        if self._options.spoiler is not None:
            pieces = self._options.spoiler.row(number, made)
            if _ROW_DIRECTIVES.isdisjoint(directives):
                return outcome, pieces
        whole = orjson.dumps(made, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)
        return outcome, _spoiled_rows(whole, made, directives)

    def _spoil_usage(
        self, response: dict[str, Any], usage: dict[str, Any], directives: dict[str, str]
    ) -> None:
        if self._options.no_total or "no-total" in directives:
            del usage["totalTokenCount"]
        if "no-usage" in directives:
            del response["usageMetadata"]
        if "bad-usage" in directives:
            usage.update(_BAD_USAGE)


def _spoiled_rows(
    whole: bytes, made: dict[str, Any], directives: dict[str, str]
) -> Iterator[bytes]:
    """The bytes that stand in the output for one row: normally the row itself."""
    if not directives:
        yield whole
    elif "missing" in directives:
        return
    elif "duplicate" in directives:
        yield whole
        yield whole
    elif "foreign" in directives:
        made["key"] = f"foreign-{made['response'].get('responseId', 'row')}"
        yield orjson.dumps(made, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)
    elif "garbage" in directives:
        yield b"<!doctype html> 502 Bad Gateway\n"
    elif "bad-utf8" in directives:
        yield whole.replace(b'"status":""', b'"status":"\xff\xfe"', 1)
    elif "truncated-row" in directives:
        yield whole[: len(whole) // 2] + b"\n"
    else:
        yield whole


def shuffled(rows: int, seed: str) -> Sequence[int]:
    """The output order of a job: the same for the same seed, and never the input order."""
    order = array("I", range(rows))
    random.Random(seed).shuffle(order)
    if rows > 1 and all(here == row for here, row in enumerate(order)):
        # A short job could keep its order by chance, and hide a client that counts on it.
        order.reverse()
    return order


def _add_null_siblings(request: object) -> None:
    """Beside `text` a part gets `"fileData": null`, as the export of the table writes it."""
    if not isinstance(request, dict):
        return
    for name in _PART_MEMBERS:
        contents = request.get(name)
        for content in contents if isinstance(contents, list) else [contents]:
            parts = content.get("parts") if isinstance(content, dict) else None
            for part in parts if isinstance(parts, list) else []:
                if isinstance(part, dict):
                    part.setdefault("fileData" if "text" in part else "text", None)


def _retyped(value: Any) -> Any:  # noqa: ANN401 - any JSON value in, the same shape out
    """Numeric-looking text becomes a number, as a column of such text does: "000000" is 0."""
    if isinstance(value, dict):
        return {k: _retyped(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_retyped(v) for v in value]
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:  # noqa: PLR2004 - int64
        return int(value)
    return value
