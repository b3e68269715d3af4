"""`GET /requests/{id}/output`: by key, and with `?partial=true` of a request that runs."""

import base64
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator

import httpx2
import msgspec
import pytest
from tests.api.driver import BASE, Api, ended
from tests.blobs.places import opened, served
from tests.fake_clock import START, FakeClock

from penstock.blobs.spool import Spool
from penstock.core.job import Job
from penstock.core.limits import Limits
from penstock.core.look import Look, look_of, output_name
from penstock.core.state import JobState
from penstock.store.jobs import Finish
from penstock.store.store import Store

MakeJob = Callable[..., Job]
DATA = b'{"status": ""}\n' * 50
MORE = b'{"status": "", "n": 1}\n' * 50
LINES = 100
PLAIN = {"Accept-Encoding": "identity"}


@pytest.fixture(scope="module", params=["local", "s3"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """Where looks lie, and where that is served; the answers are the same for all."""
    with served(request.param, tmp_path_factory.mktemp("emulator")) as address:
        yield request.param, address


@pytest.fixture
async def api(
    store: Store, spool: Spool, clock: FakeClock, limits: Limits, place: tuple[str, str]
) -> AsyncIterator[Api]:
    """The application over one of the places."""
    async with opened(*place, "looks", spool) as blobs:
        yield Api(store, spool, clock, limits, blobs=blobs)


async def running(api: Api, make: MakeJob, **fields: object) -> Job:
    """Commit a job that the provider has."""
    fields = {"state": "running", "provider_job": "projects/p/x/y/7", "line_count": LINES} | fields
    job = make(**fields)
    await api.store.jobs.add(job)
    found = await api.store.jobs.load(job.id)
    assert found is not None
    return found


async def put_look(api: Api, job: Job, data: bytes, lines: int, at: float = START) -> Look:
    """Put a look where the lifecycle puts it, in the place of the one before."""
    found = Look(
        name=output_name(f"{lines:08x}", len(data), hashlib.sha256(data).hexdigest()),
        index_name=f"partial-{lines:08x}.index",
        at=at,
        lines=lines,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    part = api.spool.begin(job.id, found.name)
    part.write(data)
    await api.blobs.commit(job.id, {found.name: part})
    before = await api.store.jobs.load(job.id)
    assert before is not None
    assert await api.store.looks.put(before, found)
    if before.partial_name is not None:
        await api.blobs.remove(job.id, before.partial_name)
    return found


async def ask(client: httpx2.AsyncClient, job: Job, **headers: str) -> httpx2.Response:
    """Ask for what there is so far."""
    path = f"{BASE}/requests/{job.id}/output?partial=true"
    return await client.get(path, headers={**PLAIN, **headers})


async def wanted_at(api: Api, job: Job) -> float | None:
    """When somebody last wanted a look."""
    found = await api.store.jobs.load(job.id)
    assert found is not None
    return found.partial_wanted_at


async def test_the_first_call_asks_for_a_look(
    api: Api, acme: httpx2.AsyncClient, new_job: MakeJob, clock: FakeClock
) -> None:
    """It is answered 202, how far the request is and when to come again; the wish is written."""
    job = await running(api, new_job, created_at=START - 600)
    answer = await ask(acme, job)
    assert (answer.status_code, answer.headers["retry-after"]) == (202, "30")
    assert answer.headers["x-penstock-lines-finished"] == "0"
    assert "x-penstock-taken-at" not in answer.headers
    body = answer.json()
    assert (body["request_id"], body["status"]) == (job.id, "processing")
    assert body["message"] == "The provider is asked for what it has; come again."
    assert body["partial"] == {"lines": 0, "total": LINES, "at": None}
    assert await wanted_at(api, job) == START
    clock.advance(5)
    assert (await ask(acme, job)).status_code == 202
    assert await wanted_at(api, job) == START


async def test_later_calls_get_the_newest_look(
    api: Api, acme: httpx2.AsyncClient, new_job: MakeJob, clock: FakeClock
) -> None:
    """Bytes, how many lines of how many and when; a call after a while asks for a newer look."""
    job = await running(api, new_job)
    for data, lines in ((DATA, 40), (MORE, 90)):
        await put_look(api, job, data, lines, clock.now())
        answer = await ask(acme, job)
        assert (answer.status_code, answer.content) == (200, data)
        assert answer.headers["x-penstock-lines-finished"] == str(lines)
        assert answer.headers["x-penstock-lines-total"] == str(LINES)
        assert answer.headers["x-penstock-taken-at"] == str(int(clock.now()))
        digest = hashlib.sha256(data).digest()
        assert answer.headers["etag"] == f'"sha256-{digest.hex()}"'
        encoded = base64.b64encode(digest).decode()
        assert answer.headers["repr-digest"] == f"sha-256=:{encoded}:"
        assert f'filename="{job.id}.partial.jsonl"' in answer.headers["content-disposition"]
        assert await wanted_at(api, job) is None
        clock.advance(119)
        await ask(acme, job)
        assert await wanted_at(api, job) is None
        clock.advance(1)
        await ask(acme, job)
        assert await wanted_at(api, job) == clock.now()
        await api.store.looks.give_up(job.id)


async def test_a_look_is_delivered_as_an_output_is(
    api: Api, acme: httpx2.AsyncClient, new_job: MakeJob
) -> None:
    """HEAD, ranges, If-Range, If-None-Match and zstd work; an ETag is of one look."""
    job = await running(api, new_job)
    await put_look(api, job, DATA, 40)
    path = f"{BASE}/requests/{job.id}/output?partial=true"
    head = await acme.head(path, headers=PLAIN)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(DATA)))
    tag = head.headers["etag"]
    part = await ask(acme, job, Range="bytes=10-", **{"If-Range": tag})
    assert (part.status_code, part.content) == (206, DATA[10:])
    assert (await ask(acme, job, **{"If-None-Match": tag})).status_code == 304
    assert (await ask(acme, job, Range=f"bytes={len(DATA)}-")).status_code == 416
    assert (await acme.get(path, headers={"Accept-Encoding": "zstd"})).content == DATA
    await put_look(api, job, MORE, 90)
    again = await ask(acme, job, Range="bytes=10-", **{"If-Range": tag})
    assert (again.status_code, again.content) == (200, MORE)


async def test_a_provider_that_offers_nothing_is_no_error(
    api: Api, acme: httpx2.AsyncClient, new_job: MakeJob, clock: FakeClock
) -> None:
    """After a look without a row the answer says 0 of N, when that was, and when the next is."""
    job = await running(api, new_job)
    assert await api.store.looks.see_nothing(job, START)
    clock.advance(20)
    answer = await ask(acme, job)
    assert answer.status_code == 202
    assert answer.json()["message"] == "The provider has offered no finished line so far."
    assert answer.json()["partial"] == {"lines": 0, "total": LINES, "at": int(START)}
    assert answer.headers["x-penstock-taken-at"] == str(int(START))
    assert answer.headers["retry-after"] == "100"


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("accepted", "The provider has not got the job yet, so no line can have been finished."),
        ("submitting", "The provider has not got the job yet, so no line can have been finished."),
        ("collecting", "The provider has ended the job; its output is being put together."),
    ],
)
async def test_where_there_is_nothing_to_look_at(
    api: Api, acme: httpx2.AsyncClient, new_job: MakeJob, state: str, message: str
) -> None:
    """Before and after the provider has it no look is asked for, and the answer says why."""
    job = await running(api, new_job, state=state)
    answer = await ask(acme, job)
    assert (answer.status_code, answer.json()["message"]) == (202, message)
    assert await wanted_at(api, job) is None


async def test_a_look_is_there_until_the_output_is(
    api: Api, acme: httpx2.AsyncClient, new_job: MakeJob
) -> None:
    """While the output is put together the last look is still answered."""
    job = await running(api, new_job)
    await put_look(api, job, DATA, 40)
    assert await api.store.jobs.move(job.id, JobState.COLLECTING, START)
    assert (await ask(acme, job)).content == DATA


@pytest.mark.parametrize("query", ["", "?partial=true", "?partial=false"])
async def test_the_output_of_an_ended_request(
    api: Api, acme: httpx2.AsyncClient, new_job: MakeJob, query: str
) -> None:
    """With the flag or without it, what has ended gives all of it, and no header of a look."""
    job_id = await ended(api, new_job(), output=DATA)
    answer = await acme.get(f"{BASE}/requests/{job_id}/output{query}", headers=PLAIN)
    assert (answer.status_code, answer.content) == (200, DATA)
    assert "x-penstock-lines-finished" not in answer.headers
    assert f'filename="{job_id}.output.jsonl"' in answer.headers["content-disposition"]


async def test_while_lines_are_sent_again_the_round_before_is_answered(
    api: Api, acme: httpx2.AsyncClient, new_job: MakeJob
) -> None:
    """The output of a round that ended has more in it than any look, so no look is asked for."""
    job_id = await ended(api, new_job(), output=DATA)
    found = await api.store.jobs.load(job_id)
    assert found is not None
    again = msgspec.structs.replace(found, id=found.id + "b", state=JobState.RUNNING)
    part = api.spool.begin(again.id, found.output_name or "")
    part.write(DATA)
    await api.blobs.commit(again.id, {found.output_name or "": part})
    await api.store.jobs.add(msgspec.structs.replace(again, round=2, finished_at=None))
    assert (await ask(acme, again)).content == DATA
    assert await wanted_at(api, again) is None


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 409, "not_finished"),
        ("?partial=false", 409, "not_finished"),
        ("?partial=yes", 400, "invalid_parameter"),
        ("?partial", 400, "invalid_parameter"),
        ("?partial=true&partial=x", 400, "invalid_parameter"),
        ("?format=csv", 400, "invalid_parameter"),
    ],
)
async def test_refusals(
    api: Api, acme: httpx2.AsyncClient, new_job: MakeJob, query: str, status: int, code: str
) -> None:
    """An unfinished output, and a parameter that is none, are refused with what to do."""
    job = await running(api, new_job)
    answer = await acme.get(f"{BASE}/requests/{job.id}/output{query}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "partial" in answer.json()["hint"]


async def test_a_request_without_an_output_says_so(
    api: Api, acme: httpx2.AsyncClient, new_job: MakeJob
) -> None:
    """A failure has nothing to read, with the flag or without it."""
    job_id = await ended(api, new_job(), JobState.FAILED)
    answer = await acme.get(f"{BASE}/requests/{job_id}/output?partial=true")
    assert (answer.status_code, answer.json()["code"]) == (409, "no_output")


async def test_another_tenants_request_is_no_request(
    api: Api, rival: httpx2.AsyncClient, new_job: MakeJob
) -> None:
    """Nothing is told, and nothing is written down."""
    job = await running(api, new_job)
    assert (await ask(rival, job)).status_code == 404
    assert await wanted_at(api, job) is None


async def test_the_record_links_to_the_look(
    api: Api, acme: httpx2.AsyncClient, nobody: httpx2.AsyncClient, new_job: MakeJob
) -> None:
    """`outcome.partial` says how far the request is; its link needs no key and is to one look."""
    job = await running(api, new_job)
    assert "partial" not in (await acme.get(f"{BASE}/requests/{job.id}")).json()["outcome"]
    await put_look(api, job, DATA, 40)
    outcome = (await acme.get(f"{BASE}/requests/{job.id}")).json()["outcome"]
    url = outcome["partial"].pop("url")
    assert outcome["partial"] == {"lines": 40, "total": LINES, "at": int(START)}
    assert "output_url" not in outcome
    assert (await nobody.get(url, headers=PLAIN)).content == DATA
    plain = url.replace("partial=true&", "")
    forged = [plain, url + "&x=1", url.replace(job.id, "req_nothing")]
    await put_look(api, job, MORE, 90)
    for wrong in (*forged, url):
        answer = await nobody.get(wrong)
        assert (answer.status_code, answer.json()["code"]) == (403, "link_invalid")


async def test_a_link_to_a_look_ends_with_the_job(
    api: Api, acme: httpx2.AsyncClient, nobody: httpx2.AsyncClient, new_job: MakeJob
) -> None:
    """It never becomes a link to the output, which has its own."""
    job = await running(api, new_job)
    look = await put_look(api, job, DATA, 40)
    url = (await acme.get(f"{BASE}/requests/{job.id}")).json()["outcome"]["partial"]["url"]
    assert await api.store.jobs.move(job.id, JobState.COLLECTING, START)
    end = Finish(state=JobState.SUCCEEDED, detail="", output_name="output-00000001.jsonl")
    assert await api.store.jobs.finish(job.id, START, end)
    found = await api.store.jobs.load(job.id)
    assert found is not None
    assert (found.partial_name, look_of(found)) == (look.name, None)
    assert (await nobody.get(url)).status_code == 403


async def test_a_look_that_was_just_replaced_is_asked_for_again(
    api: Api, acme: httpx2.AsyncClient, new_job: MakeJob
) -> None:
    """Its file may go between the row and the read; that is no fault of the server."""
    job = await running(api, new_job)
    look = await put_look(api, job, DATA, 40)
    await api.blobs.remove(job.id, look.name)
    answer = await ask(acme, job)
    assert (answer.status_code, answer.json()["code"]) == (503, "look_replaced")
    assert answer.headers["retry-after"] == "1"


async def test_the_lines_of_a_running_request_are_asked_for_in_the_same_way(
    api: Api, acme: httpx2.AsyncClient, new_job: MakeJob
) -> None:
    """`/lines?partial=true` writes the same wish, and says that there is nothing yet."""
    job = await running(api, new_job)
    path = f"{BASE}/requests/{job.id}/lines"
    assert (await acme.get(path)).status_code == 409
    assert await wanted_at(api, job) is None
    answer = await acme.get(f"{path}?partial=true")
    assert (answer.status_code, answer.json()["code"]) == (409, "lines_not_ready")
    assert await wanted_at(api, job) == START
