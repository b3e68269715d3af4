"""The log shows every change of it that was not made by the store."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.fake_clock import START
from tests.store.tenancy import ACME, AT_ACME, MANY, RIVAL, by, rows

from penstock.store import tables
from penstock.store.audit import Verdict
from penstock.store.location import Location
from penstock.store.store import Store

LENGTH = 12
C = tables.audit.c

TRIGGERS = {
    "sqlite": ["DROP TRIGGER audit_keeps_rows", "DROP TRIGGER audit_drops_nothing"],
    "postgresql": ["DROP TRIGGER audit_keeps_rows ON audit"],
}


@pytest.fixture
async def log(store: Store) -> Store:
    """A store with a chain of twelve rows in one organisation and of one in another."""
    for number in range(LENGTH):
        await store.audit.refused(AT_ACME, START + number / 3, "key.create", f"k{number}", "nope")
    await store.audit.refused(by("rival-user", RIVAL), START, "key.create", "k", "nope")
    return store


@pytest.fixture
async def forger(log: Store) -> AsyncIterator[AsyncConnection]:
    """Somebody who has the whole database in his hands, but not the key."""
    async with log._engine.begin() as connection:
        for statement in TRIGGERS[connection.dialect.name]:
            await connection.execute(sa.text(statement))
    async with log._engine.connect() as connection:
        yield connection


async def broken_at(store: Store) -> int | None:
    """The first row that is not as it was written."""
    verdict = await store.audit.verify(ACME)
    assert (await store.audit.verify(RIVAL)).broken_at is None
    return verdict.broken_at


async def test_an_untouched_log_is_whole(log: Store) -> None:
    """All rows are counted, and the head is the hash of the newest one."""
    (newest,) = await log.audit.page(ACME, None, 1)
    assert await log.audit.verify(ACME) == Verdict(rows=LENGTH, head=newest.hash)


async def test_an_empty_log_is_whole(store: Store) -> None:
    """Nothing was done, so nothing is missing."""
    assert await store.audit.verify(ACME) == Verdict(rows=0, head="")


async def test_rows_are_numbered_without_gaps(store: Store) -> None:
    """Writers who come at once wait for each other; nobody's row is lost."""
    await asyncio.gather(
        *(store.audit.refused(AT_ACME, START, "key.create", f"k{n}", "nope") for n in range(20))
    )
    found = await rows(store, ACME)
    assert [row.number for row in found] == list(range(1, 21))
    assert {row.object for row in found} == {f"k{n}" for n in range(20)}


async def test_the_database_refuses_to_change_rows(log: Store) -> None:
    """Short of dropping the triggers, nobody edits or deletes a row."""
    for statement in (tables.audit.update().values(result="done"), tables.audit.delete()):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"):
            async with log._engine.begin() as connection:
                await connection.execute(statement)
    assert await broken_at(log) is None


@pytest.mark.parametrize("column", [c.name for c in tables.audit.c if c.name != "org_id"])
async def test_an_edited_row_is_found(log: Store, forger: AsyncConnection, column: str) -> None:
    """Whichever column of it was changed."""
    change = {"number": 99, "at": START + 0.001}.get(column, "x")
    await forger.execute(
        tables.audit.update().where(C.org_id == ACME, C.number == 7).values({column: change})
    )
    await forger.commit()
    assert await broken_at(log) == 7


async def test_a_deleted_row_is_found(log: Store, forger: AsyncConnection) -> None:
    """Also when those behind it are numbered anew."""
    await forger.execute(tables.audit.delete().where(C.org_id == ACME, C.number == 5))
    await forger.commit()
    assert await broken_at(log) == 5
    for number in range(6, LENGTH + 1):
        mine = tables.audit.update().where(C.org_id == ACME, C.number == number)
        await forger.execute(mine.values(number=number - 1))
    await forger.commit()
    assert await broken_at(log) == 5


@pytest.mark.parametrize("number", [1, 6, LENGTH + 1])
async def test_an_inserted_row_is_found(log: Store, forger: AsyncConnection, number: int) -> None:
    """A row that somebody else wrote, at the beginning, in the middle or at the end."""
    (copied,) = await log.audit.page(ACME, 2, 1)
    for moved in range(LENGTH, number - 1, -1):
        mine = tables.audit.update().where(C.org_id == ACME, C.number == moved)
        await forger.execute(mine.values(number=moved + 1))
    row = msgspec.structs.asdict(msgspec.structs.replace(copied, number=number, result="done"))
    await forger.execute(tables.audit.insert().values(**row))
    await forger.commit()
    assert await broken_at(log) == number


async def test_rows_in_another_order_are_found(log: Store, forger: AsyncConnection) -> None:
    """Two rows that changed places, each with its own hash."""
    for old, new in ((3, 99), (9, 3), (99, 9)):
        mine = tables.audit.update().where(C.org_id == ACME, C.number == old)
        await forger.execute(mine.values(number=new))
    await forger.commit()
    assert await broken_at(log) == 3


async def test_rows_of_another_organisation_do_not_fit(log: Store, forger: AsyncConnection) -> None:
    """A row that was moved into another chain is found in it."""
    await forger.execute(tables.audit.delete().where(C.org_id == ACME, C.number == 1))
    (foreign,) = await log.audit.page(RIVAL, None, 1)
    row = {**msgspec.structs.asdict(foreign), "org_id": ACME}
    await forger.execute(tables.audit.insert().values(**row))
    await forger.commit()
    assert await broken_at(log) == 1


@pytest.mark.usefixtures("log")
async def test_a_log_of_another_key_is_broken(location: Location) -> None:
    """Who works out all hashes again needs the key of the server."""
    other = Store.open(location, b"another key")
    assert (await other.audit.verify(ACME)).broken_at == 1
    await other.close()


async def test_rows_cut_off_at_the_end_show_by_a_head_seen_before(
    log: Store, forger: AsyncConnection
) -> None:
    """The rest of the chain is whole in itself; who kept its head elsewhere sees the loss."""
    seen = (LENGTH, (await log.audit.verify(ACME)).head)
    assert (await log.audit.verify(ACME, seen)).broken_at is None
    await log.audit.refused(AT_ACME, START, "key.create", "k", "nope")
    assert (await log.audit.verify(ACME, seen)).broken_at is None
    await forger.execute(tables.audit.delete().where(C.org_id == ACME, C.number > LENGTH - 2))
    await forger.commit()
    assert (await log.audit.verify(ACME)).broken_at is None
    assert (await log.audit.verify(ACME, seen)).broken_at == LENGTH - 1
    assert (await log.audit.verify(ACME, (4, "0" * 64))).broken_at == 4


async def test_the_log_is_read_newest_first(log: Store) -> None:
    """By pages, and by what was done."""
    first = await log.audit.page(ACME, None, 5)
    second = await log.audit.page(ACME, first[-1].number, MANY)
    assert [row.number for row in (*first, *second)] == list(range(LENGTH, 0, -1))
    await log.audit.refused(AT_ACME, START, "user.add", "u", "nope")
    await log.audit.refused(AT_ACME, START, "keyXcreate", "u", "nope")
    found = {
        action: len(await log.audit.page(ACME, None, MANY, action))
        for action in ("key.create", "key.", "user.", "k%.")
    }
    assert found == {"key.create": LENGTH, "key.": LENGTH, "user.": 1, "k%.": 0}
