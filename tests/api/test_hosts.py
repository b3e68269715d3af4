import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.wire import serving

from penstock.api.hosts import PROBES, KnownAs, name_of
from penstock.api.protocol import guarded
from penstock.core.limits import Limits
from penstock.settings import Settings, build, emulator_values
from penstock.startup import known_as
from penstock.wiring import Server

SOURCE = Path(__file__).resolve().parents[2] / "src" / "penstock"
NAMES = {"hosts_allowed": ["batch.example", "[fd00::7]"], "public_url": "https://x.example:8443/p"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a server on loopback that has other names too."""
    vertex = emulator_values("http://127.0.0.1:9")
    return build({"data_dir": str(tmp_path_factory.mktemp("h") / "d"), "vertex": vertex, **NAMES})


@pytest.fixture(scope="module")
def server(settings: Settings) -> Iterator[Server]:
    """The application as it is wired; its engine does not run."""
    made = Server(settings)
    yield made
    asyncio.run(made.close())


async def asked(
    server: Server, path: str, host: str | None, method: str = "GET"
) -> tuple[int, str]:
    """Status and code of an answer to a request with this Host, past every client's own opinion."""
    headers = [] if host is None else [(b"host", host.encode("latin-1"))]
    return await asked_raw(server, path, headers, method)


async def asked_raw(
    server: Server, path: str, headers: list[tuple[bytes, bytes]], method: str = "GET"
) -> tuple[int, str]:
    """The same with any headers."""
    scope = {"type": "http", "method": method, "path": path, "query_string": b""}
    scope |= {"headers": headers, "raw_path": path.encode(), "root_path": "", "scheme": "http"}
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        raise AssertionError("nobody reads a body before the Host is known")

    async def send(message: object) -> None:
        assert isinstance(message, dict)
        sent.append(message)

    await server.app({**scope, "client": None, "server": ("127.0.0.1", 1)}, receive, send)
    status, body = sent[0]["status"], sent[-1].get("body", b"")
    assert isinstance(status, int)
    assert isinstance(body, bytes)
    found = re.search(rb'"code":"(\w+)"', body)
    return status, found[1].decode() if found else ""


OWN = [
    *(
        "localhost",
        "localhost:",
        "LOCALHOST:8080",
        "127.0.0.1",
        "127.0.0.1:65535",
        "[::1]",
        "[::1]:1",
    ),
    *("batch.example", "Batch.Example:443", "batch.example.", "x.example", "x.example:8443"),
    *("[fd00::7]", "[fd00:0:0:0:0:0:0:7]:80", "[FD00::7]"),
]
FOREIGN = [
    *("evil.example", "localhost.evil.example", "evil.localhost", "batch.example.evil.example"),
    *("xbatch.example", "127.0.0.2", "127.1", "2130706433", "0x7f.0.0.1", "0.0.0.0", "[::]"),
    *("[::ffff:127.0.0.1]", "169.254.169.254", "metadata.google.internal", "example", "penstock"),
]
MALFORMED = [
    *(
        "",
        " ",
        "localhost ",
        " localhost",
        "localhost\t",
        "local host",
        "localhost:x",
    ),
    *("localhost:65536", "localhost:123456", "localhost:-1", "localhost:+1", "localhost:1:1"),
    *(
        "a/public?x=",
        "localhost/..",
        "localhost?",
        "localhost#",
        "localhost\\evil",
        "evil@localhost",
    ),
    *("localhost@evil", "http://localhost", "//localhost", "localhost,evil", "localhost;evil"),
    *(
        "[::1",
        "::1",
        "[::1]x",
        "[::1]:x",
        "[fe80::1%eth0]",
        "[]",
        "[localhost]",
        "[v1.a]",
        "[12345::]",
    ),
    *(
        ".localhost",
        "localhost..",
        "-localhost",
        "localhost-",
        "a" * 64,
        "a." * 127 + "aa",
        "lo\0cal",
    ),
    *("localhost\r\nX: y", "l\xf6calhost", "\u0131".encode().decode("latin-1"), "*", "%6cocalhost"),
]


@pytest.mark.parametrize("host", OWN)
async def test_a_name_of_ours_is_let_in(server: Server, host: str) -> None:
    """Loopback names, the public host and what the operator named, with any port, in any case."""
    assert await asked(server, "/openapi.json", host) == (200, "")


@pytest.mark.parametrize("host", FOREIGN)
async def test_another_name_is_refused(server: Server, host: str) -> None:
    """A request for another server gets 421, and is neither routed nor authenticated."""
    assert await asked(server, "/openapi.json", host) == (421, "host_not_allowed")


@pytest.mark.parametrize("host", MALFORMED)
async def test_a_malformed_host_is_refused(server: Server, host: str) -> None:
    """What is no name with an optional port gets 400, as HTTP/1.1 asks."""
    assert await asked(server, "/openapi.json", host) == (400, "host_invalid")


@pytest.mark.parametrize(
    "hosts", [[], ["localhost", "localhost"], ["localhost", "evil.example"], ["", "localhost"]]
)
async def test_one_host_is_asked_for(server: Server, hosts: list[str]) -> None:
    """None, and two even if they are the same, are refused."""
    headers = [(b"host", host.encode()) for host in hosts]
    assert await asked_raw(server, "/openapi.json", headers) == (400, "host_invalid")


async def test_no_other_header_names_the_host(server: Server) -> None:
    """What a proxy might say of the host counts for nothing: anybody can say it."""
    said = [(b"x-forwarded-host", b"localhost"), (b"forwarded", b"host=localhost")]
    headers = [(b"host", b"evil.example"), *said]
    assert await asked_raw(server, "/openapi.json", headers) == (421, "host_not_allowed")
    headers = [(b"host", b"localhost"), (b"x-forwarded-host", b"evil.example")]
    assert await asked_raw(server, "/openapi.json", headers) == (200, "")


async def test_every_route_but_the_probes_checks_it(server: Server) -> None:
    """Each route with each of its methods, and paths that are none, refuse a foreign Host."""
    routes = [route for route in server.app.routes if isinstance(route, Route)]
    assert len(routes) > 20
    calls = {(method, route.path) for route in routes for method in route.methods or ()}
    calls |= {("GET", path) for path in ("/", "/nowhere", "/healthz/", "//healthz", "/HEALTHZ")}
    open_to_all = {
        path
        for method, path in calls
        if (await asked(server, path, "evil.example", method))[0] != 421
    }
    assert open_to_all == PROBES


async def test_probes_need_no_host(server: Server) -> None:
    """Kubernetes asks by the address of a pod, which nobody knows beforehand."""
    for headers in ([], [(b"host", b"10.1.2.3:8080")], [(b"host", b"a/b")]):
        assert (await asked_raw(server, "/healthz", headers))[0] == 200


def test_a_refusal_is_whole(settings: Settings, server: Server) -> None:
    """Over a real connection: our shape, the security headers, and no body is waited for."""
    app = server.app
    with serving(without_lifespan(app), guarded(Limits())) as url:
        port = urlsplit(url).port
        headers = {"Host": "evil.example", "Expect": "100-continue"}
        answer = httpx2.post(
            f"http://127.0.0.1:{port}/api/v1/ie/requestqueue/requests", headers=headers
        )
        good = httpx2.get(f"http://127.0.0.1:{port}/openapi.json", headers={"Host": "x.example"})
    assert (answer.status_code, answer.json()["code"]) == (421, "host_not_allowed")
    assert "hosts_allowed" in answer.json()["hint"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "x-request-id" in answer.headers
    assert good.status_code == 200
    assert good.headers["strict-transport-security"] == "max-age=31536000; includeSubDomains"
    assert known_as(settings) == KnownAs(
        names=frozenset({"localhost", "127.0.0.1", "::1", "batch.example", "fd00::7", "x.example"}),
        is_https=True,
    )


def without_lifespan(app: ASGIApp) -> ASGIApp:
    """The application without its beginning and end; the fixture ends it."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        for _ in range(2):
            await send({"type": (await receive())["type"] + ".complete"})

    return served


@pytest.mark.parametrize("host", ["a" * 63, "a_b", "1.2.3.4", "xn--e1afmkfd", "A-B.C"])
def test_odd_names_are_names(host: str) -> None:
    """Underscores of Compose, digits and punycode are read; the spelling is one."""
    assert name_of(host) == host.lower()


def test_nobody_asks_the_url() -> None:
    """No code of the API reads host, name or path from the request's URL, which a caller writes.

    The path of an upload is the route's own, and its query is stored as it was sent.
    """
    used = {
        (path.name, found)
        for path in SOURCE.rglob("*.py")
        # The emulator is a tool of development, and stands in for others' API.
        if path.parent.name != "emulator"
        for found in re.findall(r"request\.(?:base_)?url(?:\.\w+|_for)?", path.read_text("utf-8"))
    }
    assert used <= {("uploads.py", "request.url.query"), ("uploads.py", "request.url.path")}
