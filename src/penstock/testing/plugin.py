"""Fixtures of pytest, for whoever asks for them.

Say `pytest_plugins = ["penstock.testing.plugin"]` in `conftest.py`. Nothing is registered with
pytest by itself: a plugin that loads wherever Penstock is installed would be everybody's business.
"""

from collections.abc import Iterator

import pytest

from penstock.testing.server import PenstockServer, running


@pytest.fixture(scope="session")
def penstock_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PenstockServer]:
    """One server and one emulator for all tests of the session; starting them takes a second."""
    with running(tmp_path_factory.mktemp("penstock")) as server:
        yield server


@pytest.fixture
def penstock_server(penstock_session: PenstockServer) -> Iterator[PenstockServer]:
    """The session's server for one test: an organisation of its own, and no script of another."""
    server = penstock_session.fresh()
    try:
        yield server
    finally:
        server.forget()


@pytest.fixture
def penstock_environment(
    penstock_server: PenstockServer, monkeypatch: pytest.MonkeyPatch
) -> PenstockServer:
    """The same, named in the environment, for pipelines that make their own client."""
    for name, value in penstock_server.environment.items():
        monkeypatch.setenv(name, value)
    return penstock_server
