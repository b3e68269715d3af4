"""`penstock submit`: a file becomes a job; before that, what it would be and cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from penstock.cli.command import command
from penstock.cli.connection import Server, connected_with_ids
from penstock.cli.download import check_folder, fetch, tell
from penstock.cli.durations import read_seconds
from penstock.cli.ends import ALLOW_PARTIAL, followed, leave, settle, shown
from penstock.cli.failure import ExitCode
from penstock.cli.ids import remember
from penstock.cli.jobs import show_job
from penstock.cli.plan import agreed, planned
from penstock.cli.stdin import standard_input
from penstock.cli.submit_options import DEFAULT_MODEL, chosen, job_options, named_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.client import Api, JobRecord

_STAYING: Final = (
    click.option("--wait", is_flag=True, help="Stay until the job is over."),
    click.option("--watch", is_flag=True, help="The same, and show the job at its end."),
    click.option("--detach", is_flag=True, help="Return at once, which is the default."),
    click.option(
        "-o",
        "--output",
        type=click.Path(dir_okay=False, path_type=Path),
        help="With --wait or --watch: where to put the answers.",
    ),
    click.option(
        "--timeout",
        metavar="DURATION",
        callback=read_seconds,
        help="With --wait or --watch: stop waiting after 90, 15m, 2h.",
    ),
    ALLOW_PARTIAL,
)
_NEEDS_END: Final = ("output", "timeout", "allow_partial")


def _staying(function: Any) -> Any:  # noqa: ANN401  # a decorator of click
    for option in reversed(_STAYING):
        function = option(function)
    return function


@command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="Who answers.")
@named_options
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
@click.option("--plan", is_flag=True, help="Say what would be sent and cost; create nothing.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing, and send the file once.")
@_staying
@connected_with_ids
def submit(
    server: Server,
    *,
    file: str,
    plan: bool,
    yes: bool,
    **given: Any,  # noqa: ANN401  # options that are told apart below
) -> None:
    """Send FILE, one JSON request per line ("-" reads standard input), as one job.

    Prints the id of the job as soon as the server has it durably. On a terminal the file is judged
    first, and you are asked if it is likely to cost more than your profile says (20 dollars, or
    `penstock profile set NAME --confirm-above DOLLARS`); off a terminal nothing is ever asked.

    \b
    Examples:
      penstock submit reviews.jsonl --name nov --watch
      penstock submit reviews.jsonl --wait -o out.jsonl
      penstock submit reviews.jsonl --max-cost 5 --plan
      make_lines | penstock submit - --label team=search
    """  # noqa: D301  # \b is click's mark for lines that are not to be wrapped
    until = {name: given.pop(name) for name in (*_NEEDS_END, "wait", "watch", "detach")}
    _check(until, given, plan=plan)
    terms = chosen(given)
    with server.client("standard input" if file == "-" else file) as client:
        if plan:
            planned(server, client, file, terms)
            return
        if not yes and not agreed(server, client, file, terms):
            server.hint("nothing was sent")
            leave(ExitCode.INTERRUPTED)
        job = _send(server, client, file, terms)
        remember(server, [job], is_mine=True)
        if not (until["wait"] or until["watch"]):
            server.show(job, [job.request_id], [job.request_id])
            server.next(f"penstock watch {job.request_id}")
            return
        job = _stay(server, client, job, until)
    settle(server, job, allow_partial=bool(until["allow_partial"]))


def _check(until: Mapping[str, Any], given: Mapping[str, Any], *, plan: bool) -> None:
    """Refuse at once what does not go together, or could only fail after hours."""
    stays = until["wait"] or until["watch"]
    if until["detach"] and stays:
        raise click.UsageError("--detach does not go with --wait or --watch")
    if not stays and any(until[name] for name in _NEEDS_END if until[name] is not None):
        raise click.UsageError("-o, --timeout and --allow-partial need --wait or --watch")
    if not stays and until["timeout"] is not None:
        raise click.UsageError("--timeout needs --wait or --watch")
    if plan and (stays or given["idempotency_key"] is not None):
        raise click.UsageError("--plan creates nothing that could be waited for")
    check_folder(until["output"])


def _send(server: Server, client: Api, file: str, terms: dict[str, Any]) -> JobRecord:
    source = standard_input() if file == "-" else file
    stopped = "interrupted while sending; penstock ls shows whether the job was accepted"
    with shown(server, stopped) as progress:
        return client.submit(
            source, on_progress=lambda done, total: progress.transfer("sent", done, total), **terms
        )


def _stay(server: Server, client: Api, job: JobRecord, until: Mapping[str, Any]) -> JobRecord:
    """Return the job when it has ended, and fetch what it has if that was asked for."""
    is_watched = until["watch"] and not server.as_json and not server.quiet
    if not server.as_json:
        server.show(job, [job.request_id], [job.request_id])
    job = followed(server, client, job.request_id, until["timeout"])
    output = until["output"]
    if output is not None and job.outcome is not None and job.outcome.output_url:
        tell(server, fetch(server, client, job.request_id, output))
    if server.as_json:
        server.show(job, [])
    elif is_watched:
        show_job(server, client, job, has_answers=output is not None)
    return job
