"""A transaction that is cancelled leaves no lock on a SQLite file."""

import asyncio
import gc
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fake_clock import START

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
