from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.client.stub import KEY, Stub, running


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A server that answers as the test tells it."""
    with running() as server:
        yield server


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads the profiles or the cache of whoever runs it."""
    monkeypatch.setenv("PENSTOCK_PROFILES", str(tmp_path / "config" / "config.toml"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("PENSTOCK_PROFILE", raising=False)
    monkeypatch.delenv("PENSTOCK_CONFIRM_ABOVE", raising=False)


@pytest.fixture
def shell(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Address and key come from the environment, as in a user's shell."""
    monkeypatch.setenv("PENSTOCK_URL", stub.url)
    monkeypatch.setenv("PENSTOCK_API_KEY", KEY)
    monkeypatch.delenv("PENSTOCK_DEBUG", raising=False)
