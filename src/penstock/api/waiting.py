"""Why a job waits, for how long, and when it is likely to end: for the record of one open job.

Lists say what stands in the row; a record of its own may ask the database once or twice more.
"""

from enum import StrEnum
from typing import Any

import msgspec

from penstock.core.job import Job
from penstock.core.limits import Limits
from penstock.core.state import TERMINAL, JobState
from penstock.core.waiting import (
    Eta,
    Known,
    Past,
    Percentiles,
    Samples,
    duration_text,
    percentiles,
)
from penstock.store.history import History, Pasts, Place, ShardsNow


class Reason(StrEnum):
    """What an open job waits for."""

    OUR_QUEUE = "our_queue"
    """It is stored with us and not sent yet."""
    SENDING = "sending"
    """The provider was asked to take it, or is about to be."""
    PROVIDER_QUEUE = "provider_queue"
    """The provider has it and does not run it."""
    PROVIDER_RUN = "provider_run"
    SHARDS = "shards"
    """The provider jobs that it was cut into."""
    COLLECTING = "collecting"
    """The provider is done; the output is put together."""
    CANCELLING = "cancelling"
    """It was asked to end, and has not yet."""


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """The place in a line, from 1."""

    number: int
    of: int


class ShardCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The provider jobs of one that was cut."""

    of: int
    ended: int
    pending: int
    """Those that the provider does not run yet."""


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """How often lines were sent, and how often they may be without anybody asking."""

    number: int
    of: int


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """The member `waiting` of a record; times are Unix seconds."""

    reason: Reason
    since: int
    position: Position | None = None
    """In the organisation's own line; organisations take turns."""
    round: Round
    shards: ShardCounts | None = None
    provider_state: str | None = None
    provider_state_since: int | None = None
    slow_since: int | None = None
    """Since when it has been taking longer than 95 of 100 others."""
    wait_percentiles: Percentiles | None = None
    """Seconds from the beginning of a job to its run, over the last jobs of the model."""
    run_percentiles: Percentiles | None = None
    """From there to its end; of jobs of like size, if `samples` says so."""
    eta: Eta | None = None
    samples: Samples


class _Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a job beside its row."""

    now: float
    reason: Reason
    past: Past
    place: Place | None = None
    shards: ShardsNow | None = None


class Explainer:
    """Explains; what it needs of other jobs is kept for some seconds."""

    def __init__(self, history: History, pasts: Pasts, limits: Limits) -> None:
        self._history = history
        self._pasts = pasts
        self._clock = pasts.clock
        self._limits = limits

    async def explain(self, job: Job) -> dict[str, Any] | None:
        """Return `status_detail` and `waiting` of the record; None of a job that has ended."""
        if job.state in TERMINAL:
            return None
        reason = _reason(job)
        facts = _Facts(
            now=self._clock.now(),
            reason=reason,
            past=await self._pasts.of(job.model),
            place=await self._history.place(job) if reason is Reason.OUR_QUEUE else None,
            shards=await self._history.shards(job) if reason is Reason.SHARDS else None,
        )
        waiting = self._waiting(job, facts)
        return {
            "status_detail": _sentence(job, waiting, facts),
            "waiting": msgspec.to_builtins(waiting),
        }

    def _waiting(self, job: Job, facts: _Facts) -> Waiting:
        past, lines = facts.past, _lines(job, facts.shards)
        rounds = max(job.round, 1 + job.options.retry.attempts)
        place, shards = facts.place, facts.shards
        return Waiting(
            reason=facts.reason,
            since=int(_since(job, facts.reason)),
            position=None if place is None else _position(place),
            round=Round(number=job.round, of=rounds),
            shards=None if shards is None else _counts(shards),
            provider_state=None if shards else job.provider_state,
            provider_state_since=_whole(None if shards else job.provider_state_since),
            slow_since=_whole(_slow_at(job)),
            wait_percentiles=percentiles(past.waits),
            run_percentiles=percentiles(past.runs(lines)),
            eta=self._eta(job, facts),
            samples=past.samples(lines),
        )

    def _eta(self, job: Job, facts: _Facts) -> Eta | None:
        # A job that is asked to end does not go the way of the others, and what is left of one that
        # is collected is not the provider's.
        if facts.reason in {Reason.CANCELLING, Reason.COLLECTING}:
            return None
        running_since, shards = job.running_since, facts.shards
        if shards is not None:
            # The last one decides, and it is one like any job.
            running_since = None if shards.pending else shards.running_since
        known = Known(
            began_at=began_at(job),
            running_since=running_since,
            lines=_lines(job, shards),
            wait_seconds_max=self._limits.queue_seconds_max,
            run_seconds_max=self._limits.run_seconds_max,
        )
        return facts.past.eta(known, facts.now)


def began_at(job: Job) -> float:
    """Return when the job's round began."""
    return job.created_at if job.round_began_at is None else job.round_began_at


def _reason(job: Job) -> Reason:
    if job.cancel_requested_at is not None:
        return Reason.CANCELLING
    if job.state is JobState.COLLECTING:
        return Reason.COLLECTING
    if job.state is JobState.SUBMITTING:
        return Reason.SENDING
    if job.state is not JobState.RUNNING:
        return Reason.OUR_QUEUE
    if job.waits_for_shards:
        return Reason.SHARDS
    return Reason.PROVIDER_QUEUE if job.running_since is None else Reason.PROVIDER_RUN


def _since(job: Job, reason: Reason) -> float:
    """Return since when the job has been waiting for that."""
    known = {
        Reason.CANCELLING: job.cancel_requested_at,
        Reason.PROVIDER_QUEUE: job.provider_state_since,
        Reason.PROVIDER_RUN: job.running_since,
        Reason.COLLECTING: job.updated_at,
        Reason.SENDING: job.updated_at,
    }.get(reason)
    return began_at(job) if known is None else known


def _slow_at(job: Job) -> float | None:
    """Return since when the job has been slow in this round."""
    return None if job.slow_at is None or job.slow_at < began_at(job) else job.slow_at


def _position(place: Place) -> Position:
    return Position(number=place.before + 1, of=place.waiting)


def _counts(shards: ShardsNow) -> ShardCounts:
    return ShardCounts(of=shards.total, ended=shards.ended, pending=shards.pending)


def _lines(job: Job, shards: ShardsNow | None) -> int:
    return job.line_count // max(1, shards.total) if shards else job.line_count


def _whole(at: float | None) -> int | None:
    return None if at is None else int(at)


def _sentence(job: Job, waiting: Waiting, facts: _Facts) -> str:
    """Return what the row says, and why that is so."""
    parts = [job.status_detail.rstrip(". ")]
    if job.round > 1:
        parts.append(f"round {waiting.round.number} of {waiting.round.of}")
    parts += _explained(waiting, facts)
    if waiting.slow_since is not None:
        parts.append("it takes longer than 95 of 100 others did")
    return "; ".join(part for part in parts if part) + "."


def _explained(waiting: Waiting, facts: _Facts) -> list[str]:
    so_far = duration_text(facts.now - waiting.since)
    if facts.place is not None:
        return _in_line(facts.place)
    if facts.shards is not None:
        shards = facts.shards
        return [
            f"{shards.ended} of {shards.total} provider jobs have ended",
            f"{shards.pending} do not run yet" if shards.pending else "",
        ]
    if waiting.reason is Reason.PROVIDER_QUEUE:
        state = (waiting.provider_state or "").removeprefix("JOB_STATE_")[:60]
        others = _others("jobs of this model waited", waiting.wait_percentiles)
        return [f"there it has been {state} for {so_far}", others]
    if waiting.reason is Reason.PROVIDER_RUN:
        whose = "jobs of like size" if waiting.samples.by_size else "jobs of this model"
        return [
            f"it has been running for {so_far}",
            _others(f"{whose} ran", waiting.run_percentiles),
        ]
    return []


def _in_line(place: Place) -> list[str]:
    here = f"position {place.before + 1} of {place.waiting} in your organisation's line"
    turns = "organisations take turns"
    if not place.at_provider:
        return [here, turns]
    are = "job of it is" if place.at_provider == 1 else "jobs of it are"
    return [here, f"{place.at_provider} {are} at the provider", turns]


def _others(what: str, known: Percentiles | None) -> str:
    """Return how long it took others here; nothing while too few are known."""
    if known is None or known.p50 is None:
        return ""
    text = f"{what} {duration_text(known.p50)} here (median)"
    return text if known.p90 is None else f"{text}, nine of ten up to {duration_text(known.p90)}"
