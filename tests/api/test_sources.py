"""Submissions that name where their lines lie."""

import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from backports import zstd
from tests.api.driver import BASE, TLS, Api, files, job_ids, lines, no_bucket, permit
from tests.blobs.file_server import Answer, file_server, ok
from tests.fake_clock import FakeClock

from penstock.api.doors import pulled
from penstock.blobs.fetch import Source, Web
from penstock.blobs.source import Sources
from penstock.blobs.source_uri import AllowList
from penstock.blobs.spool import Spool
from penstock.core.limits import Limits
from penstock.core.models import DEFAULT_MODEL
from penstock.errors import UnsupportedMedia
from penstock.ingest.intake import Envelope
from penstock.store.store import Store

BAD = lines(2) + '{"request": {"contents": []}}\n' + lines(1) + "{'request': 1}\n"


class Pulling:
    """An API that may pull from one server of files, and a client of it."""

    def __init__(self, api: Api, client: httpx2.AsyncClient, url: str, data: Path) -> None:
        self.api = api
        self.client = client
        self.url = url
        self._data = data

    async def submit(self, body: object) -> httpx2.Response:
        """Post a JSON body."""
        return await self.client.post(f"{BASE}/requests", json=body)

    async def is_clean(self) -> bool:
        """Whether nothing of a submission is left."""
        return not files(self._data) and not await job_ids(self.api.store)


Make = Callable[..., Awaitable[Pulling]]


@pytest.fixture
async def pulling(store: Store, spool: Spool, tmp_path: Path) -> AsyncIterator[Make]:
    """Make a pair of API and file server that gives this answer."""
    async with AsyncExitStack() as stack:

        async def make(answer: Answer, limits: Limits | None = None) -> Pulling:
            server = stack.enter_context(file_server(answer))
            url = f"http://127.0.0.1:{server.port}/in/"
            clock, limits = FakeClock(), limits or Limits()
            sources = Sources(AllowList([url]), no_bucket, Web(limits, clock, TLS))
            api = Api(store, spool, clock, limits, sources=sources)
            client = await stack.enter_async_context(api.client(await permit(store, "acme")))
            return Pulling(api, client, url, tmp_path / "data")

        yield make


def always(body: bytes, *headers: str, length: int | None = None) -> Answer:
    """The same answer to everybody."""
    return lambda _head: ok(body, *headers, length=length)


async def test_a_job_comes_from_an_address(pulling: Make) -> None:
    """The record is that of the same lines in a body, with the address and without its query."""
    pair = await pulling(always(lines(3).encode()))
    payload = {"model": DEFAULT_MODEL, "mine": 1, "input_uri": pair.url + "a.jsonl?Signature=s"}
    answer = await pair.submit({"model": "Gemini-batch-inference", "payload": payload})
    assert answer.status_code == 200
    (job_id,) = await job_ids(pair.api.store)
    job = await pair.api.store.jobs.load(job_id)
    assert job is not None
    assert (job.line_count, job.input_bytes) == (3, len(lines(3)))
    assert job.payload == {"model": DEFAULT_MODEL, "mine": 1, "input_uri": pair.url + "a.jsonl"}
    assert "Signature" not in answer.text
    assert pair.api.accepted == 1


async def test_the_flat_form_names_an_address_too(pulling: Make) -> None:
    """At the top level, beside the Gemini model."""
    pair = await pulling(always(lines(2).encode()))
    answer = await pair.submit({"model": DEFAULT_MODEL, "input_uri": pair.url + "a", "mine": "x"})
    assert answer.status_code == 200
    assert answer.json()["payload"]["mine"] == "x"


async def test_an_address_is_judged_only(pulling: Make) -> None:
    """What it holds is pulled and described, in the query's form and in that of a body."""
    pair = await pulling(always(BAD.encode()))
    url = f"{BASE}/requests?validate_only=true"
    for query, body in ((f"&input_uri={pair.url}a", None), ("", {"input_uri": pair.url + "a"})):
        answer = await pair.client.post(url + query, json=body)
        assert answer.status_code == 200, answer.text
        assert [bad["line"] for bad in answer.json()["problems"]] == [3, 5]
        assert await pair.is_clean()
    unknown = {"model": "nobody", "input_uri": pair.url + "a"}
    assert (await pair.client.post(url, json=unknown)).json()["code"] == "unknown_model"


async def test_bad_lines_of_an_address_are_put_aside(pulling: Make) -> None:
    """The option holds for lines that are pulled, too."""
    pair = await pulling(always(BAD.encode()))
    url = f"{BASE}/requests?on_invalid=quarantine"
    answer = await pair.client.post(url, json={"input_uri": pair.url + "a"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["problem_count"] == 2


@pytest.mark.parametrize("kind", ["application/jsonl", "application/x-www-form-urlencoded", ""])
async def test_the_query_names_an_address(pulling: Make, kind: str) -> None:
    """With an empty body of whatever type; model and options stand beside it."""
    pair = await pulling(always(lines(2).encode()))
    query = {"input_uri": pair.url + "a", "model": DEFAULT_MODEL, "mine": "x"}
    headers = {"Content-Type": kind} if kind else {}
    answer = await pair.client.post(f"{BASE}/requests", params=query, headers=headers)
    assert answer.status_code == 200
    assert answer.json()["payload"] == {
        "mine": "x",
        "input_uri": pair.url + "a",
        "model": DEFAULT_MODEL,
    }


@pytest.mark.parametrize("kind", ["application/jsonl", "application/json", "multipart/form-data"])
async def test_an_address_and_a_body_exclude_each_other(pulling: Make, kind: str) -> None:
    """Which one counts would be a guess."""
    pair = await pulling(always(lines(2).encode()))
    answer = await pair.client.post(
        f"{BASE}/requests",
        params={"input_uri": pair.url + "a"},
        content=lines(1).encode(),
        headers={"Content-Type": kind},
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "ambiguous_input")


@pytest.mark.parametrize(
    ("name", "header"), [("a.jsonl.gz", ""), ("a", "Content-Encoding: x-gzip")]
)
async def test_a_compressed_source_is_read(pulling: Make, name: str, header: str) -> None:
    """The server's Content-Encoding or the name's end says how."""
    body = gzip.compress(lines(4).encode())
    pair = await pulling(always(body, *([header] if header else [])))
    answer = await pair.submit({"input_uri": pair.url + name})
    assert answer.status_code == 200
    (job_id,) = await job_ids(pair.api.store)
    job = await pair.api.store.jobs.load(job_id)
    assert job is not None
    assert job.line_count == 4


@pytest.mark.parametrize(
    ("encoding", "name", "found"),
    [
        (None, "https://h/a", None),
        (None, "https://h/a.gz", "gzip"),
        (None, "gs://b/a.jsonl.zst", "zstd"),
        ("zstd", "https://h/a.gz", "zstd"),
    ],
)
def test_the_header_counts_more_than_the_name(
    encoding: str | None, name: str, found: str | None
) -> None:
    """A name is only a name; the envelope tells the address."""
    source = Source(shown=name, chunks=nothing(), content_length=7, encoding=encoding)
    upload = pulled(source, Envelope(model="m", payload={"a": 1}, flat=True, input_uri="raw"))
    assert (upload.encoding, upload.content_length) == (found, 7)
    assert upload.envelope == Envelope(model="m", payload={"a": 1}, flat=True, input_uri=name)


def test_an_unknown_encoding_is_refused() -> None:
    """What is not read in a body is not read from a source."""
    source = Source(shown="https://h/a", chunks=nothing(), content_length=7, encoding="br")
    with pytest.raises(UnsupportedMedia, match="'br'"):
        pulled(source, Envelope(model=None, payload={}, flat=True))


async def nothing() -> AsyncIterator[bytes]:
    """No bytes."""
    for chunk in list[bytes]():
        yield chunk


async def test_bad_lines_are_reported_as_for_a_body(pulling: Make) -> None:
    """All of them, with line and column, the same as if they had been sent; nothing is stored."""
    pair = await pulling(always(BAD.encode()))
    answer = await pair.submit({"input_uri": pair.url + "a"})
    sent = await pair.submit({"input_data": BAD})
    assert answer.status_code == sent.status_code == 400
    assert answer.json() == sent.json()
    assert [problem["line"] for problem in answer.json()["details"]] == [3, 5]
    assert await pair.is_clean()


async def test_a_cut_source_stores_nothing(pulling: Make) -> None:
    """A source that breaks off is an error that says to try again, and leaves nothing."""
    pair = await pulling(always(lines(5_000).encode(), length=10_000_000))
    answer = await pair.submit({"input_uri": pair.url + "a"})
    assert (answer.status_code, answer.json()["code"]) == (503, "source_unavailable")
    assert answer.headers["retry-after"]
    assert "broke off after" in answer.json()["error"]
    assert await pair.is_clean()


@pytest.mark.parametrize(
    ("body", "headers", "length", "status", "code"),
    [
        (b"", (), None, 400, "empty_input"),
        (b"{", (), 2_000, 413, "input_too_large"),
        (b"no gzip", ("Content-Encoding: gzip",), None, 400, "invalid_encoding"),
        (b"x", ("Content-Encoding: br",), None, 415, "unsupported_media_type"),
        (
            gzip.compress(b"{" * 2_000, mtime=0),
            ("Content-Encoding: gzip",),
            None,
            413,
            "input_too_large",
        ),
        (zstd.compress(b"{" * 2_000), ("Content-Encoding: zstd",), None, 413, "input_too_large"),
        (
            gzip.compress(b"{}", mtime=0)[:-4],
            ("Content-Encoding: gzip",),
            None,
            400,
            "truncated_body",
        ),
    ],
)
async def test_a_bad_source_is_refused_like_a_bad_body(
    pulling: Make, body: bytes, headers: Iterable[str], length: int, status: int, code: str
) -> None:
    """Empty, too large by its stated or its decoded length, cut, or not of its encoding."""
    pair = await pulling(always(body, *headers, length=length), Limits(job_bytes_max=1_000))
    answer = await pair.submit({"input_uri": pair.url + "a"})
    assert answer.status_code == status
    assert answer.json()["code"] == code
    assert await pair.is_clean()


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_a_bomb_at_an_address_stores_nothing(pulling: Make, encoding: str) -> None:
    """The ratio of what is pulled is judged as that of a body."""
    blanks = b" " * 4_000_000
    packed = gzip.compress(blanks) if encoding == "gzip" else zstd.compress(blanks)
    pair = await pulling(always(packed, f"Content-Encoding: {encoding}"))
    answer = await pair.submit({"input_uri": pair.url + "a"})
    assert (answer.status_code, answer.json()["code"]) == (413, "compression_bomb")
    assert await pair.is_clean()


async def test_what_is_not_allowed_names_the_setting(acme: httpx2.AsyncClient) -> None:
    """Without a list of sources every address is refused, and the hint says what would help."""
    answer = await acme.post(f"{BASE}/requests", json={"input_uri": "https://example.com/a"})
    assert (answer.status_code, answer.json()["code"]) == (403, "source_not_allowed")
    assert "sources_allowed" in answer.json()["hint"]


async def test_an_unknown_model_pulls_nothing(pulling: Make) -> None:
    """What is wrong without the lines is refused before they are fetched."""
    asked: list[str] = []

    def answer(head: str) -> list[bytes]:
        asked.append(head)
        return ok(lines(1).encode())

    pair = await pulling(answer)
    payload = {"model": "gemini-1", "input_uri": pair.url + "a"}
    refusal = await pair.submit({"payload": payload})
    assert (refusal.status_code, refusal.json()["code"]) == (400, "unknown_model")
    assert asked == []


@pytest.mark.parametrize("size", [1, 20_000])
async def test_nobody_gets_a_job_after_leaving(pulling: Make, size: int) -> None:
    """When the caller is gone the pull ends, at its very end too: no job is made or paid for."""
    pair = await pulling(always(lines(size).encode()))
    body = json.dumps({"input_uri": pair.url + "a"}).encode()
    coming = [{"type": "http.request", "body": body}, {"type": "http.disconnect"}]
    sent: list[Any] = []

    async def receive() -> Any:  # noqa: ANN401  # an ASGI message
        return coming.pop(0) if len(coming) > 1 else coming[0]

    async def send(message: Any) -> None:  # noqa: ANN401  # an ASGI message
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": f"{BASE}/requests",
        "query_string": b"",
        "headers": [(b"authorization", pair.client.headers["authorization"].encode())],
    }
    await pair.api.app(scope, receive, send)
    assert sent[0]["status"] == 499
    assert await pair.is_clean()


async def test_an_address_and_pieces_exclude_each_other(pulling: Make) -> None:
    """An upload in pieces that also names an address is refused at its end; nothing is pulled."""
    pair = await pulling(always(lines(1).encode()))
    headers = {"Content-Type": "application/jsonl", "Upload-Complete": "?0"}
    query = {"input_uri": pair.url + "a"}
    begun = await pair.client.post(f"{BASE}/uploads", params=query, headers=headers)
    assert begun.status_code == 201
    headers = {
        "Content-Type": "application/partial-upload",
        "Upload-Complete": "?1",
        "Upload-Offset": "0",
    }
    where = begun.headers["location"]
    answer = await pair.client.patch(where, content=lines(1).encode(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "ambiguous_input")
    assert not await job_ids(pair.api.store)
