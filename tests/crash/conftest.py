"""A server and an emulator for each test that kills one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.journeys.service import Service, running


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A pair of its own: a killed server is nobody else's."""
    with running(tmp_path) as pair:
        yield pair
