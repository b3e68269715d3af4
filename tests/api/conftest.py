"""The API in this process, and clients of two tenants."""

from collections.abc import AsyncIterator

import httpx2
import pytest
from tests.api.driver import Api, permit
from tests.fake_clock import FakeClock

from penstock.blobs.spool import Spool
from penstock.core.limits import Limits
from penstock.store.store import Store


@pytest.fixture
def limits() -> Limits:
    """The limits of the API; a file may have its own."""
    return Limits()


@pytest.fixture
def api(store: Store, spool: Spool, clock: FakeClock, limits: Limits) -> Api:
    """The application over the test's store."""
    return Api(store, spool, clock, limits)


@pytest.fixture
async def acme(api: Api) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the organisation `acme`."""
    async with api.client(await permit(api.store, "acme")) as client:
        yield client


@pytest.fixture
async def rival(api: Api) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of another organisation."""
    async with api.client(await permit(api.store, "rival")) as client:
        yield client


@pytest.fixture
async def nobody(api: Api) -> AsyncIterator[httpx2.AsyncClient]:
    """A client without a key."""
    async with api.client() as client:
        yield client
