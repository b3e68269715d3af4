"""Upload one body through a door, against the machine's limit and a beginner's server.

All servers are processes of their own on loopback; the client is this process and sends a file that
lies in the page cache by `sendfile`, so that it costs them little. The servers take turns, so that
a machine that slows down slows all. Figures are decoded JSONL bytes per second of wall time, from
the first byte sent to the answer read; the ratio to the null server of the same run is what can be
compared between machines. Each upload comes to a server that is idle: one that has accepted a job
goes on to prepare it, and `of_null_busy` is what an upload gets meanwhile.
"""

import argparse
import base64
import gzip
import json
import os
import random
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from processes import Peak, Process, machine, penstock, sampled, started
from whole_job import write_input

PATH: Final = "/api/v1/ie/requestqueue/apikey/requests"
DOORS: Final = ("escaped", "base64", "raw", "multipart", "gzip")
BLOCK_BYTES: Final = 3 * 1024 * 1024
"""A multiple of three, so that base64 of the pieces is base64 of the whole."""

BOUNDARY: Final = "penstock-bench"
# glibc gives buffers of this size back at every free, and page faults then cost the null server a
# third of its speed; the limit of the machine is what it does without them.
ALLOCATOR: Final = {
    "MALLOC_MMAP_THRESHOLD_": "16777216",
    "MALLOC_TRIM_THRESHOLD_": "16777216",
}


class Body(NamedTuple):
    """A request body in a file, and the headers that it needs."""

    path: Path
    headers: str


def write_mixed(path: Path, lines: int, line_bytes: int) -> None:
    """Write lines as people have them: quotes, line breaks, digits, other scripts, some escapes."""
    rng = random.Random(11)
    words = ["the", "a", "price", '"quoted"', "2026", "11.5", "end.\n\n", "Straße", "日本語", "🙂"]
    words += ["".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 9))) for _ in range(200)]
    texts = [
        " ".join(rng.choices(words, k=line_bytes // 6 + 1))[: max(10, line_bytes - 180)]
        for _ in range(64)
    ]
    with path.open("w", encoding="utf-8") as file:
        for number in range(lines):
            text = texts[number % len(texts)]
            content = {"role": "user", "parts": [{"text": text}]}
            request = {"contents": [content], "generationConfig": {"temperature": 0.2, "topK": 40}}
            line = {"custom_id": f"row-{number}", "request": request}
            file.write(json.dumps(line, ensure_ascii=number % 7 == 0) + "\n")


def write_body(source: Path, target: Path, door: str) -> Body:
    """Write the HTTP body that carries the JSONL file through a door."""
    if door == "raw":
        os.link(source, target)
        return Body(target, "Content-Type: application/jsonl\r\n")
    if door == "gzip":
        with source.open("rb") as lines, gzip.open(target, "wb", compresslevel=1) as packed:
            packed.writelines(iter(lambda: lines.read(BLOCK_BYTES), b""))
        return Body(target, "Content-Type: application/jsonl\r\nContent-Encoding: gzip\r\n")
    if door == "multipart":
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        with source.open("rb") as lines, target.open("wb") as body:
            body.write(head.encode())
            body.writelines(iter(lambda: lines.read(BLOCK_BYTES), b""))
            body.write(f"\r\n--{BOUNDARY}--\r\n".encode())
        return Body(target, f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n")
    with source.open("rb") as lines, target.open("wb") as body:
        body.write(b'{"payload": {"input_data": "')
        if door == "base64":
            body.writelines(base64.b64encode(block) for block in _blocks(lines))
        else:
            body.writelines(
                json.dumps(line.decode(), ensure_ascii=False)[1:-1].encode() for line in lines
            )
        body.write(b'"}}')
    return Body(target, "Content-Type: application/json\r\n")


def _blocks(file: Any) -> Iterator[bytes]:  # noqa: ANN401  # any binary file
    return iter(lambda: file.read(BLOCK_BYTES), b"")


def send(server: Process, body: Body) -> float:
    """Upload the file; return seconds, and fail if it is not accepted."""
    address = urlsplit(server.url)
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: {address.netloc}\r\n"
        f"Content-Length: {body.path.stat().st_size}\r\n{body.headers}"
        f"Authorization: Bearer {server.key}\r\nConnection: close\r\n\r\n"
    )
    begun = time.perf_counter()
    with (
        socket.create_connection((str(address.hostname), int(address.port or 0))) as connection,
        body.path.open("rb") as file,
    ):
        connection.sendall(head.encode())
        connection.sendfile(file)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    status = int(answer.split(b" ", 2)[1])
    if status != HTTPStatus.OK:
        raise RuntimeError(f"the server answered {status}: {answer[-400:]!r}")
    return time.perf_counter() - begun


def send_all(server: Process, body: Body, at_once: int) -> float:
    """Upload the file so many times at once; return seconds until the last answer."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(at_once) as threads:
        list(threads.map(lambda _: send(server, body), range(at_once)))
    return time.perf_counter() - begun


class Runs:
    """The uploads to one server: how long each took, and what they cost it."""

    def __init__(self, server: Process, body: Body, at_once: int) -> None:
        self._server = server
        self._body = body
        self._at_once = at_once
        self._seconds: list[float] = []
        self._cpu_seconds: list[float] = []
        self._settled_seconds: list[float] = []
        self._peak = Peak()
        self._first_mb: float | None = None
        self._idle = (server.resident_mb(), server.pss_mb())

    def run(self) -> None:
        """Upload once to a server that does nothing else."""
        self._settled_seconds.append(self._server.settle())
        before = self._server.cpu_seconds()
        with sampled(self._server, self._peak):
            self._seconds.append(send_all(self._server, self._body, self._at_once))
            self._cpu_seconds.append(self._server.cpu_seconds() - before)
        if self._first_mb is None:
            self._first_mb = self._server.receiving_peak_mb()

    def figures(self, decoded_bytes: int) -> dict[str, Any]:
        """Return the median rate, the mean CPU and the peaks."""
        sent = decoded_bytes * self._at_once
        return {
            "mb_per_second": round(sent / statistics.median(self._seconds) / 1e6, 1),
            "mb_per_second_of_each": [round(sent / each / 1e6, 1) for each in self._seconds],
            "cpu_seconds_per_gb": round(statistics.mean(self._cpu_seconds) / sent * 1e9, 2),
            "waited_seconds_until_idle": max(self._settled_seconds),
            "idle_rss_mb": self._idle[0],
            "first_upload_peak_rss_mb": self._first_mb,
            "peak_rss_mb": self._server.peak_mb(),
            "peak_rss_mb_by_process": self._server.peaks_mb(),
            "idle_pss_mb": self._idle[1],
            "peak_pss_mb": self._peak.mb,
        }


def servers_of(
    folder: Path, names: list[str], receivers: int, stack: ExitStack
) -> dict[str, Process]:
    """Start the servers, ours with so many receiving processes at most."""
    settings = {"PENSTOCK_RECEIVE_PROCESSES_MAX": str(receivers)}
    null = [sys.executable, str(Path(__file__).with_name("null_server.py"))]
    log = folder / "log"
    makes = {
        "null": lambda: started([*null, "null", str(folder)], log, 1, ALLOCATOR),
        "penstock": lambda: penstock(folder, **settings),
        "naive": lambda: started([*null, "naive", str(folder)], log, 1),
    }
    return {name: stack.enter_context(makes[name]()) for name in names}


def measure(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Run the servers beside each other, one working at a time."""
    source = folder / "input.jsonl"
    write = write_mixed if given.mixed else write_input
    write(source, given.lines, given.line_bytes)
    decoded = source.stat().st_size
    body = write_body(source, folder / "body", given.door)
    names = ["null", "penstock"]
    if given.door in ("escaped", "base64") and decoded <= given.naive_bytes_max:
        names.append("naive")
    busy_seconds = []
    with ExitStack() as stack:
        running = servers_of(folder, names, given.receivers, stack)
        runs = {name: Runs(server, body, given.at_once) for name, server in running.items()}
        for _ in range(given.runs):
            running["penstock"].settle()
            for each in runs.values():
                each.run()
        figures = {name: each.figures(decoded) for name, each in runs.items()}
        for _ in range(given.busy_runs):
            # Each follows an upload at once, so that its server still works on that one's job.
            send_all(running["penstock"], body, given.at_once)
            busy_seconds.append(send_all(running["penstock"], body, given.at_once))
    result: dict[str, Any] = {**figures}
    null_rate, rate = (figures[name]["mb_per_second"] for name in ("null", "penstock"))
    result["of_null"] = round(rate / null_rate, 2)
    if busy_seconds:
        busy_rate = decoded * given.at_once / statistics.median(busy_seconds) / 1e6
        result["of_null_busy"] = round(busy_rate / null_rate, 2)
    if "naive" in figures:
        result["times_naive"] = round(rate / figures["naive"]["mb_per_second"], 1)
    return {
        "door": given.door,
        "text": "mixed" if given.mixed else "words",
        "decoded_bytes": decoded,
        "body_bytes": body.path.stat().st_size,
        "line_bytes": given.line_bytes,
        "at_once": given.at_once,
        "receivers": given.receivers,
        "runs": given.runs,
        **result,
        **machine(),
    }


def main() -> None:
    """Parse, measure in a temporary folder, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--door", choices=DOORS, default="base64")
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--line-bytes", type=int, default=5_000)
    parser.add_argument("--mixed", action="store_true", help="quotes, line breaks, other scripts")
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--receivers", type=int, default=2, help="receiving processes at most")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--busy-runs", type=int, default=1, help="right behind another upload")
    parser.add_argument("--naive-bytes-max", type=int, default=200_000_000)
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        print(json.dumps(measure(Path(name), parser.parse_args())))


if __name__ == "__main__":
    main()
