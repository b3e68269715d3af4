"""Upload one body through each door, against the machine's limit and a beginner's server.

All servers are processes of their own on loopback; the client is this process and sends a file that
lies in the page cache by `sendfile`, so that it costs them little. Figures are decoded JSONL bytes
per second of wall time, from the first byte sent to the answer read; the ratio to the null server
of the same run is what can be compared between machines.
"""

import argparse
import base64
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from whole_job import PENSTOCK, said_by, write_input

PATH: Final = "/api/v1/ie/requestqueue/apikey/requests"
NAIVE_BYTES_MAX: Final = 200_000_000
"""Beyond this the naive server needs gigabytes; its figure at 100 MB is enough."""


class Peer:
    """A running server and its peak memory so far."""

    def __init__(self, pid: int, said: dict[str, str]) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self.url = said["url"]
        self.key = said.get("key", "")

    def peak_mb(self) -> float:
        """Return the peak resident memory in MB (VmHWM; Linux)."""
        for line in self._status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) * 1024 / 1e6, 1)
        raise RuntimeError("this needs /proc")


@contextmanager
def peer(command: list[str], lines: int) -> Iterator[Peer]:
    """Run a server until the block ends."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        try:
            yield Peer(child.pid, said_by(child, lines))
        finally:
            child.terminate()


def write_body(source: Path, target: Path, door: str) -> None:
    """Write the HTTP body that carries the JSONL file through a door."""
    if door == "raw":
        os.link(source, target)
        return
    with source.open("rb") as lines, target.open("wb") as body:
        body.write(b'{"payload": {"input_data": "')
        while block := lines.read(3 * 1024 * 1024):
            if door == "base64":
                body.write(base64.b64encode(block))
            else:
                # Synthetic input is ASCII, so any cut is a safe cut.
                body.write(json.dumps(block.decode("ascii"))[1:-1].encode())
        body.write(b'"}}')


def send(server: Peer, body: Path, content_type: str) -> tuple[float, int]:
    """Upload the file; return seconds and the HTTP status."""
    address = urlsplit(server.url)
    size = body.stat().st_size
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {size}\r\n"
        f"Content-Type: {content_type}\r\nAuthorization: Bearer {server.key}\r\n"
        "Connection: close\r\n\r\n"
    )
    begun = time.perf_counter()
    with (
        socket.create_connection((str(address.hostname), int(address.port or 0))) as connection,
        body.open("rb") as file,
    ):
        connection.sendall(head.encode())
        connection.sendfile(file)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return time.perf_counter() - begun, int(answer.split(b" ", 2)[1])


def rate(server: Peer, body: Path, content_type: str, decoded: int, runs: int) -> dict[str, Any]:
    """Upload several times; return the median rate and the server's peak memory."""
    seconds = []
    for _ in range(runs):
        took, status = send(server, body, content_type)
        if status != HTTPStatus.OK:
            raise RuntimeError(f"the server answered {status}")
        seconds.append(took)
    rate_mb = decoded / statistics.median(seconds) / 1e6
    return {"mb_per_second": round(rate_mb, 1), "peak_rss_mb": server.peak_mb()}


def measure(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Run the three servers one after the other on the same body."""
    source, body = folder / "input.jsonl", folder / "body"
    write_input(source, given.lines, given.line_bytes)
    decoded = source.stat().st_size
    write_body(source, body, given.door)
    content_type = "application/jsonl" if given.door == "raw" else "application/json"
    null = [sys.executable, str(Path(__file__).with_name("null_server.py"))]
    result: dict[str, Any] = {
        "door": given.door,
        "decoded_bytes": decoded,
        "body_bytes": body.stat().st_size,
        "line_bytes": given.line_bytes,
        "runs": given.runs,
    }
    with peer([*null, "null", str(folder)], 1) as server:
        result["null"] = rate(server, body, content_type, decoded, given.runs)
    # An emulator that nobody runs: the uploads are accepted, and what follows does not disturb.
    serve = ["serve", "--port", "0", "--data-dir", str(folder / "data")]
    with peer([*PENSTOCK, *serve, "--emulator", "http://127.0.0.1:9"], 2) as server:
        result["penstock"] = rate(server, body, content_type, decoded, given.runs)
    if given.door != "raw" and decoded <= NAIVE_BYTES_MAX:
        with peer([*null, "naive", str(folder)], 1) as server:
            result["naive"] = rate(server, body, content_type, decoded, given.runs)
    result["of_null"] = round(
        result["penstock"]["mb_per_second"] / result["null"]["mb_per_second"], 2
    )
    if "naive" in result:
        result["times_naive"] = round(
            result["penstock"]["mb_per_second"] / result["naive"]["mb_per_second"], 1
        )
    return result


def main() -> None:
    """Parse, measure in a temporary folder, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--door", choices=("escaped", "base64", "raw"), default="base64")
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--line-bytes", type=int, default=5_000)
    parser.add_argument("--runs", type=int, default=3)
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        print(json.dumps(measure(Path(name), parser.parse_args())))


if __name__ == "__main__":
    main()
