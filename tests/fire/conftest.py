"""One server and one emulator for each file: each journey has its own jobs."""

from collections.abc import Iterator

import pytest
from tests.journeys.service import Service, running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running pair with waits that suit faults: what is lost is given up within seconds."""
    with running(
        tmp_path_factory.mktemp("fire"),
        speed=4000,
        PENSTOCK_TIMING_SETTLE_SECONDS="0.5",
        PENSTOCK_TIMING_FENCE_SECONDS="0.2",
        PENSTOCK_TIMING_COLLECT_SECONDS="4",
        PENSTOCK_TIMING_LOST_SECONDS="1",
        # What a fault does to lines is to be seen, and not mended by another round.
        PENSTOCK_LIMITS_RETRY_ATTEMPTS_MAX="0",
    ) as pair:
        yield pair


@pytest.fixture(autouse=True)
def no_rules(service: Service) -> None:
    """Each journey begins without fault rules."""
    service.drop_rules()
