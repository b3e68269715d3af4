"""Which job is meant: a full id, the beginning of one, a name, `@last`, or `@1`, `@2`, ….

`@last` is the job that was last submitted from this machine by this user to this server; what
colleagues submit does not change it, so that `penstock cancel @last` never hits theirs. `@1` is the
newest job of the organisation, `@2` the one before, as `penstock ls` shows them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import click

from penstock.cli.failure import ExitCode, Failure
from penstock.cli.recent import recent
from penstock.client.screen import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from penstock.cli.connection import Server
    from penstock.client import Api, JobRecord

CANDIDATES_MAX: Final = 10
"""So many jobs are listed where a text may mean each of them."""

COUNTED_MAX: Final = 1_000
"""`@1000` is the oldest job that can be meant by its number."""

_FULL: Final = re.compile(r"[a-z]+_[0-9a-z]{26}")
_COUNTED: Final = re.compile(r"@([1-9][0-9]{0,3})")
_BEGINNING: Final = re.compile(r"[a-z]+_[0-9a-z]*")
_MARK: Final = "…"


def job_argument(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the argument `ID`, with completion."""
    argument = click.argument("job", metavar="ID", shell_complete=_completed)
    return argument(command)


def job_id(server: Server, client: Api, text: str) -> str:
    """Return the id of the job that a text means; a failure if that is none, or several."""
    # What a table has cut can be pasted as it stands.
    text = text.removesuffix(_MARK)
    if _FULL.fullmatch(text):
        return text
    if text == "@last":
        return _last(server)
    counted = _COUNTED.fullmatch(text)
    if counted is not None:
        return _counted(client, int(counted[1]))
    if text.startswith("@"):
        raise click.UsageError(f"{text!r} is neither @last nor a number such as @1")
    from penstock.client import NotFound  # noqa: PLC0415  # lazy: completion needs no HTTP

    try:
        return client.get(text).request_id
    except NotFound as error:
        try:
            return _only(text, _named(client, text) or _begun(client, text))
        except _Nowhere:
            raise error from None


def remember(server: Server, jobs: Iterable[JobRecord], *, is_mine: bool = False) -> None:
    """Keep jobs for `@last` and for completion; without a place for them it is only told."""
    caller = server.caller
    pairs = [(job.request_id, name_of(job)) for job in jobs]
    try:
        recent().remember(caller.url, caller.organization, pairs, is_mine=is_mine)
    except OSError as error:
        if is_mine:
            server.hint(f"note: @last will not know this job: {error.strerror} ({error.filename})")


def name_of(job: JobRecord) -> str:
    """Return the name of a job; an older server gives none."""
    return str(getattr(job, "name", None) or "")


class _Nowhere(Exception):
    """There is no such job."""


def _last(server: Server) -> str:
    caller = server.caller
    found = recent().last(caller.url, caller.organization)
    if found is None:
        raise Failure(
            f"@last is the job that was last submitted from this machine to {caller.url}, "
            "and there is none",
            code="no_last_job",
            exit_code=ExitCode.NOT_FOUND,
            fix="take an id of penstock ls, or @1 for the newest job of your organisation",
        )
    return found


def _counted(client: Api, number: int) -> str:
    jobs: list[JobRecord] = []
    cursor = None
    while len(jobs) < number:
        page = client.list(number - len(jobs), cursor=cursor)
        jobs += page.requests
        cursor = page.next_cursor
        if cursor is None:
            break
    if len(jobs) < number:
        raise Failure(
            f"there is no @{number}: the organisation has {len(jobs):,} jobs",
            code="not_found",
            exit_code=ExitCode.NOT_FOUND,
            fix="see them: penstock ls",
        )
    return jobs[number - 1].request_id


def _named(client: Api, text: str) -> list[JobRecord]:
    # A server that does not know the question answers with all jobs, so they are looked at here.
    return [job for job in _asked(client, name=text) if name_of(job) == text]


def _begun(client: Api, text: str) -> list[JobRecord]:
    if not _BEGINNING.fullmatch(text):
        return []
    return [job for job in _asked(client, prefix=text) if job.request_id.startswith(text)]


def _asked(client: Api, **filters: Any) -> list[JobRecord]:  # noqa: ANN401  # the client's own
    return list(client.list(CANDIDATES_MAX + 1, **filters).requests)


def _only(text: str, jobs: list[JobRecord]) -> str:
    if not jobs:
        raise _Nowhere
    if len(jobs) == 1:
        return jobs[0].request_id
    rows = [f"{job.request_id}  {job.status}  {clean(name_of(job))}".rstrip() for job in jobs]
    more = len(rows) > CANDIDATES_MAX
    raise Failure(
        f"{text!r} may be {'more than ' if more else ''}{min(len(rows), CANDIDATES_MAX)} jobs",
        code="ambiguous",
        exit_code=ExitCode.USAGE,
        places=rows[:CANDIDATES_MAX],
        fix="write one of these ids, newest first",
    )


def _completed(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
    """Return what may be meant, from this machine alone: a Tab waits for no server."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415  # lazy: for completion only

    del ctx, param
    known = recent().all()
    found = [CompletionItem(one.id, help=one.name) for one in known]
    found += [CompletionItem(one.name, help=one.id) for one in known if one.name]
    found.append(CompletionItem("@last", help="the job that was submitted last"))
    return [item for item in found if item.value.startswith(incomplete)]
