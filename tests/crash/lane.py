"""A place where histories run one after the other: an emulator, a port, a folder.

Several lanes share a zygote. The emulator is begun anew now and then, because its lists hold all
that it ever saw.
"""

import json
import shutil
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any, Final

import msgspec
from tests.crash.client import http
from tests.crash.hook import Hook
from tests.crash.nursery import Child, Nursery, Order
from tests.crash.old import make_old

CANARY_SECRET: Final = "canary-master-secret-0123456789abcdef0123456789abcdef"
CANARY_TOKEN: Final = "canary-provider-token-0123456789abcdef"
CERTIFICATE: Final = Path(__file__).with_name("certificate.pem")
SPEED: Final = 4000
HISTORIES_MAX: Final = 25
"""Until the emulator is begun anew."""
START_SECONDS: Final = 30.0
_LOOK: Final = threading.Event()
"""Never set: what another process prints has no signal."""

Json = dict[str, Any]


class Templates(msgspec.Struct, frozen=True):
    """Data directories to copy, so that not every server has to make its own."""

    new: Path
    """Of a server that has started once."""
    old: Path
    """Of the first version."""
    key: str
    """What the new one lets in."""


class Lane:
    """One lane."""

    def __init__(self, nursery: Nursery, folder: Path, templates: Templates) -> None:
        self.nursery = nursery
        self.folder = folder
        self.templates = templates
        self._kept = kept_port(), kept_port()
        self.port, self._emulator_port = (int(one.getsockname()[1]) for one in self._kept)
        self._emulator: Child | None = None
        self._emulators = 0
        self._histories = 0
        self.hook = Hook()
        folder.mkdir(parents=True)

    def reset(self) -> None:
        """Have an emulator without rules."""
        self._histories += 1
        self.hook.received.clear()
        if self._emulator is None or self._histories > HISTORIES_MAX:
            self._histories = 1
            self._begin_emulator()
        else:
            self._control("DELETE", "rules")

    def renew(self) -> None:
        """Have the next story begin with another emulator: jobs of this one may still write."""
        self._histories = HISTORIES_MAX

    def close(self) -> None:
        """End the emulator and the receiver."""
        self.hook.close()
        if self._emulator is not None:
            self._emulator.end()
        for one in self._kept:
            one.close()

    def server_environment(self) -> dict[str, str]:
        """Return what a server needs to know."""
        url = f"http://127.0.0.1:{self._emulator_port}"
        return {**environment(url), "PENSTOCK_WEBHOOKS_PRIVATE_ALLOWED": self.hook.url}

    def rule(self, when: Json, then: Json) -> str:
        """Make a fault rule that strikes once; return its id."""
        return str(self._control("POST", "rules", {"when": when, "then": then, "times": 1})["id"])

    def is_used(self, rule: str) -> bool:
        """Return whether the rule has struck."""
        rules = self._control("GET", "rules")["rules"]
        return any(str(one["id"]) == rule and one["used"] for one in rules)

    def mark(self) -> int:
        """Return how long the emulator's log is."""
        return self._log.stat().st_size if self._log.exists() else 0

    def events_since(self, mark: int) -> list[Json]:
        """Return the emulator's events since then."""
        with self._log.open("rb") as file:
            file.seek(mark)
            return [json.loads(line) for line in file]

    def objects(self) -> list[str]:
        """Return the names of all objects in the bucket."""
        answer = http(self._emulator_port, "GET", "/storage/v1/b/penstock/o").json
        return [str(item["name"]) for item in answer.get("items", [])]

    def forget_objects(self) -> None:
        """Empty the bucket."""
        for name in self.objects():
            http(self._emulator_port, "DELETE", f"/penstock/{name}")

    @property
    def _log(self) -> Path:
        return self.folder / f"emulator-{self._emulators}" / "events.jsonl"

    def _begin_emulator(self) -> None:
        if self._emulator is not None:
            self._emulator.end()
            shutil.rmtree(self._log.parent)
        self._emulators += 1
        self._log.parent.mkdir()
        arguments = ["emulator", "--port", str(self._emulator_port), "--speed", str(SPEED)]
        arguments += ["--data-dir", str(self._log.parent / "data"), "--log", str(self._log)]
        self._emulator = self.nursery.start(
            Order(
                arguments=tuple(arguments),
                folder=self._log.parent,
                environment={},
                name="emulator",
            )
        )
        end = time.monotonic() + START_SECONDS
        while "url" not in self._emulator.told():
            if time.monotonic() > end:
                raise TimeoutError("the emulator did not start")
            _LOOK.wait(0.02)

    def _control(self, method: str, path: str, body: Json | None = None) -> Json:
        data = b"" if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        answer = http(
            self._emulator_port, method, f"/emulator/v1/{path}", headers=headers, body=data
        )
        found: Json = answer.json
        return found


def environment(emulator_url: str) -> dict[str, str]:
    """Return the settings of a server, with secrets that must not be seen anywhere."""
    return {
        "PENSTOCK_SECRET": CANARY_SECRET,
        "PENSTOCK_VERTEX_PROJECT": "penstock-emulator",
        "PENSTOCK_VERTEX_BUCKET": "penstock",
        "PENSTOCK_VERTEX_BASE_URL": emulator_url,
        "PENSTOCK_VERTEX_STORAGE_URL": emulator_url,
        "PENSTOCK_VERTEX_ACCESS_TOKEN": CANARY_TOKEN,
        # One certificate instead of hundreds: reading them takes a third of a server's start.
        "SSL_CERT_FILE": str(CERTIFICATE),
        "PATH": "/usr/bin:/bin",
    }


def make_templates(nursery: Nursery, folder: Path) -> Templates:
    """Start a server on an empty directory and end it, and make an old directory."""
    folder.mkdir(parents=True)
    data = folder / "data"
    # Alembic works on globals, so no two threads may do this.
    make_old(folder / "old")
    server = nursery.start(
        Order(
            arguments=("serve", "--port", "0", "--data-dir", str(data)),
            folder=folder,
            environment=environment("http://127.0.0.1:9"),
            name="template",
            modules="modules",
        )
    )
    end = time.monotonic() + START_SECONDS
    while "key" not in server.told():
        if server.ended.is_set() or time.monotonic() > end:
            raise RuntimeError(server.log.read_text(encoding="utf-8")[-3000:])
        _LOOK.wait(0.05)
    server.send(signal.SIGTERM)
    if not server.ended.wait(START_SECONDS):
        raise TimeoutError("the template's server does not end")
    return Templates(new=data, old=folder / "old", key=server.told()["key"])


def kept_port() -> socket.socket:
    """Return a socket that keeps a port for one who listens on it now and then.

    It does not listen itself, so that others may; but nobody is given the port who asks for any.
    """
    keeper = socket.socket()
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    keeper.bind(("127.0.0.1", 0))
    return keeper
