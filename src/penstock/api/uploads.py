"""A submission in pieces: it survives cut connections, killed servers and lost answers.

    POST /uploads            -> 201, Location       the head of a submission; a first piece, if any
    PATCH /uploads/{id}      -> 204, Upload-Offset   a piece; what came before a cut counts
    HEAD /uploads/{id}       -> 204, Upload-Offset   where to go on
    PATCH, Upload-Complete: ?1 -> as POST /requests  the last piece, and the job
    DELETE /uploads/{id}     -> 204

This is "Resumable Uploads for HTTP", draft-ietf-httpbis-resumable-upload-12, without its optional
104 answers. `blobs/partial` keeps the bytes.

**One upload, at most one job.** Before the bytes go through `JobDoor.accept`, the id of the job is
chosen and written into the upload's own state, durably. Every later finish uses this id and first
asks the database for it:

- killed before the job was committed: no row, the bytes are still here, accept runs again;
- killed after it, or the answer was lost: the row is there, it is the answer, nothing runs;
- whatever else happens, two rows of one id are impossible, because it is the primary key.

**One request at a time.** A second PATCH meets 423. HEAD and DELETE end an append that runs,
because their sender has given it up: the connection it came on is dead, but we cannot know yet.
They keep what it brought. Nothing ends a finish.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Final, ParamSpec, TypeVar

import msgspec
from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.api.answers import Promise
from penstock.api.audited import audited
from penstock.api.auth import Authenticator, Principal
from penstock.api.doors import MODEL_HEADER, PRIORITY_HEADER, read_head, read_priority
from penstock.api.jobs import JobDoor, Terms
from penstock.api.naming import read_naming
from penstock.api.options import is_validation, read_options
from penstock.api.request_queue import BASES
from penstock.api.request_queue_record import Renderer
from penstock.api.takeover import StoredBody
from penstock.api.upload_fields import (
    COMPLETE,
    LENGTH,
    LIMIT,
    OFFSET,
    PARTIAL_TYPE,
    AlreadyComplete,
    Fields,
    LengthMismatch,
    OffsetMismatch,
    Overrun,
    boolean,
    read_fields,
    read_piece,
    refusal,
)
from penstock.blobs.partial import Partial, Partials
from penstock.blobs.room import Hold
from penstock.core.access import Scope
from penstock.core.job import Job, new_job_id
from penstock.core.limits import Limits
from penstock.errors import (
    Conflict,
    InvalidRequest,
    Locked,
    NotFound,
    PenstockError,
    QuotaExceeded,
    Refused,
    TooLarge,
    TooMany,
)
from penstock.fault import fault
from penstock.ingest.upload import Upload
from penstock.receive.stored import Stored

T = TypeVar("T")
P = ParamSpec("P")

_log = logging.getLogger(__name__)

WRITE_BYTES: Final = 1024 * 1024
"""Handed to the disk at a time."""

SWEEP_SECONDS: Final = 300.0
"""Between looks for uploads that are too old."""

_KEPT_HEADERS: Final = (
    "content-type",
    "content-encoding",
    MODEL_HEADER.lower(),
    PRIORITY_HEADER.lower(),
)
"""What the head of a submission says of its body and its job."""


class _Work:
    """One request that changes an upload."""

    def __init__(self) -> None:
        self.task = asyncio.current_task()
        self.ended = asyncio.Event()
        self.may_be_ended = True
        self.is_ended_early = False


class Uploads:
    """The endpoints; each authenticates first and only then reads."""

    def __init__(
        self,
        door: JobDoor,
        partials: Partials,
        authenticator: Authenticator,
        renderer: Renderer,
    ) -> None:
        self._door = door
        self._partials = partials
        self._authenticator = authenticator
        self._renderer = renderer
        self._limits = door.limits
        self._work: dict[str, _Work] = {}
        # Counting a tenant's uploads and adding one are one step.
        self._creating = asyncio.Lock()

    def routes(self) -> list[Route]:
        """Return the routes under both bases; HEAD comes with GET."""
        table = (
            ("POST", "/uploads", self.create),
            ("OPTIONS", "/uploads", self.tell_limits),
            ("GET", "/uploads/{upload_id}", self.tell_offset),
            ("PATCH", "/uploads/{upload_id}", self.append),
            ("DELETE", "/uploads/{upload_id}", self.cancel),
        )
        return [
            Route(base + path, endpoint, methods=[method])
            for base in BASES
            for method, path, endpoint in table
        ]

    async def tell_limits(self, request: Request) -> Response:
        """Return the limits of an upload that is not begun."""
        await self._authenticator.principal(request, Scope.JOBS_WRITE)
        headers = {LIMIT: self._limit(None), "Accept-Patch": PARTIAL_TYPE}
        return Response(status_code=204, headers=headers)

    async def create(self, request: Request) -> Response:
        """Begin an upload; its first piece, which may be the only one, may come with it."""
        principal = await self._authenticator.identify(request)
        try:
            async with self._audited(principal, "upload.create"):
                principal.require(Scope.JOBS_WRITE)
                return await self._create(request, principal)
        except PenstockError as error:
            return await self._refuse(request, error, None)

    async def tell_offset(self, request: Request) -> Response:
        """Return where to go on; a piece that is still coming is ended, and counted so far."""
        principal = await self._authenticator.principal(request, Scope.JOBS_WRITE)
        partial = self._find(principal, request)
        if OFFSET in request.headers or COMPLETE in request.headers:
            raise InvalidRequest(
                f"A request for the offset may have neither {OFFSET} nor {COMPLETE}.",
                hint="Leave them out; the answer has both.",
            )
        await self._end_append(partial)
        return Response(status_code=204, headers=self._state(self._find(principal, request)))

    async def append(self, request: Request) -> Response:
        """Take a piece; the last one makes the job, and asking again gives the same job."""
        principal = await self._authenticator.identify(request)
        partial: Partial | None = None
        try:
            async with self._audited(principal, "upload.append", request):
                principal.require(Scope.JOBS_WRITE)
                partial = self._find(principal, request)
                with self._alone(partial) as work:
                    return await self._append(request, principal, partial, work)
        except PenstockError as error:
            if partial is None:
                raise
            return await self._refuse(request, error, self._partials.get(partial.id))

    async def cancel(self, request: Request) -> Response:
        """Remove an upload; a job that was made of it stays."""
        principal = await self._authenticator.identify(request)
        async with self._audited(principal, "upload.delete", request):
            principal.require(Scope.JOBS_WRITE)
            partial = self._find(principal, request)
            await self._end_append(partial)
            with self._alone(partial):
                await _undivided(self._partials.remove, partial.id)
        await self._record(principal, "upload.delete", partial)
        return Response(status_code=204)

    async def sweep(self) -> int:
        """Remove the uploads that are too old and that nobody works on; return how many."""
        now = self._door.clock.now()
        old = [
            partial.id
            for partial in self._partials.all()
            if self._seconds_left(partial, now) <= 0 and not self.is_busy(partial.id)
        ]
        for upload_id in old:
            await _undivided(self._partials.remove, upload_id)
        return len(old)

    def is_busy(self, upload_id: str) -> bool:
        """Return whether a request works on the upload."""
        return upload_id in self._work

    async def keep_swept(self) -> None:
        """Sweep for ever."""
        while True:
            try:
                await self.sweep()
            except Exception:  # noqa: BLE001  # a loop's boundary: logged, and tried again
                _log.exception("removing old uploads failed; trying again")
            await self._door.clock.sleep(SWEEP_SECONDS)

    # -- create --------------------------------------------------------------------------------

    async def _create(self, request: Request, principal: Principal) -> Response:
        fields = read_fields(request.headers)
        length = fields.total(0)
        partial = Partial(
            id=f"upl_{secrets.token_hex(16)}",
            org_id=principal.org_id,
            created_at=self._door.clock.now(),
            headers={
                name: request.headers[name] for name in _KEPT_HEADERS if name in request.headers
            },
            query=request.url.query,
            length=length,
        )
        # The head itself, because a field that stands there twice is refused.
        upload = read_head(request.headers, request.query_params)
        read_priority(request.headers)
        _check_options(request.query_params, self._limits)
        self._check(upload, length or 0)
        needed_bytes = None
        if length is not None:
            upload = msgspec.structs.replace(upload, content_length=length)
            needed_bytes = length
            if not upload.is_input:
                # Until the finish has decoded them, the bytes are there twice.
                needed_bytes += upload.room(self._limits) or 0
        await self._door.check_quotas(principal, upload)
        async with self._door.room.reserve(partial.org_id, needed_bytes), self._creating:
            self._check_count(principal)
            await _undivided(self._partials.create, partial)
        fault("upload.created")
        headers = {"Location": f"{request.url.path}/{partial.id}"}
        try:
            with self._alone(partial) as work:
                if fields.content_length != 0:
                    partial = await self._receive(request, partial, fields)
                if fields.complete:
                    return await self._finish(request, principal, partial, work, headers)
            await self._record(principal, "upload.create", partial)
        except BaseException:
            # Nobody knows the id yet, so nobody could go on.
            await _undivided(self._partials.remove, partial.id)
            raise
        return Response(status_code=201, headers={**headers, **self._state(partial)})

    def _check_count(self, principal: Principal) -> None:
        most = self._limits.uploads_open_max
        if self._partials.count_open(principal.org_id) >= most:
            raise TooMany(
                f"The organisation has {most} unfinished uploads, which is the most.",
                code="too_many_uploads",
                hint="Finish or DELETE some of them.",
                retry_after_seconds=60,
            )

    # -- append --------------------------------------------------------------------------------

    async def _append(
        self, request: Request, principal: Principal, partial: Partial, work: _Work
    ) -> Response:
        fields, offset = read_piece(request.headers)
        if partial.is_finished:
            return await self._repeat(request, principal, partial, fields)
        if offset != partial.offset:
            raise OffsetMismatch(partial.offset, offset)
        try:
            self._check_piece(partial, fields)
            if fields.content_length != 0 or fields.length is not None:
                partial = await self._receive(request, partial, fields)
        except (Overrun, TooLarge):
            # Whatever it was meant to be, it cannot become it any more.
            await _undivided(self._partials.remove, partial.id)
            raise
        if fields.complete:
            return await self._finish(request, principal, partial, work, {})
        await self._record(principal, "upload.append", partial)
        return Response(status_code=204, headers=self._state(partial))

    def _check_piece(self, partial: Partial, fields: Fields) -> None:
        """Judge the lengths before a byte is read."""
        end = partial.offset + (fields.content_length or 0)
        if partial.length is not None and end > partial.length:
            raise _overrun(partial.length)
        total = fields.total(partial.offset)
        if total is None:
            return
        if partial.length not in {None, total}:
            raise LengthMismatch(
                f"The upload has {partial.length} bytes in all, by this request {total}.",
                hint="Say the same length each time, or leave it out.",
            )
        if total < end:
            raise LengthMismatch(
                f"The piece ends at {end}, and {LENGTH} is {total}.",
                hint="Say how many bytes the whole upload has, or leave it out.",
            )
        self._check(self._upload(partial), total)

    async def _receive(self, request: Request, partial: Partial, fields: Fields) -> Partial:
        """Take the piece; everything that came is durable when this ends, however it ends."""
        upload = self._upload(partial)
        length = fields.total(partial.offset)
        length = partial.length if length is None else length
        async with self._door.room.reserve(partial.org_id, fields.content_length) as hold:
            partial = await self._store(request, partial, upload, length, hold)
        if fields.complete and length not in {None, partial.offset}:
            raise LengthMismatch(
                f"The last piece ends at {partial.offset}, and {length} bytes were announced.",
                hint=f"Send the rest, and {COMPLETE}: ?1 with it.",
            )
        return partial

    async def _store(
        self, request: Request, partial: Partial, upload: Upload, length: int | None, hold: Hold
    ) -> Partial:
        begin = end = partial.offset
        gathered: list[bytes] = []
        tail = self._partials.open_tail(partial)
        try:
            async for chunk in request.stream():
                gathered.append(chunk)
                end += len(chunk)
                if length is not None and end > length:
                    raise _overrun(length)
                if end - tail.offset >= WRITE_BYTES:
                    self._check(upload, end)
                    await hold.cover(end - begin)
                    # Handed over before the first wait: an end in the middle writes nothing twice.
                    written, gathered = gathered, []
                    await _undivided(tail.write, written)
            self._check(upload, end)
        finally:
            partial = await _undivided(tail.close, gathered, length)
        return partial

    # -- finish --------------------------------------------------------------------------------

    async def _finish(
        self,
        request: Request,
        principal: Principal,
        partial: Partial,
        work: _Work,
        headers: dict[str, str],
    ) -> Response:
        work.may_be_ended = False
        if partial.job_id is None:
            partial = msgspec.structs.replace(partial, job_id=new_job_id(), length=partial.offset)
            await _undivided(self._partials.put, partial)
            fault("upload.job_chosen")
        try:
            job = await self._job(principal, partial)
        except QuotaExceeded:
            # Nothing is wrong with it; the last piece can be sent again when there is room.
            raise
        except Refused as error:
            # What was sent is wrong, and sending it again would not mend it.
            await _undivided(self._partials.remove, partial.id)
            answer = await refusal(request, error)
            answer.headers[COMPLETE] = boolean(value=True)
            return answer
        fault("upload.job_made")
        await _undivided(self._partials.finish, partial)
        return self._answer(request, job, headers)

    async def _job(self, principal: Principal, partial: Partial) -> Job:
        """Return the upload's job, which is made if it is not there yet."""
        known = await self._known_job(partial)
        if known is not None:
            return known
        upload = msgspec.structs.replace(self._upload(partial), content_length=partial.offset)
        priority = read_priority(Headers(partial.headers))
        query = QueryParams(partial.query)
        terms = Terms(
            job_id=partial.job_id,
            priority=priority,
            options=read_options(query),
            naming=read_naming(query, self._limits),
        )
        stored = Stored(str(self._partials.path(partial.id)), partial.offset)
        try:
            return await self._door.accept(principal, upload, StoredBody(stored), terms)
        except Refused:
            raise
        except Exception:
            # A commit whose outcome is unknown may have taken effect.
            known = await self._known_job(partial)
            if known is None:
                raise
            return known

    async def _known_job(self, partial: Partial) -> Job | None:
        return await self._door.jobs.get(partial.org_id, partial.job_id or "")

    async def _repeat(
        self, request: Request, principal: Principal, partial: Partial, fields: Fields
    ) -> Response:
        """Answer a finish whose answer was lost: the same piece again, or an empty one."""
        end = (fields.offset or 0) + (fields.content_length or 0)
        if not fields.complete or end != partial.offset or partial.job_id is None:
            raise AlreadyComplete(
                "The upload is complete; its job is there.",
                hint=f"Send {OFFSET}: {partial.offset} and {COMPLETE}: ?1 to be told the job.",
            )
        job = await self._door.get(principal, partial.job_id)
        await self._record(principal, "upload.append", partial)
        return self._answer(request, job, {})

    # -- shared --------------------------------------------------------------------------------

    def _audited(
        self, principal: Principal, action: str, request: Request | None = None
    ) -> AbstractAsyncContextManager[None]:
        target = "" if request is None else request.path_params["upload_id"]
        return audited(self._door.audit, self._door.clock, principal, action, target)

    async def _record(self, principal: Principal, action: str, partial: Partial) -> None:
        """Record what was done to an upload; a finish is recorded with the job that it makes."""
        now = self._door.clock.now()
        await self._door.audit.done(principal.actor, now, action, partial.id)

    def _find(self, principal: Principal, request: Request) -> Partial:
        """Return the tenant's upload; absent, foreign and outdated ones raise the same."""
        partial = self._partials.get(request.path_params["upload_id"])
        if (
            partial is None
            or partial.org_id != principal.org_id
            or self._seconds_left(partial, self._door.clock.now()) <= 0
        ):
            raise NotFound("There is no such upload.", hint="POST /uploads begins one.")
        return partial

    def _upload(self, partial: Partial) -> Upload:
        return read_head(Headers(partial.headers), QueryParams(partial.query))

    def _check(self, upload: Upload, received_bytes: int) -> None:
        """Raise `TooLarge` when no good input can need so much."""
        announced = msgspec.structs.replace(upload, content_length=received_bytes)
        announced.check_length(self._limits)

    @contextmanager
    def _alone(self, partial: Partial) -> Iterator[_Work]:
        """Work on an upload while nobody else does; raises `Locked` if somebody does."""
        if self.is_busy(partial.id):
            raise Locked(
                "Another request is working on the upload.",
                code="upload_locked",
                hint="HEAD ends a piece that does not come any more and tells where to go on.",
                retry_after_seconds=1,
            )
        work = self._work[partial.id] = _Work()
        try:
            yield work
        except asyncio.CancelledError:
            if not work.is_ended_early or work.task is None:
                raise
            # It was our own doing, so it ends here, with an answer.
            work.task.uncancel()
            raise Conflict(
                "Another request asked where to go on, so this one was ended.",
                code="upload_interrupted",
                hint="What had come is stored; HEAD tells how much.",
            ) from None
        finally:
            del self._work[partial.id]
            work.ended.set()

    async def _end_append(self, partial: Partial) -> None:
        """End an append that runs, and wait until what it brought is durable."""
        work = self._work.get(partial.id)
        if work is None or work.task is None or not work.may_be_ended:
            return
        if not work.is_ended_early:
            work.is_ended_early = True
            work.task.cancel()
        await work.ended.wait()

    def _answer(self, request: Request, job: Job, headers: dict[str, str]) -> Response:
        said = {**headers, COMPLETE: boolean(value=True)}
        return Promise(self._renderer.record(job, request), headers=said)

    async def _refuse(
        self, request: Request, error: PenstockError, partial: Partial | None
    ) -> Response:
        answer = await refusal(request, error)
        if partial is None or isinstance(error, Locked):
            # While somebody appends, an offset is out of date before it arrives.
            state = {COMPLETE: boolean(value=False), LIMIT: self._limit(partial)}
        else:
            state = self._state(partial)
        answer.headers.update(state)
        return answer

    def _state(self, partial: Partial) -> dict[str, str]:
        state = {
            OFFSET: str(partial.offset),
            COMPLETE: boolean(partial.is_finished),
            LIMIT: self._limit(partial),
        }
        if partial.length is not None:
            state[LENGTH] = str(partial.length)
        return state

    def _limit(self, partial: Partial | None) -> str:
        seconds: float = self._limits.upload_seconds_max
        if partial is not None:
            seconds = self._seconds_left(partial, self._door.clock.now())
        return f"max-size={self._limits.body_bytes_max}, max-age={max(0, int(seconds))}"

    def _seconds_left(self, partial: Partial, now: float) -> float:
        return partial.created_at + self._limits.upload_seconds_max - now


def _check_options(query: QueryParams, limits: Limits) -> None:
    """Refuse options that would be refused at the end, before any byte comes for them."""
    read_options(query)
    read_naming(query, limits)
    if is_validation(query):
        raise InvalidRequest(
            "An upload in pieces cannot be validated only.",
            code="invalid_parameter",
            hint="POST /requests?validate_only=true takes the same body in one piece.",
        )


def _overrun(length: int) -> Overrun:
    return Overrun(
        f"More bytes came than the {length} that were announced; the upload is removed.",
        hint="Begin again.",
    )


async def _undivided(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call what blocks in a thread, and wait for its end even if this request is ended.

    A thread cannot be ended; going on without it would let two write to one file.
    """
    call = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    ended: asyncio.CancelledError | None = None
    while not call.done():
        try:
            await asyncio.wait({call})
        except asyncio.CancelledError as error:
            ended = error
    result = call.result()
    if ended is not None:
        raise ended
    return result
