"""How long ten organisations wait for each other, one of which submits 100 times as much.

Prints one JSON object. Server and emulator are processes with default settings on the cores of this
machine. First one organisation submits its jobs alone. Then the heavy one submits; when all of its
jobs are accepted, nine others submit at once as many as the first one did alone. A job waits from
the answer to its POST until the provider has it, by the emulator's own log. Measured until all jobs
of the nine are there, so most of the heavy one's wait on; after `--seconds` what is still missing
counts as if it had come then.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from call import REQUESTS, Call
from lives import body_of
from penstock.api.auth import Authenticator
from penstock.clock import SystemClock
from penstock.core.job import OrgId
from penstock.core.key import key_id_of, new_key
from penstock.keyring import Keyring, Purpose
from penstock.settings import Secret
from penstock.store.location import DATABASE_FILE
from penstock.store.store import Store
from penstock.store.tenants import Key
from processes import Process, emulator, machine, penstock
from submit_latency import made_at

HEAVY: Final = "heavy"
LIGHT: Final = tuple(f"light-{number}" for number in range(1, 10))
ALONE: Final = "alone"
TIMES: Final = 100
HEAVY_CONNECTIONS: Final = 16
LINES: Final = 1
LOOK_SECONDS: Final = 0.2

Accepted = dict[str, float]
"""When the POST of each job was answered, by the job's id."""


def jain(values: Sequence[float]) -> float:
    """Return Jain's index: 1 if all are equal, 1/n if one has everything."""
    squares = sum(value * value for value in values)
    return round(sum(values) ** 2 / (len(values) * squares), 4) if squares else 1.0


async def make_keys(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Make an organisation for each name, with a user and a key, beside the running server."""
    store = Store.open(folder / DATABASE_FILE)
    pepper = Keyring.open(Secret(""), folder).key(Purpose.API_KEYS)
    digest = Authenticator(store.tenants, pepper, SystemClock()).digest
    keys = {}
    for name in names:
        keys[name] = text = new_key()
        org_id, user_id, now = OrgId(name), f"{name}-user", time.time()
        await store.tenants.ensure_org(org_id, name, now)
        await store.tenants.ensure_user(user_id, org_id, "owner", now)
        await store.tenants.put_key(
            Key(
                id=key_id_of(text) or "",
                org_id=org_id,
                user_id=user_id,
                name=name,
                digest=digest(text),
                created_at=now,
            )
        )
    await store.close()
    return keys


async def submit(url: str, key: str, jobs: int, connections: int = 1) -> Accepted:
    """Submit as fast as the server takes it, over so many connections."""
    left, accepted = [body_of(LINES)] * jobs, Accepted()

    async def one() -> None:
        call = await Call.open(url, key)
        while left:
            record = json.loads(await call("POST", REQUESTS, left.pop(), "application/jsonl"))
            accepted[record["request_id"]] = time.time()
        await call.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(one())
    return accepted


async def made(log: Path, wanted: set[str], until: float) -> dict[str, float]:
    """Return when the provider got each job, as soon as it has all of these or the time is up."""
    while True:
        found = await asyncio.to_thread(made_at, log)
        if wanted <= found.keys() or time.time() >= until:
            return found
        await asyncio.sleep(LOOK_SECONDS)


async def run(server: Process, keys: dict[str, str], log: Path, jobs: int, seconds: float) -> Any:  # noqa: ANN401  # JSON
    """Let them submit; return the figures."""
    end = time.time() + seconds
    alone = await submit(server.url, keys[ALONE], jobs)
    found = await made(log, set(alone), end)
    alone_waits = [found[one] - at for one, at in alone.items()]
    begun = time.time()
    heavy = await submit(server.url, keys[HEAVY], jobs * TIMES, HEAVY_CONNECTIONS)
    heavy_seconds = time.time() - begun
    submitted = await asyncio.gather(*(submit(server.url, keys[name], jobs) for name in LIGHT))
    lights = dict(zip(LIGHT, submitted, strict=True))
    wanted = {one for ids in submitted for one in ids}
    found = await made(log, wanted, end)
    now = max(found.values())
    waits = {
        name: [found.get(one, now) - at for one, at in accepted.items()]
        for name, accepted in lights.items()
    }
    # From when all wait until the first of the nine has nothing left that waits.
    since = max(at for accepted in submitted for at in accepted.values())
    until = min(max(found.get(one, now) for one in accepted) for accepted in submitted)
    shares = {
        name: sum(since <= found.get(one, 0.0) <= until for one in ids)
        for name, ids in {HEAVY: heavy, **lights}.items()
    }
    means = {name: statistics.fmean(values) for name, values in waits.items()}
    whole = [wait for values in waits.values() for wait in values]
    return {
        "jain_of_light_waits": jain(list(means.values())),
        "jain_of_shares_while_all_wait": jain(list(shares.values())),
        "shares_while_all_wait": shares,
        "seconds_while_all_wait": round(until - since, 1),
        "light_mean_wait_seconds": {name: round(mean, 2) for name, mean in means.items()},
        "light_wait_p50_seconds": round(statistics.median(whole), 2),
        "light_wait_max_seconds": round(max(whole), 2),
        "alone_wait_p50_seconds": round(statistics.median(alone_waits), 2),
        "alone_jobs_per_second": round(jobs / (max(alone_waits) or 1), 2),
        "heavy_wait_p50_seconds_so_far": round(
            statistics.median(found.get(one, now) - at for one, at in heavy.items()), 2
        ),
        "heavy_begun": len(heavy.keys() & found.keys()),
        "heavy_submit_seconds": round(heavy_seconds, 1),
        "light_missing_at_the_end": len(wanted - found.keys()),
    }


def measure(folder: Path, jobs: int, seconds: float) -> dict[str, Any]:
    """Measure on a new pair of servers."""
    log = folder / "provider.jsonl"
    with emulator(folder, log=log) as provider, penstock(folder, provider.url) as server:
        keys = asyncio.run(make_keys(folder / "data", (ALONE, HEAVY, *LIGHT)))
        figures = asyncio.run(run(server, keys, log, jobs, seconds))
    return machine(jobs_of_each=jobs, jobs_of_the_heavy_one=jobs * TIMES, **figures)


def main() -> None:
    """Parse, measure in a temporary folder, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=6, help="of each but the heavy one")
    parser.add_argument("--seconds", type=float, default=150.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        json.dump(measure(Path(name), options.jobs, options.seconds), sys.stdout)


if __name__ == "__main__":
    main()
