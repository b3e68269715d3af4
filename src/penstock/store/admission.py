"""What must be so that a job may come in, all of it in the job's own transaction."""

from typing import Final

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.access import Actor
from penstock.core.job import Job
from penstock.core.quotas import Asked, Quotas
from penstock.store.audit import lock_org
from penstock.store.idempotency import Claim, remember
from penstock.store.usage import check, count


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """Who brings a job, and under which terms; by default nobody, without any."""

    actor: Actor | None = None
    """For the audit log."""
    quotas: Quotas = Quotas()
    claim: Claim | None = None
    """On the idempotency key, if one was sent."""
    fingerprint: str = ""
    """Of what was submitted under the key."""


ANYBODY: Final = Admission()
"""For whom nothing is limited."""


async def admit(connection: AsyncConnection, job: Job, admission: Admission) -> None:
    """Count the job that is about to be stored.

    Raises `QuotaExceeded`, and `Conflict` if the claim on its idempotency key was lost.
    """
    # Whoever comes at the same time waits here, so that two cannot both be the last one.
    await lock_org(connection, job.org_id)
    if admission.claim is not None:
        await remember(connection, admission.claim, job, admission.fingerprint)
    if admission.quotas.limits_jobs:
        asked = Asked(
            bytes=job.input_bytes,
            lines=job.line_count,
            micro_dollars=job.reserved_micro_dollars or 0,
        )
        await check(connection, job.org_id, admission.quotas, asked, job.created_at)
    await count(connection, job)
