"""An output as the body of an answer, with links in the place of its pictures.

It is made line by line while it is sent: memory for one line, whatever the size of the output. Its
length is not known before it ends, and so nothing can be resumed; an answer that ends in order is
whole.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, aclosing
from functools import partial
from http import HTTPStatus
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from penstock.api.answer_parts import PictureLinks
from penstock.api.sending import Stream, send_pieces
from penstock.core.job import Job

IMAGES: Final = b"images=links&"
"""Before the rest of the query of a download link: with links in the place of pictures."""

_ETAG_CHARACTERS: Final = 16


class LinkedBody(Response):
    """The answer."""

    def __init__(
        self,
        stream: Stream,
        size: int,
        links: PictureLinks,
        headers: dict[str, str],
        slot: Callable[[], AbstractContextManager[None]],
        pool: ThreadPoolExecutor,
    ) -> None:
        # Not Response's own beginning, which would state the length of a body that is not there.
        self.status_code = HTTPStatus.OK
        self.background = None
        self._stream = stream
        self._size = size
        self._links = links
        self.init_headers(headers)
        self._slot = slot
        self._pool = pool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        del scope
        with self._slot():
            start = {"type": "http.response.start", "status": self.status_code}
            await send({**start, "headers": self.raw_headers})
            await send_pieces(self._pieces(), receive, send)

    async def _pieces(self) -> AsyncGenerator[bytes]:
        loop = asyncio.get_running_loop()
        async with aclosing(self._stream(range(self._size))) as blocks:
            async for block in blocks:
                made = await loop.run_in_executor(self._pool, self._links.feed, block)
                if made:
                    yield made
        yield self._links.finish()


def linked_headers(job: Job, base: str) -> dict[str, str]:
    """Return the headers of an output whose links begin with `base`."""
    address = hashlib.sha256(base.encode()).hexdigest()[:_ETAG_CHARACTERS]
    return {
        "ETag": f'"sha256-{job.output_sha256}-links-{address}"',
        "Accept-Ranges": "none",
        "Cache-Control": "private, no-transform",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Content-Type": "application/jsonl",
        "Content-Disposition": f'attachment; filename="{job.id}.links.jsonl"',
    }


def links_below(base: str, line_bytes_max: int) -> PictureLinks:
    """Return what puts in links to the parts of the lines below an address."""
    return PictureLinks(partial(_address, base), line_bytes_max)


def _address(base: str, line: int, part: int) -> str:
    return f"{base}/{line}/parts/{part}"
