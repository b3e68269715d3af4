"""Servers with a defect, for proving that the checker sees what it is there for.

Each function changes the server of this process, before it begins. They are applied after the fork
in the zygote and nowhere else.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from penstock import wiring
from penstock.api.auth import Authenticator
from penstock.api.jobs import JobDoor
from penstock.core.job import Job, JobId
from penstock.core.state import JobState
from penstock.lifecycle import submit
from penstock.lifecycle.durable import Engine
from penstock.lifecycle.ports import Ports
from penstock.store import jobs as store_jobs
from penstock.store.admission import Admission
from penstock.store.jobs import Finish, Jobs
from penstock.store.ledger import settle

LATE_SECONDS: Final = 0.3


def acknowledge_before_commit() -> None:
    """The answer goes out, and the row is committed a moment later."""
    commit = JobDoor._commit
    later: set[asyncio.Task[None]] = set()

    async def slowly(door: JobDoor, job: Job, admission: Admission) -> None:
        await asyncio.sleep(LATE_SECONDS)
        await commit(door, job, admission)

    async def at_once(door: JobDoor, job: Job, admission: Admission) -> None:
        later.add(asyncio.create_task(slowly(door, job, admission)))

    _put(JobDoor, "_commit", at_once)


def create_again() -> None:
    """An intent without an answer is sent again, without looking for what it made."""

    async def again(ports: Ports, job: Job) -> None:
        await ports.jobs.move(job.id, JobState.PREPARED, ports.clock.now())

    def nobody(*_: object) -> list[object]:
        return []

    _put(submit, "reconcile", again)
    _put(submit, "adoptable", nobody)


def bill_afterwards() -> None:
    """The ledger is written in a transaction of its own, after the terminal state."""
    finish = Jobs.finish

    async def later(*_: object) -> None:
        """Bill nothing here."""

    async def split(jobs: Jobs, job_id: JobId, at: float, told: Finish, **only: int | None) -> bool:
        moved = await finish(jobs, job_id, at, told, **only)
        if moved:
            async with jobs._engine.begin() as connection:
                await settle(connection, job_id, at, told.spent)
        return moved

    _put(store_jobs, "settle", later)
    _put(Jobs, "finish", split)


def leave_orphans() -> None:
    """What a dead server left half done stays for ever."""

    async def none(_ports: Ports) -> int:
        return 0

    _put(wiring, "prune_orphans", none)


def log_keys() -> None:
    """The key of each request is logged."""
    identify = Authenticator.identify

    async def telling(authenticator: Authenticator, request: Any) -> Any:  # noqa: ANN401
        # Past the log's own filter, which would hide it.
        os.write(2, b"asked with " + request.headers["authorization"].encode() + b"\n")
        return await identify(authenticator, request)

    _put(Authenticator, "identify", telling)


def forget_the_dead() -> None:
    """Nobody takes over the workflows of a server that died."""

    async def nothing(*_: object, **__: object) -> None:
        """Take over nothing."""

    _put(Engine, "take_over", nothing)


def _put(owner: object, name: str, value: object) -> None:
    if not hasattr(owner, name):
        raise AttributeError(f"{owner} has no {name} to break")
    setattr(owner, name, value)


BROKEN: Final[Mapping[str, Callable[[], None]]] = MappingProxyType(
    {
        function.__name__: function
        for function in (
            acknowledge_before_commit,
            create_again,
            bill_afterwards,
            leave_orphans,
            log_keys,
            forget_the_dead,
        )
    }
)
