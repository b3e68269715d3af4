"""The ledger on both databases: entries are added, and nothing else ever happens to them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.store.conftest import on_postgres
from tests.store.driver import bring, look

from penstock.core.job import Job
from penstock.core.state import JobState
from penstock.store import tables
from penstock.store.database import migrate, sqlite_url
from penstock.store.postgres import open_for_migrations
from penstock.store.store import Store
from penstock.store.upgrade import upgrade

MakeJob = Callable[..., Job]
ALL = "SELECT * FROM ledger ORDER BY id"


@pytest.fixture
async def billed(store: Store, new_job: MakeJob) -> Store:
    """A store in which one job has ended and is billed."""
    await bring(store, new_job(), JobState.SUCCEEDED)
    return store


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger SET micro_dollars = 0",
        "UPDATE ledger SET micro_dollars = micro_dollars",
        "UPDATE ledger SET job_id = job_id WHERE lines > 0",
        "DELETE FROM ledger",
        "DELETE FROM ledger WHERE kind = 'usage'",
    ],
)
async def test_an_entry_stays_as_it_was_written(billed: Store, statement: str) -> None:
    """The database refuses to change or remove an entry, whoever asks and for whatever reason."""
    before = look(billed, ALL)
    with pytest.raises(Exception, match="the ledger is append-only"):
        look(billed, statement)
    assert look(billed, ALL) == before != []


async def test_the_whole_ledger_cannot_be_emptied(billed: Store) -> None:
    """Postgres has a way around the triggers on rows, and refuses that one, too."""
    if billed._engine.sync_engine.dialect.name == "postgresql":
        with pytest.raises(Exception, match="the ledger is append-only"):
            look(billed, "TRUNCATE ledger")
    assert len(look(billed, ALL)) == 1


@pytest.mark.parametrize("column", ["lines", "prompt_tokens", "output_tokens", "micro_dollars"])
async def test_no_entry_is_negative(billed: Store, column: str) -> None:
    """A bill that gives money back is a mistake, and the database says so."""
    values = dict.fromkeys(("lines", "prompt_tokens", "output_tokens", "micro_dollars"), 0)
    names, amounts = zip(*(values | {column: -1}).items(), strict=True)
    (job_id,) = look(billed, "SELECT job_id FROM ledger")[0]
    insert = (
        f"INSERT INTO ledger (org_id, job_id, attempt, round, kind, at, {', '.join(names)})"  # noqa: S608  # literals above
        " VALUES ('acme', ?, 7, 7, 'usage', 0, ?, ?, ?, ?)"
    )
    with pytest.raises(Exception, match="ck_ledger_never_negative"):
        look(billed, insert, job_id, *amounts)
    look(billed, insert, job_id, 0, 0, 0, None)
    assert len(look(billed, ALL)) == 2


def test_the_migrations_make_the_same_ledger(tmp_path: Path) -> None:
    """A database that was upgraded refuses what a new one refuses (SQLite)."""
    made, upgraded = tmp_path / "made.db", tmp_path / "upgraded.db"
    migrate(made)
    engines = [sa.create_engine(sqlite_url(path)) for path in (made, upgraded)]
    with engines[1].begin() as connection:
        upgrade(connection)
    found = []
    for engine in engines:
        with engine.connect() as connection:
            query = "SELECT name, sql FROM sqlite_master WHERE tbl_name = 'ledger' ORDER BY name"
            found.append({name: sql for name, sql in connection.exec_driver_sql(query) if sql})
        engine.dispose()
    assert set(found[0]) == {
        "ledger",
        "ix_ledger_org_at",
        "ledger_keeps_entries",
        "ledger_drops_nothing",
    }
    table = found[0].pop("ledger"), found[1].pop("ledger")
    assert found[0] == found[1]
    checks = [one for one in tables.ledger.constraints if isinstance(one, sa.CheckConstraint)]
    assert checks
    for check in checks:
        assert all(f"CONSTRAINT {check.name} CHECK ({check.sqltext})" in text for text in table)


def test_the_migrations_make_the_same_ledger_on_postgres(
    empty_postgres_url: str, postgres_url: str
) -> None:
    """A database that was upgraded refuses what a new one refuses (Postgres)."""
    found = []
    for url in (empty_postgres_url, postgres_url):
        location = on_postgres(url)
        assert not isinstance(location, Path)
        engine = open_for_migrations(location)
        with engine.begin() as connection:
            if url == empty_postgres_url:
                upgrade(connection)
            triggers = connection.exec_driver_sql(
                "SELECT pg_get_triggerdef(oid), pg_get_functiondef(tgfoid) FROM pg_trigger"
                " WHERE tgrelid = 'ledger'::regclass AND NOT tgisinternal"
            )
            checks = connection.exec_driver_sql(
                "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
                " WHERE conrelid = 'ledger'::regclass AND contype = 'c'"
            )
            found.append([sorted(map(tuple, triggers)), sorted(map(tuple, checks))])
        engine.dispose()
    assert found[0] == found[1]
    assert [len(one) for one in found[0]] == [1, 1]
