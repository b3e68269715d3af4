"""The commands that stay until a job has ended: watch, wait, retry --wait."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

import click

from penstock.cli.command import command
from penstock.cli.connection import Server, connected_with_ids
from penstock.cli.durations import read_seconds
from penstock.cli.failure import ExitCode
from penstock.cli.ids import job_argument, job_id
from penstock.cli.jobs import failed, show_briefly, show_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock.client import Api, JobRecord
    from penstock.client.progress import Progress

PULSE_SECONDS: Final = 1.0

ALLOW_PARTIAL = click.option(
    "--allow-partial",
    is_flag=True,
    help="End with 0 instead of 9 where single lines failed.",
)


@command()
@job_argument
@click.option(
    "--timeout",
    metavar="DURATION",
    callback=read_seconds,
    help="Stop watching after 90, 15m, 2h; the exit code is 8 then.",
)
@ALLOW_PARTIAL
@connected_with_ids
def watch(server: Server, *, job: str, timeout: float | None, allow_partial: bool) -> None:
    """Follow the job ID until it ends, then show it; the exit code says how it ended.

    A terminal gets one line that is drawn again, a log one line every half a minute. Ctrl-C stops
    the watching, never the job.

    \b
    Examples:
      penstock watch @last
      penstock watch nightly-eval --timeout 2h
    """  # noqa: D301  # \b is click's mark for lines that are not to be wrapped
    with server.client() as client:
        record = followed(server, client, job_id(server, client, job), timeout)
        show_job(server, client, record)
    settle(server, record, allow_partial=allow_partial)


@command()
@job_argument
@click.option(
    "--timeout",
    metavar="DURATION",
    callback=read_seconds,
    help="Stop waiting after 90, 15m, 2h; the exit code is 8 then.",
)
@ALLOW_PARTIAL
@connected_with_ids
def wait(server: Server, *, job: str, timeout: float | None, allow_partial: bool) -> None:
    """Wait for the end of the job ID; the exit code says how it ended.

    It is 0 if every line has its answer, 9 if some have not, 3 if there is no output, and 8 if the
    time is over first.

    \b
    Examples:
      penstock wait @last --timeout 2h && python train.py
      penstock wait @last --allow-partial --json
    """  # noqa: D301  # \b is click's mark for lines that are not to be wrapped
    with server.client() as client:
        record = followed(server, client, job_id(server, client, job), timeout)
    show_briefly(server, record)
    settle(server, record, allow_partial=allow_partial)


@command()
@job_argument
@click.option(
    "--outcomes",
    metavar="LIST",
    help="Which lines, with commas between them: truncated, blocked, empty, invalid_output, error, "
    "missing, expired, cancelled. Without it those that the job's policy names.",
)
@click.option("--wait", is_flag=True, help="Stay until the job is over.")
@click.option(
    "--timeout",
    metavar="DURATION",
    callback=read_seconds,
    help="With --wait: stop waiting after 90, 15m, 2h.",
)
@ALLOW_PARTIAL
@connected_with_ids
def retry(server: Server, *, job: str, outcomes: str | None, wait: bool, **until: Any) -> None:  # noqa: ANN401  # options that are passed on
    """Send lines of the job ID again; their answers go into the same output.

    \b
    Examples:
      penstock retry @last
      penstock retry @last --outcomes error,truncated --wait
    """  # noqa: D301  # \b is click's mark for lines that are not to be wrapped
    timeout, allow_partial = until["timeout"], until["allow_partial"]
    if not wait and (timeout is not None or allow_partial):
        raise click.UsageError("--timeout and --allow-partial need --wait")
    with server.client() as client:
        found = job_id(server, client, job)
        record = client.retry(found, None if outcomes is None else outcomes.split(","))
        if wait:
            record = followed(server, client, record.request_id, timeout)
    show_briefly(server, record)
    if wait:
        settle(server, record, allow_partial=bool(allow_partial))
    else:
        server.next(f"penstock watch {record.request_id}")


def followed(server: Server, client: Api, request_id: str, timeout: float | None) -> JobRecord:
    """Return a job when it has ended; an interrupt says that it goes on without us."""
    stopped = (
        "stopped watching; the job keeps running\n"
        f"  go on:   penstock watch {request_id}\n"
        f"  stop it: penstock cancel {request_id}"
    )
    with shown(server, stopped) as progress, Pulse(progress) as pulse:
        return client.wait(request_id, timeout_seconds=timeout, on_change=pulse.job)


class Pulse:
    """Shows the job again every second, because time goes on while nothing changes."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._held = threading.Lock()
        self._ended = threading.Event()
        self._last: JobRecord | None = None
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def job(self, record: JobRecord) -> None:
        """Take the job as it is now."""
        with self._held:
            self._last = record
            self._progress.job(record)

    def _beat(self) -> None:
        while not self._ended.wait(PULSE_SECONDS):
            with self._held:
                if self._last is not None and not self._last.done:
                    self._progress.job(self._last)


@contextmanager
def shown(server: Server, stopped: str | Callable[[], str]) -> Iterator[Progress]:
    """Show how far something is; an interrupt ends the command with a word on how to go on."""
    progress = server.progress()
    try:
        yield progress
    except KeyboardInterrupt:
        progress.close()
        click.echo(stopped if isinstance(stopped, str) else stopped(), err=True)
        leave(ExitCode.INTERRUPTED)
    finally:
        progress.close()


def settle(server: Server, job: JobRecord, *, allow_partial: bool) -> None:
    """End a finished job's command: quietly, with 9 for failed lines, or with the job's failure."""
    if not job.succeeded:
        raise failed(job)
    if job.stats.failed_count:
        server.hint(
            f"{job.stats.failed_count:,} of {job.stats.total_count:,} requests failed; "
            f"see why: penstock lines {job.request_id} --groups"
        )
        if not allow_partial:
            leave(ExitCode.LINES_FAILED)


def leave(code: ExitCode) -> NoReturn:
    """End the command with an exit code."""
    click.get_current_context().exit(int(code))
