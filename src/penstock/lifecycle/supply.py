"""The provider's input as the upload takes it: made in a thread, or by a process if it is large.

Either way it comes in blocks, made no faster than the bucket takes them.
"""

import asyncio
import fcntl
import os
import sys
from asyncio import StreamWriter
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import partial
from typing import Final, Protocol, cast

import msgspec

from penstock.blobs.threads import in_thread
from penstock.errors import BlobCorrupt, Unavailable
from penstock.lifecycle import own_process
from penstock.lifecycle.preparer import HEAD, SAID, SAYS, Damaged, Order, Said, State, state_of
from penstock.lifecycle.provider_input import BLOCK_BYTES, ProviderInput
from penstock.lifecycle.twins import pack_leaders

PROCESS_BYTES_MIN: Final = 4 * 1024 * 1024
"""From so many bytes of input on, it is made in a process of its own: to start it (80 ms) costs
more than to make less here, and a gigabyte would hold up the API."""

_PREPARER: Final = "penstock.lifecycle.preparer"

Resize = Callable[[int, int], object]


def _resize(end: int, size: int) -> None:
    fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, size)


_RESIZE: Final[Resize | None] = _resize if hasattr(fcntl, "F_SETPIPE_SZ") else None
"""How to have a larger pipe, which not every system offers."""


class Supply(Protocol):
    """Hands out one object after the other."""

    @property
    def state(self) -> State:
        """How far it is."""
        ...

    def blocks(self) -> AsyncGenerator[bytes, None]:
        """Yield the next object."""
        ...

    async def leaders(self) -> bytes:
        """Return the file of the leaders of all lines, once there is no further object."""
        ...

    async def close(self) -> None:
        """End what makes it, wherever that is."""
        ...


async def open_supply(order: Order, input_bytes: int) -> Supply:
    """Begin to make the input; raise `BlobCorrupt` or `Unavailable`.

    Whoever gets the supply closes it before the descriptors of the order.
    """
    if input_bytes < PROCESS_BYTES_MIN:
        return Here(await in_thread(partial(ProviderInput, order.source, order.bounds)))
    return await Elsewhere.begin(order)


class Here:
    """Made in threads of this process."""

    def __init__(self, made: ProviderInput) -> None:
        self._made = made

    @property
    def state(self) -> State:
        """How far it is."""
        return state_of(self._made)

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """Yield the next object."""
        blocks = self._made.blocks()
        while block := await in_thread(partial(next, blocks, b"")):
            yield block

    async def leaders(self) -> bytes:
        """Return the file of the leaders."""
        return pack_leaders(self._made.leaders)

    async def close(self) -> None:
        """Do nothing: no thread works on it that nobody waits for."""


class Elsewhere:
    """Made by a process of its own, from which it comes over a pipe."""

    def __init__(self, process: Process, frames: int) -> None:
        self._process = process
        self._frames = frames
        self.state = State(is_over=True)

    @classmethod
    async def begin(cls, order: Order, program: str = sys.executable) -> "Elsewhere":
        """Start the process; return when it has said whether there is anything to send."""
        frames, theirs = pipe(BLOCK_BYTES)
        try:
            process = await own_process.start(
                _PREPARER, order.source.files, stdout=theirs, program=program
            )
        except BaseException:
            os.close(frames)
            raise
        finally:
            os.close(theirs)
        supply = cls(process, frames)
        try:
            cast(StreamWriter, process.stdin).write(msgspec.json.encode(order) + b"\n")
            _, size = await supply._head()
            supply.state = _state(await supply._exactly(size))
        except BaseException:
            await supply.close()
            raise
        return supply

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """Yield the next object, in the pieces in which it comes."""
        while True:
            kind, size = await self._head()
            if kind == SAYS:
                self.state = _state(await self._exactly(size))
                return
            while size:
                piece = await self._some(size)
                size -= len(piece)
                yield piece

    async def leaders(self) -> bytes:
        """Return the file of the leaders."""
        _, size = await self._head()
        return await self._exactly(size)

    async def close(self) -> None:
        """End the process."""
        os.close(self._frames)
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def _head(self) -> tuple[bytes, int]:
        kind, size = HEAD.unpack(await self._exactly(HEAD.size))
        return kind, size

    async def _exactly(self, size: int) -> bytes:
        pieces: list[bytes] = []
        while size:
            pieces.append(await self._some(size))
            size -= len(pieces[-1])
        return b"".join(pieces)

    async def _some(self, most: int) -> bytes:
        """Return what is there, as soon as there is something."""
        while True:
            try:
                piece = os.read(self._frames, most)
            except BlockingIOError:
                await self._readable()
                continue
            if not piece:
                ended = await self._process.wait()
                raise Unavailable(f"The process that prepared the input ended with {ended}.")
            return piece

    async def _readable(self) -> None:
        """Wait until there is something, or the process has ended."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._frames, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._frames)


def pipe(size: int, resize: Resize | None = _RESIZE) -> tuple[int, int]:
    """Return the ends of a pipe, the one to read from without blocking; it may hold `size`."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    if resize is not None:
        # Who has too many large pipes gets one of the usual size, which only takes more turns.
        with suppress(PermissionError):
            resize(writing, size)
    return reading, writing


def _state(said: bytes) -> State:
    found: Said = SAID.decode(said)
    if isinstance(found, Damaged):
        raise BlobCorrupt(found.message)
    return found
