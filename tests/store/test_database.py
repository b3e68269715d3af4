import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from tests.store.driver import rows

from penstock import store as store_package
from penstock.errors import ConfigurationError
from penstock.store import tables
from penstock.store.database import (
    BUSY_TIMEOUT_MS,
    REVISION,
    journal_of,
    migrate,
    open_sqlite,
    prepare_connection,
    sqlite_url,
)
from penstock.store.leftovers import Leftovers
from penstock.store.store import Store
from penstock.store.upgrade import upgrade


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a database may be."""
    return tmp_path / "penstock.db"


def upgrade_from_nothing(path: Path) -> None:
    """Run every migration on an empty file."""
    engine = sa.create_engine(sqlite_url(path))
    with engine.begin() as connection:
        upgrade(connection)
    engine.dispose()


def test_the_migrations_make_the_metadata(path: Path) -> None:
    """Nobody changed the tables without a migration, or the other way round."""
    upgrade_from_nothing(path)
    engine = sa.create_engine(sqlite_url(path))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, tables.metadata) == []
    engine.dispose()


def test_the_migrations_make_the_constraints(path: Path) -> None:
    """Alembic compares no CHECKs, so the text of each is looked for in the migrated schema."""
    upgrade_from_nothing(path)
    (made,) = rows(path, "SELECT sql FROM sqlite_master WHERE name = 'jobs'")
    checks = [c for c in tables.jobs.constraints if isinstance(c, sa.CheckConstraint)]
    assert len(checks) == 3
    assert all(str(check.sqltext) in made[0] for check in checks)


def test_a_new_database_equals_a_migrated_one(path: Path, tmp_path: Path) -> None:
    """Creating at once and running all migrations give the same columns, indexes and revision."""
    migrated = tmp_path / "migrated.db"
    migrate(path)
    upgrade_from_nothing(migrated)
    for query in (
        (
            'SELECT t.name, c.name, c.type, c."notnull", c.dflt_value, c.pk FROM sqlite_master t'
            " JOIN pragma_table_info(t.name) c WHERE t.type = 'table' ORDER BY 1, 2"
        ),
        (
            "SELECT t.name, i.name, c.name FROM sqlite_master t JOIN pragma_index_list(t.name) i"
            " JOIN pragma_index_info(i.name) c WHERE t.type = 'table' ORDER BY 1, 2, c.seqno"
        ),
        "SELECT version_num FROM alembic_version",
    ):
        assert rows(path, query) == rows(migrated, query)


def make_at(path: Path, revision: str) -> None:
    """Make a database as the version of this revision left it."""
    engine = sa.create_engine(sqlite_url(path))
    config = Config()
    folder = Path(store_package.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def test_a_first_database_is_upgraded_with_its_rows(path: Path) -> None:
    """What revision 0001 wrote is there after the upgrade, with every index of today."""
    make_at(path, "0001")
    indexes = "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    before = set(rows(path, indexes))
    rows(path, "INSERT INTO orgs VALUES ('acme', 'acme', 0)")
    migrate(path)
    assert rows(path, "SELECT id FROM orgs") == [("acme",)]
    assert rows(path, "SELECT version_num FROM alembic_version") == [(REVISION,)]
    today = {(index.name,) for table in tables.metadata.tables.values() for index in table.indexes}
    assert before < today
    assert set(rows(path, indexes)) == today


def test_a_migrated_database_is_left_as_it_is(path: Path) -> None:
    """What the migrations made is at this version already."""
    upgrade_from_nothing(path)
    migrate(path)
    assert rows(path, "SELECT version_num FROM alembic_version") == [(REVISION,)]


def test_a_database_of_something_else_is_refused(path: Path) -> None:
    """A file with strange tables is left alone."""
    rows(path, "CREATE TABLE recipes (name TEXT)")
    with pytest.raises(ConfigurationError, match="not one of Penstock's"):
        migrate(path)


def test_migrating_twice_is_the_same_as_once(path: Path) -> None:
    """A second start finds nothing to do."""
    migrate(path)
    before = rows(path, "SELECT sql FROM sqlite_master ORDER BY name")
    migrate(path)
    assert rows(path, "SELECT sql FROM sqlite_master ORDER BY name") == before


def test_a_newer_schema_is_refused(path: Path) -> None:
    """A database of a later version is left alone, with a sentence that names the way out."""
    migrate(path)
    rows(path, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigurationError, match="another version") as caught:
        migrate(path)
    assert "newer one" in str(caught.value.hint)
    assert rows(path, "SELECT version_num FROM alembic_version") == [("9999",)]


@pytest.mark.parametrize(
    ("version", "journal"),
    [
        ((3, 37, 0), "delete"),
        ((3, 51, 2), "delete"),
        ((3, 51, 3), "wal"),
        ((3, 52, 0), "wal"),
        ((4, 0, 0), "wal"),
    ],
)
def test_wal_is_used_only_where_it_is_sound(version: tuple[int, ...], journal: str) -> None:
    """SQLite up to 3.51.2 can corrupt a WAL database, so it gets a rollback journal."""
    assert journal_of(version)[0] == journal


@pytest.mark.parametrize("version", [(3, 37, 0), (3, 51, 2), (3, 51, 3), (4, 0, 0)])
def test_no_commit_is_left_to_the_page_cache(version: tuple[int, ...]) -> None:
    """Whatever the version, `synchronous` is FULL at least."""
    assert journal_of(version)[1] in {"FULL", "EXTRA"}


def test_every_connection_gets_its_pragmas(path: Path) -> None:
    """The pragmas are really in force, because most of them live no longer than a connection."""
    connection = sqlite3.connect(path)
    prepare_connection(connection)
    names = ("busy_timeout", "journal_mode", "synchronous", "foreign_keys")
    found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]
    connection.close()
    journal, synchronous = journal_of(sqlite3.sqlite_version_info)
    assert found == [BUSY_TIMEOUT_MS, journal, {"FULL": 2, "EXTRA": 3}[synchronous], 1]


async def test_errors_do_not_quote_values(path: Path) -> None:
    """The values of a failed statement stay out of its error, and so out of logs."""
    migrate(path)
    engine = open_sqlite(path, Leftovers())
    statement = tables.users.insert().values(id="u", name="canary-value", created_at=0.0)
    async with engine.begin() as connection:
        await connection.execute(statement)
        with pytest.raises(sa.exc.IntegrityError) as caught:
            await connection.execute(statement)
    await engine.dispose()
    assert "canary-value" not in str(caught.value)


async def test_two_writers_wait_for_each_other(path: Path) -> None:
    """A transaction that reads and then writes takes its lock at the beginning."""
    migrate(path)
    engine = open_sqlite(path, Leftovers())
    async with engine.begin():
        other = sqlite3.connect(path, timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()
    await engine.dispose()


async def test_ping_tells_a_good_database(path: Path) -> None:
    """A database that answers raises nothing."""
    store = Store.open(path)
    await store.ping()
    await store.close()
