from collections.abc import Iterator

import pytest
from tests.client.stub import KEY, Stub, running


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A server that answers as the test tells it."""
    with running() as server:
        yield server


@pytest.fixture
def shell(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Address and key come from the environment, as in a user's shell."""
    monkeypatch.setenv("PENSTOCK_URL", stub.url)
    monkeypatch.setenv("PENSTOCK_API_KEY", KEY)
    monkeypatch.delenv("PENSTOCK_DEBUG", raising=False)
