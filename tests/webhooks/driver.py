"""Ways to have something to tell, and to look at what was told."""

from collections.abc import Callable
from typing import Any

import msgspec
from tests.fake_clock import START
from tests.store.driver import look

from penstock.core.access import Actor
from penstock.core.ids import new_id
from penstock.core.job import Job, JobId, OrgId
from penstock.core.state import JobState
from penstock.store.deliveries import Claimed, Due, Failure
from penstock.store.jobs import Finish
from penstock.store.store import Store
from penstock.store.webhooks import Webhook
from penstock.webhooks.secrets import Sealer, new_secret

MakeJob = Callable[..., Job]

SEALER = Sealer(b"w" * 32)
SECRET = new_secret()
LEASE_SECONDS = 60.0
END = Finish(state=JobState.FAILED, detail="The end.", error_code="why")


def actor(org: str = "acme") -> Actor:
    """A user of an organisation."""
    return Actor(
        org_id=OrgId(org),
        user_id=f"{org}-user",
        key_id="key",
        address="127.0.0.1",
        request_id="r",
    )


async def add_webhook(
    store: Store,
    url: str = "https://hooks.example/",
    org: str = "acme",
    **changes: Any,  # noqa: ANN401  # fields of a Webhook
) -> Webhook:
    """Make an endpoint."""
    webhook_id = new_id("whk")
    webhook = Webhook(
        id=webhook_id,
        org_id=OrgId(org),
        url=url,
        events="*",
        secret=SEALER.seal(webhook_id, SECRET),
        created_at=START,
        created_by=f"{org}-user",
    )
    webhook = msgspec.structs.replace(webhook, **changes)
    await store.webhooks.add(actor(org), webhook, 1_000)
    return webhook


async def end_job(
    store: Store, new_job: MakeJob, org: str = "acme", finish: Finish = END, at: float = START
) -> JobId:
    """Add a job and end it."""
    job = new_job(org_id=OrgId(org), user_id=f"{org}-user")
    await store.jobs.add(job)
    assert await store.jobs.finish(job.id, at, finish)
    return job.id


async def due(store: Store, at: float = START, **changes: Any) -> list[Due]:  # noqa: ANN401  # as of the store
    """What somebody should send."""
    return await store.deliveries.due(at, **{"webhook_max": 8, "limit": 100, **changes})


async def claim(
    store: Store, at: float = START, claim: str = "me", lease_seconds: float = LEASE_SECONDS
) -> list[Claimed]:
    """Take all of it."""
    ids = [each.id for each in await due(store, at)]
    return await store.deliveries.claim(ids, claim, at, lease_seconds) if ids else []


def failure(**changes: Any) -> Failure:  # noqa: ANN401  # fields of a Failure
    """A try that an answer of 500 made fail."""
    values: dict[str, Any] = {
        "status": 500,
        "error": "answered 500",
        "wait_seconds": 5.0,
        "is_gone": False,
        "failing_seconds_max": 432_000.0,
    }
    return Failure(**{**values, **changes})


def row(store: Store, delivery_id: str, column: str) -> Any:  # noqa: ANN401  # what stands there
    """One value of a delivery's row."""
    ((value,),) = look(store, f"SELECT {column} FROM deliveries WHERE id = ?", delivery_id)  # noqa: S608  # a column's name
    return value


async def make_due(store: Store) -> None:
    """Let all waits be over."""
    look(store, "UPDATE deliveries SET next_at = 0 WHERE next_at IS NOT NULL")
