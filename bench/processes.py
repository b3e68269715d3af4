"""Servers under measurement: processes of their own, with the memory and CPU of their whole tree.

Linux only: memory is read from /proc, `VmHWM` for peaks. A tree's figure is the sum over its
processes, which counts shared pages once a process, so it is an upper bound for each server alike.
"""

import os
import platform
import subprocess
import sys
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
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_LOAD_AT_START: Final = os.getloadavg()
_NO_SETTINGS: Final[Mapping[str, str]] = MappingProxyType({})


class Process:
    """A running process: what it said at its start, and what it and its children cost so far."""

    def __init__(self, pid: int, said: Mapping[str, str]) -> None:
        self.pid = pid
        self.url = said.get("url", "")
        self.key = said.get("key", "")

    def peak_mb(self) -> float:
        """Return the peak resident memory of the tree."""
        return round(sum(_status_bytes(pid, "VmHWM:") for pid in self._tree()) / 1e6, 1)

    def peaks_mb(self) -> list[float]:
        """Return the peak of each process of the tree, the server's own first."""
        return [round(_status_bytes(pid, "VmHWM:") / 1e6, 1) for pid in self._tree()]

    def resident_mb(self) -> float:
        """Return the resident memory of the tree now."""
        return round(sum(_status_bytes(pid, "VmRSS:") for pid in self._tree()) / 1e6, 1)

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
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _status_bytes(pid: int, name: str) -> int:
    fields = _text(Path(f"/proc/{pid}/status")).partition(name)[2].split()
    return int(fields[0]) * 1024 if fields else 0


def _ticks(pid: int) -> int:
    # The command's name may hold blanks; the numbers begin after its closing bracket.
    fields = _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15])


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
