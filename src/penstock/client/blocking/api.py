# Made from penstock/client/aio/api.py by tools/make_blocking.py; edit that one.

"""The calls, by id: one method each, with what the server said as its answer."""

import builtins
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self, Unpack
from uuid import uuid4

import msgspec

from penstock.client.blocking.download import download
from penstock.client.blocking.images import places_of
from penstock.client.blocking.io import call
from penstock.client.blocking.lines import LineList, groups_of, one_of
from penstock.client.blocking.partial import await_look
from penstock.client.blocking.spending import spent
from penstock.client.blocking.upload import submit_in_pieces
from penstock.client.blocking.webhooks import Webhooks
from penstock.client.blocking.wire import Connection, Wire
from penstock.client.body import Encoding, body, body_bytes, reads
from penstock.client.calls import decode, header_value, headers_of
from penstock.client.errors import ConnectionFailed, LimitReached, ServerFailed
from penstock.client.images import ImagePlace
from penstock.client.lines import Line, LineGroups, path_of
from penstock.client.models import Download, JobPage, JobRecord, ModelPage, Partial
from penstock.client.money import SpentReport
from penstock.client.options import Found, SubmitOptions, query_of
from penstock.client.part import Progress
from penstock.client.partial import partial_of
from penstock.client.pieces import PIECES_FROM_BYTES, Source
from penstock.client.records import face_of, job_path, output_url, still_running
from penstock.client.sources import opened, size_of
from penstock.client.validation import Validation

DEFAULT_MODEL: Final = "gemini-3-flash-preview"
OUTAGE_SECONDS_MAX: Final = 600.0
"""A server may be away for so long while a job is waited for: restarts and upgrades happen."""

POLL_FIRST_SECONDS: Final = 1.0
"""The first pause of a wait; each is longer than the one before."""
POLL_SECONDS_MAX: Final = 30.0
POLL_GROWTH: Final = 1.5


class Api:
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
        **connection: Unpack[Connection],
    ) -> None:
        self.wire = Wire(url, headers_of(key, organization), **connection)
        self.webhooks = Webhooks(self.wire)

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
        self.wire.close()

    def submit(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        model: str = DEFAULT_MODEL,
        encoding: Encoding = "base64",
        on_progress: Progress | None = None,
        priority: int | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[SubmitOptions],
    ) -> JobRecord:
        """Send a JSONL file, or what is left of an open one, and return the accepted job.

        The file is read in small pieces while it is sent. An answer means that the server has it
        durably. Raises InputInvalid with every bad line's place when lines are wrong, and
        LimitReached, whose `quota` says which one, when the organisation may not have more. A large
        file in base64, the default, is sent as it is instead, and goes on where it was cut.

        Among an organisation's own jobs the lowest `priority` of 1 to 1000 goes first; without one
        it is 100. With an `idempotency_key` of your own the same submission is the same job for a
        week, also from another process; it is then sent in one request, however large it is.

        `options` are those of `SubmitOptions`: `max_cost_usd`, `on_invalid`, `deduplicate`,
        `shards`, `retry_attempts` and `retry_outcomes`.
        """
        if isinstance(file, (str, os.PathLike)):
            with call(opened, file) as source:
                return self.submit(
                    source,
                    model=model,
                    encoding=encoding,
                    on_progress=on_progress,
                    priority=priority,
                    idempotency_key=idempotency_key,
                    **options,
                )
        size = size_of(file)
        on_sent = None if on_progress is None else lambda sent: on_progress(sent, size)
        query = query_of(options)
        about = {} if priority is None else {"X-Penstock-Priority": str(priority)}
        is_large = size is not None and size >= PIECES_FROM_BYTES and encoding == "base64"
        if size is not None and is_large and idempotency_key is None:
            pieces = Source(file, file.tell(), size)
            content = submit_in_pieces(self.wire, pieces, on_sent, about, {"model": model, **query})
            if content is not None:
                return decode(content, JobRecord)
        key = uuid4().hex if idempotency_key is None else idempotency_key
        headers = {"Content-Type": "application/json", **about}
        headers["Idempotency-Key"] = header_value("idempotency key", key)
        if size is not None and encoding == "base64":
            headers["Content-Length"] = str(body_bytes(model, size))
        start = None if size is None else file.tell()

        def form() -> Iterator[bytes]:
            if start is not None:
                file.seek(start)
            return body(file, model, encoding=encoding, size=size, on_sent=on_sent)

        content = self.wire.submit(
            "/requests", form, headers, can_repeat=start is not None, params=query
        )
        return decode(content, JobRecord)

    def validate(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        model: str = DEFAULT_MODEL,
        on_progress: Progress | None = None,
        **options: Unpack[SubmitOptions],
    ) -> Validation:
        """Have a JSONL file judged, and return what would become of it; nothing of it is kept.

        It is sent as it is, in one request. Raises InputInvalid for a file that is no JSONL, or
        larger than the server takes; what is wrong with its lines is in the answer.
        """
        if isinstance(file, (str, os.PathLike)):
            with call(opened, file) as source:
                return self.validate(source, model=model, on_progress=on_progress, **options)
        size = size_of(file)
        on_sent = None if on_progress is None else lambda sent: on_progress(sent, size)
        headers = {"Content-Type": "application/jsonl"}
        if size is not None:
            headers["Content-Length"] = str(size)
        start = None if size is None else file.tell()

        def lines() -> Iterator[bytes]:
            if start is not None:
                file.seek(start)
            return reads(file, size, on_sent)

        content = self.wire.submit(
            "/requests",
            lines,
            headers,
            can_repeat=start is not None,
            params={"validate_only": "true", "model": model, **query_of(options)},
        )
        return decode(content, Validation)

    def get(self, request_id: str) -> JobRecord:
        """Return the job as it is now."""
        return decode(self.wire.get(job_path(request_id)), JobRecord)

    def list(
        self,
        limit: int | None = None,
        *,
        cursor: str | None = None,
        offset: int | None = None,
        status: str | None = None,
        **found: Unpack[Found],
    ) -> JobPage:
        """Return the newest jobs; go on with `cursor` from the page before, or with `offset`.

        With `name` and `labels` those that have this name, and all of these labels.
        """
        params: dict[str, Any] = {"limit": limit, "cursor": cursor, "offset": offset}
        params |= {"status": status, **query_of(found)}
        return decode(self.wire.get("/requests", params), JobPage)

    def cancel(self, request_id: str) -> JobRecord:
        """Ask for a job's end and return it; it may take a while until the job is cancelled."""
        return decode(self.wire.post(job_path(request_id) + "/cancel"), JobRecord)

    def retry(self, request_id: str, outcomes: Sequence[str] | None = None) -> JobRecord:
        """Send lines of a job that has ended again, into the same output, and return the job.

        `outcomes` says which, such as `["error", "missing"]`; without it those that the job's own
        policy names. Raises APIError if the job still runs or no line is selected.
        """
        answer = self.wire.submit(
            job_path(request_id) + "/retry",
            lambda: iter(()),
            {"Idempotency-Key": str(uuid4())},
            can_repeat=True,
            params=None if outcomes is None else {"outcomes": ",".join(outcomes)},
        )
        return decode(answer, JobRecord)

    def lines(
        self,
        request_id: str,
        *,
        outcome: str | Sequence[str] = (),
        code: str | None = None,
        with_output: bool = False,
        partial: bool = False,
    ) -> LineList:
        """Return the lines of a job, to be iterated over in the order of the input.

        Pages are asked for as they are needed, and one is held. `with_output` brings the lines of
        the output as well, but for those that are too large for a page: `line` has them. With
        `partial`, those of a job that still runs.
        """
        params = {
            "outcome": outcome if isinstance(outcome, str) else ",".join(outcome) or None,
            "code": code,
            "include": "output" if with_output else None,
            "partial": "true" if partial else None,
        }
        return LineList(self.wire, request_id, params)

    def line(self, request_id: str, number: int, *, partial: bool = False) -> Line:
        """Return one line of the input, counted from 1, with its request and its answer."""
        return one_of(self.wire, request_id, number, partial=partial)

    def groups(self, request_id: str, *, partial: bool = False) -> LineGroups:
        """Return in which ways the lines of a job ended, with an example of each."""
        return groups_of(self.wire, request_id, partial=partial)

    def spent(
        self, *, first: str | None = None, last: str | None = None, by: Sequence[str] = ()
    ) -> SpentReport:
        """Return what the organisation's jobs did cost, by day, model, key or (operators) org.

        Days are written as 2026-11-23, and both ends are included; without them it is the last
        thirty. A job counts on the day on which it was billed.
        """
        return spent(self.wire, first, last, by)

    def part(self, request_id: str, line: int, part: int) -> bytes:
        """Return one part of a line's answer, a picture or a text; parts are counted from 0.

        Raises NotFound when there is no such part, or it is neither.
        """
        return self.wire.get(path_of(request_id, f"/{line}/parts/{part}"))

    def images(self, request_id: str) -> builtins.list[ImagePlace]:
        """Return where the pictures of a job are, in order; `part` has each."""
        return places_of(self.wire, output_url(self.get(request_id)))

    def models(self) -> ModelPage:
        """Return what the server offers."""
        return decode(self.wire.get("/models"), ModelPage)

    def wait(
        self,
        request_id: str,
        *,
        poll_seconds: float | None = None,
        timeout_seconds: float | None = None,
        on_change: Callable[[JobRecord], None] | None = None,
        on_poll: Callable[[JobRecord], None] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> JobRecord:
        """Return the job when it is over, however it ended; look at `status`.

        Without `poll_seconds` the pauses grow from one second to half a minute. `on_change` is
        given the job when its state or its counts differ from the last time, `on_poll` whenever
        the server was asked. Raises StillRunning when `timeout_seconds` are over: the job itself
        goes on.
        """
        started = answered = now()
        pause = poll_seconds or POLL_FIRST_SECONDS
        job: JobRecord | None = None
        while True:
            try:
                current = self.get(request_id)
                answered = now()
            except (ConnectionFailed, ServerFailed, LimitReached):
                if job is None or now() - answered > OUTAGE_SECONDS_MAX:
                    raise
                current = job
            if on_change is not None and (job is None or face_of(job) != face_of(current)):
                on_change(current)
            if on_poll is not None:
                on_poll(current)
            job = current
            if job.done:
                return job
            left = None if timeout_seconds is None else timeout_seconds - (now() - started)
            if left is not None and left <= 0:
                raise still_running(job, timeout_seconds)
            self.wire.sleep(pause if left is None else min(pause, left))
            if poll_seconds is None:
                pause = min(pause * POLL_GROWTH, POLL_SECONDS_MAX)

    def download(
        self,
        request_id: str,
        path: str | os.PathLike[str],
        *,
        on_progress: Progress | None = None,
        partial: bool = False,
    ) -> Download:
        """Fetch the output to `path`, which appears only when it is complete and checked.

        With `partial` a job that runs gives the lines that are finished so far, and the others say
        that they are pending; `partial` of the answer tells how many. The first call waits until
        the server has looked, and each asks for a newer look.

        A cut is resumed, also by a later call. Raises OutputNotReady when there is none, and
        DigestMismatch when the bytes are not the ones that the server states.
        """
        if partial:
            await_look(self.wire, self.get, request_id)
        found: Partial | None = None

        def locate() -> str:
            nonlocal found
            job = self.get(request_id)
            # A newer look, or the end of the job, may take its place at any time.
            found = partial_of(job) if partial else None
            return output_url(job) if found is None else found.url

        done = download(self.wire, locate, Path(path), on_progress)
        return msgspec.structs.replace(done, partial=found)
