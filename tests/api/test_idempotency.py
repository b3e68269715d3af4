"""`Idempotency-Key`: however often a submission is sent, it is one job."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from tests.api.driver import BASE, Api, Scripted, files, job_ids, lines, permit, submission
from tests.fake_clock import START, FakeClock
from tests.store.driver import look

from penstock.api.idempotency import SUBMIT, IdempotencyKeys
from penstock.core.job import OrgId, new_job_id
from penstock.core.limits import Limits
from penstock.errors import Conflict, DatabaseUnavailable
from penstock.store.idempotency import Claim, Idempotency, Memory
from penstock.store.store import Store

KEY = {"Idempotency-Key": "3f1c"}
REQUESTS = f"{BASE}/requests"
ACME = OrgId("acme")


class Standing(FakeClock):
    """A clock that stands, whoever sleeps."""

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.Event().wait()


@pytest.fixture
def clock() -> FakeClock:
    """Time in which nobody gives a sign of life by himself."""
    return Standing()


async def send(client: httpx2.AsyncClient, count: int = 2, **more: str) -> httpx2.Response:
    """Submit lines with the key."""
    headers = {**KEY, **{name.replace("_", "-"): value for name, value in more.items()}}
    return await client.post(REQUESTS, json=submission(lines(count)), headers=headers)


async def test_the_same_submission_is_the_same_job(
    api: Api, acme: httpx2.AsyncClient, store: Store, tmp_path: Path
) -> None:
    """Sent again it gives the same record, and nothing is stored, counted or reserved twice."""
    first = await send(acme)
    before = files(tmp_path / "data"), look(store, "SELECT * FROM usage")
    again = await send(acme)
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json() == first.json()
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (files(tmp_path / "data"), look(store, "SELECT * FROM usage")) == before
    assert await job_ids(store) == {first.json()["request_id"]}
    assert api.accepted == 1
    rows = await store.audit.page(ACME, None, 9)
    assert [(row.action, row.detail) for row in rows] == [
        ("job.submit", '{"replayed":true}'),
        ("job.submit", "{}"),
    ]


async def test_the_form_and_the_base_do_not_matter(acme: httpx2.AsyncClient) -> None:
    """The same lines as JSONL under the other base are the same submission."""
    first = await send(acme)
    model = first.json()["payload"]["model"]
    again = await acme.post(
        REQUESTS.replace("/apikey", ""),
        params={"model": model},
        content=lines(2).encode(),
        headers={**KEY, "Content-Type": "application/jsonl"},
    )
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json()["request_id"] == first.json()["request_id"]


@pytest.mark.parametrize("other", ["lines", "payload", "priority"])
async def test_another_submission_is_refused(
    acme: httpx2.AsyncClient, store: Store, tmp_path: Path, other: str
) -> None:
    """A key that stands for something else is 422, and leaves nothing behind."""
    first = await send(acme)
    body = submission(
        lines(3 if other == "lines" else 2), **{other: "x"} if other == "payload" else {}
    )
    headers = {**KEY, **({"X-Penstock-Priority": "7"} if other == "priority" else {})}
    before = files(tmp_path / "data")
    refused = await acme.post(REQUESTS, json=body, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_mismatch")
    assert files(tmp_path / "data") == before
    assert await job_ids(store) == {first.json()["request_id"]}


async def test_keys_of_others_are_others(
    acme: httpx2.AsyncClient, rival: httpx2.AsyncClient, store: Store
) -> None:
    """Two organisations with the same key and the same lines have a job each."""
    answers = [await send(acme), await send(rival)]
    assert await job_ids(store) == {one.json()["request_id"] for one in answers}
    assert len({one.json()["request_id"] for one in answers}) == 2


@pytest.mark.parametrize("key", [b"", b"k" * 256, b"caf\xc3\xa9", b"tab\there"])
async def test_a_key_that_is_none_is_refused(acme: httpx2.AsyncClient, key: bytes) -> None:
    """1 to 255 printable ASCII characters, or 400."""
    headers = [(b"Idempotency-Key", key)]
    refused = await acme.post(REQUESTS, json=submission(lines(1)), headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_idempotency_key")


async def test_two_keys_are_refused(acme: httpx2.AsyncClient) -> None:
    """Which of two counts would be a guess; the longest one and a space are fine."""
    two = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    refused = await acme.post(REQUESTS, json=submission(lines(1)), headers=two)
    assert refused.json()["code"] == "invalid_idempotency_key"
    good = {"Idempotency-Key": "a b" + "~" * 252}
    taken = await acme.post(REQUESTS, json=submission(lines(1)), headers=good)
    assert taken.status_code == 200


async def test_a_refusal_frees_the_key(acme: httpx2.AsyncClient, store: Store) -> None:
    """What was refused may be mended and sent with the same key."""
    assert (await send(acme, 0)).status_code == 400
    assert look(store, "SELECT key FROM idempotency") == []
    mended = await send(acme)
    assert mended.status_code == 200
    assert "Idempotency-Replayed" not in mended.headers


async def test_a_cut_connection_frees_the_key(acme: httpx2.AsyncClient, store: Store) -> None:
    """A client that goes away in the middle can come back with its key at once."""
    waits = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield json.dumps(submission(lines(2)))[:99].encode()
        waits.set()
        await asyncio.Event().wait()

    sending = asyncio.create_task(acme.post(REQUESTS, content=body(), headers=KEY))
    await waits.wait()
    assert len(look(store, "SELECT key FROM idempotency")) == 1
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert look(store, "SELECT key FROM idempotency") == []
    assert (await send(acme)).status_code == 200


@pytest.fixture
def scripted(store: Store) -> Scripted:
    """Jobs that wait around their commit; ask for it before the application."""
    store.jobs = Scripted(store._engine, store.audit)
    return store.jobs


async def test_a_key_in_flight_is_a_conflict(scripted: Scripted, api: Api, store: Store) -> None:
    """While the first one runs the second is told when to come again, and then gets its job."""
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        begun.set()
        await may_end.wait()

    scripted.before = wait
    async with api.client(await permit(store, "acme")) as acme:
        first = asyncio.create_task(send(acme))
        await begun.wait()
        meanwhile = await send(acme)
        may_end.set()
        scripted.before = None
        assert (meanwhile.status_code, meanwhile.json()["code"]) == (409, "idempotency_in_flight")
        assert meanwhile.headers["Retry-After"] == "30"
        done = (await first).json()["request_id"]
        assert (await send(acme)).json()["request_id"] == done
    results = [row.result for row in await store.audit.page(ACME, None, 9)]
    assert results == ["done", "done", "idempotency_in_flight"]


async def test_who_lost_the_key_stores_nothing(
    scripted: Scripted, api: Api, store: Store, tmp_path: Path
) -> None:
    """A request that was silent for too long is refused at its commit, and its files are gone."""
    theirs = Claim(org_id=ACME, route=SUBMIT, key="3f1c", job_id=new_job_id(), token="other")

    async def freeze() -> None:
        taken = await store.idempotency.claim(theirs, START + 31, 30.0)
        assert taken == theirs

    scripted.before = freeze
    async with api.client(await permit(store, "acme")) as acme:
        lost = await send(acme)
    assert (lost.status_code, lost.json()["code"]) == (409, "idempotency_lost")
    assert files(tmp_path / "data") == []
    assert await job_ids(store) == set()
    assert look(store, "SELECT token FROM idempotency") == [("other",)]


async def test_an_unknown_commit_is_found_again(scripted: Scripted, api: Api, store: Store) -> None:
    """A commit whose answer was lost took effect: the retry gets its job, not another one."""

    async def lose() -> None:
        raise DatabaseUnavailable("The database went away.")

    scripted.after = lose
    async with api.client(await permit(store, "acme")) as acme:
        assert (await send(acme)).status_code == 503
        scripted.after = None
        again = await send(acme)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert await job_ids(store) == {again.json()["request_id"]}


async def test_many_at_once_make_one_job(acme: httpx2.AsyncClient, store: Store) -> None:
    """Fifty clients that send the same at once, until they are answered, have one job."""

    async def insist() -> str:
        while True:
            answer = await send(acme)
            if answer.status_code == 200:
                return str(answer.json()["request_id"])
            assert answer.json()["code"] == "idempotency_in_flight"

    found = await asyncio.gather(*(insist() for _ in range(50)))
    assert await job_ids(store) == set(found)
    assert len(set(found)) == 1


class Failing(Idempotency):
    """Keys of a database that goes away after the claim."""

    beats = 0

    async def beat(self, claim: Claim, at: float) -> None:
        """Work once, and then no more."""
        self.beats += 1
        if self.beats > 1:
            raise DatabaseUnavailable("The database went away.")
        await super().beat(claim, at)

    async def release(self, claim: Claim) -> None:
        """Fail."""
        raise DatabaseUnavailable(f"The database went away; {claim.key} stays.")


class Counting(FakeClock):
    """A clock whose fourth sleeper waits for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.has_slept = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        if len(self.slept) == 3:
            self.has_slept.set()
            await asyncio.Event().wait()
        await super().sleep(seconds)


async def test_a_running_request_gives_signs_of_life(store: Store) -> None:
    """The claim is renewed three times within the time; a database that is away is no end of it."""
    clock = Counting()
    keys = IdempotencyKeys(Failing(store._engine), clock, Limits())

    async def run() -> None:
        async with keys.held(ACME, "k") as held:
            assert isinstance(held, Claim)
            await clock.has_slept.wait()
            raise Conflict("ours")

    with pytest.raises(Conflict, match="ours"):
        await run()
    assert clock.slept == [10.0] * 3
    # Released it was not, so it counts from the one sign that arrived.
    assert look(store, "SELECT seen_at FROM idempotency") == [(START + 10.0,)]


async def test_without_a_key_nothing_is_held(store: Store, clock: FakeClock) -> None:
    """A submission without a key leaves no row, and each is a job of its own."""
    keys = IdempotencyKeys(store.idempotency, clock, Limits())
    async with keys.held(ACME, None) as held:
        assert held is None
    assert look(store, "SELECT key FROM idempotency") == []
    assert not isinstance(held, Memory)
