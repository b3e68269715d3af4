"""The request record and its outcome, as existing clients read them.

A client lets `batch_job_state` override `status`, so the two must agree at every moment; and it
reads a success without a URL as a failure (reference/request-queue-api.md).
"""

import re
from typing import Any, Final

import msgspec
from starlette.requests import Request

from penstock.api.jobs import JobDoor
from penstock.api.links import PARTIAL, Links
from penstock.api.money_record import cost_record, estimate_record
from penstock.api.naming import shown as naming_shown
from penstock.api.options import shown
from penstock.core.job import PRIORITY, Counts, Job, OrgId
from penstock.core.line_index import OUTCOMES
from penstock.core.look import look_of, with_look
from penstock.core.models import REQUEST_QUEUE_MODEL, Model
from penstock.core.money import usd_text
from penstock.core.options import NO_OPTIONS
from penstock.core.quotas import day_of
from penstock.core.state import STATUS_WORDS, TERMINAL, JobState

DOWNLOAD_PATH: Final = "/api/v1/ie/requestqueue/downloads/{request_id}/output.jsonl"
LINES_PATH: Final = "/api/v1/ie/requestqueue/apikey/requests/{request_id}/lines"
MODEL_SINCE: Final = 1_764_547_200
"""2025-12-01, when the queue's model was first described; clients want an integer."""

_RUNNING_WORDS: Final = frozenset({"JOB_STATE_QUEUED", "JOB_STATE_PENDING", "JOB_STATE_RUNNING"})
_HOST: Final = re.compile(
    r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?\Z|\[[0-9A-Fa-f:]{2,39}\](:[0-9]{1,5})?\Z"
)


class Renderer:
    """Renders records; needs the request only for the address in download links."""

    def __init__(self, links: Links, public_url: str) -> None:
        self._links = links
        self._public_url = public_url.rstrip("/")

    def record(self, job: Job, request: Request) -> dict[str, Any]:
        """Return the request record."""
        record = {
            "request_id": job.id,
            "org_id": job.org_id,
            "user_id": job.user_id,
            "model": REQUEST_QUEUE_MODEL,
            "status": "processing" if _is_again(job) else STATUS_WORDS[job.state],
            "status_detail": job.status_detail,
            "is_public": False,
            "payload": job.payload,
            "outcome": self._outcome(job, request),
            "created_at": int(job.created_at),
            "updated_at": int(job.updated_at),
            "queued_at": int(job.created_at),
        }
        if job.estimate is not None:
            record["estimate"] = estimate_record(job.estimate)
        if job.options != NO_OPTIONS:
            record["options"] = shown(job.options)
        if job.problem_count:
            record["problem_count"] = job.problem_count
        record |= naming_shown(job)
        # Existing clients do not know it, so only who asked for one sees it.
        return record if job.priority == PRIORITY else {**record, "priority": job.priority}

    def _outcome(self, job: Job, request: Request) -> dict[str, Any] | None:
        if job.provider_job is None and job.state not in TERMINAL and not _is_again(job):
            return None
        outcome: dict[str, Any] = {
            "batch_job_state": batch_job_state(job),
            "batch_job_completion_stats": completion_stats(job),
            "token_usage": _usage(job.counts),
            "actual_cost_usd": _cost(job),
            "cost": cost_record(job),
            "message": job.error_message or "",
            "error": None,
        }
        if job.state is JobState.CANCELLED:
            outcome["message"] = job.status_detail
        if job.state is JobState.FAILED:
            outcome["error"] = {
                "code": job.error_code or "provider_error",
                "message": job.error_message or job.status_detail,
            }
        if job.output_sha256 is not None:
            url = self._url(job, request)
            outcome |= {"output_url": url, "output_download_urls": [url]}
        if job.index_name is not None:
            outcome["lines_url"] = self.address(LINES_PATH, job, request)
        if job.round > 1:
            outcome["round"] = _round(job)
        return outcome | self._partial(job, request)

    def _partial(self, job: Job, request: Request) -> dict[str, Any]:
        look = look_of(job)
        if look is None:
            return {}
        query = PARTIAL.decode() + self._links.query(with_look(job, look))
        said = {
            "lines": look.lines,
            "total": job.line_count,
            "at": int(look.at),
            "url": f"{self.address(DOWNLOAD_PATH, job, request)}?{query}",
        }
        return {"partial": said}

    def _url(self, job: Job, request: Request) -> str:
        return f"{self.address(DOWNLOAD_PATH, job, request)}?{self._links.query(job)}"

    def address(self, path: str, job: Job, request: Request) -> str:
        """Return the address of something of a job, as this client reaches it."""
        return f"{self._public_url or _own_url(request)}{path.format(request_id=job.id)}"


def _own_url(request: Request) -> str:
    """Return how this client reached us; a Host that is no host name is not repeated."""
    host = request.headers.get("host", "")
    if not _HOST.match(host):
        server = request.scope.get("server") or ("127.0.0.1", 80)
        host = f"{server[0]}:{server[1]}"
    return f"{request.scope.get('scheme', 'http')}://{host}"


def _is_again(job: Job) -> bool:
    """Return whether lines are being sent again; what came of the rounds before is there."""
    return job.round > 1 and job.state not in TERMINAL


def _round(job: Job) -> dict[str, Any]:
    return {
        "number": job.round,
        "began_at": None if job.round_began_at is None else int(job.round_began_at),
        "outcomes": [] if job.selection is None else list(job.selection.outcomes),
    }


def batch_job_state(job: Job) -> str:
    """Return the guide's word for the provider job, never one that contradicts `status`."""
    if _is_again(job):
        # A client would take QUEUED and PENDING for a job that was never sent.
        return "JOB_STATE_RUNNING"
    if job.state is JobState.SUCCEEDED:
        failed = job.counts is not None and job.counts.failed + job.counts.unfinished > 0
        return "JOB_STATE_PARTIALLY_SUCCEEDED" if failed else "JOB_STATE_SUCCEEDED"
    if job.state is JobState.CANCELLED:
        return "JOB_STATE_CANCELLED"
    if job.state is JobState.FAILED:
        return _failed_word(job)
    # Collecting shows as running: the provider may say SUCCEEDED while there is no URL yet.
    if job.state is JobState.RUNNING and job.provider_state in _RUNNING_WORDS:
        return job.provider_state or "JOB_STATE_RUNNING"
    return "JOB_STATE_RUNNING"


def _failed_word(job: Job) -> str:
    if job.error_code == "queue_expired":
        return "JOB_STATE_EXPIRED"
    if job.error_code == "run_expired":
        # The guide's own example for CANCELLED is the 24 h timeout.
        return "JOB_STATE_CANCELLED"
    if job.provider_state in {"JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED"}:
        return str(job.provider_state)
    return "JOB_STATE_FAILED"


def completion_stats(job: Job) -> dict[str, int]:
    """Return how many lines ended how; the first three are the total."""
    counts = job.counts
    if counts is None:
        # Where the time was over before any line was done, none of them failed.
        has_failed = job.state is JobState.FAILED and _failed_word(job) == "JOB_STATE_FAILED"
        failed = job.line_count if has_failed else 0
        return {
            "successful_count": 0,
            "failed_count": failed,
            "incomplete_count": job.line_count - failed,
            "total_count": job.line_count,
        }
    # Jobs from before lines could be `cancelled` or `expired` call these `missing`.
    cut_off = counts.missing if job.stop_reason is not None else 0
    return {
        "successful_count": counts.successful,
        "failed_count": counts.failed - cut_off,
        "incomplete_count": counts.unfinished + cut_off,
        "total_count": job.line_count,
        **{outcome: getattr(counts, outcome) for outcome in OUTCOMES},
        "deduplicated_count": job.twin_count,
        "quarantined_count": job.problem_count,
    }


def _usage(counts: Counts | None) -> dict[str, int]:
    counts = counts or Counts()
    return {
        "total_prompt_tokens": counts.prompt_tokens,
        "total_candidates_tokens": counts.candidates_tokens,
        "total_thoughts_tokens": counts.thoughts_tokens,
        "total_cached_tokens": counts.cached_tokens,
        "successful_requests": counts.successful,
        "failed_requests": counts.failed,
    }


def _cost(job: Job) -> str | None:
    """Return dollars as text; None if the model's price is unknown, which is not zero."""
    if job.cost_micro_dollars is not None:
        return usd_text(job.cost_micro_dollars)
    return usd_text(0) if job.counts is None else None


def model_detail(org_id: OrgId, door: JobDoor) -> dict[str, Any]:
    """Return the queue's model as `GET /models/{id}` describes it."""
    limits, today = door.limits, day_of(door.clock.now())
    return {
        "model": REQUEST_QUEUE_MODEL,
        "org_id": org_id,
        "brief_description": "Gemini batch inference at half the online price",
        "detailed_description": (
            "Send a JSONL file of Gemini requests; each line is checked before anything is spent "
            "and gets exactly one answer, in order."
        ),
        "parameters": [
            {
                "name": "model",
                "type": "enum",
                "required": True,
                "description": "Target Gemini model for batch prediction.",
                "default": door.default_model,
                "constraints": {"allowed": list(door.models)},
            },
            {
                "name": "input_data",
                "type": "string",
                "required": True,
                "description": "JSONL, raw or base64; one object with `request.contents` a line.",
                "default": None,
                "constraints": {
                    "max_bytes": limits.job_bytes_max,
                    "max_requests": limits.job_lines_max,
                    "max_line_bytes": limits.line_bytes_max,
                },
            },
        ],
        "price_info": {
            "currency": "USD",
            "unit": "micro-dollars per million tokens",
            "models": {name: _price(model, today) for name, model in door.models.items()},
        },
        "created_at": MODEL_SINCE,
        "updated_at": MODEL_SINCE,
    }


def _price(model: Model, today: int) -> dict[str, Any]:
    price = model.price_on(today)
    later = [each for each in model.prices if each.price != price]
    return {
        "description": model.description,
        "best_for": model.best_for,
        "price": None if price is None else msgspec.to_builtins(price),
        # Those of days to come, and of days gone by.
        "prices": [msgspec.to_builtins(each) for each in later],
    }
