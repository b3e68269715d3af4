"""Collect alone: provider rows in random order -> index -> merge, without a server or a network.

Prints a JSON object: the speed of both passes over the provider's bytes in a process of their own,
its peak memory, and the null collect of the same run, which parses nothing: it reads the provider's
file, hashes and writes as many bytes as the output has, and makes them durable.
"""

import argparse
import hashlib
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from penstock.blobs.spool import Part
from penstock.core.line import LineKey
from penstock.core.models import SEED_CATALOGUE
from penstock.ingest.index import pack_rows
from penstock.lifecycle.merge import Merge, Missing
from penstock.lifecycle.shards import Shards

TAG: Final = "1f9c03ab"
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


def write_job(folder: Path, lines: int, line_bytes: int) -> None:
    """Write the input, its index and the provider's rows in random order."""
    rng = random.Random(7)
    words = words_of(rng)
    keys = LineKey(TAG)
    text_bytes = max(line_bytes - ECHO_BYTES, 10)
    index, offset = [], 0
    with (folder / "input").open("wb") as file:
        for number in range(1, lines + 1):
            line = dumps(
                {"custom_id": f"row-{number}", "request": request_of(rng, words, text_bytes)}
            )
            file.write(line + b"\n")
            index.append((offset, len(line)))
            offset += len(line) + 1
    (folder / "index").write_bytes(pack_rows(index))
    order = list(range(lines))
    rng.shuffle(order)
    with (folder / "input").open("rb") as source, (folder / "rows").open("wb") as rows:
        for place in order:
            start, length = index[place]
            request = json.loads(os.pread(source.fileno(), length, start))["request"]
            rows.write(dumps(row_of(rng, words, keys.of(place + 1), request)) + b"\n")


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


def peak_bytes() -> int:
    """Return the peak memory of this process; getrusage would count its parent's before exec."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def child(folder: Path, lines: int) -> dict[str, Any]:
    """Collect the job of this folder; everything is imported before the base is read."""
    base = peak_bytes()
    begun = time.perf_counter()
    shards = Shards(folder / "scratch", lines, LineKey(TAG))
    for block in blocks_of(folder / "rows"):
        shards.feed(block)
    shards.end_shard()
    indexed = time.perf_counter()
    part = Part(folder / "output")
    merge = Merge(shards, PRICE, Missing(code="missing_row", message="No row."), time.time())
    merged = merge.write(folder / "input", folder / "index", part.write)
    written = time.perf_counter()
    part.sync()
    ended = time.perf_counter()
    shards.close()
    return {
        "lines_answered": merged.counts.ok,
        "prompt_tokens": merged.counts.prompt_tokens,
        "cost_micro_dollars": merged.cost_micro_dollars,
        "output_bytes": merged.output_bytes,
        "output_sha256": merged.output_sha256,
        "index_seconds": indexed - begun,
        "merge_seconds": written - indexed,
        "sync_seconds": ended - written,
        "total_seconds": ended - begun,
        "base_rss_bytes": base,
        "peak_rss_bytes": peak_bytes(),
    }


def null_seconds(folder: Path, output_bytes: int) -> float:
    """Read the rows, hash and write as many bytes as the output has, make them durable."""
    digest = hashlib.sha256()
    block = os.urandom(BLOCK_BYTES)
    left = output_bytes
    begun = time.perf_counter()
    for _ in blocks_of(folder / "rows"):
        pass
    part = Part(folder / "null")
    while left > 0:
        piece = block[:left]
        digest.update(piece)
        part.write(piece)
        left -= len(piece)
    part.sync()
    return time.perf_counter() - begun


def measure(folder: Path, lines: int, line_bytes: int) -> dict[str, Any]:
    """Make the job, run the collect in a child, then the null collect; return the figures."""
    write_job(folder, lines, line_bytes)
    os.sync()
    done = subprocess.run(
        [sys.executable, __file__, "--child", str(folder), "--lines", str(lines)],
        stdout=subprocess.PIPE,
        check=True,
    )
    found = json.loads(done.stdout)
    os.sync()
    null = null_seconds(folder, found["output_bytes"])
    size = (folder / "rows").stat().st_size

    def speed(seconds: float) -> float:
        return round(size / seconds / 1e6, 1)

    return {
        "lines": lines,
        "provider_bytes": size,
        "output_bytes": found["output_bytes"],
        "output_sha256": found["output_sha256"],
        "all_lines_answered": found["lines_answered"] == lines,
        "prompt_tokens": found["prompt_tokens"],
        "cost_micro_dollars": found["cost_micro_dollars"],
        "index_mb_per_second": speed(found["index_seconds"]),
        "merge_mb_per_second": speed(found["merge_seconds"]),
        "total_mb_per_second_without_fsync": speed(found["index_seconds"] + found["merge_seconds"]),
        "total_mb_per_second": speed(found["total_seconds"]),
        "null_mb_per_second": speed(null),
        "of_null": round(null / found["total_seconds"], 2),
        "fsync_seconds": round(found["sync_seconds"], 2),
        "base_rss_mb": round(found["base_rss_bytes"] / 1e6, 1),
        "peak_rss_mb": round(found["peak_rss_bytes"] / 1e6, 1),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "python": platform.python_version(),
    }


def main() -> None:
    """Parse the size, run in a temporary folder, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--line-bytes", type=int, default=500)
    parser.add_argument("--child", type=Path, help="for the benchmark itself: collect this folder")
    given = parser.parse_args()
    if given.child is not None:
        print(json.dumps(child(given.child, given.lines)))
        return
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        print(json.dumps(measure(Path(name), given.lines, given.line_bytes)))


if __name__ == "__main__":
    main()
