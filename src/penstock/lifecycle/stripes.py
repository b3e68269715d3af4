"""Parts of an output that several processes put together at once, each part at its own place.

A stripe is some lines that are all good answers of their own, so its size is known before it is
written. The process that goes over the lines in order gives stripes to the others, over a socket
each, and does itself what they have no time for; what it needs to know of a line is in the stripe.
One that falls silent is not waited for: what it was given is done again, to the same bytes at the
same place. The hash follows, in order, over what is written from the beginning on without a gap.
"""

import hashlib
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from mmap import MAP_PRIVATE, PROT_READ, mmap
from typing import Final

import msgspec

from penstock.errors import BlobCorrupt, StorageFull
from penstock.lifecycle.behind import Behind
from penstock.lifecycle.disk import sync, write_at
from penstock.lifecycle.preallocated import Preallocated
from penstock.lifecycle.rows import RECORD, Lines

_log = logging.getLogger(__name__)

BLOCK_BYTES: Final = 256 * 1024
"""So much is read and put together at once: it stays in the cache of a core."""
HASH_BYTES: Final = 2 * 1024 * 1024
"""So much of it is mapped and hashed at once: nothing is copied, and the thread that does it seldom
asks for the interpreter."""
SYNC_BYTES: Final = 64 * 1024 * 1024
"""So much is written before the disk is asked to hold it."""

STRIPE_LINES: Final = 256
AHEAD: Final = 8
"""Stripes that another process has at once: one that it works on, the others in the socket."""

BEGIN_GOOD: Final = b'{"status":"","processed_time":'
RESPONSE: Final = b',"response":'
END: Final = b"}\n"
AROUND_BYTES: Final = len(BEGIN_GOOD) + 1 - 2 + len(RESPONSE) + len(END)
"""Of a good line, beside its time, the caller's line and the response."""

HASH_BEHIND_BYTES: Final = 32 * 1024 * 1024
"""With more than that to be hashed this process writes nothing itself while others do: the hash
shares its core. What is left at the end is hashed alone, while the other cores have nothing to
do."""

_SIZE_BYTES: Final = 4
_OFFSET_BYTES: Final = 8


class Stripe(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Lines that follow each other, and where in the output they go."""

    first: int
    """Number of the first of them."""
    offset: int
    size: int
    now: bytes
    """The time of answers that have none, as JSON."""
    records: bytes


_STRIPE: Final = msgspec.msgpack.Decoder(Stripe)


class Splicer:
    """Puts stripes together from the input and what was kept of the rows, and writes them."""

    def __init__(self, lines: Lines, kept: int, output: int) -> None:
        self._lines = lines
        self._kept = kept
        self._output = output

    def write(self, stripe: Stripe) -> None:
        """Write a stripe; raise `StorageFull` if the disk does not take it."""
        offset = stripe.offset
        for block in self._blocks(stripe):
            offset += write_at(self._output, block, offset)
        if offset != stripe.offset + stripe.size:
            raise BlobCorrupt("The rows of the job are not what was read of them.")

    def _blocks(self, stripe: Stripe) -> Iterator[bytes]:
        pieces: list[bytes | memoryview] = []
        size, pread, kept, now = 0, os.pread, self._kept, stripe.now
        count = len(stripe.records) // RECORD.size
        lines = self._lines.some(stripe.first, count, BLOCK_BYTES)
        for record, line in zip(RECORD.iter_unpack(stripe.records), lines, strict=True):
            _, _, time_bytes, _, offset, length, _, time = record
            pieces += (
                BEGIN_GOOD,
                time[:time_bytes] or now,
                b",",
                line[1:-1],
                RESPONSE,
                pread(kept, length, offset),
                END,
            )
            size += len(line) + length
            if size >= BLOCK_BYTES:
                yield b"".join(pieces)
                pieces.clear()
                size = 0
        yield b"".join(pieces)


class _Other:
    """Another process that puts stripes together."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._heard = b""
        self.given: dict[int, Stripe] = {}
        """What it has not done yet, by offset."""

    def give(self, stripe: Stripe) -> None:
        """Raise an `OSError` if it has ended."""
        self.given[stripe.offset] = stripe
        packed = msgspec.msgpack.encode(stripe)
        self._socket.sendall(len(packed).to_bytes(_SIZE_BYTES, "little") + packed)

    def done(self, *, wait: bool) -> list[Stripe]:
        """Return what it has done since; with `wait`, at least one. Raise if it has ended."""
        try:
            more = self._socket.recv(4096, 0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        if not more:
            raise ConnectionError
        heard = self._heard + more
        whole = len(heard) // _OFFSET_BYTES * _OFFSET_BYTES
        self._heard = heard[whole:]
        offsets = (heard[at : at + _OFFSET_BYTES] for at in range(0, whole, _OFFSET_BYTES))
        return [self.given.pop(int.from_bytes(offset, "little")) for offset in offsets]

    def close(self) -> None:
        """Let it end."""
        self._socket.close()


class Stripes:
    """An output that is written by this process and by others."""

    def __init__(self, splicer: Splicer, output: int, others: Sequence[int]) -> None:
        """Take the sockets of the others."""
        self._splicer = splicer
        self._output = output
        self._others = [_Other(descriptor) for descriptor in others]
        self._digest = hashlib.sha256()
        self._hashing = Behind("penstock-stripes-hash")
        self._syncing = Behind("penstock-stripes-sync")
        self._apart: dict[int, int] = {}
        """What is written behind a gap: where it begins, and its size."""
        self._whole = self._hashed = self._synced = 0
        """So much of the output is written without a gap, hashed, held by the disk."""
        self._blocks = Preallocated(output)
        self.size = 0
        """So much was given to be written."""

    def put(self, first: int, records: bytes, size: int, now: bytes) -> None:
        """Have the next lines written, of which all that is needed is known."""
        stripe = Stripe(first, self.size, size, now, records)
        self._grow(size)
        for other in list(self._others):
            is_behind = self._whole - self._hashed > HASH_BEHIND_BYTES
            self._hear(other, wait=is_behind and len(other.given) == AHEAD)
            if other in self._others and len(other.given) < AHEAD:
                self._give(other, stripe)
                return
        self._write(stripe)

    def append(self, block: bytes) -> None:
        """Write the next lines, which are put together already."""
        offset = self.size
        self._grow(len(block))
        write_at(self._output, block, offset)
        self._written(offset, len(block))

    def finish(self) -> str:
        """Return the hash of the output once all of it is written."""
        for other in list(self._others):
            while other in self._others and other.given:
                self._hear(other, wait=True)
        self._hashing.wait()
        self._hash(self._whole)
        self._syncing.wait()
        self._blocks.cut(self.size)
        return self._digest.hexdigest()

    def close(self) -> None:
        """Let the others end, and the threads; what was not waited for is of no interest."""
        for other in self._others:
            other.close()
        self._hashing.close()
        self._syncing.close()

    def _grow(self, size: int) -> None:
        """Take so many bytes more; they have their blocks before anybody writes them."""
        self.size += size
        self._blocks.cover(self.size)

    def _give(self, other: _Other, stripe: Stripe) -> None:
        try:
            other.give(stripe)
        except OSError:
            self._without(other)

    def _hear(self, other: _Other, *, wait: bool) -> None:
        try:
            for stripe in other.done(wait=wait):
                self._written(stripe.offset, stripe.size)
        except OSError:
            self._without(other)

    def _without(self, other: _Other) -> None:
        """Do what another process was given; why it ended shows itself, if it is of the disk."""
        self._others.remove(other)
        other.close()
        for stripe in other.given.values():
            self._write(stripe)

    def _write(self, stripe: Stripe) -> None:
        self._splicer.write(stripe)
        self._written(stripe.offset, stripe.size)

    def _written(self, offset: int, size: int) -> None:
        self._apart[offset] = size
        while more := self._apart.pop(self._whole, 0):
            self._whole += more
        ready = self._whole - self._whole % HASH_BYTES
        if ready > self._hashed and self._hashing.is_idle:
            self._hashing.do(self._hash, ready)
        if self._whole - self._synced >= SYNC_BYTES and self._syncing.is_idle:
            self._synced = self._whole
            self._syncing.do(sync, self._output)

    def _hash(self, end: int) -> None:
        """Add to the hash what is written, up to this place."""
        while self._hashed < end:
            size = min(HASH_BYTES, end - self._hashed)
            try:
                part = mmap(self._output, size, MAP_PRIVATE, PROT_READ, offset=self._hashed)
            except ValueError as error:
                raise BlobCorrupt("The output is shorter than what was written.") from error
            with part:
                self._digest.update(part)
            self._hashed += size


def help_with(descriptor: int, splicer: Splicer) -> None:
    """Put together the stripes that come over a socket until it ends, or something fails.

    Whoever gave the stripes does what is left then, and tells what failed.
    """
    with socket.socket(fileno=descriptor) as connection, connection.makefile("rb") as given:
        try:
            while size := given.read(_SIZE_BYTES):
                stripe = _STRIPE.decode(given.read(int.from_bytes(size, "little")))
                splicer.write(stripe)
                connection.sendall(stripe.offset.to_bytes(_OFFSET_BYTES, "little"))
        except (StorageFull, BlobCorrupt, OSError, msgspec.DecodeError) as error:
            _log.warning("leaving the rest of an output to the first process: %r", error)
