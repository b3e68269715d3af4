import asyncio
import shutil
import threading
from pathlib import Path

import httpx2
import pytest
from tests.api.driver import Api
from tests.fake_clock import FakeClock

from penstock.api.answers import SECURITY_HEADERS
from penstock.blobs.spool import Spool
from penstock.core.limits import Limits
from penstock.store.store import Store


async def test_a_process_that_answers_is_alive(nobody: httpx2.AsyncClient) -> None:
    """`/healthz` needs no key."""
    answer = await nobody.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_a_good_server_is_ready(nobody: httpx2.AsyncClient) -> None:
    """`/readyz` names what it checked."""
    answer = await nobody.get("/readyz")
    checks = {"database": "ok", "disk": "ok"}
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "checks": checks})


async def no_connection_opens() -> None:
    """Wait for the threads of connections that failed: they still report to this loop."""
    for thread in threading.enumerate():
        if "_connection_worker_thread" in thread.name:
            await asyncio.to_thread(thread.join, 20)


async def test_without_a_database_a_server_is_not_ready(tmp_path: Path, spool: Spool) -> None:
    """When the database is gone `/readyz` is 503 and names it, while `/healthz` is still 200."""
    folder = tmp_path / "gone"
    folder.mkdir()
    api = Api(Store.open(folder / "penstock.db"), spool, FakeClock(), Limits())
    shutil.rmtree(folder)
    async with api.client() as client:
        ready, alive = await client.get("/readyz"), await client.get("/healthz")
    await api.store.close()
    await no_connection_opens()
    assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
    assert ready.json()["checks"] == {"database": "does not answer", "disk": "ok"}
    assert alive.status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/healthz",
        "/readyz",
        "/docs",
        "/docs/style.css",
        "/openapi.json",
        "/nothing",
        "/api/v1/ie/requestqueue/requests",
        "/api/v1/ie/requestqueue/downloads/x/output.jsonl",
    ],
)
async def test_every_answer_has_the_security_headers(nobody: httpx2.AsyncClient, path: str) -> None:
    """Good answers and refusals alike forbid sniffing, framing and referrers."""
    headers = (await nobody.get(path)).headers
    for name in ("x-content-type-options", "x-frame-options", "referrer-policy"):
        assert headers[name]
    assert set(headers) >= {name.lower() for name in SECURITY_HEADERS}
    assert "default-src 'none'" in headers["content-security-policy"]
