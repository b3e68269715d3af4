"""Webhooks over HTTP: what their owners see and do; the rest is in tests of all operations."""

from typing import Any

import httpx2
import pytest
from tests.api.driver import PRIVATE_HOOKS, WEBHOOK_KEY, Api
from tests.fake_clock import START, FakeClock
from tests.webhooks.driver import END, MakeJob, add_webhook, end_job, failure

from penstock.core.job import OrgId
from penstock.core.limits import Limits
from penstock.webhooks.secrets import Sealer

BASE = "/api/v1/webhooks"
WISH = {"url": "https://hooks.example/a?b=c", "events": ["job.failed", "job.succeeded"]}
Json = dict[str, Any]


@pytest.fixture
def limits() -> Limits:
    """Few webhooks, so that there can be too many."""
    return Limits(webhooks_max=2, webhook_overlap_seconds=600)


async def made(client: httpx2.AsyncClient, **changes: Any) -> Json:  # noqa: ANN401  # JSON
    """A new webhook with its secret."""
    answer = await client.post(BASE, json={**WISH, **changes})
    assert answer.status_code == 201, answer.text
    record: Json = answer.json()
    return record


async def test_it_is_made_and_shown(acme: httpx2.AsyncClient, api: Api) -> None:
    """The secret is shown once, and stands encrypted in the database."""
    record = await made(acme)
    secret = record.pop("secret")
    assert secret.startswith("whsec_")
    assert record == {
        "id": record["id"],
        "url": WISH["url"],
        "events": WISH["events"],
        "created_at": int(START),
        "created_by": "acme-user",
        "old_secret_until": None,
        "failing_since": None,
        "disabled_at": None,
        "disabled_reason": None,
    }
    assert (await acme.get(f"{BASE}/{record['id']}")).json() == record
    assert (await acme.get(BASE)).json() == {"webhooks": [record]}
    stored = await api.store.webhooks.get(OrgId("acme"), record["id"])
    assert stored is not None
    assert secret not in repr(stored)
    assert Sealer(WEBHOOK_KEY).open(record["id"], stored.secret) == secret


async def test_without_events_it_is_told_of_all(acme: httpx2.AsyncClient) -> None:
    """The operator's private address is taken, too."""
    record = await made(acme, url=f"{PRIVATE_HOOKS}x", events=[])
    assert record["events"] == ["*"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid_body"),
        ({**WISH, "secret": "whsec_"}, "invalid_body"),
        ({**WISH, "events": ["job.exploded"]}, "unknown_event"),
        ({**WISH, "events": "job.failed"}, "invalid_body"),
        ({**WISH, "url": "http://hooks.example/"}, "invalid_webhook_url"),
        ({**WISH, "url": "https://127.0.0.1/"}, "invalid_webhook_url"),
        ({**WISH, "url": 7}, "invalid_body"),
    ],
)
async def test_a_wrong_wish_is_refused(acme: httpx2.AsyncClient, body: Json, code: str) -> None:
    """Nothing is made, and the answer says what is wrong."""
    answer = await acme.post(BASE, json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert (await acme.get(BASE)).json() == {"webhooks": []}


async def test_there_are_so_many(acme: httpx2.AsyncClient, rival: httpx2.AsyncClient) -> None:
    """One more than the limit is 429; another organisation has its own."""
    for _ in range(2):
        await made(acme)
    answer = await acme.post(BASE, json=WISH)
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_webhooks")
    await made(rival)


async def test_it_is_changed(acme: httpx2.AsyncClient) -> None:
    """The address, the events, or both; nothing and unknown members are refused."""
    path = f"{BASE}/{(await made(acme))['id']}"
    changed = (await acme.patch(path, json={"url": "https://new.example/"})).json()
    assert (changed["url"], changed["events"]) == ("https://new.example/", WISH["events"])
    changed = (await acme.patch(path, json={"events": []})).json()
    assert (changed["url"], changed["events"]) == ("https://new.example/", ["*"])
    wrong: tuple[Json, ...] = ({}, {"secret": "x"}, {"url": "ftp://x"}, {"disabled_at": None})
    for body in wrong:
        assert (await acme.patch(path, json=body)).status_code == 400
    assert (await acme.get(path)).json() == changed


async def test_a_secret_is_replaced(acme: httpx2.AsyncClient, api: Api, clock: FakeClock) -> None:
    """The old one stays for the overlap that was asked for, or the longest there is."""
    first = await made(acme)
    path = f"{BASE}/{first['id']}/rotate"
    second = (await acme.post(path)).json()
    assert second["secret"] != first["secret"]
    assert second["old_secret_until"] == clock.now() + 600
    stored = await api.store.webhooks.get(OrgId("acme"), first["id"])
    assert stored is not None
    assert Sealer(WEBHOOK_KEY).open(first["id"], stored.old_secret or "") == first["secret"]
    third = (await acme.post(path, json={"overlap_seconds": 0})).json()
    assert third["old_secret_until"] == clock.now()
    for seconds in (-1, 601):
        answer = await acme.post(path, json={"overlap_seconds": seconds})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


async def test_it_is_removed(acme: httpx2.AsyncClient) -> None:
    """After that it is as if it had never been."""
    path = f"{BASE}/{(await made(acme))['id']}"
    assert (await acme.delete(path)).status_code == 204
    assert (await acme.delete(path)).status_code == 404
    assert (await acme.get(path)).status_code == 404


async def test_a_foreign_one_is_like_none(
    acme: httpx2.AsyncClient, rival: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """Each call answers for another's, for an absent one and for nonsense with the same bytes."""
    webhook = await add_webhook(api.store, org="rival")
    mine = await add_webhook(api.store)
    await end_job(api.store, new_job, "rival")
    (foreign,) = await api.store.deliveries.page(OrgId("rival"), webhook.id, None, 2)
    calls = (
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/rotate"),
        ("POST", "/enable"),
        ("GET", "/deliveries"),
        ("POST", f"/deliveries/{foreign.id}/replay"),
    )
    for method, tail in calls:
        body: Json | None = {"events": []} if method == "PATCH" else None
        answers = [
            await acme.request(method, f"{BASE}/{one}{tail}", json=body)
            for one in (webhook.id, "whk_none", "%00", "a b")
        ]
        assert {answer.status_code for answer in answers} == {404}, (method, tail)
        assert len({answer.content for answer in answers}) == 1
    for one in (foreign.id, "msg_none", "%7F"):
        answer = await acme.post(f"{BASE}/{mine.id}/deliveries/{one}/replay")
        assert (answer.status_code, answer.json()["error"]) == (404, "There is no such delivery.")
    assert (await rival.get(f"{BASE}/{webhook.id}")).status_code == 200


async def test_deliveries_are_shown(acme: httpx2.AsyncClient, api: Api, new_job: MakeJob) -> None:
    """Newest first, page by page, each with how it stands."""
    webhook = await add_webhook(api.store)
    job_ids = [await end_job(api.store, new_job, at=START + number) for number in range(4)]
    store = api.store.deliveries
    ids = [each.id for each in await store.page(OrgId("acme"), webhook.id, None, 9)]
    claimed = {each.id: each for each in await store.claim(ids, "c", START + 9, 60)}
    await store.delivered(claimed[ids[0]], START + 9, 200)
    await store.failed(claimed[ids[1]], START + 9, failure(wait_seconds=None))
    path = f"{BASE}/{webhook.id}/deliveries"
    page = (await acme.get(path, params={"limit": 3})).json()
    assert [each["request_id"] for each in page["deliveries"]] == job_ids[:0:-1]
    assert [each["state"] for each in page["deliveries"]] == ["delivered", "given_up", "pending"]
    first = page["deliveries"][0]
    assert first == {
        "id": ids[0],
        "webhook_id": webhook.id,
        "request_id": job_ids[3],
        "type": "job.failed",
        "state": "delivered",
        "created_at": int(START + 3),
        "tries": 1,
        "next_at": None,
        "delivered_at": int(START + 9),
        "given_up_at": None,
        "last_status": 200,
        "last_error": None,
    }
    rest = (await acme.get(path, params={"limit": 3, "after": page["next"]})).json()
    assert [each["id"] for each in rest["deliveries"]] == ids[3:]
    assert rest["next"] is None
    assert (await acme.get(path, params={"limit": "x"})).status_code == 400
    gone = failure(status=410, error="answered 410", is_gone=True)
    await store.failed(claimed[ids[2]], START + 9, gone)
    states = [each["state"] for each in (await acme.get(path)).json()["deliveries"]]
    assert states == ["delivered", "given_up", "paused", "paused"]


async def test_it_is_enabled_and_told_again(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """A disabled one says since when and why; a replay waits until it is enabled."""
    webhook = await add_webhook(api.store)
    await end_job(api.store, new_job, finish=END)
    (waiting,) = await api.store.deliveries.page(OrgId("acme"), webhook.id, None, 2)
    (mine,) = await api.store.deliveries.claim([waiting.id], "c", START, 60)
    gone = failure(status=410, error="answered 410", is_gone=True)
    await api.store.deliveries.failed(mine, START, gone)
    path = f"{BASE}/{webhook.id}"
    record = (await acme.get(path)).json()
    assert (record["disabled_at"], record["disabled_reason"]) == (
        int(START),
        "It answered 410 Gone.",
    )
    replay = f"{path}/deliveries/{waiting.id}/replay"
    refused = await acme.post(replay)
    assert (refused.status_code, refused.json()["code"]) == (409, "webhook_disabled")
    assert (await acme.post(f"{path}/enable", json={"x": 1})).status_code == 400
    enabled = (await acme.post(f"{path}/enable")).json()
    assert (enabled["disabled_at"], enabled["disabled_reason"]) == (None, None)
    again = (await acme.post(replay)).json()
    assert (again["id"], again["state"], again["tries"]) == (waiting.id, "pending", 0)
