"""The processes that collect one large output, seen from the server.

Two processes read rows, each the next segment that nobody has taken; the first then puts the output
together, with the help of the other (`stripes`). They get the descriptors that they need and
nothing else (`own_process`).
"""

import socket
import sys
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import Process
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import chain
from typing import Final, cast

import msgspec

from penstock.errors import StorageFull, Unavailable
from penstock.lifecycle import own_process
from penstock.lifecycle.collector import (
    ANSWER,
    Answer,
    Collected,
    Conclude,
    Full,
    Mark,
    Marked,
    Numbered,
    Order,
    Pause,
    Read,
    Setup,
)
from penstock.lifecycle.inflow import Segment

PROCESSES: Final = 2
"""More would only help on machines where nothing else wants the cores."""

_COLLECTOR: Final = "penstock.lifecycle.collector"


class Crew:
    """Some processes that work on one job."""

    def __init__(self, processes: list[Process]) -> None:
        self._processes = processes
        self._segments = 0
        self._has_turned = False

    @classmethod
    async def hire(cls, setup: Setup, program: str = sys.executable) -> "Crew":
        """Start a process for each file of records; raise `Unavailable` if there can be none.

        What is told to each of them apart is not in the setup yet.
        """
        crew = cls([])
        try:
            with ExitStack() as stack:
                for mine, others in enumerate(_connected(stack, len(setup.found))):
                    files = (*setup.files, *others)
                    process = await own_process.start(_COLLECTOR, files, program=program)
                    crew._processes.append(process)
                    _tell(process, msgspec.structs.replace(setup, mine=mine, others=others))
        except BaseException:
            # A failure or a cancel between two starts; nobody else knows of the first.
            await crew.dismiss()
            raise
        return crew

    def read(self, segments: Iterable[Segment]) -> None:
        """Have these rows read."""
        for segment in segments:
            order = Numbered(self._segments, segment)
            for process in self._processes:
                _tell(process, order)
            self._segments += 1

    async def turn(self) -> None:
        """Wait until all rows were read that came before the last turn, if there was one."""
        for process in self._processes:
            _tell(process, Mark())
        await self._hear_marks()
        self._has_turned = True

    async def conclude(self, told: Conclude) -> Collected:
        """Have the output put together once all rows are read."""
        for process in self._processes:
            _tell(process, Pause())
        await self._hear_marks()
        reads = [cast(Read, await _heard(process)) for process in self._processes]
        first = self._processes[0]
        _tell(first, msgspec.structs.replace(told, reads=reads))
        return cast(Collected, await _heard(first))

    async def dismiss(self) -> None:
        """End the processes, whatever they do; they hold nothing that is of use to anybody."""
        for process in self._processes:
            if process.returncode is None:
                process.kill()
        for process in self._processes:
            await process.wait()

    async def _hear_marks(self) -> None:
        """Wait until all have come to the last turn, if there was one."""
        if self._has_turned:
            for process in self._processes:
                await _heard(process)


def _connected(stack: ExitStack, processes: int) -> list[list[int]]:
    """Return for each process its ends of sockets between the first and each of the others.

    Only they may hold them, so that each of them notices the end of the other.
    """
    pairs = [socket.socketpair() for _ in range(1, processes)]
    for one in chain.from_iterable(pairs):
        stack.callback(one.close)
    return [[first.fileno() for first, _ in pairs], *([other.fileno()] for _, other in pairs)]


def _tell(process: Process, order: Setup | Order) -> None:
    """Send an order; they are small, so nothing waits. A dead process is found at its answer."""
    cast(StreamWriter, process.stdin).write(msgspec.json.encode(order) + b"\n")


async def _heard(process: Process) -> Marked | Read | Collected:
    """Return the next answer of a process; raise what it met instead."""
    line = await cast(StreamReader, process.stdout).readline()
    if not line:
        ended = await process.wait()
        raise Unavailable(f"A process that collected the output ended with {ended}.")
    answer: Answer = ANSWER.decode(line)
    if isinstance(answer, Full):
        raise StorageFull(answer.message)
    return answer
