"""What is told to webhooks, and when: the kinds of events, their text, the tries.

The form is that of Standard Webhooks (standardwebhooks.com); so is the schedule of tries.
"""

import random
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import msgspec

from penstock.core.job import Counts
from penstock.core.money import usd_text
from penstock.core.state import STATUS_WORDS, JobState
from penstock.errors import InvalidRequest

ALL_KINDS: Final = "*"
"""As the events of an endpoint: all that there are, now and later."""

BODY_BYTES_MAX: Final = 20_000
"""Standard Webhooks' own limit; ours have about 700, and what the owner calls the job."""

WAITS_SECONDS: Final = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Before each of the ten tries, after the one before it: 75 h 35 min 5 s in all."""

TRIES_MAX: Final = len(WAITS_SECONDS)
JITTER: Final = 0.2
"""Each wait is longer or shorter by up to this share, so that what failed together comes apart."""

WEBHOOK_PREFIX: Final = "whk"
DELIVERY_PREFIX: Final = "msg"
"""Of the ids by which receivers know repetitions."""


class EventKind(StrEnum):
    """What can be told."""

    JOB_SUCCEEDED = "job.succeeded"
    """There is an output, though lines may have failed."""
    JOB_FAILED = "job.failed"
    """Also by its time running out: then `error_code` says so."""
    JOB_CANCELLED = "job.cancelled"
    JOB_SLOW = "job.slow"
    """It goes on, and takes longer than nineteen of twenty others of its model did."""


KIND_OF: Final = MappingProxyType(
    {
        JobState.SUCCEEDED: EventKind.JOB_SUCCEEDED,
        JobState.FAILED: EventKind.JOB_FAILED,
        JobState.CANCELLED: EventKind.JOB_CANCELLED,
    }
)


class EndedJob(msgspec.Struct, frozen=True, kw_only=True):
    """What of a job that has ended is told."""

    id: str
    org_id: str
    state: JobState
    model: str
    line_count: int
    created_at: float
    finished_at: float
    counts: Counts | None
    cost_micro_dollars: int | None
    error_code: str | None
    name: str | None = None
    labels: dict[str, str] = {}


class SlowJob(msgspec.Struct, frozen=True, kw_only=True):
    """What of a job that takes long is told."""

    id: str
    org_id: str
    state: JobState
    model: str
    line_count: int
    created_at: float
    slow_at: float
    reason: str
    name: str | None = None
    labels: dict[str, str] = {}


def slow_body_of(job: SlowJob) -> str:
    """Return what is sent: what it waits for, and how long others did."""
    event = {
        "type": EventKind.JOB_SLOW,
        "timestamp": _moment(job.slow_at),
        "data": {
            "request_id": job.id,
            "org_id": job.org_id,
            "status": STATUS_WORDS[job.state],
            "model": job.model,
            "created_at": _moment(job.created_at),
            "slow_at": _moment(job.slow_at),
            "total_count": job.line_count,
            "reason": job.reason,
            **_naming(job),
        },
    }
    return msgspec.json.encode(event).decode()


def body_of(job: EndedJob) -> str:
    """Return what is sent: ids, names, state, counts and cost; no answer of a model, no link."""
    counts = job.counts or Counts()
    event = {
        "type": KIND_OF[job.state],
        "timestamp": _moment(job.finished_at),
        "data": {
            "request_id": job.id,
            "org_id": job.org_id,
            "status": STATUS_WORDS[job.state],
            "model": job.model,
            "created_at": _moment(job.created_at),
            "finished_at": _moment(job.finished_at),
            "total_count": job.line_count,
            "successful_count": counts.successful,
            "failed_count": counts.failed,
            "actual_cost_usd": _cost(job),
            "error_code": job.error_code,
            **_naming(job),
        },
    }
    return msgspec.json.encode(event).decode()


def _naming(job: EndedJob | SlowJob) -> dict[str, object]:
    """Return what its owner calls the job, by which a receiver may sort it; often nothing."""
    said: dict[str, object] = {"name": job.name, "labels": job.labels}
    return {name: value for name, value in said.items() if value}


def _cost(job: EndedJob) -> str | None:
    """Return dollars as text; None if the model's price is unknown, which is not zero."""
    if job.cost_micro_dollars is not None:
        return usd_text(job.cost_micro_dollars)
    return usd_text(0) if job.counts is None else None


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def wait_seconds(tries: int, dice: random.Random) -> float | None:
    """Return how long to wait after so many tries that failed; None if it was the last one."""
    if tries >= TRIES_MAX:
        return None
    return WAITS_SECONDS[tries] * dice.uniform(1 - JITTER, 1 + JITTER)


def parse_kinds(names: Iterable[str]) -> str:
    """Return the kinds as they are stored; raise `InvalidRequest` naming those that do not exist.

    Nothing is all.
    """
    wanted = set(names)
    unknown = sorted(wanted - set(EventKind) - {ALL_KINDS})
    if unknown:
        raise InvalidRequest(
            f"There is no event {', '.join(name[:40] for name in unknown[:5])}.",
            code="unknown_event",
            hint=f"Use some of: {', '.join(EventKind)}; or {ALL_KINDS} for all.",
        )
    if not wanted or ALL_KINDS in wanted:
        return ALL_KINDS
    return " ".join(sorted(wanted))


def wants(kinds: str, kind: EventKind) -> bool:
    """Return whether an endpoint with these kinds is told of this one."""
    return kinds == ALL_KINDS or kind in kinds.split()
