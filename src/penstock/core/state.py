"""The life of a job, as one table.

    accepted -> prepared -> submitting -> running -> collecting -> succeeded
        |           |           |            |            |------> failed
        `-----------+-----------+------------+------------`------> cancelled

That is one round. Another one begins at `accepted` again: from `collecting` by itself, from the end
when its owner asks for it. One that comes to nothing goes from `SETTLED_FROM` back to where the job
was before it. A job that is cut into shards is `running` as soon as they are prepared.

Each write repeats the guard in SQL (`WHERE state IN ...`), so that a worker that was frozen and
wakes up late changes nothing.
"""

from enum import StrEnum
from types import MappingProxyType
from typing import Final


class JobState(StrEnum):
    """Where a job is; each says who moves it on."""

    ACCEPTED = "accepted"
    """Bytes and row are durable. `lifecycle/prepare` moves it on."""

    PREPARED = "prepared"
    """The provider's input is in the bucket. `lifecycle/submit` moves it on."""

    SUBMITTING = "submitting"
    """An intent is committed, so a provider job may exist. Only `lifecycle/submit` and
    `lifecycle/reconcile` may touch it, and no second create is sent before it is settled."""

    RUNNING = "running"
    """The provider job's name is recorded. `lifecycle/wait` polls until the provider ends it."""

    COLLECTING = "collecting"
    """The provider has ended. `lifecycle/collect` writes the output and the terminal state."""

    SUCCEEDED = "succeeded"
    """The output holds one line per input line, though lines may have failed. Terminal, as are the
    next two: nothing happens any more by itself."""

    FAILED = "failed"
    """No output could be had; the job's error says why. Terminal."""

    CANCELLED = "cancelled"
    """Cancelled by its owner; finished lines, if any, are in the output. Terminal."""


TERMINAL: Final = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})

TRANSITIONS: Final = MappingProxyType(
    {
        JobState.ACCEPTED: frozenset(
            # To RUNNING only as the parent of shards, which are prepared in the same move.
            {JobState.PREPARED, JobState.RUNNING, JobState.FAILED, JobState.CANCELLED}
        ),
        JobState.PREPARED: frozenset({JobState.SUBMITTING, JobState.FAILED, JobState.CANCELLED}),
        JobState.SUBMITTING: frozenset(
            # Back to PREPARED only by reconciliation: the attempt is proven without effect.
            {JobState.RUNNING, JobState.PREPARED, JobState.FAILED, JobState.CANCELLED}
        ),
        JobState.RUNNING: frozenset({JobState.COLLECTING}),
        JobState.COLLECTING: frozenset(
            # To ACCEPTED only with the output of the round that ends, in `store/rounds`.
            {JobState.ACCEPTED, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
        ),
        # Terminal states are left only by the order of the owner, in `store/rounds`.
        JobState.SUCCEEDED: frozenset({JobState.ACCEPTED}),
        JobState.FAILED: frozenset({JobState.ACCEPTED}),
        JobState.CANCELLED: frozenset({JobState.ACCEPTED}),
    }
)

SETTLED_FROM: Final = frozenset(
    {JobState.ACCEPTED, JobState.PREPARED, JobState.SUBMITTING, JobState.COLLECTING}
)
"""Where a later round may end without anything to show for it; the job then is as it was before."""

STATUS_WORDS: Final = MappingProxyType(
    {
        JobState.ACCEPTED: "queued",
        JobState.PREPARED: "queued",
        JobState.SUBMITTING: "queued",
        JobState.RUNNING: "processing",
        JobState.COLLECTING: "processing",
        JobState.SUCCEEDED: "success",
        JobState.FAILED: "failed",
        JobState.CANCELLED: "cancelled",
    }
)
"""The five words of the request-queue API; a client's enum refuses any other."""


def sources_of(target: JobState) -> frozenset[JobState]:
    """Return the states from which a job may move to `target`."""
    return frozenset(state for state, targets in TRANSITIONS.items() if target in targets)


def states_of(status: str) -> frozenset[JobState]:
    """Return the states that the API shows as `status`; empty for an unknown word."""
    return frozenset(state for state, word in STATUS_WORDS.items() if word == status)
