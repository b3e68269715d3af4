"""The synchronous client."""

import os
import re
import time
from collections.abc import Callable, Iterator
from io import UnsupportedOperation
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx2

from penstock.client.body import Encoding, body, body_bytes
from penstock.client.download import Progress, download
from penstock.client.errors import (
    ClientError,
    ConnectionFailed,
    LimitReached,
    OutputNotReady,
    ServerFailed,
    StillRunning,
)
from penstock.client.models import Download, Job, JobPage, ModelPage
from penstock.client.pieces import PIECES_FROM_BYTES, Source, submit_in_pieces
from penstock.client.webhooks import Webhooks
from penstock.client.wire import Wire, decode

T = TypeVar("T")

DEFAULT_MODEL: Final = "gemini-3-flash-preview"
OUTAGE_SECONDS_MAX: Final = 600.0
"""A server may be away for so long while a job is waited for: restarts and upgrades happen."""

_POLL_FIRST_SECONDS: Final = 1.0
_POLL_SECONDS_MAX: Final = 30.0
_POLL_GROWTH: Final = 1.5
_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e]+")


class Client:
    """A connection to one Penstock server; close it, or use it as a context manager.

    Only what cannot be doubled is ever repeated by itself: reads, the submission of a file of 8 MiB
    or more, which goes on after a cut, and a smaller one, by its idempotency key. What comes from a
    pipe cannot be read again, so it is sent once, and so is a cancel: when the answer is lost,
    ConnectionFailed says so and the list of jobs tells what became of it.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        organization: str | None = None,
        transport: httpx2.BaseTransport | None = None,
        timeout: httpx2.Timeout | float | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        headers = {"Authorization": f"Bearer {_header_value('API key', key)}"}
        if organization is not None:
            headers["X-Organization-ID"] = _header_value("organization", organization)
        self._wire = Wire(url, headers, transport=transport, timeout=timeout, sleep=sleep)
        self.webhooks = Webhooks(self._wire)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._wire.close()

    def submit(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        model: str = DEFAULT_MODEL,
        encoding: Encoding = "base64",
        on_progress: Progress | None = None,
        priority: int | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Send a JSONL file, or what is left of an open one, and return the accepted job.

        The file is read in small pieces while it is sent. An answer means that the server has it
        durably. Raises InputInvalid with every bad line's place when lines are wrong, and
        LimitReached, whose `quota` says which one, when the organisation may not have more. A large
        file in base64, the default, is sent as it is instead, and goes on where it was cut.

        Among an organisation's own jobs the lowest `priority` of 1 to 1000 goes first; without one
        it is 100. With an `idempotency_key` of your own the same submission is the same job for a
        week, also from another process; it is then sent in one request, however large it is.
        """
        if isinstance(file, (str, os.PathLike)):
            with Path(file).open("rb") as source:
                return self.submit(
                    source,
                    model=model,
                    encoding=encoding,
                    on_progress=on_progress,
                    priority=priority,
                    idempotency_key=idempotency_key,
                )
        size = _size(file)
        on_sent = None if on_progress is None else lambda sent: on_progress(sent, size)
        about = {} if priority is None else {"X-Penstock-Priority": str(priority)}
        is_large = size is not None and size >= PIECES_FROM_BYTES and encoding == "base64"
        if size is not None and is_large and idempotency_key is None:
            pieces = Source(file, file.tell(), size)
            content = submit_in_pieces(self._wire, pieces, model, on_sent, about)
            if content is not None:
                return decode(content, Job)
        key = uuid4().hex if idempotency_key is None else idempotency_key
        headers = {"Content-Type": "application/json", **about}
        headers["Idempotency-Key"] = _header_value("idempotency key", key)
        if size is not None and encoding == "base64":
            headers["Content-Length"] = str(body_bytes(model, size))
        start = None if size is None else file.tell()

        def form() -> Iterator[bytes]:
            if start is not None:
                file.seek(start)
            return body(file, model, encoding=encoding, size=size, on_sent=on_sent)

        content = self._wire.submit("/requests", form, headers, can_repeat=start is not None)
        return decode(content, Job)

    def get(self, request_id: str) -> Job:
        """Return the job as it is now."""
        return decode(self._wire.get(_path(request_id)), Job)

    def list(
        self,
        limit: int | None = None,
        *,
        cursor: str | None = None,
        offset: int | None = None,
        status: str | None = None,
    ) -> JobPage:
        """Return the newest jobs; go on with `cursor` from the page before, or with `offset`."""
        params = {"limit": limit, "cursor": cursor, "offset": offset, "status": status}
        return decode(self._wire.get("/requests", params), JobPage)

    def cancel(self, request_id: str) -> Job:
        """Ask for a job's end and return it; it may take a while until the job is cancelled."""
        return decode(self._wire.post(_path(request_id) + "/cancel"), Job)

    def models(self) -> ModelPage:
        """Return what the server offers."""
        return decode(self._wire.get("/models"), ModelPage)

    def wait(
        self,
        request_id: str,
        *,
        poll_seconds: float | None = None,
        timeout_seconds: float | None = None,
        on_change: Callable[[Job], None] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> Job:
        """Return the job when it is over, however it ended; look at `status`.

        Without `poll_seconds` the pauses grow from one second to half a minute. `on_change` is
        given the job when its state or its counts differ from the last time. Raises StillRunning
        when `timeout_seconds` are over: the job itself goes on.
        """
        started = answered = now()
        pause = poll_seconds or _POLL_FIRST_SECONDS
        job: Job | None = None
        while True:
            try:
                current = self.get(request_id)
                answered = now()
            except (ConnectionFailed, ServerFailed, LimitReached):
                if job is None or now() - answered > OUTAGE_SECONDS_MAX:
                    raise
                current = job
            if on_change is not None and (job is None or _face(job) != _face(current)):
                on_change(current)
            job = current
            if job.done:
                return job
            left = None if timeout_seconds is None else timeout_seconds - (now() - started)
            if left is not None and left <= 0:
                raise StillRunning(
                    f"stopped waiting for {request_id} after {timeout_seconds:g} s; "
                    "the job continues",
                    job=job,
                    hint=f"see how it goes: penstock status {request_id}",
                )
            self._wire.sleep(pause if left is None else min(pause, left))
            if poll_seconds is None:
                pause = min(pause * _POLL_GROWTH, _POLL_SECONDS_MAX)

    def download(
        self,
        request_id: str,
        path: str | os.PathLike[str],
        *,
        on_progress: Progress | None = None,
    ) -> Download:
        """Fetch the output to `path`, which appears only when it is complete and checked.

        A cut is resumed, also by a later call. Raises OutputNotReady when there is none, and
        DigestMismatch when the bytes are not the ones that the server states.
        """
        return download(
            self._wire, lambda: _output_url(self.get(request_id)), Path(path), on_progress
        )


def _header_value(what: str, value: str) -> str:
    """Refuse what cannot be a header here, since the HTTP library would quote it in its message."""
    if not _HEADER_VALUE.fullmatch(value):
        raise ClientError(
            f"the {what} is empty or has characters that cannot be sent",
            hint="copy it again, without spaces or line ends",
        )
    return value


def _size(file: BinaryIO) -> int | None:
    """Return the bytes that are left in the file, or None for a pipe."""
    try:
        here = file.tell()
        end = file.seek(0, os.SEEK_END)
        file.seek(here)
    except (OSError, UnsupportedOperation):
        # A pipe has no size; it is sent in chunks.
        return None
    return end - here


def _path(request_id: str) -> str:
    return "/requests/" + quote(request_id, safe="")


def _face(job: Job) -> tuple[object, ...]:
    """Return what of a job is worth telling."""
    return job.status, job.state, job.stats


def _output_url(job: Job) -> str:
    outcome = job.outcome
    found = outcome and (outcome.output_url or next(iter(outcome.output_download_urls or ()), None))
    if found:
        return found
    if not job.done:
        raise OutputNotReady(
            f"{job.request_id} is {job.status}: its output is not ready",
            job=job,
            hint=f"see how it goes: penstock status {job.request_id}",
        )
    raise OutputNotReady(
        f"{job.request_id} is {job.status} and has no output"
        + (f": {job.reason}" if job.reason else ""),
        job=job,
        hint="when the cause is gone, submit the file again",
    )
