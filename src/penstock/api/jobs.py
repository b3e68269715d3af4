"""Jobs in the terms of the domain: the dialects' only door to store and bytes."""

import asyncio
import difflib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from typing import Final, cast

import msgspec

from penstock.api.auth import Principal
from penstock.api.doors import INPUT_URI, check_one_input, pulled
from penstock.api.estimates import Estimator, Question
from penstock.api.idempotency import SUBMIT, IdempotencyKeys, check_same, fingerprint
from penstock.api.naming import naming_of
from penstock.api.takeover import RequestBody, StoredBody
from penstock.api.waiting import Explainer
from penstock.blobs.part import Part
from penstock.blobs.room import Hold, Room
from penstock.blobs.source import Sources
from penstock.blobs.spool import INPUT, INPUT_INDEX, Spool
from penstock.blobs.store import Blobs
from penstock.clock import Clock
from penstock.core.job import PRIORITY, Job, JobId, new_job_id
from penstock.core.limits import Limits
from penstock.core.models import REQUEST_QUEUE_MODEL, Model
from penstock.core.naming import UNNAMED, Naming
from penstock.core.options import NO_OPTIONS, OnInvalid, Options
from penstock.core.quotas import (
    Asked,
    Quotas,
    check_cost,
    day_of,
    quotas_of,
    without_price,
)
from penstock.core.state import TERMINAL, JobState
from penstock.errors import Conflict, InvalidRequest, NotFound
from penstock.fault import fault
from penstock.ingest.intake import Accepted, Envelope
from penstock.ingest.problems import PROBLEMS
from penstock.ingest.treatment import Treatment
from penstock.ingest.upload import Upload
from penstock.receive.receiver import Receiver
from penstock.receive.stored import Stored
from penstock.store.admission import Admission
from penstock.store.audit import Audit
from penstock.store.idempotency import Claim, Memory
from penstock.store.jobs import Jobs, Page
from penstock.store.usage import Usage

StillWanted = Callable[[], Awaitable[None]]
"""Raises when nobody waits for the answer any more: a job for nobody would be paid for."""

ASK_BYTES: Final = 1024 * 1024
"""What is pulled between two questions whether it is still wanted."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What goes with a submission beside its body."""

    priority: int = PRIORITY
    held: Claim | Memory | None = None
    """What is with its idempotency key, if it has one."""
    job_id: JobId | None = None
    """That was remembered before: a second try of the same submission cannot become a second job,
    because the database takes an id once."""
    options: Options = NO_OPTIONS
    naming: Naming = UNNAMED
    """What is said of it beside the body."""
    still_wanted: StillWanted | None = None
    """Asked while an input is pulled from elsewhere."""


PLAIN: Final = Terms()
"""A submission that says nothing of the kind."""


class JobDoor(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the dialects need of the server."""

    jobs: Jobs
    usage: Usage
    audit: Audit
    keys: IdempotencyKeys
    spool: Spool
    """Where an input is received."""
    blobs: Blobs
    """Where it is put before its job is committed."""
    room: Room
    receiver: Receiver
    clock: Clock
    limits: Limits
    models: Mapping[str, Model]
    default_model: str
    quotas: Quotas
    """Of organisations that have none of their own."""
    estimates: Estimator
    sources: Sources
    explainer: Explainer
    """Says why an open job waits."""
    accepted: Callable[[], None]
    """Called after a job is committed; wakes a lifecycle in the same process."""

    async def accept(
        self,
        principal: Principal,
        upload: Upload,
        body: AsyncIterable[bytes],
        terms: Terms = PLAIN,
    ) -> Job:
        """Stream a submission in, check every line, and return the durable job.

        Raises a `Refused` and leaves nothing behind if anything is wrong with it; the same if the
        caller goes away. Where its idempotency key has a job already, that one is returned, or
        `KeyReused` raised, and nothing is stored.
        """
        fault("accept.authenticated")
        check_one_input(upload)
        if not isinstance(terms.held, Memory):
            await self.check_quotas(principal, upload)
        found: Job | Envelope = upload.envelope
        if upload.envelope.input_uri is None:
            found = await self._take(principal, upload, body, terms)
        if isinstance(found, Envelope):
            return await self._pull(principal, found, terms)
        return found

    async def check_quotas(self, principal: Principal, upload: Upload) -> None:
        """Raise `QuotaExceeded` if a job like this is too much already, before its body is read."""
        asked = Asked(bytes=max(1, upload.least_bytes(self.limits)))
        await self.usage.look(principal.org_id, self._quotas(principal), asked, self.clock.now())

    async def _pull(self, principal: Principal, envelope: Envelope, terms: Terms) -> Job:
        # A model that does not exist, or a bad name, is refused before a gigabyte comes for it.
        self.model_and_payload(envelope)
        naming_of(terms.naming, envelope, self.limits)
        async with self.sources.open(envelope.input_uri or "") as source:
            chunks = source.chunks
            if terms.still_wanted is not None:
                chunks = while_wanted(chunks, terms.still_wanted)
            taken = await self._take(principal, pulled(source, envelope), chunks, terms)
        # JSONL has no place for the address of another one.
        return cast(Job, taken)

    async def _take(
        self, principal: Principal, upload: Upload, body: AsyncIterable[bytes], terms: Terms
    ) -> Job | Envelope:
        """Return the job, or what came instead of its lines."""
        treatment = Treatment(puts_aside=terms.options.on_invalid is OnInvalid.QUARANTINE)
        upload = msgspec.structs.replace(upload, treatment=treatment)
        upload.check_length(self.limits)
        expected_bytes = upload.room(self.limits)
        if isinstance(body, StoredBody) and upload.is_input:
            # They have their room already, and need more only if they cannot be the input there.
            expected_bytes = 0
        async with self.room.reserve(principal.org_id, expected_bytes) as hold:
            return await self._store(principal, upload, body, terms, hold)

    async def _store(
        self,
        principal: Principal,
        upload: Upload,
        body: AsyncIterable[bytes],
        terms: Terms,
        hold: Hold,
    ) -> Job | Envelope:
        job_id = terms.job_id or (terms.held.job_id if terms.held else new_job_id())
        parts = {name: self.spool.begin(job_id, name) for name in _names(upload)}
        try:
            fault("accept.opened")
            hold.follow(lambda: sum(part.size_bytes for part in parts.values()))
            accepted = await self.read(upload, body, parts, hold)
            await hold.cover(ahead_bytes=0)
            if PROBLEMS in parts and not accepted.problem_count:
                await asyncio.to_thread(parts.pop(PROBLEMS).discard)
            if accepted.is_elsewhere:
                await asyncio.to_thread(_discard, parts)
                return accepted.envelope
            job = self._job(job_id, principal, accepted, terms)
            if isinstance(terms.held, Memory):
                check_same(terms.held, fingerprint(SUBMIT, job))
                await asyncio.to_thread(_discard, parts)
                return await self.get(principal, job_id)
            job = await self._affordable(principal, job, parts)
            # From here on the bytes are wanted. Those of a submission that was tried before may be
            # in use already.
            await self.blobs.commit(job_id, parts, is_again=terms.job_id is not None)
        except BaseException:
            # Whatever ends it, a cut connection included, leaves no file. Shielded by a thread
            # because unlinking a gigabyte stalls the loop.
            await asyncio.shield(asyncio.to_thread(_discard, parts))
            raise
        fault("accept.durable")
        await self._commit(job, self._admission(principal, job, terms.held))
        fault("accept.committed")
        self.accepted()
        return job

    async def _commit(self, job: Job, admission: Admission) -> None:
        try:
            await self.jobs.add(job, admission)
        except Exception:
            # A commit whose outcome is unknown may have taken effect, or do so yet: then the bytes
            # are needed. While the database is down, this question fails and they stay, too.
            if await self.jobs.is_ruled_out(job):
                await self.blobs.remove_job(job.id)
            raise

    async def get(self, principal: Principal, job_id: str) -> Job:
        """Return the tenant's job; an absent and a foreign id raise the same `NotFound`."""
        job = await self.jobs.get(principal.org_id, job_id)
        if job is None:
            raise _not_found()
        return job

    async def page(self, principal: Principal, page: Page) -> tuple[list[Job], int]:
        """Return one page of the tenant's jobs and the count of all that match."""
        return await self.jobs.listed(principal.org_id, page)

    async def cancel(self, principal: Principal, job_id: str) -> Job:
        """Commit the wish to cancel and return the job; asking twice is the same as once."""
        wished = await self.jobs.request_cancel(
            principal.org_id, job_id, self.clock.now(), principal.actor
        )
        fault("cancel.wished")
        job = await self.get(principal, job_id)
        if job.state is JobState.SUBMITTING:
            fault("cancel.while_submitting")
        if not wished and job.state in TERMINAL and job.state is not JobState.CANCELLED:
            raise Conflict(
                f"The request {job.id} has ended; only queued or processing ones can be cancelled.",
                hint="Its output, if any, is in outcome.output_url.",
            )
        return job

    async def read(
        self, upload: Upload, body: AsyncIterable[bytes], parts: Mapping[str, Part], hold: Hold
    ) -> Accepted:
        """Receive a body into the parts, and judge it."""
        paths = [part.path for part in parts.values()]
        # What an encoded body becomes is not known: its room grows with it, chunk by chunk.
        if isinstance(body, RequestBody | StoredBody) and upload.encoding is None:
            taken = body.take_over()
            if isinstance(taken, Stored) and upload.is_input:
                taken = await asyncio.to_thread(taken.as_input, parts[INPUT])
                if not taken.is_input:
                    await hold.expect(taken.size_bytes)
            if taken is not None:
                return await self.receiver.receive(upload, taken, *paths)

        async def covered() -> AsyncIterator[bytes]:
            async for chunk in body:
                yield chunk
                await hold.came(len(chunk))

        return await self.receiver.receive(upload, covered(), *paths)

    def _quotas(self, principal: Principal) -> Quotas:
        return quotas_of(self.quotas, principal.quotas)

    def _admission(self, principal: Principal, job: Job, held: Claim | Memory | None) -> Admission:
        claim = held if isinstance(held, Claim) else None
        return Admission(
            actor=principal.actor,
            quotas=self._quotas(principal),
            claim=claim,
            fingerprint=fingerprint(SUBMIT, job) if claim else "",
        )

    def _job(self, job_id: JobId, principal: Principal, accepted: Accepted, terms: Terms) -> Job:
        model, payload = self.model_and_payload(accepted.envelope)
        naming = naming_of(terms.naming, accepted.envelope, self.limits)
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
            priority=terms.priority,
            options=terms.options,
            problem_count=accepted.problem_count,
            name=naming.name,
            labels=naming.labels,
        )

    async def _affordable(self, principal: Principal, job: Job, parts: Mapping[str, Part]) -> Job:
        """Return the job with what it is expected to cost; raise if that is more than it may."""
        question = Question(
            org_id=job.org_id,
            model=job.model,
            input_path=parts[INPUT].path,
            index_path=parts[INPUT_INDEX].path,
            deduplicate=job.options.deduplicate,
            day=day_of(job.created_at),
        )
        estimate = await self.estimates.answer(question)
        check_cost(job.options.max_cost_micro_dollars, job.model, estimate)
        cost = estimate.micro_dollars
        if cost is None and self._quotas(principal).limits_spend:
            raise without_price(job.model)
        return msgspec.structs.replace(
            job,
            estimate=estimate,
            reserved_micro_dollars=None if cost is None else cost.expected,
        )

    def model_and_payload(self, envelope: Envelope) -> tuple[str, dict[str, object]]:
        """Return the Gemini model and the payload to echo, from either form of the body."""
        payload: dict[str, object] = dict(envelope.payload)
        if envelope.input_uri is not None:
            payload[INPUT_URI] = envelope.input_uri
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
            name, known = str(model)[:80], sorted(self.models)
            close = difflib.get_close_matches(name, known)
            meant = f"; did you mean {' or '.join(close)}?" if close else "."
            # Many clients show their users the message alone.
            raise InvalidRequest(
                f"The model {name!r} is not known{meant} Allowed: {', '.join(known)}.",
                code="unknown_model",
                hint="Set payload.model to one of the allowed models.",
            )
        return model, {**payload, "model": model}


def _names(upload: Upload) -> tuple[str, ...]:
    """Return the files of an input, in the order in which they are received."""
    return (INPUT, INPUT_INDEX, PROBLEMS) if upload.treatment.puts_aside else (INPUT, INPUT_INDEX)


def _not_found() -> NotFound:
    return NotFound("There is no such request.", hint="GET /requests lists yours.")


async def while_wanted(
    chunks: AsyncIterator[bytes], still_wanted: StillWanted
) -> AsyncIterator[bytes]:
    """Pass chunks on as long as somebody waits for what becomes of them, to the very last."""
    unasked_bytes = 0
    async for chunk in chunks:
        yield chunk
        unasked_bytes += len(chunk)
        if unasked_bytes >= ASK_BYTES:
            unasked_bytes = 0
            await still_wanted()
    await still_wanted()


def _discard(parts: Mapping[str, Part]) -> None:
    for part in parts.values():
        part.discard()
