"""Quotas over HTTP: refused before the body, refused for certain at the commit, and shown."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2
import msgspec
import pytest
from tests.api.driver import BASE, Api, Scripted, files, job_ids, lines, permit, submission
from tests.fake_clock import START, FakeClock
from tests.store.driver import finish, look

from penstock.api.rates import Rates
from penstock.blobs.spool import Spool
from penstock.core.job import Job, OrgId
from penstock.core.limits import Limits
from penstock.core.models import DEFAULT_MODEL, SEED_CATALOGUE
from penstock.core.quotas import Quotas
from penstock.core.state import JobState
from penstock.errors import QuotaExceeded
from penstock.store.store import Store

REQUESTS = f"{BASE}/requests"
UPLOADS = f"{BASE}/uploads"
ACME = OrgId("acme")
MIDNIGHT = int(START) + 8 * 3600
"""The end of the tests' day, which begins at 16:00."""


class Limited:
    """An application whose organisations have quotas."""

    def __init__(self, store: Store, spool: Spool, clock: FakeClock) -> None:
        self.store = store
        self._spool = spool
        self._clock = clock

    async def client(self, org: str = "acme", **quotas: int) -> httpx2.AsyncClient:
        """A client of an organisation where everybody has these quotas."""
        api = Api(self.store, self._spool, self._clock, Limits(), quotas=Quotas(**quotas))
        return api.client(await permit(self.store, org))


@pytest.fixture
def limited(store: Store, spool: Spool, clock: FakeClock) -> Limited:
    """The maker of such applications."""
    return Limited(store, spool, clock)


async def submit(client: httpx2.AsyncClient, count: int = 2) -> httpx2.Response:
    """Submit so many lines."""
    return await client.post(REQUESTS, json=submission(lines(count)))


def never() -> AsyncIterator[bytes]:
    """A body of which nothing may be read."""

    async def body() -> AsyncIterator[bytes]:
        yield pytest.fail("the body was read")

    return body()


async def test_a_full_quota_refuses_before_the_body(limited: Limited) -> None:
    """With as many jobs as may be in flight nothing of the next one is read; it is told all."""
    client = await limited.client(jobs_in_flight_max=1)
    first = (await submit(client)).json()["request_id"]
    refused = await client.post(REQUESTS, content=never())
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "60"
    told = refused.json()
    assert told["code"] == "quota_jobs_in_flight"
    assert told["quota"] == {
        "name": "jobs_in_flight",
        "limit": 1,
        "used": 1,
        "reserved": 0,
        "asked": 1,
        "reserved_by": [{"request_id": first, "amount": 1}],
        "resets_at": None,
    }
    rows = await limited.store.audit.page(ACME, None, 9)
    assert [row.result for row in rows] == ["quota_jobs_in_flight", "done"]


async def test_the_end_of_a_job_makes_room(limited: Limited) -> None:
    """When the job has ended the next one is accepted."""
    client = await limited.client(jobs_in_flight_max=1)
    job_id = (await submit(client)).json()["request_id"]
    end = finish(JobState.CANCELLED, counts=None)
    assert await limited.store.jobs.finish(job_id, START, end)
    assert (await submit(client)).status_code == 200


async def test_a_length_that_is_too_much_is_refused_before_the_body(limited: Limited) -> None:
    """JSONL that says how long it is need not be read to know that it does not fit."""
    client = await limited.client(bytes_stored_max=1_000)
    headers = {"Content-Type": "application/jsonl", "Content-Length": "1004"}
    refused = await client.post(REQUESTS, content=never(), headers=headers)
    assert refused.json()["quota"]["asked"] == 1_001
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "3600")


async def test_what_only_the_lines_tell_is_refused_at_the_commit(
    limited: Limited, tmp_path: Path
) -> None:
    """Lines of today are counted when all have come; a refusal leaves no file and no row."""
    client = await limited.client(lines_day_max=3)
    refused = await submit(client, 4)
    assert (refused.status_code, refused.json()["code"]) == (429, "quota_lines_day")
    assert refused.json()["quota"]["resets_at"] == MIDNIGHT
    assert refused.headers["Retry-After"] == str(8 * 3600)
    assert files(tmp_path / "data") == []
    assert await job_ids(limited.store) == set()
    assert (await submit(client, 3)).status_code == 200


async def test_spending_is_reserved_and_refused(limited: Limited) -> None:
    """Two jobs whose estimates do not fit into a day's budget together: the second is refused."""
    # Two equal lines, of which one is paid: 1,000 tokens out, at 1.5 dollars a million.
    client = await limited.client(spend_day_micro_dollars_max=2_999)
    first = await submit(client)
    refused = await submit(client)
    quota = refused.json()["quota"]
    assert (refused.status_code, refused.json()["code"]) == (429, "quota_spend_day")
    assert quota["reserved_by"] == [
        {"request_id": first.json()["request_id"], "amount": quota["reserved"]}
    ]
    assert quota["asked"] == quota["reserved"] == 1_500


async def test_a_model_without_a_price_needs_no_budget(
    store: Store, spool: Spool, clock: FakeClock
) -> None:
    """Where spending is limited it is refused by name; elsewhere nothing is reserved for it."""
    models = {
        **SEED_CATALOGUE,
        DEFAULT_MODEL: msgspec.structs.replace(SEED_CATALOGUE[DEFAULT_MODEL], price=None),
    }
    key = await permit(store, "acme")
    for quotas, status in ((Quotas(spend_month_micro_dollars_max=9), 400), (Quotas(), 200)):
        api = Api(store, spool, clock, Limits(), quotas=quotas, models=models)
        async with api.client(key) as client:
            answer = await submit(client)
        assert answer.status_code == status
        assert status == 200 or answer.json()["code"] == "model_without_price"
    assert look(store, "SELECT reserved_micro_dollars FROM jobs") == [(None,)]


async def test_an_organisation_may_have_its_own(limited: Limited) -> None:
    """What its row says counts for it alone."""
    look(limited.store, "UPDATE orgs SET quotas = ? WHERE id = 'acme'", '{"lines_day_max":1}')
    acme, rival = await limited.client(), await limited.client("rival")
    assert (await submit(acme)).json()["quota"]["limit"] == 1
    assert (await submit(rival)).status_code == 200


async def test_parallel_submissions_share_what_is_left(limited: Limited) -> None:
    """Twenty at once, room for three: three get in, over HTTP as well."""
    client = await limited.client(lines_day_max=6)
    answers = await asyncio.gather(*(submit(client) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [429] * 17
    assert len(await job_ids(limited.store)) == 3


async def test_an_upload_waits_for_room(limited: Limited) -> None:
    """One that begins at a full quota is refused; one that ends there waits until there is room."""
    client = await limited.client(jobs_in_flight_max=1)
    head = {"Upload-Complete": "?0", "Content-Type": "application/jsonl"}
    content = lines(2).encode()
    begun = await client.post(
        UPLOADS, params={"model": DEFAULT_MODEL}, content=content, headers=head
    )
    job_id = (await submit(client)).json()["request_id"]
    refused = await client.post(UPLOADS, headers=head)
    assert (refused.status_code, refused.json()["code"]) == (429, "quota_jobs_in_flight")
    last = {
        "Upload-Complete": "?1",
        "Upload-Offset": str(len(content)),
        "Content-Type": "application/partial-upload",
    }
    where = begun.headers["Location"]
    assert (await client.patch(where, headers=last)).status_code == 429
    end = finish(JobState.CANCELLED, counts=None)
    assert await limited.store.jobs.finish(job_id, START, end)
    done = await client.patch(where, headers=last)
    assert done.status_code == 200
    assert (await client.patch(where, headers=last)).json() == done.json()
    rows = await limited.store.audit.page(ACME, None, 9)
    assert [(row.action, row.result) for row in reversed(rows)] == [
        ("upload.create", "done"),
        ("job.submit", "done"),
        ("upload.create", "quota_jobs_in_flight"),
        ("upload.append", "quota_jobs_in_flight"),
        ("job.submit", "done"),
        ("upload.append", "done"),
    ]


async def test_priorities_are_stored(acme: httpx2.AsyncClient, store: Store) -> None:
    """A submission says where it stands among its own; so does an upload, at its start."""
    for priority in ("1", "1000"):
        headers = {"X-Penstock-Priority": priority}
        answer = await acme.post(REQUESTS, json=submission(lines(1)), headers=headers)
        assert answer.json()["priority"] == int(priority)
    plain = await submit(acme)
    assert "priority" not in plain.json()
    head = {"Upload-Complete": "?1", "Content-Type": "application/jsonl"}
    content = lines(1).encode()
    made = await acme.post(UPLOADS, content=content, headers={**head, "X-Penstock-Priority": "7"})
    assert made.json()["priority"] == 7
    rows = look(store, "SELECT priority FROM jobs ORDER BY priority")
    assert rows == [(1,), (7,), (100,), (1000,)]


@pytest.mark.parametrize("text", ["0", "1001", "-1", "1.5", "", "99999", "ten", "٣"])
@pytest.mark.parametrize("path", [REQUESTS, UPLOADS])
async def test_a_priority_that_is_none_is_refused(
    acme: httpx2.AsyncClient, text: str, path: str
) -> None:
    """Whole numbers from 1 to 1,000; anything else is named."""
    headers = [(b"X-Penstock-Priority", text.encode()), (b"Upload-Complete", b"?0")]
    refused = await acme.post(path, headers=headers, content=b"{}")
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_priority")


async def test_two_priorities_are_refused(acme: httpx2.AsyncClient) -> None:
    """Which of two counts would be a guess."""
    headers = [("X-Penstock-Priority", "1"), ("X-Penstock-Priority", "2")]
    refused = await acme.post(REQUESTS, json=submission(lines(1)), headers=headers)
    assert refused.json()["code"] == "invalid_priority"


async def test_requests_a_second_are_limited_and_told(limited: Limited, clock: FakeClock) -> None:
    """So many at once, then 429 until time passes; every answer says how many are left."""
    client = await limited.client(requests_second_max=2)
    left = []
    for _ in range(3):
        answer = await client.get(f"{REQUESTS}/req_none")
        left.append((answer.status_code, answer.headers["RateLimit-Remaining"]))
    assert left == [(404, "1"), (404, "0"), (429, "0")]
    assert answer.json()["code"] == "quota_requests_second"
    names = ("RateLimit-Limit", "RateLimit-Reset", "Retry-After")
    assert [answer.headers[name] for name in names] == ["2", "1", "1"]
    clock.advance(0.5)
    assert (await client.get(f"{REQUESTS}/req_none")).status_code == 404


async def test_a_wrong_key_counts_for_nobody(limited: Limited) -> None:
    """Who guesses keys uses up nobody's requests and is told nothing of them."""
    client = await limited.client(requests_second_max=1)
    wrong = {"Authorization": "Bearer pk_wrong"}
    for _ in range(3):
        answer = await client.get(REQUESTS, headers=wrong)
        assert answer.status_code == 401
        assert "RateLimit-Limit" not in answer.headers
    assert (await client.get(REQUESTS)).status_code == 200


async def test_unlimited_answers_have_no_such_headers(acme: httpx2.AsyncClient) -> None:
    """Where nothing is limited nothing is said."""
    assert "RateLimit-Limit" not in (await acme.get(REQUESTS)).headers


def test_buckets_are_filled_by_time_and_bounded() -> None:
    """A clock that goes back gives nothing; of too many organisations the idlest is forgotten."""
    rates = Rates(Quotas(requests_second_max=1), organisations_max=2)
    scope: dict[str, object] = {"type": "http"}
    rates.count(scope, OrgId("a"), None, 100.0)
    with pytest.raises(QuotaExceeded):
        rates.count(scope, OrgId("a"), None, 50.0)
    with pytest.raises(QuotaExceeded):
        rates.count(scope, OrgId("a"), None, 50.9)
    rates.count(scope, OrgId("a"), None, 51.9)
    for other in "bc":
        rates.count(scope, OrgId(other), None, 51.9)
    rates.count(scope, OrgId("a"), None, 51.9)


async def test_usage_shows_quotas_and_what_is_used(limited: Limited) -> None:
    """One answer has the quotas, what is used, by whom it is reserved, and when it resets."""
    client = await limited.client(lines_day_max=50, spend_month_micro_dollars_max=9_000_000)
    job_id = (await submit(client)).json()["request_id"]
    told = (await client.get("/api/v1/usage")).json()
    reserved = told["used"]["reserved_day_micro_dollars"]
    assert told["org_id"] == "acme"
    assert told["quotas"]["lines_day_max"] == 50
    assert told["used"]["lines_day"] == 2
    assert told["reserved_by"] == [{"request_id": job_id, "amount": reserved}]
    assert told["resets"] == {"day": MIDNIGHT, "month": MIDNIGHT + 8 * 86_400}
    assert told["days"] == [
        {
            "day": "2026-11-22",
            "jobs": 1,
            "lines": 2,
            "bytes": told["used"]["bytes_stored"],
            "reserved_micro_dollars": reserved,
            "spent_micro_dollars": 0,
        }
    ]


async def test_usage_is_each_organisation_s_own(
    limited: Limited, rival: httpx2.AsyncClient
) -> None:
    """Another organisation sees nothing of it, and a key without the scope is refused."""
    await submit(await limited.client())
    told = (await rival.get("/api/v1/usage")).json()
    assert (told["org_id"], told["days"], told["used"]["jobs_in_flight"]) == ("rival", [], 0)
    key = await permit(limited.store, "rival", scopes="jobs:read")
    refused = await rival.get("/api/v1/usage", headers={"Authorization": f"Bearer {key}"})
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")


async def test_what_fits_at_first_may_not_at_the_end(
    store: Store, spool: Spool, clock: FakeClock, new_job: Callable[..., Job], tmp_path: Path
) -> None:
    """A submission that somebody else overtakes is refused at its commit and leaves nothing."""
    store.jobs = scripted = Scripted(store._engine, store.audit)
    api = Api(store, spool, clock, Limits(), quotas=Quotas(jobs_in_flight_max=1))
    other = new_job()

    async def overtake() -> None:
        scripted.before = None
        await scripted.add(other)

    scripted.before = overtake
    async with api.client(await permit(store, "acme")) as client:
        refused = await client.post(REQUESTS, content=json.dumps(submission(lines(2))).encode())
    assert (refused.status_code, refused.json()["code"]) == (429, "quota_jobs_in_flight")
    assert await job_ids(store) == {other.id}
    assert files(tmp_path / "data") == []
