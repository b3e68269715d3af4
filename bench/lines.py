"""What became of each of 200,000 lines: any page, by any filter, the groups, and one line whole.

Prints one JSON object. A server without a lifecycle serves one job that has ended, whose output and
row index are made here; the questions come over HTTP on one connection, pages at random places. By
place: the data directory, the emulator's Cloud Storage, and the same with every read delayed, as a
store that is further away would be. `kept` has the blocks of the index in memory as a busy server
does, `cold` keeps none, so that every question reads what it needs.
"""

import argparse
import asyncio
import json
import os
import random
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette

from call import REQUESTS, Call, spread
from penstock.api.app import create_app
from penstock.api.line_source import Place, Wanted
from penstock.api.lines import cursor_of
from penstock.api.protocol import guarded
from penstock.blobs.spool import OUTPUT, Spool
from penstock.blobs.store import Blobs
from penstock.core.job import Counts, Job, JobId, OrgId
from penstock.core.line import LineOutcome
from penstock.core.line_index import IndexWriter
from penstock.core.state import JobState
from penstock.settings import build, emulator_values
from penstock.wiring import DEFAULT_ORG, DEFAULT_USER, Server
from processes import NOBODY, SPEED, Process, machine, started

GOAL_MS: Final = 50.0
JOB: Final = JobId("req_aaaaaaaaaaaaaaaaaaaaaaaaaa")
INDEX: Final = "lines.idx"
SEED: Final = 6
PAGE: Final = 100
WARM: Final = 20
"""Rounds that are not counted."""
DELAY_SECONDS: Final = 0.02
PLACES: Final = ("local", "gs", "gs_delayed")
KINDS: Final = (
    (LineOutcome.OK, "", False, 970),
    (LineOutcome.ERROR, "429", True, 15),
    (LineOutcome.BLOCKED, "SAFETY", False, 10),
    (LineOutcome.TRUNCATED, "MAX_TOKENS", False, 4),
    (LineOutcome.MISSING, "missing_row", True, 1),
)


def files(lines: int, line_bytes: int) -> tuple[bytes, bytes]:
    """Return an output and its row index."""
    dice = random.Random(SEED)
    writer = IndexWriter()
    kinds = [writer.kind(o, c, "a message", retryable=r) for o, c, r, _ in KINDS]
    chosen = dice.choices(kinds, [share for *_, share in KINDS], k=lines)
    output = bytearray()
    for number, kind in enumerate(chosen, start=1):
        line = b'{"status":"","key":"%d","text":"' % number
        line = line.ljust(line_bytes - 3, b"x") + b'"}\n'
        writer.add(kind, 0, 1, len(line), (200, 300))
        output += line
    return bytes(output), b"".join(bytes(piece) for piece in writer.pieces())


async def fill(server: Server, blobs: Blobs, spool: Spool, lines: int, line_bytes: int) -> int:
    """Store the job, its output and its index; return the bytes of the index."""
    output, index = await asyncio.to_thread(files, lines, line_bytes)
    parts = {}
    for name, data in ((OUTPUT, output), (INDEX, index)):
        parts[name] = spool.begin(JOB, name)
        parts[name].write(data)
    await blobs.commit(JOB, parts)
    job = Job(
        id=JOB,
        org_id=OrgId(DEFAULT_ORG),
        user_id=DEFAULT_USER,
        key_id="bench",
        state=JobState.SUCCEEDED,
        model="gemini-3-flash-preview",
        payload={},
        line_count=lines,
        input_bytes=1,
        input_sha256="0" * 64,
        created_at=1.79e9,
        updated_at=1.79e9,
        finished_at=1.79e9,
        provider_job="projects/1/locations/global/batchPredictionJobs/1",
        counts=Counts(ok=lines),
        output_bytes=len(output),
        output_sha256="0" * 64,
        output_name=OUTPUT,
        index_name=INDEX,
    )
    await server.store.jobs.add(job)
    return len(index)


async def serve_lines(given: argparse.Namespace) -> None:
    """Serve the API of a data directory, without a lifecycle."""
    values: dict[str, Any] = {
        "data_dir": str(given.serve),
        "port": 0,
        "vertex": emulator_values(given.emulator or NOBODY),
        "limits": {} if given.keeps else {"lines_cache_bytes_max": 1},
    }
    if given.emulator:
        values["blobs_url"] = f"gs://penstock/blobs-{given.serve.name}"
        # What several processes could share needs one that all of them know.
        values["secret"] = token_hex()
        values["blobs_endpoint"] = given.emulator
    settings = build(values)
    server = Server(settings)
    key = await server.first_key()
    ground = server._ground  # noqa: SLF001  # a benchmark stands where no caller does
    size = await fill(server, ground.blobs, ground.spool, given.lines, given.line_bytes)
    listener = socket.create_server((settings.host, 0))
    # Without it, an answer of two segments waits 40 ms for the client's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        print(f"url: {url}\nkey: {key}", flush=True)
        yield

    (given.serve / "index_bytes").write_text(str(size), encoding="ascii")
    app = create_app(server.app.routes, lifespan)
    config = uvicorn.Config(
        app, http=guarded(settings.limits), ws="none", loop="asyncio", log_config=None
    )
    await uvicorn.Server(config).serve(sockets=[listener])


def questions(lines: int) -> dict[str, Callable[[random.Random], str]]:
    """Return what is asked, each at a random place of the list."""
    place = Place(job_id=JOB, output_name=OUTPUT, index_name=INDEX)

    def page(query: str, wanted: Wanted, limit: int = PAGE) -> Callable[[random.Random], str]:
        def ask(dice: random.Random) -> str:
            cursor = cursor_of(dice.randrange(lines), place, wanted)
            return f"?limit={limit}&cursor={cursor}{query}"

        return ask

    error = Wanted(outcomes=(LineOutcome.ERROR,))
    return {
        "page_of_all": page("", Wanted()),
        "page_of_all_1000": page("", Wanted(), 1_000),
        "page_of_errors": page("&outcome=error", error),
        "page_of_a_code": page("&code=429", Wanted(code="429")),
        "page_of_a_rare_code": page("&code=missing_row", Wanted(code="missing_row")),
        "page_of_errors_with_output": page("&outcome=error&include=output", error),
        "groups": lambda _: "/groups",
        "one_line": lambda dice: f"/{dice.randrange(lines) + 1}",
    }


async def ask(process: Process, lines: int, runs: int) -> dict[str, Any]:
    """Ask all questions of one server, in turns."""
    call = await Call.open(process.url, process.key)
    asked = questions(lines)
    took: dict[str, list[float]] = {name: [] for name in asked}
    dice = random.Random(SEED)
    for run in range(-WARM, runs):
        for name, question in asked.items():
            path = f"{REQUESTS}/{JOB}/lines{question(dice)}"
            begun = time.perf_counter()
            await call("GET", path)
            if run >= 0:
                took[name].append(time.perf_counter() - begun)
    alone = []
    for _ in range(runs):
        begun = time.perf_counter()
        await call("GET", f"{REQUESTS}/{JOB}")
        alone.append(time.perf_counter() - begun)
    await call.close()
    return {"record_alone": spread(alone)} | {name: spread(each) for name, each in took.items()}


def delayed(emulator: Process) -> None:
    """Have the storage take its time over every read of a part."""
    rule = {
        "when": {"call": "object_read", "path": "*"},
        "then": {"delay_seconds": DELAY_SECONDS},
    }
    request = urllib.request.Request(  # noqa: S310  # our own emulator
        f"{emulator.url}/emulator/v1/rules",
        data=json.dumps(rule).encode(),
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=10).close()  # noqa: S310


def measure(folder: Path, place: str, given: argparse.Namespace) -> dict[str, Any]:
    """Measure one place, with blocks kept and without."""
    found: dict[str, Any] = {}
    command = [sys.executable, "-m", "penstock.cli.main", "emulator", "--port", "0"]
    command += ["--speed", SPEED, "--data-dir", str(folder / f"{place}-emulator")]
    with started(command, folder / f"{place}-emulator.log", 1) as emulator:
        for name in ("kept", "cold"):
            data = folder / f"{place}-{name}"
            data.mkdir()
            serve = [sys.executable, __file__, "--serve", str(data)]
            serve += ["--lines", str(given.lines), "--line-bytes", str(given.line_bytes)]
            serve += ["--emulator", emulator.url] if place != "local" else []
            serve += ["--keeps"] if name == "kept" else []
            with started(serve, folder / f"{place}-{name}.log", 2) as server:
                if place == "gs_delayed" and name == "kept":
                    delayed(emulator)
                found[name] = asyncio.run(ask(server, given.lines, given.runs))
            size = int((data / "index_bytes").read_text(encoding="ascii"))
    return {"index_bytes": size, **found}


def main() -> None:
    """Parse, measure in a temporary folder, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--line-bytes", type=int, default=500)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--places", default=",".join(PLACES))
    parser.add_argument("--serve", type=Path, help="for the benchmark itself: serve this folder")
    parser.add_argument("--emulator", default="")
    parser.add_argument("--keeps", action="store_true")
    given = parser.parse_args()
    if given.serve is not None:
        asyncio.run(serve_lines(given))
        return
    load = os.getloadavg()
    result: dict[str, Any] = {"lines": given.lines, "page": PAGE, "runs": given.runs}
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        for place in given.places.split(","):
            result[place] = measure(Path(name), place, given)
    slowest = {
        f"{place}_{kind}": max(
            figures["p99_ms"]
            for figures in result[place][kind].values()
            if figures is not None and isinstance(figures, dict)
        )
        for place in given.places.split(",")
        for kind in ("kept", "cold")
    }
    result |= {"slowest_p99_ms": slowest, "goal_ms": GOAL_MS, "delay_ms": DELAY_SECONDS * 1e3}
    print(json.dumps(machine(**result, load_before=load)))


if __name__ == "__main__":
    main()
