"""The store on both databases: each test of this directory that takes `store` runs on both."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
from tests.fake_clock import START
from tests.postgres import PostgresServer

from penstock.core.job import OrgId
from penstock.settings import Settings, build
from penstock.store.location import Location, location_of
from penstock.store.store import Store


def on_postgres(url: str, **changes: object) -> Location:
    """Where a store of this URL is."""
    settings: Settings = build({"database_url": url, **changes})
    return location_of(settings)


async def _add_tenants(location: Location) -> None:
    opened = Store.open(location)
    for name in ("acme", "rival"):
        await opened.tenants.ensure_org(OrgId(name), name, START)
        await opened.tenants.ensure_user(f"{name}-user", OrgId(name), "owner", START)
    await opened.close()


@pytest.fixture(scope="session")
def sqlite_with_tenants(
    tmp_path_factory: pytest.TempPathFactory, template_database: bytes
) -> bytes:
    """The bytes of a SQLite file with the organisations `acme` and `rival`, and a user in each."""
    path = tmp_path_factory.mktemp("tenants") / "penstock.db"
    path.write_bytes(template_database)
    asyncio.run(_add_tenants(path))
    return path.read_bytes()


@pytest.fixture(scope="session")
def postgres_with_tenants(postgres_server: PostgresServer, postgres_template: str) -> str:
    """A database to copy, with the same."""
    name = postgres_server.create_database(postgres_template)
    asyncio.run(_add_tenants(on_postgres(postgres_server.url(name))))
    return name


@pytest.fixture(params=["sqlite", "postgres"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Location]:
    """A database of the test's own."""
    if request.param == "sqlite":
        path = tmp_path / "penstock.db"
        path.write_bytes(request.getfixturevalue("sqlite_with_tenants"))
        yield path
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.create_database(request.getfixturevalue("postgres_with_tenants"))
    yield on_postgres(server.url(name))
    server.drop_database(name)


@pytest.fixture
async def stores(location: Location) -> AsyncIterator[list[Store]]:
    """Four processes' views of one database, which wait for as long as a test may take."""
    if not isinstance(location, Path):
        location = msgspec.structs.replace(location, seconds_max=50.0)
    opened = [Store.open(location) for _ in range(4)]
    yield opened
    for one in opened:
        await one.close()


@pytest.fixture
async def store(location: Location) -> AsyncIterator[Store]:
    """A real store on it."""
    opened = Store.open(location)
    yield opened
    await opened.close()
