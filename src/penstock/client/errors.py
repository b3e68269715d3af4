"""Every error of the client.

    ClientError
    |-- ConnectionFailed          no answer: the server is away, or the connection broke
    |-- APIError                  the server answered with an error
    |   |-- AuthenticationFailed      401, 403: no key, an unknown one, or one that may not do this
    |   |-- NotFound                  404: no such job, or another tenant's
    |   |-- InputInvalid              400 with `details`, 413: the file is not one that can be run
    |   |-- LimitReached              402, 429: a rate, a quota or a budget
    |   `-- ServerFailed              5xx: not the caller's fault
    |-- WebhookRefused            a webhook's request is not from who it claims, or too old
    |-- InputChanged              the file changed while it was being sent
    |-- OutputNotReady            there is nothing to download (yet)
    |-- DigestMismatch            the bytes that came are not the ones that the server has
    `-- StillRunning              the time to wait is over, the job is not

This module imports no HTTP library, so that catching an error costs nothing.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from penstock.client.models import JobRecord


class Detail(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong with the input; `line` and `column` count from 1."""

    code: str = ""
    message: str = ""
    line: int | None = None
    column: int | None = None
    offset: int | None = None
    path: str | None = None
    hint: str | None = None
    excerpt: str | None = None


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """A job that holds some of a quota."""

    request_id: str = ""
    amount: int = 0


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """A quota that is used up, and by what; amounts of money are micro-dollars."""

    name: str = ""
    limit: int = 0
    used: int = 0
    reserved: int = 0
    asked: int = 0
    reserved_by: list[Holder] = []
    resets_at: int | None = None
    """When it counts from zero again, in Unix seconds."""


class ClientError(Exception):
    """Base of everything that the client raises on purpose; `hint` says what to do."""

    code = "client_error"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConnectionFailed(ClientError):
    """There was no answer."""

    code = "connection_failed"


class InputChanged(ClientError):
    """The file grew or shrank while it was being sent; the server has kept nothing of it."""

    code = "input_changed"


class OutputNotReady(ClientError):
    """There is no output; `job` says why."""

    code = "output_not_ready"

    def __init__(self, message: str, *, job: JobRecord, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.job = job


class DigestMismatch(ClientError):
    """The downloaded bytes differ from what the server stated; they are kept in `part`."""

    code = "digest_mismatch"

    def __init__(self, message: str, *, part: Path, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.part = part


class StillRunning(ClientError):
    """Waiting ended before the job did; the job goes on."""

    code = "still_running"

    def __init__(self, message: str, *, job: JobRecord, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.job = job


class APIError(ClientError):
    """The server answered with an error; `details` lists the bad lines, if it is about lines."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str,
        hint: str | None = None,
        details: Sequence[Detail] = (),
        details_total: int | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code
        self.details = tuple(details)
        self.details_total = max(details_total or 0, len(self.details))
        self.quota: Quota | None = None


class AuthenticationFailed(APIError):
    """The key is missing, unknown, or may not do this."""


class NotFound(APIError):
    """There is no such job for this key."""


class InputInvalid(APIError):
    """The input cannot be run as it is; nothing was stored and nothing is charged."""


class LimitReached(APIError):
    """A rate, a quota or a budget is used up; `quota` says which and by whom, if it is one."""


class ServerFailed(APIError):
    """The server failed; the same call may work later."""


class _Body(msgspec.Struct, kw_only=True):
    """The error body; `error` and `message` are the same sentence for different clients."""

    error: str | None = None
    message: str | None = None
    code: str | None = None
    hint: str | None = None
    details: list[Detail] = []
    details_total: int | None = None
    quota: Quota | None = None


_BY_STATUS: dict[int, type[APIError]] = {
    401: AuthenticationFailed,
    402: LimitReached,
    403: AuthenticationFailed,
    404: NotFound,
    413: InputInvalid,
    429: LimitReached,
}
_SERVER_ERRORS_FROM = 500


def error_from(status: int, content: bytes) -> APIError:
    """Build the error for an answer; `content` may be anything, a proxy's HTML page included."""
    body = _parse(content)
    kind = _BY_STATUS.get(status, APIError)
    if status >= _SERVER_ERRORS_FROM:
        kind = ServerFailed
    elif kind is APIError and body.details:
        kind = InputInvalid
    error = kind(
        body.error or body.message or f"the server answered {status} without saying why",
        status=status,
        code=body.code or f"http_{status}",
        hint=body.hint,
        details=body.details,
        details_total=body.details_total,
    )
    error.quota = body.quota
    return error


def _parse(content: bytes) -> _Body:
    """Read the error body, or an empty one when it is not ours."""
    try:
        return msgspec.json.decode(content, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Something between us and the server answered; its status is all that we know.
        return _Body()
