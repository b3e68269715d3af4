"""Pictures one by one, and outputs with links in their place."""

import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx2
import msgspec
import pytest
from tests.api.driver import BASE, Api, ended
from tests.api.indexed import INDEX, put
from tests.blobs.places import opened, served
from tests.fake_clock import FakeClock

from penstock.blobs.spool import OUTPUT, Spool
from penstock.core.job import Job, JobId
from penstock.core.limits import Limits
from penstock.core.line import LineOutcome
from penstock.core.line_index import IndexWriter
from penstock.core.state import JobState
from penstock.store.store import Store

MakeJob = Callable[..., Job]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4_000
HTML = b"<html><script>alert(1)</script></html>"


def media(data: bytes, mime: str = "image/png") -> dict[str, Any]:
    """A part with media, whatever its type claims."""
    return {"inlineData": {"mimeType": mime, "data": base64.b64encode(data).decode()}}


def line(*parts: object) -> bytes:
    """A line of an output whose answer has these parts."""
    response = {"candidates": [{"content": {"parts": list(parts)}}]} if parts else {}
    return json.dumps({"status": "", "request": {}, "response": response}).encode() + b"\n"


LINES = [
    line({"text": "A picture: <b>"}, media(PNG), media(HTML, "image/png")),
    line(),
    line(media(b"<svg onload='alert(1)'/>", "image/svg+xml")),
    line({"text": "x" * 1_000}),
]


@pytest.fixture
def limits() -> Limits:
    """Two outputs at a time, one of them made on its way."""
    return Limits(downloads_concurrency_max=2, downloads_compressed_max=1)


@pytest.fixture(params=["local", "gs"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """Where outputs lie, and where that is served; the answers are the same for all."""
    with served(request.param, tmp_path_factory.mktemp("emulator")) as address:
        yield request.param, address


@pytest.fixture
async def api(
    store: Store, spool: Spool, clock: FakeClock, limits: Limits, place: tuple[str, str]
) -> AsyncIterator[Api]:
    """The application over one of the places."""
    async with opened(*place, "images", spool) as blobs:
        yield Api(store, spool, clock, limits, blobs=blobs)


@pytest.fixture
async def job_id(api: Api, new_job: MakeJob) -> JobId:
    """A job that has ended with such lines."""
    job, writer = new_job(), IndexWriter()
    for text in LINES:
        writer.add(writer.kind(LineOutcome.OK, "", retryable=False), 0, 1, len(text))
    await put(api, job.id, INDEX, b"".join(bytes(piece) for piece in writer.pieces()))
    job = msgspec.structs.replace(job, line_count=len(LINES))
    return await ended(api, job, output=b"".join(LINES), index_name=INDEX)


async def part(
    client: httpx2.AsyncClient, job_id: str, number: object, at: object, **headers: str
) -> httpx2.Response:
    """One part of a line."""
    return await client.get(f"{BASE}/requests/{job_id}/lines/{number}/parts/{at}", headers=headers)


# -- one part ------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [BASE, BASE.removesuffix("/apikey")])
async def test_a_picture_comes_alone(acme: httpx2.AsyncClient, job_id: str, base: str) -> None:
    """Under both bases the bytes of the picture come, with the type that they show."""
    answer = await acme.get(f"{base}/requests/{job_id}/lines/1/parts/1")
    assert (answer.status_code, answer.content) == (200, PNG)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-length"] == str(len(PNG))


async def test_a_browser_never_renders_a_part(acme: httpx2.AsyncClient, job_id: str) -> None:
    """It is a sandboxed attachment with a name of ours, and no type is guessed."""
    headers = (await part(acme, job_id, 1, 1)).headers
    assert headers["content-disposition"] == f'attachment; filename="{job_id}-000001-1.png"'
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert "private" in headers["cache-control"]


async def test_a_text_is_plain(acme: httpx2.AsyncClient, job_id: str) -> None:
    """Markup in a text stays text."""
    answer = await part(acme, job_id, 1, 0)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.content == b"A picture: <b>"


async def test_a_known_picture_is_not_sent_again(acme: httpx2.AsyncClient, job_id: str) -> None:
    """The entity tag is strong, and who has it gets 304."""
    tag = (await part(acme, job_id, 1, 1)).headers["etag"]
    assert not tag.startswith("W/")
    answer = await part(acme, job_id, 1, 1, **{"If-None-Match": tag})
    assert (answer.status_code, answer.content) == (304, b"")
    assert (await part(acme, job_id, 1, 0)).headers["etag"] != tag


async def test_head_is_a_part_without_bytes(acme: httpx2.AsyncClient, job_id: str) -> None:
    """HEAD tells type and length."""
    answer = await acme.head(f"{BASE}/requests/{job_id}/lines/1/parts/1")
    assert (answer.status_code, answer.headers["content-length"]) == (200, str(len(PNG)))


@pytest.mark.parametrize(
    ("number", "at", "code"),
    [
        (1, 2, "part_not_found"),
        (3, 0, "part_not_found"),
        (2, 0, "part_not_found"),
        (1, 3, "part_not_found"),
        (1, "x", "part_not_found"),
        (1, "-1", "part_not_found"),
        (1, "9" * 40, "part_not_found"),
        (0, 0, "line_not_found"),
        (5, 0, "line_not_found"),
        ("x", 0, "line_not_found"),
        ("\u0661", 0, "line_not_found"),
    ],
)
async def test_what_is_not_there_or_not_shown(
    acme: httpx2.AsyncClient, job_id: str, number: object, at: object, code: str
) -> None:
    """Pages, drawings with scripts, failed lines and numbers of nothing are 404 with a reason."""
    answer = await part(acme, job_id, number, at)
    assert (answer.status_code, answer.json()["code"]) == (404, code)
    assert answer.headers["content-type"] == "application/json"


async def test_a_stranger_finds_nothing(
    rival: httpx2.AsyncClient, nobody: httpx2.AsyncClient, job_id: str
) -> None:
    """Another organisation's part does not exist, and without a key there is nothing to see."""
    assert (await part(rival, job_id, 1, 1)).status_code == 404
    assert (await part(nobody, job_id, 1, 1)).status_code == 401


async def test_a_job_that_runs_has_no_parts_yet(
    api: Api, acme: httpx2.AsyncClient, new_job: MakeJob
) -> None:
    """Before the end there is a clear refusal."""
    job = new_job(state=JobState.RUNNING, provider_job="batchPredictionJobs/1")
    await api.store.jobs.add(job)
    answer = await part(acme, job.id, 1, 0)
    assert (answer.status_code, answer.json()["code"]) == (409, "lines_not_ready")


@pytest.mark.parametrize("place", ["local"], indirect=True)
async def test_a_line_that_is_too_large_is_refused(
    store: Store, spool: Spool, clock: FakeClock, job_id: str, acme: httpx2.AsyncClient
) -> None:
    """Nobody can make the server hold more than the limit says."""
    small = Api(store, spool, clock, Limits(image_line_bytes_max=1_100))
    async with small.client(acme.headers["authorization"].removeprefix("Bearer ")) as client:
        answer = await part(client, job_id, 1, 1)
        assert (answer.status_code, answer.json()["code"]) == (413, "line_too_large")
        assert (await part(client, job_id, 4, 0)).status_code == 200


async def test_parts_take_a_slot_of_the_downloads(
    api: Api, acme: httpx2.AsyncClient, job_id: str
) -> None:
    """When all are taken the answer is 503, and they are given back afterwards."""
    slots = api.downloads.slots
    with slots.take("x", is_compressed=False), slots.take("y", is_compressed=False):
        answer = await part(acme, job_id, 1, 1)
        assert (answer.status_code, answer.json()["code"]) == (503, "too_many_downloads")
    assert (await part(acme, job_id, 1, 1)).status_code == 200
    assert (await part(acme, job_id, 3, 0)).status_code == 404
    assert slots.taken == 0


# -- links ---------------------------------------------------------------------------------------


async def addresses(acme: httpx2.AsyncClient, job_id: str) -> tuple[str, str]:
    """Where the output with links is, by the signed link and by the key."""
    record = (await acme.get(f"{BASE}/requests/{job_id}")).json()
    signed = str(record["outcome"]["output_url"]).replace("?", "?images=links&")
    return signed, f"{BASE}/requests/{job_id}/output?images=links"


@pytest.mark.parametrize("way", [0, 1])
async def test_pictures_become_links(acme: httpx2.AsyncClient, job_id: str, way: int) -> None:
    """The output has as many lines in the same order, and the link leads to the picture."""
    answer = await acme.get((await addresses(acme, job_id))[way])
    assert answer.status_code == 200
    made = answer.content.splitlines(keepends=True)
    assert made[1:] == LINES[1:]
    parts = json.loads(made[0])["response"]["candidates"][0]["content"]["parts"]
    assert parts[2] == media(HTML, "image/png")
    link = parts[1]["fileData"]
    assert link["mimeType"] == "image/png"
    assert (await acme.get(link["fileUri"])).content == PNG


async def test_links_come_with_headers_of_their_own(acme: httpx2.AsyncClient, job_id: str) -> None:
    """It is another representation: its own tag, no ranges, no length, no digest of the whole."""
    address, _ = await addresses(acme, job_id)
    plain = await acme.get(address.replace("images=links&", ""))
    answer = await acme.get(address, headers={"Range": "bytes=0-9"})
    assert answer.status_code == 200
    assert answer.headers["accept-ranges"] == "none"
    assert answer.headers["etag"] != plain.headers["etag"]
    assert "repr-digest" not in answer.headers
    assert "sandbox" in answer.headers["content-security-policy"]
    known = await acme.get(address, headers={"If-None-Match": answer.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    head = await acme.head(address)
    assert (head.status_code, "content-length" in head.headers) == (200, False)


async def test_the_signature_still_counts(nobody: httpx2.AsyncClient, job_id: str) -> None:
    """Asking for links makes no link valid."""
    path = f"/api/v1/ie/requestqueue/downloads/{job_id}/output.jsonl"
    bad = f"images=links&expires=1999999999&signature={'0' * 64}"
    for query in (bad, "images=links&", "images=links&images=links&"):
        assert (await nobody.get(f"{path}?{query}")).status_code == 403


@pytest.mark.parametrize("query", ["images=inline", "images=", "image=links"])
async def test_other_wishes_are_refused(acme: httpx2.AsyncClient, job_id: str, query: str) -> None:
    """There is one other form of an output, and it has one name."""
    answer = await acme.get(f"{BASE}/requests/{job_id}/output?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


async def test_few_outputs_are_made_at_once(
    api: Api, acme: httpx2.AsyncClient, job_id: str
) -> None:
    """One more than may be is refused with 503, and the plain output still comes."""
    signed, by_key = await addresses(acme, job_id)
    with api.downloads.slots.take("x", is_compressed=True):
        answer = await acme.get(signed)
        assert (answer.status_code, answer.json()["code"]) == (503, "too_many_downloads")
        assert "downloads_compressed_max" in answer.json()["message"]
        assert (await acme.get(by_key.partition("?")[0])).status_code == 200
    assert (await acme.get(signed)).status_code == 200
    assert api.downloads.slots.taken == 0


@pytest.mark.parametrize("place", ["local"], indirect=True)
async def test_a_lost_output_is_no_empty_one(
    api: Api, acme: httpx2.AsyncClient, job_id: JobId
) -> None:
    """A file that is gone is a failure before the first byte."""
    signed, _ = await addresses(acme, job_id)
    await api.blobs.remove(job_id, OUTPUT)
    assert (await acme.get(signed)).status_code == 500
