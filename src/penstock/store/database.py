"""Opening the database safely.

SQLite 3.7.0 to 3.51.2 can corrupt a WAL database when several connections write and checkpoint
(reference/reliability.md 0.4), which is exactly what we do. So WAL is used only from 3.51.3 on and
an old library gets a rollback journal: slower, and an honest fallback. `synchronous` is never below
FULL, because an answer of 200 promises that the row survives a power cut.
"""

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import aiosqlite
import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from penstock.clock import SystemClock
from penstock.errors import ConfigurationError, DatabaseUnavailable
from penstock.fault import fault
from penstock.store.closing import BEGIN_READING, BEGIN_WRITING, new_connection
from penstock.store.leftovers import Leftovers
from penstock.store.location import Location
from penstock.store.postgres import open_for_migrations
from penstock.store.tables import metadata

T = TypeVar("T")

WAL_SAFE_SINCE: Final = (3, 51, 3)
REVISION: Final = "0008"
"""The newest migration in `migrations/versions`."""

MIGRATION_LOCK: Final = 0x50656E73746F636B
"""The number of the lock under which one process migrates Postgres: "Penstock" in ASCII."""

VERSION_TABLE: Final = sa.Table(
    "alembic_version",
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
"""Alembic's own table, as Alembic makes it."""

SUBSEC_SINCE: Final = (3, 42, 0)
BUSY_TIMEOUT_MS: Final = 30_000
"""Longer than any transaction of ours; a shorter one turns a slow disk into errors."""


def journal_of(version: tuple[int, ...]) -> tuple[str, str]:
    """Return (journal_mode, synchronous) that are safe on this SQLite version."""
    # EXTRA also syncs the directory after the journal is deleted; without it a power cut can bring
    # a committed transaction's journal back and roll it back.
    return ("wal", "FULL") if version >= WAL_SAFE_SINCE else ("delete", "EXTRA")


def typed(row: Mapping[Any, Any], kind: type[T]) -> T:
    """Return a result row as a Struct; SQLAlchemy's column names are not plain strings."""
    return msgspec.convert({str(name): value for name, value in row.items()}, kind)


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file for the synchronous driver."""
    return f"sqlite:///{path}"


def prepare_connection(connection: Any, _record: object = None) -> None:  # noqa: ANN401
    """Set the pragmas of one new SQLite connection (any DB-API connection object)."""
    journal, synchronous = journal_of(sqlite3.sqlite_version_info)
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        f"journal_mode={journal}",
        f"synchronous={synchronous}",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def supply_subsec(connection: Any) -> None:  # noqa: ANN401
    """Give one old SQLite connection the `unixepoch('subsec')` of 3.42.

    DBOS assumes that a Python of 3.12 or newer brings such a SQLite; a distribution's need not, and
    then its tables would get NULL for the time and the server would not start.
    """
    if sqlite3.sqlite_version_info < SUBSEC_SINCE:
        clock = SystemClock()
        connection.create_function("unixepoch", 1, lambda _subsec: clock.now())


def open_sqlite(path: Path, leftovers: Leftovers) -> AsyncEngine:
    """Return an engine on a SQLite file; writes begin IMMEDIATE so that they queue, not fail."""

    async def connect() -> aiosqlite.Connection:
        connection = new_connection(path)
        leftovers.add(connection)
        return await connection

    engine = create_async_engine(
        f"sqlite+aiosqlite:///{path}",
        async_creator=connect,
        pool_size=4,
        max_overflow=4,
        # Errors quote their statement; its values (digests, payloads) stay out of logs.
        hide_parameters=True,
    )

    @sa.event.listens_for(engine.sync_engine, "connect")
    def _on_connect(connection: Any, record: object) -> None:  # noqa: ANN401
        # The driver's own implicit BEGIN is DEFERRED: two readers that both want to write would
        # fail at once with "database is locked" instead of waiting for their turn.
        connection.isolation_level = None
        prepare_connection(connection, record)

    @sa.event.listens_for(engine.sync_engine, "begin")
    def _on_begin(connection: sa.Connection) -> None:
        options = connection.get_execution_options()
        driver: Any = connection.connection.driver_connection
        driver.is_brief = not options.get("penstock_at_length", False)
        readonly = options.get("penstock_readonly", False)
        connection.exec_driver_sql(BEGIN_READING if readonly else BEGIN_WRITING)

    return engine


def open_engine_sqlite(path: Path) -> sa.Engine:
    """Return what the workflow engine works on, in a file of its own."""
    engine = sa.create_engine(sqlite_url(path), isolation_level="SERIALIZABLE")

    @sa.event.listens_for(engine, "connect")
    def _on_connect(connection: Any, record: object) -> None:  # noqa: ANN401
        # IMMEDIATE makes writers wait for each other; DEFERRED ones would fail on upgrade of the
        # lock.
        connection.isolation_level = "IMMEDIATE"
        prepare_connection(connection, record)
        supply_subsec(connection)

    return engine


def migrate(location: Location) -> None:
    """Bring the schema to this version; a newer schema is refused.

    Any number of processes may do it at once: one works and the others wait for it.
    """
    if isinstance(location, Path):
        engine = sa.create_engine(sqlite_url(location), hide_parameters=True)
        sa.event.listen(engine, "connect", _on_migration)
        sa.event.listen(engine, "begin", _begin_at_once)
        name = location.name
    else:
        engine = open_for_migrations(location)
        name = str(location)
    try:
        with engine.begin() as connection:
            _migrate(connection, name)
    except sa.exc.OperationalError as error:
        raise DatabaseUnavailable(
            f"The database {name} cannot be opened: {error.orig}",
            hint="Look at PENSTOCK_DATABASE_URL or PENSTOCK_DATA_DIR, and whether Postgres runs.",
        ) from error
    finally:
        engine.dispose()


def _migrate(connection: sa.Connection, name: str) -> None:
    if connection.dialect.name != "sqlite":
        # Held until the commit. Postgres undoes tables with their transaction, so whoever waited
        # sees all of it or nothing.
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
    names = set(sa.inspect(connection).get_table_names())
    # A file is ours alone; a database on a server may have others' tables beside ours.
    others = names if connection.dialect.name == "sqlite" else names & set(metadata.tables)
    if VERSION_TABLE.name in names:
        if _revision(connection) != REVISION:
            _upgrade(connection, name)
    elif others:
        raise ConfigurationError(
            f"The database {name} is not one of Penstock's.",
            hint="Name another data directory or another database.",
        )
    else:
        _create(connection)


def _on_migration(connection: Any, record: object) -> None:  # noqa: ANN401
    # Python's driver begins a transaction before an INSERT, but not before a CREATE TABLE: each
    # table would be committed alone, and a server killed in between could never start again.
    connection.isolation_level = None
    prepare_connection(connection, record)


def _begin_at_once(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _create(connection: sa.Connection) -> None:
    """Make a new database at once; a test holds this equal to the sum of all migrations."""
    metadata.create_all(connection)
    fault("migrate.between_steps")
    VERSION_TABLE.create(connection)
    connection.execute(VERSION_TABLE.insert().values(version_num=REVISION))


def _revision(connection: sa.Connection) -> str | None:
    return connection.execute(sa.select(VERSION_TABLE.c.version_num)).scalar_one_or_none()


def _upgrade(connection: sa.Connection, name: str) -> None:
    from alembic.util import CommandError  # noqa: PLC0415  # lazy: 10 MB that only upgrades need

    from penstock.store.upgrade import upgrade  # noqa: PLC0415  # lazy: it imports alembic

    try:
        upgrade(connection)
        fault("migrate.upgraded")
    except CommandError as error:
        raise ConfigurationError(
            f"The database {name} was written by another version of Penstock: {error}",
            hint="Start the version that wrote it, or a newer one.",
        ) from error
