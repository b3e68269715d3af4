"""The command line fails in many ways, with its debug output on, and shows no secret."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.client.stub import Reply, Stub, error
from tests.test_startup import BAD

from penstock.cli.main import run
from penstock.core.key import new_key
from penstock.settings import Settings, build
from penstock.wiring import Server

KEY = new_key()
MASTER = "canary-master-7f3a91c05be2d846-e1b09d4477aa"
URL = "postgresql://penstock:canary-pass%40word@127.0.0.1:9/x?sslpassword=canary-tls"
TOKEN = "canary-token-7f3a91c05be2d846"
SECRETS = (KEY[12:55], MASTER, TOKEN, "canary", "pass%40word", "pass@word")

GIVEN = {
    "PENSTOCK_API_KEY": KEY,
    "PENSTOCK_SECRET": MASTER,
    "PENSTOCK_DATABASE_URL": URL,
    "PENSTOCK_VERTEX_ACCESS_TOKEN": TOKEN,
    "PENSTOCK_VERTEX_PROJECT": "acme",
    "PENSTOCK_VERTEX_BUCKET": "acme-batch",
    "PENSTOCK_DATABASE_SECONDS_MAX": "0.2",
    "PENSTOCK_DEBUG": "1",
}

SERVER = [
    ["serve", "--port", "x"],
    ["serve", "--port", "70000"],
    ["serve", "--role", "boss"],
    ["serve", "--config", "/nowhere/penstock.toml"],
    ["serve", "--host", "0.0.0.0"],
    ["serve", "--nonsense", MASTER],
    ["keys", "ls"],
    ["keys", "create", "--name", "x"],
    ["keys", "revoke", "abcdefgh"],
    ["dev", "--key", f"two words {TOKEN[:6]}"],
]

CLIENT = [["status", "req_7"], ["cancel", "req_7"], ["ls"], ["submit", "in.jsonl"]]
STATUSES = sorted({*range(400, 430), 431, 451} - {408, 425, 429})
"""Those that the client does not try again."""
PATHS = (
    ("GET", "/requests/req_7"),
    ("POST", "/requests/req_7/cancel"),
    ("GET", "/requests"),
    ("POST", "/requests"),
)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment of canaries, in a folder with a file to submit."""
    for name in os.environ:
        if name.startswith("PENSTOCK_"):
            monkeypatch.delenv(name)
    for name, text in GIVEN.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text('{"request": {"contents": [{}]}}\n')


Out = pytest.CaptureFixture[str]


def failed(arguments: list[str], capsys: Out) -> str:
    """What a command says when it fails."""
    code = run(arguments)
    shown = capsys.readouterr()
    assert code != 0, arguments
    return shown.out + shown.err


def leaks(text: str) -> list[str]:
    """The secrets in a text."""
    return [secret for secret in SECRETS if secret in text]


@pytest.mark.parametrize("arguments", SERVER, ids=" ".join)
def test_a_failing_server_command_shows_no_secret(arguments: list[str], capsys: Out) -> None:
    """Neither its sentence nor the traceback of its causes, with the debug output on."""
    said = failed([each for each in arguments if each != MASTER], capsys)
    assert leaks(said) == []
    assert "error[" in said


@pytest.mark.parametrize("name", BAD)
def test_a_bad_setting_shows_no_other(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    """Beside each bad configuration stand the canaries of all others, and none is told."""
    for variable, text in BAD[name][0].items():
        monkeypatch.setenv(variable, text)
    run(["serve", "--check"])
    assert leaks(capsys.readouterr().err.replace("canary-password", "")) == []


@pytest.mark.slow
def test_a_failing_client_shows_no_key(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    """Over 200 refusals of a server, in its own form and in another, with the debug output on."""
    monkeypatch.setenv("PENSTOCK_URL", stub.url)
    said = []
    for status in STATUSES:
        for reply in (error(status, "odd", "It went wrong."), Reply(status, b"<html>")):
            for method, path in PATHS:
                stub.on(method, path, reply)
            said += [failed(arguments, capsys) for arguments in CLIENT]
    assert len(said) > 200
    assert [text for text in said if leaks(text)] == []
    assert all("Traceback" in text for text in said)


def test_an_echo_of_the_key_is_hidden(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    """A server that repeats the key in its error brings it into no output."""
    monkeypatch.setenv("PENSTOCK_URL", stub.url)
    stub.on("GET", "/requests/req_7", error(403, "odd", f"Authorization: Bearer {KEY} is bad"))
    assert leaks(failed(["status", "req_7"], capsys)) == []


# -- repr ----------------------------------------------------------------------------------------


def everything(start: object) -> Iterator[object]:
    """An object of ours and all of ours below it, by fields, attributes and members."""
    seen: set[int] = set()
    waiting = [start]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, (str, bytes, int, float)):
            continue
        seen.add(id(thing))
        yield thing
        waiting += below(thing)


def below(thing: object) -> list[Any]:
    """What an object of ours holds."""
    if isinstance(thing, msgspec.Struct):
        return [getattr(thing, name) for name in thing.__struct_fields__]
    if isinstance(thing, dict):
        return list(thing.values())
    if isinstance(thing, (list, tuple, set, frozenset)):
        return list(thing)
    if type(thing).__module__.startswith("penstock"):
        return list(getattr(thing, "__dict__", {}).values())
    return []


def settings(tmp_path: Path) -> Settings:
    """Settings with a canary in each secret; the database is beside them."""
    vertex = {"project": "acme", "bucket": "acme-batch", "access_token": TOKEN}
    return build({"data_dir": str(tmp_path / "d"), "secret": MASTER, "vertex": vertex})


async def test_nothing_of_a_server_shows_a_secret(tmp_path: Path) -> None:
    """`repr` and `str` of the server and of all that it is made of hold no canary."""
    made = Server(settings(tmp_path))
    try:
        things = [each for each in everything(made) if not isinstance(each, dict)]
        shown = [type(each).__name__ for each in things if leaks(repr(each) + str(each))]
    finally:
        await made.close()
    assert len(things) > 50
    assert shown == []


def test_no_setting_shows_a_secret(tmp_path: Path) -> None:
    """Settings with a database's password show none, whole or in parts."""
    whole = msgspec.structs.replace(
        settings(tmp_path), database_url=build({"database_url": URL}).database_url
    )
    for each in everything(whole):
        assert leaks(repr(each) + str(each) + f"{each}") == []
