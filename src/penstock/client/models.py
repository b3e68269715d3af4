"""What the server says about a job, as typed records.

Members that a newer server adds are ignored, and members that an older one leaves out get a
default, so that client and server may be upgraded in any order.
"""

from pathlib import Path
from typing import Any

import msgspec

from penstock.client.money import Cost, Estimate
from penstock.client.waiting import Waiting

_TERMINAL = frozenset({"success", "failed", "cancelled"})


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """How many requests of a job have been answered."""

    successful_count: int = 0
    failed_count: int = 0
    incomplete_count: int = 0
    total_count: int = 0
    ok: int = 0
    truncated: int = 0
    blocked: int = 0
    empty: int = 0
    invalid_output: int = 0
    error: int = 0
    missing: int = 0
    expired: int = 0
    cancelled: int = 0
    deduplicated_count: int = 0
    quarantined_count: int = 0

    @property
    def not_ok(self) -> int:
        """Lines that ended, and not well; an older server counts failed ones only."""
        other = self.truncated + self.blocked + self.empty + self.invalid_output
        return other + self.failed_count + self.expired + self.cancelled

    @property
    def by_outcome(self) -> dict[str, int]:
        """Lines by how they ended, without those that are none; empty from an older server."""
        words = "ok truncated blocked empty invalid_output error missing expired cancelled"
        counts = {word: getattr(self, word) for word in words.split()}
        return {word: count for word, count in counts.items() if count}


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """Of a job of which lines were sent again: how often, since when, and which ones."""

    number: int = 1
    began_at: int | None = None
    outcomes: list[str] = []


class TokenUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens over all lines of a job; thoughts are beside the candidates and cost as much."""

    total_prompt_tokens: int = 0
    total_candidates_tokens: int = 0
    total_thoughts_tokens: int = 0
    total_cached_tokens: int = 0
    successful_requests: int = 0
    failed_requests: int = 0


class Partial(msgspec.Struct, frozen=True, kw_only=True):
    """What a job that runs had finished when it was looked at, `at` that Unix second."""

    lines: int = 0
    total: int = 0
    at: int = 0
    url: str = ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What is known since the provider has the job; `actual_cost_usd` is a decimal string."""

    batch_job_state: str = ""
    batch_job_completion_stats: Stats | None = None
    output_url: str | None = None
    output_download_urls: list[str] | None = None
    token_usage: TokenUsage | None = None
    actual_cost_usd: str | None = None
    cost: Cost | None = None
    message: str | None = None
    error: Any = None
    lines_url: str | None = None
    round: Round | None = None
    partial: Partial | None = None


class JobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One job as the server sees it now; times are Unix seconds."""

    request_id: str
    status: str
    model: str = ""
    org_id: str = ""
    user_id: str = ""
    is_public: bool = False
    payload: dict[str, Any] | None = None
    outcome: Outcome | None = None
    created_at: int = 0
    updated_at: int = 0
    queued_at: int | None = None
    status_detail: Any = None
    name: str | None = None
    labels: dict[str, str] | None = None
    estimate: Estimate | None = None
    waiting: Waiting | None = None
    """Of one that was asked for by its id and has not ended."""

    @property
    def done(self) -> bool:
        """Whether the job has reached a state that it will not leave."""
        return self.status in _TERMINAL

    @property
    def succeeded(self) -> bool:
        """Whether there is an output with an answer for each line; single lines may have failed."""
        return self.status == "success"

    @property
    def stats(self) -> Stats:
        """The counts, all zero while the server does not know any."""
        known = self.outcome.batch_job_completion_stats if self.outcome else None
        return known or Stats()

    @property
    def usage(self) -> TokenUsage:
        """The tokens, all zero while the server does not know any."""
        known = self.outcome.token_usage if self.outcome else None
        return known or TokenUsage()

    @property
    def tokens(self) -> str:
        """The tokens in words, or nothing while there are none."""
        usage = self.usage
        if not usage.total_prompt_tokens and not usage.total_candidates_tokens:
            return ""
        text = f"{usage.total_prompt_tokens:,} in, {usage.total_candidates_tokens:,} out"
        thoughts = usage.total_thoughts_tokens
        return text + (f", {thoughts:,} thinking" if thoughts else "")

    @property
    def state(self) -> str:
        """The provider's own word for the state, or nothing while it does not have the job."""
        return self.outcome.batch_job_state if self.outcome else ""

    @property
    def target_model(self) -> str:
        """The Gemini model that answers; `model` names the kind of job."""
        return str((self.payload or {}).get("model") or self.model)

    @property
    def reason(self) -> str:
        """Why the job failed, in the server's words, or nothing."""
        if self.outcome is None:
            return ""
        error = self.outcome.error
        said = error.get("message") if isinstance(error, dict) else error
        return self.outcome.message or str(said or "")


class JobPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the caller's jobs, newest first, and how many there are in all."""

    requests: list[JobRecord]
    total: int | None = None
    next_cursor: str | None = None


class ModelPage(msgspec.Struct, frozen=True, kw_only=True):
    """What may be named as `model` of a submission, with the server's description of each."""

    model_ids: list[str] = []
    models: list[dict[str, Any]] = []


class Download(msgspec.Struct, frozen=True, kw_only=True):
    """A finished download; `verified` says that the server stated this SHA-256."""

    path: Path
    bytes_total: int
    sha256: str
    verified: bool
    partial: Partial | None = None
    """Of a look at a job that runs: how much of it the file has. None for the whole."""
