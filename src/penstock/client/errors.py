"""Every error of the client.

    ClientError
    |-- ConnectionFailed          no answer: the server is away, or the connection broke
    |-- APIError                  the server answered with an error
    |   |-- AuthenticationFailed      401, 403: no key, an unknown one, or one that may not do this
    |   |-- NotFound                  404: no such job, or another tenant's
    |   |   `-- ServerTooOld                a call that this server does not have yet
    |   |-- InputInvalid              400 with `details`, 413: the file is not one that can be run
    |   |-- LimitReached              402, 429: a rate, a quota or a budget
    |   `-- ServerFailed              5xx: not the caller's fault
    |-- WebhookRefused            a webhook's request is not from who it claims, or too old
    |-- InputChanged              the file changed while it was being sent
    |-- OutputNotReady            there is nothing to download (yet)
    |-- OutputChanged             the output was replaced while it was being read
    |-- DigestMismatch            the bytes that came are not the ones that the server has
    |-- DiskFull                  there is no room for a download; what has come is kept
    |-- StillRunning              the time to wait is over, the job is not
    |-- JobFailed                 the job has ended without an output
    |-- LinesFailed               it has one, but some of its lines did not end well
    |-- ParseFailed               an answer is not of the type that was asked for
    |-- KeyMissing                no API key was given, and none was found
    `-- ProfileError              the file of profiles cannot be used

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
    request_id: str | None = None
    """Of the answer that said so, for whoever looks into the server's log."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint:
            # A traceback shows notes, and a notebook shows little else.
            self.add_note(f"hint: {hint}")

    @property
    def docs(self) -> str:
        """Where in the documentation the code is explained."""
        return f"docs/reference/errors.md#{self.code}"


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
    """The bytes differ from what the server stated; a download keeps them in `part`."""

    code = "digest_mismatch"

    def __init__(self, message: str, *, part: Path | None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.part = part


class OutputChanged(ClientError):
    """The server has another output now than the one of which lines were given already."""

    code = "output_changed"


class DiskFull(ClientError):
    """There is no room for more of a download; what has come is kept in `part`."""

    code = "disk_full"

    def __init__(self, message: str, *, part: Path, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.part = part


class KeyMissing(ClientError):
    """No key was given, and none was found."""

    code = "unauthenticated"


class JobFailed(ClientError):
    """The job has ended without an output; `job` says why."""

    code = "job_failed"

    def __init__(self, message: str, *, job: JobRecord, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.job = job


class LinesFailed(ClientError):
    """Some lines did not end well; the others have their answers, and `job` counts both."""

    code = "lines_failed"

    def __init__(self, message: str, *, job: JobRecord, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.job = job


class ParseFailed(ClientError):
    """The answer of a line is not of the type that was asked for."""

    code = "parse_failed"

    def __init__(
        self, message: str, *, line: int, key: str | None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.line = line
        self.key = key


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


class ServerTooOld(NotFound):
    """The server does not have this call."""


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
_NO_ROUTE = "There is no such route."
"""What a server says of a path that it does not have, whichever version it is of."""


def error_from(status: int, content: bytes, request_id: str | None = None) -> APIError:
    """Build the error for an answer; `content` may be anything, a proxy's HTML page included."""
    body = _parse(content)
    said = body.error or body.message
    if said == _NO_ROUTE:
        error: APIError = ServerTooOld(
            "the server does not have this call: it is older than this client",
            status=status,
            code="server_too_old",
            hint="upgrade the server, or use the client of its version",
        )
    else:
        error = _kind(status, body)(
            said or f"the server answered {status} without saying why",
            status=status,
            code=body.code or f"http_{status}",
            hint=body.hint or (None if said else _WHOSE),
            details=body.details,
            details_total=body.details_total,
        )
    error.quota = body.quota
    error.request_id = request_id
    return error


_WHOSE = "check that the address is a Penstock server's, and not of something before it"


def _kind(status: int, body: _Body) -> type[APIError]:
    if status >= _SERVER_ERRORS_FROM:
        return ServerFailed
    kind = _BY_STATUS.get(status, APIError)
    return InputInvalid if kind is APIError and body.details else kind


def _parse(content: bytes) -> _Body:
    """Read the error body, or an empty one when it is not ours."""
    try:
        return msgspec.json.decode(content, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Something between us and the server answered; its status is all that we know.
        return _Body()
