"""One history: a server that is killed where the plan says, its client, and what must hold after.

Each life of the server has at most one plan. First what the life before left must come to rest;
then, if the plan has not struck yet, the client does the work that leads to its point. The last
life has no plan: all must end, and the checker looks at it.
"""

import shutil
import signal
import time
from typing import Final

import msgspec
from tests.crash import strike
from tests.crash.client import ENDED, Client, Gone, Try
from tests.crash.judge import Evidence, Finding, judge
from tests.crash.lane import CANARY_SECRET, CANARY_TOKEN, Lane
from tests.crash.nursery import Child, Order
from tests.crash.points import Work

READY_SECONDS: Final = 30.0
LOG_TAIL_CHARACTERS: Final = 2_000
REST_SECONDS: Final = 30.0
"""How long a job may take to its end; settle, fence and polls are less than a second together."""
ROUNDS_MAX: Final = 3
"""How often a client does its work until a point was hit as often as the plan wants."""
LARGE_BYTES: Final = 900_000

FAST: Final = {
    "PENSTOCK_TIMING_POLL_SECONDS_MIN": "0.1",
    "PENSTOCK_TIMING_POLL_SECONDS_MAX": "0.1",
    "PENSTOCK_TIMING_RETRY_SECONDS_MIN": "0.05",
    "PENSTOCK_TIMING_RETRY_SECONDS_MAX": "0.2",
    "PENSTOCK_TIMING_SETTLE_SECONDS": "0.3",
    "PENSTOCK_TIMING_FENCE_SECONDS": "0.15",
    "PENSTOCK_TIMING_STAGE_SECONDS": "0.2",
    "PENSTOCK_TIMING_CANCEL_CHECK_SECONDS": "0.1",
    "PENSTOCK_TIMING_DELIVER_SECONDS": "0.2",
    "PENSTOCK_TIMING_DELIVER_LEASE_SECONDS": "1",
    "PENSTOCK_LIMITS_IDEMPOTENCY_LOST_SECONDS": "0.5",
}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One strike."""

    point: str
    work: Work
    hit: int = 1
    signal: str = "KILL"
    whole: bool = False
    """The server and its children, instead of the process at the point."""
    large: bool = False
    """Real child processes and an output that they collect."""


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """What shall happen in one history."""

    name: str
    plans: tuple[Plan, ...]
    broken: str = ""
    rest_seconds: float = REST_SECONDS
    ends_in_order: bool = True
    """Whether the last server is asked to end, which takes the engine up to a second."""


class Ending(msgspec.Struct, kw_only=True):
    """What happened."""

    story: Story
    strikes: list[str] = []
    """The points at which something was killed."""
    missed: list[str] = []
    """The points that were not reached."""
    hits: dict[str, int] = {}
    findings: list[Finding] = []
    seconds: float = 0.0


class History:
    """One run of a story, in a folder of its own."""

    def __init__(self, lane: Lane, story: Story) -> None:
        self._lane = lane
        self._story = story
        self._folder = lane.folder / story.name.replace(" ", "-").replace("/", "-")
        self._folder.mkdir(parents=True)
        self._data = self._folder / "data"
        self._log = self._folder / "strikes"
        self._log.touch()
        self._beginning = story.plans[0].work
        self._client = Client(story.name, lane.templates.key)
        self._lives = 0
        self._old: list[Child] = []
        self.ending = Ending(story=story)

    def run(self) -> Ending:
        """Play it to its end, and have it judged."""
        began = time.monotonic()
        self._lane.reset()
        mark = self._lane.mark()
        if self._beginning is Work.OLD:
            shutil.copytree(self._lane.templates.old, self._data)
        elif self._beginning is not Work.FRESH:
            shutil.copytree(self._lane.templates.new, self._data)
        try:
            for plan in self._story.plans:
                self._life(plan)
            self._last_life(mark)
        except (TimeoutError, Gone) as error:
            self._found("15: not live", str(error))
        finally:
            for child in self._old:
                child.end()
        self._count_hits()
        self.ending.seconds = time.monotonic() - began
        if not self.ending.findings:
            shutil.rmtree(self._folder)
        return self.ending

    # -- lives -----------------------------------------------------------------------------------

    def _life(self, plan: Plan) -> None:
        """Let one server live until the plan strikes."""
        before = self._struck()
        server = self._start(plan)
        try:
            self._come_up(server)
            self._settle(server)
            for _ in range(ROUNDS_MAX):
                if self._struck() > before:
                    break
                self._work(server, plan)
                self._settle(server)
        except Gone:
            # Killed, or about to be known as killed; a living server that refuses is a finding.
            if not server.ended.wait(READY_SECONDS):
                self._found("15: not live", "a server that was not killed stopped to answer")
        if self._struck() == before:
            self.ending.missed.append(plan.point)
        else:
            self.ending.strikes.append(plan.point)
        server.end()

    def _last_life(self, mark: int) -> None:
        server = self._start(None)
        self._come_up(server)
        self._settle(server)
        if not any(one.request_id for one in self._client.tries):
            # Nothing was acknowledged: then the next submission must work.
            self._client.submit(self._client.new_try())
            self._settle(server)
        records = self._client.all()
        outputs = {
            record["request_id"]: self._client.output(record)
            for record in records
            if "output_url" in (record["outcome"] or {})
        }
        evidence = Evidence(
            client=self._client,
            records=records,
            outputs=outputs,
            events=self._lane.events_since(mark),
            objects=self._lane.objects(),
            data=self._data,
            logs=[path for path in self._folder.iterdir() if path.suffix in {".log", ".out"}],
            received=list(self._lane.hook.received),
            secrets=[CANARY_SECRET, CANARY_TOKEN],
            server_pid=server.pid,
        )
        self.ending.findings += judge(evidence)
        if self._story.ends_in_order:
            server.send(signal.SIGTERM)
            if not server.ended.wait(READY_SECONDS) or server.status != 0:
                self._found("16: resources", f"the server did not end in order: {server.status}")
        server.end()
        self._check_groups()
        self._lane.forget_objects()

    def _start(self, plan: Plan | None) -> Child:
        self._check_groups()
        self._lives += 1
        environment = {**self._lane.server_environment(), **FAST}
        is_large = any(one.large for one in self._story.plans)
        if plan is not None:
            environment[strike.VARIABLE] = msgspec.json.encode(
                {
                    "point": plan.point,
                    "hit": plan.hit,
                    "signal": plan.signal,
                    "whole": plan.whole,
                    "log": str(self._log),
                    "mark": f".{self._lives}",
                }
            ).decode()
        server = self._lane.nursery.start(
            Order(
                arguments=("serve", "--port", str(self._lane.port), "--data-dir", str(self._data)),
                folder=self._folder,
                environment=environment,
                name="server",
                broken=self._story.broken,
                prefork=not is_large,
            )
        )
        self._old.append(server)
        self._client.port = self._lane.port
        return server

    def _come_up(self, server: Child) -> None:
        def is_up() -> bool:
            if server.ended.is_set():
                last = server.log.read_text(encoding="utf-8", errors="replace")[
                    -LOG_TAIL_CHARACTERS:
                ]
                raise Gone(f"the server ended before it listened ({server.status}): {last}")
            return "url" in server.told()

        self._client.wait(is_up, "the server's start", READY_SECONDS)
        told = server.told()
        if "key" in told:
            self._client.key = told["key"]

    def _settle(self, server: Child) -> None:
        """Ask again for what has no answer, and wait until all jobs have ended."""
        self._client.catch_up()

        def is_at_rest() -> bool:
            if server.ended.is_set():
                raise Gone("the server has ended")
            has_ended = all(record["status"] in ENDED for record in self._client.all())
            return has_ended and self._client.is_told_of_all()

        self._client.wait(is_at_rest, "the end of all jobs", self._story.rest_seconds)

    # -- work ------------------------------------------------------------------------------------

    def _work(self, server: Child, plan: Plan) -> None:
        client = self._client
        if plan.work is Work.PIECES:
            client.upload(client.new_try())
        elif plan.work is Work.CANCEL:
            self._cancel_while_it_runs()
        elif plan.work is Work.LOOK:
            self._look_while_it_runs()
        elif plan.work is Work.CANCEL_EARLY:
            self._cancel_while_it_is_created()
        elif plan.work is Work.CUT:
            one = client.new_failing_try()
            one.query = "?shards=2"
            client.submit(one)
        elif plan.work is Work.RETRIED:
            self._retry_by_hand(server)
        elif plan.work is Work.STOP:
            client.submit(client.new_try())
            server.send(signal.SIGTERM)
            server.ended.wait(READY_SECONDS)
            raise Gone("it was asked to end")
        else:
            self._submit(plan)

    def _submit(self, plan: Plan) -> None:
        client = self._client
        if plan.work is Work.NO_CREATE:
            self._lane.rule({"call": "create"}, {"drop": "before"})
        elif plan.work is Work.NO_ANSWER:
            self._lane.rule({"call": "create"}, {"drop": "after"})
        one = client.new_try(padding=LARGE_BYTES if plan.large else 0)
        one.has_key = plan.work is Work.KEYED
        if plan.work is Work.TOLD:
            client.listen(self._lane.hook.url)
            one.is_told = True
        client.submit(one)

    def _cancel_while_it_runs(self) -> None:
        client = self._client
        one = client.new_try("[[emulator:delay=20h]]")
        client.submit(one)
        self._wait_for(one, "JOB_STATE_RUNNING")
        client.cancel(one)

    def _look_while_it_runs(self) -> None:
        client = self._client
        self._lane.rule({}, {"partial": True, "rows": 0.5})
        one = client.new_try("[[emulator:delay=3h]]")
        client.submit(one)
        self._wait_for(one, "JOB_STATE_RUNNING")
        client.wait(lambda: client.look(one), "a look", REST_SECONDS)

    def _retry_by_hand(self, server: Child) -> None:
        client = self._client
        one = client.new_failing_try()
        one.query = "?retry_attempts=0"
        client.submit(one)
        self._settle(server)
        client.retry(one)

    def _cancel_while_it_is_created(self) -> None:
        client = self._client
        rule = self._lane.rule({"call": "create"}, {"delay_seconds": 0.5})
        one = client.new_try()
        client.submit(one)
        client.wait(lambda: self._lane.is_used(rule), "a create", REST_SECONDS)
        client.cancel(one)

    def _wait_for(self, one: Try, state: str) -> None:
        def is_there() -> bool:
            record = self._client.get(str(one.request_id))
            outcome = record["outcome"] or {}
            return record["status"] in ENDED or outcome.get("batch_job_state") == state

        self._client.wait(is_there, state, REST_SECONDS)

    # -- shared ----------------------------------------------------------------------------------

    def _struck(self) -> int:
        return self._log.read_bytes().count(b"strike ")

    def _count_hits(self) -> None:
        for line in self._log.read_text(encoding="ascii").splitlines():
            kind, _, name = line.partition(" ")
            if kind == "hit":
                self.ending.hits[name] = self.ending.hits.get(name, 0) + 1

    def _check_groups(self) -> None:
        """See that nobody of a dead server's children lives on."""
        for child in self._old:
            if child.ended.is_set() and child.pid:
                try:
                    self._client.wait(child.is_alone, "the end of children", 5.0)
                except TimeoutError:
                    self._found("16: resources", f"children of the dead server {child.pid} live on")

    def _found(self, kind: str, text: str) -> None:
        self.ending.findings.append(Finding(kind, text))
