"""What is asked of jobs that are there: ls, show, cancel, open.

Standard output has data only (an id, a table, or JSON); everything for eyes goes to standard error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import click

from penstock.cli import render
from penstock.cli.command import command
from penstock.cli.connection import Server, connected, connected_with_ids
from penstock.cli.failure import ExitCode, Failure
from penstock.cli.ids import job_argument, job_id, remember

if TYPE_CHECKING:
    from penstock.client import Api, JobPage, JobRecord

_STATUS_WORDS: Final = ("queued", "processing", "success", "failed", "cancelled")
_LIST_DEFAULT: Final = 20

__all__ = ["Server", "cancel", "connected", "ls", "open_", "show"]


def read_labels(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """Read labels as people write them: team=search."""
    labels = {}
    for text in values:
        name, mark, value = text.partition("=")
        if not mark or not name:
            raise click.BadParameter(
                f"{text!r} is no label such as team=search", ctx=ctx, param=param
            )
        labels[name] = value
    return labels


@command()
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=_LIST_DEFAULT,
    show_default=True,
    help="How many.",
)
@click.option(
    "--status", "word", type=click.Choice(_STATUS_WORDS), help="Only jobs of this status."
)
@click.option("--name", metavar="TEXT", help="Only jobs of exactly this name.")
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="KEY=VALUE",
    callback=read_labels,
    help="Only jobs with this label; may be given several times.",
)
@connected_with_ids
def ls(
    server: Server, *, limit: int, word: str | None, name: str | None, labels: dict[str, str]
) -> None:
    """List the newest jobs of your organisation.

    \b
    Examples:
      penstock ls
      penstock ls --status processing --label team=search
      penstock ls -q | head -1
    """  # noqa: D301  # \b is click's mark for lines that are not to be wrapped
    filters: dict[str, Any] = {} if name is None else {"name": name}
    if labels:
        filters["labels"] = labels
    with server.client() as client:
        page = _newest(client, limit, word, filters)
    remember(server, page.requests)
    jobs = page.requests
    rows = [render.row(job) for job in jobs]
    lines = server.table(render.HEADINGS, rows, drop=render.DROPPED)
    server.show(page, lines, ids=[job.request_id for job in jobs])
    if page.total is not None and page.total > len(jobs):
        server.hint(f"{len(jobs)} of {page.total} jobs; more with --limit")
    elif not jobs and not server.as_json:
        server.hint("no jobs; submit one: penstock submit FILE")


@command()
@job_argument
@connected_with_ids
def show(server: Server, job: str) -> None:
    """Show the job ID: how far it is, what it costs, what went wrong, and what to do next.

    \b
    Examples:
      penstock show @last
      penstock show nightly-eval --json
    """  # noqa: D301  # \b is click's mark for lines that are not to be wrapped
    with server.client() as client:
        record = client.get(job_id(server, client, job))
        show_job(server, client, record)


@command()
@job_argument
@connected_with_ids
def cancel(server: Server, job: str) -> None:
    """Stop the job ID; answers that are finished are kept.

    \b
    Examples:
      penstock cancel @last
      penstock cancel job_01jd8q5t
    """  # noqa: D301  # \b is click's mark for lines that are not to be wrapped
    with server.client() as client:
        record = client.cancel(job_id(server, client, job))
    show_briefly(server, record)
    if not record.done:
        server.hint(f"it stops as soon as the provider lets it: penstock watch {record.request_id}")


@command("open")
@job_argument
@connected
def open_(server: Server, job: str) -> None:
    """Print the address of the job ID on the server, for other programs and for colleagues.

    The address asks for a key: `penstock api GET` sends yours.

    \b
    Examples:
      penstock open @last
      penstock api GET "$(penstock open @last)"
    """  # noqa: D301  # \b is click's mark for lines that are not to be wrapped
    with server.client() as client:
        found = job_id(server, client, job)
    path = f"/api/v1/ie/requestqueue/apikey/requests/{quote(found, safe='')}"
    url = server.caller.url.rstrip("/") + path
    server.show({"request_id": found, "url": url}, [url])


def show_briefly(server: Server, job: JobRecord) -> None:
    """Write a job in one line."""
    gap = "  " if server.width else "\t"
    server.show(job, [f"{job.request_id}{gap}{render.summary(job)}"], [job.request_id])


def show_job(server: Server, client: Api, job: JobRecord, *, has_answers: bool = False) -> None:
    """Write everything that is known of a job, and on standard error what to do next.

    `has_answers` says that the user has fetched them already.
    """
    remember(server, [job])
    is_troubled = job.outcome is not None and job.outcome.lines_url and job.stats.not_ok
    needs_groups = is_troubled and not server.as_json and not server.quiet
    groups = client.groups(job.request_id) if needs_groups else None
    lines = server.sheet(render.sheet(job) + render.troubles(groups, job.request_id))
    server.show(job, lines, ids=[job.request_id])
    if job.done and groups is not None and any(group.retryable for group in groups.groups):
        server.next(f"penstock retry {job.request_id}")
    if job.outcome is not None and job.outcome.output_url and not has_answers:
        server.next(f"penstock download {job.request_id} -o OUT")
    if not job.done:
        server.next(f"penstock watch {job.request_id}")


def failed(job: JobRecord) -> Failure:
    """Return what a job that has ended without an output is told as."""
    error = job.outcome.error if job.outcome else None
    code = error.get("code") if isinstance(error, dict) else None
    return Failure(
        f"{job.request_id} is {job.status}" + (f": {job.reason}" if job.reason else ""),
        code=str(code or f"job_{job.status}"),
        exit_code=ExitCode.JOB_FAILED,
        fix=f"see all that is known: penstock show {job.request_id}",
    )


def _newest(client: Api, limit: int, word: str | None, filters: dict[str, Any]) -> JobPage:
    """Return up to `limit` jobs; a server gives fewer at once and a cursor to the next ones."""
    import msgspec  # noqa: PLC0415  # lazy: completion and help need no JSON

    page = client.list(limit, status=word, **filters)
    jobs, total = page.requests, page.total
    while len(jobs) < limit and page.next_cursor:
        page = client.list(limit - len(jobs), cursor=page.next_cursor, status=word, **filters)
        jobs = jobs + page.requests
    return msgspec.structs.replace(page, requests=jobs, total=total)
