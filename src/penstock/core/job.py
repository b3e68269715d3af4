"""A job and its ids, as the store hands them out and everybody else reads them."""

from enum import StrEnum
from typing import Any, Final, NewType

import msgspec

from penstock.core.ids import new_id
from penstock.core.state import JobState

JobId = NewType("JobId", str)
OrgId = NewType("OrgId", str)

PRIORITY: Final = 100
"""Of a job that asks for none."""

PRIORITY_MAX: Final = 1_000
"""The last of all; 1 is the first."""


def new_job_id() -> JobId:
    """Return an unguessable id of 130 random bits.

    Lower case only, because it becomes a Vertex label, and made of characters that survive
    `encodeURIComponent` unchanged.
    """
    return JobId(new_id("req"))


def tag_of(job_id: JobId) -> str:
    """Return the eight hex digits that stand for the job inside line keys."""
    number = int.from_bytes(job_id.encode(), "big")
    return f"{number % 0xFFFF_FFFB:08x}"


class StopReason(StrEnum):
    """Why we ended a provider job early."""

    CANCELLED = "cancelled"
    """Its owner asked for it."""
    QUEUE_EXPIRED = "queue_expired"
    """It waited longer than `limits.queue_seconds_max`."""
    RUN_EXPIRED = "run_expired"
    """It ran longer than `limits.run_seconds_max`."""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Lines by what became of them, and their tokens; all sums over lines."""

    ok: int = 0
    truncated: int = 0
    blocked: int = 0
    empty: int = 0
    error: int = 0
    missing: int = 0
    prompt_tokens: int = 0
    candidates_tokens: int = 0
    thoughts_tokens: int = 0
    cached_tokens: int = 0

    @property
    def successful(self) -> int:
        """Lines that the provider answered, whatever the answer."""
        return self.ok + self.truncated + self.blocked + self.empty

    @property
    def failed(self) -> int:
        """Lines that carry an error."""
        return self.error + self.missing


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `jobs`. Times are seconds since the epoch."""

    id: JobId
    org_id: OrgId
    user_id: str
    key_id: str
    state: JobState
    model: str
    """The Gemini model."""
    payload: dict[str, Any]
    """The caller's payload without `input_data`."""
    line_count: int
    input_bytes: int
    input_sha256: str
    created_at: float
    updated_at: float
    attempt: int = 0
    """The newest submission attempt; 0 before the first intent."""
    run: int = 0
    """How often the engine had to start the current phase anew."""
    status_detail: str = ""
    """One sentence: why the job is where it is."""
    cancel_requested_at: float | None = None
    running_since: float | None = None
    finished_at: float | None = None
    stop_reason: StopReason | None = None
    """Why we asked the provider to stop; None if it ends by itself."""
    provider_input: str | None = None
    """The object in the bucket that the next create will name."""
    provider_job: str | None = None
    provider_state: str | None = None
    provider_output: str | None = None
    """The bucket folder that the provider wrote to."""
    counts: Counts | None = None
    cost_micro_dollars: int | None = None
    output_bytes: int | None = None
    output_sha256: str | None = None
    output_name: str | None = None
    """The file of the output among the job's; None for one from before they had names."""
    error_code: str | None = None
    error_message: str | None = None
    priority: int = PRIORITY
    """Within its organisation the lowest number goes first."""
    reserved_micro_dollars: int | None = None
    """What was set aside of the organisation's budget; None where the price is not known."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One intent to create a provider job; committed before the create is sent."""

    job_id: JobId
    number: int
    intent_at: float
    input_uri: str
    output_prefix: str
    label: str
    provider_job: str | None = None
    fenced_at: float | None = None
    """When its input was taken away, so that a late create finds nothing to run."""
