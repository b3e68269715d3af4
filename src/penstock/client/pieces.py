"""A submission that survives cuts: it goes on from what the server has, and is never doubled.

"Resumable Uploads for HTTP" (draft-ietf-httpbis-resumable-upload-12) in its simplest form: create,
then one PATCH with all the rest, as often as it takes. The server answers a finish that it was
asked twice with the same job, so a lost answer is no riddle here.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import BinaryIO, Final

import httpx2
import msgspec

from penstock.client.body import READ_BYTES, changed
from penstock.client.errors import (
    APIError,
    ClientError,
    ConnectionFailed,
    InputChanged,
    NotFound,
)
from penstock.client.wire import ATTEMPTS_MAX, Wire, backoff_seconds

PIECES_FROM_BYTES: Final = 8 * 1024 * 1024
"""Smaller files are sent again as a whole sooner than the server is asked what it has."""

NO_OPTIONS: Final[Mapping[str, str]] = MappingProxyType({})

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


def submit_in_pieces(
    wire: Wire,
    source: Source,
    model: str,
    on_sent: Callable[[int], None] | None,
    about: Mapping[str, str],
    options: Mapping[str, str] = NO_OPTIONS,
) -> bytes | None:
    """Send a file and return the record of its job; None, and nothing sent, by an older server.

    `about` are headers that say more of the job, `options` what its query does.

    Tries again for as long as bytes get through. Raises what a submission raises, and
    `ConnectionFailed` when nothing gets through any more.
    """
    try:
        path = _begin(wire, source, about, {"model": model, **options})
    except NotFound:
        # The server has no such route, so it takes the file in one piece only.
        return None
    offset, failures = 0, 0
    while True:
        try:
            return wire.exchange(
                "PATCH",
                path,
                headers={
                    "Content-Type": "application/partial-upload",
                    "Content-Length": str(source.size - offset),
                    "Upload-Offset": str(offset),
                    "Upload-Complete": "?1",
                },
                content=source.read_from(offset, on_sent),
            ).content
        except InputChanged:
            # Should this fail, the server removes the upload when it is old enough.
            with suppress(ClientError):
                wire.exchange("DELETE", path)
            raise
        except ClientError as error:
            if not _may_pass(error):
                raise
            failures += 1
            reached = _offset(wire, path)
            if reached > offset:
                failures = 0
            elif failures == ATTEMPTS_MAX:
                raise
            offset = reached
            wire.sleep(backoff_seconds(max(failures, 1)))


def _begin(wire: Wire, source: Source, about: Mapping[str, str], params: Mapping[str, str]) -> str:
    """Create the upload and return its path."""
    answer = _patiently(
        wire,
        lambda: wire.exchange(
            "POST",
            "/uploads",
            headers={
                "Content-Type": "application/jsonl",
                "Upload-Complete": "?0",
                "Upload-Length": str(source.size),
                **about,
            },
            params=params,
        ),
    )
    # The server need not know under which path it is reached; the id is the last part.
    return "/uploads/" + answer.headers.get("Location", "").rpartition("/")[2]


def _offset(wire: Wire, path: str) -> int:
    """Ask what the server has."""
    try:
        answer = _patiently(wire, lambda: wire.exchange("HEAD", path))
    except NotFound as error:
        raise ConnectionFailed(
            "the upload was interrupted, and the server has it no more",
            hint="submit the file again",
        ) from error
    text = answer.headers.get("Upload-Offset", "")
    if not (text.isascii() and text.isdigit()):
        raise ClientError(
            "the server does not say what it has of the upload",
            hint="check that the address is a Penstock server's, and not of something before it",
        )
    return int(text)


def _patiently(wire: Wire, send: Callable[[], httpx2.Response]) -> httpx2.Response:
    """Send what may be sent twice until it is answered, so often and no more."""
    for failures in range(1, ATTEMPTS_MAX):
        try:
            return send()
        except ClientError as error:
            if not _may_pass(error):
                raise
        wire.sleep(backoff_seconds(failures))
    return send()


def _may_pass(error: ClientError) -> bool:
    if isinstance(error, APIError):
        return error.status in _AGAIN
    return isinstance(error, ConnectionFailed)
