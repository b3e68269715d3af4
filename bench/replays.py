"""Submissions that are sent again and again under their idempotency keys; in this process.

Prints one JSON object. Each round has one key of its own that 1,000 callers race for, through the
whole application over a real database; who meets 409 asks again. Then every answer of a round must
name one job, the database must hold one job a round, and usage must count one.
"""

import argparse
import asyncio
import json
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import httpx2

from call import REQUESTS
from penstock.settings import build, emulator_values
from penstock.wiring import Server
from processes import NOBODY, machine

BODY: Final = b'{"request": {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}}\n' * 2
AT_ONCE: Final = 32
"""Of the racing callers those whose request is under way: the server has a line for the others."""


class Round:
    """One key, and all who want its job."""

    def __init__(self, client: httpx2.AsyncClient, key: str) -> None:
        self._client = client
        self._headers = {"Idempotency-Key": key, "Content-Type": "application/jsonl"}
        self._gate = asyncio.Semaphore(AT_ONCE)
        self.in_flight = 0
        self.replayed = 0

    async def run(self, callers: int) -> int:
        """Return how many jobs the callers were told of."""
        return len(set(await asyncio.gather(*(self._ask() for _ in range(callers)))))

    async def _ask(self) -> str:
        while True:
            async with self._gate:
                answer = await self._client.post(REQUESTS, content=BODY, headers=self._headers)
            if answer.status_code == httpx2.codes.OK:
                self.replayed += "Idempotency-Replayed" in answer.headers
                return str(answer.json()["request_id"])
            if answer.json()["code"] != "idempotency_in_flight":
                raise RuntimeError(answer.text)
            self.in_flight += 1


def count(database: Path) -> tuple[int, int]:
    """Return how many jobs there are, and how many are counted."""
    with closing(sqlite3.connect(database)) as connection:
        (jobs,) = connection.execute("SELECT count(*) FROM jobs").fetchone()
        (counted,) = connection.execute("SELECT sum(jobs) FROM usage").fetchone()
    return int(jobs), int(counted)


async def measure(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Open a server, race, and return the figures."""
    values = {"data_dir": str(folder), "vertex": emulator_values(NOBODY)}
    server = Server(build({**values, "uploads_concurrency_tenant_max": AT_ONCE}))
    rounds: list[Round] = []
    told = 0
    try:
        client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=server.app),
            base_url="http://127.0.0.1",
            headers={"Authorization": f"Bearer {await server.first_key()}"},
            timeout=None,
        )
        begun = time.perf_counter()
        for number in range(given.replays // given.callers):
            rounds.append(Round(client, f"round {number}"))
            told += await rounds[-1].run(given.callers)
        seconds = time.perf_counter() - begun
        jobs, counted = count(folder / "penstock.db")
    finally:
        await server.close()
    return machine(
        submissions=len(rounds) * given.callers,
        racing=given.callers,
        keys=len(rounds),
        replayed=sum(each.replayed for each in rounds),
        met_409=sum(each.in_flight for each in rounds),
        jobs=jobs,
        jobs_counted=counted,
        second_jobs=jobs - len(rounds),
        seconds=round(seconds, 1),
        goal_is_met=told == jobs == counted == len(rounds),
    )


def main() -> None:
    """Parse, measure in a temporary folder, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replays", type=int, default=100_000)
    parser.add_argument("--callers", type=int, default=1_000, help="at a time, for one key")
    parser.add_argument("--folder", type=Path, help="where; memory is quicker than a disk")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-", dir=given.folder) as name:
        print(json.dumps(asyncio.run(measure(Path(name), given))))


if __name__ == "__main__":
    main()
