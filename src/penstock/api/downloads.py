"""Deliver an output: signed link, one range, strong ETag, SHA-256."""

import base64
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from penstock.api.links import Links
from penstock.api.request_queue_record import DOWNLOAD_PATH
from penstock.blobs.spool import OUTPUT, Spool
from penstock.store.jobs import Jobs

RANGES_MAX: Final = 1
"""Several ranges in one request serve nobody and multiply the work of one."""


class Downloads:
    """The download route."""

    def __init__(self, jobs: Jobs, spool: Spool, links: Links) -> None:
        self._jobs = jobs
        self._spool = spool
        self._links = links

    def routes(self) -> list[Route]:
        """Return the route; HEAD comes with GET."""
        return [Route(DOWNLOAD_PATH, self.download, methods=["GET"])]

    async def download(self, request: Request) -> Response:
        """Return the bytes, or a part of them."""
        found = await self._jobs.load(request.path_params["request_id"])
        query = request.query_params
        job = self._links.check(found, query.get("expires"), query.get("signature"))
        digest = job.output_sha256 or ""
        etag = f'"sha256-{digest}"'
        headers = {
            "ETag": etag,
            "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(digest)).decode()}:",
            "Accept-Ranges": "bytes",
            "Cache-Control": "private, no-transform",
            # Model output is hostile: never rendered, whatever a browser thinks it is.
            "Content-Security-Policy": "default-src 'none'; sandbox",
        }
        if _matches(request.headers.get("if-none-match"), etag):
            return Response(status_code=304, headers=headers)
        if request.headers.get("range", "").count(",") >= RANGES_MAX:
            # A server may ignore Range; the whole file is the right answer to a list of them.
            request.scope["headers"] = [
                (name, value) for name, value in request.scope["headers"] if name != b"range"
            ]
        return FileResponse(
            self._spool.path(job.id, OUTPUT),
            headers=headers,
            media_type="application/jsonl",
            filename=f"{job.id}.output.jsonl",
        )


def _matches(header: str | None, etag: str) -> bool:
    if header is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in tags or etag in tags
