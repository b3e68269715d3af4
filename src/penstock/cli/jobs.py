"""The commands around a job: submit, status, download, ls, cancel, retry.

Standard output has data only (an id, a table, or JSON); everything for eyes goes to standard error.
"""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import click
import msgspec

from penstock.cli import render
from penstock.cli.durations import read_seconds
from penstock.cli.failure import (
    PROBLEMS_SHOWN_MAX,
    ExitCode,
    Failure,
    Place,
    exit_code_for,
    located,
)
from penstock.cli.progress import Progress
from penstock.cli.submit_options import chosen, job_options
from penstock.client import (
    Api,
    APIError,
    ClientError,
    JobPage,
    JobRecord,
    OutputNotReady,
    StillRunning,
)
from penstock.client import Download as Fetched

_DEFAULT_URL: Final = "http://127.0.0.1:8080"
DEFAULT_MODEL: Final = "gemini-3-flash-preview"
_STATUS_WORDS: Final = ("queued", "processing", "success", "failed", "cancelled")

_NOT_ENDED: Final = frozenset({"lines_not_ready", "not_finished", "request_running"})
"""Codes of a job of which there will be more to say."""


class Server:
    """Where the commands go, with which key, and in which form they answer."""

    def __init__(self, url: str, key: str | None, *, as_json: bool) -> None:
        self.as_json = as_json
        self._url = url
        self._key = key

    @contextmanager
    def client(self, file: str = "input") -> Iterator[Api]:
        """Open a client; its errors become failures that name `file` where lines are bad."""
        if not self._key:
            raise Failure(
                "no API key",
                code="unauthenticated",
                exit_code=ExitCode.NOT_ALLOWED,
                fix="set PENSTOCK_API_KEY; penstock dev prints a key, penstock keys makes one",
            )
        try:
            with Api(self._url, self._key) as client:
                yield client
        except ClientError as error:
            raise _failure(error, file) from error

    def show(self, value: object, lines: list[str]) -> None:
        """Write the answer to standard output."""
        if self.as_json:
            click.echo(msgspec.json.encode(value))
            return
        for line in lines:
            click.echo(line)


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command --url, --key and --json, as one `Server`."""

    @functools.wraps(command)
    def with_server(url: str, key: str | None, *, as_json: bool, **options: Any) -> None:  # noqa: ANN401  # the command's own options
        command(Server(url, key, as_json=as_json), **options)

    decorated: Callable[..., None] = with_server
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Answer with JSON."),
        click.option(
            "--key",
            envvar="PENSTOCK_API_KEY",
            show_envvar=True,
            help="API key; better in the environment, where other users do not see it.",
        ),
        click.option(
            "--url",
            envvar="PENSTOCK_URL",
            show_envvar=True,
            default=_DEFAULT_URL,
            show_default=True,
            help="Address of the server.",
        ),
    ):
        decorated = option(decorated)
    return decorated


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="Who answers.")
@click.option(
    "--priority",
    type=click.IntRange(1, 1000),
    help="Among your organisation's own jobs the lowest number goes first.  [default: 100]",
)
@click.option(
    "--idempotency-key",
    metavar="TEXT",
    help="The same key and file give the same job for a week, however often you run this.",
)
@job_options
@click.option("--wait", is_flag=True, help="Stay until the job is over.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --wait: where to put the answers.",
)
@click.option(
    "--timeout",
    metavar="DURATION",
    callback=read_seconds,
    help="With --wait: stop waiting after 90, 15m, 2h.",
)
@connected
def submit(
    server: Server,
    *,
    file: str,
    wait: bool,
    output: Path | None,
    timeout: float | None,
    **terms: Any,  # noqa: ANN401  # options of click that go to the client as they are
) -> None:
    """Send FILE, one JSON request per line ("-" reads standard input), as one job.

    Prints the id of the job as soon as the server has it durably.

    \b
    Examples:
      penstock submit reviews.jsonl
      penstock submit reviews.jsonl --wait -o reviews.out.jsonl
    """  # noqa: D301  # \b is click's mark for lines that are not to be wrapped
    if not wait and (output is not None or timeout is not None):
        raise click.UsageError("-o and --timeout need --wait")
    _check_folder(output)
    progress = Progress()
    with server.client("standard input" if file == "-" else file) as client:
        job = _send(client, file, progress, chosen(terms))
        if not wait:
            server.show(job, [job.request_id])
            _hint(f"next: penstock status {job.request_id}")
            return
        if not server.as_json:
            click.echo(job.request_id)
        job = _watch(client, job, timeout, progress)
        if output is not None and job.outcome is not None and job.outcome.output_url:
            _told(_fetch(client, job.request_id, output, progress))
    if server.as_json:
        server.show(job, [])
    _settle(job)


@click.command()
@click.argument("request_id", metavar="ID")
@connected
def status(server: Server, request_id: str) -> None:
    """Show the job ID."""
    with server.client() as client:
        job = client.get(request_id)
        is_troubled = job.outcome is not None and job.outcome.lines_url and job.stats.not_ok
        groups = client.groups(request_id) if is_troubled and not server.as_json else None
    server.show(job, render.sheet(job) + render.troubles(groups, request_id))
    if job.done and groups is not None and any(group.retryable for group in groups.groups):
        _hint(f"next: penstock retry {job.request_id}")
    if job.outcome is not None and job.outcome.output_url:
        _hint(f"next: penstock download {job.request_id} -o OUT")


@click.command()
@click.argument("request_id", metavar="ID")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Where to put the answers; appears when they are complete and checked.",
)
@click.option("--partial", is_flag=True, help="Of a job that runs, what is finished so far.")
@connected
def download(server: Server, request_id: str, output: Path, *, partial: bool) -> None:
    """Fetch the answers of the job ID; an interrupted download goes on where it stopped."""
    _check_folder(output)
    with server.client() as client:
        fetched = _fetch(client, request_id, output, Progress(), partial=partial)
    _told(fetched)
    if server.as_json:
        value = {
            "path": str(fetched.path),
            "bytes": fetched.bytes_total,
            "sha256": fetched.sha256,
            "verified": fetched.verified,
        }
        if fetched.partial is not None:
            so_far = fetched.partial
            value["partial"] = {"lines": so_far.lines, "total": so_far.total, "at": so_far.at}
        server.show(value, [])


@click.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--status", "word", type=click.Choice(_STATUS_WORDS), help="Only these.")
@connected
def ls(server: Server, limit: int, word: str | None) -> None:
    """List the newest jobs."""
    with server.client() as client:
        page = _newest(client, limit, word)
    server.show(page, render.table(page.requests, aligned=sys.stdout.isatty()))
    if page.total is not None and page.total > len(page.requests):
        _hint(f"{len(page.requests)} of {page.total} jobs; more with --limit")


@click.command()
@click.argument("request_id", metavar="ID")
@connected
def cancel(server: Server, request_id: str) -> None:
    """Stop the job ID; answers that are finished are kept."""
    with server.client() as client:
        job = client.cancel(request_id)
    server.show(job, [f"{job.request_id}\t{render.summary(job)}"])
    if not job.done:
        _hint(f"it stops as soon as the provider lets it: penstock status {job.request_id}")


@click.command()
@click.argument("request_id", metavar="ID")
@click.option(
    "--outcomes",
    metavar="LIST",
    help="Which lines, with commas between them: truncated, blocked, empty, invalid_output, error, "
    "missing, expired, cancelled. Without it those that the job's policy names.",
)
@click.option("--wait", is_flag=True, help="Stay until the job is over.")
@connected
def retry(server: Server, *, request_id: str, outcomes: str | None, wait: bool) -> None:
    """Send lines of the job ID again; their answers go into the same output.

    \b
    Examples:
      penstock retry req_7
      penstock retry req_7 --outcomes error,truncated --wait
    """  # noqa: D301  # \b is click's mark for lines that are not to be wrapped
    with server.client() as client:
        job = client.retry(request_id, None if outcomes is None else outcomes.split(","))
        if wait:
            job = _watch(client, job, None, Progress())
    server.show(job, [f"{job.request_id}\t{render.summary(job)}"])
    if wait:
        _settle(job)
    else:
        _hint(f"next: penstock status {job.request_id}")


def _newest(client: Api, limit: int, word: str | None) -> JobPage:
    """Return up to `limit` jobs; a server gives fewer at once and a cursor to the next ones."""
    page = client.list(limit, status=word)
    jobs, total = page.requests, page.total
    while len(jobs) < limit and page.next_cursor:
        page = client.list(limit - len(jobs), cursor=page.next_cursor, status=word)
        jobs = jobs + page.requests
    return JobPage(requests=jobs, total=total, next_cursor=page.next_cursor)


def _send(client: Api, file: str, progress: Progress, terms: dict[str, Any]) -> JobRecord:
    source = sys.stdin.buffer if file == "-" else file
    try:
        return client.submit(
            source, on_progress=lambda done, total: progress.transfer("sent", done, total), **terms
        )
    except KeyboardInterrupt:
        progress.close()
        _hint("interrupted while sending; penstock ls shows whether the job was accepted")
        _exit(ExitCode.INTERRUPTED)
    finally:
        progress.close()


def _watch(client: Api, job: JobRecord, timeout: float | None, progress: Progress) -> JobRecord:
    try:
        return client.wait(job.request_id, timeout_seconds=timeout, on_change=progress.job)
    except KeyboardInterrupt:
        progress.close()
        _hint(
            f"stopped watching; the job keeps running: penstock status {job.request_id}"
            f"    stop it: penstock cancel {job.request_id}"
        )
        _exit(ExitCode.INTERRUPTED)
    finally:
        progress.close()


def _fetch(
    client: Api, request_id: str, output: Path, progress: Progress, *, partial: bool = False
) -> Fetched:
    try:
        return client.download(
            request_id,
            output,
            on_progress=lambda done, total: progress.transfer("received", done, total),
            partial=partial,
        )
    except KeyboardInterrupt:
        progress.close()
        again = f"penstock download {request_id} -o {output}" + (" --partial" if partial else "")
        _hint(f"stopped; the same command goes on: {again}")
        _exit(ExitCode.INTERRUPTED)
    finally:
        progress.close()


def _told(fetched: Fetched) -> None:
    proof = "SHA-256 verified" if fetched.verified else "the server stated no checksum"
    _hint(f"{fetched.path}: {fetched.bytes_total:,} bytes, {proof}")
    if fetched.partial is not None:
        so_far = fetched.partial
        at = datetime.fromtimestamp(so_far.at, UTC)
        _hint(
            f"{so_far.lines:,} of {so_far.total:,} lines so far, at {at:%Y-%m-%d %H:%M:%S} UTC; "
            "the others say that they are pending, and the same command asks for more"
        )


def _settle(job: JobRecord) -> None:
    """End a finished job's command: quietly, with 9 for failed lines, or with the job's failure."""
    if not job.succeeded:
        error = job.outcome.error if job.outcome else None
        code = error.get("code") if isinstance(error, dict) else None
        raise Failure(
            f"{job.request_id} is {job.status}" + (f": {job.reason}" if job.reason else ""),
            code=str(code or f"job_{job.status}"),
            exit_code=ExitCode.JOB_FAILED,
        )
    if job.stats.failed_count:
        _hint(
            f"{job.stats.failed_count:,} of {job.stats.total_count:,} requests failed; "
            "each says why in the status member of its line"
        )
        _exit(ExitCode.LINES_FAILED)


def _check_folder(output: Path | None) -> None:
    """Refuse at once what would otherwise fail after hours of waiting."""
    if output is not None and not output.parent.is_dir():
        raise click.UsageError(f"there is no directory {str(output.parent)!r} for -o")


def _hint(text: str) -> None:
    click.echo(text, err=True)


def _exit(code: ExitCode) -> NoReturn:
    click.get_current_context().exit(int(code))


def _failure(error: ClientError, file: str) -> Failure:
    places: list[str] = []
    exit_code = ExitCode.UNEXPECTED
    code = error.code
    if isinstance(error, APIError):
        exit_code = exit_code_for(error.status, lines_bad=bool(error.details))
        if error.code in _NOT_ENDED:
            exit_code = ExitCode.STILL_RUNNING
        places = _places(error, file) + _holders(error)
    elif isinstance(error, StillRunning):
        exit_code = ExitCode.STILL_RUNNING
    elif isinstance(error, OutputNotReady):
        exit_code = ExitCode.JOB_FAILED if error.job.done else ExitCode.STILL_RUNNING
    return Failure(error.message, code=code, exit_code=exit_code, fix=error.hint, places=places)


def _holders(error: APIError) -> list[str]:
    """Return the jobs that hold what a quota has no more of, a line each."""
    if error.quota is None:
        return []
    is_money = error.quota.name.startswith("spend")
    lines = []
    for one in error.quota.reserved_by:
        held = f" holds ${one.amount / 1_000_000:.6f}" if is_money else " has not ended"
        lines.append(f"  {one.request_id}{held}")
    if error.quota.resets_at is not None:
        resets_at = datetime.fromtimestamp(error.quota.resets_at, UTC)
        lines.append(f"  counts from zero again at {resets_at:%Y-%m-%d %H:%M:%S} UTC")
    return lines


def _places(error: APIError, file: str) -> list[str]:
    shown = error.details[:PROBLEMS_SHOWN_MAX]
    places = [
        line
        for detail in shown
        for line in Place(file, detail.line, detail.column).lines(
            located(detail.message, detail.path),
            detail.excerpt,
            detail.hint,
        )
    ]
    more = error.details_total - len(shown)
    return [*places, f"… and {more:,} more"] if more > 0 else places
