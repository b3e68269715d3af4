import pytest
import sqlalchemy as sa
from tests.fake_clock import START
from tests.store.driver import look

from penstock.store import tables
from penstock.store.store import Store

on_sqlite = pytest.mark.parametrize("location", ["sqlite"], indirect=True)
on_postgres = pytest.mark.parametrize("location", ["postgres"], indirect=True)
YEAR = 365 * 86_400.0


async def known(store: Store) -> set[str]:
    """All executors."""
    return {row[0] for row in look(store, "SELECT executor_id FROM workers")}


async def grow_silent(store: Store, executor_id: str, seconds: float) -> None:
    """Put the last heartbeat of an executor back."""
    workers = tables.workers
    async with store._engine.begin() as connection:
        await connection.execute(
            sa.update(workers)
            .where(workers.c.executor_id == executor_id)
            .values(heartbeat_at=workers.c.heartbeat_at - seconds)
        )


async def test_a_silent_worker_is_found(store: Store) -> None:
    """Only those whose last heartbeat is older than asked for are silent."""
    await store.workers.join("a", START)
    await grow_silent(store, "a", 60.0)
    await store.workers.join("b", START)
    now = await store.workers.beat("b", START)
    assert await store.workers.silent_since(now - 30.0) == ["a"]


async def test_a_heartbeat_ends_the_silence(store: Store) -> None:
    """A worker that beats is alive again."""
    await store.workers.join("a", START)
    await grow_silent(store, "a", 60.0)
    now = await store.workers.beat("a", START)
    assert await store.workers.silent_since(now) == []


async def test_a_forgotten_worker_comes_back_by_beating(store: Store) -> None:
    """A frozen process that was declared lost is seen again when it wakes up."""
    await store.workers.join("a", START)
    await store.workers.forget("a")
    assert await known(store) == set()
    now = await store.workers.beat("a", START)
    assert await store.workers.silent_since(now + 1) == ["a"]


async def test_forgetting_twice_is_harmless(store: Store) -> None:
    """Two processes may clean up after the same dead one."""
    await store.workers.join("a", START)
    await store.workers.join("b", START)
    await store.workers.forget("a")
    await store.workers.forget("a")
    assert await known(store) == {"b"}


@on_sqlite
async def test_a_file_keeps_the_time_of_its_machine(store: Store) -> None:
    """On SQLite the time of a heartbeat is the one that was passed."""
    await store.workers.join("a", START)
    assert await store.workers.beat("a", START + 7.5) == START + 7.5
    assert await store.workers.silent_since(START + 7.5) == []
    assert await store.workers.silent_since(START + 7.6) == ["a"]


@on_postgres
@pytest.mark.parametrize("ahead", [-YEAR, YEAR])
async def test_a_server_has_one_clock_for_all(store: Store, ahead: float) -> None:
    """On Postgres a machine whose clock is wrong neither dies for the others nor kills them."""
    await store.workers.join("wrong", START + ahead)
    await store.workers.join("right", START)
    beats = [await store.workers.beat("wrong", START + ahead)]
    beats.append(await store.workers.beat("right", START))
    assert beats == sorted(beats)
    ((server,),) = look(store, "SELECT extract(epoch FROM clock_timestamp())::float8")
    assert server - 60.0 < beats[0] <= server
    assert await store.workers.silent_since(beats[-1] - 30.0) == []


async def test_one_that_left_seems_silent_for_long(store: Store) -> None:
    """It looks so at once, and nobody else does."""
    await store.workers.join("a", START)
    await store.workers.join("b", START)
    now = await store.workers.beat("b", START)
    await store.workers.leave("a", 450.0)
    assert await store.workers.silent_since(now - 440.0) == ["a"]
    assert await store.workers.silent_since(now - 460.0) == []
