"""Decoders for the inside of the one huge JSON string: escapes to UTF-8, base64 to bytes.

No JSON library streams a string, so we cut it ourselves, only where a cut cannot change the
meaning, and let orjson judge and un-escape each segment. The segments are small because one
character outside Latin-1 makes Python's temporary string four bytes a character, and that has to
stay in the processor's cache. A segment is tried as if the string did not end in it; searching
every segment for its quote would cost more than un-escaping it does.

What stands before an error is always delivered before the error is raised. Otherwise it would
depend on the chunks of the network whether a limit or the error is met first.
"""

import binascii
import codecs
import re
from collections.abc import Callable
from typing import Final

import orjson
import pybase64

from penstock.errors import InvalidRequest, Problem

SEGMENT_BYTES: Final = 32_768
"""Escaped bytes un-escaped at once."""

UTF8_SLICE_BYTES: Final = 65_536
"""Bytes checked for UTF-8 at once, so that a 64 MiB line does not become 256 MiB of characters."""

_HIGH: Final = rb"\\u[dD][89abAB][0-9a-fA-F]{2}"
_LOW: Final = rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_SCALAR: Final = rb"\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}"
# Possessive throughout: a gigabyte of backslashes must not make the matcher step back.
_VALID: Final = re.compile(
    rb'(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|' + _SCALAR + rb"|" + _HIGH + _LOW + rb")*+"
)
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_PARTIAL_ESCAPE: Final = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_FINAL_HIGH: Final = re.compile(_HIGH + rb"\Z")
# The longest thing at a segment's end that decides the cut is `\uXXXX`.
_ESCAPE_BYTES: Final = 6
_ASCII_END: Final = 0x80
_LEAD_START: Final = 0xC0
_SPACE: Final = 0x20
_BACKSLASH: Final = 0x5C


def first_bad_utf8(data: bytes) -> int | None:
    """Return the offset of the first byte that is not UTF-8, None when all of it is."""
    if data.isascii():
        return None
    view = memoryview(data)
    start = 0
    while start < len(data):
        stop = min(start + UTF8_SLICE_BYTES, len(data))
        try:
            _, used = codecs.utf_8_decode(view[start:stop], "strict", stop == len(data))
        except UnicodeDecodeError as error:
            return start + error.start
        start += used
    return None


def string_fault(inside: bytes) -> tuple[int, str, str] | None:
    """Return `(offset, code, message)` of what is wrong inside a JSON string, None if nothing is.

    A quote that is not escaped ends the string; what follows it is not looked at.
    """
    end = _valid_end(inside)
    bad = first_bad_utf8(inside[:end])
    if bad is not None:
        return bad, "invalid_utf8", "this byte is not UTF-8"
    if inside[end : end + 1] in (b"", b'"'):
        return None
    if _SURROGATE.match(inside, end):
        return end, "lone_surrogate", "half of a surrogate pair stands alone"
    if inside[end] < _SPACE:
        return end, "invalid_json", "a control character in a string must be escaped"
    return end, "invalid_json", "this escape does not exist in JSON"


def _valid_end(inside: bytes) -> int:
    """Return where the longest valid beginning ends; its UTF-8 is not looked at."""
    return next(_VALID.finditer(inside)).end()


def safe_cut(segment: bytes) -> int:
    """Return how much of `segment` can be decoded without knowing what follows.

    The rest, at most 11 bytes, is the start of an escape, of a surrogate pair or of a UTF-8
    sequence. What can no longer become valid is not held back, so that it is refused at once.
    """
    end = len(segment)
    slash = segment.rfind(b"\\", max(0, end - _ESCAPE_BYTES))
    if slash < 0 or not _opens_escape(segment, slash):
        return _utf8_cut(segment)
    if _FINAL_HIGH.match(segment, slash):
        return slash
    if not _PARTIAL_ESCAPE.match(segment, slash):
        return _utf8_cut(segment)
    high = slash - _ESCAPE_BYTES
    if high >= 0 and _FINAL_HIGH.match(segment, high, slash) and _opens_escape(segment, high):
        return high
    return slash


def _opens_escape(segment: bytes, slash: int) -> bool:
    """Tell whether this backslash opens an escape, being the last of an odd run."""
    run = segment[: slash + 1]
    return (len(run) - len(run.rstrip(b"\\"))) % 2 == 1


def _utf8_cut(segment: bytes) -> int:
    for back in range(1, min(4, len(segment) + 1)):
        byte = segment[-back]
        if byte < _ASCII_END:
            break
        if byte >= _LEAD_START:
            needed = 2 + (byte >= 0xE0) + (byte >= 0xF0)  # noqa: PLR2004  # UTF-8's own marks
            return len(segment) - back if back < needed else len(segment)
    return len(segment)


class JsonString:
    """The inside of one JSON string, fed in any pieces; gives its UTF-8 bytes to `out`.

    `offset` is where the inside starts in the body, in bytes; errors are placed by it. Feed until
    `feed` returns something else than -1.
    """

    def __init__(self, out: Callable[[bytes], object], *, offset: int) -> None:
        self._out = out
        self._offset = offset
        self._carry = b""

    @property
    def between(self) -> bool:
        """Nothing is held back: the next byte starts a character."""
        return not self._carry

    def skip(self, size: int) -> None:
        """Count `size` bytes that somebody else has decoded."""
        self._offset += size

    def feed(self, chunk: bytes, start: int) -> int:
        """Decode `chunk` from `start` and return the index after the closing quote.

        Returns -1 when the string goes on behind the chunk. Raises `InvalidRequest`
        (`invalid_json`, `invalid_utf8`, `lone_surrogate`) at the first byte that is wrong.
        """
        while start < len(chunk):
            stop = min(start + SEGMENT_BYTES, len(chunk))
            held = len(self._carry)
            segment = self._carry + chunk[start:stop]
            cut = safe_cut(segment)
            self._carry = segment[cut:]
            quote = self._decode(segment[:cut])
            if quote >= 0:
                return start + quote + 1 - held
            start = stop
        return -1

    def _decode(self, segment: bytes) -> int:
        try:
            text = orjson.loads(b'"%b"' % segment)
        except orjson.JSONDecodeError:
            return self._find_end(segment)
        self._out(text.encode())
        self._offset += len(segment)
        return -1

    def _find_end(self, segment: bytes) -> int:
        fault = string_fault(segment)
        end = fault[0] if fault else _valid_end(segment)
        self._out(orjson.loads(b'"%b"' % segment[:end]).encode())
        if fault is None:
            return end
        _, code, message = fault
        offset = self._offset + end
        raise InvalidRequest(
            f"The string `input_data` is broken at byte {offset} of the body: {message}.",
            code=code,
            hint="Let a JSON library write the body; it escapes the text as JSON asks.",
            problems=[Problem(code=code, message=message, offset=offset)],
        )


_FOREIGN: Final = re.compile(rb"[^A-Za-z0-9+/\r\n]")
_NOT_ENDING: Final = re.compile(rb"[^= \t\r\n]")
_PAD: Final = re.compile(rb"=")
_LINE_ENDS: Final = b"\r\n"
_URL_SAFE: Final = b"-_"
_QUAD: Final = 4
_PADS: Final = (0, 0, 2, 1)


class Base64:
    """Base64 text fed in any pieces; gives the bytes it stands for to `out`.

    The standard alphabet; line breaks may stand anywhere, blanks only at the end. Padding may be
    missing as a whole. Refused, always as `InvalidRequest` `invalid_base64` with the offset in
    characters from the start of the text: every other character, data after padding, half a
    padding, a last group of one character, and a last character with bits that would be lost.
    """

    def __init__(self, out: Callable[[bytes], object], *, offset: int = 0) -> None:
        self._out = out
        self._offset = offset
        self._carry = b""
        self._pads = 0
        self._ending = False

    def take(self, text: bytes) -> bool:
        """Decode `text` if it is nothing but the alphabet; otherwise do nothing, return False."""
        if self._ending or b"=" in text:
            return False
        data = self._carry + text if self._carry else text
        whole = len(data) - len(data) % _QUAD
        try:
            decoded = pybase64.b64decode(memoryview(data)[:whole], validate=True)
            pybase64.b64decode(data[whole:].ljust(_QUAD, b"A"), validate=True)
        except binascii.Error:
            return False
        self._carry = data[whole:]
        self._offset += len(text)
        self._out(decoded)
        return True

    def feed(self, text: bytes) -> None:
        """Decode `text`, which may hold line breaks and padding; see the class for refusals."""
        if self._ending:
            self._end(text)
        elif not self.take(text):
            foreign = _FOREIGN.search(text)
            stop = foreign.start() if foreign else len(text)
            kept = text[:stop].translate(None, _LINE_ENDS)
            self.take(kept)
            self._offset += stop - len(kept)
            self._end(text[stop:])

    def finish(self) -> None:
        """Decode what is left at the end of the text."""
        if len(self._carry) == 1:
            raise self._refusal(0, "the text ends one character into a group of four")
        needed = _PADS[len(self._carry)]
        if self._pads not in (0, needed):
            raise self._refusal(0, "half of the padding is missing")
        quad = self._carry + b"=" * needed
        decoded = pybase64.b64decode(quad, validate=True)
        if pybase64.b64encode(decoded) != quad:
            raise self._refusal(0, "the last character holds bits that belong to no byte")
        self._out(decoded)

    def _end(self, text: bytes) -> None:
        """Let padding and white space pass, nothing else."""
        if not text:
            return
        self._ending = True
        foreign = _NOT_ENDING.search(text)
        for pad in _PAD.finditer(text, 0, foreign.start() if foreign else len(text)):
            self._pads += 1
            if self._pads > _PADS[len(self._carry)]:
                raise self._refusal(pad.start(), "there is padding where none belongs")
        if foreign:
            raise self._refusal(foreign.start(), self._explain(text[foreign.start()]))
        self._offset += len(text)

    def _explain(self, byte: int) -> str:
        if byte in _URL_SAFE:
            return "the URL-safe alphabet (`-` and `_`) is not accepted"
        if _FOREIGN.match(bytes([byte])):
            return "this character is not in the base64 alphabet"
        return "there is data after the padding or after a blank"

    def _refusal(self, ahead: int, message: str) -> InvalidRequest:
        offset = self._offset + ahead
        return InvalidRequest(
            f"`input_data` is read as base64, because it does not start with `{{`, "
            f"but at character {offset} {message}.",
            code="invalid_base64",
            hint="Send JSONL as it is, or base64 of it with the standard alphabet (`+` and `/`), "
            "in one piece.",
            problems=[Problem(code="invalid_base64", message=message, offset=offset)],
        )
