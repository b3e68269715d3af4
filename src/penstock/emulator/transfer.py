"""Bytes in and out over HTTP, in constant memory, for both storage APIs."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import IO, Final, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from penstock.emulator.answering import abort_connection
from penstock.emulator.faults import Then
from penstock.emulator.objects import Hashes, Incoming, ObjectStore, StoredObject, read_at
from penstock.emulator.refusals import StorageRefusal
from penstock.emulator.slots import Slot
from penstock.emulator.timestamps import http_date

CHUNK_BYTES: Final = 1 << 20
_DIGITS_MAX: Final = 18
UNANNOUNCED_BYTES: Final = 1 << 60
"""The size of a body that does not say its size."""
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})\Z")


async def batched(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces of about a mebibyte: one hop to a thread for many packets."""
    held: list[bytes] = []
    size = 0
    async for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size >= CHUNK_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


async def receive_into(incoming: Incoming | Slot, chunks: AsyncIterator[bytes]) -> None:
    """Write a body; ClientDisconnect if the client goes away."""
    async for piece in batched(chunks):
        await asyncio.to_thread(incoming.write, piece)


def stated_hashes(request: Request) -> Hashes:
    """What `X-Goog-Hash` and `Content-MD5` of a request state."""
    found: dict[str, str] = {}
    for value in request.headers.getlist("x-goog-hash"):
        for pair in value.split(","):
            name, _, text = pair.strip().partition("=")
            found[name] = text
    md5 = found.get("md5") or request.headers.get("content-md5")
    return Hashes(crc32c=found.get("crc32c"), md5=md5)


def page_limit(text: str | None, most: int) -> int:
    """How many entries a list page may have; what is no positive number means the most."""
    if not text or len(text) > _DIGITS_MAX or not (text.isascii() and text.isdigit()):
        return most
    return min(int(text), most) or most


class Span(NamedTuple):
    """The bytes of an answer: offset and length; `partial` if the client asked for a range."""

    offset: int
    length: int
    partial: bool


def parse_range(header: str | None, size: int) -> Span:
    """The range that a header asks for; StorageRefusal 416 if it lies outside.

    A header that we do not understand, or one with several ranges, means the whole object, as
    RFC 9110 allows and Google does.
    """
    match = _RANGE.match(header.strip()) if header else None
    if match is None or match.group(1) == match.group(2) == "":
        return Span(0, size, partial=False)
    first, last = match.groups()
    if first == "":
        wanted = min(int(last), size)
        if wanted == 0:
            raise _unsatisfiable()
        return Span(size - wanted, wanted, partial=True)
    offset = int(first)
    end = min(int(last), size - 1) if last else size - 1
    if offset >= size:
        raise _unsatisfiable()
    if end < offset:
        return Span(0, size, partial=False)
    return Span(offset, end - offset + 1, partial=True)


def _unsatisfiable() -> StorageRefusal:
    return StorageRefusal(
        416,
        "requestedRangeNotSatisfiable",
        "The requested range cannot be satisfied.",
        xml_code="InvalidRange",
    )


def object_headers(stored: StoredObject) -> dict[str, str]:
    """The headers that describe an object, for downloads, HEAD and uploads alike."""
    hashes = f"crc32c={stored.crc32c}"
    if stored.md5 is not None:
        hashes += f",md5={stored.md5}"
    headers = {
        "Content-Type": stored.attributes.content_type,
        "ETag": stored.etag,
        "Last-Modified": http_date(stored.updated_us),
        "Accept-Ranges": "bytes",
        "X-Goog-Generation": str(stored.generation),
        "X-Goog-Metageneration": str(stored.metageneration),
        "X-Goog-Hash": hashes,
        "X-Goog-Stored-Content-Length": str(stored.size),
        "X-Goog-Stored-Content-Encoding": stored.attributes.content_encoding or "identity",
    }
    optional = {
        "Content-Encoding": stored.attributes.content_encoding,
        "Content-Disposition": stored.attributes.content_disposition,
        "Content-Language": stored.attributes.content_language,
        "Cache-Control": stored.attributes.cache_control,
    }
    headers.update({name: value for name, value in optional.items() if value})
    headers.update({f"X-Goog-Meta-{k}": v for k, v in stored.attributes.metadata.items()})
    return headers


def download(
    request: Request, store: ObjectStore, stored: StoredObject, then: Then | None
) -> Response:
    """The answer with the bytes of an object, or with a range of them."""
    span = parse_range(request.headers.get("range"), stored.size)
    headers = object_headers(doctored(stored, then))
    headers["Content-Length"] = str(span.length)
    if span.partial:
        end = span.offset + span.length - 1
        headers["Content-Range"] = f"bytes {span.offset}-{end}/{stored.size}"
    status = 206 if span.partial else 200
    if request.method == "HEAD":
        return Response(None, status, headers)
    # Opened before the first await: what happens to the object from here on does not matter.
    file = store.path(stored).open("rb")
    chunks = _chunks(file, span, corrupt=then is not None and then.corrupt)
    if then is not None and then.stall_seconds is not None:
        chunks = _stalled(chunks, then.stall_after_bytes, then.stall_seconds)
    cut = None if then is None else then.cut_after_bytes
    if cut is not None:
        return _CutResponse(chunks, status, headers, cut_after_bytes=cut)
    return StreamingResponse(chunks, status, headers)


async def _chunks(file: IO[bytes], span: Span, *, corrupt: bool) -> AsyncIterator[bytes]:
    with file:
        offset, left = span.offset, span.length
        while left > 0:
            wanted = min(CHUNK_BYTES, left)
            chunk = await asyncio.to_thread(read_at, file.fileno(), offset, wanted)
            if not chunk:
                return
            offset += len(chunk)
            left -= len(chunk)
            if corrupt:
                # One flipped bit in the middle: the length is right, the checksum is not.
                middle = len(chunk) // 2
                chunk = chunk[:middle] + bytes([chunk[middle] ^ 1]) + chunk[middle + 1 :]
                corrupt = False
            yield chunk


async def _stalled(
    chunks: AsyncIterator[bytes], after_bytes: int, seconds: float
) -> AsyncIterator[bytes]:
    """The same bytes with a pause after so many of them."""
    left = after_bytes
    async for chunk in chunks:
        if 0 <= left < len(chunk):
            yield chunk[:left]
            await asyncio.sleep(seconds)
            yield chunk[left:]
        else:
            yield chunk
        left -= len(chunk)


def served_bytes(request: Request, stored: StoredObject | None) -> int | None:
    """How many bytes of the object a read would get; None for one that gets none."""
    if stored is None or request.method == "HEAD":
        return None
    try:
        return parse_range(request.headers.get("range"), stored.size).length
    except StorageRefusal:
        # The read itself will be refused.
        return None


def coming_bytes(request: Request) -> int | None:
    """How many bytes of a body are announced; what is sent in chunks is not, and may be any."""
    text = request.headers.get("content-length")
    if text is None:
        return UNANNOUNCED_BYTES
    return int(text) if text.isascii() and text.isdigit() else None


def doctored(stored: StoredObject, then: Then | None) -> StoredObject:
    """The object as it is described: with another CRC32C, where a rule wants that."""
    if then is None or not then.wrong_crc32c:
        return stored
    other = "AAAAAA==" if stored.crc32c != "AAAAAA==" else "AAAAAQ=="
    return msgspec.structs.replace(stored, crc32c=other)


class _CutResponse(StreamingResponse):
    """A download that breaks after so many bytes."""

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        status: int,
        headers: dict[str, str],
        *,
        cut_after_bytes: int,
    ) -> None:
        super().__init__(chunks, status, headers)
        self._left = cut_after_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head and the first bytes, then cut the connection."""
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        async for chunk in self.body_iterator:
            piece = bytes(chunk)[: self._left] if isinstance(chunk, bytes | memoryview) else b""
            self._left -= len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            if self._left <= 0:
                break
        # What was written must leave before the connection is cut, or nothing would arrive.
        await asyncio.sleep(0)
        await abort_connection(scope, receive)
