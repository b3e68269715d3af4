"""The harness's side of the zygote: start processes, and be told of their end."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

ROOT: Final = Path(__file__).resolve().parents[2]
START_SECONDS: Final = 60.0


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a process shall be."""

    arguments: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str]
    name: str
    """Of its files: `<name>.out`, `<name>.log`."""
    broken: str = ""
    """A defect from `tests.crash.broken`."""
    prefork: bool = False
    modules: str = ""
    """The file that gets the names of what it imported, at an orderly end."""


class Child:
    """One process that the zygote forked; it leads a group."""

    def __init__(self, number: int, order: Order) -> None:
        self.number = number
        self.said = order.folder / f"{order.name}.{number}.out"
        self.log = order.folder / f"{order.name}.log"
        self.born = threading.Event()
        self.ended = threading.Event()
        self.pid = 0
        self.status: int | None = None
        """As `os.waitpid` says it."""

    @property
    def is_killed(self) -> bool:
        """Whether a SIGKILL ended it."""
        return self.status is not None and os.WIFSIGNALED(self.status)

    def told(self) -> dict[str, str]:
        """Return what it has printed so far: `name: value` a line."""
        try:
            lines = self.said.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        pairs = (line.partition(": ") for line in lines)
        return {name: value for name, _, value in pairs if value}

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process alone."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def end(self) -> None:
        """Kill its whole group."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.ended.wait(START_SECONDS)

    def is_alone(self) -> bool:
        """Whether nobody of its group lives any more."""
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return True
        return False


class Nursery:
    """Starts a zygote, and processes from it; usable from several threads."""

    def __init__(self) -> None:
        paths = filter(None, (os.environ.get("PYTHONPATH"), str(ROOT)))
        # Coverage would slow all forks down, and a process that is killed writes none.
        own = {name: text for name, text in os.environ.items() if not name.startswith("COV")}
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**own, "PYTHONPATH": os.pathsep.join(paths)},
        )
        self._children: dict[int, Child] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._is_ready = threading.Event()
        self._reader = threading.Thread(target=self._read, name="zygote-reader", daemon=True)
        self._reader.start()
        if not self._is_ready.wait(START_SECONDS):
            raise TimeoutError("the zygote did not start")

    def start(self, order: Order) -> Child:
        """Fork a process; return once it has a process id."""
        child = Child(next(self._numbers), order)
        text = {
            "number": child.number,
            "arguments": order.arguments,
            "folder": str(order.folder),
            "environment": dict(order.environment),
            "said": child.said.name,
            "log": child.log.name,
            "broken": order.broken,
            "prefork": order.prefork,
            "modules": order.modules,
        }
        with self._lock:
            self._children[child.number] = child
            self._tell(text)
        if not child.born.wait(START_SECONDS):
            raise TimeoutError("the zygote does not fork")
        return child

    def learn(self, path: Path) -> None:
        """Have what an earlier process imported imported before the next fork."""
        with self._lock:
            self._tell({"learn": str(path)})

    def close(self) -> None:
        """End the zygote and all that it forked."""
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.close()
        self._zygote.wait(START_SECONDS)
        self._reader.join(START_SECONDS)
        self._zygote.stdout.close()

    def _tell(self, order: dict[str, Any]) -> None:
        stdin = self._zygote.stdin
        assert stdin is not None
        stdin.write(json.dumps(order).encode() + b"\n")
        stdin.flush()

    def _read(self) -> None:
        stdout = self._zygote.stdout
        assert stdout is not None
        for line in stdout:
            self._heard(json.loads(line))

    def _heard(self, event: dict[str, Any]) -> None:
        if event["number"] == 0:
            self._is_ready.set()
            return
        with self._lock:
            child = self._children[event["number"]]
            if "status" in event:
                del self._children[event["number"]]
        if "pid" in event:
            child.pid = event["pid"]
            child.born.set()
        else:
            child.status = event["status"]
            child.ended.set()
