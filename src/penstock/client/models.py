"""What the server says about a job, as typed records.

Members that a newer server adds are ignored, and members that an older one leaves out get a
default, so that client and server may be upgraded in any order.
"""

from pathlib import Path
from typing import Any

import msgspec

_TERMINAL = frozenset({"success", "failed", "cancelled"})


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """How many requests of a job have been answered."""

    successful_count: int = 0
    failed_count: int = 0
    incomplete_count: int = 0
    total_count: int = 0


class TokenUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens over all lines of a job; thoughts are beside the candidates and cost as much."""

    total_prompt_tokens: int = 0
    total_candidates_tokens: int = 0
    total_thoughts_tokens: int = 0
    total_cached_tokens: int = 0
    successful_requests: int = 0
    failed_requests: int = 0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What is known since the provider has the job; `actual_cost_usd` is a decimal string."""

    batch_job_state: str = ""
    batch_job_completion_stats: Stats | None = None
    output_url: str | None = None
    output_download_urls: list[str] | None = None
    token_usage: TokenUsage | None = None
    actual_cost_usd: str | None = None
    message: str | None = None
    error: Any = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
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

    requests: list[Job]
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
