"""Pieces over real connections that are cut where nobody expects it."""

import asyncio
import base64
import gzip
import io
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.api.driver import BASE, Api, files, lines, permit, submission
from tests.fake_clock import START, FakeClock
from tests.wire import serving

from penstock.api.protocol import guarded
from penstock.api.upload_fields import PARTIAL_TYPE
from penstock.blobs.spool import INPUT, Spool
from penstock.client import Api as Calls
from penstock.client.pieces import PIECES_FROM_BYTES
from penstock.core.job import OrgId
from penstock.core.limits import Limits
from penstock.store.store import Store

URL = f"{BASE}/uploads"
LIMITS = Limits(uploads_open_max=100_000)
PATIENCE_SECONDS = 20.0
DATA = lines(300).encode()
BODIES = {
    "jsonl": ("application/jsonl", "", DATA),
    "gzip": ("application/jsonl", "gzip", gzip.compress(DATA, 1)),
    "json": ("application/json", "", json.dumps(submission(DATA.decode())).encode()),
    "base64": (
        "application/json",
        "",
        json.dumps(submission(base64.b64encode(DATA).decode())).encode(),
    ),
}


class Server:
    """A server behind our own protocol, and a client of it."""

    def __init__(self, url: str, key: str, api: Api, folder: Path) -> None:
        self.url = url
        self.api = api
        self.spool = api.spool
        self.folder = folder
        self.key = key
        headers = {"Authorization": f"Bearer {key}"}
        self.http = httpx2.Client(base_url=url, headers=headers, timeout=PATIENCE_SECONDS)

    def begin(self, kind: str) -> str:
        """Begin an upload of one of the bodies."""
        type_, encoding, body = BODIES[kind]
        headers = {"Content-Type": type_, "Upload-Complete": "?0", "Upload-Length": str(len(body))}
        if encoding:
            headers["Content-Encoding"] = encoding
        answer = self.http.post(URL, headers=headers)
        assert answer.status_code == 201, answer.text
        return str(answer.headers["location"])

    def offset(self, where: str) -> int:
        """Ask where to go on."""
        answer = self.http.head(where)
        assert answer.status_code == 204
        return int(answer.headers["upload-offset"])

    def send(self, where: str, offset: int, data: bytes, complete: str) -> httpx2.Response:
        """Send a piece."""
        return self.http.patch(where, content=data, headers=fields(offset, complete))

    def cut(self, where: str, offset: int, data: bytes, complete: str) -> None:
        """Send the head of a piece and only some of its bytes, or all and read no answer.

        A piece that is not all there is under way when this returns: if the question for the offset
        overtook it, it would come as a stranger afterwards.
        """
        headers = {**fields(offset, complete), "Authorization": f"Bearer {self.key}", "Host": "x"}
        headers["Content-Length"] = str(len(DATA) + 1 if complete == "?0" else len(data))
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        address = urlsplit(self.url)
        place = (str(address.hostname), int(address.port or 0))
        with socket.create_connection(place, timeout=PATIENCE_SECONDS) as connection:
            connection.sendall(f"PATCH {where} HTTP/1.1\r\n{head}\r\n".encode() + data)
            ends = time.monotonic() + PATIENCE_SECONDS
            while complete == "?0" and not self.api.uploads.is_busy(where.rpartition("/")[2]):
                assert time.monotonic() < ends
                os.sched_yield()

    def count(self) -> int:
        """How many jobs there are."""
        return int(self.http.get(f"{BASE}/requests").json()["total"])


def fields(offset: int, complete: str) -> dict[str, str]:
    """The head of a piece."""
    return {
        "Content-Type": PARTIAL_TYPE,
        "Upload-Complete": complete,
        "Upload-Offset": str(offset),
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, template_database: bytes) -> Iterator[Server]:
    """One server for all cuts: each upload is its own."""
    folder = tmp_path_factory.mktemp("uploads")
    database = folder / "penstock.db"
    database.write_bytes(template_database)

    async def permitted() -> str:
        store = Store.open(database)
        await store.tenants.ensure_org(OrgId("acme"), "acme", START)
        await store.tenants.ensure_user("acme-user", OrgId("acme"), "owner", START)
        key = await permit(store, "acme")
        await store.close()
        return key

    key = asyncio.run(permitted())
    spool = Spool(folder / "data")
    api = Api(Store.open(database), spool, FakeClock(), LIMITS)
    with serving(api.app, guarded(LIMITS)) as url:
        made = Server(url, key, api, folder)
        with made.http:
            yield made


@given(
    kind=st.sampled_from(sorted(BODIES)),
    sizes=st.lists(st.integers(0, 9_000), max_size=8),
    cuts=st.lists(st.booleans(), min_size=8, max_size=8),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_pieces_and_cuts_give_the_job_of_one_post(
    server: Server, kind: str, sizes: list[int], cuts: list[bool]
) -> None:
    """However the body is divided and wherever it is cut, the job is that of one POST."""
    _type, _encoding, body = BODIES[kind]
    jobs = server.count()
    where = server.begin(kind)
    offset = 0
    for size, is_cut in zip(sizes, cuts, strict=False):
        data = body[offset : offset + size]
        if is_cut and offset + len(DATA) + 1 <= len(body):
            server.cut(where, offset, data, "?0")
            now = server.offset(where)
            # What the server had not read yet when it was asked does not count.
            assert offset <= now <= offset + len(data)
            offset = now
        else:
            answer = server.send(where, offset, data, "?0")
            assert answer.status_code == 204
            offset += len(data)
            assert answer.headers["upload-offset"] == str(offset)
    answer = server.send(where, offset, body[offset:], "?1")
    assert answer.status_code == 200, answer.text
    request_id = answer.json()["request_id"]
    assert server.spool.path(request_id, INPUT).read_bytes() == DATA
    assert server.count() == jobs + 1


def test_what_came_before_a_cut_is_kept(server: Server) -> None:
    """Bytes that were received count, though their request had no end."""
    where = server.begin("json")
    body = BODIES["json"][2]
    server.cut(where, 0, body[:5_000], "?0")
    offsets = {server.offset(where) for _ in range(2)}
    (offset,) = offsets
    assert 0 <= offset <= 5_000
    assert server.send(where, offset, body[offset:], "?1").status_code == 200


def test_a_finish_whose_answer_nobody_read_made_its_job(server: Server) -> None:
    """The client vanishes with the last byte; asking again, it is told the one job."""
    jobs = server.count()
    where = server.begin("jsonl")
    server.cut(where, 0, DATA, "?1")
    # The server may be reading, checking or done; each leads to the same end.
    answer = None
    while answer is None or answer.status_code in {409, 423}:
        offset = server.offset(where)
        answer = server.send(where, offset, DATA[offset:], "?1")
    assert answer.status_code == 200, answer.text
    again = server.send(where, len(DATA), b"", "?1")
    assert again.json()["request_id"] == answer.json()["request_id"]
    assert server.count() == jobs + 1


class Cutting(httpx2.BaseTransport):
    """A network that breaks in the middle of the first pieces, and once before an answer."""

    def __init__(self) -> None:
        self._real = httpx2.HTTPTransport()
        self.pieces = 0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Pass a request on, or some of it."""
        if request.method != "PATCH":
            return self._real.handle_request(request)
        self.pieces += 1
        if self.pieces <= 2:
            request.stream = Half(request.stream)
        answer = self._real.handle_request(request)
        if self.pieces == 3:
            answer.close()
            raise httpx2.ReadError("the answer was lost", request=request)
        return answer

    def close(self) -> None:
        """Close the connections."""
        self._real.close()


class Half(httpx2.SyncByteStream):
    """Some megabytes of a body, and then the connection breaks."""

    def __init__(self, stream: object) -> None:
        assert isinstance(stream, httpx2.SyncByteStream)
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        for number, chunk in enumerate(self._stream):
            if number == 20:
                raise httpx2.WriteError("the network is gone")
            yield chunk


def test_our_client_gets_through(server: Server) -> None:
    """Two cuts and a lost answer later, a large file is one job with exactly its bytes."""
    jobs = server.count()
    data = lines(PIECES_FROM_BYTES // len(lines(1)) + 1_000).encode()
    network = Cutting()
    with Calls(server.url, server.key, transport=network, sleep=lambda _: None) as client:
        job = client.submit(io.BytesIO(data))
    assert network.pieces == 4
    assert server.spool.path(job.request_id, INPUT).read_bytes() == data
    assert server.count() == jobs + 1


def test_a_cut_start_leaves_nothing(server: Server) -> None:
    """Nobody was told where the upload is, so nobody could go on, and nothing of it stays."""
    before = files(server.folder / "data" / "uploads")
    address = urlsplit(server.url)
    head = (
        f"POST {URL} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.key}\r\n"
        "Upload-Complete: ?0\r\nContent-Length: 1000\r\n\r\nabc"
    )
    place = (str(address.hostname), int(address.port or 0))
    with socket.create_connection(place, timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(head.encode())
        while files(server.folder / "data" / "uploads") == before:
            server.count()
    while files(server.folder / "data" / "uploads") != before:
        server.count()
