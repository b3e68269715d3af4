import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from penstock.core.job import Job
from penstock.errors import DatabaseUnavailable
from penstock.store.glance import Glance
from penstock.store.store import Store


@pytest.fixture
def location(tmp_path: Path, sqlite_with_tenants: bytes) -> Path:
    """A SQLite file, in place of the neighbours' two databases."""
    path = tmp_path / "penstock.db"
    path.write_bytes(sqlite_with_tenants)
    return path


async def test_a_row_is_seen_as_soon_as_it_is_committed(
    store: Store, new_job: Callable[..., Job]
) -> None:
    """Reading on the event loop shows what was committed right before, each time."""
    for _ in range(3):
        job = new_job()
        assert await store.jobs.get(job.org_id, job.id) is None
        await store.jobs.add(job)
        assert await store.jobs.get(job.org_id, job.id) == job


async def test_a_read_leaves_no_lock(
    store: Store, new_job: Callable[..., Job], tmp_path: Path
) -> None:
    """Another process can take the whole file right after a row was read."""
    await store.jobs.get(new_job().org_id, "nobody's")
    with sqlite3.connect(tmp_path / "penstock.db", timeout=0) as other:
        other.execute("BEGIN EXCLUSIVE")
        other.rollback()


async def test_a_locked_file_holds_up_nobody_else(
    store: Store, new_job: Callable[..., Job], tmp_path: Path
) -> None:
    """While a commit holds the file its reader waits and the event loop goes on."""
    job = new_job()
    await store.jobs.add(job)
    holder = sqlite3.connect(tmp_path / "penstock.db", isolation_level=None)
    holder.execute("PRAGMA locking_mode=NORMAL")
    holder.execute("BEGIN EXCLUSIVE")
    reading = asyncio.create_task(store.jobs.get(job.org_id, job.id))
    # The loop takes these turns although the reader cannot have its row.
    for _ in range(100):
        await asyncio.sleep(0)
    assert not reading.done()
    holder.rollback()
    holder.close()
    assert await reading == job


def test_a_locked_file_is_said_at_once(store: Store, tmp_path: Path) -> None:
    """A glance never waits for a lock; its caller goes the long way."""
    path = tmp_path / "penstock.db"
    glance = Glance(path)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sa.exc.OperationalError, match="locked"):
        glance.row(sa.select(sa.literal_column("id")).select_from(sa.text("jobs")))
    holder.close()
    glance.close()
    del store


async def test_a_broken_database_has_its_name(store: Store, tmp_path: Path) -> None:
    """What is wrong with the file is said by the long way, as for every other query."""
    path = tmp_path / "penstock.db"
    await store.close()
    path.unlink()
    path.mkdir()
    with pytest.raises(DatabaseUnavailable):
        await store.tenants.key("k")
