import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.requests import Request
from starlette.routing import Route
from tests.store.driver import all_keys

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


SECRET = "canary-master-0123456789-0123456789-0123456789"
SHARED = {
    "database_url": "postgresql://penstock@db/penstock",
    "blobs_url": "gs://jobs/penstock",
    "secret": SECRET,
}


@pytest.mark.parametrize("role", ["api", "worker"])
def test_a_role_among_others_needs_what_they_share(tmp_path: Path, role: str) -> None:
    """Database, place of the files and secret are asked for, all three in one message."""
    check(build(values(tmp_path, role=role, **SHARED)))
    with pytest.raises(ConfigurationError) as caught:
        check(build(values(tmp_path, role=role)))
    for name in SHARED:
        assert f"{name} is not set." in caught.value.message
        assert f"PENSTOCK_{name.upper()}" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        (["database_url"], set()),
        (["blobs_url"], set()),
        (["database_url", "blobs_url"], {"secret"}),
        (["database_url", "blobs_url", "secret"], set()),
    ],
)
def test_the_role_all_may_be_one_or_many(
    tmp_path: Path, given: list[str], missing: set[str]
) -> None:
    """One process may keep its files beside it; only what others can share needs one secret."""
    settings = build(values(tmp_path, **{name: SHARED[name] for name in given}))
    if not missing:
        check(settings)
        return
    with pytest.raises(ConfigurationError) as caught:
        check(settings)
    assert caught.value.message.startswith("secret is not set.")


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    """Nobody mends a configuration one start at a time; and no fault quotes a password."""
    wrong = {
        "vertex": {},
        "host": "0.0.0.0",
        "database_url": "mysql://me:canary-password@db/penstock",
        "blobs_url": "file:///x",
        "secret": "short",
    }
    with pytest.raises(ConfigurationError) as caught:
        check(build(values(tmp_path, **wrong)))
    said = f"{caught.value.message} {caught.value.hint}"
    for part in ("vertex.project", "vertex.bucket", "mysql://", "file:///x", "fewer than", "TLS"):
        assert part in said
    assert "canary" not in said


def test_an_api_needs_only_the_bucket_of_vertex(tmp_path: Path) -> None:
    """It never calls the provider; the bucket must be known because requests could name it."""
    role = {"role": "api", **SHARED}
    check(build(values(tmp_path, **{**role, "vertex": {"bucket": "acme-batch"}})))
    with pytest.raises(ConfigurationError, match=r"vertex\.bucket is not set"):
        check(build(values(tmp_path, **{**role, "vertex": {}})))


def test_what_may_not_be_allowed_is_told_before_the_start(tmp_path: Path) -> None:
    """An entry that is no address, has no TLS or a query, and a bucket that is none."""
    for entry in ("bucket/name", "http://files.example.com/", "https://h/a?b"):
        with pytest.raises(ConfigurationError, match="files_allowed has"):
            check(build(values(tmp_path, files_allowed=[entry])))
    vertex = {**emulator_values("http://127.0.0.1:9"), "bucket": "A_"}
    with pytest.raises(ConfigurationError, match=r"vertex\.bucket .* no valid name"):
        check(build(values(tmp_path, vertex=vertex)))


def test_a_worker_may_listen_to_others(tmp_path: Path) -> None:
    """It answers probes alone, which Kubernetes sends over the network."""
    check(build(values(tmp_path, role="worker", host="0.0.0.0", **SHARED)))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.com", ""])
def test_a_public_address_is_refused(tmp_path: Path, host: str) -> None:
    """Plain HTTP is not offered to others by accident."""
    with pytest.raises(ConfigurationError, match="plain HTTP") as caught:
        check(build(values(tmp_path, host=host)))
    assert "PENSTOCK_ALLOW_PUBLIC_BIND" in str(caught.value.hint)


def test_a_public_address_can_be_allowed(tmp_path: Path) -> None:
    """Behind a proxy the operator may say so."""
    names = {"hosts_allowed": ["penstock.internal"]}
    check(build(values(tmp_path, host="0.0.0.0", allow_public_bind=True, **names)))


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


def on_postgres(tmp_path: Path, url: str, role: str, name: str, **changes: object) -> Settings:
    """Good settings of one process among several."""
    shared = {**SHARED, "database_url": url, "role": role, **changes}
    return build(values(tmp_path / name, **shared))


async def answers(server: Server, path: str) -> tuple[int, Any]:
    """What the application answers, which is not running."""
    transport = httpx2.ASGITransport(app=server.app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://penstock.test") as client:
        answer = await client.get(path)
    return answer.status_code, answer.json()


async def test_a_worker_answers_probes_alone(tmp_path: Path, postgres_url: str) -> None:
    """Nothing of the API is there, and before its engine runs it is not ready."""
    server = Server(on_postgres(tmp_path, postgres_url, "worker", "w"))
    paths = [route.path for route in server.app.routes if isinstance(route, Route)]
    status, body = await answers(server, "/readyz")
    await server.close()
    assert paths == ["/healthz", "/readyz"]
    assert (status, body["checks"]) == (503, {"database": "ok", "engine": "does not run"})


async def test_an_api_works_on_nothing(tmp_path: Path, postgres_url: str) -> None:
    """It is ready without an engine, and without credentials for a provider it never calls."""
    changes = {"blobs_url": "s3://jobs/penstock", "blobs_endpoint": "http://127.0.0.1:9"}
    vertex = {"bucket": "acme-batch"}
    settings = on_postgres(tmp_path, postgres_url, "api", "a", vertex=vertex, **changes)
    server = Server(settings)
    status, body = await answers(server, "/readyz")
    await server.close()
    assert (status, body["checks"]) == (200, {"database": "ok", "disk": "ok"})


async def test_one_that_leaves_is_not_ready(tmp_path: Path, postgres_url: str) -> None:
    """From the signal on no more requests are wanted, though the process still answers."""
    server = Server(on_postgres(tmp_path, postgres_url, "api", "a"))
    server.leave()
    ready, alive = await answers(server, "/readyz"), await answers(server, "/healthz")
    await server.close()
    assert (ready[0], ready[1]["checks"]["process"]) == (503, "is ending")
    assert alive[0] == 200


async def test_several_new_servers_make_one_first_key(tmp_path: Path, postgres_url: str) -> None:
    """However many start at once on an empty database, one shows a key, and it opens all doors."""
    names = [f"a{n}" for n in range(6)]
    servers = [Server(on_postgres(tmp_path, postgres_url, "api", name)) for name in names]
    made = await asyncio.gather(*(server.first_key() for server in servers))
    (key,) = [text for text in made if text is not None]
    who = [await server.authenticator.identify(asking(key)) for server in servers]
    stored = await all_keys(servers[0].store)
    for server in servers:
        await server.close()
    assert {principal.org_id for principal in who} == {"default"}
    assert len(stored) == 1


async def test_a_worker_makes_no_key(tmp_path: Path, postgres_url: str) -> None:
    """Its log is not where anybody looks for one."""
    server = Server(on_postgres(tmp_path, postgres_url, "worker", "w"))
    key, has_keys = await server.first_key(), await server.store.tenants.has_keys()
    await server.close()
    assert (key, has_keys) == (None, False)


def test_nobody_may_pull_what_others_sent(tmp_path: Path, postgres_url: str) -> None:
    """The place of all inputs and outputs is private, as the staging folder is."""
    settings = on_postgres(tmp_path, postgres_url, "api", "a", sources_allowed=["gs://jobs/"])
    with pytest.raises(ConfigurationError, match="everybody could read"):
        Server(settings)


async def test_the_first_key_is_shown_once(tmp_path: Path) -> None:
    """A new server makes a key; a server that has one never shows one again."""
    made = Server(build(values(tmp_path)))
    key = await made.first_key()
    again = await made.first_key()
    assert key is not None
    principal = await made.authenticator.identify(asking(key))
    await made.close()
    assert again is None
    assert principal.org_id == "default"


@pytest.mark.parametrize("text", ["my own key", new_key()], ids=["own", "ours"])
async def test_a_chosen_key_is_let_in(tmp_path: Path, text: str) -> None:
    """`dev --key` takes any text, and permitting it twice keeps one row."""
    made = Server(build(values(tmp_path)))
    await made.permit(text, "dev")
    await made.permit(text, "dev")
    principal = await made.authenticator.identify(asking(text))
    keys = await all_keys(made.store)
    await made.close()
    assert principal.key_id == (key_id_of(text) or ALIAS_ID)
    assert len(keys) == 1


async def test_a_new_chosen_key_replaces_the_old(tmp_path: Path) -> None:
    """Only the newest text of another form opens the server."""
    made = Server(build(values(tmp_path)))
    await made.permit("first text", "dev")
    await made.permit("second text", "dev")
    assert (await made.authenticator.identify(asking("second text"))).key_id == ALIAS_ID
    with pytest.raises(Unauthenticated):
        await made.authenticator.identify(asking("first text"))
    await made.close()


def test_credentials_that_do_not_exist_stop_the_start(tmp_path: Path) -> None:
    """Without a usable account the server says so before it listens."""
    vertex = {
        "project": "p",
        "bucket": "acme-batch",
        "credentials_file": str(tmp_path / "none.json"),
    }
    with pytest.raises(ConfigurationError, match="No usable Google credentials"):
        Server(build(values(tmp_path, vertex=vertex)))
