"""One server and one emulator for all journeys of a process: each journey has its own jobs."""

from collections.abc import Iterator

import pytest
from tests.journeys.service import Service, running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running pair."""
    with running(tmp_path_factory.mktemp("service")) as pair:
        yield pair


@pytest.fixture(autouse=True)
def no_rules(service: Service) -> None:
    """Each journey begins without fault rules."""
    service.drop_rules()
