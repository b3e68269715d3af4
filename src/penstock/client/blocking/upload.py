# Made from penstock/client/aio/upload.py by tools/make_blocking.py; edit that one.

"""A submission that survives cuts: it goes on from what the server has, and is never doubled.

"Resumable Uploads for HTTP" (draft-ietf-httpbis-resumable-upload-12) in its simplest form: create,
then one PATCH with all the rest, as often as it takes. The server answers a finish that it was
asked twice with the same job, so a lost answer is no riddle here.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress

import httpx2

from penstock.client.blocking.wire import Wire
from penstock.client.calls import ATTEMPTS_MAX, Query, backoff_seconds
from penstock.client.errors import ClientError, ConnectionFailed, InputChanged, NotFound
from penstock.client.pieces import Source, may_pass, offset_of, path_of


def submit_in_pieces(
    wire: Wire,
    source: Source,
    on_sent: Callable[[int], None] | None,
    about: Mapping[str, str],
    params: Query,
) -> bytes | None:
    """Send a file and return the record of its job; None, and nothing sent, by an older server.

    `about` are headers that say more of the job, `params` name its model and what else is asked.

    Tries again for as long as bytes get through. Raises what a submission raises, and
    `ConnectionFailed` when nothing gets through any more.
    """
    try:
        path = _begin(wire, source, about, params)
    except NotFound:
        # The server has no such route, so it takes the file in one piece only.
        return None
    offset, failures = 0, 0
    while True:
        try:
            answer = wire.exchange(
                "PATCH",
                path,
                headers={
                    "Content-Type": "application/partial-upload",
                    "Content-Length": str(source.size - offset),
                    "Upload-Offset": str(offset),
                    "Upload-Complete": "?1",
                },
                content=source.read_from(offset, on_sent),
            )
        except InputChanged:
            # Should this fail, the server removes the upload when it is old enough.
            with suppress(ClientError):
                wire.exchange("DELETE", path)
            raise
        except ClientError as error:
            if not may_pass(error):
                raise
            failures += 1
            reached = _offset(wire, path)
            if reached > offset:
                failures = 0
            elif failures == ATTEMPTS_MAX:
                raise
            offset = reached
            wire.sleep(backoff_seconds(max(failures, 1)))
        else:
            return answer.content


def _begin(wire: Wire, source: Source, about: Mapping[str, str], params: Query) -> str:
    """Create the upload and return its path."""
    headers = {
        "Content-Type": "application/jsonl",
        "Upload-Complete": "?0",
        "Upload-Length": str(source.size),
        **about,
    }
    return path_of(
        _patiently(wire, lambda: wire.exchange("POST", "/uploads", headers=headers, params=params))
    )


def _offset(wire: Wire, path: str) -> int:
    """Ask what the server has."""
    try:
        return offset_of(_patiently(wire, lambda: wire.exchange("HEAD", path)))
    except NotFound as error:
        raise ConnectionFailed(
            "the upload was interrupted, and the server has it no more",
            hint="submit the file again",
        ) from error


def _patiently(wire: Wire, send: Callable[[], httpx2.Response]) -> httpx2.Response:
    """Send what may be sent twice until it is answered, so often and no more."""
    for failures in range(1, ATTEMPTS_MAX):
        try:
            return send()
        except ClientError as error:
            if not may_pass(error):
                raise
        wire.sleep(backoff_seconds(failures))
    return send()
