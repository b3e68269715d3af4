"""Deliver an output: signed link, one range, strong ETag, SHA-256, zstd for those who ask.

The ETag is the only validator: outputs never change, and a time would promise less. The plain bytes
and their zstd are two representations with a tag each, and ranges are always of the plain one, so
that a resumed download never mixes the two.
"""

import base64
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Final, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.api.answers import error_answer
from penstock.api.giving_way import giving_way
from penstock.api.image_links import IMAGES, LinkedBody, linked_headers, links_below
from penstock.api.links import PARTIAL, Links
from penstock.api.negotiation import RangeNotSatisfiable, is_known, part_of, prefers_zstd
from penstock.api.request_queue_record import DOWNLOAD_PATH, LINES_PATH, Renderer
from penstock.api.sending import NICENESS, THREADS, OutputBody, Slots
from penstock.blobs.spool import OUTPUT
from penstock.blobs.store import Blobs
from penstock.core.job import Job, JobId
from penstock.core.limits import Limits
from penstock.core.look import Look, look_of, with_look
from penstock.errors import BlobMissing, Unavailable
from penstock.store.jobs import Jobs

_NO_CHUNKS: Final = "1.0"
"""An HTTP version in which only Content-Length tells a whole answer from a cut one."""


class Downloads:
    """The download route."""

    def __init__(
        self, jobs: Jobs, blobs: Blobs, links: Links, renderer: Renderer, limits: Limits
    ) -> None:
        self._renderer = renderer
        self._line_bytes_max = limits.image_line_bytes_max
        self._jobs = jobs
        self._blobs = blobs
        self._links = links
        self.slots = Slots(limits)
        self._pool = giving_way(THREADS, "download", NICENESS)

    def routes(self) -> list[Route]:
        """Return the route; HEAD comes with GET."""
        return [Route(DOWNLOAD_PATH, self.download, methods=["GET"])]

    async def download(self, request: Request) -> Response:
        """Return the bytes, or a part of them."""
        found = await self._jobs.linked(request.path_params["request_id"])
        query = request.scope["query_string"]
        if query.startswith(IMAGES):
            job = self._links.check(found, query.removeprefix(IMAGES))
            return await self.send_linked(job, request)
        if not query.startswith(PARTIAL):
            return await self.send(self._links.check(found, query), request)
        # A link to a look is bound to its name: the next look has another one.
        look = None if found is None else look_of(found)
        shown = with_look(found, look) if found and look else None
        self._links.check(shown, query.removeprefix(PARTIAL))
        return await self.send(cast(Job, found), request, look)

    async def send(
        self,
        job: Job,
        request: Request,
        look: Look | None = None,
        about: Mapping[str, str] = MappingProxyType({}),
    ) -> Response:
        """Return the output of a job, or a look at it, to a caller who may have it."""
        if look is not None:
            job = with_look(job, look)
        name, size = job.output_name or OUTPUT, job.output_bytes or 0
        path = await self._find(job.id, name, size, look)
        is_compressed = size > 0 and self._compresses(request)
        headers = {**about, **_headers(job, is_compressed=is_compressed)}
        if is_known(request.headers.getlist("if-none-match"), headers["ETag"]):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        headers["Content-Type"] = "application/jsonl"
        kind = "output" if look is None else "partial"
        headers["Content-Disposition"] = f'attachment; filename="{job.id}.{kind}.jsonl"'
        if request.method == "HEAD":
            return _head(headers, size)
        if_range = request.headers.get("if-range", headers["ETag"])
        wanted = request.headers.get("range") if if_range == headers["ETag"] else None
        try:
            part = part_of(wanted, size)
        except RangeNotSatisfiable as error:
            answer = error_answer(error)
            answer.headers["Content-Range"] = f"bytes */{size}"
            answer.headers["ETag"] = headers["ETag"]
            return answer
        source = path or partial(self._blobs.stream, job.id, name)
        slot = partial(self.slots.take, job.org_id)
        return OutputBody(source, size, part, headers, slot, self._pool)

    async def send_linked(self, job: Job, request: Request) -> Response:
        """Return the output of a job with links in the place of its pictures."""
        name, size = job.output_name or OUTPUT, job.output_bytes or 0
        await self._blobs.find(job.id, name, size)
        base = self._renderer.address(LINES_PATH, job, request)
        headers = linked_headers(job, base)
        if is_known(request.headers.getlist("if-none-match"), headers["ETag"]):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        if request.method == "HEAD":
            answer = Response(headers=headers)
            del answer.headers["Content-Length"]
            return answer
        links = links_below(base, self._line_bytes_max)
        stream = partial(self._blobs.stream, job.id, name)
        slot = partial(self.slots.take_to_make, job.org_id)
        return LinkedBody(stream, size, links, headers, slot, self._pool)

    async def _find(self, job_id: JobId, name: str, size: int, look: Look | None) -> Path | None:
        try:
            return await self._blobs.find(job_id, name, size)
        except BlobMissing as error:
            if look is None:
                raise
            raise Unavailable(
                "A newer look at the request has just taken the place of this one.",
                code="look_replaced",
                hint="Ask again.",
                retry_after_seconds=1,
            ) from error

    def _compresses(self, request: Request) -> bool:
        return (
            self.slots.may_compress
            and "range" not in request.headers
            and request.scope["http_version"] != _NO_CHUNKS
            and prefers_zstd(request.headers.getlist("accept-encoding"))
        )


def _headers(job: Job, *, is_compressed: bool) -> dict[str, str]:
    digest = job.output_sha256 or ""
    checksum = f"sha-256=:{base64.b64encode(bytes.fromhex(digest)).decode()}:"
    headers = {
        "ETag": f'"sha256-{digest}"',
        "Repr-Digest": checksum,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-transform",
        "Vary": "Accept-Encoding",
        # Model output is hostile: never rendered, whatever a browser thinks it is.
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    if is_compressed:
        headers["ETag"] = f'"sha256-{digest}-zstd"'
        headers["Content-Encoding"] = "zstd"
        # Repr-Digest would be that of the zstd, which nobody knows before it is made.
        headers["Unencoded-Digest"] = headers.pop("Repr-Digest")
        headers["Accept-Ranges"] = "none"
    return headers


def _head(headers: dict[str, str], size: int) -> Response:
    answer = Response(headers=headers)
    if "Content-Encoding" in headers:
        del answer.headers["Content-Length"]
    else:
        answer.headers["Content-Length"] = str(size)
    return answer
