import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from penstock.core.key import key_id_of, new_key
from penstock.errors import ConfigurationError, Unauthenticated
from penstock.settings import Settings, build, emulator_values
from penstock.wiring import ALIAS_ID, Server, check, lock_directory


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with which a server starts; the emulator is not called."""
    return build(values(tmp_path))


@pytest.fixture
def server(settings: Settings) -> Iterator[Server]:
    """A server that is wired and does not run."""
    made = Server(settings)
    yield made
    asyncio.run(made.close())


def values(tmp_path: Path, **changes: object) -> dict[str, Any]:
    """The values of good settings, with changes."""
    vertex = emulator_values("http://127.0.0.1:9")
    return {"data_dir": str(tmp_path / "data"), "vertex": vertex, **changes}


def asking(text: str) -> Request:
    """A request with a key."""
    return Request({"type": "http", "headers": [(b"authorization", f"Bearer {text}".encode())]})


@pytest.mark.parametrize("name", ["project", "bucket"])
def test_a_missing_setting_is_named(tmp_path: Path, name: str) -> None:
    """Without project or bucket no job could run; the hint names the variable."""
    vertex = {**emulator_values("http://127.0.0.1:9"), name: ""}
    with pytest.raises(ConfigurationError, match=rf"vertex\.{name} is not set") as caught:
        check(build(values(tmp_path, vertex=vertex)))
    assert f"PENSTOCK_VERTEX_{name.upper()}" in str(caught.value.hint)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.com", ""])
def test_a_public_address_is_refused(tmp_path: Path, host: str) -> None:
    """Plain HTTP is not offered to others by accident."""
    with pytest.raises(ConfigurationError, match="plain HTTP") as caught:
        check(build(values(tmp_path, host=host)))
    assert "PENSTOCK_ALLOW_PUBLIC_BIND" in str(caught.value.hint)


def test_a_public_address_can_be_allowed(tmp_path: Path) -> None:
    """Behind a proxy the operator may say so."""
    check(build(values(tmp_path, host="0.0.0.0", allow_public_bind=True)))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_needs_no_permission(tmp_path: Path, host: str) -> None:
    """Nobody else can reach these."""
    check(build(values(tmp_path, host=host)))


def test_a_directory_has_one_server(server: Server, settings: Settings) -> None:
    """A second server of the same data directory does not start, and the first is unharmed."""
    with pytest.raises(ConfigurationError, match="Another Penstock server"):
        Server(settings)
    assert server.settings is settings


def test_a_directory_is_free_after_its_server(settings: Settings) -> None:
    """When the first has ended the second starts."""
    asyncio.run(Server(settings).close())
    asyncio.run(Server(settings).close())


def test_a_lock_is_private(tmp_path: Path) -> None:
    """The lock file is there for its owner only, and holding it twice is refused."""
    held = lock_directory(tmp_path)
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigurationError, match="data directory"):
        lock_directory(tmp_path)
    os.close(held)


async def test_the_first_key_is_shown_once(tmp_path: Path) -> None:
    """A new server makes a key; a server that has one never shows one again."""
    made = Server(build(values(tmp_path)))
    key = await made.first_key()
    again = await made.first_key()
    assert key is not None
    principal = await made.authenticator.principal(asking(key))
    await made.close()
    assert again is None
    assert principal.org_id == "default"


@pytest.mark.parametrize("text", ["my own key", new_key()], ids=["own", "ours"])
async def test_a_chosen_key_is_let_in(tmp_path: Path, text: str) -> None:
    """`dev --key` takes any text, and permitting it twice keeps one row."""
    made = Server(build(values(tmp_path)))
    await made.permit(text, "dev")
    await made.permit(text, "dev")
    principal = await made.authenticator.principal(asking(text))
    keys = await made.store.tenants.keys()
    await made.close()
    assert principal.key_id == (key_id_of(text) or ALIAS_ID)
    assert len(keys) == 1


async def test_a_new_chosen_key_replaces_the_old(tmp_path: Path) -> None:
    """Only the newest text of another form opens the server."""
    made = Server(build(values(tmp_path)))
    await made.permit("first text", "dev")
    await made.permit("second text", "dev")
    assert (await made.authenticator.principal(asking("second text"))).key_id == ALIAS_ID
    with pytest.raises(Unauthenticated):
        await made.authenticator.principal(asking("first text"))
    await made.close()


def test_credentials_that_do_not_exist_stop_the_start(tmp_path: Path) -> None:
    """Without a usable account the server says so before it listens."""
    vertex = {"project": "p", "bucket": "b", "credentials_file": str(tmp_path / "none.json")}
    with pytest.raises(ConfigurationError, match="No usable Google credentials"):
        Server(build(values(tmp_path, vertex=vertex)))
