"""Generated pictures as the client finds them: `for one in client.images(job_id): ...`.

Where they are is read from the output with links in the place of pictures, which is small. What a
link says is not believed: a place is the number of a line and of a part in it, and what a picture
is its own bytes say.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

_RIFF_TYPE: Final = slice(8, 12)


class ImagePlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where a picture is: `line` in the input, from 1, and `part` in the answer, from 0."""

    line: int
    part: int


class _Link(msgspec.Struct):
    uri: Any = msgspec.field(name="fileUri", default=None)


class _Part(msgspec.Struct):
    link: _Link | None = msgspec.field(name="fileData", default=None)


class _Content(msgspec.Struct):
    parts: list[_Part] = []


class _Candidate(msgspec.Struct):
    content: _Content | None = None


class _Response(msgspec.Struct):
    candidates: list[_Candidate] = []


class _Line(msgspec.Struct):
    response: _Response | None = None


_LINE: Final = msgspec.json.Decoder(_Line)


def places_in(line: bytes, number: int) -> Iterator[ImagePlace]:
    """Yield where the pictures of a line are, which has links in their place."""
    try:
        response = _LINE.decode(line).response
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # It has another shape than an answer with pictures.
        return
    candidates = response.candidates if response else []
    content = candidates[0].content if candidates else None
    for at, part in enumerate(content.parts if content else []):
        uri = part.link.uri if part.link else None
        if isinstance(uri, str) and uri.endswith(f"/lines/{number}/parts/{at}"):
            yield ImagePlace(line=number, part=at)


def extension_of(picture: bytes) -> str | None:
    """Return what a file with these bytes is called behind its dot; None if it is no picture."""
    if picture.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if picture.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if picture.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    is_webp = picture.startswith(b"RIFF") and picture[_RIFF_TYPE] == b"WEBP"
    return "webp" if is_webp else None


def linked(output_url: str) -> str:
    """Return the address of the same output with links in the place of pictures."""
    path, mark, query = output_url.partition("?")
    return f"{path}?images=links" + (f"&{query}" if mark else "")
