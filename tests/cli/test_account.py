"""Keys, profiles and where settings come from."""

import io
import json
import sys
from pathlib import Path

import click
import pytest
from tests.client.stub import KEY, Reply, Stub, error

from penstock import __version__
from penstock.cli.main import run
from penstock.client.profile import Profile, Profiles, config_path, load, save

Out = pytest.CaptureFixture[str]
USAGE = Reply(content=b'{"org_id": "acme"}')


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in the environment says which server is meant."""
    for name in ("PENSTOCK_URL", "PENSTOCK_API_KEY", "PENSTOCK_ORGANIZATION", "PENSTOCK_DEBUG"):
        monkeypatch.delenv(name, raising=False)


def typed(monkeypatch: pytest.MonkeyPatch, text: str = KEY + "\n") -> None:
    """Let standard input have this."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def kept(url: str, **more: str) -> None:
    """Have a profile `work` in use."""
    save(
        Profiles(current="work", profiles={"work": Profile(url=url, key=KEY, **more)}),
        config_path(),
    )


def test_login_keeps_the_key(stub: Stub, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read from standard input, judged by the server, and kept for its owner alone."""
    typed(monkeypatch)
    stub.serve("/api/v1/usage", USAGE)
    assert run(["auth", "login", "--url", stub.url, "--organization", "acme"]) == 0
    shown = capsys.readouterr()
    path = config_path()
    assert shown.out == "default\n"
    assert str(path) in shown.err
    assert KEY not in shown.out + shown.err
    assert path.stat().st_mode & 0o777 == 0o600
    assert load(path).profiles["default"] == Profile(url=stub.url, key=KEY, organization="acme")
    headers = stub.seen[0].headers
    assert (headers["authorization"], headers["x-organization-id"]) == (f"Bearer {KEY}", "acme")


def test_login_asks_whoever_sits_there(
    stub: Stub, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prompt does not show what is typed."""
    asked: list[tuple[str, object]] = []

    def prompt(text: str, **options: object) -> str:
        asked.append((text, options["hide_input"]))
        return KEY

    monkeypatch.setattr(click, "prompt", prompt)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    stub.serve("/api/v1/usage", USAGE)
    assert run(["auth", "login", "--url", stub.url, "--profile", "work", "--json"]) == 0
    assert asked == [(f"Key for {stub.url}", True)]
    value = json.loads(capsys.readouterr().out)
    assert (value["profile"], value["organization"]) == ("work", "acme")
    assert load(config_path()).current == "work"


def test_a_wrong_key_is_not_kept(stub: Stub, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is asked first; --no-verify asks nobody."""
    typed(monkeypatch)
    stub.serve("/api/v1/usage", error(401, "unauthenticated", "The API key is not known."))
    assert run(["auth", "login", "--url", stub.url]) == 4
    assert not config_path().exists()
    assert "error[unauthenticated]: The API key is not known." in capsys.readouterr().err
    typed(monkeypatch)
    assert run(["auth", "login", "--url", stub.url, "--no-verify"]) == 0
    assert len(stub.seen) == 1


def test_a_key_without_that_scope_is_kept(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may not see the usage, but the server knows it."""
    typed(monkeypatch)
    stub.serve("/api/v1/usage", error(403, "scope_missing", "usage:read is needed"))
    assert run(["auth", "login", "--url", stub.url]) == 0
    assert load(config_path()).profiles["default"].key == KEY


@pytest.mark.parametrize("text", ["", " \n"])
def test_no_key(capsys: Out, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """An empty input is no key."""
    typed(monkeypatch, text)
    assert run(["auth", "login"]) == 4
    assert "no key was given" in capsys.readouterr().err


def test_a_closed_standard_input(capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to read a key from."""
    monkeypatch.setattr(sys, "stdin", None)
    assert run(["auth", "login"]) == 2
    assert "standard input is closed" in capsys.readouterr().err


def test_a_place_that_cannot_be_written(
    stub: Stub, tmp_path: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence names the file and what is in the way."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PENSTOCK_PROFILES", str(tmp_path / "file" / "config.toml"))
    typed(monkeypatch)
    stub.serve("/api/v1/usage", USAGE)
    assert run(["auth", "login", "--url", stub.url]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error[profile_unusable]: cannot ")
    assert str(tmp_path / "file") in shown


def test_status_says_who_is_calling(stub: Stub, capsys: Out) -> None:
    """Where address and key come from, and no more of the key than its id."""
    kept(stub.url)
    stub.serve("/api/v1/usage", USAGE)
    assert run(["auth", "status"]) == 0
    out = capsys.readouterr().out
    assert f"url       {stub.url} (profile work)\n" in out
    assert "acts for  acme\n" in out
    assert KEY not in out
    assert run(["auth", "status", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["valid"], value["key_from"], value["organization"]) == (
        True,
        "profile work",
        "acme",
    )


def test_status_without_a_key(capsys: Out) -> None:
    """The exit code says so, and the hint names the way to one."""
    assert run(["auth", "status"]) == 4
    assert "penstock auth login" in capsys.readouterr().err


def test_logout_forgets_the_key_alone(stub: Stub, capsys: Out) -> None:
    """Address and organisation stay, so that the next login is short."""
    kept(stub.url, organization="acme")
    assert run(["auth", "logout"]) == 0
    assert load(config_path()).profiles["work"] == Profile(url=stub.url, organization="acme")
    assert "works until it is revoked" in capsys.readouterr().err


def test_logout_of_nothing(capsys: Out) -> None:
    """There is no profile in use."""
    assert run(["auth", "logout"]) == 2
    assert "penstock profile ls" in capsys.readouterr().err
    assert run(["auth", "logout", "--profile", "x"]) == 2


def test_profiles_from_their_beginning(capsys: Out) -> None:
    """Made, listed, used, changed and removed; a key does not follow to another address."""
    assert run(["profile", "ls"]) == 0
    assert "make one: penstock auth login" in capsys.readouterr().err
    assert run(["profile", "show"]) == 2
    kept("http://a.example")
    assert run(["profile", "set", "home", "--url", "http://b.example"]) == 0
    assert "penstock auth login --profile home" in capsys.readouterr().err
    assert run(["profile", "use", "home"]) == 0
    assert run(["profile", "set", "work", "--confirm-above", "5", "--organization", "o"]) == 0
    capsys.readouterr()
    assert run(["profile", "ls"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "home\tyes\thttp://b.example\t-\t-",
        f"work\t-\thttp://a.example\t{KEY[:11]}…\to",
    ]
    assert run(["profile", "show", "work", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["confirm_above_usd"], shown["in_use"], shown["key"]) == (5, False, f"{KEY[:11]}…")
    assert load(config_path()).profiles["work"].key == KEY
    assert run(["profile", "set", "work", "--url", "http://c.example"]) == 0
    assert load(config_path()).profiles["work"].key is None
    assert run(["profile", "rm", "home"]) == 0
    assert run(["profile", "ls", "-q"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "work"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["use", "nowhere"], "there is no profile 'nowhere'"),
        (["rm", "nowhere"], "there is no profile 'nowhere'"),
        (["show", "nowhere"], "there is no profile 'nowhere'"),
        (["set", "new"], "nothing is to be set"),
        (["set", "new", "--organization", "o"], "a new one needs --url"),
        (["set", "a b", "--url", "http://x"], "is no name for a profile"),
    ],
)
def test_what_is_no_profile(capsys: Out, arguments: list[str], says: str) -> None:
    """A usage error that names it."""
    assert run(["profile", *arguments]) == 2
    assert says in capsys.readouterr().err


def test_a_profile_is_named_on_the_command_line(stub: Stub, capsys: Out) -> None:
    """--profile takes address and key from it; one that is not there is told."""
    save(Profiles(profiles={"work": Profile(url=stub.url, key=KEY)}), config_path())
    stub.on("GET", "/requests", Reply(content=b'{"requests": []}'))
    assert run(["ls", "--profile", "work"]) == 0
    assert stub.seen[0].headers["authorization"] == f"Bearer {KEY}"
    assert run(["ls", "--profile", "nowhere"]) == 2
    assert "there is no profile 'nowhere'" in capsys.readouterr().err


def test_a_file_that_others_may_read(stub: Stub, capsys: Out) -> None:
    """A key in it is not used, and the command that mends it is told."""
    kept(stub.url)
    config_path().chmod(0o644)
    assert run(["ls"]) == 2
    assert f"fix: chmod 600 {config_path()}" in capsys.readouterr().err
    assert not stub.seen


def test_config_says_where_things_come_from(capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without asking any server."""
    assert run(["config", "path"]) == 0
    assert capsys.readouterr().out == f"{config_path()}\n"
    kept("http://a.example")
    monkeypatch.setenv("PENSTOCK_ORGANIZATION", "acme")
    assert run(["config", "show"]) == 0
    out = capsys.readouterr().out
    assert "url          http://a.example (profile work)\n" in out
    assert "organization acme (PENSTOCK_ORGANIZATION)\n" in out
    assert KEY not in out


def test_version_of_both_sides(stub: Stub, capsys: Out) -> None:
    """The server is asked without the key, and a difference is told."""
    kept(stub.url)
    stub.serve("/openapi.json", Reply(content=b'{"info": {"version": "9.9.9"}}'))
    assert run(["version", "--json"]) == 0
    shown = capsys.readouterr()
    value = json.loads(shown.out)
    assert (value["client"], value["server"]) == (__version__, "9.9.9")
    assert "different versions" in shown.err
    assert "authorization" not in stub.seen[0].headers


@pytest.mark.parametrize("content", [b"<html>", b"{}", b"[]"])
def test_version_of_something_else(stub: Stub, capsys: Out, content: bytes) -> None:
    """The command ends well: what runs here is known."""
    kept(stub.url)
    stub.serve("/openapi.json", Reply(content=content))
    assert run(["version"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"client  {__version__} ")
    assert "no Penstock server" in shown.err


def test_version_without_a_key(capsys: Out) -> None:
    """Why the server's is not known is said beside it."""
    assert run(["version"]) == 0
    assert "the server's version is not known: there is no API key" in capsys.readouterr().err
