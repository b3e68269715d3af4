"""Lists of a tenant with very many jobs: first, middle and last page, by offset and by cursor.

Prints one JSON object. The rows are written by SQL on the real schema, in every state, of three
tenants, most with a name and labels; the pages are asked for over HTTP of a server of our own
without a lifecycle, which would otherwise set to work on the open ones. `store_ms` is the page and
the count alone, without HTTP. With `--postgres` the database is the Postgres of the tests.
"""

import argparse
import asyncio
import json
import random
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final

import msgspec
import psycopg
import uvicorn
from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.datastructures import QueryParams

from call import REQUESTS, Call, spread
from penstock.api.app import create_app
from penstock.api.pages import read_page
from penstock.api.protocol import guarded
from penstock.cli.running import collect_rarely
from penstock.core.job import new_job_id
from penstock.core.limits import Limits
from penstock.core.state import JobState
from penstock.settings import Settings, build, emulator_values
from penstock.store.jobs import Page
from penstock.store.location import Location, location_of
from penstock.store.store import Store
from penstock.wiring import DEFAULT_ORG, DEFAULT_USER, Server
from processes import NOBODY, Process, machine, started

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.postgres import PostgresServer  # noqa: E402  # the path comes first

GOAL_MS: Final = 20.0
STATUSES: Final = ("success", "failed", "queued", "processing", "cancelled")
FILTERS: Final = (
    "",
    *(f"status={status}" for status in STATUSES),
    "name=nightly-7",
    "name_prefix=nightly-4",
    "label=team:ads",
    "label=run:77",
    "prefix=req_a",
    "prefix=req_ab",
    "name=nightly-7&label=team:ads",
    "status=failed&label=run:77",
    # Each selects many.
    "label=env:prod&label=team:ads",
    "status=success&label=env:prod",
    "status=success&name_prefix=nightly-4",
)
"""Those within the goal."""

WIDE: Final = (
    "status=success&label=env:prod&name_prefix=nightly-4",
    "label=env:prod&name_prefix=nightly",
)
"""Of what only a count of each job tells, which takes as long as they are many."""

SHARES: Final = {
    JobState.ACCEPTED: 20,
    JobState.PREPARED: 10,
    JobState.SUBMITTING: 10,
    JobState.RUNNING: 100,
    JobState.COLLECTING: 10,
    JobState.SUCCEEDED: 750,
    JobState.FAILED: 50,
    JobState.CANCELLED: 50,
}
TEAMS: Final = ("ads", "search", "maps", "mail")
FOUND_BY: Final = ("org_id", "created_at", "state", "name", "labels")
LIMIT: Final = 50
AT_ONCE: Final = 500
"""Jobs in a transaction: Postgres keeps all that a sum was within one, until it ends."""

OTHERS: Final = ("other-1", "other-2")
COUNTS: Final = (
    '{"ok":100,"truncated":0,"blocked":0,"empty":0,"error":0,"missing":0,"prompt_tokens":1000,'
    '"candidates_tokens":900,"thoughts_tokens":0,"cached_tokens":0}'
)


def rows(jobs: int) -> Iterator[dict[str, Any]]:
    """Yield rows of `jobs` jobs of the first tenant, and a fifth as many of others in between."""
    rng = random.Random(7)
    states = rng.choices(list(SHARES), list(SHARES.values()), k=jobs + jobs // 5)
    created_at = 1_790_000_000.0
    for number, state in enumerate(states):
        created_at += rng.random() * 10
        labels = {"team": TEAMS[number % 4], "env": "prod", "run": str(number // 20)}
        ended = state in {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
        is_good = state is JobState.SUCCEEDED
        yield {
            "id": new_job_id(),
            "org_id": rng.choice(OTHERS) if number % 6 == 0 else DEFAULT_ORG,
            "user_id": DEFAULT_USER,
            "key_id": "bench",
            "state": state.value,
            "model": "gemini-3-flash-preview",
            "payload": json.dumps({"model": "gemini-3-flash-preview", "labels": {"run": number}}),
            "line_count": 100,
            "input_bytes": 50_000,
            "input_sha256": "0" * 64,
            "created_at": created_at,
            "updated_at": created_at + 60,
            "attempt": 1,
            "status_detail": "One sentence that says why the job is where it is.",
            "finished_at": created_at + 60 if ended else None,
            "provider_job": f"projects/1/locations/global/batchPredictionJobs/{number}",
            "provider_state": "JOB_STATE_RUNNING",
            "counts": COUNTS if is_good else None,
            "cost_micro_dollars": 42 if is_good else None,
            "output_bytes": 100_000 if is_good else None,
            "output_sha256": "1" * 64 if is_good else None,
            "name": f"nightly-{number % 500}" if number % 3 else None,
            "labels": msgspec.json.encode(labels if number % 10 else {}).decode(),
        }


def settings_of(folder: Path, database_url: str) -> Settings:
    """Return the settings of a server on this folder, and on Postgres if there is a URL."""
    return build(
        {
            "data_dir": str(folder),
            "port": 0,
            "vertex": emulator_values(NOBODY),
            "database_url": database_url,
        }
    )


def fill(location: Location, jobs: int) -> None:
    """Write the jobs into a migrated database."""
    if isinstance(location, Path):
        with closing(sqlite3.connect(location)) as file:
            write(file, jobs, "?", ":{}")
        return
    url = location.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        write(connection, jobs, "%s", "%({})s")
    with psycopg.connect(url, autocommit=True) as connection:
        # As its autovacuum does by and by.
        connection.execute("VACUUM ANALYZE")


def write(connection: Any, jobs: int, mark: str, named: str) -> None:  # noqa: ANN401  # of either driver
    """Write the rows; drivers differ in how a statement marks a value."""
    cursor = connection.cursor()
    for org in (DEFAULT_ORG, *OTHERS):
        cursor.execute(
            f"INSERT INTO orgs (id, name, created_at) VALUES ({mark}, {mark}, 0)"  # noqa: S608  # our own marks
            " ON CONFLICT DO NOTHING",
            (org, org),
        )
    cursor.execute(
        f"INSERT INTO users (id, name, created_at) VALUES ({mark}, {mark}, 0)"  # noqa: S608  # our own marks
        " ON CONFLICT DO NOTHING",
        (DEFAULT_USER,) * 2,
    )
    every = list(rows(jobs))
    names = list(every[0])
    marks = ", ".join(named.format(name) for name in names)
    for first in range(0, len(every), AT_ONCE):
        some = every[first : first + AT_ONCE]
        cursor.executemany(f"INSERT INTO jobs ({', '.join(names)}) VALUES ({marks})", some)  # noqa: S608  # our own names
        cursor.executemany(
            "INSERT INTO job_labels (job_id, key, value, org_id, created_at, state, name, labels)"  # noqa: S608  # our own marks
            f" VALUES ({', '.join([mark] * 8)})",
            [
                (row["id"], key, value, *(row[name] for name in FOUND_BY))
                for row in some
                for key, value in json.loads(row["labels"]).items()
            ],
        )
        connection.commit()


async def serve_lists(settings: Settings, jobs: int) -> None:
    """Serve the API of a data directory, without a lifecycle."""
    server = Server(settings)
    key = await server.first_key()
    await asyncio.to_thread(fill, location_of(settings), jobs)
    collect_rarely()
    listener = socket.create_server((settings.host, 0))
    # Without it, an answer of two segments waits 40 ms for the client's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        print(f"url: http://127.0.0.1:{listener.getsockname()[1]}\nkey: {key}", flush=True)
        yield

    app = create_app(server.app.routes, lifespan)
    config = uvicorn.Config(
        app, http=guarded(settings.limits), ws="none", loop="asyncio", log_config=None
    )
    await uvicorn.Server(config).serve(sockets=[listener])


async def timed(call: Call, path: str, runs: int) -> tuple[list[float], dict[str, Any]]:
    """Ask for a page several times; return the seconds until its last byte, and the page."""
    took = []
    page = b""
    for _ in range(runs + 1):
        begun = time.perf_counter()
        page = await call("GET", path)
        took.append(time.perf_counter() - begun)
    # The first call reads the pages of the file; every later one is what a busy server sees.
    return took[1:], json.loads(page)


async def measure_filter(server: Process, store: Store, asked: str, runs: int) -> dict[str, Any]:
    """Ask for pages of one filter, by offset and by cursor, over HTTP and of the store alone."""
    call = await Call.open(server.url, server.key)
    wanted = read_page(QueryParams(asked), Limits()) or Page()
    query = f"?limit={LIMIT}&{asked}"
    total = (await call.json("GET", REQUESTS + query))["total"]
    result: dict[str, Any] = {"jobs": total}
    places = {"first": 0, "middle": total // 2, "last": max(total - LIMIT, 0)}
    for place, offset in places.items():
        took, page = await timed(call, f"{REQUESTS}{query}&offset={offset}", runs)
        if len(page["requests"]) != min(LIMIT, total - offset) or page["total"] != total:
            raise RuntimeError(f"the page at {offset} of {asked!r} is wrong")
        alone = []
        wanted = replace(wanted, limit=LIMIT, offset=offset)
        for _ in range(runs):
            begun = time.perf_counter()
            await store.jobs.listed(DEFAULT_ORG, wanted)
            alone.append(time.perf_counter() - begun)
        # The server closes connections that say nothing for seconds.
        await call.close()
        call = await Call.open(server.url, server.key)
        result[f"{place}_by_offset"] = {**spread(took), "store_ms": spread(alone)["p50_ms"]}
        before = await call.json("GET", f"{REQUESTS}{query}&offset={max(offset - LIMIT, 0)}")
        if "next_cursor" in before:
            path = f"{REQUESTS}{query}&cursor={before['next_cursor']}"
            took, _ = await timed(call, path, runs)
            result[f"{place}_by_cursor"] = spread(took)
    await call.close()
    return result


async def measure(server: Process, location: Location, given: argparse.Namespace) -> dict[str, Any]:
    """Measure every filter on one connection."""
    # As a server does it: a look at everything would be measured as 0.1 s of some page.
    collect_rarely()
    store = Store.open(location)
    call = await Call.open(server.url, server.key)
    begun = time.perf_counter()
    empty, _ = await timed(call, f"{REQUESTS}?model=none", given.runs)
    await call.close()
    result: dict[str, Any] = {
        "database": "SQLite" if isinstance(location, Path) else "Postgres",
        "jobs": given.jobs,
        "page": LIMIT,
        "runs": given.runs,
        "http_and_key_alone": spread(empty),
    }
    for asked in FILTERS:
        result[f"list_{asked or 'any'}"] = await measure_filter(server, store, asked, given.runs)
    for asked in WIDE:
        result[f"wide_{asked}"] = await measure_filter(server, store, asked, given.runs)
    await store.close()
    pages = [
        figures
        for name, kind in result.items()
        if name.startswith("list_")
        for figures in kind.values()
        if isinstance(figures, dict)
    ]
    result["slowest_page_p50_ms"] = max(figures["p50_ms"] for figures in pages)
    result["slowest_page_p99_ms"] = max(figures["p99_ms"] for figures in pages)
    result["goal_ms"] = GOAL_MS
    result["goal_is_met_by_medians"] = result["slowest_page_p50_ms"] < GOAL_MS
    result["goal_is_met_by_p99"] = result["slowest_page_p99_ms"] < GOAL_MS
    return machine(**result, seconds=round(time.perf_counter() - begun, 1))


def main() -> None:
    """Parse, measure in a temporary folder, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--postgres", action="store_true", help="that of the tests, not SQLite")
    parser.add_argument("--serve", type=Path, help="for the benchmark itself: serve this folder")
    parser.add_argument("--database-url", default="", help="for the benchmark itself")
    given = parser.parse_args()
    if given.serve is not None:
        asyncio.run(serve_lists(settings_of(given.serve, given.database_url), given.jobs))
        return
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name, ExitStack() as stack:
        url = ""
        if given.postgres:
            postgres = stack.enter_context(PostgresServer())
            url = postgres.url(postgres.create_database())
        settings = settings_of(Path(name) / "data", url)
        command = [sys.executable, __file__, "--serve", str(settings.data_dir)]
        command += ["--jobs", str(given.jobs), "--database-url", url]
        server = stack.enter_context(started(command, Path(name) / "server.log", 2))
        print(json.dumps(asyncio.run(measure(server, location_of(settings), given))))


if __name__ == "__main__":
    main()
