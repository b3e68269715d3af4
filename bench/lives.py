"""Whole lives of small jobs: from the POST to the downloaded output, many at once.

A module for jobs_per_second.py, submit_latency.py and growth.py. Jobs run in a closed loop: each of
N slots submits, waits for its job to end, downloads, and begins again. One poller lists the newest
jobs for all slots, so that waiting costs the server little.
"""

import asyncio
import json
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Self

from call import REQUESTS, Call
from processes import Process

POLL_SECONDS: Final = 0.1
PAGE: Final = 200
_ENDED: Final = frozenset({"success", "failed", "cancelled"})


def body_of(lines: int) -> bytes:
    """Return a small JSONL body."""
    line = {"contents": [{"role": "user", "parts": [{"text": "Name a colour."}]}]}
    return b"".join(
        json.dumps({"custom_id": f"row-{number}", "request": line}).encode() + b"\n"
        for number in range(lines)
    )


@dataclass
class Lives:
    """What happened to the jobs of one run."""

    seconds: float = 0.0
    accept_seconds: list[float] = field(default_factory=list)
    whole_seconds: list[float] = field(default_factory=list)
    """From the POST until its output is downloaded, as the client sees it."""
    ids: list[str] = field(default_factory=list)


class Poller:
    """Lists the newest jobs again and again, and wakes who waits for one of them."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}

    @classmethod
    async def open(cls, server: Process) -> Self:
        """Connect."""
        return cls(await Call.open(server.url, server.key))

    async def end_of(self, request_id: str) -> dict[str, Any]:
        """Return the record of a job once it has ended."""
        waiting: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = waiting
        return await waiting

    async def run(self) -> None:
        """Look for ever."""
        while True:
            if self._waiting:
                await self._look()
            await asyncio.sleep(POLL_SECONDS)

    async def _look(self) -> None:
        """Read pages of the newest jobs until all that somebody waits for were seen."""
        left = set(self._waiting)
        cursor = ""
        while left:
            page = await self._call.json("GET", f"{REQUESTS}?limit={PAGE}{cursor}")
            for record in page["requests"]:
                left.discard(record["request_id"])
                if record["status"] in _ENDED and record["request_id"] in self._waiting:
                    self._waiting.pop(record["request_id"]).set_result(record)
            if "next_cursor" not in page:
                return
            cursor = f"&cursor={page['next_cursor']}"


async def _slot(server: Process, poller: Poller, queue: list[bytes], lives: Lives) -> None:
    while queue:
        body = queue.pop()
        begun = time.perf_counter()
        call = await Call.open(server.url, server.key)
        record = json.loads(await call("POST", REQUESTS, body, "application/jsonl"))
        lives.accept_seconds.append(time.perf_counter() - begun)
        await call.close()
        ended = await poller.end_of(record["request_id"])
        if ended["status"] != "success":
            raise RuntimeError(f"a job ended as {ended['status']}: {ended['status_detail']}")
        # The server closes connections that are idle for seconds, and a job may take that long.
        call = await Call.open(server.url, server.key)
        output = await call("GET", ended["outcome"]["output_url"].removeprefix(server.url))
        if output.count(b"\n") != body.count(b"\n"):
            raise RuntimeError("the output has not one line for each of the input")
        lives.whole_seconds.append(time.perf_counter() - begun)
        lives.ids.append(record["request_id"])
        await call.close()


async def _live(server: Process, jobs: int, concurrency: int, lines: int) -> Lives:
    lives = Lives()
    queue = [body_of(lines)] * jobs
    poller = await Poller.open(server)
    polling = asyncio.create_task(poller.run())
    begun = time.perf_counter()
    async with asyncio.TaskGroup() as slots:
        for _ in range(min(concurrency, jobs)):
            slots.create_task(_slot(server, poller, queue, lives))
    lives.seconds = time.perf_counter() - begun
    polling.cancel()
    return lives


def live(server: Process, jobs: int, *, concurrency: int, lines: int, seconds_max: float) -> Lives:
    """Run so many jobs, so many at once; TimeoutError if they take longer than `seconds_max`."""
    run = _live(server, jobs, concurrency, lines)
    return asyncio.run(asyncio.wait_for(run, seconds_max))


def stage_seconds(database: Path, ids: list[str]) -> dict[str, list[float]]:
    """Return the seconds of each stage of these jobs, from their event histories."""
    stages = ("accepted", "prepared", "intent", "created", "collecting", "succeeded")
    took: dict[str, list[float]] = {f"{begin}_to_{end}": [] for begin, end in pairwise(stages)}
    with closing(sqlite3.connect(database)) as connection:
        for job_id in ids:
            query = "SELECT kind, min(at) FROM events WHERE job_id = ? GROUP BY kind"
            at = dict(connection.execute(query, (job_id,)))
            for begin, end in pairwise(stages):
                took[f"{begin}_to_{end}"].append(at[end] - at[begin])
    return took
