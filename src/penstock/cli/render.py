"""Jobs as text for people; scripts take `--json`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from penstock.client.screen import clean

if TYPE_CHECKING:
    from penstock.client import JobRecord, LineGroups, Stats

HEADINGS = ("ID", "NAME", "STATUS", "OK", "NOT OK", "TOTAL", "COST", "CREATED", "MODEL")
DROPPED = ("MODEL", "CREATED", "COST", "OK", "TOTAL")
"""What a narrow terminal does without, in this order."""

GROUPS_SHOWN_MAX = 10
"""Below the sheet of a job; `penstock lines ID --groups` has all."""

_MARGIN = " " * 10
_RETRY_CALL = "POST /requests/{id}/retry"


def summary(job: JobRecord) -> str:
    """Return a job's progress in one line."""
    stats = job.stats
    parts = [job.status]
    if stats.total_count:
        finished = stats.successful_count + stats.failed_count
        parts.append(f"{finished:,}/{stats.total_count:,}")
    if stats.failed_count:
        parts.append(f"{stats.failed_count:,} failed")
    if job.state and not job.done:
        parts.append(job.state)
    if job.waiting is not None and job.waiting.eta is not None:
        parts.append(f"expected {_moment(job.waiting.eta.expected_at)}")
    return clean("  ".join(parts))


def sheet(job: JobRecord) -> list[str]:
    """Return everything that a person wants to know of one job, a line each."""
    stats = job.stats
    rows = [
        ("id", job.request_id),
        ("name", job.name or ""),
        ("labels", " ".join(f"{key}={text}" for key, text in (job.labels or {}).items())),
        ("status", job.status + (f" ({job.state})" if job.state else "")),
        ("detail", job.status_detail if isinstance(job.status_detail, str) else ""),
        ("expected", _expected(job)),
        ("model", job.target_model),
        ("created", _moment(job.created_at)),
        ("updated", _moment(job.updated_at)),
    ]
    if stats.total_count:
        rows.append(("requests", f"{stats.total_count:,} total, {_counted(stats)}"))
    rows += [("estimate", _estimate(job)), ("tokens", job.tokens)]
    rows += [("cost", _cost_and_saving(job)), ("reason", job.reason)]
    return [f"{name:<9} {clean(text)}" for name, text in rows if text]


def troubles(groups: LineGroups | None, request_id: str) -> list[str]:
    """Return for the sheet of a job how lines did not go well, and what to do; bounded."""
    bad = [group for group in groups.groups if group.outcome != "ok"] if groups else []
    shown: list[str] = []
    for group in bad[:GROUPS_SHOWN_MAX]:
        name = f"{group.outcome} {group.code}".strip()
        again = "  another try may mend it" if group.retryable else ""
        says = f": {group.message}" if group.message else ""
        example = f"e.g. line {group.example_line:,}{says}"
        shown.append(f"{group.count:>9,} {clean(f'{name}{again}  {example}')}")
        if group.hint:
            # The server speaks of its own calls; here there is a command for it.
            hint = group.hint.replace(_RETRY_CALL, f"penstock retry {request_id}")
            shown.append(f"{_MARGIN}hint: {clean(hint)}")
    more = len(bad) - GROUPS_SHOWN_MAX
    if more > 0:
        shown.append(f"{_MARGIN}… and {more:,} more: penstock lines {clean(request_id)} --groups")
    return shown


def row(job: JobRecord) -> tuple[str, ...]:
    """Return what a list says of a job, under `HEADINGS`."""
    stats = job.stats
    is_known = sum(stats.by_outcome.values()) == stats.total_count
    return (
        job.request_id,
        job.name or "-",
        job.status,
        str(stats.ok if is_known else stats.successful_count),
        str(stats.not_ok),
        str(stats.total_count),
        _cost(job) or "-",
        _moment(job.created_at),
        job.target_model,
    )


def _counted(stats: Stats) -> str:
    """Return how lines ended; "ok" of an older server is every line that was answered."""
    known = stats.by_outcome
    if sum(known.values()) == stats.total_count:
        return ", ".join(f"{count:,} {word}" for word, count in known.items())
    return (
        f"{stats.successful_count:,} ok, {stats.failed_count:,} failed, "
        f"{stats.incomplete_count:,} open"
    )


def _cost(job: JobRecord) -> str:
    cost = job.outcome.actual_cost_usd if job.outcome else None
    return f"${cost}" if cost else ""


def _expected(job: JobRecord) -> str:
    """Return when the job is likely to end; nothing where too few others are known."""
    eta = job.waiting.eta if job.waiting else None
    if eta is None:
        return ""
    text = _moment(eta.expected_at)
    if eta.earliest_at is None or eta.latest_at is None:
        return f"{text}, from a few others only"
    percent = f"{100 * (eta.coverage or 0):.0f} %"
    return f"{text}, {percent} between {_moment(eta.earliest_at)} and {_moment(eta.latest_at)}"


def _cost_and_saving(job: JobRecord) -> str:
    cost = job.outcome.cost if job.outcome else None
    if cost is None or cost.batch_usd is None:
        known = _cost(job)
        return known or ("unknown, the model has no price" if job.succeeded else "")
    parts = [f"${cost.batch_usd}"]
    if cost.online_usd is not None and cost.saved_usd is not None:
        parts.append(f"${cost.saved_usd} less than online")
    if cost.deduplicated_usd is not None and cost.deduplicated_usd.strip("0.") != "":
        parts.append(f"${cost.deduplicated_usd} saved by identical lines")
    return ", ".join(parts)


def _estimate(job: JobRecord) -> str:
    estimate = job.estimate
    if estimate is None:
        return ""
    cost = estimate.cost_usd
    if cost is None:
        return f"unknown, the model has no price; {estimate.output_tokens.expected:,} tokens out"
    return f"${cost.expected}, nine in ten between ${cost.low} and ${cost.high}"


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if seconds else ""
