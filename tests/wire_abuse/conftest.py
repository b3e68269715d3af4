"""A real server with short deadlines, for clients that mean no good."""

from collections.abc import Iterator

import pytest
from tests.journeys.service import Service, running

SHORT = {
    "PENSTOCK_LIMITS_HEADER_SECONDS_MAX": "1",
    "PENSTOCK_LIMITS_IDLE_SECONDS_MAX": "1",
    "PENSTOCK_LIMITS_UNREAD_SECONDS_MAX": "2",
    "PENSTOCK_LIMITS_CONNECTIONS_MAX": "300",
    "PENSTOCK_UPLOADS_CONCURRENCY_MAX": "8",
    "PENSTOCK_UPLOADS_WAITING_MAX": "20",
    "PENSTOCK_UPLOAD_WAIT_SECONDS_MAX": "1",
}


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The server and its emulator, each a process of its own."""
    with running(tmp_path_factory.mktemp("wire_abuse"), 400, **SHORT) as pair:
        yield pair
