"""Jobs as text for people; scripts take `--json`."""

from collections.abc import Sequence
from datetime import UTC, datetime

from penstock.cli.failure import clean
from penstock.client import Job

HEADINGS = ("ID", "STATUS", "MODEL", "CREATED", "OK", "FAILED", "TOTAL", "COST")


def summary(job: Job) -> str:
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
    return clean("  ".join(parts))


def sheet(job: Job) -> list[str]:
    """Return everything that a person wants to know of one job, a line each."""
    stats = job.stats
    rows = [
        ("id", job.request_id),
        ("status", job.status + (f" ({job.state})" if job.state else "")),
        ("detail", job.status_detail if isinstance(job.status_detail, str) else ""),
        ("model", job.target_model),
        ("created", _moment(job.created_at)),
        ("updated", _moment(job.updated_at)),
    ]
    if stats.total_count:
        rows.append(
            (
                "requests",
                (
                    f"{stats.total_count:,} total, {stats.successful_count:,} ok, "
                    f"{stats.failed_count:,} failed, {stats.incomplete_count:,} open"
                ),
            )
        )
    rows += [("tokens", job.tokens), ("cost", _cost(job)), ("reason", job.reason)]
    return [f"{name:<9} {clean(text)}" for name, text in rows if text]


def table(jobs: Sequence[Job], *, aligned: bool) -> list[str]:
    """Return one line per job: columns for a terminal, tabs and no heading for a pipe."""
    rows = [_row(job) for job in jobs]
    if not aligned:
        return ["\t".join(row) for row in rows]
    rows.insert(0, HEADINGS)
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _row(job: Job) -> tuple[str, ...]:
    stats = job.stats
    cells = (
        job.request_id,
        job.status,
        job.target_model,
        _moment(job.created_at),
        str(stats.successful_count),
        str(stats.failed_count),
        str(stats.total_count),
        _cost(job) or "-",
    )
    return tuple(clean(cell) for cell in cells)


def _cost(job: Job) -> str:
    cost = job.outcome.actual_cost_usd if job.outcome else None
    return f"${cost}" if cost else ""


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if seconds else ""
