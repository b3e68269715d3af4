"""`penstock doctor` on the client's side: each thing that can be wrong, and what to do about it."""

import datetime as dt
import io
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from tests.client.stub import Reply, Stub, error
from tests.wire import closed_port

from penstock import __version__
from penstock.cli.doctor_findings import lines, speaks_unicode
from penstock.cli.main import run
from penstock.core.key import key_id_of, new_key
from penstock.doctor.check import holds, unknown, warns

KEY = new_key()
KEY_PATH = f"/api/v1/keys/{key_id_of(KEY)}"
DAY = 86_400
Out = pytest.CaptureFixture[str]
Json = dict[str, Any]

pytestmark = pytest.mark.usefixtures("own_home")


def reply(**value: Any) -> Reply:  # noqa: ANN401  # JSON
    """An answer in JSON."""
    return Reply(content=json.dumps(value).encode())


@pytest.fixture
def penstock(stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stub:
    """A server with which all is well, named by the environment; and a shell with completion."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("PENSTOCK_ORGANIZATION", raising=False)
    monkeypatch.setenv("PENSTOCK_URL", stub.url)
    monkeypatch.setenv("PENSTOCK_API_KEY", KEY)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/bin/bash")
    (tmp_path / ".bashrc").write_text('eval "$(_PENSTOCK_COMPLETE=bash_source penstock)"\n')
    monkeypatch.chdir(tmp_path)
    stub.serve("/healthz", reply(status="ok"))
    stub.serve("/openapi.json", reply(info={"version": __version__}))
    stub.serve("/api/v1/usage", reply(org_id="org_1"))
    stub.serve(KEY_PATH, reply(id="x", user_id="ada", scopes=["jobs:read", "jobs:write"]))
    return stub


def checks(capsys: Out, *arguments: str) -> dict[str, Json]:
    """Run the command and return what it found, by check."""
    code = run(["doctor", "--json", *arguments])
    value = json.loads(capsys.readouterr().out)
    assert value["ok"] == (code == 0)
    assert all(one.get("todo") for one in value["checks"] if one["verdict"] in {"warns", "fails"})
    return {one["check"]: {**one, "code": code} for one in value["checks"]}


def test_all_is_well(penstock: Stub, capsys: Out) -> None:
    """A line for each check, exit code 0, and nothing is sent but questions."""
    assert run(["doctor"]) == 0
    shown = capsys.readouterr().out.splitlines()
    names = [line.split()[1] for line in shown]
    assert names == [
        "config", "address", "server", "version", "tls", "clock", "proxy", "key", "scopes",
        "expiry", "disk", "python", "completion",
    ]  # fmt: skip
    assert all(line.startswith("✓ ") for line in shown), shown
    assert {seen.method for seen in penstock.seen} == {"GET"}
    assert KEY not in "\n".join(shown)


def test_marks_in_ascii() -> None:
    """Where the terminal cannot show the marks there are plain ones, and other letters are lost."""
    findings = [warns("disk", "full — nearly", "make room"), unknown("key", "no answer")]
    plain = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert not speaks_unicode(plain)
    assert lines(findings, 0, is_plain=True) == [
        "!  disk  full ? nearly -> make room",
        "?  key   no answer",
    ]


def test_what_to_do_goes_below_where_it_has_no_room() -> None:
    """On a narrow terminal nothing is cut: the advice has a line of its own."""
    findings = [warns("disk", "full", "make room on this disk"), holds("key", "good")]
    assert lines(findings, 30, is_plain=False) == [
        "! disk  full",
        "  → make room on this disk",
        "✓ key   good",
    ]


# -- the way to the server -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "check", "code"),
    [
        ("ftp://host", "address", 2),
        ("http://", "address", 2),
        ("http://no-such-host.invalid", "address", 1),
        ("http://127.0.0.1:{closed}", "server", 1),
    ],
)
@pytest.mark.usefixtures("penstock")
def test_a_server_that_is_not_there(capsys: Out, url: str, check: str, code: int) -> None:
    """The way ends where it ends; what concerns this machine is told all the same."""
    found = checks(capsys, "--url", url.format(closed=closed_port()))
    assert found[check]["verdict"] == "fails"
    assert found[check]["code"] == code
    assert "key" not in found
    assert "disk" in found


@pytest.mark.parametrize(
    "answer", [Reply(200, b"<html>"), Reply(200, b"[]"), reply(status="well"), error(404, "x", "y")]
)
def test_something_else_is_there(penstock: Stub, capsys: Out, answer: Reply) -> None:
    """What does not answer as Penstock does gets no key."""
    penstock.serve("/healthz", answer)
    assert checks(capsys)["server"]["verdict"] == "fails"
    assert all("authorization" not in seen.headers for seen in penstock.seen)


@pytest.mark.parametrize(
    ("version", "verdict", "todo"),
    [
        (__version__, "holds", ""),
        ("99.0.0", "warns", "upgrade the client"),
        ("0.0.9", "warns", "upgrade the server"),
        (7, "unknown", ""),
    ],
)
def test_versions_are_compared(
    penstock: Stub, capsys: Out, version: object, verdict: str, todo: str
) -> None:
    """Other minor versions are told with which side is the older one."""
    penstock.serve("/openapi.json", reply(info={"version": version}))
    found = checks(capsys)["version"]
    assert found["verdict"] == verdict
    assert todo in found.get("todo", "")


@pytest.mark.parametrize(
    ("seconds", "verdict"), [(-60, "warns"), (60, "warns"), (3_600, "fails"), (None, "unknown")]
)
@pytest.mark.usefixtures("penstock")
def test_clocks_are_compared(capsys: Out, seconds: int | None, verdict: str) -> None:
    """A clock that is wrong lets links and webhooks expire."""
    now = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=seconds or 0)
    date = "soon" if seconds is None else now.strftime("%a, %d %b %Y %H:%M:%S GMT")
    with dated(date) as url:
        found = checks(capsys, "--url", url)["clock"]
    assert found["verdict"] == verdict
    if seconds:
        assert ("ahead" if seconds > 0 else "behind") in found["saw"]


class _Health(BaseHTTPRequestHandler):
    date = ""

    def do_GET(self) -> None:
        body = b'{"status": "ok"}'
        self.send_response_only(200)
        if self.date:
            self.send_header("Date", self.date)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's name
        del format, args


@contextmanager
def dated(date: str = "", context: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server that says this date, in TLS if there is a context for it."""
    handler = type("Handler", (_Health,), {"date": date})
    server = HTTPServer(("127.0.0.1", 0), handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http{'s' if context else ''}://localhost:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def certificate(folder: Path, days: int) -> tuple[ssl.SSLContext, Path]:
    """Return a context with a certificate for `localhost` that signs itself, and its file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=2))
        .not_valid_after(now + dt.timedelta(days=days, hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, SHA256())
    )
    path = folder / "server.pem"
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(made.public_bytes(Encoding.PEM) + key.private_bytes(*form))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context, path


@pytest.mark.parametrize(("days", "verdict"), [(100, "holds"), (5, "warns")])
@pytest.mark.usefixtures("penstock")
def test_certificates_end(
    capsys: Out, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, verdict: str
) -> None:
    """How long the certificate is good, and a warning two weeks before its end."""
    context, path = certificate(tmp_path, days)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with dated(context=context) as url:
        found = checks(capsys, "--url", url)["tls"]
    assert (found["verdict"], found["facts"]["days"]) == (verdict, days)


@pytest.mark.usefixtures("penstock")
def test_a_certificate_that_nobody_knows(capsys: Out, tmp_path: Path) -> None:
    """What is wrong with it is said, and how an authority of one's own is named."""
    context, _path = certificate(tmp_path, 10)
    with dated(context=context) as url:
        found = checks(capsys, "--url", url)["tls"]
    assert found["verdict"] == "fails"
    assert "self-signed" in found["saw"]
    assert "SSL_CERT_FILE" in found["todo"]


def test_a_server_without_tls(penstock: Stub, capsys: Out) -> None:
    """https:// where nobody speaks it is told as such."""
    url = penstock.url.replace("http://", "https://")
    assert "does not speak TLS" in checks(capsys, "--url", url)["tls"]["saw"]


# -- proxies ---------------------------------------------------------------------------------------


def test_a_proxy_that_takes_internal_calls(
    penstock: Stub, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that cannot reach the server is named without its password; NO_PROXY mends it."""
    monkeypatch.setenv("HTTP_PROXY", f"http://me:secret@127.0.0.1:{closed_port()}")
    found = checks(capsys)
    assert (found["server"]["verdict"], found["proxy"]["verdict"]) == ("fails", "fails")
    assert "NO_PROXY" in found["proxy"]["todo"]
    assert "secret" not in json.dumps(found)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert checks(capsys)["proxy"]["verdict"] == "holds"
    assert penstock.calls("GET")


def test_a_proxy_that_knows_the_way(
    penstock: Stub, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it works it is a detour for an internal host, and all right for any other."""
    monkeypatch.setenv("HTTP_PROXY", penstock.url)
    penstock.answers |= {
        ("GET", f"http://{host}{path}"): penstock.answers["GET", path]
        for host in ("batch.corp", "penstock.example.com")
        for path in ("/healthz", "/openapi.json")
    }
    found = checks(capsys, "--url", "http://batch.corp")
    assert (found["server"]["verdict"], found["proxy"]["verdict"]) == ("holds", "warns")
    found = checks(capsys, "--url", "http://penstock.example.com")
    assert (found["tls"]["verdict"], found["proxy"]["verdict"]) == ("warns", "holds")


# -- the key ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "verdict", "code"),
    [
        (error(401, "unauthenticated", "The API key is not known."), "fails", 4),
        (error(401, "key_revoked", "The key was revoked."), "fails", 4),
        (error(403, "organization_forbidden", "Not for this organisation."), "fails", 4),
        (error(500, "internal", "oops"), "unknown", 0),
        (error(404, "not_found", "no such key"), "holds", 0),
        (error(403, "scope_missing", "x", hint="nothing that can be read"), "holds", 0),
        (Reply(401, b"<html>"), "fails", 4),
    ],
)
def test_keys_that_are_refused(
    penstock: Stub, capsys: Out, answer: Reply, verdict: str, code: int
) -> None:
    """Unknown, revoked, of another organisation: exit code 4 and what to do."""
    penstock.serve(KEY_PATH, answer)
    found = checks(capsys)["key"]
    assert (found["verdict"], found["code"]) == (verdict, code)


@pytest.mark.parametrize("key", ["has blank", "ümlaut"])
def test_keys_that_cannot_be_sent(
    penstock: Stub, capsys: Out, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """What cannot be a header is not sent, and neither is nothing."""
    monkeypatch.setenv("PENSTOCK_API_KEY", key)
    assert checks(capsys)["key"]["code"] == 4
    monkeypatch.delenv("PENSTOCK_API_KEY")
    assert "there is none" in checks(capsys)["key"]["saw"]
    assert not [seen for seen in penstock.seen if "authorization" in seen.headers]


def test_a_refusal_tells_what_a_key_may_do(penstock: Stub, capsys: Out) -> None:
    """A key that may not look at keys is described by the server's own hint."""
    hint = (
        "Its user is viewer of the organisation org_9; the key may do: jobs:read. "
        "Ask an owner or admin."
    )
    penstock.serve(KEY_PATH, error(403, "scope_missing", "It lacks keys:read.", hint=hint))
    found = checks(capsys, "--key", KEY)
    assert "viewer of org_9" in found["key"]["saw"]
    assert found["scopes"]["verdict"] == "warns"
    assert "jobs:write" in found["scopes"]["todo"]
    assert found["expiry"]["verdict"] == "unknown"


@pytest.mark.parametrize(
    ("scopes", "days", "verdicts"),
    [
        (["*"], None, ("holds", "holds")),
        (["jobs:read", "jobs:write"], 100, ("holds", "holds")),
        ([], 3, ("warns", "warns")),
    ],
)
def test_scopes_and_expiry(
    penstock: Stub, capsys: Out, scopes: list[str], days: int | None, verdicts: tuple[str, str]
) -> None:
    """What a key may do and how long; two weeks before its end it is time for another."""
    now = dt.datetime.now(dt.UTC).timestamp()
    ends_at = None if days is None else int(now) + days * DAY + 60
    penstock.serve(KEY_PATH, reply(user_id="ada", scopes=scopes, expires_at=ends_at))
    found = checks(capsys)
    assert (found["scopes"]["verdict"], found["expiry"]["verdict"]) == verdicts


def test_a_connection_that_breaks_at_the_key(penstock: Stub, capsys: Out) -> None:
    """Nothing is said about a key that was not answered for."""
    penstock.serve(KEY_PATH, Reply(200, b"{}", {"Content-Length": "9"}, 1))
    assert checks(capsys)["key"]["verdict"] == "unknown"
    penstock.serve("/openapi.json", Reply(200, b"{}", {"Content-Length": "9"}, 1))
    assert checks(capsys)["version"]["verdict"] == "unknown"


# -- this machine ----------------------------------------------------------------------------------


def test_profiles_are_named(
    penstock: Stub, capsys: Out, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The file, its mode and the profile in use; one that others may read is a wrong usage."""
    monkeypatch.delenv("PENSTOCK_API_KEY")
    monkeypatch.delenv("PENSTOCK_URL")
    path = tmp_path / "config" / "config.toml"
    path.parent.mkdir()
    path.write_text(
        f'current = "work"\n[profiles.work]\nurl = "{penstock.url}"\nkey = "{KEY}"\n'
        'organization = "org_1"\n'
    )
    path.chmod(0o600)
    found = checks(capsys)
    assert "profile work, mode 0600" in found["config"]["saw"]
    assert penstock.seen[-1].headers["x-organization-id"] == "org_1"
    path.chmod(0o644)
    found = checks(capsys)
    assert (found["config"]["verdict"], found["config"]["code"]) == ("fails", 2)
    assert set(found) == {"config", "disk", "python", "completion"}


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/zsh", "/usr/bin/fish"])
@pytest.mark.usefixtures("penstock")
def test_completion_that_is_not_there(
    capsys: Out, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shell: str
) -> None:
    """A warning with the command that installs it; unknown shells are left alone."""
    (tmp_path / ".bashrc").write_text("")
    monkeypatch.setenv("SHELL", shell)
    found = checks(capsys)["completion"]
    assert (found["verdict"], found["code"]) == ("warns", 0)
    monkeypatch.setenv("SHELL", "/bin/dash")
    assert checks(capsys)["completion"]["verdict"] == "holds"


@pytest.mark.parametrize(
    "arguments",
    [["--server", "--vertex"], ["--spend"], ["--clean"], ["--vertex", "--patience", "soon"]],
)
def test_questions_that_exclude_each_other(capsys: Out, arguments: list[str]) -> None:
    """Wrong combinations are a wrong usage."""
    assert run(["doctor", *arguments]) == 2
    assert "error[usage]" in capsys.readouterr().err
