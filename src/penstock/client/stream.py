"""The output as it is read line by line: where a cut one goes on, and whether its bytes are right.

Lines are given before all bytes have come, so what was given cannot be taken back: an output that
is another one after a cut is an error. The last line is held back until the hash has been compared,
so whoever has had all lines has had the right ones.
"""

import hashlib
from collections.abc import Iterator

import httpx2

from penstock.client.calls import ATTEMPTS_MAX, NOTHING_LEFT, PARTIAL_CONTENT
from penstock.client.errors import ClientError, ConnectionFailed, DigestMismatch, OutputChanged
from penstock.client.part import Restart, check_range, digests_of, in_tag, is_strong
from penstock.client.splitting import Splitter


class Stream:
    """How much of an output has come, and what is held of it."""

    def __init__(self) -> None:
        self.failures = 0
        self._offset = 0
        self._furthest = 0
        self._again = 0
        """Bytes that come a second time, from a server that does not go on in the middle."""
        self._tag = ""
        self._takes_ranges = True
        self._stated: set[str] = set()
        self._digest = hashlib.sha256()
        self._splitter = Splitter()
        self._held: bytes | None = None

    def headers(self) -> dict[str, str]:
        """Return what to ask with."""
        headers = {"Accept-Encoding": "identity"}
        if self._offset and self._takes_ranges:
            headers |= {"Range": f"bytes={self._offset}-", "If-Range": self._tag}
        return headers

    def begin(self, answer: httpx2.Response) -> None:
        """Take the headers of an answer; raises `OutputChanged` if it is of another output."""
        if answer.status_code in {PARTIAL_CONTENT, NOTHING_LEFT}:
            try:
                check_range(answer, self._offset, self._tag)
            except Restart as error:
                self._takes_ranges = False
                raise ConnectionFailed(
                    "the answer does not go on where the last one stopped",
                    hint="something between here and the server alters range requests",
                ) from error
        else:
            tag = answer.headers.get("ETag", "")
            if self._offset and tag != self._tag:
                raise OutputChanged(
                    "the output was replaced while it was being read: lines were sent again",
                    hint="wait for the job and read its results anew",
                )
            self._tag, self._again = tag, self._offset
        self._stated |= digests_of(answer) | in_tag(self._tag)

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield the lines that are complete now, but for the newest."""
        if self._again:
            known = min(self._again, len(piece))
            self._again -= known
            piece = piece[known:]
        self._digest.update(piece)
        self._offset += len(piece)
        for line in self._splitter.feed(piece):
            if self._held is not None:
                yield self._held
            self._held = line

    def end(self) -> Iterator[bytes]:
        """Compare the hash, and yield what was held back; raises `DigestMismatch`."""
        digest = self._digest.hexdigest()
        if self._stated - {digest}:
            raise DigestMismatch(
                f"the bytes of the output have SHA-256 {digest}, the server states "
                f"{', '.join(sorted(self._stated))}",
                part=None,
                hint="read the results again; if it happens twice, something on the way changes "
                "the bytes",
            )
        if self._held is not None:
            yield self._held
        yield from self._splitter.rest()

    def failed(self, error: ClientError) -> None:
        """Count a failure; raises it if it cannot be mended, or too many came without a byte."""
        self.failures = 1 if self._offset > self._furthest else self.failures + 1
        self._furthest = max(self._offset, self._furthest)
        if self.failures == ATTEMPTS_MAX or (self._offset and not is_strong(self._tag)):
            raise error
