"""What most tests need: a clock that stands, a real database, a real spool, a job."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from tests.crash.hook import Hook
from tests.fake_clock import START, FakeClock
from tests.postgres import empty_postgres_url, postgres_server, postgres_template, postgres_url

from penstock.blobs.spool import Spool
from penstock.core.job import Job, OrgId, new_job_id
from penstock.core.state import JobState
from penstock.store.store import Store

# Fixtures for every test below this directory.
__all__ = ["empty_postgres_url", "postgres_server", "postgres_template", "postgres_url"]


@pytest.fixture
def clock() -> FakeClock:
    """A clock at the start of the test's day."""
    return FakeClock()


@pytest.fixture(scope="session")
def template_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a migrated, empty database: migrating once a session saves most of a test."""
    path = tmp_path_factory.mktemp("template") / "penstock.db"
    asyncio.run(Store.open(path).close())
    return path.read_bytes()


@pytest.fixture
async def store(tmp_path: Path, template_database: bytes) -> AsyncIterator[Store]:
    """A real store with the organisations `acme` and `rival`, and a user in each."""
    path = tmp_path / "penstock.db"
    path.write_bytes(template_database)
    opened = Store.open(path)
    for name in ("acme", "rival"):
        await opened.tenants.ensure_org(OrgId(name), name, START)
        await opened.tenants.ensure_user(f"{name}-user", OrgId(name), "owner", START)
    yield opened
    await opened.close()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """A real spool."""
    return Spool(tmp_path / "data")


@pytest.fixture
def new_job() -> Callable[..., Job]:
    """Make a job of `acme` with any fields changed."""

    def make(**changes: object) -> Job:
        job = Job(
            id=new_job_id(),
            org_id=OrgId("acme"),
            user_id="acme-user",
            key_id="testkey1",
            state=JobState.ACCEPTED,
            model="gemini-3-flash-preview",
            payload={"model": "gemini-3-flash-preview"},
            line_count=3,
            input_bytes=300,
            input_sha256="0" * 64,
            created_at=START,
            updated_at=START,
        )
        return msgspec.structs.replace(job, **changes)

    return make


@pytest.fixture
def hook() -> Iterator[Hook]:
    """A receiver of webhooks that remembers."""
    made = Hook()
    yield made
    made.close()
