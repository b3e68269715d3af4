"""Collect alone: provider rows in random order -> output, without a server or a network.

Prints a JSON object: the speed over the provider's bytes, from the first block to the durable
output, through the same door as in the server; the peak memory; and the null collect of the same
run, which parses nothing: it reads the provider's file, hashes and writes as many bytes as the
output has, and makes them durable. Both run several times, one behind the other, and the figures
are those of their medians.
"""

import argparse
import asyncio
import hashlib
import json
import os
import platform
import random
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from penstock.blobs.local import LocalBlobs
from penstock.blobs.part import Part
from penstock.blobs.spool import INPUT, INPUT_INDEX, Spool
from penstock.core.job import Job, JobId, OrgId, tag_of
from penstock.core.line import LineKey
from penstock.core.models import SEED_CATALOGUE
from penstock.core.state import JobState
from penstock.ingest.index import pack_rows
from penstock.lifecycle.collector import Conclude
from penstock.lifecycle.gather import Files, Gather
from penstock.lifecycle.merge import Missing

JOB: Final = JobId("req_bench")
TRIES: Final = 11
WARM_UPS: Final = 1
"""Runs that do not count. On virtual machines a page that was not used for long costs ten times a
write (8 microseconds): the first run finds many, those right behind it few."""

WATCH_SECONDS: Final = 0.05
TICK_SECONDS: Final = 0.005
BLOCK_BYTES: Final = 1024 * 1024
"""Cloud Storage's stream comes in blocks of this size."""
ECHO_BYTES: Final = 110
"""What stands around the text of a request."""
ANSWER_WORDS: Final = 40
PRICE: Final = SEED_CATALOGUE["gemini-3-flash-preview"].price


def words_of(rng: random.Random) -> list[str]:
    """Return seeded words; one in sixteen is not ASCII, as in most languages of the world."""
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(4096)]
    return [word if place % 16 else f"{word}é" for place, word in enumerate(words)]


def write_job(folder: Path, lines: int, line_bytes: int, *, is_pythons: bool = False) -> Path:
    """Write the input and its index; return the provider's rows, in random order.

    Lines are compact, or as Python's `json.dumps` writes them: with spaces, and in ASCII.
    """
    job = folder / "data" / "jobs" / JOB
    job.mkdir(parents=True)
    rng = random.Random(7)
    words = words_of(rng)
    keys = LineKey(tag_of(JOB))
    text_bytes = max(line_bytes - ECHO_BYTES, 10)
    index, offset = [], 0
    with (job / INPUT).open("wb") as file:
        for number in range(1, lines + 1):
            value = {"custom_id": f"row-{number}", "request": request_of(rng, words, text_bytes)}
            line = json.dumps(value).encode() if is_pythons else dumps(value)
            file.write(line + b"\n")
            index.append((offset, len(line)))
            offset += len(line) + 1
    (job / INPUT_INDEX).write_bytes(pack_rows(index))
    order = list(range(lines))
    rng.shuffle(order)
    path = folder / "rows"
    with (job / INPUT).open("rb") as source, path.open("wb") as rows:
        for place in order:
            start, length = index[place]
            request = json.loads(os.pread(source.fileno(), length, start))["request"]
            rows.write(dumps(row_of(rng, words, keys.of(place + 1), request)) + b"\n")
    return path


def dumps(value: object) -> bytes:
    """Serialise as the provider does: compact, beyond ASCII in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def request_of(rng: random.Random, words: list[str], text_bytes: int) -> dict[str, object]:
    """Return a request whose text has about this size."""
    text = " ".join(rng.choices(words, k=text_bytes // 6 + 1))
    return {
        "contents": [{"role": "user", "parts": [{"text": text[:text_bytes]}]}],
        "generationConfig": {"temperature": 0.2},
    }


def row_of(
    rng: random.Random, words: list[str], key: str, request: dict[str, object]
) -> dict[str, object]:
    """Return the provider's row; its echo has another order of members than the request."""
    prompt = rng.randint(10, 4000)
    text = " ".join(rng.choices(words, k=ANSWER_WORDS))
    return {
        "key": key,
        "request": {name: request[name] for name in sorted(request, reverse=True)},
        "response": {
            "candidates": [
                {
                    "avgLogprobs": -rng.random(),
                    "content": {"parts": [{"text": text}], "role": "model"},
                    "finishReason": "STOP",
                }
            ],
            "createTime": "2026-11-22T16:05:00.000Z",
            "modelVersion": "gemini-3-flash-preview",
            "responseId": f"{rng.getrandbits(96):024x}",
            "usageMetadata": {
                "candidatesTokenCount": ANSWER_WORDS,
                "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": ANSWER_WORDS}],
                "promptTokenCount": prompt,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt}],
                "totalTokenCount": prompt + ANSWER_WORDS,
                "trafficType": "ON_DEMAND",
            },
        },
        "status": "",
        "processed_time": "2026-11-22T16:05:00.000+00:00",
    }


def blocks_of(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes in blocks."""
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK_BYTES):
            yield block


def resident_bytes(process: str) -> int:
    """Return the memory that a process has now; nothing if it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    # A process that has ended and was not waited for has no memory.
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024 if "VmRSS:" in status else 0


def watch(pid: int) -> None:
    """Print the peak memory of a process and of its children, as JSON, when standard input ends.

    Pages that processes have in common (the interpreter's, libraries) are counted for each of them.
    """
    own = children = together = 0
    print("watching", flush=True)
    while not select.select([sys.stdin], [], [], WATCH_SECONDS)[0]:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        mine = resident_bytes(str(pid))
        # The watcher is a child, too.
        theirs = sum(resident_bytes(child) for child in found if int(child) != os.getpid())
        own, children = max(own, mine), max(children, theirs)
        together = max(together, mine + theirs)
    print(json.dumps({"own": own, "children": children, "together": together}))


def job_of(lines: int, input_bytes: int) -> Job:
    """Return the row of the job, as far as it matters here."""
    return Job(
        id=JOB,
        org_id=OrgId("bench"),
        user_id="bench",
        key_id="bench",
        state=JobState.COLLECTING,
        model="gemini-3-flash-preview",
        payload={},
        line_count=lines,
        input_bytes=input_bytes,
        input_sha256="",
        created_at=0.0,
        updated_at=0.0,
    )


async def tick(late: list[float]) -> None:
    """Note for ever how late a short timer comes: so late would an answer begin."""
    while True:
        due = time.perf_counter() + TICK_SECONDS
        await asyncio.sleep(TICK_SECONDS)
        late.append(time.perf_counter() - due)


async def collect(folder: Path, lines: int) -> dict[str, Any]:
    """Collect the job of this folder as the server does, its rows coming from a file."""
    spool = Spool(folder / "data")
    bytes_in = spool.path(JOB, INPUT).stat().st_size
    base = resident_bytes("self")
    load = os.getloadavg()[0]
    watcher = subprocess.Popen(  # noqa: ASYNC220  # nothing else runs yet on this loop
        [sys.executable, __file__, "--watch", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    # Its start is no part of what is measured.
    assert watcher.stdout is not None  # noqa: S101  # it has a pipe
    watcher.stdout.readline()
    late: list[float] = []
    ticking = asyncio.create_task(tick(late))
    begun, spent = time.perf_counter(), time.process_time()
    files = Files(
        spool=spool,
        blobs=LocalBlobs(spool),
        input_path=spool.path(JOB, INPUT),
        index_path=spool.path(JOB, INPUT_INDEX),
    )
    async with Gather(files, job_of(lines, bytes_in), PRICE, asyncio.Semaphore(1)) as gather:
        for block in blocks_of(folder / "rows"):
            await gather.feed(block)
        gather.end_shard()
        fed = time.perf_counter()
        missing = Missing(code="missing_row", message="No row.")
        told = Conclude(missing=missing, now=time.time(), only_with_rows=False)
        collected = await gather.conclude(told)
        written = time.perf_counter()
        await gather.commit()
        ended, spent = time.perf_counter(), time.process_time() - spent
        ticking.cancel()
        peak = json.loads(watcher.communicate()[0])
    index = spool.path(JOB, gather.index_name)
    merged = collected.merged
    assert merged is not None  # noqa: S101  # only a job without rows has none
    return {
        "load_before": load,
        "all_lines_answered": merged.counts.ok == lines,
        "prompt_tokens": merged.counts.prompt_tokens,
        "cost_micro_dollars": merged.cost_micro_dollars,
        "output_bytes": merged.output_bytes,
        "output_sha256": merged.output_sha256,
        "index_bytes": index.stat().st_size,
        "fed_seconds": fed - begun,
        "fsync_seconds": ended - written,
        "total_seconds": ended - begun,
        "server_cpu_seconds": spent,
        "late_p99_seconds": sorted(late)[len(late) * 99 // 100],
        "late_max_seconds": max(late),
        "server_base_bytes": base,
        "server_peak_bytes": peak["own"],
        "children_peak_bytes": peak["children"],
        "together_peak_bytes": peak["together"],
    }


def null_seconds(rows: Path, folder: Path, output_bytes: int) -> float:
    """Read the rows, hash and write as many bytes as the output has, make them durable."""
    digest = hashlib.sha256()
    block = os.urandom(BLOCK_BYTES)
    left = output_bytes
    begun = time.perf_counter()
    for _ in blocks_of(rows):
        pass
    part = Part(folder / "null")
    while left > 0:
        piece = block[:left]
        digest.update(piece)
        part.write(piece)
        left -= len(piece)
    part.sync()
    seconds = time.perf_counter() - begun
    part.discard()
    return seconds


def collected(folder: Path, lines: int) -> dict[str, Any]:
    """Collect the job in a process of its own, which leaves no output; return what it says."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", str(folder), "--lines", str(lines)],
        stdout=subprocess.PIPE,
        check=True,
    )
    for output in (folder / "data" / "jobs" / JOB).glob("output*"):
        output.unlink()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(folder: Path, lines: int, line_bytes: int, *, is_pythons: bool) -> dict[str, Any]:
    """Make the job, collect it in a process of its own, then the null collect; return figures."""
    rows = write_job(folder, lines, line_bytes, is_pythons=is_pythons)
    size = rows.stat().st_size
    for path in (rows, *(folder / "data" / "jobs" / JOB).iterdir()):
        # Neither way shall wait for bytes that the provider has just sent.
        for _ in blocks_of(path):
            pass
    os.sync()
    tries = [collected(folder, lines) for _ in range(WARM_UPS + TRIES)][WARM_UPS:]
    found = sorted(tries, key=lambda one: one["total_seconds"])[TRIES // 2]
    size_out = found["output_bytes"]
    nulls = [null_seconds(rows, folder, size_out) for _ in range(WARM_UPS + TRIES)][WARM_UPS:]
    null = sorted(nulls)[TRIES // 2]

    def speed(seconds: float) -> float:
        return round(size / seconds / 1e6, 1)

    def megabytes(what: str) -> float:
        return round(int(found[what]) / 1e6, 1)

    return {
        "lines": lines,
        "provider_bytes": size,
        "output_bytes": found["output_bytes"],
        "output_sha256": found["output_sha256"],
        "index_bytes_per_line": round(found["index_bytes"] / lines, 1),
        "all_lines_answered": found["all_lines_answered"],
        "prompt_tokens": found["prompt_tokens"],
        "cost_micro_dollars": found["cost_micro_dollars"],
        "tries_mb_per_second": [speed(one["total_seconds"]) for one in tries],
        "fed_seconds": round(found["fed_seconds"], 2),
        "total_mb_per_second_without_fsync": speed(found["total_seconds"] - found["fsync_seconds"]),
        "total_mb_per_second": speed(found["total_seconds"]),
        "best_mb_per_second": speed(min(one["total_seconds"] for one in tries)),
        "null_mb_per_second": speed(null),
        "of_null": round(null / found["total_seconds"], 2),
        "fsync_seconds": round(found["fsync_seconds"], 2),
        "server_cpu_seconds": round(found["server_cpu_seconds"], 2),
        "server_late_p99_ms": round(found["late_p99_seconds"] * 1000, 2),
        "server_late_max_ms": round(found["late_max_seconds"] * 1000, 2),
        "server_base_rss_mb": megabytes("server_base_bytes"),
        "server_peak_rss_mb": megabytes("server_peak_bytes"),
        "children_peak_rss_mb": megabytes("children_peak_bytes"),
        "collecting_peak_rss_mb": round(
            (found["together_peak_bytes"] - found["server_base_bytes"]) / 1e6, 1
        ),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "load_before": round(found["load_before"], 2),
        "python": platform.python_version(),
    }


def main() -> None:
    """Parse the size, run in a temporary folder, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--line-bytes", type=int, default=500)
    parser.add_argument("--pythons", action="store_true", help="lines as `json.dumps` writes them")
    parser.add_argument("--child", type=Path, help="for the benchmark itself: collect this folder")
    parser.add_argument("--watch", type=int, help="for the benchmark itself: watch this process")
    given = parser.parse_args()
    if given.watch is not None:
        watch(given.watch)
    elif given.child is not None:
        print(json.dumps(asyncio.run(collect(given.child, given.lines))))
    else:
        with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
            figures = measure(Path(name), given.lines, given.line_bytes, is_pythons=given.pythons)
            print(json.dumps(figures))


if __name__ == "__main__":
    main()
