"""The world of the steps, fresh for each test."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.emulator.driver import Emulator, MovableClock
from tests.emulator.driver import settings as emulator_settings
from tests.fake_clock import START
from tests.lifecycle.fakes import World

from penstock.blobs.spool import Spool
from penstock.core.job import Job, OrgId
from penstock.emulator.server import running
from penstock.store.store import Store


def _do_not_sync(connection: Any, _record: object) -> None:  # noqa: ANN401  # a DB-API connection
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=OFF")
    cursor.close()


@pytest.fixture
async def quick_store(tmp_path: Path, template_database: bytes) -> AsyncIterator[Store]:
    """A real store that does not wait for the disk: the steps write often, nobody cuts power."""
    path = tmp_path / "quick.db"
    path.write_bytes(template_database)
    opened = Store.open(path)
    sa.event.listen(opened._engine.sync_engine, "connect", _do_not_sync)
    await opened.tenants.ensure_org(OrgId("acme"), "acme", START)
    await opened.tenants.ensure_user("acme-user", OrgId("acme"), "owner", START)
    yield opened
    await opened.close()


@pytest.fixture
def world(quick_store: Store, spool: Spool, new_job: Callable[..., Job]) -> World:
    """A real store and spool, a fake bucket and provider, and a clock with a timetable."""
    return World(quick_store.jobs, spool, new_job)


@pytest.fixture
def emulator(world: World, tmp_path: Path) -> Iterator[Emulator]:
    """A real emulator that lives by the clock of the steps."""
    given = emulator_settings(tmp_path / "emulator")
    given.data_dir.parent.mkdir()
    with running(given, clock=world.clock.now) as url:
        made = Emulator(url, MovableClock(), tmp_path / "emulator" / "events.jsonl")
        with made.http:
            yield made
