"""Fetch a file so that a cut costs nothing and a wrong byte is never taken for a right one.

Bytes go to `<target>.part`; the entity tag that they belong to stands beside it in
`<target>.part.etag`, so that a later run can go on where this one stopped, and only if the server
still has the same bytes. The target itself appears by rename, complete and checked, or not at all.
"""

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx2

from penstock.client.errors import ConnectionFailed, DigestMismatch, LimitReached, ServerFailed
from penstock.client.models import Download
from penstock.client.wire import ATTEMPTS_MAX, Wire, backoff_seconds

Progress = Callable[[int, int | None], None]
"""Called with the bytes on disk and the size of the whole, if that is known."""

_STRONG_ETAG: Final = re.compile(r'"[^"]*"')
_DIGEST_ETAG: Final = re.compile(r'"sha256-([0-9a-f]{64})"')
_DIGEST_HEADER: Final = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/]+={0,2}):")
_CONTENT_RANGE: Final = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")
_PARTIAL: Final = 206
_NOTHING_LEFT: Final = 416


class _Restart(Exception):
    """A turn of the loop: what is on disk is not part of what the server has, so begin again."""


class _Part:
    """The bytes so far and the tag that they belong to."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(target.name + ".part")
        self._tag = target.with_name(target.name + ".part.etag")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def tag(self) -> str:
        return self._tag.read_text("ascii") if self._tag.exists() else ""

    def begin(self, tag: str) -> None:
        """Empty the part; a weak or absent tag cannot promise equal bytes, so it is not kept."""
        self.forget_tag()
        self.path.write_bytes(b"")
        if _STRONG_ETAG.fullmatch(tag):
            self._tag.write_text(tag, "ascii")

    def forget_tag(self) -> None:
        """Keep the bytes for a look, but never build on them again."""
        self._tag.unlink(missing_ok=True)

    def sha256(self) -> str:
        """Read back what is really on disk; hashing on the way would miss a bad resume."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
            return hashlib.file_digest(file, "sha256").hexdigest()

    def become(self, target: Path) -> None:
        self.path.replace(target)
        self.forget_tag()
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def download(
    wire: Wire, locate: Callable[[], str], target: Path, on_progress: Progress | None = None
) -> Download:
    """Fetch what `locate` points to; it is asked before every attempt, because addresses expire."""
    part = _Part(target)
    failures, furthest = 0, part.size()
    while True:
        try:
            stated = _attempt(wire, locate(), part, on_progress)
            break
        except (_Restart, ConnectionFailed, LimitReached, ServerFailed) as error:
            if isinstance(error, _Restart):
                part.begin("")
            failures = 1 if part.size() > furthest else failures + 1
            furthest = max(furthest, part.size())
            if failures == ATTEMPTS_MAX:
                raise _given_up(error, part) from error
            wire.sleep(backoff_seconds(failures))
    return _finish(part, target, stated)


def _attempt(wire: Wire, url: str, part: _Part, on_progress: Progress | None) -> set[str]:
    """Fetch what is missing and return every SHA-256 that the server states for the whole."""
    offset, tag = part.size(), part.tag()
    headers = {"Accept-Encoding": "identity"}
    if offset and tag:
        headers |= {"Range": f"bytes={offset}-", "If-Range": tag}
    with wire.stream(url, headers) as answer:
        if answer.status_code in {_PARTIAL, _NOTHING_LEFT}:
            total = _check_range(answer, offset, tag)
            if answer.status_code == _NOTHING_LEFT:
                return _stated(answer) | _in_tag(tag)
        else:
            part.begin(answer.headers.get("ETag", ""))
            offset, total = 0, _length(answer)
        with part.path.open("ab") as file:
            # Pieces as they come: a fixed size would hold back, and lose, the last ones of a cut.
            for piece in answer.iter_raw():
                file.write(piece)
                offset += len(piece)
                if on_progress is not None:
                    on_progress(offset, total)
        return _stated(answer)


def _check_range(answer: httpx2.Response, offset: int, tag: str) -> int | None:
    """Return the size of the whole; raise _Restart unless the answer continues our bytes."""
    match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if match is None or answer.headers.get("ETag", tag) != tag:
        raise _Restart
    start, whole = match.groups()
    begins_at = whole if answer.status_code == _NOTHING_LEFT else start
    if begins_at != str(offset):
        raise _Restart
    return int(whole) if whole.isdigit() else None


def _length(answer: httpx2.Response) -> int | None:
    stated = answer.headers.get("Content-Length", "")
    return int(stated) if stated.isdigit() else None


def _stated(answer: httpx2.Response) -> set[str]:
    found = _DIGEST_HEADER.search(answer.headers.get("Repr-Digest", ""))
    digests = _in_tag(answer.headers.get("ETag", ""))
    if found is not None:
        try:
            digests.add(base64.b64decode(found[1], validate=True).hex())
        except binascii.Error:
            # A digest that cannot be read cannot match either, and must not count as none stated.
            digests.add(found[1])
    return digests


def _in_tag(tag: str) -> set[str]:
    found = _DIGEST_ETAG.fullmatch(tag)
    return {found[1]} if found else set()


def _finish(part: _Part, target: Path, stated: set[str]) -> Download:
    digest = part.sha256()
    if stated - {digest}:
        part.forget_tag()
        raise DigestMismatch(
            f"the downloaded bytes have SHA-256 {digest}, the server states "
            f"{', '.join(sorted(stated))}; they are kept in {part.path}",
            part=part.path,
            hint="download again: it starts anew; if it happens twice, something on the way "
            "changes the bytes",
        )
    size = part.size()
    part.become(target)
    return Download(path=target, bytes_total=size, sha256=digest, verified=bool(stated))


def _given_up(error: Exception, part: _Part) -> Exception:
    if isinstance(error, _Restart):
        return ConnectionFailed(
            f"the server keeps answering with ranges that do not continue {part.path}",
            hint="something between here and the server alters range requests; try without it",
        )
    return error
