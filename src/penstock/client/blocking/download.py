# Made from penstock/client/aio/download.py by tools/make_blocking.py; edit that one.

"""Fetch a file so that a cut costs nothing and a wrong byte is never taken for a right one."""

from collections.abc import Callable
from pathlib import Path

from penstock.client.blocking.io import call
from penstock.client.blocking.wire import Wire
from penstock.client.calls import ATTEMPTS_MAX, NOTHING_LEFT, PARTIAL_CONTENT, backoff_seconds
from penstock.client.errors import ConnectionFailed, LimitReached, ServerFailed
from penstock.client.models import Download
from penstock.client.part import (
    Part,
    Progress,
    Restart,
    check_range,
    digests_of,
    finish,
    given_up,
    in_tag,
    length_of,
    room_for,
    write_all,
)


def download(
    wire: Wire,
    locate: Callable[[], str],
    target: Path,
    on_progress: Progress | None = None,
) -> Download:
    """Fetch what `locate` points to; it is asked before every attempt, because addresses expire."""
    part = Part(target)
    failures, furthest = 0, part.size()
    while True:
        try:
            stated = _attempt(wire, locate(), part, on_progress)
            break
        except (Restart, ConnectionFailed, LimitReached, ServerFailed) as error:
            if isinstance(error, Restart):
                part.begin("")
            failures = 1 if part.size() > furthest else failures + 1
            furthest = max(furthest, part.size())
            if failures == ATTEMPTS_MAX:
                raise given_up(error, part) from error
            wire.sleep(backoff_seconds(failures))
    with room_for(part):
        return call(finish, part, target, stated)


def _attempt(wire: Wire, url: str, part: Part, on_progress: Progress | None) -> set[str]:
    """Fetch what is missing and return every SHA-256 that the server states for the whole."""
    offset, tag = part.size(), part.tag()
    headers = {"Accept-Encoding": "identity"}
    if offset and tag:
        headers |= {"Range": f"bytes={offset}-", "If-Range": tag}
    with wire.stream(url, headers) as answer:
        with room_for(part):
            if answer.status_code in {PARTIAL_CONTENT, NOTHING_LEFT}:
                total = check_range(answer, offset, tag)
                if answer.status_code == NOTHING_LEFT:
                    return digests_of(answer) | in_tag(tag)
            else:
                part.begin(answer.headers.get("ETag", ""))
                offset, total = 0, length_of(answer)
            with part.append() as file:
                # Pieces as they come: a fixed size would hold back, and lose, the last of a cut.
                for piece in answer.iter_raw():
                    call(write_all, file, piece)
                    offset += len(piece)
                    if on_progress is not None:
                        on_progress(offset, total)
        return digests_of(answer)
