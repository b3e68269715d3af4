"""The body of an `uploadType=multipart` request: one JSON part, one data part, as a stream.

Line ends may be CRLF or bare LF (gcsfs sends the latter). The data is never held as a whole.
"""

import re
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson

from penstock.emulator.refusals import StorageRefusal, bad_storage_request

_HEAD_BYTES_MAX: Final = 1 << 20
_BOUNDARY = re.compile(
    r"multipart/related\s*;.*?boundary=(?:\"([^\"]+)\"|'([^']+)'|([^;\s]+))", re.IGNORECASE
)
_HEADERS_END = re.compile(rb"\r?\n\r?\n")


class RelatedBody:
    """Call `metadata` first, then `data`; `content_type` is known in between."""

    def __init__(self, content_type: str, chunks: AsyncIterator[bytes]) -> None:
        match = _BOUNDARY.match(content_type)
        if match is None:
            raise bad_storage_request("Missing or bad multipart boundary.")
        boundary = match[1] or match[2] or match[3]
        self._delimiter = b"\n--" + boundary.encode()
        self._chunks = aiter(chunks)
        # The first delimiter has no line before it; with one, all three look the same.
        self._held = b"\n"
        self.content_type = "application/octet-stream"

    async def metadata(self) -> dict[str, Any]:
        """The JSON of the first part; 400 if it is none."""
        await self._read_until(self._delimiter)
        await self._headers()
        text = await self._read_until(self._delimiter)
        try:
            parsed = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise bad_storage_request("Parse Error") from error
        if not isinstance(parsed, dict):
            raise bad_storage_request("Parse Error")
        headers = await self._headers()
        self.content_type = headers.get("content-type", self.content_type)
        return parsed

    async def data(self) -> AsyncIterator[bytes]:
        """The bytes of the second part; 400 if its end never comes."""
        # Held back at each step: a delimiter that is cut in two, and a CR that may belong to it.
        keep = len(self._delimiter) + 1
        while (found := self._held.find(self._delimiter)) < 0:
            if len(self._held) > keep:
                yield self._held[:-keep]
                self._held = self._held[-keep:]
            await self._more()
        yield self._held[:found].removesuffix(b"\r")
        async for _rest in self._chunks:
            pass

    async def _headers(self) -> dict[str, str]:
        while (match := _HEADERS_END.search(self._held)) is None:
            await self._more(limited=True)
        head, self._held = self._held[: match.start()], self._held[match.end() :]
        found: dict[str, str] = {}
        for line in head.decode("latin-1").splitlines():
            name, _, value = line.partition(":")
            found[name.strip().lower()] = value.strip()
        return found

    async def _read_until(self, mark: bytes) -> bytes:
        while (found := self._held.find(mark)) < 0:
            await self._more(limited=True)
        text, self._held = self._held[:found], self._held[found + len(mark) :]
        return text

    async def _more(self, *, limited: bool = False) -> None:
        if limited and len(self._held) > _HEAD_BYTES_MAX:
            raise bad_storage_request("The metadata part is too large.")
        chunk = await anext(self._chunks, None)
        if chunk is None:
            raise _cut_short()
        self._held += chunk


def _cut_short() -> StorageRefusal:
    return bad_storage_request("The multipart body ends before its closing boundary.")
