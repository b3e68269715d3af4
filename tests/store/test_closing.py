"""What is cancelled leaves no lock on a SQLite file, and no connection behind a closed store."""

import asyncio
import gc
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from tests.fake_clock import START

from penstock.store.closing import Closing
from penstock.store.location import Location
from penstock.store.store import Store

PATIENCE_SECONDS = 20.0


@pytest.fixture
def no_collector() -> Iterator[None]:
    """The garbage collector would hide what is forgotten."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("location", ["sqlite"], indirect=True)
async def test_a_cancelled_transaction_lets_the_file_go(store: Store, tmp_path: Path) -> None:
    """At whichever step it is cut, the next writer has its turn."""
    await store.workers.join("a", START)
    for turns in range(1, 25):
        task = asyncio.create_task(store.workers.beat("a", START + turns))
        # Wherever it is by then; each turn of the loop is a step of the driver's thread, or none.
        for _ in range(turns):
            await asyncio.to_thread(lambda: None)
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError | float)
        await asyncio.to_thread(write_elsewhere, tmp_path / "penstock.db")


def write_elsewhere(path: Path) -> None:
    """Take the lock of the file, for which a write in progress may be waited for."""
    other = sqlite3.connect(path, timeout=PATIENCE_SECONDS)
    with other:
        assert other.execute("UPDATE workers SET started_at = 2.0").rowcount == 1
    other.close()


@pytest.mark.usefixtures("no_collector")
async def test_nothing_is_open_when_a_store_is_closed(location: Location) -> None:
    """What cancelled tasks let go of is closed with the store, before its event loop can end."""
    for turns in range(1, 25):
        store = Store.open(location)
        tasks = [asyncio.create_task(store.workers.join(f"{n}", START)) for n in range(3)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        # A second cancel meets what the first one has set off.
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        opened = list(store._engine._leftovers._opened)
        await store.close()
        assert [one for one in opened if is_open(one)] == []


def is_open(one: object) -> bool:
    """Whether this is a driver's connection that is not closed, or whose thread goes on."""
    if isinstance(one, Closing):
        # It has said all that it had to say, and ends now.
        one._thread.join(PATIENCE_SECONDS)
        return one._thread.is_alive()
    return isinstance(one, psycopg.AsyncConnection) and not one.closed


async def test_what_somebody_still_holds_is_closed_with_the_store(location: Location) -> None:
    """The pool leaves connections that are in use to their users, who may never come back."""
    store = Store.open(location)
    is_held = asyncio.Event()

    async def hold() -> None:
        async with store._engine.connect() as connection:
            await connection.execute(sa.select(1))
            is_held.set()
            await asyncio.Event().wait()

    holder = asyncio.create_task(hold())
    await is_held.wait()
    opened = list(store._engine._leftovers._opened)
    assert len(opened) == 1
    await store.close()
    assert [one for one in opened if is_open(one)] == []
    holder.cancel()
    await asyncio.gather(holder, return_exceptions=True)


@pytest.mark.parametrize("location", ["sqlite"], indirect=True)
async def test_only_what_cannot_have_to_wait_is_done_on_the_event_loop(store: Store) -> None:
    """Statements of a write are; queries of readers are not, nor are those that may be long."""
    engine = store._engine
    opened = {
        "write": engine.begin(),
        "long write": engine.at_length().begin(),
        "read": engine.for_reading().connect(),
    }
    here = {}
    for name, opening in opened.items():
        async with opening as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert isinstance(driver, Closing)
            # Whoever executes the statement answers it.
            driver._conn.create_function("whose", 0, threading.get_ident)
            found = await connection.execute(sa.select(sa.func.whose()))
            here[name] = found.scalar_one() == threading.get_ident()
    assert here == {"write": True, "long write": False, "read": False}
