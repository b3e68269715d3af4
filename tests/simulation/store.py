"""The store in memory, with the guards of `penstock.store`; a test holds the two to be equal.

Each method is one transaction: it happens as a whole or not at all. The ledger and the moves are
kept, because the checker reads them.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.core.job import Attempt, Counts, Job, JobId, StopReason
from penstock.core.state import TERMINAL, JobState, sources_of
from penstock.errors import InternalError
from penstock.store.admission import Admission
from penstock.store.jobs import Finish, Kept, OpenJob

_SOURCES = {state: sources_of(state) for state in JobState}
_replace = msgspec.structs.replace


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the ledger."""

    job_id: str
    attempt: int
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
        ]
        return sorted(found, key=lambda job: job.updated_at)

    async def request_cancel(self, org_id: str, job_id: str, at: float) -> bool:
        job = self.rows.get(job_id)
        if job is None or job.org_id != org_id or job.state in TERMINAL:
            return False
        if job.cancel_requested_at is None:
            self._set(job, cancel_requested_at=at, updated_at=at, status_detail="Cancel requested.")
            self._event(job_id, "cancel_requested", "")
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
            job.id: Kept(id=job.id, state=job.state, output_name=job.output_name) for job in found
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
        **fields: Any,  # noqa: ANN401
    ) -> bool:
        job = self.rows.get(job_id)
        if job is None or job.state in TERMINAL or only_from not in {None, job.state}:
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
        if attempt.number in self.tries[job.id]:
            # The primary key; the whole transaction is undone.
            raise InternalError(f"The attempt {attempt.number} of {job.id} exists already.")
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
            "status_detail": "The provider has the job.",
            "updated_at": at,
        }
        newest = number if adopted_in is None else adopted_in
        moved = self._move(
            job_id, JobState.RUNNING, changes, only_attempt=newest, only_input=only_input
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
        values = msgspec.structs.asdict(finish)
        values["status_detail"] = values.pop("detail")
        changes = {**values, "updated_at": at, "finished_at": at}
        changes.pop("state")
        moved = self._move(job_id, finish.state, changes, only_attempt=only_attempt)
        if moved:
            job = self.rows[job_id]
            self.reserved_micro_dollars -= job.reserved_micro_dollars or 0
            self.spent_micro_dollars += finish.cost_micro_dollars or 0
            self._event(job_id, finish.state.value, finish.detail)
            if finish.counts is not None:
                self.bill(job_id, at, finish.counts, finish.cost_micro_dollars)
        return moved

    async def event(self, job_id: JobId, at: float, kind: str, detail: str) -> None:
        del at  # the real one keeps it for people
        self._event(job_id, kind, detail)

    async def events(self, job_id: JobId) -> list[tuple[str, str]]:
        return self.history.get(job_id, [])

    def bill(self, job_id: str, at: float, counts: Counts, cost: int | None) -> None:
        """Append to the ledger, once a job and attempt."""
        attempt = self.rows[job_id].attempt
        if any((one.job_id, one.attempt) == (job_id, attempt) for one in self.ledger):
            raise InternalError(f"The attempt {attempt} of {job_id} is billed already.")
        self.ledger.append(
            Entry(job_id=job_id, attempt=attempt, at=at, counts=counts, micro_dollars=cost)
        )

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
