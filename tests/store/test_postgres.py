"""Postgres: what is different there, and what happens when it goes away."""

import asyncio
import logging
import os
import re
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.fake_clock import START
from tests.postgres import PASSWORD, PATIENCE_SECONDS, PostgresServer
from tests.store.conftest import on_postgres

from penstock import store as store_package
from penstock.core.job import Job, OrgId
from penstock.errors import ConfigurationError, DatabaseUnavailable
from penstock.settings import build
from penstock.store import tables
from penstock.store.connections import RETRY_AFTER_SECONDS
from penstock.store.database import REVISION, migrate
from penstock.store.location import DATABASE_FILE, Postgres, location_of
from penstock.store.moves import insert
from penstock.store.postgres import IDLE_SECONDS
from penstock.store.store import Store, engine_database
from penstock.store.upgrade import upgrade

MakeJob = Callable[..., Job]
ACME = OrgId("acme")

# Every test of `store` in here is on Postgres.
on_a_server = pytest.mark.parametrize("location", ["postgres"], indirect=True)


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server that the tests of this file may stop."""
    with PostgresServer() as server:
        yield server


# -- where it is ---------------------------------------------------------------------------------


def test_without_a_url_the_database_is_a_file() -> None:
    """The default is SQLite in the data directory."""
    assert location_of(build({"data_dir": "here"})) == Path("here") / DATABASE_FILE


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_both_names_of_postgres_are_taken(scheme: str) -> None:
    """Vendors hand out either; what the driver is called is ours to know."""
    location = location_of(build({"database_url": f"{scheme}://me:pw@db.example:5433/jobs"}))
    assert isinstance(location, Postgres)
    assert location.url.render_as_string() == "postgresql+psycopg://me:***@db.example:5433/jobs"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://me:canary@db/jobs", "mysql://"),
        ("postgresql+asyncpg://me:canary@db/jobs", "postgresql+asyncpg://"),
        ("sqlite:///canary.db", "sqlite://"),
        ("canary", "not a URL"),
        ("postgresql://me:canary@db:port/jobs", "cannot be read"),
    ],
)
def test_other_databases_are_refused(url: str, says: str) -> None:
    """What is not Postgres is refused by name, and without a word of the rest."""
    with pytest.raises(ConfigurationError, match=re.escape(says)) as caught:
        location_of(build({"database_url": url}))
    assert "canary" not in f"{caught.value} {caught.value.hint}"


def test_a_location_hides_its_password() -> None:
    """Neither form of it shows a password, wherever it stands in the URL."""
    url = f"postgresql://me:{PASSWORD}@db/jobs?password={PASSWORD}&host=elsewhere"
    settings = build({"database_url": url})
    shown = f"{location_of(settings)!r} {location_of(settings)!s} {settings!r}"
    assert PASSWORD not in shown
    assert "jobs" in shown


def test_a_server_that_is_not_there_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """Opening says what could not be reached and what to look at, and never the password."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(DatabaseUnavailable, match="cannot be opened") as caught:
        Store.open(on_postgres(f"postgresql://me:{PASSWORD}@/jobs?host=/nowhere"))
    assert "PENSTOCK_DATABASE_URL" in str(caught.value.hint)
    assert PASSWORD not in f"{caught.value} {caplog.text}"


@on_a_server
async def test_errors_of_a_server_do_not_quote_values(store: Store) -> None:
    """The values of a failed statement stay out of its error, and so out of logs."""
    statement = tables.users.insert().values(id="u", name="canary-value", created_at=0.0)
    async with store._engine.begin() as connection:
        await connection.execute(statement)
    with pytest.raises(sa.exc.IntegrityError) as caught:
        async with store._engine.begin() as connection:
            await connection.execute(statement)
    assert "canary-value" not in str(caught.value)


# -- the schema ----------------------------------------------------------------------------------


def upgrade_to(url: str, revision: str) -> None:
    """Make a database as the version of this revision left it."""
    config = Config()
    folder = Path(store_package.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    with sa.create_engine(_driver(url), poolclass=sa.NullPool).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def _driver(url: str) -> sa.URL:
    return sa.make_url(url).set(drivername="postgresql+psycopg")


def described(url: str) -> list[tuple[object, ...]]:
    """Every column, index and constraint of a database, by name."""
    with psycopg.connect(url) as connection:
        columns = connection.execute(
            "SELECT table_name, column_name, data_type, is_nullable, column_default"
            " FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2"
        ).fetchall()
        indexes = connection.execute(
            "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
        ).fetchall()
        constraints = connection.execute(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)"
            " FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2"
        ).fetchall()
        revisions = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    return [*columns, *indexes, *constraints, *revisions]


def test_the_migrations_make_the_metadata_on_a_server(empty_postgres_url: str) -> None:
    """Nobody changed the tables without a migration, or the other way round."""
    with sa.create_engine(_driver(empty_postgres_url), poolclass=sa.NullPool).begin() as connection:
        upgrade(connection)
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


def test_a_new_database_equals_a_migrated_one_on_a_server(
    empty_postgres_url: str, postgres_url: str
) -> None:
    """Creating at once and running all migrations give the same, checks and defaults included."""
    upgrade_to(empty_postgres_url, "head")
    made = described(postgres_url)
    assert made == described(empty_postgres_url)
    assert made[-1] == (REVISION,)


def test_a_first_database_on_a_server_is_upgraded_with_its_rows(empty_postgres_url: str) -> None:
    """What revision 0001 wrote is there after the upgrade."""
    upgrade_to(empty_postgres_url, "0001")
    with psycopg.connect(empty_postgres_url) as connection:
        connection.execute("INSERT INTO orgs VALUES ('acme', 'acme', 0)")
    migrate(on_postgres(empty_postgres_url))
    with psycopg.connect(empty_postgres_url) as connection:
        assert connection.execute("SELECT id FROM orgs").fetchall() == [("acme",)]
    assert described(empty_postgres_url)[-1] == (REVISION,)


@pytest.mark.parametrize("begun", [None, "0001"])
def test_many_processes_may_start_at_once(empty_postgres_url: str, begun: str | None) -> None:
    """One makes or upgrades the schema and the others wait for it."""
    if begun is not None:
        upgrade_to(empty_postgres_url, begun)
    location = on_postgres(empty_postgres_url)
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait(timeout=20)
        migrate(location)

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(start) for _ in range(8)]:
            done.result()
    assert described(empty_postgres_url)[-1] == (REVISION,)


def test_a_newer_schema_on_a_server_is_refused(postgres_url: str) -> None:
    """A database of a later version is left alone, and named without its password."""
    with psycopg.connect(postgres_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigurationError, match="another version") as caught:
        migrate(on_postgres(postgres_url))
    assert PASSWORD not in str(caught.value)
    assert described(postgres_url)[-1] == ("9999",)


def test_others_tables_may_stand_beside_ours(empty_postgres_url: str) -> None:
    """A database on a server may be shared, unless somebody has a table of our name."""
    with psycopg.connect(empty_postgres_url) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    migrate(on_postgres(empty_postgres_url))
    with psycopg.connect(empty_postgres_url) as connection:
        connection.execute("DROP TABLE alembic_version")
    with pytest.raises(ConfigurationError, match="not one of Penstock's"):
        migrate(on_postgres(empty_postgres_url))


# -- how a connection behaves --------------------------------------------------------------------


async def test_every_session_is_durable_whatever_the_server_says(
    empty_postgres_url: str,
) -> None:
    """A database that was told not to wait for its disk is told otherwise by us, everywhere."""
    with psycopg.connect(empty_postgres_url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
        isolation = "default_transaction_isolation = serializable"
        connection.execute(f"ALTER DATABASE {name} SET {isolation}")
    location = on_postgres(empty_postgres_url)
    store, engine = Store.open(location), engine_database(location)
    names = ("synchronous_commit", "transaction_isolation", "lock_timeout")
    query = sa.select(*(sa.func.current_setting(name) for name in names))
    async with store._engine.begin() as connection:
        ours = tuple((await connection.execute(query)).one())
    with engine.begin() as sync_connection:
        its = tuple(sync_connection.execute(query).one())
    engine.dispose()
    await store.close()
    assert ours == ("on", "read committed", "10s")
    assert its == ("on", "read committed", "0")


def test_what_the_url_says_of_a_connection_is_kept(empty_postgres_url: str) -> None:
    """An operator's own connection parameters win over ours."""
    location = on_postgres(f"{empty_postgres_url}&application_name=mine")
    engine = engine_database(location)
    with engine.connect() as connection:
        name = connection.execute(sa.text("SHOW application_name")).scalar_one()
    engine.dispose()
    assert name == "mine"


# -- when it goes away ---------------------------------------------------------------------------


@pytest.fixture
async def away(own_server: PostgresServer) -> AsyncIterator[Store]:
    """A store on a server that may be stopped, with a tenant, and impatient."""
    url = own_server.url(own_server.create_database())
    opened = Store.open(on_postgres(url, database_seconds_max=2.0, database_connections_max=2))
    await opened.tenants.ensure_org(ACME, "acme", START)
    await opened.tenants.ensure_user("acme-user", ACME, "owner", START)
    yield opened
    await opened.close()


async def test_a_crash_costs_what_was_under_way_and_nothing_else(
    away: Store, own_server: PostgresServer, new_job: MakeJob
) -> None:
    """A transaction that the crash cuts fails by name; the next one works, on a new connection."""
    before, cut = new_job(), new_job()
    await away.jobs.add(before)

    async def crashing() -> None:
        async with away._engine.begin() as connection:
            await connection.execute(sa.select(1))
            await asyncio.to_thread(own_server.stop, "immediate")
            await connection.execute(sa.select(1))

    with pytest.raises(DatabaseUnavailable):
        await crashing()
    with pytest.raises(DatabaseUnavailable) as caught:
        await away.jobs.add(cut)
    await asyncio.to_thread(own_server.start)
    assert caught.value.retry_after_seconds == RETRY_AFTER_SECONDS
    assert await away.jobs.load(before.id) == before
    assert await away.jobs.load(cut.id) is None
    await away.jobs.add(cut)


async def test_a_server_that_is_down_is_said_at_once_and_by_everything(
    away: Store, own_server: PostgresServer, new_job: MakeJob, caplog: pytest.LogCaptureFixture
) -> None:
    """Reads, writes, heartbeats and the ping have one error; no log of it has the password."""
    await asyncio.to_thread(own_server.stop)
    started_at = time.monotonic()
    for asked in (
        away.ping(),
        away.jobs.open_jobs(),
        away.jobs.get(ACME, "req_x"),
        away.jobs.add(new_job()),
        away.jobs.is_ruled_out(new_job()),
        away.tenants.key("key00001"),
        away.workers.beat("me", START),
    ):
        with pytest.raises(DatabaseUnavailable):
            await asked
    seconds = time.monotonic() - started_at
    await asyncio.to_thread(own_server.start)
    assert seconds < 7 * 2.0
    assert "the database failed" in caplog.text
    assert PASSWORD not in caplog.text


async def test_a_server_that_hangs_is_given_up(away: Store, own_server: PostgresServer) -> None:
    """When every process of the server stands still, each call ends within its time."""
    await away.ping()
    pids = own_server.pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        loop = asyncio.get_running_loop()
        for _ in range(3):
            # On a connection that was good, and then on new ones.
            started_at = loop.time()
            with pytest.raises(DatabaseUnavailable):
                await away.ping()
            assert loop.time() - started_at < 2.0 + PATIENCE_SECONDS
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    await away.ping()


async def test_waiting_for_a_connection_has_an_end(away: Store) -> None:
    """When all connections are in use, the next one is refused by name instead of waiting on."""
    # Held without the bound that the store itself would have.
    unbounded = away._engine._engine
    async with unbounded.begin(), unbounded.begin():
        with pytest.raises(DatabaseUnavailable):
            await away.ping()
    await away.ping()


async def test_a_row_that_another_process_holds_is_not_waited_for_long(
    away: Store, new_job: MakeJob
) -> None:
    """A write behind a transaction that hangs fails by name, and works after its end."""
    job = new_job()
    await away.jobs.add(job)
    with psycopg.connect(_plain(away)) as holder:
        holder.execute("UPDATE jobs SET run = 9")
        with pytest.raises(DatabaseUnavailable, match="too long"):
            await away.jobs.note(job.id, START + 2, status_detail="late")
    await away.jobs.note(job.id, START + 3, status_detail="in time")
    noted = await away.jobs.load(job.id)
    assert noted is not None
    assert noted.status_detail == "in time"


async def test_a_frozen_process_lets_its_rows_go(away: Store, new_job: MakeJob) -> None:
    """A transaction in which nothing happens is ended by the server, and its rows are free."""
    job = new_job()
    await away.jobs.add(job)
    with psycopg.connect(_plain(away)) as frozen:
        frozen.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'")
        frozen.commit()
        frozen.execute("UPDATE jobs SET run = 9")
        # Waits on the server for the row, and so for the end of the frozen session.
        with psycopg.connect(_plain(away)) as other:
            other.execute("UPDATE jobs SET run = 1")
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            frozen.execute("SELECT 1")
    loaded = await away.jobs.load(job.id)
    assert loaded is not None
    assert loaded.run == 1


# -- commits whose outcome is unknown ------------------------------------------------------------


async def test_a_commit_that_is_on_its_way_is_waited_for(
    postgres_url: str, new_job: MakeJob
) -> None:
    """A row that nobody can see yet is not taken for absent; nor is it, once it is there."""
    store = Store.open(on_postgres(postgres_url))
    await store.tenants.ensure_org(ACME, "acme", START)
    await store.tenants.ensure_user("acme-user", ACME, "owner", START)
    job = new_job()
    async with store._engine.begin() as connection:
        await connection.execute(insert(job))
        assert await store.jobs.load(job.id) is None
        asking = asyncio.create_task(store.jobs.is_ruled_out(job))
        async with store._engine.connect() as watching:
            await _until_somebody_waits(watching)
        assert not asking.done()
    assert await asking is False
    assert await store.jobs.is_ruled_out(new_job()) is True
    await store.close()


async def _until_somebody_waits(watching: AsyncConnection) -> None:
    query = sa.text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    while (await watching.execute(query)).scalar_one() == 0:
        await watching.rollback()


def _plain(store: Store) -> str:
    url = store._engine.sync_engine.url.set(drivername="postgresql")
    return url.render_as_string(hide_password=False)
