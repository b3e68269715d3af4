from collections.abc import Iterator

import pytest
from tests.client.stub import Stub, running


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A server that answers as the test tells it."""
    with running() as server:
        yield server
