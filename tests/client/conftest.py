from collections.abc import Iterator

import pytest
from tests.client.kinds import KINDS, Connect, Pauses, makes
from tests.client.stub import Stub, running


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A server that answers as the test tells it."""
    with running() as server:
        yield server


@pytest.fixture
def pauses() -> Pauses:
    """The pauses that the client made."""
    return Pauses()


@pytest.fixture(params=KINDS)
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """What makes clients: each test that asks for it runs for both kinds."""
    yield from makes(request.param)
