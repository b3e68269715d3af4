"""What makes the provider's input of a large job, in a process of its own (docs/decisions/0026).

Parsing and serialising each line holds Python's lock, which a server needs for its requests. The
process is told once over a pipe what to make, writes it to another, block by block, and ends with
that. It needs no credentials and opens no path: all that it reads are descriptors.

What it writes are frames: a block of the object at hand, or what it has to say. First it says
whether there is an object at all, behind each object what its share of the lines was, and behind
the last one the leaders of all lines come as a block.
"""

import os
import sys
from contextlib import suppress
from struct import Struct
from typing import IO, Final

import msgspec

from penstock.errors import BlobCorrupt
from penstock.lifecycle.provider_input import Bounds, Cut, ProviderInput, Source
from penstock.lifecycle.twins import pack_leaders

HEAD: Final = Struct("<cI")
"""Before each frame: what it is, and its size in bytes."""

BLOCK: Final = b"B"
SAYS: Final = b"S"

NICE: Final = 10
"""How far the process stands back: as far as those that receive uploads, for which a client waits
while the provider takes its time. Alone it has all of a core."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be made."""

    source: Source
    bounds: Bounds


class State(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """How far the input is handed out."""

    is_over: bool
    """There is no further object."""
    cut: Cut | None = None
    """Of the object that was handed out last; None before the first."""
    too_large_bytes: int = 0
    """Of a line that no object can hold; the object at hand is not to be used then."""


class Damaged(msgspec.Struct, frozen=True, tag=True):
    """A file of the job does not hold what we wrote."""

    message: str


Said = State | Damaged
ORDER: Final = msgspec.json.Decoder(Order)
SAID: Final = msgspec.json.Decoder(Said)


def state_of(made: ProviderInput) -> State:
    """Return how far an input is handed out."""
    return State(is_over=made.is_over, cut=made.cut, too_large_bytes=made.too_large_bytes)


def main() -> None:
    """Be a process that prepares; see `serve`."""
    os.nice(NICE)
    # A server that has died or given the job up reads no more.
    with suppress(BrokenPipeError):
        serve(sys.stdin.buffer, sys.stdout.fileno())


def serve(orders: IO[bytes], frames: int) -> None:
    """Make what the order says, and write it to the descriptor."""
    order = ORDER.decode(orders.readline())
    try:
        made = ProviderInput(order.source, order.bounds)
        _say(frames, state_of(made))
        while not made.is_over:
            for block in made.blocks():
                _write(frames, HEAD.pack(BLOCK, len(block)), block)
            _say(frames, state_of(made))
    except BlobCorrupt as error:
        _say(frames, Damaged(error.message))
        return
    leaders = pack_leaders(made.leaders)
    _write(frames, HEAD.pack(BLOCK, len(leaders)), leaders)


def _say(frames: int, said: Said) -> None:
    packed = msgspec.json.encode(said)
    _write(frames, HEAD.pack(SAYS, len(packed)), packed)


def _write(frames: int, head: bytes, data: bytes) -> None:
    """Write a frame, as fast as the server takes it."""
    for part in (head, data):
        rest = memoryview(part)
        while rest:
            rest = rest[os.write(frames, rest) :]
