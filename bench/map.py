"""`client.map` over a large frame, against a real server and a real emulator on loopback.

Prints a JSON object. Each library has a process of its own, whose memory is measured; the time is
split where the client itself says what it does, by the progress that it is given. A second run of
the same rows shows what re-attaching costs.
"""

import argparse
import gc
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from penstock.client import Client, JobRecord
from whole_job import MODEL, running

LIBRARIES: Final = ("pandas", "polars")
CHILD_SECONDS_MAX: Final = 1_200.0


class Label(msgspec.Struct):
    """What is asked of each row."""

    mood: Literal["good", "bad"]
    score: int
    reason: str


class Stages:
    """A progress that draws nothing, and remembers when what began."""

    def __init__(self) -> None:
        self.at = {"begun": time.perf_counter()}
        self.notes: list[str] = []

    def job(self, record: JobRecord) -> None:
        """The upload is over when the job is shown first, the job when it is done."""
        self.at.setdefault("accepted", time.perf_counter())
        if record.done:
            self.at.setdefault("ended", time.perf_counter())

    def transfer(self, verb: str, done: int, total: int | None) -> None:
        """The lines are built when the first byte is sent."""
        del verb, done, total
        self.at.setdefault("built", time.perf_counter())

    def count(self, what: str, done: int, total: int) -> None:
        """Results are read when the last row is."""
        del what
        if done == total:
            self.at["read"] = time.perf_counter()

    def note(self, text: str) -> None:
        """Keep what was said."""
        self.notes.append(text)

    def close(self) -> None:
        """What is left was making the frame."""
        self.at["made"] = time.perf_counter()

    def seconds(self) -> dict[str, float]:
        """Return the time of each stage."""
        names = ("begun", "built", "accepted", "ended", "read", "made")
        stages = ("build", "upload", "job", "results", "frame")
        pairs = zip(stages, names, names[1:], strict=False)
        seconds = {f"{stage}_seconds": self.at[end] - self.at[begin] for stage, begin, end in pairs}
        seconds["all_seconds"] = self.at["made"] - self.at["begun"]
        return {name: round(value, 2) for name, value in seconds.items()}


def rows_of(count: int, text_bytes: int) -> list[str]:
    """Return seeded texts of words."""
    rng = random.Random(7)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(4096)]
    return [" ".join(rng.choices(words, k=text_bytes // 6 + 1))[:text_bytes] for _ in range(count)]


def frame_of(library: str, data: dict[str, list[str]]) -> Any:  # noqa: ANN401  # of a library
    """Return the frame of one library, the other being not even loaded."""
    module = __import__(library)
    return module.DataFrame(data)


def memory_mb(name: str) -> float:
    """Return the memory of this process, `VmRSS` now or `VmHWM` at its peak."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return round(int(status.partition(f"{name}:")[2].split()[0]) * 1024 / 1e6, 1)


def forget_peak() -> None:
    """Begin the peak anew: making the data took more than what is measured."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Run the map in this process, twice."""
    frame = frame_of(given.library, {"review": rows_of(given.rows, given.text_bytes)})
    gc.collect()
    prompt = f"Classify this ({given.library}):\n{{review}}"
    figures: dict[str, Any] = {"resident_mb_with_the_frame": memory_mb("VmRSS")}
    with Client(given.url, given.key) as client:
        for name in ("first", "again"):
            forget_peak()
            shown = Stages()
            made = client.map(frame, prompt=prompt, model=MODEL, schema=Label, progress=shown)
            figures[name] = {**shown.seconds(), "peak_mb": memory_mb("VmHWM"), "said": shown.notes}
            figures["rows_out"] = len(made)
            figures["rows_ok"] = sum(outcome == "ok" for outcome in made["_outcome"])
            del made
    return figures


def compare(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run each library in a process of its own before one server."""
    load = os.getloadavg()
    emulator = ["emulator", "--port", "0", "--speed", "1000", "--data-dir", str(folder / "emu")]
    figures: dict[str, Any] = {"rows": given.rows, "text_bytes": given.text_bytes}
    with running(emulator, folder / "emulator.log") as provider:
        serve = ["serve", "--port", "0", "--data-dir", str(folder / "data")]
        serve += ["--emulator", provider["url"]]
        timing = {"PENSTOCK_TIMING_POLL_SECONDS_MIN": "0.5"}
        with running(serve, folder / "server.log", **timing) as server:
            for library in LIBRARIES:
                arguments = ["--library", library, "--url", server["url"], "--key", server["key"]]
                arguments += ["--rows", str(given.rows), "--text-bytes", str(given.text_bytes)]
                done = subprocess.run(
                    [sys.executable, __file__, *arguments],
                    stdout=subprocess.PIPE,
                    timeout=CHILD_SECONDS_MAX,
                    check=True,
                )
                figures[library] = json.loads(done.stdout)
    return {
        **figures,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "python": platform.python_version(),
        "load_average_at_start": [round(value, 2) for value in load],
    }


def main() -> None:
    """Run all, or one library before a server that is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--text-bytes", type=int, default=300)
    parser.add_argument("--library", choices=LIBRARIES)
    parser.add_argument("--url")
    parser.add_argument("--key")
    given = parser.parse_args()
    if given.library:
        print(json.dumps(measure(given)))
        return
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        print(json.dumps(compare(given, Path(name))))


if __name__ == "__main__":
    main()
