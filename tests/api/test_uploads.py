"""A submission in pieces: every step and every refusal, on the application itself."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.api.driver import BASE, Api, files, job_ids, submission
from tests.api.uploading import (
    BAD,
    BOMB,
    GOOD,
    JSONL,
    LIMITS,
    PACKERS,
    PROBLEMS,
    URL,
    Answer,
    Client,
    begin,
    begun,
    limits,
    offset_of,
    piece,
    streamed,
    turns_until,
    uploaded,
)
from tests.fake_clock import FakeClock

from penstock.api.upload_fields import PARTIAL_TYPE
from penstock.api.uploads import SWEEP_SECONDS
from penstock.blobs.spool import INPUT, Spool
from penstock.store.store import Store

__all__ = ["limits"]


async def test_an_upload_in_pieces_becomes_a_job(
    acme: Client, api: Api, spool: Spool, tmp_path: Path
) -> None:
    """Create, append, ask, append and finish give the job that one POST would have given."""
    created = await begin(acme, Upload_Length=str(len(GOOD)))
    assert created.status_code == 201
    assert created.headers["upload-offset"] == "0"
    assert created.headers["upload-complete"] == "?0"
    limit = f"max-size={LIMITS.body_bytes_max}, max-age=600"
    assert created.headers["upload-limit"] == limit
    where = created.headers["location"]
    first = await piece(acme, where, 0, GOOD[:100])
    assert (first.status_code, first.headers["upload-offset"]) == (204, "100")
    assert first.headers["upload-complete"] == "?0"
    told = await acme.head(where)
    assert told.status_code == 204
    assert told.headers["upload-offset"] == "100"
    assert told.headers["upload-length"] == str(len(GOOD))
    assert told.headers["cache-control"] == "no-store"
    assert (await acme.get(where)).headers["upload-limit"] == limit
    done = await piece(acme, where, 100, GOOD[100:], "?1")
    assert done.status_code == 200
    assert done.headers["upload-complete"] == "?1"
    record = done.json()
    assert record["status"] == "queued"
    assert spool.path(record["request_id"], INPUT).read_bytes() == GOOD
    assert api.accepted == 1
    assert [Path(name).suffix for name in uploaded(tmp_path)] == [".json"]
    told = await acme.head(where)
    assert told.headers["upload-complete"] == "?1"
    assert told.headers["upload-offset"] == told.headers["upload-length"] == str(len(GOOD))


async def test_both_bases_know_the_upload(acme: Client) -> None:
    """The base without `apikey` answers with an address of its own, and finds the same upload."""
    short = URL.replace("/apikey", "")
    headers = {"Upload-Complete": "?0"}
    where = (await acme.post(short, headers=headers)).headers["location"]
    assert where.startswith(short)
    assert await offset_of(acme, where.replace(short, URL)) == 0


@pytest.mark.parametrize("kind", ["json", "base64", "raw", "form", "gzip", "zstd"])
async def test_every_form_of_a_body_can_come_in_pieces(
    acme: Client, spool: Spool, kind: str
) -> None:
    """What was said at the start, type, boundary, encoding and query, counts at the end."""
    more: dict[str, str] = {}
    body, type_ = json.dumps(submission(GOOD.decode())).encode(), "application/json"
    if kind == "form":
        type_ = "multipart/form-data; boundary=cut"
        head = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        body = head + GOOD + b"\r\n--cut--\r\n"
    elif kind in PACKERS:
        body, type_, more = PACKERS[kind](GOOD), JSONL, {"Content-Encoding": kind}
    elif kind == "base64":
        body = json.dumps(submission(base64.b64encode(GOOD).decode())).encode()
    elif kind == "raw":
        body, type_, more = GOOD, JSONL, {"X-Penstock-Model": "gemini-3-pro-preview"}
    where = await begun(acme, kind=type_, **more)
    for start in range(0, len(body), 97):
        assert (await piece(acme, where, start, body[start : start + 97])).status_code == 204
    done = await piece(acme, where, len(body), b"", "?1")
    assert done.status_code == 200, done.text
    assert spool.path(done.json()["request_id"], INPUT).read_bytes() == GOOD
    if "X-Penstock-Model" in more:
        assert done.json()["payload"]["model"] == "gemini-3-pro-preview"


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
@pytest.mark.parametrize(
    ("becomes", "cut", "status", "code"),
    [(BOMB, 0, 413, "compression_bomb"), (GOOD, 4, 400, "truncated_body")],
)
async def test_a_bad_stream_in_pieces_is_refused(
    acme: Client, tmp_path: Path, kind: str, becomes: bytes, cut: int, status: int, code: str
) -> None:
    """A bomb, and a stream without its end, are refused at the finish, and nothing stays."""
    body = PACKERS[kind](becomes)
    body = body[: len(body) - cut]
    where = await begun(acme, kind=JSONL, **{"Content-Encoding": kind})
    assert (await piece(acme, where, 0, body[:20])).status_code == 204
    refused = await piece(acme, where, 20, body[20:], "?1")
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert (await acme.head(where)).status_code == 404
    assert files(tmp_path / "data") == []


async def test_the_query_of_the_start_counts(acme: Client) -> None:
    """Model and options of the creation's query are the job's."""
    headers = {"Content-Type": JSONL, "Upload-Complete": "?1"}
    query = {"model": "gemini-3-pro-preview", "team": "a b"}
    done = await acme.post(URL, params=query, content=GOOD, headers=headers)
    assert done.status_code == 200
    assert done.json()["payload"] == query


async def test_a_first_piece_may_come_with_the_start(acme: Client) -> None:
    """The body of a creation is the first piece."""
    created = await begin(acme, GOOD[:50])
    assert created.status_code == 201
    assert created.headers["upload-offset"] == "50"
    done = await piece(acme, created.headers["location"], 50, GOOD[50:], "?1")
    assert done.json()["status"] == "queued"


async def test_a_whole_body_may_come_with_the_start(acme: Client, tmp_path: Path) -> None:
    """A creation that says ?1 is a submission; its answer can be had again at Location."""
    done = await begin(acme, GOOD, complete="?1")
    assert done.status_code == 200
    assert done.headers["upload-complete"] == "?1"
    again = await piece(acme, done.headers["location"], len(GOOD), b"", "?1")
    assert again.content == done.content
    refused = await begin(acme, BAD, complete="?1")
    assert refused.status_code == 400
    assert refused.headers["upload-complete"] == "?1"
    assert refused.json()["details_total"] == 2
    assert len(uploaded(tmp_path)) == 1


async def test_the_limits_can_be_asked_before(acme: Client, nobody: Client) -> None:
    """OPTIONS tells how large and how old an upload may become, to those who have a key."""
    answer = await acme.options(URL)
    assert answer.status_code == 204
    assert answer.headers["upload-limit"] == f"max-size={LIMITS.body_bytes_max}, max-age=600"
    assert (await nobody.options(URL)).status_code == 401


# -- idempotence ---------------------------------------------------------------------------------


async def test_a_finish_can_be_asked_again(acme: Client, api: Api, store: Store) -> None:
    """The last piece sent again, or an empty one, gives the same job and makes no second one."""
    where = await begun(acme)
    await piece(acme, where, 0, GOOD[:80])
    done = await piece(acme, where, 80, GOOD[80:], "?1")
    for offset, content in ((80, GOOD[80:]), (len(GOOD), b"")):
        again = await piece(acme, where, offset, content, "?1")
        assert (again.status_code, again.content) == (200, done.content)
    assert api.accepted == 1
    assert len(await job_ids(store)) == 1


async def test_nothing_can_be_added_to_a_finished_upload(acme: Client) -> None:
    """Another piece meets the problem that the draft names; the job stays as it is."""
    where = await begun(acme)
    await piece(acme, where, 0, GOOD, "?1")
    for answer in (
        await piece(acme, where, len(GOOD), b"x"),
        await piece(acme, where, len(GOOD), b"x", "?1"),
    ):
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == f"{PROBLEMS}completed-upload"
        assert answer.headers["upload-complete"] == "?1"


# -- refusals ------------------------------------------------------------------------------------


async def test_a_wrong_offset_is_told_the_right_one(acme: Client) -> None:
    """409 as the draft has it, in our shape as well; the upload can be gone on with."""
    where = await begun(acme)
    await piece(acme, where, 0, GOOD[:40])
    for wrong in (0, 39, 41, 999_999_999_999_999):
        answer = await piece(acme, where, wrong, b"x")
        assert answer.status_code == 409
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["upload-offset"] == "40"
        assert answer.headers["upload-complete"] == "?0"
        body = answer.json()
        assert body["type"] == f"{PROBLEMS}mismatching-upload-offset"
        assert (body["expected-offset"], body["provided-offset"]) == (40, wrong)
        assert body["code"] == "mismatching_upload_offset"
        assert body["error"] == body["message"] == body["title"]
    assert (await piece(acme, where, 40, GOOD[40:], "?1")).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Upload-Offset": "abc"}, 400),
        ({"Upload-Offset": "-1"}, 400),
        ({"Upload-Offset": "1" * 16}, 400),
        ({"Upload-Offset": "1_0"}, 400),
        ({"Upload-Complete": "true"}, 400),
        ({"Upload-Complete": "1"}, 400),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": ""}, 415),
        ({"Content-Encoding": "gzip"}, 415),
    ],
)
async def test_a_piece_says_what_it_is(acme: Client, headers: dict[str, str], status: int) -> None:
    """A field that is missing or of another type is refused, and nothing is appended."""
    where = await begun(acme)
    good = {"Content-Type": PARTIAL_TYPE, "Upload-Complete": "?0", "Upload-Offset": "0"}
    answer = await acme.patch(where, content=b"x", headers={**good, **headers})
    assert answer.status_code == status, answer.text
    assert answer.headers["upload-complete"] == "?0"
    assert answer.json()["hint"]
    assert await offset_of(acme, where) == 0


async def test_a_field_that_stands_twice_is_no_field(acme: Client) -> None:
    """Two offsets are none; parameters of a value are ignored."""
    where = await begun(acme)
    twice = [("Content-Type", PARTIAL_TYPE), ("Upload-Complete", "?0"), ("Upload-Offset", "0")]
    answer = await acme.patch(where, content=b"x", headers=[*twice, ("Upload-Offset", "0")])
    assert answer.status_code == 400
    answer = await piece(acme, where, 0, b"x", Upload_Complete="?0;note=1")
    assert answer.status_code == 204


async def test_a_start_says_whether_it_is_all(acme: Client, tmp_path: Path) -> None:
    """Without Upload-Complete a body would be taken for a piece, or for the whole: refused."""
    answer = await acme.post(URL, content=GOOD, headers={"Content-Type": JSONL})
    assert answer.status_code == 400
    assert answer.json()["code"] == "missing_header"
    assert uploaded(tmp_path) == []


async def test_a_start_is_judged_like_a_submission(acme: Client, tmp_path: Path) -> None:
    """An encoding that is not read and a doubled option are refused before anything is stored."""
    assert (await begin(acme, Content_Encoding="br")).status_code == 415
    headers = {"Content-Type": JSONL, "Upload-Complete": "?0"}
    doubled = await acme.post(f"{URL}?a=1&a=2", headers=headers)
    assert doubled.json()["code"] == "duplicate_member"
    assert uploaded(tmp_path) == []


async def test_the_question_for_the_offset_asks_nothing_else(acme: Client) -> None:
    """HEAD with the fields of an append is a mistake."""
    where = await begun(acme)
    for headers in ({"Upload-Offset": "0"}, {"Upload-Complete": "?0"}):
        assert (await acme.head(where, headers=headers)).status_code == 400


async def test_lengths_that_contradict_each_other(acme: Client) -> None:
    """The length is said once; another one is refused and the upload can be gone on with."""
    where = await begun(acme, Upload_Length="100")
    short = [
        await piece(acme, where, 0, b"x", Upload_Length="99"),
        await piece(acme, where, 0, b"x", "?1"),
        await piece(acme, where, 0, b"x", "?1", Upload_Length="100"),
        await piece(acme, where, 0, streamed([b"x"]), "?1"),
        await begin(acme, b"x", complete="?1", Upload_Length="100"),
    ]
    for answer in short:
        assert answer.status_code == 400, answer.text
        assert answer.json()["type"] == f"{PROBLEMS}inconsistent-upload-length"
        assert answer.headers["upload-complete"] == "?0"
    # The chunked piece could only be judged at its end; it came, so it counts.
    assert await offset_of(acme, where) == 1
    other = await begun(acme)
    answer = await piece(acme, other, 0, b"xxx", Upload_Length="2")
    assert answer.json()["code"] == "inconsistent_upload_length"
    assert await offset_of(acme, other) == 0


async def test_a_length_may_be_said_later(acme: Client) -> None:
    """A length that comes with a piece, even with an empty one, is kept."""
    where = await begun(acme)
    assert "upload-length" not in (await acme.head(where)).headers
    await piece(acme, where, 0, b"", Upload_Length="7")
    assert (await acme.head(where)).headers["upload-length"] == "7"


async def test_more_bytes_than_announced_end_the_upload(acme: Client, tmp_path: Path) -> None:
    """Bytes beyond the length are refused, known or streamed, and nothing of the upload stays."""
    for content in (b"x" * 11, streamed([b"x" * 6, b"x" * 5])):
        where = await begun(acme, Upload_Length="10")
        answer = await piece(acme, where, 0, content)
        assert answer.status_code == 400
        assert answer.headers["upload-complete"] == "?0"
        assert (await acme.head(where)).status_code == 404
    assert (await begin(acme, b"x" * 11, Upload_Length="10")).status_code == 400
    assert uploaded(tmp_path) == []


async def test_more_bytes_than_an_input_needs(acme: Client, tmp_path: Path) -> None:
    """The limit on a body holds for announced, known and streamed lengths."""
    most = LIMITS.job_bytes_max + 3
    assert (await begin(acme, Upload_Length=str(most))).status_code == 201
    announced = await begin(acme, Upload_Length=str(most + 1))
    assert announced.status_code == 413
    assert "max-size" in announced.headers["upload-limit"]
    assert (await begin(acme, Upload_Length="9" * 15)).status_code == 413
    where = await begun(acme)
    known = await piece(acme, where, 0, b"x" * (most + 1), "?1")
    assert known.status_code == 413
    where = await begun(acme)
    unknown = await piece(acme, where, 0, streamed([b"x" * 1_000_000] * 4))
    assert unknown.status_code == 413
    assert unknown.json()["code"] == "input_too_large"
    assert (await acme.head(where)).status_code == 404
    assert len(uploaded(tmp_path)) == 2


async def test_a_bad_input_is_refused_as_by_a_submission(
    acme: Client, store: Store, tmp_path: Path
) -> None:
    """The refusal lists all bad lines, byte for byte as POST /requests; nothing stays."""
    where = await begun(acme)
    await piece(acme, where, 0, BAD[:9])
    refused = await piece(acme, where, 9, BAD[9:], "?1")
    direct = await acme.post(f"{BASE}/requests", content=BAD, headers={"Content-Type": JSONL})
    assert (refused.status_code, refused.content) == (direct.status_code, direct.content)
    assert refused.headers["upload-complete"] == "?1"
    assert (await acme.head(where)).status_code == 404
    assert files(tmp_path / "data") == []
    assert await job_ids(store) == set()


async def test_a_tenant_has_so_many_uploads_at_a_time(
    acme: Client, rival: Client, tmp_path: Path
) -> None:
    """One more is refused, finished and removed ones do not count, and tenants count apart."""
    first, second, _third = [await begun(acme) for _ in range(3)]
    refused = await begin(acme)
    assert refused.status_code == 429
    assert refused.json()["code"] == "too_many_uploads"
    assert "retry-after" in refused.headers
    assert len(uploaded(tmp_path)) == 6
    await begun(rival)
    await piece(acme, first, 0, GOOD, "?1")
    await begun(acme)
    await acme.delete(second)
    await begun(acme)
    answers = await asyncio.gather(begin(acme), begin(acme))
    assert {answer.status_code for answer in answers} == {429}


async def test_racing_starts_do_not_pass_the_limit(acme: Client) -> None:
    """Counting and beginning are one step."""
    answers = await asyncio.gather(*(begin(acme) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [429] * 5


async def test_no_room_is_told_before_a_byte_is_stored(
    acme: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """507 with Retry-After at the start and at a piece; the upload itself stays."""
    where = await begun(acme)
    monkeypatch.setattr("shutil.disk_usage", lambda _: NoDisk())
    for answer in (
        await begin(acme, Upload_Length="100"),
        await begin(acme),
        await piece(acme, where, 0, b"x"),
    ):
        assert answer.status_code == 507, answer.text
        assert "retry-after" in answer.headers
        assert answer.headers["upload-complete"] == "?0"
    monkeypatch.undo()
    assert await offset_of(acme, where) == 0
    assert len(uploaded(tmp_path)) == 2


class NoDisk:
    """A disk without room."""

    total, used, free = 10**12, 10**12, 0


async def test_another_tenants_upload_is_no_upload(
    acme: Client, rival: Client, nobody: Client
) -> None:
    """Foreign and absent ids answer byte for byte alike; without a key there is 401."""
    where = await begun(acme)
    absent = f"{URL}/upl_0"
    good = {"Content-Type": PARTIAL_TYPE, "Upload-Complete": "?0", "Upload-Offset": "0"}
    for method in ("GET", "HEAD", "PATCH", "DELETE"):
        asked: list[Answer] = []
        for client, url in ((rival, where), (rival, absent), (acme, absent), (acme, f"{URL}/a.b")):
            headers = (
                {**good, "X-Request-ID": "same"} if method == "PATCH" else {"X-Request-ID": "same"}
            )
            asked.append(await client.request(method, url, headers=headers))
        first = asked[0]
        assert first.status_code == 404
        assert all(
            (answer.status_code, answer.content, answer.headers)
            == (404, first.content, first.headers)
            for answer in asked
        )
        assert (await nobody.request(method, where)).status_code == 401
    assert await offset_of(acme, where) == 0


async def test_the_key_is_checked_before_the_body_is_read(nobody: Client) -> None:
    """Nothing of a body is asked for without a key."""
    read: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        read.append(1)
        yield b"x"

    headers = {"Content-Type": PARTIAL_TYPE, "Upload-Complete": "?0", "Upload-Offset": "0"}
    assert (await nobody.post(URL, content=body(), headers=headers)).status_code == 401
    assert (await nobody.patch(f"{URL}/x", content=body(), headers=headers)).status_code == 401
    assert read == []


# -- the end of an upload ------------------------------------------------------------------------


async def test_a_removed_upload_leaves_nothing(acme: Client, tmp_path: Path) -> None:
    """DELETE removes the bytes; every later request finds nothing."""
    where = await begun(acme)
    await piece(acme, where, 0, GOOD)
    assert (await acme.delete(where)).status_code == 204
    assert files(tmp_path / "data") == []
    assert (await acme.delete(where)).status_code == 404
    assert (await piece(acme, where, 0, b"x")).status_code == 404


async def test_an_old_upload_is_removed(
    acme: Client, api: Api, clock: FakeClock, tmp_path: Path
) -> None:
    """After its time an upload is gone for everybody, finished or not, and its bytes follow."""
    where = await begun(acme)
    finished = (await begin(acme, GOOD, complete="?1")).headers["location"]
    clock.advance(599)
    young = await begun(acme)
    limit = (await acme.head(where)).headers["upload-limit"]
    assert limit.endswith("max-age=1")
    assert await api.uploads.sweep() == 0
    clock.advance(1)
    for old in (where, finished):
        assert (await acme.head(old)).status_code == 404
    assert await api.uploads.sweep() == 2
    assert await offset_of(acme, young) == 0
    assert len(uploaded(tmp_path)) == 2


async def test_the_sweep_goes_on_after_an_error(
    acme: Client, api: Api, clock: FakeClock, tmp_path: Path
) -> None:
    """The loop outlives an error of the disk, and leaves alone what somebody works on."""
    where = await begun(acme)
    (upload_id,) = [Path(name).stem for name in uploaded(tmp_path) if name.endswith(".json")]
    state = tmp_path / "data" / "uploads" / f"{upload_id}.json"
    state.rename(state.with_suffix(".aside"))
    state.mkdir()
    clock.advance(600)
    sweeping = asyncio.create_task(api.uploads.keep_swept())
    await turns_until(lambda: bool(clock.slept))
    state.rmdir()
    await turns_until(lambda: not api.partials.all())
    sweeping.cancel()
    assert clock.slept[0] == SWEEP_SECONDS
    assert (await acme.head(where)).status_code == 404
    assert api.partials.all() == []
