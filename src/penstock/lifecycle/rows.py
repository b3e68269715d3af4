"""Read the provider's rows: whose line is it, and is it an answer beyond doubt.

All that needs a row's bytes to be parsed happens here, once, in whatever process has the time: the
key, the class, the tokens, whether the echoed request is the one that the line has, and whether the
answer is what the line asks for. What is left of a row then is its response and 64 bytes: where
that is kept, its class and its tokens. So the output and the row index can later be put together
without parsing either side again. A row that is not good beyond doubt is kept whole and only
marked, and `merge` looks at it with care.
"""

import os
import re
from collections.abc import Iterator
from struct import Struct
from typing import Any, Final

import msgspec

from penstock.core.answer_schema import Schemas, may_ask
from penstock.core.line import (
    ECHO,
    SPOKEN,
    Judgement,
    LineKey,
    LineOutcome,
    SpokenContent,
    judge_answer,
)
from penstock.core.line_index import packed_tokens
from penstock.errors import BlobCorrupt
from penstock.ingest.index import ROW as PLACE
from penstock.ingest.index import ROW_BYTES as PLACE_BYTES
from penstock.lifecycle.forms import (
    GOOD_ROW,
    PLAIN,
    ROW_BYTES_MAX,
    TEXTS,
    UNDECODABLE,
    Echoed,
    Forms,
    GoodRow,
)
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

RECORD: Final = Struct("<IBBHQIQ36s")
"""Line number in the input, flag, bytes of the time, class (see `endings`), where in the file of
what is kept its bytes begin, how many they are, tokens (see `packed_tokens`), the time as JSON (see
`processed_time`). Of an answered row the response is kept, of any other one all of it."""

Record = tuple[int, int, int, int, int, int, int, bytes]

FLAG: Final = 4
"""Where in a record the flag stands."""

_WORDS: Final = RECORD.size // 4
"""Numbers of four bytes in a record; all that we run on are little-endian, as the record is."""


class Columns:
    """Some members of many records, which C picks out: a third of what it takes to unpack them."""

    def __init__(self, records: bytes) -> None:
        """Take records, one behind the other."""
        words = memoryview(records).cast("I")
        self.time_bytes: bytes = records[FLAG + 1 :: RECORD.size]
        self.endings: list[int] = memoryview(records).cast("H")[3 :: 2 * _WORDS].tolist()
        self.response_bytes: list[int] = words[4::_WORDS].tolist()
        prompts, outputs = words[5::_WORDS].tolist(), words[6::_WORDS].tolist()
        self.tokens = [
            prompt | output << 32 for prompt, output in zip(prompts, outputs, strict=True)
        ]


def numbers_of(records: bytes) -> list[int]:
    """Return which lines some records are of."""
    numbers: list[int] = memoryview(records).cast("I")[::_WORDS].tolist()
    return numbers


TIME_CHARS_MAX: Final = 40
"""A longer `processed_time` is no time."""
_TIME_BYTES_MAX: Final = 36
"""What a record has room for; a longer one is left to care."""

OURS: Final = frozenset({"status", "processed_time", "request", "response"})
"""Members of an output line that are not the caller's own."""

BLOCK_BYTES: Final = 1024 * 1024
"""How much of the input is read in one go."""


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


ROW: Final = msgspec.json.Decoder(Row)
_KEY: Final = msgspec.json.Decoder(_Key)
_ECHOED: Final = msgspec.json.Decoder(Echoed)
_SPOKEN_CONTENTS: Final = msgspec.json.Decoder(list[SpokenContent])
MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
ENCODER: Final = msgspec.json.Encoder()

_REQUEST: Final = re.compile(rb',[ \t\r]*"request"[ \t\r]*:[ \t\r]*(?=\{)')
_RESPONSE: Final = b'"response":'
_CONTENTS: Final = b'"contents":'
_ESCAPE: Final = b"\\u"

_STAND_IN: Final = b"2718281828459045"
"""In place of the contents in a request that is looked at without them; no request has it there."""

_FRAMES_MAX: Final = 256
"""Requests without their contents that are remembered; those of a job are mostly alike."""
_FRAME_BYTES_MAX: Final = 4096
"""A larger one is looked at each time."""


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
        offset, length = PLACE.unpack_from(self._places, (number - self._first) * PLACE_BYTES)
        return os.pread(self._data, length, offset)

    def lengths(self, first: int, count: int) -> list[int]:
        """Return the lengths of lines that follow each other."""
        at = (first - self._first) * PLACE_BYTES
        places = memoryview(self._places)[at : at + count * PLACE_BYTES]
        lengths: list[int] = places.cast("I")[2::3].tolist()
        return lengths

    def span(self) -> tuple[int, int]:
        """Return where in the input they all stand: offset and size."""
        begin, _ = self.place(self.numbers[0])
        offset, length = self.place(self.numbers[-1])
        return begin, offset + length - begin

    def some(self, first: int, count: int, block_bytes: int = BLOCK_BYTES) -> Iterator[memoryview]:
        """Yield lines that follow each other, read in large blocks."""
        at = (first - self._first) * PLACE_BYTES
        places = self._places[at : at + count * PLACE_BYTES]
        last, length = PLACE.unpack_from(places, len(places) - PLACE_BYTES)
        block, begin, end, stop = memoryview(b""), 0, 0, last + length
        for offset, length in PLACE.iter_unpack(places):
            if offset + length > end:
                wanted = max(length, min(block_bytes, stop - offset))
                block = memoryview(os.pread(self._data, wanted, offset))
                begin, end = offset, offset + len(block)
            yield block[offset - begin : offset - begin + length]


class _Rows(msgspec.Struct, gc=False):
    """Some rows that follow each other."""

    data: bytes
    is_ascii: bool

    def decode(self, found: GoodRow, start: int, end: int) -> None:
        """Raise if the row between two places, which says this, is not UTF-8.

        Nobody has looked yet at what msgspec has skipped. But the response was decoded and the
        contents are the caller's, so only the rest is looked at, and that is mostly ASCII.
        """
        if self.is_ascii:
            return
        data, contents, response = self.data, found.request.contents, found.response
        before = data.find(_CONTENTS, start, end) + len(_CONTENTS)
        behind = before + len(memoryview(contents))
        at = data.find(_RESPONSE, behind, end) + len(_RESPONSE)
        if (
            min(before, at) < start + len(_CONTENTS)
            or not data.startswith(contents, before, end)
            or not data.startswith(response, at, end)
        ):
            # Other members have such names, too, or come in another order.
            str(data[start:end], "utf-8")
            return
        after = at + len(memoryview(response))
        str(data[start:before] + data[behind:at] + data[after:end], "utf-8")


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
        self._frames = Frames()
        self._forms = Forms()
        self._first_ending = mine * ENDINGS_MAX
        self._known: dict[tuple[LineOutcome, str, bool], int] = {}
        self.endings: dict[int, Ending] = {}
        """The classes of answers that were met, by the number that stands in the records."""
        self.strangers = 0
        """Rows that are not of this job, or name no line; never delivered."""
        self._kept: list[bytes] = []
        self._offset = 0
        """Where the next of them will stand."""

    def read(self, rows: bytes, offset: int) -> tuple[bytes, bytes]:
        """Return the records of these rows, and what is to be kept of them, at this offset."""
        records: list[bytes] = []
        kept, self._offset = self._kept, offset
        some = _Rows(rows, rows.isascii())
        view = memoryview(rows)
        start, size = 0, len(rows)
        while start < size:
            end = rows.find(b"\n", start)
            if end < 0:
                end = size
            try:
                record = self._alike(some, start, end)
                if record is None:
                    found = GOOD_ROW.decode(view[start:end])
                    record = self._good(found, some, start, end)
            except UNDECODABLE:
                # Not a good row; what it is instead is found out below.
                record = None
            records.append(record or self._doubtful(rows[start:end]))
            start = end + 1
        needed = b"".join(kept)
        kept.clear()
        return b"".join(records), needed

    def _good(self, found: GoodRow, rows: "_Rows", start: int, end: int) -> bytes | None:
        """Return the record of a row that is a good answer beyond doubt, and count it."""
        number = self._keys.line_number(found.key)
        if number is None or not self._was_sent(number) or found.status != "":
            return None
        line = self._lines.line(number)
        asks = self._frames.asks(line, found.request.contents)
        if asks is None:
            return None
        time = processed_time(found.processed_time)
        if len(time) > _TIME_BYTES_MAX:
            return None
        rows.decode(found, start, end)
        record = self._record(number, bytes(found.response), time, line if asks else None)
        if record is not None:
            self._forms.learn(rows.data[start:end], found, line, time)
        return record

    def _alike(self, rows: "_Rows", start: int, end: int) -> bytes | None:
        """Return the same of a row that is like a good one; None if it is not, or not good."""
        data = rows.data
        for place, form in enumerate(self._forms.known):
            number = form.number(data, start, end)
            if not self._was_sent(number) or end - start > ROW_BYTES_MAX:
                continue
            line = self._lines.line(number)
            filled = form.fill(data, start, end, line)
            if filled is None:
                continue
            self._forms.was_filled(place)
            at, stop, time = filled
            return self._record(number, data[at:stop], time, line if form.asks else None)
        return None

    def _record(
        self,
        number: int,
        response: bytes,
        time: bytes,
        asked: bytes | None,
    ) -> bytes | None:
        """Return the record of the row of a line if its response is good; keep and count that.

        `asked` is the line, if the answer may have to be of a schema.
        """
        judgement = judge_answer(response)
        if judgement is None:
            return None
        if asked is not None:
            judgement, _ = fitted(self._schemas, judgement, asked, response)
        ending = self._known.get((judgement.outcome, judgement.code, judgement.is_retryable))
        if ending is None:
            ending = self._new_ending(judgement)
            if ending is None:
                return None
        self._totals.add(judgement)
        usage = judgement.usage
        tokens = packed_tokens(usage.prompt_tokens, usage.candidates_tokens + usage.thoughts_tokens)
        offset = self._keep(response)
        return RECORD.pack(number, ANSWERED, len(time), ending, offset, len(response), tokens, time)

    def _keep(self, what: bytes) -> int:
        """Keep what will be needed again; return where it will stand."""
        self._kept.append(what)
        offset = self._offset
        self._offset = offset + len(what)
        return offset

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

    def _doubtful(self, row: bytes) -> bytes:
        """Return the record of any other row, which is kept whole; nothing if it is nobody's."""
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
        return RECORD.pack(number, flag, 0, 0, self._keep(row), len(row), 0, b"")


def fitted(
    schemas: Schemas, judgement: Judgement, line: bytes, response: bytes | msgspec.Raw
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


class Frames:
    """Compares what a row echoes with the caller's line.

    It parses neither the line nor, once more, the contents: if those of the row stand in the line,
    byte for byte, only what is around them has to be a request, and that is mostly known.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes], bool] = {}
        """Whether requests with this around their contents may ask for JSON."""

    def asks(self, line: bytes, contents: msgspec.Raw) -> bool | None:
        """Return None if the echo or the line is not as expected, else whether to ask `fitted`.

        A good line has its own members first, none of them a name that the output uses, then
        `request`, and nothing behind it: it stands in the output as it is (`inside_of`).
        """
        plain = PLAIN.match(line)
        at = _request_at(line) if plain is None else plain.end()
        if at is None or not line.endswith(b"}}"):
            return None
        middle = line.find(_CONTENTS, at) + len(_CONTENTS)
        if not line.startswith(contents, middle):
            return self._spelled_otherwise(line, at, contents)
        frame = line[at:middle], line[middle + len(memoryview(contents)) : -1]
        known = self._known.get(frame)
        return self._new(frame) if known is None else known

    def _new(self, frame: tuple[bytes, bytes]) -> bool | None:
        before, behind = frame
        # Raises if that is no request; and it might be the contents of something in it.
        if bytes(_ECHOED.decode(before + _STAND_IN + behind).contents) != _STAND_IN:
            return None
        asks = may_ask(before) or may_ask(behind)
        if len(before) + len(behind) <= _FRAME_BYTES_MAX:
            if len(self._known) == _FRAMES_MAX:
                self._known.clear()
            self._known[frame] = asks
        return asks

    def _spelled_otherwise(self, line: bytes, at: int, contents: msgspec.Raw) -> bool | None:
        """Compare only texts, which a re-serialisation leaves as they are or spells otherwise."""
        # These contents are not the caller's, byte for byte.
        str(contents, "utf-8")
        request = memoryview(line)[at:-1]
        # Decoding them takes twice as long; it is for who writes in ASCII what is not.
        is_same = _ESCAPE not in line and ECHO.decode(request).contents == TEXTS.decode(contents)
        if not is_same:
            is_same = SPOKEN.decode(request).contents == _SPOKEN_CONTENTS.decode(contents)
        return may_ask(line) if is_same else None


def _request_at(line: bytes) -> int | None:
    """Return where the request of a line begins whose own members are not of the simplest kind."""
    found = _REQUEST.search(line)
    if found is None or not line.startswith(b"{"):
        return None
    # If all before it is a whole object once it is closed, then it is no text that looks so.
    members = MEMBERS.decode(line[: found.start()] + b"}")
    return found.end() if OURS.isdisjoint(members) else None


def inside_of(line: bytes, members: dict[str, msgspec.Raw]) -> bytes:
    """Return a good line's members as they stand in the output, between its time and its response.

    They are spelled as the caller spelled them. Only where the request is not the last of them they
    are put into the order of an output line.
    """
    if next(reversed(members)) == "request":
        return line.strip()[1:-1]
    own = {name: value for name, value in members.items() if name != "request"}
    return ENCODER.encode({**own, "request": members["request"]})[1:-1]


def processed_time(given: object) -> bytes:
    """Return the row's time as JSON, or nothing if it is none."""
    if isinstance(given, str) and len(given) <= TIME_CHARS_MAX:
        return ENCODER.encode(given)
    return b""
