"""Clients that submit without a pause while Postgres is crashed again and again.

An acknowledged submission is a promise, whatever the database was doing. What became of each is
judged by the emulator's log; what a client was refused or did not hear may be a job or not, and if
it is one it must end well and be paid once, too.
"""

import itertools
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx2
import msgspec
from tests.journeys.service import BASE, ENDED, MODEL, PATIENCE_SECONDS, prompt, until
from tests.postgres import PostgresServer
from tests.scale.cluster import Cluster, job_of

LINES = 3
CLIENTS = 3
REFUSED_SECONDS = 0.05
"""Between a refusal and the next try of a client, which does not wait as long as it is told to."""

END_SECONDS_MAX = 60.0
"""From the end of one job to the end of another one; more means that something is stuck."""


class Outage(msgspec.Struct, frozen=True, kw_only=True):
    """One crash of the database."""

    down_seconds: float
    """From the crash until Postgres takes connections again."""
    recovery_seconds: float
    """From then until a submission is acknowledged that began afterwards."""


class Clients:
    """Threads that submit small jobs, one after the other, through all APIs in turn."""

    def __init__(self, cluster: Cluster) -> None:
        self._urls = itertools.cycle([api.said["url"] for api in cluster.apis])
        self._headers = {"Authorization": f"Bearer {cluster.key}"}
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self.acked: list[str] = []
        self.refused: Counter[str] = Counter()
        """Answers other than 200 by status, and broken connections by the name of the error."""
        self._begun_at: list[float] = []
        self._threads = [threading.Thread(target=self._submit) for _ in range(CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)

    def acked_since(self, moment: float) -> int:
        """Return how many submissions that began after a moment were acknowledged."""
        with self._lock:
            return sum(begun_at > moment for begun_at in self._begun_at)

    def _submit(self) -> None:
        with httpx2.Client(timeout=PATIENCE_SECONDS, headers=self._headers) as http:
            while not self._ending.is_set():
                with self._lock:
                    url = next(self._urls)
                begun_at = time.monotonic()
                refusal = self._try(http, url, begun_at)
                if refusal:
                    with self._lock:
                        self.refused[refusal] += 1
                    self._ending.wait(REFUSED_SECONDS)

    def _try(self, http: httpx2.Client, url: str, begun_at: float) -> str:
        """Submit once; return why it was not acknowledged."""
        try:
            answer = http.post(f"{url}{BASE}/requests", json=_body())
        except httpx2.TransportError as error:
            return type(error).__name__
        if answer.status_code != httpx2.codes.OK:
            return str(answer.status_code)
        with self._lock:
            self.acked.append(answer.json()["request_id"])
            self._begun_at.append(begun_at)
        return ""


def _body() -> dict[str, Any]:
    text = "".join(
        msgspec.json.encode(prompt(f"Question {n}", custom_id=n)).decode() + "\n"
        for n in range(LINES)
    )
    return {
        "model": "Gemini-batch-inference",
        "payload": {"model": MODEL, "input_data": text},
    }


def crash(server: PostgresServer, clients: Clients, acks_before: int = 2) -> Outage:
    """Crash the database in the middle of submissions, and wait until they work again."""
    calm = time.monotonic()
    until(lambda: clients.acked_since(calm) >= acks_before, "submissions are acknowledged")
    begun = time.monotonic()
    server.stop("immediate")
    server.start()
    back = time.monotonic()
    until(lambda: clients.acked_since(back), "a submission is acknowledged again")
    done = time.monotonic()
    return Outage(down_seconds=back - begun, recovery_seconds=done - back)


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What became of all of it."""

    acked: int
    lost: list[str]
    """Acknowledged, and not a job that ended well with all of its lines."""
    unheard: int
    """Jobs that exist and were not acknowledged: their answer was lost, or their commit unclear."""
    doubled: list[str]
    """Created or paid twice at the provider, by the emulator's log."""
    unpaid: list[str]
    """Ended well without a provider job that did."""
    stuck: dict[str, str]
    """Jobs that have not ended, with what their record says."""
    refused: dict[str, int]


def judge(cluster: Cluster, clients: Clients, seconds_max: float = END_SECONDS_MAX) -> Verdict:
    """Wait until no job ends any more, and compare."""
    records = {record["request_id"]: record for record in _ended(cluster, seconds_max)}
    good = {
        request_id
        for request_id, record in records.items()
        if record["status"] == "success"
        and [line["custom_id"] for line in cluster.output(record)] == list(range(LINES))
    }
    made = Counter(map(job_of, cluster.events("job_created")))
    finished = [event for event in cluster.events("job_finished") if event["successful"]]
    paid = Counter(map(job_of, finished))
    return Verdict(
        acked=len(clients.acked),
        lost=sorted(set(clients.acked) - good),
        unheard=len(set(records) - set(clients.acked)),
        doubled=sorted(one for one in made if made[one] > 1 or paid[one] > 1),
        unpaid=sorted(one for one in good if not paid[one]),
        stuck={
            request_id: f"{record['status']}: {record['outcome']}"
            for request_id, record in records.items()
            if record["status"] not in ENDED
        },
        refused=dict(clients.refused),
    )


def _ended(cluster: Cluster, seconds_max: float) -> list[dict[str, Any]]:
    """Return all records, once all jobs have ended or none has for so long."""
    records = list(_records(cluster))
    while left := sum(record["status"] not in ENDED for record in records):
        try:
            records = until(partial(_fewer, cluster, left), "one more has ended", seconds_max)
        except AssertionError:
            return records
    return records


def _fewer(cluster: Cluster, left: int) -> list[dict[str, Any]]:
    """Return all records if fewer than before are open."""
    records = list(_records(cluster))
    return records if sum(record["status"] not in ENDED for record in records) < left else []


def _records(cluster: Cluster) -> Any:  # noqa: ANN401  # an iterator of JSON objects
    cursor = ""
    while True:
        query = f"?limit=100{f'&cursor={cursor}' if cursor else ''}"
        _status, page = cluster.ask(cluster.apis[0], f"{BASE}/requests{query}")
        yield from page["requests"]
        cursor = page.get("next_cursor", "")
        if not cursor:
            return


def keep(folder: Path, database_url: str, workers: int = 2) -> Cluster:
    """Start a cluster on a database that will be crashed."""
    cluster = Cluster(folder, database_url)
    try:
        cluster.start_emulator()
        cluster.use(cluster.start("api"))
        for role in ("api", *["worker"] * workers):
            cluster.start(role)
    except BaseException:
        cluster.close()
        raise
    return cluster
