"""What a server shows of itself while all goes wrong: no secret, all headers, no forged line.

A real server process at debug level on a real Postgres, with canaries for all that it knows.
"""

import http.client
import json
import re
from collections.abc import Iterator
from itertools import product
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from tests.journeys.service import FAST, Process, Service, prompt
from tests.postgres import PASSWORD, PostgresServer

from penstock.core.key import new_key

Json = dict[str, Any]
MASTER = "canary-master-7f3a91c05be2d846-e1b09d4477aa"
TOKEN = "canary-token-7f3a91c05be2d846"  # looked for
BASE = "/api/v1/ie/requestqueue/apikey"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
WRONG = new_key()

HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
OWN_POLICY = {
    # The page of the reference shows its own style sheet, and nothing else.
    "/docs": "content-security-policy",
    "/docs/style.css": "cache-control",
}
"""Routes that set a header themselves."""


BEFORE_THE_APPLICATION = {400, 408, 417, 431}
"""Refused by the protocol, which knows no request yet and so has no id for it."""


class Answer(msgspec.Struct, frozen=True):
    """One answer, as it came."""

    method: str
    path: str
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def kind(self) -> tuple[str, str, int, str]:
        """What makes it different from others."""
        found = re.search(rb'"message":"([^"]*)"', self.body)
        return self.method, self.path, self.status, found[1].decode() if found else ""

    @property
    def text(self) -> bytes:
        """All of it."""
        return repr(self.headers).encode() + self.body


class Exposed:
    """A running server, its log, and everything that it answered."""

    def __init__(self, service: Service, server: Process) -> None:
        self.service = service
        self.key = server.said["key"]
        self.address = urlsplit(server.said["url"])
        self.answers: list[Answer] = []

    @property
    def log(self) -> str:
        """What the server logged until now, without what the command itself says at its start."""
        text = (self.service.folder / "server.log").read_text("utf-8")
        return text.replace("This first key is shown once; only its hash is stored.\n", "")

    def ask(
        self, method: str, path: str, body: bytes | str | None = None, **headers: str
    ) -> Answer:
        """Send a request as it is; `_` in the name of a header stands for `-`."""
        connection = http.client.HTTPConnection(self.address.hostname or "", self.address.port, 20)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body=body, headers=named)
            reply = connection.getresponse()
            answer = Answer(method, path, reply.status, reply.getheaders(), reply.read())
        finally:
            connection.close()
        self.answers.append(answer)
        return answer

    def routes(self) -> list[str]:
        """The paths of the served document, under both bases, and those that it leaves out."""
        paths = json.loads(self.ask("GET", "/openapi.json").body)["paths"]
        short = {path.replace("/apikey/", "/") for path in paths}
        return sorted({*paths, *short, "/openapi.json", "/docs", "/docs/style.css", "/nowhere"})


@pytest.fixture(scope="module")
def exposed(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer
) -> Iterator[Exposed]:
    """Server and emulator, with a canary wherever a secret can be set."""
    service = Service(tmp_path_factory.mktemp("exposed"))
    try:
        service.start_emulator()
        settings = {f"PENSTOCK_TIMING_{name}": value for name, value in FAST.items()} | {
            "PENSTOCK_SECRET": MASTER,
            "PENSTOCK_DATABASE_URL": postgres_server.url(postgres_server.create_database()),
            "PENSTOCK_LOG_LEVEL": "debug",
            "PENSTOCK_VERTEX_PROJECT": "penstock-emulator",
            "PENSTOCK_VERTEX_BUCKET": "penstock",
            "PENSTOCK_VERTEX_BASE_URL": service.emulator_url,
            "PENSTOCK_VERTEX_STORAGE_URL": service.emulator_url,
            "PENSTOCK_VERTEX_ACCESS_TOKEN": TOKEN,
            "PENSTOCK_LIMITS_JOB_LINES_MAX": "3",
        }
        arguments = ["serve", "--port", "0", "--data-dir", str(service.folder / "data")]
        service.server = Process(arguments, service.folder / "server.log", 2, **settings)
        made = Exposed(service, service.server)
        service.key = made.key
        service.http.headers["Authorization"] = f"Bearer {made.key}"
        yield made
    finally:
        service.close()


@pytest.fixture(autouse=True)
def no_rules() -> None:
    """No rules of the emulator are needed here, nor the service that has them."""


def provoke(exposed: Exposed) -> None:
    """Ask everything in every wrong way."""
    good = f"Bearer {exposed.key}"
    keys = ["", f"Bearer {WRONG}", f"Basic {exposed.key}", f"Bearer {exposed.key}x", good]
    paths = [
        path.replace("{request_id}", "req_0").replace("{", "").replace("}", "")
        for path in exposed.routes()
    ]
    for path, method in product(paths, METHODS):
        for key in keys if method in {"GET", "POST", "DELETE"} else keys[-1:]:
            exposed.ask(method, path, **({"Authorization": key} if key else {}))
    for body in BODIES:
        exposed.ask("POST", f"{BASE}/requests", body, Authorization=good)
    for query in QUERIES:
        exposed.ask("GET", f"{BASE}/requests?{query}", Authorization=good)
    for name, value in WRONG_HEADERS:
        exposed.ask("POST", f"{BASE}/requests", b"{}", **{"Authorization": good, name: value})


LINE = json.dumps(prompt("Hi"))
BODIES: list[bytes | str] = [
    *(
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"payload": 1}',
        '{"payload": {}}',
        "\ud800".encode("utf-8", "surrogatepass"),
    ),
    *(json.dumps({"payload": {"input_data": text}}) for text in ("", "{", "x\ny", "[]\n", "{}\n")),
    *(json.dumps({"payload": {"input_data": text}}) for text in (LINE * 2, f"{LINE}\n" * 9)),
    json.dumps({"payload": {"input_data": LINE, "model": "gemini-0"}}),
    json.dumps({"payload": {"input_uri": "gs://x/y"}}),
    json.dumps({"payload": {"input_uri": "https://me:it@x.example/y"}}),
    json.dumps({"payload": {"input_data": LINE, "input_uri": "gs://x/y"}}),
    '{"payload": {"input_data": "a", "input_data": "b"}}',
    b"\x00" * 100,
]
QUERIES = [
    *("status=never", "limit=x", "limit=-1", "offset=x", "cursor=x", "cursor=%00", "model=none"),
    *("limit=" + "9" * 400, "status=%ff%fe", "cursor=" + "A" * 200),
]
WRONG_HEADERS = [
    *(("Content_Encoding", coding) for coding in ("br", "gzip", "zstd", "gzip, gzip")),
    *(("Content_Type", kind) for kind in ("multipart/form-data", "application/jsonl", "x" * 500)),
    *(("X_Organization_ID", org) for org in ("other", "../..", "' OR 1=1 --", "\xff")),
    *(
        ("Expect", "200-ok"),
        ("X_Penstock_Model", "x"),
        ("Host", "evil.example"),
        ("Host", "a/b?x="),
    ),
    ("X_Filler", "x" * 20_000),
]


@pytest.mark.slow
def test_no_secret_is_shown(exposed: Exposed) -> None:
    """Over 200 different errors: no answer, header or log at debug level has a canary in it."""
    provoke(exposed)
    record = exposed.service.submit([prompt("a"), prompt("b")])
    ended = exposed.service.wait(record["request_id"])
    assert ended["status"] == "success"
    errors = {answer.kind for answer in exposed.answers if answer.status >= 400}
    secrets = [MASTER, TOKEN, PASSWORD, exposed.key[12:55], WRONG[12:55], "canary"]
    shown = [
        (secret, answer.kind)
        for answer, secret in product(exposed.answers, secrets)
        if secret.encode() in answer.text
    ]
    log = exposed.log
    assert len(errors) >= 200
    assert {answer.status for answer in exposed.answers} >= {200, 400, 401, 403, 404, 405, 415, 421}
    assert shown == []
    assert [secret for secret in secrets if secret in log] == []
    assert '"level": "debug"' in log
    # The wall had nothing to do: nothing of ours tries to log a secret.
    assert "[hidden]" not in log


@pytest.mark.slow
def test_every_answer_has_the_security_headers(exposed: Exposed) -> None:
    """Each route, with each method, at every status that could be provoked, has all of them."""
    provoke(exposed)
    # What the parser refuses never reaches the application.
    exposed.ask("GET", "/docs", X_Evil="\x1b")
    lacking = set()
    for answer in exposed.answers:
        found = {name.lower(): value for name, value in answer.headers}
        wanted = {n: v for n, v in HEADERS.items() if n != OWN_POLICY.get(answer.path)}
        lacking |= {
            (answer.kind, name) for name, value in wanted.items() if found.get(name) != value
        }
        assert "server" not in found
        assert OWN_POLICY.get(answer.path, "cache-control") in found
        assert "x-request-id" in found or answer.status in BEFORE_THE_APPLICATION
    assert lacking == set()
    assert len({(answer.path, answer.method) for answer in exposed.answers}) > 150


EVIL = '\x1b[2J\t\x85{"level": "critical", "message": "forged"}'
WHERE = [
    *("User-Agent", "X-Request-ID", "X-Organization-ID", "Authorization", "Content-Type"),
    *("X-Penstock-Model", "Idempotency-Key", "Content-Encoding", "If-None-Match", "Range"),
    *("X-Forwarded-For", "X-Forwarded-Proto", "Upload-Complete", "Accept", "Referer"),
]


def test_no_field_forges_a_log_line(exposed: Exposed) -> None:
    """Line ends, escapes and JSON in paths, queries, headers and bodies stay within one record."""
    good = f"Bearer {exposed.key}"
    encoded = "%0D%0A%1B%5B2J%7B%22level%22%3A%22critical%22%2C%22message%22%3A%22forged%22%7D"
    for path in (f"/{encoded}", f"{BASE}/requests/{encoded}", f"{BASE}/models/{encoded}"):
        exposed.ask("GET", path, Authorization=good)
        exposed.ask("DELETE", path, Authorization=good)
    for name in ("status", "cursor", "model", "limit", encoded):
        exposed.ask("GET", f"{BASE}/requests?{name}={encoded}", Authorization=good)
    for name in WHERE:
        value = EVIL.encode("latin-1").decode("latin-1")
        exposed.ask("POST", f"{BASE}/requests", b"{}", **{"Authorization": good, name: value})
    for member in ("model", "input_data", "input_uri", "custom_id"):
        body = json.dumps({"payload": {member: f"\r\n{EVIL}\n"}})
        exposed.ask("POST", f"{BASE}/requests", body, Authorization=good)
    exposed.ask("GET", "/healthz")
    records = [json.loads(line) for line in exposed.log.splitlines()]
    assert len(records) > 30
    assert all(record["level"] != "critical" for record in records)
    assert all(line.isascii() and line.isprintable() for line in exposed.log.splitlines())
    assert [record for record in records if "forged" in record["message"]] != []
