"""Rows like one that is known to be good: only what differs is looked at.

The provider's rows of a job are nearly always written by one program, and so are its lines. Beside
the response they differ in the key, the time and one text. So a good row and its line become a
form: their bytes, with gaps where these stood. What fills both sides of a form, with the same text
in both, is the row of that line, and echoes its request; neither side is parsed for that. A text
may be spelled otherwise in the line than in the row, as by those who write in ASCII what is not;
then both are decoded, and nothing else.

What fills a gap must be one value as the one that stood there, for then all around it is what it
was: digits for digits, characters that need no escape for the time, the inside of one text for the
text. The response is parsed by whoever asks, as it differs, and must be an object to both of its
ends. That the gaps are where they seem to be is proven when the form is made: with other values in
them, the row must say these.

Nothing here says no: a row that fills no form is parsed, and its form is remembered.
"""

import re
from itertools import pairwise
from operator import itemgetter
from typing import Any, Final

import msgspec

from penstock.core.answer_schema import may_ask
from penstock.core.line import ECHO, KEY_DIGITS_MIN, EchoContent

UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""All that msgspec raises on hostile bytes; ValidationError is a DecodeError."""

PLAIN: Final = re.compile(
    rb'\{(?:"(?!(?:status|processed_time|request|response)")[A-Za-z0-9_]+": ?"[ !#-\[\]-~]*", ?)?'
    rb'"request": ?(?=\{)'
)
"""What stands before the request in a line with at most one own member, a text, if that is none of
the output's beyond doubt. Python's `json.dumps` writes the spaces."""

FORMS_MAX: Final = 4
"""Forms remembered of one job; one that is needed anew takes the place of the one that was not
needed for longest."""

ROW_BYTES_MAX: Final = 1024 * 1024
"""Longer rows have no form, as parts of a row and of its line are copied to be compared."""

PATIENCE: Final = 1_000
"""Rows that may fill no form, beyond those that do, before a job's are taken for all different."""

FORM_COSTS: Final = 20
"""Rows that could be read in the time that it takes to make a form."""

_TIME: Final = re.compile(rb"[ !#-\[\]-~]*")
"""Characters that are the same in a JSON text and in our spelling of it."""

_BACKSLASH: Final = ord("\\")
_BRACE: Final = ord("}")
_QUOTE: Final = b'"'
_STAND_IN: Final = b"27182818284590452353"
"""In the gaps of a row whose form is made; no row has it anywhere."""


class Echoed(msgspec.Struct, gc=False):
    """What is compared of a request."""

    contents: msgspec.Raw


class GoodRow(msgspec.Struct, gc=False):
    """A row like nearly all."""

    key: str
    request: Echoed
    response: msgspec.Raw
    status: Any = ""
    processed_time: Any = None


GOOD_ROW: Final = msgspec.json.Decoder(GoodRow)
TEXTS: Final = msgspec.json.Decoder(list[EchoContent])
_ONE: Final = msgspec.json.Decoder(msgspec.Raw)
_TEXT: Final = msgspec.json.Decoder(str)

Gap = tuple[int, int]
Filled = tuple[int, int, bytes]
"""Where the response begins and ends, and the time, as JSON."""


class Form:
    """The bytes of a row and of its line around their gaps."""

    __slots__ = (
        "_after",
        "_before",
        "_between",
        "_heads",
        "_key",
        "_line_after",
        "_line_before",
        "_tails",
        "_time",
        "_time_json",
        "_time_known",
        "asks",
    )

    def __init__(self, row: bytes, gaps: dict[str, Gap], line: tuple[bytes, bytes]) -> None:
        """Take the gaps of a row, and the request of its line before and after the text."""
        self._line_before, self._line_after = line
        self.asks = may_ask(self._line_before) or may_ask(self._line_after)
        """Whether the answer may have to be of a schema."""
        text, response = gaps["text"], gaps["response"]
        self._before, self._after = text[0], len(row) - response[1]
        self._between = row[text[1] : response[0]] + b"{"
        self._heads: list[tuple[bytes, int]] = []
        """What stands before the text, and how far from the start of the row."""
        self._tails: list[tuple[bytes, int]] = []
        """What stands behind the response, and how far from the end of the row."""
        at = 0
        for start, end in (*sorted(gaps.values()), (len(row), len(row))):
            place, is_from_end = self._place(at, len(row))
            if at != text[1]:
                (self._tails if is_from_end else self._heads).append((row[at:start], place))
            at = end
        self._key = self._gap(gaps["key"], len(row))
        self._time = self._gap(gaps["time"], len(row)) if "time" in gaps else None
        self._time_known = self._time_json = b""

    def _place(self, at: int, size: int) -> tuple[int, bool]:
        """Return where something stands in a row, and whether that is from its end."""
        return (at, False) if at <= self._before else (at - size, True)

    def _gap(self, gap: Gap, size: int) -> tuple[int, int, bool]:
        at, is_from_end = self._place(gap[0], size)
        return at, at + gap[1] - gap[0], is_from_end

    def number(self, data: bytes, start: int, end: int) -> int:
        """Return the number of the line of a row between two places; 0 if it fills no such form.

        What depends on the line is still to be compared.
        """
        for literal, at in self._heads:
            if not data.startswith(literal, start + at):
                return 0
        for literal, at in self._tails:
            if not data.startswith(literal, end + at):
                return 0
        first, last, is_from_end = self._key
        base = end if is_from_end else start
        digits = data[base + first : base + last]
        if not digits.isdigit() or (digits.startswith(b"0") and len(digits) > KEY_DIGITS_MIN):
            return 0
        return int(digits)

    def fill(self, data: bytes, start: int, end: int, line: bytes) -> Filled | None:
        """Return what a row says that has such a number and fills the form with its line."""
        plain = PLAIN.match(line)
        if plain is None or not line.endswith(self._line_after):
            return None
        first, last = plain.end() + len(self._line_before), len(line) - len(self._line_after)
        if first > last or not line.startswith(self._line_before, plain.end()):
            return None
        if line.find(_QUOTE, first) != last or line[last - 1] == _BACKSLASH:
            try:
                _ONE.decode(memoryview(line)[first - 1 : last + 1])
            except UNDECODABLE:
                return None
        at, stop = start + self._before, end - self._after
        behind = at + last - first
        if not data.startswith(line[first:last], at) or not data.startswith(self._between, behind):
            behind = self._spelled_otherwise(data, at, stop, memoryview(line)[first - 1 : last + 1])
        found = behind + len(self._between) - 1
        if behind < 0 or stop <= found or data[stop - 1] != _BRACE:
            return None
        time = self._time_of(data, start, end)
        return None if time is None else (found, stop, time)

    def _spelled_otherwise(self, data: bytes, at: int, stop: int, text: memoryview) -> int:
        """Return where the text of a row ends that is the same in other bytes; -1 if none is.

        It is given with its quotes, and in the row it begins at a place behind one.
        """
        # Most texts end at the first quote, and one byte is found six times as fast as several.
        behind = data.find(_QUOTE, at, stop)
        if not data.startswith(self._between, behind):
            behind = data.find(self._between, at, stop)
        if behind < 0:
            return -1
        try:
            # Where what follows it stands in the text itself, this is no text.
            said = _TEXT.decode(memoryview(data)[at - 1 : behind + 1])
            return behind if said == _TEXT.decode(text) else -1
        except UNDECODABLE:
            return -1

    def _time_of(self, data: bytes, start: int, end: int) -> bytes | None:
        """Return the time of a row as JSON, or nothing; None if it is not a plain one."""
        if self._time is None:
            return b""
        first, last, is_from_end = self._time
        base = end if is_from_end else start
        found = data[base + first : base + last]
        if found != self._time_known:
            if _TIME.fullmatch(found) is None:
                return None
            self._time_known, self._time_json = found, _QUOTE + found + _QUOTE
        return self._time_json


class Forms:
    """The forms of one job; without any, or once patience is over, there is nothing to try."""

    def __init__(self) -> None:
        self.known: list[Form] = []
        """The one that was filled last comes first."""
        self._patience = PATIENCE

    def was_filled(self, place: int) -> None:
        """Note that a row filled the form at this place."""
        if place:
            self.known.insert(0, self.known.pop(place))
        if self._patience < PATIENCE:
            self._patience += 1

    def learn(self, row: bytes, found: GoodRow, line: bytes, time: bytes) -> None:
        """Remember the form of a good row and its line, if there is patience left for it."""
        if self._patience <= 0 or len(row) > ROW_BYTES_MAX:
            return
        self._patience -= FORM_COSTS
        form = form_of(row, found, line, time)
        if form is not None:
            del self.known[FORMS_MAX - 1 :]
            self.known.insert(0, form)
        if self._patience <= 0:
            self.known.clear()


def form_of(row: bytes, found: GoodRow, line: bytes, time: bytes) -> Form | None:
    """Return the form of a good row, which says this and has this time, and of its line.

    None if it has none: no text in it, one that stands elsewhere before, members in another order.
    """
    plain = PLAIN.match(line)
    if plain is None or _STAND_IN in row or _STAND_IN in line:
        return None
    request = line[plain.end() : -1]
    try:
        str(row, "utf-8")
        texts = _texts(ECHO.decode(request).contents)
        echoes = _texts(TEXTS.decode(found.request.contents))
        text, echoed = max(zip(texts, echoes, strict=False), key=_line_bytes, default=(b"", b""))
        if text != echoed and _TEXT.decode(text) != _TEXT.decode(echoed):
            return None
        gaps = _gaps(row, found, echoed, time)
        at = request.find(text)
        before, after = request[: at + 1], request[at + len(text) - 1 :]
        if gaps is None or not _holds(row, gaps, before, after):
            return None
    except UNDECODABLE:
        return None
    return Form(row, gaps, (before, after + b"}"))


def _line_bytes(text_and_echo: tuple[bytes, bytes]) -> int:
    return len(text_and_echo[0])


def _texts(contents: list[EchoContent]) -> list[bytes]:
    return [bytes(part.text) for one in contents for part in one.parts]


def _gaps(row: bytes, found: GoodRow, text: bytes, time: bytes) -> dict[str, Gap] | None:
    """Return where the parts of a row that differ from others seem to stand."""
    if len(text) <= len(b'""') or not text.startswith(_QUOTE):
        return None
    response = bytes(found.response)
    digits = len(found.key) - found.key.rindex("-") - 1
    wanted = {"key": b'"' + found.key.encode() + b'"', "text": text}
    if time:
        wanted["time"] = time
    gaps = {}
    for name, value in wanted.items():
        at = row.find(value)
        if at < 0:
            return None
        gaps[name] = at + 1, at + len(value) - 1
    _, end = gaps["key"]
    gaps["key"] = end - digits, end
    at = row.rfind(response)
    gaps["response"] = at, at + len(response)
    ordered = sorted(gaps.values())
    is_apart = all(before[1] <= after[0] for before, after in pairwise(ordered))
    is_next = ordered.index(gaps["response"]) == ordered.index(gaps["text"]) + 1
    return gaps if is_apart and is_next else None


def _holds(row: bytes, gaps: dict[str, Gap], before: bytes, after: bytes) -> bool:
    """Tell whether the row says what is put into its gaps, and where the line has its text."""
    first, last = gaps["key"]
    digits = (b"8" if row.startswith(b"7", first) else b"7") * (last - first)
    values = {"key": digits, "text": _STAND_IN, "response": _STAND_IN, "time": _STAND_IN}
    pieces, at = [], 0
    for name, (start, end) in sorted(gaps.items(), key=itemgetter(1)):
        pieces += [row[at:start], values[name]]
        at = end
    pieces.append(row[at:])
    said = GOOD_ROW.decode(b"".join(pieces))
    asked = ECHO.decode(before + _STAND_IN + after).contents
    key = row[row.rindex(_QUOTE, 0, first) + 1 : first] + digits
    return (
        (said.key.encode(), said.status, bytes(said.response)) == (key, "", _STAND_IN)
        and ("time" not in gaps or said.processed_time == _STAND_IN.decode())
        and _QUOTE + _STAND_IN + _QUOTE in _texts(asked)
        and asked == TEXTS.decode(said.request.contents)
    )
