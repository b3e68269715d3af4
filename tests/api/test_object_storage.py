"""The API over object storage: what was acknowledged is there, what failed is not, and no half."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from tests.api.driver import BASE, Api, ended, files, job_ids, permit, submission
from tests.api.indexed import BUSY, INDEX, OK, indexed
from tests.api.live import head_of, live, rest_of, until
from tests.blobs.places import names_of, opened
from tests.emulator.driver import Emulator, fresh_emulator
from tests.fake_clock import FakeClock

from penstock.api.protocol import guarded
from penstock.blobs.spool import INPUT, INPUT_INDEX, Spool
from penstock.core.job import Job
from penstock.core.limits import Limits
from penstock.store.store import Store

SIZE = 12_000_000
"""More than the buffers on the way to a client that does not read."""

DATA = os.urandom(SIZE)
ROOT = "penstock/api/jobs"


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    """A Cloud Storage of this test alone."""
    with fresh_emulator(tmp_path / "emulator") as made:
        yield made


@pytest.fixture
async def api(
    store: Store, spool: Spool, clock: FakeClock, limits: Limits, emulator: Emulator
) -> AsyncIterator[Api]:
    """The application over it."""
    async with opened("gs", emulator.url, "api", spool) as blobs:
        yield Api(store, spool, clock, limits, blobs=blobs)


@pytest.fixture
async def acme(api: Api) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the organisation `acme`."""
    async with api.client(await permit(api.store, "acme")) as client:
        yield client


def break_store(emulator: Emulator, call: str, name: str = "*") -> None:
    """Have the storage fail from now on."""
    emulator.rule(when={"call": call, "path": f"{ROOT}/{name}"}, then={"status": 503})


async def is_clean(api: Api, tmp_path: Path) -> bool:
    """Whether neither row nor file is anywhere."""
    return (
        not await job_ids(api.store)
        and not files(tmp_path / "data")
        and not await names_of(api.blobs)
    )


# -- accept --------------------------------------------------------------------------------------


async def test_an_acknowledged_input_is_in_the_storage(
    acme: httpx2.AsyncClient, api: Api, tmp_path: Path
) -> None:
    """Input and index are there, whole, when the answer is; here, nothing is left."""
    text = '{"request": {"contents": [{"role": "user", "parts": [{"text": "a"}]}]}}\n'
    answer = await acme.post(f"{BASE}/requests", json=submission(text))
    assert answer.status_code == 200, answer.text
    job_id = answer.json()["request_id"]
    assert await names_of(api.blobs) == {job_id: [INPUT_INDEX, INPUT]}
    async with api.blobs.local(job_id, INPUT) as path:
        assert path.read_text() == text
    assert files(tmp_path / "data") == []


@pytest.mark.parametrize("name", [INPUT, INPUT_INDEX])
@pytest.mark.parametrize("call", ["object_write", "object_read"])
async def test_a_storage_that_fails_is_503(
    acme: httpx2.AsyncClient, api: Api, emulator: Emulator, tmp_path: Path, name: str, call: str
) -> None:
    """Neither written nor confirmed: the caller is told when to try again, and nothing is left."""
    break_store(emulator, call, f"*/{name}")
    answer = await acme.post(f"{BASE}/requests", json=submission(GOOD))
    assert (answer.status_code, answer.json()["code"]) == (503, "blobs_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert api.accepted == 0
    assert await is_clean(api, tmp_path)


async def test_what_cannot_be_taken_back_is_left_to_prune(
    acme: httpx2.AsyncClient, api: Api, emulator: Emulator
) -> None:
    """A storage that does not even delete changes nothing for the caller."""
    break_store(emulator, "object_write", f"*/{INPUT_INDEX}")
    break_store(emulator, "object_delete")
    answer = await acme.post(f"{BASE}/requests", json=submission(GOOD))
    assert (answer.status_code, answer.json()["code"]) == (503, "blobs_unavailable")
    assert list((await names_of(api.blobs)).values()) == [[INPUT]]
    assert not await job_ids(api.store)


GOOD = '{"request": {"contents": [{"role": "user", "parts": [{"text": "a"}]}]}}\n'

# -- deliver -------------------------------------------------------------------------------------


async def test_an_output_that_is_gone_is_an_error(api: Api, new_job: Callable[..., Job]) -> None:
    """Nothing is sent of a file that is not there, or has another length."""
    job = await api.store.jobs.load(await ended(api, new_job(), output=b"lines\n"))
    assert job is not None
    async with api.client() as client:
        await api.blobs.remove(job.id, job.output_name or "")
        answer = await client.get(target_of(api, job))
        assert (answer.status_code, answer.json()["code"]) == (500, "blob_missing")


async def test_a_storage_that_is_away_is_503_before_any_byte(
    api: Api, emulator: Emulator, new_job: Callable[..., Job]
) -> None:
    """A download that cannot begin says when to try again."""
    job = await api.store.jobs.load(await ended(api, new_job(), output=b"lines\n"))
    assert job is not None
    break_store(emulator, "object_read")
    async with api.client() as client:
        answer = await client.get(target_of(api, job))
    assert (answer.status_code, answer.json()["code"]) == (503, "blobs_unavailable")
    assert int(answer.headers["retry-after"]) > 0


def target_of(api: Api, job: Job) -> str:
    """The link to an output."""
    return f"/api/v1/ie/requestqueue/downloads/{job.id}/output.jsonl?{api.links.query(job)}"


@pytest.mark.parametrize("encoding", ["identity", "zstd"])
async def test_a_storage_that_fails_in_the_middle_cuts(
    api: Api, emulator: Emulator, new_job: Callable[..., Job], encoding: str
) -> None:
    """The answer has not its length, or no end: nobody takes it for whole."""
    job = await api.store.jobs.load(await ended(api, new_job(), output=DATA))
    assert job is not None
    request = (
        f"GET {target_of(api, job)} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: {encoding}\r\n\r\n"
    )
    emulator.rule(
        when={"call": "object_read", "path": f"{ROOT}/*"},
        then={"cut_after_bytes": 3_000_000},
        times=2,  # the look before, and the read
    )
    async with live(api.app, guarded(Limits())) as served:
        with await served.silent_client(request) as client:
            head = await head_of(client)
            # The first read was cut; what obstore does to go on finds the storage gone.
            emulator.rule(when={"call": "object_read", "path": f"{ROOT}/*"}, then={"status": 404})
            body = await rest_of(client)
        await until(lambda: api.downloads.slots.taken == 0)
    assert len(body) < SIZE
    if encoding == "identity":
        assert head["content-length"] == str(SIZE)
        assert DATA.startswith(body)
    else:
        assert not body.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("encoding", ["identity", "zstd"])
async def test_who_goes_away_ends_the_reading(
    api: Api, new_job: Callable[..., Job], encoding: str
) -> None:
    """A client that closes in the middle frees its slot."""
    job = await api.store.jobs.load(await ended(api, new_job(), output=DATA))
    assert job is not None
    request = (
        f"GET {target_of(api, job)} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: {encoding}\r\n\r\n"
    )
    async with live(api.app, guarded(Limits())) as served:
        with await served.silent_client(request) as client:
            await head_of(client)
            assert api.downloads.slots.taken == 1
        await served.done()
        await until(lambda: not served.connections())
    assert api.downloads.slots.taken == 0


# -- lines ---------------------------------------------------------------------------------------


async def test_lines_are_read_from_the_storage(
    acme: httpx2.AsyncClient, api: Api, emulator: Emulator, new_job: Callable[..., Job]
) -> None:
    """Pages and lines come from there piece by piece; what was read once needs no storage."""
    job_id = await indexed(api, new_job(), [OK, BUSY, OK])
    path = f"{BASE}/requests/{job_id}/lines"
    page = (await acme.get(f"{path}?outcome=error&include=output")).json()
    assert [line["output"]["key"] for line in page["lines"]] == [2]
    assert (await acme.get(f"{path}/3")).json()["output"]["key"] == 3
    break_store(emulator, "object_read")
    assert (await acme.get(f"{path}?outcome=error")).json()["total"] == 1
    answer = await acme.get(f"{path}/3")
    assert (answer.status_code, answer.json()["code"]) == (503, "blobs_unavailable")


async def test_an_index_that_is_gone_is_an_error(
    acme: httpx2.AsyncClient, api: Api, new_job: Callable[..., Job]
) -> None:
    """Nobody is told that there are no lines."""
    job_id = await indexed(api, new_job(), [OK])
    await api.blobs.remove(job_id, INDEX)
    answer = await acme.get(f"{BASE}/requests/{job_id}/lines")
    assert (answer.status_code, answer.json()["code"]) == (500, "blob_missing")
