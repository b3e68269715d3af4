"""Download one output, against a static file of the same server software and a bare `sendfile`.

All servers and readers are processes of their own on loopback, and readers drop what they get, so
that they cost as little as a client can. The output lies in the page cache, as one that was just
collected does. Penstock serves it from a data directory that holds one finished job, made by its
own store. Ratios within a run are what can be compared between machines.
"""

import argparse
import asyncio
import hashlib
import http.client
import json
import math
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

from collect import dumps, request_of, row_of, words_of
from penstock.api.protocol import guarded
from penstock.blobs.spool import OUTPUT, Spool
from penstock.core.job import Job, new_job_id
from penstock.core.key import new_key
from penstock.core.limits import Limits
from penstock.core.models import DEFAULT_MODEL
from penstock.core.state import JobState
from penstock.settings import build, emulator_values
from penstock.store.jobs import Finish
from penstock.wiring import DEFAULT_ORG, DEFAULT_USER, Server
from processes import NOBODY, Process, machine, started
from whole_job import PENSTOCK

PATH: Final = "/api/v1/ie/requestqueue/apikey/requests"
READERS: Final = 4
SEED_BYTES: Final = 32_000_000
"""So much is made and repeated: far more than the window in which a fast zstd sees repeats."""
PACED: Final = 100e6
"""Bytes a second of a reader on a fast network: 400 MB/s for four."""
SECONDS_MAX: Final = 300.0


# -- the output ----------------------------------------------------------------------------------


def write_output(path: Path, size: int) -> None:
    """Write lines as outputs have them, up to `size` bytes."""
    rng = random.Random(7)
    words = words_of(rng)
    seed = bytearray()
    while len(seed) < min(SEED_BYTES, size):
        line = row_of(rng, words, f"row-{rng.random()}", request_of(rng, words, 4_000))
        seed += dumps(line) + b"\n"
    with path.open("wb") as file:
        while file.tell() < size:
            file.write(memoryview(seed)[: size - file.tell()])


async def store_job(data: Path, output: Path, key: str) -> str:
    """Put one finished job into a new data directory and return its id."""
    server = Server(build({"data_dir": data, "vertex": emulator_values(NOBODY)}))
    await server.permit(key, "bench")
    now = time.time()
    job = Job(
        id=new_job_id(),
        org_id=DEFAULT_ORG,
        user_id=DEFAULT_USER,
        key_id="bench",
        state=JobState.COLLECTING,
        model=DEFAULT_MODEL,
        payload={},
        line_count=1,
        input_bytes=1,
        input_sha256="0" * 64,
        created_at=now,
        updated_at=now,
        provider_job="projects/p/x/y/7",
    )
    await server.store.jobs.add(job)
    part = Spool(data).begin(job.id, OUTPUT)
    part.discard()
    part.path.hardlink_to(output)
    (data / "jobs" / job.id).mkdir()
    part.path.rename(data / "jobs" / job.id / OUTPUT)
    with output.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    end = Finish(
        state=JobState.SUCCEEDED,
        detail="",
        output_bytes=size,
        output_sha256=digest,
    )
    if not await server.store.jobs.finish(job.id, now, end):
        raise RuntimeError("the job did not end")
    await server.close()
    return job.id


# -- servers to compare with ---------------------------------------------------------------------


def serve_static(path: Path) -> None:
    """Serve the file as a static file: Starlette's FileResponse, uvicorn, our HTTP protocol."""

    async def static(_request: Request) -> FileResponse:
        return FileResponse(path)

    listener = socket.create_server(("127.0.0.1", 0))
    print(f"url: http://127.0.0.1:{listener.getsockname()[1]}/", flush=True)
    config = uvicorn.Config(
        Starlette(routes=[Route("/", static)]),
        http=guarded(Limits()),
        ws="none",
        loop="asyncio",
        access_log=False,
        log_config=None,
        server_header=False,
    )
    uvicorn.Server(config).run(sockets=[listener])


def serve_bare(path: Path) -> None:
    """Serve the file by a blocking `sendfile` in a thread a connection, with nothing around it."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"url: http://127.0.0.1:{listener.getsockname()[1]}/", flush=True)
    with ThreadPoolExecutor(READERS) as pool:
        while True:
            connection, _ = listener.accept()
            pool.submit(_answer_bare, connection, path)


def _answer_bare(connection: socket.socket, path: Path) -> None:
    with connection, path.open("rb") as file:
        connection.recv(65536)
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {path.stat().st_size}\r\n\r\n"
        connection.sendall(head.encode())
        connection.sendfile(file)


# -- readers -------------------------------------------------------------------------------------


def reading(
    url: str, encoding: str, times: int, bytes_per_second: float = math.inf
) -> subprocess.Popen[bytes]:
    """Start a reader."""
    script = str(Path(__file__).with_name("reader.py"))
    command = [sys.executable, script, url, encoding, str(times), str(bytes_per_second)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def results_of(reader: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
    """Return what a reader prints at its end."""
    said, _ = reader.communicate(timeout=SECONDS_MAX)
    found: list[dict[str, Any]] = json.loads(said)
    return found


def one_by_one(server: Process, url: str, size: int, runs: int, encoding: str) -> dict[str, Any]:
    """Download several times; return the median rate over the plain bytes and what it cost."""
    cpu = server.cpu_seconds()
    results = results_of(reading(url, encoding, runs))
    if encoding == "identity" and min(result["bytes"] for result in results) < size:
        raise RuntimeError("a download came short")
    seconds = statistics.median(result["seconds"] for result in results)
    return {
        "mb_per_second": round(size / seconds / 1e6, 1),
        "sent_bytes": results[0]["bytes"],
        "server_cpu_seconds_each": round((server.cpu_seconds() - cpu) / runs, 2),
        "server_peak_rss_mb": server.peak_mb(),
    }


class Asking:
    """`GET /requests/{id}` again and again, and how long each took."""

    def __init__(self, url: str, key: str, job_id: str) -> None:
        address = urlsplit(url)
        self._connection = http.client.HTTPConnection(str(address.hostname), address.port)
        self._headers = {"Authorization": f"Bearer {key}"}
        self._path = f"{PATH}/{job_id}"

    def record(self) -> dict[str, Any]:
        """Return the record."""
        self._connection.request("GET", self._path, headers=self._headers)
        found: dict[str, Any] = json.loads(self._connection.getresponse().read())
        return found

    def milliseconds(self, until: float, readers: list[subprocess.Popen[bytes]]) -> dict[str, Any]:
        """Ask until a time has come and every reader has ended; return the percentiles."""
        # The server has closed a connection that was idle meanwhile; the next request opens one.
        self._connection.close()
        took = []
        while time.perf_counter() < until or any(reader.poll() is None for reader in readers):
            begun = time.perf_counter()
            self.record()
            took.append((time.perf_counter() - begun) * 1000)
            # A client that asks without a pause would be a load of its own.
            time.sleep(0.002)
        took.sort()
        return {
            "calls": len(took),
            "p50_ms": round(took[len(took) // 2], 2),
            "p99_ms": round(took[math.ceil(len(took) * 0.99) - 1], 2),
        }


class AtOnce:
    """Several downloads at the same time, and a client that asks for a job meanwhile."""

    def __init__(self, size: int, asking: Asking) -> None:
        self._size = size
        self._asking = asking

    def run(
        self, server: Process, url: str, encoding: str, times: int, rate: float = math.inf
    ) -> dict[str, Any]:
        """Let each of four readers download `times`, at most `rate` bytes a second."""
        cpu = server.cpu_seconds()
        readers = [reading(url, encoding, times, rate) for _ in range(READERS)]
        latency = self._asking.milliseconds(0.0, readers)
        results = [results_of(reader) for reader in readers]
        seconds = max(sum(result["seconds"] for result in reader) for reader in results)
        downloads = READERS * times
        return {
            "mb_per_second_together": round(downloads * self._size / seconds / 1e6, 1),
            "get": latency,
            "server_cpu_seconds_each": round((server.cpu_seconds() - cpu) / downloads, 2),
            "server_peak_rss_mb": server.peak_mb(),
        }


# -- the run -------------------------------------------------------------------------------------


@contextmanager
def compared(kind: str, output: Path) -> Iterator[Process]:
    """Run a server to compare with."""
    command = [sys.executable, __file__, "--serve", kind, "--file", str(output)]
    with started(command, output.with_name(f"{kind}.log"), 1) as process:
        yield process


def measure(folder: Path, size: int, runs: int) -> dict[str, Any]:
    """Run all servers on the same bytes and return the figures."""
    output, key = folder / "output.jsonl", new_key()
    write_output(output, size)
    job_id = asyncio.run(store_job(folder / "data", output, key))
    os.sync()
    serve = [*PENSTOCK, "serve", "--port", "0", "--data-dir", str(folder / "data")]
    result: dict[str, Any] = {"output_bytes": size, "runs": runs}
    with (
        started([*serve, "--emulator", NOBODY], folder / "server.log", 1) as penstock,
        compared("static", output) as static,
        compared("bare", output) as bare,
    ):
        asking = Asking(penstock.url, key, job_id)
        url = asking.record()["outcome"]["output_url"]
        result["rss_before_mb"] = penstock.resident_mb()
        for name, server, where in (
            ("bare_sendfile", bare, bare.url),
            ("static_file", static, static.url),
            ("penstock", penstock, url),
        ):
            result[name] = one_by_one(server, where, size, runs, "identity")
        result["get_idle"] = asking.milliseconds(time.perf_counter() + 3.0, [])
        four = AtOnce(size, asking)
        result["four_at_once"] = four.run(penstock, url, "identity", 4)
        # The same cores are as busy, but not by this server: what waiting for a core costs.
        result["four_from_bare_sendfile"] = four.run(bare, bare.url, "identity", 4)
        result["four_from_static_file"] = four.run(static, static.url, "identity", 1)
        result["four_at_100_mb_per_second"] = four.run(penstock, url, "identity", 1, PACED)
        result["zstd"] = one_by_one(penstock, url, size, 3, "zstd")
        result["zstd"]["ratio"] = round(size / result["zstd"]["sent_bytes"], 2)
        result["four_zstd_at_once"] = four.run(penstock, url, "zstd", 1)
    mine = result["penstock"]["mb_per_second"]
    result["of_static_file"] = round(mine / result["static_file"]["mb_per_second"], 2)
    result["of_bare_sendfile"] = round(mine / result["bare_sendfile"]["mb_per_second"], 2)
    return machine(**result)


def main() -> None:
    """Parse, measure in a temporary folder, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, default=1_000_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--serve", choices=("static", "bare"), help="for the benchmark itself")
    parser.add_argument("--file", type=Path, help="for the benchmark itself")
    given = parser.parse_args()
    if given.serve is not None:
        {"static": serve_static, "bare": serve_bare}[given.serve](given.file)
    else:
        with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
            print(json.dumps(measure(Path(name), given.bytes, given.runs)))


if __name__ == "__main__":
    main()
