"""`Idempotency-Key`: a submission that is sent again gives the same job, not another one.

The key is claimed before a byte of the body is read, and the claim is renewed for as long as the
request runs. The job's own transaction turns it into a memory. Whoever sends the key again is
compared by a fingerprint of what he submits, for which his body is read and nothing is stored.
"""

import asyncio
import hashlib
import logging
import math
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec
from starlette.datastructures import Headers

from penstock.clock import Clock
from penstock.core.job import Job, OrgId, new_job_id
from penstock.core.limits import Limits
from penstock.core.options import NO_OPTIONS
from penstock.errors import Conflict, DatabaseUnavailable, InvalidRequest, KeyReused
from penstock.fault import fault
from penstock.store.idempotency import Claim, Idempotency, InFlight, Memory

_log = logging.getLogger(__name__)

KEY_HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
SUBMIT: Final = "POST /requests"
"""The route under which keys of submissions are kept, the same for both bases."""

_KEY: Final = re.compile(r"[\x20-\x7e]{1,255}")
_SIGNS: Final = 3
"""Signs of life within the time after which one is taken for dead."""


def read_key(headers: Headers) -> str | None:
    """Return the key that a request carries; raises `InvalidRequest`."""
    values = headers.getlist(KEY_HEADER)
    if not values:
        return None
    if len(values) > 1 or not _KEY.fullmatch(values[0]):
        raise InvalidRequest(
            f"The {KEY_HEADER} is not one key of 1 to 255 printable ASCII characters.",
            code="invalid_idempotency_key",
            hint="Make a random one for each submission, such as a UUID.",
        )
    return values[0]


def fingerprint(route: str, job: Job) -> str:
    """Return what tells two submissions apart, whatever the form in which they were sent."""
    said: list[object] = [route, job.model, job.payload, job.priority, job.input_sha256]
    if job.options != NO_OPTIONS:
        # Only then, so that what was remembered before there was such a thing is still the same.
        said.append(job.options)
    if job.name is not None or job.labels:
        said.append({"name": job.name, "labels": job.labels})
    return hashlib.sha256(msgspec.json.encode(said, order="sorted")).hexdigest()


def check_same(memory: Memory, found: str) -> None:
    """Raise `KeyReused` if another submission has this fingerprint than the one remembered."""
    if found != memory.fingerprint:
        raise KeyReused(
            f"The {KEY_HEADER} was used for another submission.",
            hint="Send what was sent the first time, or use a new key.",
        )


class IdempotencyKeys:
    """Hands out claims; one instance per server process."""

    def __init__(self, store: Idempotency, clock: Clock, limits: Limits) -> None:
        self._store = store
        self._clock = clock
        self._lost_seconds = limits.idempotency_lost_seconds

    @asynccontextmanager
    async def held(
        self, org_id: OrgId, key: str | None, route: str = SUBMIT
    ) -> AsyncIterator[Claim | Memory | None]:
        """Hold the key of a submission while it runs; None if it has none.

        Raises `Conflict` while another request holds it. A claim of which no job comes is released.
        """
        if key is None:
            yield None
            return
        found = await self._claimed(org_id, key, route)
        if isinstance(found, Memory):
            yield found
            return
        fault("accept.claimed")
        beating = asyncio.create_task(self._beat(found))
        try:
            yield found
        except BaseException:
            # Nobody else may cut this short: until it is released, a second try meets 409.
            await asyncio.shield(self._release(found))
            raise
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    async def _claimed(self, org_id: OrgId, key: str, route: str) -> Claim | Memory:
        wanted = Claim(
            org_id=org_id,
            route=route,
            key=key,
            job_id=new_job_id(),
            token=secrets.token_hex(16),
        )
        found = await self._store.claim(wanted, self._clock.now(), self._lost_seconds)
        if isinstance(found, InFlight):
            raise Conflict(
                f"Another request with this {KEY_HEADER} is being worked on.",
                code="idempotency_in_flight",
                hint="Send it again a little later: you get the job that came of the other one.",
                retry_after_seconds=max(1, math.ceil(min(found.seconds_left, self._lost_seconds))),
            )
        return found

    async def _beat(self, claim: Claim) -> None:
        while True:
            await self._clock.sleep(self._lost_seconds / _SIGNS)
            try:
                await self._store.beat(claim, self._clock.now())
            except DatabaseUnavailable as error:
                # Taken for dead at worst, and then its transaction is refused.
                _log.warning("an idempotency key was not renewed: %s", error.message)

    async def _release(self, claim: Claim) -> None:
        try:
            await self._store.release(claim)
        except DatabaseUnavailable as error:
            # It is free when its time is over.
            _log.warning("an idempotency key was not released: %s", error.message)
