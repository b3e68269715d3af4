"""A job and its ids, as the store hands them out and everybody else reads them."""

from enum import StrEnum
from typing import Any, Final, NewType

import msgspec

from penstock.core.bill import Bill
from penstock.core.estimate import Estimate
from penstock.core.ids import id_from, new_id
from penstock.core.options import Options, Selection
from penstock.core.state import JobState

JobId = NewType("JobId", str)
OrgId = NewType("OrgId", str)

PRIORITY: Final = 100
"""Of a job that asks for none."""

PRIORITY_MAX: Final = 1_000
"""The last of all; 1 is the first."""

ID_PREFIX: Final = "req_"
"""Of all jobs' ids."""

SHARDS: Final = "shards/"
"""Before their number, in place of a provider job; no name of the provider's begins like that."""


def new_job_id() -> JobId:
    """Return an unguessable id of 130 random bits.

    Lower case only, because it becomes a Vertex label, and made of characters that survive
    `encodeURIComponent` unchanged.
    """
    return JobId(new_id("req"))


def shard_id(parent_id: JobId, number: int) -> JobId:
    """Return the id of a job's shard, counted from 1; the same whoever makes it."""
    return JobId(id_from("req", f"{parent_id} shard {number}"))


def tag_of(job_id: JobId, round_: int = 1) -> str:
    """Return the eight hex digits that stand for a round of the job inside line keys.

    Each round has its own, so that a row of another one is a stranger.
    """
    number = int.from_bytes(name_of_round(job_id, round_).encode(), "big")
    return f"{number % 0xFFFF_FFFB:08x}"


def name_of_round(job_id: JobId, round_: int) -> str:
    """Return the name of a round, by which the provider's jobs of it are found."""
    return job_id if round_ == 1 else f"{job_id}-r{round_}"


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
    invalid_output: int = 0
    error: int = 0
    missing: int = 0
    expired: int = 0
    cancelled: int = 0
    prompt_tokens: int = 0
    candidates_tokens: int = 0
    thoughts_tokens: int = 0
    cached_tokens: int = 0

    @property
    def successful(self) -> int:
        """Lines that the provider answered, whatever the answer."""
        return self.ok + self.truncated + self.blocked + self.empty + self.invalid_output

    @property
    def failed(self) -> int:
        """Lines that carry an error."""
        return self.error + self.missing

    @property
    def unfinished(self) -> int:
        """Lines that the end of the job came before."""
        return self.expired + self.cancelled


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
    options: Options = Options()
    parent_id: JobId | None = None
    """Of a shard: the job whose lines it answers. No tenant sees shards."""
    first_line: int | None = None
    """Of a shard: the first of them, counted from 1 in the parent's input."""
    last_line: int | None = None
    round: int = 1
    """How often lines were sent, the first time included."""
    round_began_at: float | None = None
    """Of a later round."""
    selection: Selection | None = None
    """Of a later round: the lines that are sent again."""
    settled_state: JobState | None = None
    """Of a later round: where the job goes back to if nothing comes of it."""
    index_name: str | None = None
    """The row index that belongs to the output, a file of the job's."""
    twin_count: int = 0
    """Lines whose request another line has as well: they get its answer and are not paid."""
    problem_count: int = 0
    """Lines that were put aside because they are bad."""
    bill: Bill | None = None
    estimate: Estimate | None = None
    provider_state_since: float | None = None
    slow_at: float | None = None
    """When somebody was told that it takes longer than others do."""
    partial_wanted_at: float | None = None
    """When somebody last asked for what the provider has so far."""
    partial_at: float | None = None
    """When that was looked at."""
    partial_name: str | None = None
    partial_index_name: str | None = None
    partial_lines: int | None = None
    """Lines that had ended by then."""
    name: str | None = None
    """What its owner calls it; others may have the same."""
    labels: dict[str, str] = {}

    @property
    def label(self) -> str:
        """The label of the provider jobs of this round."""
        return name_of_round(self.id, self.round)

    @property
    def line_tag(self) -> str:
        """What stands for this round in its line keys, in those of its shards as well.

        Keys number the lines of the whole input, so shards cannot mix: a row of another one is
        beyond the range.
        """
        return tag_of(self.input_id, self.round)

    @property
    def input_id(self) -> "JobId":
        """The job in whose folder the input lies."""
        return self.parent_id or self.id

    @property
    def line_range(self) -> range:
        """The numbers of its lines in the input that it is answered for, from 1."""
        if self.first_line is None or self.last_line is None:
            return range(1, self.line_count + 1)
        return range(self.first_line, self.last_line + 1)

    @property
    def waits_for_shards(self) -> bool:
        """Whether shards stand in the place of its provider job."""
        return self.provider_job is not None and self.provider_job.startswith(SHARDS)


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One intent to create a provider job; committed before the create is sent."""

    job_id: JobId
    number: int
    intent_at: float
    input_uri: str
    output_prefix: str
    label: str
    provider_job: str | None = None
    round: int = 1
    fenced_at: float | None = None
    """When its input was taken away, so that a late create finds nothing to run."""
