"""A server with its emulator, and what a test wants of them."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

import httpx2

from penstock.client import Client
from penstock.errors import ConfigurationError
from penstock.testing.process import START_SECONDS_MAX, Announced, ServerDidNotStart, dev

__all__ = ["PenstockServer", "ServerDidNotStart", "running"]

SPEED: Final = 1_000.0
"""The emulator's clock: a job of a hundred lines waits 20 ms and runs for 41."""

BUCKET: Final = "penstock"
_CALL_SECONDS_MAX: Final = 30.0
_FAST: Final = {
    "PENSTOCK_TIMING_POLL_SECONDS_MIN": "0.05",
    "PENSTOCK_TIMING_POLL_SECONDS_MAX": "0.2",
    "PENSTOCK_TIMING_RETRY_SECONDS_MIN": "0.05",
    "PENSTOCK_TIMING_RETRY_SECONDS_MAX": "0.5",
    "PENSTOCK_TIMING_SETTLE_SECONDS": "1",
    "PENSTOCK_TIMING_FENCE_SECONDS": "0.3",
    "PENSTOCK_TIMING_STAGE_SECONDS": "0.05",
    "PENSTOCK_TIMING_CANCEL_CHECK_SECONDS": "0.05",
    # One for each test, and the tests of a day on one server are no misuse.
    "PENSTOCK_LIMITS_ORGS_MAX": "1000000",
}

Json = dict[str, Any]


class EmulatorRefused(ConfigurationError):
    """The emulator does not take an order; the message says what it would take."""


class PenstockServer:
    """A running server, its emulator, and a key of one of its organisations."""

    def __init__(self, said: Announced, http: httpx2.Client, key: str | None = None) -> None:
        self.url = said.url
        self.emulator_url = said.emulator_url
        self.key = key or said.key
        self._said = said
        self._http = http

    @property
    def environment(self) -> dict[str, str]:
        """What a pipeline that reads its server from the environment needs."""
        return {"PENSTOCK_URL": self.url, "PENSTOCK_API_KEY": self.key}

    def client(self) -> Client:
        """Return a new client of this server; close it, or use it in a `with`."""
        return Client(self.url, self.key)

    def fresh(self) -> "PenstockServer":
        """Return the same server seen by a new organisation, which has no jobs yet.

        Idempotency keys are an organisation's own, so the same input is a new job there.
        """
        (owner, *_) = self._call("GET", "/api/v1/users", limit=1)["users"]
        name = f"test {uuid4()}"
        org = self._call("POST", "/api/v1/orgs", {"name": name, "owner_id": owner["id"]})
        key = self._call("POST", "/api/v1/keys", {"name": "test"}, org_id=org["id"])
        return PenstockServer(self._said, self._http, key["key"])

    def script(
        self,
        contains: str,
        reply: object = None,
        *,
        once: bool = False,
        **directives: str | int | bool,
    ) -> None:
        """Say what requests whose prompt holds `contains` are to get; `""` is all of them.

        `reply` is the answer's text, or something that is answered as JSON. Else a directive of the
        emulator says it: `fail=429`, `block="SAFETY"`, `truncate=True`, `missing=True`,
        `not_json=True` and so on (docs/emulator.md). With `once` only the first job that has the
        request is struck. The first script that fits wins.
        """
        wanted = {name.replace("_", "-"): _said(value) for name, value in directives.items()}
        if reply is not None:
            wanted["reply"] = reply if isinstance(reply, str) else json.dumps(reply)
        if once:
            wanted = {f"{name}-once": value for name, value in wanted.items()}
        self._order("scripts", {"contains": contains, "directives": wanted})

    def fault(
        self,
        name: str,
        *,
        times: int | None = None,
        when: Mapping[str, object] | None = None,
        **parameters: object,
    ) -> None:
        """Order one of the emulator's faults by its name, such as `return-503`."""
        body: Json = {"fault": name, "when": dict(when or {}), "with": parameters}
        self._order("rules", body if times is None else {**body, "times": times})

    def forget(self) -> None:
        """Take all scripts and faults back."""
        for kind in ("scripts", "rules"):
            self._http.delete(f"{self.emulator_url}/emulator/v1/{kind}").raise_for_status()

    def advance(self, seconds: float) -> None:
        """Let time pass for the emulator, to see what waits for hours or days."""
        self._order("clock", {"advance_seconds": seconds})

    def put(self, name: str, content: bytes) -> str:
        """Store a file in the emulator's bucket and return its `gs://` address."""
        address = f"{self.emulator_url}/{BUCKET}/{quote(name)}"
        self._http.put(address, content=content).raise_for_status()
        return f"gs://{BUCKET}/{name}"

    def provider_jobs(self) -> list[Json]:
        """Return every batch that Vertex AI would have been paid for, of all organisations."""
        answer = self._http.get(f"{self.emulator_url}/emulator/v1/jobs")
        jobs: list[Json] = answer.raise_for_status().json()["jobs"]
        return jobs

    def _order(self, kind: str, body: Json) -> None:
        answer = self._http.post(f"{self.emulator_url}/emulator/v1/{kind}", json=body)
        if answer.is_error:
            raise EmulatorRefused(answer.text)

    def _call(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        org_id: str | None = None,
        **query: int,
    ) -> Json:
        # Only the operator's key makes organisations, and acts in those of others.
        headers = {"Authorization": f"Bearer {self._said.key}"}
        if org_id is not None:
            headers["X-Organization-ID"] = org_id
        answer = self._http.request(
            method, self.url + path, headers=headers, json=body, params=query
        )
        found: Json = answer.raise_for_status().json()
        return found


@contextmanager
def running(
    folder: Path | None = None,
    *,
    speed: float = SPEED,
    seed: int = 0,
    settings: Mapping[str, str] | None = None,
    start_seconds_max: float = START_SECONDS_MAX,
) -> Iterator[PenstockServer]:
    """Start a server and an emulator on free ports, and end them with the block.

    Without `folder` everything lies in a temporary one. `speed` divides the emulator's durations;
    the same `seed` gives the same answers. `settings` are environment variables of the server;
    those of this process that begin with PENSTOCK_ are not passed on. ServerDidNotStart has its
    last words.
    """
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-")))
        arguments = ["--speed", str(speed), "--seed", str(seed)]
        values = {**_FAST, **(settings or {})}
        said = stack.enter_context(dev(folder, arguments, values, start_seconds_max))
        # Both are on this machine, so no proxy of the environment may come in between.
        http = stack.enter_context(httpx2.Client(timeout=_CALL_SECONDS_MAX, trust_env=False))
        yield PenstockServer(said, http)


def _said(value: str | int | bool) -> str:  # noqa: FBT001  # a directive without a value is switched on
    return "" if value is True else str(value)
