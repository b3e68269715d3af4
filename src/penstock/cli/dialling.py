"""Opens a client for a command, and turns what can go wrong with it into failures."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from penstock.cli.failure import (
    ExitCode,
    Failure,
    exit_code_for,
    first_places,
)
from penstock.client import (
    Api,
    APIError,
    ClientError,
    OutputNotReady,
    StillRunning,
)
from penstock.client.errors import KeyMissing
from penstock.client.profile import Caller, ProfileError, resolve

_NOT_ENDED: Final = frozenset({"lines_not_ready", "not_finished", "request_running"})
"""Codes of a job of which there will be more to say."""

_MICRO: Final = 1_000_000
_SERVER_ERRORS_FROM: Final = 500

_JOB: Final = re.compile(r"\b[a-z]+_[0-9a-z]{26}\b")
_LOGIN: Final = "keep another key: penstock auth login; see which one is used: penstock auth status"
_FIXES: Final = {
    "unauthenticated": _LOGIN,
    "key_revoked": _LOGIN,
    "key_expired": _LOGIN,
    "organization_forbidden": "leave --organization out; see who you are: penstock auth status",
    "cost_over_cap": "raise --max-cost, or send less; see what it costs: penstock estimate FILE",
    "price_unknown": "leave --max-cost out, or take a model with a price: penstock models ls",
    "unknown_model": "take one of these: penstock models ls",
    "lines_not_ready": "wait for its end: penstock watch ID; or add --partial for what there is",
    "request_running": "wait for its end first: penstock watch ID",
    "nothing_to_retry": "see how its lines ended: penstock lines ID --groups",
}
"""What to do on the command line, where the server's hint names a call of the API."""

_CALLS: Final = (
    ("GET /requests lists yours.", "see those that there are: penstock ls"),
    ("GET /api/v1/usage shows all quotas.", "See all quotas: penstock limits"),
)
"""Calls that hints name, and the commands for them."""


def found(given: dict[str, str | None]) -> Caller:
    """Return who calls which server, by options, environment and profile."""
    try:
        return resolve(**given, environ=os.environ)
    except ClientError as error:
        raise failure_of(error) from error


@contextmanager
def dialled(caller: Caller, file: str) -> Iterator[Api]:
    """Open a client; its errors become failures that name `file` where lines are bad."""
    try:
        key = caller.required_key()
        with Api(caller.url, key, organization=caller.organization) as client:
            yield client
    except ClientError as error:
        raise failure_of(error, file) from error


def failure_of(error: ClientError, file: str = "input") -> Failure:
    """Return what the user is told of an error of the client."""
    told = []
    if isinstance(error, APIError):
        told = first_places(file, error.details, error.details_total) + _holders(error)
    request_id = getattr(error, "request_id", None)
    if request_id and isinstance(error, APIError) and error.status >= _SERVER_ERRORS_FROM:
        told.append(f"request id {request_id}, for the server's log")
    return Failure(
        error.message, code=error.code, exit_code=_exit_code(error), fix=_fix(error), places=told
    )


def _fix(error: ClientError) -> str | None:
    if isinstance(error, StillRunning | OutputNotReady) and not error.job.done:
        return f"wait for it: penstock wait {error.job.request_id}"
    if isinstance(error, APIError) and error.code in _FIXES:
        job = _JOB.search(error.message)
        return _FIXES[error.code].replace(" ID", f" {job[0]}" if job else " ID")
    hint = error.hint
    for call, command in _CALLS:
        hint = hint and hint.replace(call, command)
    return hint


def _exit_code(error: ClientError) -> ExitCode:
    if isinstance(error, APIError):
        if error.code in _NOT_ENDED:
            return ExitCode.STILL_RUNNING
        return exit_code_for(error.status, lines_bad=bool(error.details))
    if isinstance(error, StillRunning):
        return ExitCode.STILL_RUNNING
    if isinstance(error, OutputNotReady):
        return ExitCode.JOB_FAILED if error.job.done else ExitCode.STILL_RUNNING
    if isinstance(error, KeyMissing):
        return ExitCode.NOT_ALLOWED
    return ExitCode.USAGE if isinstance(error, ProfileError) else ExitCode.UNEXPECTED


def _holders(error: APIError) -> list[str]:
    """Return the jobs that hold what a quota has no more of, a line each."""
    if error.quota is None:
        return []
    is_money = error.quota.name.startswith("spend")
    lines = []
    for one in error.quota.reserved_by:
        held = f" holds ${one.amount / _MICRO:.6f}" if is_money else " has not ended"
        lines.append(f"  {one.request_id}{held}")
    if error.quota.resets_at is not None:
        resets_at = datetime.fromtimestamp(error.quota.resets_at, UTC)
        lines.append(f"  counts from zero again at {resets_at:%Y-%m-%d %H:%M:%S} UTC")
    return lines
