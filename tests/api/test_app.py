import logging
import resource
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from tests.api.driver import BASE, Api, files, job_ids, lines, submission
from tests.journeys.service import PATIENCE_SECONDS
from tests.wire import serving

from penstock.api.app import create_app
from penstock.core.key import new_key
from penstock.errors import ProviderUnreachable, Unavailable

CANARY = "canary-inside"
LARGEST_FILE = 1024 * 1024


async def failing(_request: Request) -> Response:
    """An error that nobody expected."""
    raise RuntimeError(CANARY)


async def half(_request: Request) -> Response:
    """An error after half of the answer."""

    async def blocks() -> AsyncIterator[bytes]:
        yield b"half"
        raise RuntimeError(CANARY)

    return StreamingResponse(blocks(), headers={"Content-Length": "8"})


async def busy(_request: Request) -> Response:
    """An error of ours that passes."""
    raise Unavailable("Not now.", retry_after_seconds=7)


async def provider(_request: Request) -> Response:
    """An error of ours that is no refusal."""
    raise ProviderUnreachable("The provider is away.")


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[None]:
    """Nothing to begin or end."""
    yield


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """An application whose routes fail in every way."""
    routes = [Route(f"/{each.__name__}", each) for each in (failing, half, busy, provider)]
    with serving(create_app(routes, lifespan)) as address:
        yield address


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let no file of this process grow beyond a mebibyte."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_bug_tells_nothing_of_its_inside(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """The caller gets 500 with an id; the operator finds the traceback under it in the log."""
    answer = httpx2.get(f"{url}/failing")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert CANARY not in answer.text
    assert f"request {answer.headers['x-request-id']}" in caplog.text
    assert CANARY in caplog.text


def test_half_an_answer_is_cut(url: str) -> None:
    """An error in the middle never looks like a whole answer."""
    with pytest.raises(httpx2.RemoteProtocolError):
        httpx2.get(f"{url}/half")


def test_a_passing_error_says_when_to_come_back(url: str) -> None:
    """503 carries Retry-After."""
    answer = httpx2.get(f"{url}/busy")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")


def test_an_error_that_is_no_refusal_is_logged(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """What the caller cannot mend is the operator's to know."""
    assert httpx2.get(f"{url}/provider").status_code == 502
    assert "provider_unreachable: The provider is away." in caplog.text


def test_the_log_has_no_query(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Signatures of links stand in queries, so queries are not logged."""
    caplog.set_level(logging.INFO, logger="penstock.http")
    written = threading.Event()
    # The line is written when the answer has been sent, so it may come after it. Behind the
    # handler of caplog, which has the line by then.
    listener = logging.Handler()
    listener.addFilter(logging.Filter("penstock.http"))
    listener.emit = lambda _record: written.set()  # type: ignore[assignment,method-assign]
    logging.getLogger().addHandler(listener)
    try:
        httpx2.get(f"{url}/busy?signature={CANARY}")
        assert written.wait(PATIENCE_SECONDS)
    finally:
        logging.getLogger().removeHandler(listener)
    assert "/busy 503" in caplog.text
    assert CANARY not in "".join(r.getMessage() for r in caplog.records if r.name[:4] == "pens")


@pytest.mark.parametrize("form", ["Bearer {}", "Basic {}", "{}"])
async def test_no_answer_quotes_a_key(
    nobody: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    """A key that is refused stands neither in the answer nor in the log."""
    caplog.set_level(logging.DEBUG)
    key = new_key()
    headers = {"Authorization": form.format(key)}
    answer = await nobody.get(f"{BASE}/requests", headers=headers)
    assert answer.status_code == 401
    assert key[12:] not in answer.text + str(answer.headers) + caplog.text


@pytest.mark.usefixtures("small_files")
async def test_a_disk_that_fills_up_stores_nothing(
    acme: httpx2.AsyncClient, api: Api, tmp_path: Path
) -> None:
    """A write that fails in the middle of an upload gives 507 and leaves nothing."""
    answer = await acme.post(f"{BASE}/requests", json=submission(lines(20_000)))
    assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
    assert files(tmp_path / "data") == []
    assert await job_ids(api.store) == set()
