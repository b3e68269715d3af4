"""The store in memory, with the guards of `penstock.store`; a test holds the two to be equal.

Each method is one transaction: it happens as a whole or not at all. The ledger and the moves are
kept, because the checker reads them.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.core.job import Attempt, Counts, Job, JobId, StopReason
from penstock.core.state import TERMINAL, TRANSITIONS, JobState, sources_of
from penstock.errors import Conflict, InternalError
from penstock.store.admission import Admission
from penstock.store.jobs import Finish, Kept, OpenJob
from penstock.store.rounds import OF_ONE_ROUND, Round, ending_of

_SOURCES = {state: sources_of(state) for state in JobState}
_replace = msgspec.structs.replace
_IN_JSON = ("counts", "bill")
_RESULT = tuple(
    name for name in Finish.__struct_fields__ if name not in {"state", "detail", "spent"}
)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the ledger."""

    job_id: str
    attempt: int
    round: int
    at: float
    counts: Counts
    micro_dollars: int | None


class MemoryJobs:
    """`penstock.store.jobs.Jobs` without a database."""

    def __init__(self) -> None:
        self.rows: dict[str, Job] = {}
        self.tries: dict[str, dict[int, Attempt]] = {}
        self.history: dict[str, list[tuple[str, str]]] = {}
        self.ledger: list[Entry] = []
        self.moves: list[tuple[str, JobState, JobState]] = []
        self.reserved_micro_dollars = 0
        self.spent_micro_dollars = 0

    async def add(self, job: Job, admission: Admission | None = None) -> None:
        del admission  # nobody has quotas or idempotency keys here
        if job.id in self.rows:
            raise InternalError(f"The job {job.id} exists already.")
        self.rows[job.id] = job
        self.reserved_micro_dollars += job.reserved_micro_dollars or 0
        self.tries[job.id] = {}
        self.history[job.id] = [("accepted", f"{job.line_count} lines")]

    async def is_ruled_out(self, job: Job) -> bool:
        return job.id not in self.rows

    async def load(self, job_id: str) -> Job | None:
        return self.rows.get(job_id)

    async def open_jobs(self) -> list[OpenJob]:
        found = [
            OpenJob(
                id=job.id,
                org_id=job.org_id,
                state=job.state,
                run=job.run,
                priority=job.priority,
                updated_at=job.updated_at,
            )
            for job in self.rows.values()
            if job.state not in TERMINAL
            and not (job.state is JobState.RUNNING and job.waits_for_shards)
        ]
        return sorted(found, key=lambda job: job.updated_at)

    async def request_cancel(self, org_id: str, job_id: str, at: float) -> bool:
        job = self.rows.get(job_id)
        if job is None or job.org_id != org_id or job.state in TERMINAL:
            return False
        if job.parent_id is not None:
            return False
        if job.cancel_requested_at is None:
            wished = {
                "cancel_requested_at": at,
                "updated_at": at,
                "status_detail": "Cancel requested.",
            }
            self._set(job, **wished)
            self._event(job_id, "cancel_requested", "")
            for shard in self._shards(job_id):
                if shard.state not in TERMINAL and shard.cancel_requested_at is None:
                    self._set(shard, **wished)
        return True

    async def cancel_requested(self) -> set[JobId]:
        return {
            job.id
            for job in self.rows.values()
            if job.state not in TERMINAL and job.cancel_requested_at is not None
        }

    async def kept(self, job_ids: Sequence[str]) -> dict[str, Kept]:
        found = [self.rows[job_id] for job_id in job_ids if job_id in self.rows]
        return {
            job.id: Kept(
                id=job.id,
                state=job.state,
                output_name=job.output_name,
                index_name=job.index_name,
                partial_name=job.partial_name,
                partial_index_name=job.partial_index_name,
                is_spent=self._is_spent(job),
            )
            for job in found
        }

    async def move(
        self,
        job_id: JobId,
        to: JobState,
        at: float,
        *,
        only_attempt: int | None = None,
        only_input: str | None = None,
        only_from: JobState | None = None,
        **fields: Any,  # noqa: ANN401
    ) -> bool:
        moved = self._move(
            job_id,
            to,
            {"updated_at": at, **fields},
            only_attempt=only_attempt,
            only_input=only_input,
            only_from=only_from,
        )
        if moved:
            self._event(job_id, to.value, fields.get("status_detail", ""))
        return moved

    async def note(
        self,
        job_id: JobId,
        at: float,
        *,
        only_from: JobState | None = None,
        only_attempt: int | None = None,
        **fields: Any,  # noqa: ANN401
    ) -> bool:
        job = self.rows.get(job_id)
        if job is None or job.state in TERMINAL or only_from not in {None, job.state}:
            return False
        if only_attempt not in {None, job.attempt}:
            return False
        self._set(job, updated_at=at, **fields)
        return True

    async def next_run(
        self, job_id: JobId, run: int, at: float, detail: str, *, only_from: JobState
    ) -> bool:
        job = self.rows.get(job_id)
        if job is None or job.run != run or job.state is not only_from:
            return False
        self._set(job, run=run + 1, updated_at=at)
        self._event(job_id, "restarted", detail)
        return True

    async def intend(self, attempt: Attempt) -> bool:
        job = self.rows.get(attempt.job_id)
        if job is None or job.state is not JobState.PREPARED:
            return False
        if job.attempt != attempt.number - 1:
            return False
        changes = {"attempt": attempt.number, "updated_at": attempt.intent_at}
        self._move(job.id, JobState.SUBMITTING, changes)
        self.tries[job.id][attempt.number] = attempt
        self._event(job.id, "intent", f"attempt {attempt.number}")
        return True

    async def record_provider_job(
        self,
        job_id: JobId,
        number: int,
        name: str,
        at: float,
        *,
        only_input: str | None,
        adopted_in: int | None = None,
    ) -> bool:
        changes = {
            "provider_job": name,
            "provider_state": "JOB_STATE_PENDING",
            "provider_state_since": at,
            "status_detail": "The provider has the job.",
            "updated_at": at,
        }
        newest = number if adopted_in is None else adopted_in
        moved = self._move(
            job_id,
            JobState.RUNNING,
            changes,
            only_attempt=newest,
            only_input=only_input,
            only_from=JobState.SUBMITTING,
        )
        if moved:
            self._attempt(job_id, number, provider_job=name)
            self._event(job_id, "created" if adopted_in is None else "adopted", name)
        return moved

    async def fence(self, job_id: JobId, number: int, at: float, provider_input: str) -> bool:
        job = self.rows.get(job_id)
        if job is None or job.state is not JobState.SUBMITTING or job.attempt != number:
            return False
        self._set(job, provider_input=provider_input, updated_at=at)
        self._attempt(job_id, number, fenced_at=at)
        self._event(job_id, "fenced", f"attempt {number}")
        return True

    async def attempts(self, job_id: JobId) -> list[Attempt]:
        return [one for _, one in sorted(self.tries.get(job_id, {}).items())]

    async def finish(
        self, job_id: JobId, at: float, finish: Finish, *, only_attempt: int | None = None
    ) -> bool:
        job = self.rows.get(job_id)
        if job is None:
            return False
        ending = ending_of(finish, job.settled_state, job.output_bytes or 0)
        sources = ending.sources if job.settled_state else _SOURCES[ending.state]
        if job.state not in sources or only_attempt not in {None, job.attempt}:
            return False
        values = {name: value for name, value in ending.values.items() if name not in _IN_JSON}
        if finish.output_name is not None or job.settled_state is None:
            values |= {name: getattr(finish, name) for name in _IN_JSON}
        self.moves.append((job_id, job.state, ending.state))
        self._set(job, state=ending.state, updated_at=at, finished_at=at, **values)
        for kind, detail in ending.events:
            self._event(job_id, kind, detail)
        if job.parent_id is None:
            self._settle(job, at, finish)
        else:
            self._follow(job.parent_id, at)
        return True

    async def again(self, job: Job, at: float, ended: Finish, following: Round) -> bool:
        now = self.rows.get(job.id)
        if now is None or now.state is not JobState.COLLECTING or now.attempt != job.attempt:
            return False
        if now.cancel_requested_at is not None:
            return False
        result = {name: getattr(ended, name) for name in _RESULT}
        self._settle(now, at, ended)
        self._set(now, **result)
        self._begin(self.rows[job.id], ended.state, at, following)
        return True

    async def reopen(self, job: Job, at: float, following: Round, admission: Admission) -> None:
        del admission  # nobody has quotas or idempotency keys here
        now = self.rows.get(job.id)
        if now is None or now.state is not job.state or now.attempt != job.attempt:
            raise Conflict("Somebody was first.")
        if JobState.ACCEPTED not in TRANSITIONS[now.state]:
            raise Conflict("It has not ended.")
        self._begin(now, now.state, at, following)

    async def begin_shards(
        self, parent: Job, shards: Sequence[Job], at: float, *, twin_count: int
    ) -> bool:
        job = self.rows.get(parent.id)
        if job is None or job.state is not JobState.ACCEPTED or job.attempt != parent.attempt:
            return False
        detail = f"Cut into {len(shards)} provider jobs."
        self.moves.append((job.id, job.state, JobState.RUNNING))
        self._set(
            job,
            state=JobState.RUNNING,
            provider_job=f"shards/{len(shards)}",
            twin_count=twin_count,
            status_detail=detail,
            updated_at=at,
        )
        for shard in shards:
            self.rows[shard.id] = _replace(shard, cancel_requested_at=job.cancel_requested_at)
            self.tries[shard.id] = {}
            lines = f"lines {shard.first_line} to {shard.last_line}"
            self.history[shard.id] = [(shard.state.value, lines)]
        self._event(job.id, "sharded", detail)
        self._event(job.id, JobState.RUNNING.value, detail)
        return True

    async def shards_of(self, parent_id: JobId) -> list[Job]:
        return sorted(self._shards(parent_id), key=lambda one: one.first_line or 0)

    async def event(self, job_id: JobId, at: float, kind: str, detail: str) -> None:
        del at  # the real one keeps it for people
        self._event(job_id, kind, detail)

    async def events(self, job_id: JobId) -> list[tuple[str, str]]:
        return self.history.get(job_id, [])

    def bill(self, job: Job, at: float, counts: Counts, cost: int | None) -> None:
        """Append to the ledger, once a job and round."""
        if any((one.job_id, one.round) == (job.id, job.round) for one in self.ledger):
            raise InternalError(f"The round {job.round} of {job.id} is billed already.")
        self.ledger.append(
            Entry(
                job_id=job.id,
                attempt=job.attempt,
                round=job.round,
                at=at,
                counts=counts,
                micro_dollars=cost,
            )
        )

    def _settle(self, job: Job, at: float, finish: Finish) -> None:
        self.reserved_micro_dollars -= job.reserved_micro_dollars or 0
        spent = finish.spent
        if spent is not None:
            self.spent_micro_dollars += spent.micro_dollars or 0
            self.bill(job, at, finish.counts or Counts(), spent.micro_dollars)

    def _begin(self, job: Job, settled_state: JobState, at: float, following: Round) -> None:
        outcomes = ", ".join(following.selection.outcomes)
        detail = f"Round {job.round + 1}: {following.lines} lines are sent again ({outcomes})."
        self.moves.append((job.id, job.state, JobState.ACCEPTED))
        self._set(
            job,
            **dict.fromkeys(OF_ONE_ROUND),
            state=JobState.ACCEPTED,
            selection=following.selection,
            settled_state=settled_state,
            round=job.round + 1,
            round_began_at=at,
            run=job.run + 1,
            attempt=job.attempt + 1,
            reserved_micro_dollars=following.micro_dollars,
            status_detail=detail,
            updated_at=at,
        )
        self.reserved_micro_dollars += following.micro_dollars or 0
        self._event(job.id, "retrying", detail)

    def _follow(self, parent_id: JobId, at: float) -> None:
        shards = self._shards(parent_id)
        if any(one.state not in TERMINAL for one in shards):
            return
        began = [one.running_since for one in shards if one.running_since is not None]
        detail = "All provider jobs have ended; putting their answers together."
        changes = {
            "running_since": min(began, default=None),
            "status_detail": detail,
            "updated_at": at,
        }
        if self._move(parent_id, JobState.COLLECTING, changes, only_from=JobState.RUNNING):
            self._event(parent_id, JobState.COLLECTING.value, detail)

    def _is_spent(self, job: Job) -> bool:
        parent = self.rows.get(job.parent_id or "")
        return parent is not None and (parent.state in TERMINAL or parent.round > 1)

    def _shards(self, parent_id: str) -> list[Job]:
        return [one for one in self.rows.values() if one.parent_id == parent_id]

    def _move(
        self,
        job_id: str,
        to: JobState,
        changes: dict[str, Any],
        *,
        only_attempt: int | None = None,
        only_input: str | None = None,
        only_from: JobState | None = None,
    ) -> bool:
        job = self.rows.get(job_id)
        if job is None or job.state not in _SOURCES[to]:
            return False
        if only_from is not None and job.state is not only_from:
            return False
        if only_attempt is not None and job.attempt != only_attempt:
            return False
        if only_input is not None and job.provider_input != only_input:
            return False
        self.moves.append((job_id, job.state, to))
        self._set(job, state=to, **changes)
        return True

    def _set(self, job: Job, **changes: Any) -> None:  # noqa: ANN401
        if changes.get("stop_reason") is not None:
            # As the real one reads it back.
            changes["stop_reason"] = StopReason(changes["stop_reason"])
        self.rows[job.id] = _replace(job, **changes)

    def _attempt(self, job_id: str, number: int, **changes: Any) -> None:  # noqa: ANN401
        found = self.tries[job_id].get(number)
        if found is not None:
            self.tries[job_id][number] = _replace(found, **changes)

    def _event(self, job_id: str, kind: str, detail: str) -> None:
        self.history[job_id].append((kind, detail))


class MemoryWorkers:
    """`penstock.store.workers.Workers` without a database."""

    def __init__(self) -> None:
        self.beats: dict[str, float] = {}

    async def join(self, executor_id: str, at: float) -> None:
        self.beats[executor_id] = at

    async def beat(self, executor_id: str, at: float) -> float:
        self.beats[executor_id] = at
        return at

    async def silent_since(self, at: float) -> list[str]:
        return [one for one, beat in self.beats.items() if beat < at]

    async def forget(self, executor_id: str) -> None:
        self.beats.pop(executor_id, None)
