"""What a download has on disk, and what the headers of an answer say of the rest.

Bytes go to `<target>.part`; the entity tag that they belong to stands beside it in
`<target>.part.etag`, so that a later run can go on where this one stopped, and only if the server
still has the same bytes. The target itself appears by rename, complete and checked, or not at all.
"""

import base64
import binascii
import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, cast

import httpx2

from penstock.client.calls import NOTHING_LEFT
from penstock.client.errors import ConnectionFailed, DigestMismatch, DiskFull
from penstock.client.models import Download

Progress = Callable[[int, int | None], None]
"""Called with the bytes on disk and the size of the whole, if that is known."""

_STRONG_ETAG: Final = re.compile(r'"[^"]*"')
_DIGEST_ETAG: Final = re.compile(r'"sha256-([0-9a-f]{64})"')
_DIGEST_HEADER: Final = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/]+={0,2}):")
_CONTENT_RANGE: Final = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Restart(Exception):
    """A turn of the loop: what is on disk is not part of what the server has, so begin again."""


class Part:
    """The bytes so far and the tag that they belong to."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(target.name + ".part")
        self._tag = target.with_name(target.name + ".part.etag")

    def append(self) -> BinaryIO:
        """Open the file to write behind what is there, each piece at once."""
        # Without a buffer, which a full disk would stop at the end, when it is too late.
        return cast(BinaryIO, self.path.open("ab", buffering=0))

    def size(self) -> int:
        """Return how many bytes there are."""
        return self.path.stat().st_size if self.path.exists() else 0

    def tag(self) -> str:
        """Return the entity tag of the whole, or nothing if they must not be built on."""
        return self._tag.read_text("ascii") if self._tag.exists() else ""

    def begin(self, tag: str) -> None:
        """Empty the part; a weak or absent tag cannot promise equal bytes, so it is not kept."""
        self.forget_tag()
        self.path.write_bytes(b"")
        if is_strong(tag):
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
        """Take the place of the target, durably."""
        self.path.replace(target)
        self.forget_tag()
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def check_range(answer: httpx2.Response, offset: int, tag: str) -> int | None:
    """Return the size of the whole; raise Restart unless the answer continues our bytes."""
    match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if match is None or answer.headers.get("ETag", tag) != tag:
        raise Restart
    start, whole = match.groups()
    begins_at = whole if answer.status_code == NOTHING_LEFT else start
    if begins_at != str(offset):
        raise Restart
    return int(whole) if whole.isdigit() else None


def length_of(answer: httpx2.Response) -> int | None:
    """Return the bytes that are announced."""
    announced = answer.headers.get("Content-Length", "")
    return int(announced) if announced.isdigit() else None


def is_strong(tag: str) -> bool:
    """Return whether equal tags promise equal bytes."""
    return _STRONG_ETAG.fullmatch(tag) is not None


def digests_of(answer: httpx2.Response) -> set[str]:
    """Return every SHA-256 that an answer states for the whole."""
    found = _DIGEST_HEADER.search(answer.headers.get("Repr-Digest", ""))
    digests = in_tag(answer.headers.get("ETag", ""))
    if found is not None:
        try:
            digests.add(base64.b64decode(found[1], validate=True).hex())
        except binascii.Error:
            # A digest that cannot be read cannot match either, and must not count as none stated.
            digests.add(found[1])
    return digests


def in_tag(tag: str) -> set[str]:
    """Return the SHA-256 that an entity tag is made of, if it is."""
    found = _DIGEST_ETAG.fullmatch(tag)
    return {found[1]} if found else set()


def finish(part: Part, target: Path, stated: set[str]) -> Download:
    """Check what is on disk and put it in its place; raises `DigestMismatch`."""
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


def given_up(error: Exception, part: Part) -> Exception:
    """Return what to raise when a download has failed too often."""
    if isinstance(error, Restart):
        return ConnectionFailed(
            f"the server keeps answering with ranges that do not continue {part.path}",
            hint="something between here and the server alters range requests; try without it",
        )
    return error


@contextmanager
def room_for(part: Part) -> Iterator[None]:
    """Raise `DiskFull` where there is no room for more; what has come can be built on."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise DiskFull(
            f"there is no room for more than {part.size():,} bytes of the output in "
            f"{part.path.parent}",
            part=part.path,
            hint="make room and download again to the same path: it goes on from there",
        ) from error


def write_all(file: BinaryIO, data: bytes) -> None:
    """Write a piece whole: a file without a buffer may take less at once."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
