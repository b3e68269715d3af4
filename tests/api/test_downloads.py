import base64
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator

import httpx2
import pytest
from tests.api.driver import BASE, Api, ended
from tests.blobs.places import opened, served
from tests.fake_clock import START, FakeClock

from penstock.blobs.spool import Spool
from penstock.core.job import Job, OrgId
from penstock.core.limits import Limits
from penstock.core.state import JobState
from penstock.store import tables
from penstock.store.store import Store

MakeJob = Callable[..., Job]
DATA = b'{"status": "", "response": {"text": "<script>alert(1)</script>"}}\n' * 100
ETAG = f'"sha256-{hashlib.sha256(DATA).hexdigest()}"'
ZSTD_ETAG = ETAG.removesuffix('"') + '-zstd"'


@pytest.fixture(scope="module", params=["local", "gs", "s3"])
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
    async with opened(*place, "downloads", spool) as blobs:
        yield Api(store, spool, clock, limits, blobs=blobs)


@pytest.fixture
async def url(api: Api, acme: httpx2.AsyncClient, new_job: MakeJob) -> str:
    """The link to a finished output, as the record gives it."""
    job_id = await ended(api, new_job(), output=DATA)
    record = (await acme.get(f"{BASE}/requests/{job_id}")).json()
    return str(record["outcome"]["output_url"])


async def fetch(client: httpx2.AsyncClient, url: str, **headers: str) -> httpx2.Response:
    """GET with headers; `_` stands for `-`. The client would accept any encoding by itself."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.get(url, headers={"Accept-Encoding": "identity", **named})


async def test_a_link_needs_no_key(nobody: httpx2.AsyncClient, url: str) -> None:
    """The whole output comes by the link alone."""
    answer = await fetch(nobody, url)
    assert (answer.status_code, answer.content) == (200, DATA)
    assert answer.headers["content-length"] == str(len(DATA))


async def test_the_checksum_is_stated(nobody: httpx2.AsyncClient, url: str) -> None:
    """ETag and Repr-Digest carry the SHA-256 of the bytes."""
    headers = (await fetch(nobody, url)).headers
    digest = base64.b64encode(hashlib.sha256(DATA).digest()).decode()
    assert headers["etag"] == ETAG
    assert headers["repr-digest"] == f"sha-256=:{digest}:"
    assert headers["accept-ranges"] == "bytes"


async def test_a_browser_never_renders_an_output(nobody: httpx2.AsyncClient, url: str) -> None:
    """Model output is hostile: it is a sandboxed attachment of a type that is no page."""
    headers = (await fetch(nobody, url)).headers
    assert headers["content-type"] == "application/jsonl"
    assert headers["content-disposition"].startswith("attachment")
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]
    assert "private" in headers["cache-control"]


async def test_head_is_a_download_without_bytes(nobody: httpx2.AsyncClient, url: str) -> None:
    """HEAD tells length and checksum."""
    answer = await nobody.head(url, headers={"Accept-Encoding": "identity"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(DATA))
    assert answer.headers["etag"] == ETAG


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=100-", 100, len(DATA)),
        ("bytes=-7", len(DATA) - 7, len(DATA)),
        ("bytes=10-999999", 10, len(DATA)),
    ],
)
async def test_a_part_is_served(
    nobody: httpx2.AsyncClient, url: str, wanted: str, start: int, stop: int
) -> None:
    """One range gives 206, exactly its bytes, and the whole length."""
    answer = await fetch(nobody, url, Range=wanted)
    assert (answer.status_code, answer.content) == (206, DATA[start:stop])
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(DATA)}"
    assert answer.headers["etag"] == ETAG


async def test_parts_make_the_whole(nobody: httpx2.AsyncClient, url: str) -> None:
    """A download that was cut goes on where it was, and the bytes are those of one piece."""
    first = await fetch(nobody, url, Range="bytes=0-999")
    rest = await fetch(nobody, url, Range="bytes=1000-", If_Range=ETAG)
    assert first.content + rest.content == DATA


async def test_a_range_behind_the_end_is_416(nobody: httpx2.AsyncClient, url: str) -> None:
    """There is nothing there, and the answer tells the length."""
    answer = await fetch(nobody, url, Range=f"bytes={len(DATA)}-")
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(DATA)}"
    assert answer.headers["etag"] == ETAG
    assert answer.json()["code"] == "range_not_satisfiable"


async def test_several_ranges_give_the_whole_file(nobody: httpx2.AsyncClient, url: str) -> None:
    """A list of ranges does not multiply the work; the whole file is a right answer."""
    answer = await fetch(nobody, url, Range="bytes=0-1,5-6,0-1")
    assert (answer.status_code, answer.content) == (200, DATA)


async def test_an_old_part_is_not_continued(nobody: httpx2.AsyncClient, url: str) -> None:
    """If-Range with another ETag gives the whole file instead of a mixture."""
    answer = await fetch(nobody, url, Range="bytes=10-", If_Range='"sha256-other"')
    assert (answer.status_code, answer.content) == (200, DATA)


@pytest.mark.parametrize("tag", [ETAG, f"W/{ETAG}", f'"x", {ETAG}', "*"])
async def test_what_is_known_is_not_sent(nobody: httpx2.AsyncClient, url: str, tag: str) -> None:
    """If-None-Match with the file's own ETag gives 304 and no bytes."""
    answer = await fetch(nobody, url, If_None_Match=tag)
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == ETAG


async def test_head_of_the_zstd(nobody: httpx2.AsyncClient, url: str) -> None:
    """HEAD with zstd tells the headers of the GET: no length, which nobody knows yet."""
    answer = await nobody.head(url, headers={"Accept-Encoding": "zstd"})
    assert answer.headers["content-encoding"] == "zstd"
    assert answer.headers["etag"] == ZSTD_ETAG
    assert "content-length" not in answer.headers


@pytest.mark.parametrize("wanted", ["bytes=0-9", "bytes=5-4"])
async def test_head_has_no_ranges(nobody: httpx2.AsyncClient, url: str, wanted: str) -> None:
    """A range is of a GET; HEAD tells about the whole file."""
    answer = await nobody.head(url, headers={"Range": wanted})
    assert (answer.status_code, answer.headers["content-length"]) == (200, str(len(DATA)))


async def test_zstd_comes_to_who_asks(nobody: httpx2.AsyncClient, url: str) -> None:
    """The encoded answer has its own tag, states the digest of what it stands for, and no range."""
    answer = await fetch(nobody, url, Accept_Encoding="gzip, zstd")
    assert (answer.status_code, answer.content) == (200, DATA)
    headers = answer.headers
    assert (headers["content-encoding"], headers["etag"]) == ("zstd", ZSTD_ETAG)
    assert (headers["vary"], headers["accept-ranges"]) == ("Accept-Encoding", "none")
    assert "no-transform" in headers["cache-control"]
    digest = base64.b64encode(hashlib.sha256(DATA).digest()).decode()
    assert headers["unencoded-digest"] == f"sha-256=:{digest}:"
    assert "repr-digest" not in headers


async def test_caches_know_what_an_answer_depends_on(nobody: httpx2.AsyncClient, url: str) -> None:
    """The plain answers vary by Accept-Encoding too, or a cache would give them to everybody."""
    for headers in ({}, {"Range": "bytes=0-1"}, {"If_None_Match": "*"}):
        assert (await fetch(nobody, url, **headers)).headers["vary"] == "Accept-Encoding"


async def test_a_part_is_never_compressed(nobody: httpx2.AsyncClient, url: str) -> None:
    """A range is of the plain bytes, whatever encodings the client takes."""
    answer = await fetch(nobody, url, Range="bytes=5-9", Accept_Encoding="zstd")
    assert (answer.status_code, answer.content) == (206, DATA[5:10])
    assert answer.headers["etag"] == ETAG
    assert "content-encoding" not in answer.headers


async def test_plain_bytes_are_not_continued_from_zstd(
    nobody: httpx2.AsyncClient, url: str
) -> None:
    """If-Range with the zstd's tag gives the whole plain file, because a mixture is neither."""
    for tag in (ZSTD_ETAG, f"W/{ETAG}", "Sun, 22 Nov 2026 16:00:00 GMT"):
        answer = await fetch(nobody, url, Range="bytes=5-", If_Range=tag, Accept_Encoding="zstd")
        assert (answer.status_code, answer.content) == (200, DATA)
        assert answer.headers["etag"] == ETAG


async def test_each_encoding_is_known_by_its_own_tag(nobody: httpx2.AsyncClient, url: str) -> None:
    """Who has the plain bytes and asks for zstd gets the zstd; who has that gets 304."""
    fresh = await fetch(nobody, url, If_None_Match=ETAG, Accept_Encoding="zstd")
    known = await fetch(nobody, url, If_None_Match=ZSTD_ETAG, Accept_Encoding="zstd")
    assert (fresh.status_code, fresh.content) == (200, DATA)
    assert (known.status_code, known.headers["etag"]) == (304, ZSTD_ETAG)


async def test_an_empty_output_is_empty(
    nobody: httpx2.AsyncClient, api: Api, acme: httpx2.AsyncClient, new_job: MakeJob
) -> None:
    """No bytes are no zstd frame: they come plain, and a range of them is 416."""
    job_id = await ended(api, new_job(), output=b"")
    record = (await acme.get(f"{BASE}/requests/{job_id}")).json()
    url = str(record["outcome"]["output_url"])
    answer = await fetch(nobody, url, Accept_Encoding="zstd")
    assert (answer.status_code, answer.content) == (200, b"")
    assert "content-encoding" not in answer.headers
    assert (await fetch(nobody, url, Range="bytes=0-")).status_code == 416


async def test_another_tag_gets_the_file(nobody: httpx2.AsyncClient, url: str) -> None:
    """If-None-Match with another ETag changes nothing."""
    assert (await fetch(nobody, url, If_None_Match='"x"')).status_code == 200


@pytest.mark.parametrize("cut", ["?", "&signature=", "0", "/output.jsonl"])
async def test_a_forged_link_is_forbidden(nobody: httpx2.AsyncClient, url: str, cut: str) -> None:
    """A link without signature, with half of one or a longer one gives 403 in our shape."""
    forged = f"{url}0" if cut == "0" else url.partition(cut)[0]
    if cut == "/output.jsonl":
        forged += cut
    answer = await fetch(nobody, forged)
    assert (answer.status_code, answer.json()["code"]) == (403, "link_invalid")


async def test_an_expired_link_is_forbidden(
    nobody: httpx2.AsyncClient, url: str, clock: FakeClock
) -> None:
    """After its time a link gives 403 and says how to get another."""
    clock.advance(3600)
    answer = await fetch(nobody, url)
    assert (answer.status_code, answer.json()["code"]) == (403, "link_expired")
    assert "output_url" in answer.json()["hint"]


async def test_an_unknown_job_answers_like_a_forged_link(
    nobody: httpx2.AsyncClient, url: str
) -> None:
    """Nobody learns from downloads which ids exist."""
    path, _, query = url.partition("?")
    job_id = path.split("/")[-2]
    answers = [
        await fetch(nobody, f"{path}?{query}0"),
        await fetch(nobody, f"{path.replace(job_id, 'req_absent')}?{query}"),
    ]
    assert answers[0].content == answers[1].content
    assert answers[0].status_code == answers[1].status_code == 403


async def test_a_job_without_output_has_no_download(
    nobody: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """A failed job has nothing to fetch, even by a link that we would have signed."""
    job_id = await ended(api, new_job(), JobState.FAILED)
    job = await api.store.jobs.load(job_id)
    assert job is not None
    path = f"/api/v1/ie/requestqueue/downloads/{job_id}/output.jsonl"
    answer = await fetch(nobody, f"{path}?{api.links.query(job)}")
    assert (answer.status_code, answer.json()["code"]) == (500, "blob_missing")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_a_link_only_reads(nobody: httpx2.AsyncClient, url: str, method: str) -> None:
    """No other method is taken."""
    assert (await nobody.request(method, url)).status_code == 405


async def test_a_suspended_organisation_has_no_downloads(
    nobody: httpx2.AsyncClient, api: Api, url: str
) -> None:
    """Its links die with the suspension, look like forged ones, and live again after it."""
    forged = await fetch(nobody, url[:-1] + ("0" if url[-1] != "0" else "1"))
    await _suspend(api, START)
    dead = await fetch(nobody, url)
    await _suspend(api, None)
    assert (dead.status_code, dead.content) == (403, forged.content)
    assert (await fetch(nobody, url)).content == DATA


async def test_a_deleted_job_has_no_download(
    nobody: httpx2.AsyncClient, api: Api, url: str
) -> None:
    """Without its row a good link opens nothing, although the file is there."""
    forged = await fetch(nobody, url[:-1] + ("0" if url[-1] != "0" else "1"))
    async with api.store._engine.begin() as connection:
        for table in (tables.events, tables.attempts, tables.jobs):
            await connection.execute(table.delete())
    gone = await fetch(nobody, url)
    assert (gone.status_code, gone.content) == (403, forged.content)


async def test_a_link_is_for_one_job(
    nobody: httpx2.AsyncClient, api: Api, url: str, new_job: MakeJob
) -> None:
    """The query of one job's link opens neither a foreign job nor another one of the tenant."""
    for org in ("acme", "rival"):
        job = new_job(org_id=OrgId(org), user_id=f"{org}-user")
        other = await ended(api, job, output=DATA)
        path = f"/api/v1/ie/requestqueue/downloads/{other}/output.jsonl"
        assert (await fetch(nobody, f"{path}?{url.partition('?')[2]}")).status_code == 403


async def _suspend(api: Api, at: float | None) -> None:
    async with api.store._engine.begin() as connection:
        await connection.execute(tables.orgs.update().values(suspended_at=at))
