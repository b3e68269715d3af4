"""The parts of an answer: one by one, and pictures as links to where they can be fetched.

All of it comes from a model, so a type is only what the bytes themselves say: a picture that no
browser takes for a page, or plain text. What a row claims about them is not believed.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec
import pybase64

from penstock.errors import NotFound

TEXT: Final = "text/plain; charset=utf-8"

_RIFF_TYPE: Final = slice(8, 12)
_BEGINNING_CHARACTERS: Final = 16
"""Of base64: the 12 bytes in which a picture says what it is."""

_MEDIA: Final = b'"inlineData"'
_UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_Members = dict[str, msgspec.Raw]

Address = Callable[[int, int], str]
"""Returns where a part can be fetched: number of the line from 1, number of the part from 0."""


class Part(msgspec.Struct, frozen=True):
    """What one part holds."""

    data: bytes
    media_type: str
    extension: str


class _Inline(msgspec.Struct, gc=False):
    data: Any = None


class _OnePart(msgspec.Struct, gc=False):
    text: Any = None
    inline: Any = msgspec.field(name="inlineData", default=None)


class _Content(msgspec.Struct, gc=False):
    parts: list[_OnePart] = []


class _Candidate(msgspec.Struct, gc=False):
    content: _Content | None = None


class _Response(msgspec.Struct, gc=False):
    candidates: list[_Candidate] = []


class _Line(msgspec.Struct, gc=False):
    response: _Response | None = None


_LINE: Final = msgspec.json.Decoder(_Line)
_INLINE: Final = msgspec.json.Decoder(_Inline)
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])


def part_of(line: bytes, number: int) -> Part:
    """Return a part of the first candidate of an output line, counted from 0.

    Raises `NotFound`, which says what is there instead of a picture or a text.
    """
    try:
        response = _LINE.decode(line).response
    except _UNDECODABLE as error:
        raise _absent("The answer of this line does not have the shape of one.") from error
    candidates = [] if response is None else response.candidates
    content = candidates[0].content if candidates else None
    if content is None or not content.parts:
        raise _absent("This line has no answer with parts.")
    if number >= len(content.parts):
        last = len(content.parts) - 1
        raise _absent("The answer has no such part.", f"Its parts are 0 to {last}.")
    part = content.parts[number]
    if isinstance(part.text, str):
        return Part(part.text.encode(), TEXT, "txt")
    data = part.inline.get("data") if isinstance(part.inline, dict) else None
    if not isinstance(data, str):
        raise _absent("This part holds neither a text nor media.")
    return _picture(data)


def _picture(data: str) -> Part:
    found = _decoded(data)
    known = None if found is None else picture_type(found)
    if found is None or known is None:
        raise _absent(
            "This part is no picture that may be shown: PNG, JPEG, WebP and GIF may.",
            "It stands in the output, as base64.",
        )
    return Part(found, known, known.removeprefix("image/"))


def picture_type(data: bytes) -> str | None:
    """Return the media type of a picture by its first bytes; None if it is none of those we show.

    SVG is a document with scripts, and whatever else begins otherwise may be one.
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data.startswith(b"RIFF") and data[_RIFF_TYPE] == b"WEBP":
        return "image/webp"
    return None


def _decoded(data: str) -> bytes | None:
    try:
        return pybase64.b64decode(data, validate=True)
    except ValueError:
        # Not base64, or not ASCII.
        return None


def _absent(message: str, hint: str | None = None) -> NotFound:
    return NotFound(message, code="part_not_found", hint=hint)


class PictureLinks:
    """Puts links in the place of the pictures of an output, which comes in blocks of any size.

    Lines stay lines, in their order; nothing else in them changes but blanks between members. One
    that is longer than `line_bytes_max`, or has no picture in its first candidate, stays as it is.
    """

    def __init__(self, address: Address, line_bytes_max: int) -> None:
        self._address = address
        self._line_bytes_max = line_bytes_max
        self._held = bytearray()
        self._is_passing = False
        self._number = 0

    def feed(self, block: bytes) -> bytes:
        """Take the next block and return what of the new output is finished."""
        done: list[bytes] = []
        start = 0
        while (end := block.find(b"\n", start)) >= 0:
            done.append(self._ended(block[start : end + 1]))
            start = end + 1
        rest = block[start:]
        if self._is_passing:
            done.append(rest)
        else:
            self._held += rest
        if len(self._held) > self._line_bytes_max:
            self._is_passing = True
            done.append(self._released())
        return b"".join(done)

    def finish(self) -> bytes:
        """Return what is left of a last line without an end."""
        return self._released()

    def _ended(self, piece: bytes) -> bytes:
        self._number += 1
        if self._is_passing:
            self._is_passing = False
            return piece
        line = self._released() + piece
        if len(line) > self._line_bytes_max or _MEDIA not in line:
            return line
        try:
            return _linked(line, self._number, self._address)
        except _UNDECODABLE:
            # It has another shape than an answer with pictures.
            return line

    def _released(self) -> bytes:
        held = bytes(self._held)
        self._held.clear()
        return held


def _linked(line: bytes, number: int, address: Address) -> bytes:
    members = _MEMBERS.decode(line)
    response = _MEMBERS.decode(members.get("response", b"{}"))
    candidates = _ITEMS.decode(response.get("candidates", b"[]"))
    first = _MEMBERS.decode(candidates[0]) if candidates else {}
    content = _MEMBERS.decode(first.get("content", b"{}"))
    parts = [_MEMBERS.decode(part) for part in _ITEMS.decode(content.get("parts", b"[]"))]
    linked = [_link(part, address(number, at)) for at, part in enumerate(parts)]
    if linked == parts:
        return line
    content["parts"] = _raw(linked)
    first["content"] = _raw(content)
    response["candidates"] = _raw([first, *candidates[1:]])
    members["response"] = _raw(response)
    return msgspec.json.encode(members) + b"\n"


def _link(part: _Members, address: str) -> _Members:
    """Return the part with a link in the place of its picture, if it has one that is shown."""
    inline = part.get("inlineData")
    if inline is None or "text" in part:
        return part
    data = _INLINE.decode(inline).data
    beginning = _decoded(data[:_BEGINNING_CHARACTERS]) if isinstance(data, str) else None
    media_type = None if beginning is None else picture_type(beginning)
    if media_type is None:
        return part
    link = _raw({"fileUri": address, "mimeType": media_type})
    return dict(
        ("fileData", link) if name == "inlineData" else (name, value)
        for name, value in part.items()
    )


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
