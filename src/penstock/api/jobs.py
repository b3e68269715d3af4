"""Jobs in the terms of the domain: the dialects' only door to store and bytes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import msgspec

from penstock.api.auth import Principal
from penstock.api.doors import Upload
from penstock.blobs.spool import INPUT, INPUT_INDEX, Part, Spool
from penstock.clock import Clock
from penstock.core.job import Job, JobId, new_job_id
from penstock.core.limits import Limits
from penstock.core.models import REQUEST_QUEUE_MODEL, Model
from penstock.core.state import TERMINAL, JobState
from penstock.errors import Conflict, InvalidRequest, NotFound, TooLarge
from penstock.ingest.intake import Accepted
from penstock.store.jobs import Jobs, Page


class JobDoor(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the dialects need of the server."""

    jobs: Jobs
    spool: Spool
    clock: Clock
    limits: Limits
    models: Mapping[str, Model]
    default_model: str
    accepted: Callable[[], None]
    """Called after a job is committed; wakes a lifecycle in the same process."""

    async def accept(self, principal: Principal, upload: Upload, body: AsyncIterator[bytes]) -> Job:
        """Stream a submission in, check every line, and return the durable job.

        Raises a `Refused` and leaves nothing behind if anything is wrong with it; the same if the
        caller goes away.
        """
        upload.check_length(self.limits)
        await asyncio.to_thread(self.spool.check_room, upload.room(self.limits))
        job_id = new_job_id()
        parts = {name: self.spool.begin(job_id, name) for name in (INPUT, INPUT_INDEX)}
        try:
            accepted = await self._read(upload, body, parts)
            job = self._job(job_id, principal, accepted)
            # From here on the bytes are wanted; fsync blocks, so it has a thread.
            await asyncio.to_thread(self.spool.commit, job_id, parts)
        except BaseException:
            # Whatever ends it, a cut connection included, leaves no file. Shielded by a thread
            # because unlinking a gigabyte stalls the loop.
            await asyncio.shield(asyncio.to_thread(_discard, parts))
            raise
        await self._commit(job)
        self.accepted()
        return job

    async def _commit(self, job: Job) -> None:
        try:
            await self.jobs.add(job)
        except Exception:
            # A commit whose outcome is unknown may have taken effect: then the bytes are needed.
            if await self.jobs.load(job.id) is None:
                await asyncio.to_thread(self.spool.remove_job, job.id)
            raise

    async def get(self, principal: Principal, job_id: str) -> Job:
        """Return the tenant's job; an absent and a foreign id raise the same `NotFound`."""
        job = await self.jobs.get(principal.org_id, job_id)
        if job is None:
            raise _not_found()
        return job

    async def page(self, principal: Principal, page: Page) -> tuple[list[Job], int]:
        """Return one page of the tenant's jobs and the count of all that match."""
        jobs = await self.jobs.page(principal.org_id, page)
        return jobs, await self.jobs.count(principal.org_id, page)

    async def cancel(self, principal: Principal, job_id: str) -> Job:
        """Commit the wish to cancel and return the job; asking twice is the same as once."""
        wished = await self.jobs.request_cancel(principal.org_id, job_id, self.clock.now())
        job = await self.get(principal, job_id)
        if not wished and job.state in TERMINAL and job.state is not JobState.CANCELLED:
            raise Conflict(
                f"The request {job.id} has ended; only queued or processing ones can be cancelled.",
                hint="Its output, if any, is in outcome.output_url.",
            )
        return job

    async def _read(
        self, upload: Upload, body: AsyncIterator[bytes], parts: Mapping[str, Part]
    ) -> Accepted:
        intake = upload.open(
            self.limits, write=parts[INPUT].write, write_index=parts[INPUT_INDEX].write
        )
        received_bytes = 0
        async for chunk in body:
            received_bytes += len(chunk)
            if received_bytes > self.limits.body_bytes_max:
                # Line breaks in base64 and headers of gzip decode to nothing, without end.
                raise TooLarge(
                    f"The body has more than {self.limits.body_bytes_max} bytes.",
                    code="input_too_large",
                    hint="Split the file into several requests.",
                )
            if chunk:
                intake.feed(chunk)
        return intake.finish()

    def _job(self, job_id: JobId, principal: Principal, accepted: Accepted) -> Job:
        model, payload = self._model_and_payload(accepted)
        now = self.clock.now()
        return Job(
            id=job_id,
            org_id=principal.org_id,
            user_id=principal.user_id,
            key_id=principal.key_id,
            state=JobState.ACCEPTED,
            model=model,
            payload=payload,
            line_count=accepted.line_count,
            input_bytes=accepted.input_bytes,
            input_sha256=accepted.sha256,
            created_at=now,
            updated_at=now,
            status_detail="Stored; waiting to be sent to the provider.",
        )

    def _model_and_payload(self, accepted: Accepted) -> tuple[str, dict[str, object]]:
        """Return the Gemini model and the payload to echo, from either form of the body."""
        envelope = accepted.envelope
        payload = dict(envelope.payload)
        is_queue_model = (envelope.model or "").lower() == REQUEST_QUEUE_MODEL.lower()
        if envelope.flat:
            wanted: object = None if is_queue_model else envelope.model
        else:
            if envelope.model is not None and not is_queue_model:
                raise InvalidRequest(
                    f"The model {envelope.model[:80]!r} does not exist.",
                    code="unknown_model",
                    hint=f"The outer `model` is {REQUEST_QUEUE_MODEL!r}; "
                    "the Gemini model goes into `payload.model`.",
                )
            wanted = payload.get("model")
        model = self.default_model if wanted is None else wanted
        if not isinstance(model, str) or model not in self.models:
            allowed = ", ".join(sorted(self.models))
            raise InvalidRequest(
                f"The model {str(model)[:80]!r} is not known. Allowed: {allowed}.",
                code="unknown_model",
                hint="Set payload.model to one of the allowed models.",
            )
        return model, {**payload, "model": model}


def _not_found() -> NotFound:
    return NotFound("There is no such request.", hint="GET /requests lists yours.")


def _discard(parts: Mapping[str, Part]) -> None:
    for part in parts.values():
        part.discard()
