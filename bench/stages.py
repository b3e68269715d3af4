"""What each step of an upload costs by itself: CPU seconds for a gigabyte of decoded JSONL.

Prints one JSON object. Each step runs alone in this process, over bytes that are in memory, so the
sum is less than an upload: steps in a row push each other out of the caches, and threads that hand
over cost besides. CPU time and not wall time, so a busy machine changes little.
"""

import argparse
import hashlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from ingest import Body, write_body, write_mixed
from penstock.core.limits import Limits
from penstock.ingest.intake import Intake
from penstock.ingest.jsonl import JsonlIntake
from penstock.receive.connection import CHUNK_BYTES
from processes import machine
from whole_job import write_input

WRITE_BYTES: Final = 1_048_576
SENDER: Final = (
    "import os, socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1])));"
    " s.sendfile(open(sys.argv[2], 'rb'))"
)
SHAPES: Final = {"300 B": (150_000, 300), "5 KB": (10_000, 5_300), "300 KB": (150, 300_000)}
TEXTS: Final = {"words": write_input, "mixed": write_mixed}


class Nowhere:
    """A sink that keeps nothing."""

    def write(self, block: bytes) -> None:
        """Drop a block."""

    def write_index(self, rows: bytes) -> None:
        """Drop rows."""

    def write_problem(self, row: bytes) -> None:
        """Fail: the lines are good."""
        raise RuntimeError(f"a bad line: {row!r}")

    def sha256(self) -> str:
        """Return nothing."""
        return ""


def pieces(data: bytes, size: int) -> Iterator[memoryview]:
    """Yield the data in pieces."""
    view = memoryview(data)
    return (view[start : start + size] for start in range(0, len(data), size))


def take(intake: JsonlIntake | Intake, body: bytes) -> None:
    """Feed a body as it comes from a socket."""
    for piece in pieces(body, CHUNK_BYTES):
        intake.feed(bytes(piece))
    intake.finish()


def check(data: bytes) -> None:
    """Check lines as they stand."""
    take(JsonlIntake(Limits(), Nowhere()), data)


def decode(body: bytes) -> None:
    """Find the lines in a JSON body, and check them."""
    take(Intake(Limits(), Nowhere()), body)


def cost(step: Callable[[], object], size: int, runs: int) -> dict[str, float]:
    """Run a step several times; return median and least CPU seconds a gigabyte."""
    took = []
    for _ in range(runs):
        begun = time.process_time()
        step()
        took.append((time.process_time() - begun) / size * 1e9)
    return {"median": round(statistics.median(took), 2), "least": round(min(took), 2)}


def receive(path: Path) -> None:
    """Read the file over loopback from another process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        with subprocess.Popen([sys.executable, "-c", SENDER, port, str(path)]):
            client, _ = listener.accept()
            with client:
                while client.recv(CHUNK_BYTES):
                    pass


def digest(data: bytes) -> None:
    """Hash the data."""
    sha = hashlib.sha256()
    for piece in pieces(data, WRITE_BYTES):
        sha.update(piece)


def store(data: bytes, folder: Path) -> None:
    """Write the data into a new file, and sync it."""
    with tempfile.NamedTemporaryFile(dir=folder, buffering=0) as file:
        for piece in pieces(data, WRITE_BYTES):
            file.write(piece)
        os.fsync(file.fileno())


def plain_steps(path: Path, runs: int) -> dict[str, Any]:
    """Measure what every upload needs, whatever is in it."""
    data = path.read_bytes()
    steps: dict[str, Callable[[], object]] = {
        "receive": lambda: receive(path),
        "sha256": lambda: digest(data),
        "write_and_fsync": lambda: store(data, path.parent),
    }
    return {name: cost(step, len(data), runs) for name, step in steps.items()}


def checks(path: Path, runs: int) -> dict[str, Any]:
    """Measure the check of lines, by their size and text; and the forms of a body around it."""
    result: dict[str, Any] = {}
    for text, write in TEXTS.items():
        for shape, (lines, line_bytes) in SHAPES.items():
            write(path, lines, line_bytes)
            data = path.read_bytes()
            step = partial(check, data)
            result[f"check {shape} {text}"] = cost(step, len(data), runs)
        write(path, *SHAPES["5 KB"])
        size = path.stat().st_size
        for door in ("escaped", "base64"):
            body = written(path, door)
            step = partial(decode, body)
            result[f"{door} and check 5 KB {text}"] = cost(step, size, runs)
    return result


def written(path: Path, door: str) -> bytes:
    """Return the body that carries the file through a door."""
    body: Body = write_body(path, path.with_suffix(f".{door}"), door)
    data = body.path.read_bytes()
    body.path.unlink()
    return data


def measure(folder: Path, runs: int) -> dict[str, Any]:
    """Measure all steps."""
    path = folder / "input.jsonl"
    write_input(path, *SHAPES["5 KB"])
    plain = plain_steps(path, runs)
    return machine(cpu_seconds_per_gb={**plain, **checks(path, runs)}, runs=runs)


def main() -> None:
    """Parse, measure in a temporary folder, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        print(json.dumps(measure(Path(name), parser.parse_args().runs)))


if __name__ == "__main__":
    main()
