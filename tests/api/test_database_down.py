"""The API while its database, a real Postgres, is down: nothing is promised, nothing is lost."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest
from tests.api.driver import BASE, Api, Scripted, files, job_ids, lines, submission
from tests.fake_clock import START, FakeClock
from tests.postgres import PostgresServer

from penstock.blobs.spool import Spool
from penstock.core.job import OrgId
from penstock.core.limits import Limits
from penstock.settings import build
from penstock.store.location import location_of
from penstock.store.store import Store

PROMISED_SECONDS = 5.0


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server that the tests of this file may stop."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
async def troubled(own_server: PostgresServer) -> AsyncIterator[Store]:
    """A store on that server, with a tenant."""
    store = Store.open(
        location_of(build({"database_url": own_server.url(own_server.create_database())}))
    )
    await store.tenants.ensure_org(OrgId("acme"), "acme", START)
    await store.tenants.ensure_user("acme-user", OrgId("acme"), "owner", START)
    store.jobs = Scripted(store._engine, store.audit)
    yield store
    await store.close()


@pytest.fixture
def api(troubled: Store, spool: Spool, clock: FakeClock) -> Api:
    """The API over it."""
    return Api(troubled, spool, clock, Limits())


async def test_while_the_database_is_down_nothing_is_promised(
    own_server: PostgresServer, api: Api, acme: httpx2.AsyncClient, tmp_path: Path
) -> None:
    """Requests get 503 in time and when to come back; the process lives; then all works again."""
    asked = (
        ("POST", f"{BASE}/requests", submission(lines(3))),
        ("GET", f"{BASE}/requests", None),
        ("GET", f"{BASE}/requests/req_x", None),
        ("POST", f"{BASE}/requests/req_x/cancel", None),
    )
    await asyncio.to_thread(own_server.stop)
    answers = []
    for method, path, body in asked:
        async with asyncio.timeout(PROMISED_SECONDS):
            answers.append(await acme.request(method, path, json=body))
    ready, alive = await acme.get("/readyz"), await acme.get("/healthz")
    await asyncio.to_thread(own_server.start)
    assert [answer.status_code for answer in answers] == [503] * len(asked)
    assert {answer.json()["code"] for answer in answers} == {"database_unavailable"}
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
    assert (ready.status_code, ready.json()["checks"]["database"]) == (503, "does not answer")
    assert alive.status_code == 200
    assert files(tmp_path / "data") == []
    assert (await acme.get("/readyz")).status_code == 200
    assert (await acme.request(*asked[0][:2], json=asked[0][2])).status_code == 200
    assert api.accepted == 1


async def test_a_database_that_goes_down_before_the_commit_leaves_the_bytes(
    own_server: PostgresServer, api: Api, acme: httpx2.AsyncClient, tmp_path: Path
) -> None:
    """While nobody can say whether the row is there, its bytes stay; the answer is no promise."""

    async def crash() -> None:
        await asyncio.to_thread(own_server.stop, "immediate")

    assert isinstance(api.store.jobs, Scripted)
    api.store.jobs.before = crash
    answer = await acme.post(f"{BASE}/requests", json=submission(lines(3)))
    await asyncio.to_thread(own_server.start)
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert files(tmp_path / "data")
    assert await job_ids(api.store) == set()
    assert api.accepted == 0


async def test_a_database_that_goes_down_after_the_commit_has_all_of_the_job(
    own_server: PostgresServer, api: Api, acme: httpx2.AsyncClient, tmp_path: Path
) -> None:
    """The answer is no promise, and yet row and bytes are there, so the job runs and is whole."""

    async def restart_and_fail() -> None:
        await asyncio.to_thread(own_server.stop, "immediate")
        await asyncio.to_thread(own_server.start)
        raise OSError("the answer of the commit was lost")

    assert isinstance(api.store.jobs, Scripted)
    api.store.jobs.after = restart_and_fail
    answer = await acme.post(f"{BASE}/requests", json=submission(lines(3)))
    assert answer.status_code in {500, 503}
    (job_id,) = await job_ids(api.store)
    assert any(job_id in name for name in files(tmp_path / "data"))
