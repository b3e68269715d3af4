"""Several real processes on one Postgres and one bucket, which is the emulator's.

Each can be killed, frozen and asked to end by itself. What became of the jobs is read through the
API and from the emulator's own log; our tables are only compared with themselves.
"""

import json
import signal
from pathlib import Path
from typing import Any

import psycopg
from tests.journeys.service import BASE, FAST, Json, Process, Service, prompt, until

SECRET = "canary-of-the-cluster-7f3a91c05be2d846"
LAUNCHER = str(Path(__file__).parent / "launch.py")
QUICK = {
    **{f"PENSTOCK_TIMING_{name}": value for name, value in FAST.items()},
    "PENSTOCK_TIMING_HEARTBEAT_SECONDS": "0.2",
    "PENSTOCK_TIMING_WORKER_LOST_SECONDS": "1.5",
    "PENSTOCK_TIMING_SEND_WINDOW_SECONDS": "1",
}
"""Everything that waits for the clock, as short as two busy cores can bear."""

LINES = [prompt(f"Question {n}", custom_id=n) for n in range(60)]


class Member(Process):
    """One process with a role."""

    def __init__(
        self, name: str, folder: Path, arguments: list[str], plan: Json | None, **settings: str
    ) -> None:
        self.name = name
        self.role = name.rstrip("0123456789")
        self.log = folder / f"{name}.log"
        self.hits = folder / f"{name}.hits"
        """One line for each named point that it came by, if it has a plan."""
        lines = 2 if settings.pop("shows_a_key", "") else 1
        if plan is not None:
            self.program = (LAUNCHER, json.dumps({"log": str(self.hits), **plan}))
        arguments = ["serve", *arguments, "--port", "0", "--data-dir", str(folder / name)]
        super().__init__(arguments, self.log, lines, **settings)
        self.executor_id = ""

    def freeze(self) -> None:
        """Stop it where it is, as a paused machine would."""
        self._child.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen one go on."""
        self._child.send_signal(signal.SIGCONT)

    def is_frozen(self) -> bool:
        """Return whether it is stopped."""
        status = Path(f"/proc/{self._child.pid}/stat").read_text("ascii")
        return status.rpartition(")")[2].split()[0] == "T"

    def ask_to_end(self) -> None:
        """Send SIGTERM and return at once."""
        self._child.terminate()

    def came_by(self, point: str) -> int:
        """Return how often it came by a named point."""
        hits = self.hits.read_text("ascii") if self.hits.exists() else ""
        return hits.splitlines().count(f"hit {point}")

    def said_in_log(self, text: str) -> bool:
        """Return whether its log has the text."""
        return text in self.log.read_text("utf-8", errors="replace")


class Cluster(Service):
    """An emulator and any number of processes; requests go through the one in use."""

    def __init__(self, folder: Path, database_url: str, **settings: str) -> None:
        super().__init__(folder)
        self.database_url = database_url
        self._shared = {
            **QUICK,
            "PENSTOCK_SECRET": SECRET,
            "PENSTOCK_DATABASE_URL": database_url,
            "PENSTOCK_BLOBS_URL": "gs://penstock/shared",
            **settings,
        }
        self.members: list[Member] = []

    def start(self, role: str, plan: Json | None = None) -> Member:
        """Start a process; the first that accepts jobs makes the key."""
        is_first = role != "worker" and not self.key
        settings = {**self._shared, **({"shows_a_key": "yes"} if is_first else {})}
        arguments = ["--role", role, "--emulator", self.emulator_url]
        # An API that is the first process makes the tables.
        before = set() if role == "api" else self.executors()
        name = f"{role}{len(self.members)}"
        member = Member(name, self.folder, arguments, plan, **settings)
        self.members.append(member)
        if is_first:
            self.key = member.said["key"]
            self.http.headers["Authorization"] = f"Bearer {self.key}"
        if role != "api":
            (member.executor_id,) = self.executors() - before
        return member

    def use(self, member: Member) -> None:
        """Send the next requests to this one."""
        self.server = member

    def ask(self, member: Member, path: str) -> tuple[int, Any]:
        """Return status and body of a GET from one process."""
        answer = self.http.get(f"{member.said['url']}{path}")
        return answer.status_code, answer.json()

    def list_ids(self, member: Member) -> set[str]:
        """Return the ids of all jobs as one process shows them."""
        _status, body = self.ask(member, f"{BASE}/requests?limit=100")
        return {item["request_id"] for item in body["requests"]}

    @property
    def apis(self) -> list[Member]:
        """The processes that take jobs."""
        return [member for member in self.members if member.role != "worker"]

    def end_workers(self) -> None:
        """Kill the workers of a test; its jobs have ended."""
        for member in self.members:
            if member.role == "worker":
                member.kill()

    def close(self) -> None:
        """End everything."""
        for member in self.members:
            member.kill()
        super().close()

    # -- what the processes share ----------------------------------------------------------------

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return what the database answers."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            return connection.execute(query.encode(), values).fetchall()

    def executors(self) -> set[str]:
        """Return the workers that are known, the silent ones too."""
        return {row[0] for row in self.rows("SELECT executor_id FROM workers")}

    def at_work(self, member: Member) -> int:
        """Return how many workflows a worker has begun and not ended."""
        return len(
            self.rows(
                "SELECT 1 FROM penstock_engine.workflow_status "
                "WHERE status = 'PENDING' AND executor_id = %s",
                member.executor_id,
            )
        )

    def written(self, request_id: str) -> list[tuple[Any, ...]]:
        """Return every row about a job: the job, its history, its attempts and its bill."""
        return [
            row
            for query in (
                "SELECT to_jsonb(t)::text FROM jobs t WHERE id = %s",
                "SELECT to_jsonb(t)::text FROM events t WHERE job_id = %s ORDER BY id",
                "SELECT to_jsonb(t)::text FROM attempts t WHERE job_id = %s ORDER BY number",
                "SELECT to_jsonb(t)::text FROM ledger t WHERE job_id = %s ORDER BY id",
            )
            for row in self.rows(query, request_id)
        ]

    def events(self, name: str) -> list[Json]:
        """Return the events of one kind from the emulator's log."""
        log = (self.folder / "emulator.jsonl").read_text(encoding="utf-8")
        return [event for event in map(json.loads, log.splitlines()) if event["event"] == name]


def assert_answered(cluster: Cluster, request_id: str) -> bytes:
    """Check that a job ends well with every line in its place; return the output's bytes."""
    record = cluster.wait(request_id)
    assert record["status"] == "success"
    output = cluster.output(record)
    assert [line["custom_id"] for line in output] == list(range(len(LINES)))
    assert all(line["status"] == "" for line in output)
    return b"\n".join(json.dumps(line).encode() for line in output)


def assert_one_job_each(cluster: Cluster, request_ids: list[str]) -> None:
    """Check in the emulator's log that each job was created once, and paid once."""
    wanted = set(request_ids)
    made = [one for one in map(job_of, cluster.events("job_created")) if one in wanted]
    assert sorted(made) == sorted(wanted)
    finished = [event for event in cluster.events("job_finished") if job_of(event) in wanted]
    assert sorted(job_of(event) for event in finished if event["successful"]) == sorted(wanted)


def job_of(event: Json) -> str:
    """Return the job of ours that a provider job of the emulator's log belongs to."""
    return str(event["labels"]["penstock-job"])


def wait_until_silent(cluster: Cluster, member: Member) -> None:
    """Wait until the others have taken over what one had begun."""
    until(lambda: not cluster.at_work(member), f"the work of {member.name} is taken over")
