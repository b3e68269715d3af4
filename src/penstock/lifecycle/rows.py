"""Read the provider's rows: whose line is it, and is it an answer beyond doubt.

All that needs a row's bytes to be parsed happens here, once, in whatever process has the time: the
key, the class, the tokens, whether the echoed request is the one that the line has, and whether the
answer is what the line asks for. What is found of a row is 72 bytes: where it stands, which part of
it is the response, its class and its tokens. So the output and the row index can later be put
together without parsing either side again. A row that is not good beyond doubt is only
marked, and `merge` looks at it with care.
"""

import os
from collections.abc import Iterator
from struct import Struct
from typing import Any, Final

import msgspec

from penstock.core.answer_schema import Schemas, may_ask
from penstock.core.line import ECHO, Echo, Judgement, LineKey, LineOutcome, judge_answer
from penstock.core.line_index import packed_tokens
from penstock.errors import BlobCorrupt
from penstock.ingest.index import ROW as PLACE
from penstock.ingest.index import ROW_BYTES as PLACE_BYTES
from penstock.lifecycle.totals import Totals

NO_ROW: Final = 0
ONE_ROW: Final = 1
"""A row that parses; whether it is an answer takes care to say."""
UNREADABLE: Final = 2
CONFLICTING: Final = 3
ANSWERED: Final = 4
"""A row that is a good answer of its line beyond doubt, and is already counted."""

TWIN_LINE: Final = 5
"""The line was not sent, because another one has the same request; it gets that one's answer."""
PUT_ASIDE: Final = 6
"""The line was not sent, because it is bad."""
KEPT: Final = 7
"""The line was not sent in this round; what it got before holds."""

RECORD: Final = Struct("<IBBHIQIIQ36s")
"""Line number in the input, flag, bytes of the time, class (see `endings`), bytes of the row,
its offset in the scratch file, where in it the response begins, bytes of the response, tokens (see
`packed_tokens`), the time as JSON (see `processed_time`)."""

Record = tuple[int, int, int, int, int, int, int, int, int, bytes]

FLAG: Final = 4
"""Where in a record the flag stands."""

TIME_CHARS_MAX: Final = 40
"""A longer `processed_time` is no time."""
_TIME_BYTES_MAX: Final = 36
"""What a record has room for; a longer one is left to care."""

UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""All that msgspec raises on hostile bytes; ValidationError is a DecodeError."""

OURS: Final = frozenset({"status", "processed_time", "request", "response"})
"""Members of an output line that are not the caller's own."""

BLOCK_BYTES: Final = 1024 * 1024
"""How much of the input is read in one go."""

Bytes = bytes | bytearray | memoryview


class Row(msgspec.Struct, frozen=True):
    """One provider row; `request` and `response` stay bytes until somebody needs them."""

    key: Any = None
    status: Any = ""
    processed_time: Any = None
    request: msgspec.Raw = msgspec.Raw(b"null")
    response: msgspec.Raw = msgspec.Raw(b"null")


class _Key(msgspec.Struct, gc=False):
    """The members of `Row` that are read and not only skipped, so it refuses what `Row` refuses."""

    key: Any = None
    status: Any = ""
    processed_time: Any = None


class GoodRow(msgspec.Struct, gc=False):
    """A row like nearly all."""

    key: str
    request: Echo
    response: msgspec.Raw
    status: Any = ""
    processed_time: Any = None


ROW: Final = msgspec.json.Decoder(Row)
_KEY: Final = msgspec.json.Decoder(_Key)
_GOOD_ROW: Final = msgspec.json.Decoder(GoodRow)
MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
ENCODER: Final = msgspec.json.Encoder()

_REQUEST: Final = b',"request":'
_REQUEST_FIRST: Final = b'{"request":'
_RESPONSE: Final = b'"response":'


class Ending(msgspec.Struct, frozen=True, array_like=True):
    """A class of answers; few, so a record has its number."""

    outcome: LineOutcome
    code: str
    is_retryable: bool


ENDINGS_MAX: Final = 1_000
"""Classes that one reader tells apart; a row of another one is left to care."""


class Lines:
    """The caller's lines, by their number in the input; safe to read from several processes."""

    def __init__(self, data: int, index: int, numbers: range | None = None) -> None:
        """Take the descriptors of the input and of its line index; only these lines, or all."""
        self._data = data
        size = os.fstat(index).st_size
        self.numbers = range(1, size // PLACE_BYTES + 1) if numbers is None else numbers
        self._first = self.numbers.start
        wanted = len(self.numbers) * PLACE_BYTES
        self._places = os.pread(index, wanted, (self._first - 1) * PLACE_BYTES)
        if len(self._places) != wanted:
            raise BlobCorrupt("The line index of the input is too short.")
        self.count = len(self.numbers)

    def place(self, number: int) -> tuple[int, int]:
        """Return where the line stands: offset and length."""
        offset, length = PLACE.unpack_from(self._places, (number - self._first) * PLACE_BYTES)
        return offset, length

    def line(self, number: int) -> bytes:
        """Return the line, without its end."""
        offset, length = self.place(number)
        return os.pread(self._data, length, offset)

    def span(self) -> tuple[int, int]:
        """Return where in the input they all stand: offset and size."""
        begin, _ = self.place(self.numbers[0])
        offset, length = self.place(self.numbers[-1])
        return begin, offset + length - begin

    def __iter__(self) -> Iterator[memoryview]:
        """Yield all lines in order, read in large blocks."""
        block, begin, end = memoryview(b""), 0, 0
        for offset, length in PLACE.iter_unpack(self._places):
            if offset + length > end:
                wanted = max(length, BLOCK_BYTES)
                block = memoryview(os.pread(self._data, wanted, offset))
                begin, end = offset, offset + len(block)
            yield block[offset - begin : offset - begin + length]


class Reader:
    """Reads whole rows and says what they are."""

    def __init__(
        self,
        keys: LineKey,
        lines: Lines,
        totals: Totals,
        *,
        flags: bytes | None = None,
        mine: int = 0,
    ) -> None:
        """Take a flag for each line, of which only those with `NO_ROW` were sent; None: all were.

        `mine` is the number of this reader among those of the job.
        """
        self._keys = keys
        self._lines = lines
        self._numbers = lines.numbers
        self._flags = flags
        self._totals = totals
        self._schemas = Schemas()
        self._first_ending = mine * ENDINGS_MAX
        self._known: dict[tuple[LineOutcome, str, bool], int] = {}
        self.endings: dict[int, Ending] = {}
        """The classes of answers that were met, by the number that stands in the records."""
        self.strangers = 0
        """Rows that are not of this job, or name no line; never delivered."""

    def read(self, rows: bytes, offset: int) -> bytes:
        """Return the records of these rows, which begin at this offset of the scratch file."""
        records: list[bytes] = []
        view = memoryview(rows)
        check = not rows.isascii()
        start, size = 0, len(rows)
        while start < size:
            end = rows.find(b"\n", start)
            if end < 0:
                end = size
            row = view[start:end]
            record: bytes | None = None
            try:
                if check:
                    # msgspec does not look into what it skips.
                    str(row, "utf-8")
                found = _GOOD_ROW.decode(row)
                record = self._good(found, rows, start, end, offset)
            except UNDECODABLE:
                # Not a good row; what it is instead is found out below.
                record = None
            records.append(record or self._doubtful(bytes(row), offset + start))
            start = end + 1
        return b"".join(records)

    def _good(self, found: GoodRow, rows: bytes, start: int, end: int, offset: int) -> bytes | None:
        """Return the record of a row that is a good answer beyond doubt, and count it."""
        number = self._keys.line_number(found.key)
        if number is None or number not in self._numbers or found.status != "":
            return None
        if self._flags is not None and not self._was_sent(number):
            return None
        line = self._lines.line(number)
        if echo_of(line) != found.request:
            return None
        time = processed_time(found.processed_time)
        judgement = judge_answer(found.response)
        if judgement is None or len(time) > _TIME_BYTES_MAX:
            return None
        if may_ask(line):
            judgement, _ = fitted(self._schemas, judgement, line, found.response)
        usage = judgement.usage
        ending = self._known.get((judgement.outcome, judgement.code, judgement.is_retryable))
        if ending is None:
            ending = self._new_ending(judgement)
            if ending is None:
                return None
        response = bytes(found.response)
        at = rows.rfind(_RESPONSE, start, end) + len(_RESPONSE)
        if not rows.startswith(response, at, end):
            # The same bytes elsewhere in the row are as good.
            at = rows.find(response, start, end)
        self._totals.add(judgement)
        tokens = packed_tokens(usage.prompt_tokens, usage.candidates_tokens + usage.thoughts_tokens)
        size, place = end - start, at - start
        # Unpacked from tuples it would take twice as long.
        return RECORD.pack(
            number,
            ANSWERED,
            len(time),
            ending,
            size,
            offset + start,
            place,
            len(response),
            tokens,
            time,
        )

    def _was_sent(self, number: int) -> bool:
        if number not in self._numbers:
            return False
        return self._flags is None or self._flags[number - self._numbers.start] == NO_ROW

    def _new_ending(self, judgement: Judgement) -> int | None:
        """Return the number of a class that was not met yet; None if there are too many."""
        if len(self.endings) == ENDINGS_MAX:
            return None
        number = self._first_ending + len(self.endings)
        key = judgement.outcome, judgement.code, judgement.is_retryable
        self._known[key] = number
        self.endings[number] = Ending(*key)
        return number

    def _doubtful(self, row: bytes, offset: int) -> bytes:
        """Return the record of any other row; nothing if it is nobody's."""
        try:
            str(row, "utf-8")
            number = self._keys.line_number(_KEY.decode(row).key)
            flag = ONE_ROW
        except UNDECODABLE:
            if not row.strip():
                return b""
            number = self._keys.find(row)
            flag = UNREADABLE
        if number is None or not self._was_sent(number):
            self.strangers += 1
            return b""
        return RECORD.pack(number, flag, 0, 0, len(row), offset, 0, 0, 0, b"")


def fitted(
    schemas: Schemas, judgement: Judgement, line: bytes, response: msgspec.Raw
) -> tuple[Judgement, str]:
    """Return an answer's judgement as it is, or that it is not what the line asks for, and why.

    Takes the caller's whole line. The provider bills such an answer, and the line carries it.
    """
    if judgement.outcome is not LineOutcome.OK:
        return judgement, ""
    problem = schemas.problem(MEMBERS.decode(line)["request"], response)
    if problem is None:
        return judgement, ""
    code, message = problem
    return (
        msgspec.structs.replace(
            judgement, outcome=LineOutcome.INVALID_OUTPUT, code=code, is_retryable=True
        ),
        message,
    )


def echo_of(line: bytes) -> Echo | None:
    """Return the texts of a line that can be put into the output as it is, else None.

    Such a line has its own members first, spelled as we would spell them and none of them a name
    that the output uses, then `request`, and nothing behind it. Nearly all lines are like that.
    """
    at = len(_REQUEST_FIRST)
    if not line.startswith(_REQUEST_FIRST):
        end = line.find(_REQUEST)
        # If all before it is a whole object once it is closed, then it is no text that looks so.
        own = line[:end] + b"}"
        members = MEMBERS.decode(own)
        if end < 0 or not OURS.isdisjoint(members) or ENCODER.encode(members) != own:
            return None
        at = end + len(_REQUEST)
    if line[at] != ord("{") or not line.endswith(b"}}"):
        return None
    return ECHO.decode(memoryview(line)[at:-1])


def processed_time(given: object) -> bytes:
    """Return the row's time as JSON, or nothing if it is none."""
    if isinstance(given, str) and len(given) <= TIME_CHARS_MAX:
        return ENCODER.encode(given)
    return b""


def answer_of(row: Bytes) -> tuple[object, bytes]:
    """Return what makes two rows of a line say the same."""
    found = ROW.decode(row)
    return found.status, bytes(found.response)
