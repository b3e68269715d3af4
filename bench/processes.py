"""Servers under measurement: processes of their own, with the memory and CPU of their whole tree.

Linux only: memory is read from /proc. A tree's RSS is the sum over its processes, `VmHWM` for
peaks, which counts shared pages once a process, so it is an upper bound for each server alike. Its
PSS counts them once in all; the system keeps no peak of it, so `sampled` looks twenty times a
second.
"""

import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from whole_job import PENSTOCK, said_by

SPEED: Final = "1000"
NOBODY: Final = "http://127.0.0.1:9"
"""An emulator that nobody runs: uploads are accepted, and what follows does not disturb."""
STOP_SECONDS_MAX: Final = 20.0
SAMPLE_SECONDS: Final = 0.05
IDLE_SECONDS: Final = 0.5
IDLE_CPU_SHARE: Final = 0.04
"""Of a core, while nothing is asked of it: heartbeats and looks for work go on."""

IDLE_WAIT_SECONDS_MAX: Final = 60.0
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_LOAD_AT_START: Final = os.getloadavg()
_LOOK: Final = threading.Event()
_NO_SETTINGS: Final[Mapping[str, str]] = MappingProxyType({})


class Process:
    """A running process: what it said at its start, and what it and its children cost so far."""

    def __init__(self, pid: int, said: Mapping[str, str]) -> None:
        self.pid = pid
        self.url = said.get("url", "")
        self.key = said.get("key", "")

    def peak_mb(self) -> float:
        """Return the peak resident memory of the tree."""
        return round(sum(_kilobytes(pid, "status", "VmHWM:") for pid in self._tree()) / 1e6, 1)

    def peaks_mb(self) -> list[float]:
        """Return the peak of each process of the tree, the server's own first."""
        return [round(_kilobytes(pid, "status", "VmHWM:") / 1e6, 1) for pid in self._tree()]

    def receiving_peak_mb(self) -> float:
        """Return the peaks of the server's own process and of those that receive uploads, added.

        Others of the tree prepare or collect jobs that were accepted before.
        """
        sizes = (
            _kilobytes(pid, "status", "VmHWM:")
            for pid in self._tree()
            if pid == self.pid or "penstock.receive" in _text(Path(f"/proc/{pid}/cmdline"))
        )
        return round(sum(sizes) / 1e6, 1)

    def resident_mb(self) -> float:
        """Return the resident memory of the tree now."""
        return round(sum(_kilobytes(pid, "status", "VmRSS:") for pid in self._tree()) / 1e6, 1)

    def pss_mb(self) -> float:
        """Return the memory of the tree now, each page in common counted once."""
        return round(sum(_kilobytes(pid, "smaps_rollup", "Pss:") for pid in self._tree()) / 1e6, 1)

    def settle(self) -> float:
        """Wait until the tree hardly works any more; return for how long, at most a minute.

        A server goes on with a job that it has accepted, and a measurement that follows would
        contain that work.
        """
        begun = time.monotonic()
        used = self.cpu_seconds()
        while time.monotonic() - begun < IDLE_WAIT_SECONDS_MAX:
            _LOOK.wait(IDLE_SECONDS)
            before, used = used, self.cpu_seconds()
            if used - before <= IDLE_CPU_SHARE * IDLE_SECONDS:
                break
        return round(time.monotonic() - begun, 1)

    def cpu_seconds(self) -> float:
        """Return user and system time of the tree, ended and reaped children included."""
        return sum(_ticks(pid) for pid in self._tree()) / _TICKS_PER_SECOND

    def _tree(self) -> list[int]:
        found = [self.pid]
        # The list grows while it is walked, until the leaves.
        for pid in found:
            for task in _tasks(pid):
                found += [int(child) for child in _text(task / "children").split()]
        return found


def _tasks(pid: int) -> list[Path]:
    folder = Path(f"/proc/{pid}/task")
    return list(folder.iterdir()) if folder.exists() else []


def _text(path: Path) -> str:
    """Return a file of /proc; a process or thread that has just ended has none any more."""
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""


def _kilobytes(pid: int, file: str, name: str) -> int:
    """Return what a file of a process says in kilobytes, in bytes."""
    fields = _text(Path(f"/proc/{pid}/{file}")).partition(f"\n{name}")[2].split()
    return int(fields[0]) * 1024 if fields else 0


def _ticks(pid: int) -> int:
    # The command's name may hold blanks; the numbers begin after its closing bracket.
    fields = _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15])


class Peak:
    """The largest PSS of a tree that was seen."""

    def __init__(self) -> None:
        self.mb = 0.0


@contextmanager
def sampled(process: Process, peak: Peak) -> Iterator[None]:
    """Look at the memory of a tree, twenty times a second, until the block ends."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            peak.mb = max(peak.mb, process.pss_mb())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        peak.mb = max(peak.mb, process.pss_mb())


@contextmanager
def started(
    command: Sequence[str], log: Path, lines: int, settings: Mapping[str, str] = _NO_SETTINGS
) -> Iterator[Process]:
    """Run a command until the block ends; it is ready when it has said `lines` lines."""
    with (
        log.open("ab") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, env={**os.environ, **settings}
        ) as child,
    ):
        try:
            yield Process(child.pid, said_by(child, lines))
        finally:
            stop(child)


def stop(child: subprocess.Popen[bytes]) -> None:
    """End a child: politely first, and for certain."""
    child.terminate()
    try:
        child.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        child.kill()


@contextmanager
def emulator(folder: Path, *, log: Path | None = None) -> Iterator[Process]:
    """Run an emulator at 1,000 times its speed on this folder."""
    command = [*PENSTOCK, "emulator", "--port", "0", "--speed", SPEED]
    command += ["--data-dir", str(folder / "emulator")]
    if log is not None:
        command += ["--log", str(log)]
    with started(command, folder / "emulator.log", 1) as process:
        yield process


@contextmanager
def penstock(folder: Path, emulator_url: str = NOBODY, **settings: str) -> Iterator[Process]:
    """Run a new Penstock on this folder; `settings` are PENSTOCK_… variables."""
    command = [*PENSTOCK, "serve", "--port", "0", "--data-dir", str(folder / "data")]
    command += ["--emulator", emulator_url]
    with started(command, folder / "server.log", 2, settings) as process:
        yield process


def machine(**more: Any) -> dict[str, Any]:  # noqa: ANN401  # figures go as they are
    """Return what a reader needs to judge figures: the machine, and how busy it is besides."""
    return {
        **more,
        "load_average_at_start": [round(load, 2) for load in _LOAD_AT_START],
        "load_average_at_end": [round(load, 2) for load in os.getloadavg()],
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "python": platform.python_version(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }
