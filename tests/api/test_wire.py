"""What only a real socket can show: cut uploads, unread bodies, addresses as they are written."""

import asyncio
import gzip
import hashlib
import logging
import os
import socket
import time
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx2
import orjson
import pytest
from backports import zstd
from tests.api.driver import BASE, Api, files, job_ids, lines, permit, submission
from tests.fake_clock import FakeClock
from tests.wire import serving

from penstock.api.protocol import guarded
from penstock.blobs.spool import Spool
from penstock.core.job import Job
from penstock.core.limits import Limits
from penstock.store.store import Store

MakeJob = Callable[..., Job]
PATIENCE_SECONDS = 20.0


@pytest.fixture
async def url(store: Store, spool: Spool, tmp_path: Path) -> AsyncIterator[str]:
    """The address of the application behind our own protocol, over the test's database."""
    del store
    own = Store.open(tmp_path / "penstock.db")
    limits = Limits()
    with serving(Api(own, spool, FakeClock(), limits).app, guarded(limits)) as address:
        yield address


@pytest.fixture
async def key(store: Store) -> str:
    """A key of acme."""
    return await permit(store, "acme")


@pytest.fixture
async def client(url: str, key: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of acme."""
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE_SECONDS) as made:
        yield made


def connect(url: str) -> socket.socket:
    """A connection to the server."""
    address = urlsplit(url)
    return socket.create_connection(
        (str(address.hostname), int(address.port or 0)), timeout=PATIENCE_SECONDS
    )


def head(key: str | None, length: int, **headers: str) -> bytes:
    """The head of a submission."""
    authorization = "" if key is None else f"Authorization: Bearer {key}\r\n"
    start = f"POST {BASE}/requests HTTP/1.1\r\nHost: x\r\n{authorization}"
    for name, value in headers.items():
        start += f"{name.replace('_', '-')}: {value}\r\n"
    return f"{start}Content-Length: {length}\r\n\r\n".encode()


def until(done: Callable[[], bool]) -> bool:
    """Look until it is so; False when that took too long."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < ends:
        if done():
            return True
        os.sched_yield()
    return False


async def test_a_submission_over_the_wire(client: httpx2.AsyncClient, spool: Spool) -> None:
    """A chunked body of some megabytes is accepted as it is."""
    data = lines(20_000)
    body = orjson.dumps(submission(data))

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 70_001):
            yield body[start : start + 70_001]

    answer = await client.post(f"{BASE}/requests", content=chunks())
    assert answer.status_code == 200, answer.text
    assert spool.path(answer.json()["request_id"], "input.jsonl").read_text() == data


async def test_a_cut_upload_leaves_nothing(
    url: str, key: str, store: Store, tmp_path: Path
) -> None:
    """A connection that breaks in the middle of an upload leaves neither job nor file."""
    body = orjson.dumps(submission(lines(20_000)))
    with closing(connect(url)) as connection:
        connection.sendall(head(key, len(body)) + body[: len(body) // 2])
        assert until(lambda: bool(files(tmp_path / "data")))
    assert until(lambda: not files(tmp_path / "data"))
    assert await job_ids(store) == set()


JSONL = lines(20_000).encode()
PART = b'Content-Disposition: form-data; name="file"; filename="x.jsonl"'
FORM = b"--cut\r\n%b\r\n\r\n%b\r\n--cut--\r\n" % (PART, JSONL)
NOISE = b"".join(
    b'{"key":"%b","request":{"contents":[{"parts":[{"text":"x"}]}]}}\n'
    % os.urandom(32).hex().encode()
    for _ in range(20_000)
)
BODIES = {
    "application/jsonl": JSONL,
    "multipart/form-data; boundary=cut": FORM,
    "application/jsonl gzip": gzip.compress(NOISE),
    "application/jsonl zstd": zstd.compress(NOISE),
}


@pytest.mark.parametrize("form", BODIES)
async def test_a_body_cut_at_any_door_leaves_nothing(
    url: str, key: str, store: Store, tmp_path: Path, form: str
) -> None:
    """A connection that breaks in the middle leaves neither job nor file, whatever it carried."""
    kind, _, encoding = form.replace("; ", ";").partition(" ")
    body = BODIES[form]
    named = {"Content_Type": kind, "Content_Encoding": encoding or "identity"}
    with closing(connect(url)) as connection:
        connection.sendall(head(key, len(body), **named) + body[: len(body) // 2])
        assert until(lambda: bool(files(tmp_path / "data")))
    assert until(lambda: not files(tmp_path / "data"))
    assert await job_ids(store) == set()


@pytest.mark.parametrize("form", BODIES)
async def test_every_door_over_the_wire(
    client: httpx2.AsyncClient, store: Store, spool: Spool, form: str
) -> None:
    """Megabytes in odd chunks arrive as they were, through each door."""
    kind, _, encoding = form.replace("; ", ";").partition(" ")
    body = BODIES[form]

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 70_001):
            yield body[start : start + 70_001]

    headers = {"Content-Type": kind, "Content-Encoding": encoding or "identity"}
    answer = await client.post(f"{BASE}/requests", content=chunks(), headers=headers)
    assert answer.status_code == 200, answer.text
    data = NOISE if encoding else JSONL
    job = await store.jobs.load(answer.json()["request_id"])
    assert job is not None
    assert (job.input_sha256, job.line_count) == (hashlib.sha256(data).hexdigest(), 20_000)
    assert spool.path(job.id, "input.jsonl").read_bytes() == data


async def test_a_bomb_over_the_wire_is_answered(
    url: str, key: str, store: Store, tmp_path: Path
) -> None:
    """A bomb is refused as soon as it is one, while most of the body was not even sent."""
    packer = zlib.compressobj(9, wbits=31)
    start = packer.compress(bytes(128 * 1_048_576))
    named = {"Content_Type": "application/jsonl", "Content_Encoding": "gzip"}
    with closing(connect(url)) as connection:
        connection.sendall(head(key, 8 * len(start), **named) + start)
        answer = connection.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 413")
        # Head and body may come apart.
        while b"compression_bomb" not in answer:
            more = connection.recv(65_536)
            assert more
            answer += more
    assert until(lambda: not files(tmp_path / "data"))
    assert await job_ids(store) == set()


async def test_a_cut_upload_is_no_error(
    url: str, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that goes away is one line of the log, with 499, and no traceback."""
    caplog.set_level(logging.INFO, logger="penstock.http")
    with closing(connect(url)) as connection:
        connection.sendall(head(key, 10_000) + b'{"payload": {"input')
    assert until(lambda: f"POST {BASE}/requests 499" in caplog.text)
    assert "Traceback" not in caplog.text


async def test_a_stranger_is_refused_before_the_body(url: str, tmp_path: Path) -> None:
    """401 comes after the headers, while not a byte of the declared gigabyte was sent."""
    with closing(connect(url)) as connection:
        connection.sendall(head(None, 10**9))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 401")
    assert files(tmp_path / "data") == []


async def test_a_length_over_the_limit_is_refused_before_the_body(url: str, key: str) -> None:
    """413 comes after the headers."""
    with closing(connect(url)) as connection:
        connection.sendall(head(key, 10**11))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("length", [b"-1", b"1e3", b"+5", b"0x5", b"5, 6", b""])
async def test_an_odd_length_is_refused(url: str, key: str, length: bytes) -> None:
    """A Content-Length that is no number never reaches the application."""
    sent = head(key, 5).replace(b"Content-Length: 5", b"Content-Length: " + length)
    with closing(connect(url)) as connection:
        connection.sendall(sent)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 400")


async def test_an_id_survives_percent_encoding(
    client: httpx2.AsyncClient, store: Store, new_job: MakeJob
) -> None:
    """One client encodes every id, and even an encoder that spares nothing is understood."""
    job = new_job()
    await store.jobs.add(job)
    spelled = "".join(f"%{byte:02X}" for byte in job.id.encode())
    for written in (quote(job.id, safe=""), spelled):
        answer = await client.get(f"{BASE}/requests/{written}")
        assert (answer.status_code, answer.json()["request_id"]) == (200, job.id)


@pytest.mark.parametrize("path", ["%00", "%2e%2e%2f", "%FF", "'%20OR%201=1", "%F0%9F%92%A9"])
async def test_a_hostile_id_is_absent(client: httpx2.AsyncClient, path: str) -> None:
    """No id crashes anything; what does not exist is 404."""
    answer = await client.get(f"{BASE}/requests/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_many_submissions_at_once_are_all_stored(
    client: httpx2.AsyncClient, store: Store
) -> None:
    """Parallel uploads do not mix, and each gets an id of its own."""
    bodies = [submission(lines(number + 1)) for number in range(8)]
    answers = await asyncio.gather(*(client.post(f"{BASE}/requests", json=body) for body in bodies))
    jobs = [await store.jobs.load(answer.json()["request_id"]) for answer in answers]
    assert [job.line_count if job else 0 for job in jobs] == list(range(1, 9))


async def test_an_answer_names_no_software(client: httpx2.AsyncClient) -> None:
    """The answer has an id for the log, and no word about what serves it."""
    answer = await client.get(f"{BASE}/requests")
    assert answer.headers["x-request-id"]
    assert "server" not in answer.headers
