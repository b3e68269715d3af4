"""What is sent in pieces, and what of it may be sent again; `upload` does it."""

from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

import httpx2
import msgspec

from penstock.client.body import READ_BYTES, changed
from penstock.client.errors import APIError, ClientError, ConnectionFailed

PIECES_FROM_BYTES: Final = 8 * 1024 * 1024
"""Smaller files are sent again as a whole sooner than the server is asked what it has."""

_AGAIN: Final = frozenset({409, 423, 502, 503, 504})
"""Answers to a piece after which the server is asked where to go on."""


class Source(msgspec.Struct, frozen=True):
    """What is to be sent: the file from where it stood, so many bytes of it."""

    file: BinaryIO
    start: int
    size: int

    def read_from(self, offset: int, on_sent: Callable[[int], None] | None) -> Iterator[bytes]:
        """Yield the bytes from an offset on; raises `InputChanged` if there are more or fewer."""
        self.file.seek(self.start + offset)
        while data := self.file.read(READ_BYTES):
            offset += len(data)
            if offset > self.size:
                raise changed(self.size)
            yield data
            if on_sent is not None:
                on_sent(offset)
        if offset < self.size:
            raise changed(self.size)


def may_pass(error: ClientError) -> bool:
    """Return whether the server may be asked where to go on."""
    if isinstance(error, APIError):
        return error.status in _AGAIN
    return isinstance(error, ConnectionFailed)


def path_of(answer: httpx2.Response) -> str:
    """Return the path of an upload that was made."""
    # The server need not know under which path it is reached; the id is the last part.
    return "/uploads/" + answer.headers.get("Location", "").rpartition("/")[2]


def offset_of(answer: httpx2.Response) -> int:
    """Return what the server says it has; raises `ClientError` if it does not say."""
    text = answer.headers.get("Upload-Offset", "")
    if not (text.isascii() and text.isdigit()):
        raise ClientError(
            "the server does not say what it has of the upload",
            hint="check that the address is a Penstock server's, and not of something before it",
        )
    return int(text)
