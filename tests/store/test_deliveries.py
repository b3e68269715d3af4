"""The outbox on both databases: written with the end of a job, claimed by one, told to the end."""

import asyncio
import json

import msgspec
import pytest
from tests.fake_clock import START
from tests.store.driver import COUNTS, bring, finish, look
from tests.webhooks.driver import (
    LEASE_SECONDS,
    MakeJob,
    actor,
    add_webhook,
    claim,
    due,
    end_job,
    failure,
    make_due,
    row,
)

from penstock.core.state import JobState
from penstock.errors import Conflict
from penstock.store.location import Location
from penstock.store.store import Store


async def test_the_end_of_a_job_is_told_to_each_endpoint(store: Store, new_job: MakeJob) -> None:
    """One row an endpoint whose events match, in the transaction of the end, with all it says."""
    wants_all = await add_webhook(store)
    wants_ends = await add_webhook(store, events="job.cancelled job.succeeded")
    await add_webhook(store, events="job.failed")
    await add_webhook(store, org="rival")
    job = new_job(name="nightly", labels={"team": "ads"})
    job_id = await bring(store, job, JobState.SUCCEEDED)
    found = {each.webhook_id: each for each in await claim(store)}
    assert set(found) == {wants_all.id, wants_ends.id}
    event = json.loads(found[wants_all.id].body)
    assert event["type"] == "job.succeeded"
    assert event["data"]["request_id"] == job_id
    assert event["data"]["successful_count"] == COUNTS.successful
    assert event["data"]["actual_cost_usd"] == "0.000042"
    assert (event["data"]["name"], event["data"]["labels"]) == (job.name, job.labels)
    assert found[wants_all.id].id != found[wants_ends.id].id


async def test_an_end_that_was_not_written_is_not_told(store: Store, new_job: MakeJob) -> None:
    """The second of two that end a job tells nobody anything."""
    await add_webhook(store)
    job_id = await end_job(store, new_job)
    assert not await store.jobs.finish(job_id, START, finish())
    assert len(await due(store)) == 1


@pytest.mark.parametrize("how", ["disabled", "removed", "suspended"])
async def test_who_gets_nothing(store: Store, new_job: MakeJob, how: str) -> None:
    """Who is disabled or removed is not told of what ends then; who is suspended, not yet."""
    webhook = await add_webhook(store)
    if how == "disabled":
        look(store, "UPDATE webhooks SET disabled_at = 1")
    elif how == "removed":
        assert await store.webhooks.remove(actor(), webhook.id, START)
    else:
        look(store, "UPDATE orgs SET suspended_at = 1 WHERE id = 'acme'")
    await end_job(store, new_job)
    assert await due(store) == []
    count = look(store, "SELECT count(*) FROM deliveries")[0][0]
    assert count == (1 if how == "suspended" else 0)


async def test_of_several_workers_one_gets_it(location: Location, new_job: MakeJob) -> None:
    """Racing for the same rows, each row has one winner."""
    stores = [Store.open(location) for _ in range(4)]
    for _ in range(3):
        await add_webhook(stores[0])
    for _ in range(10):
        await end_job(stores[0], new_job)
    ids = [each.id for each in await due(stores[0], webhook_max=100)]
    assert len(ids) == 30
    won = await asyncio.gather(
        *(
            store.deliveries.claim(ids[number:] + ids[:number], f"w{number}", START, LEASE_SECONDS)
            for number, store in enumerate(stores)
        )
    )
    # Who found rows locked left them; with nobody left they go to the next.
    rest = await stores[0].deliveries.claim(ids, "rest", START, LEASE_SECONDS)
    taken = [each.id for part in (*won, rest) for each in part]
    assert sorted(taken) == sorted(ids)
    assert await due(stores[0]) == []
    for store in stores:
        await store.close()


async def test_a_lease_ends(store: Store, new_job: MakeJob) -> None:
    """Who died with it loses it: the same id and body are due again, his word counts no more."""
    await add_webhook(store)
    await end_job(store, new_job)
    (first,) = await claim(store, claim="dead")
    assert await due(store) == []
    await make_due(store)
    (second,) = await claim(store, claim="living")
    assert (second.id, second.body, second.tries) == (first.id, first.body, 0)
    assert await store.deliveries.failed(first, START, failure()) is None
    assert row(store, first.id, "claim") == "living"
    assert row(store, first.id, "tries") == 0


async def test_whoever_delivered_it_did(store: Store, new_job: MakeJob) -> None:
    """Good news counts from anybody, and a failure after it changes nothing."""
    await add_webhook(store)
    await end_job(store, new_job)
    (first,) = await claim(store, claim="frozen")
    await make_due(store)
    (second,) = await claim(store, claim="other")
    await store.deliveries.delivered(first, START, 204)
    await store.deliveries.failed(second, START, failure())
    assert row(store, first.id, "delivered_at") is not None
    assert (row(store, first.id, "next_at"), row(store, first.id, "last_status")) == (None, 204)
    await store.deliveries.delivered(second, START, 200)
    assert row(store, first.id, "tries") == 1


async def test_what_was_not_sent_is_given_back(store: Store, new_job: MakeJob) -> None:
    """At once, unless somebody else has it or it is done."""
    await add_webhook(store)
    for _ in range(3):
        await end_job(store, new_job)
    mine = await claim(store)
    await store.deliveries.delivered(mine[0], START, 200)
    other = msgspec.structs.replace(mine[1], claim="before")
    await store.deliveries.release([mine[0], other, mine[2]], START)
    assert [each.id for each in await due(store)] == [mine[2].id]


async def test_a_failure_waits_and_the_last_one_ends_it(store: Store, new_job: MakeJob) -> None:
    """Each failed try is counted and told; after the last one it is given up."""
    webhook = await add_webhook(store)
    await end_job(store, new_job)
    (mine,) = await claim(store)
    await store.deliveries.failed(mine, START, failure(wait_seconds=1_000.0))
    assert await due(store) == []
    (shown,) = await store.deliveries.page(webhook.org_id, webhook.id, None, 10)
    assert (shown.tries, shown.last_status, shown.last_error) == (1, 500, "answered 500")
    await make_due(store)
    (mine,) = await claim(store)
    assert mine.tries == 1
    await store.deliveries.failed(mine, START, failure(wait_seconds=None))
    (shown,) = await store.deliveries.page(webhook.org_id, webhook.id, None, 10)
    assert shown.given_up_at is not None
    assert shown.next_at is None


async def test_gone_disables_and_keeps_what_waits(store: Store, new_job: MakeJob) -> None:
    """410 disables at once; what waits is kept without a time, and goes on after `enable`."""
    webhook = await add_webhook(store)
    for _ in range(3):
        await end_job(store, new_job)
    one, two, three = await claim(store)
    await store.deliveries.delivered(three, START, 200)
    gone = failure(status=410, error="answered 410", is_gone=True)
    assert await store.deliveries.failed(one, START, gone) == "It answered 410 Gone."
    # Of tries that ran at the same time, none disables it again or gives it a time.
    assert await store.deliveries.failed(two, START, gone) is None
    stands = await store.webhooks.get(webhook.org_id, webhook.id)
    assert stands is not None
    assert (stands.disabled_at is not None, stands.disabled_reason) == (
        True,
        "It answered 410 Gone.",
    )
    assert await due(store) == []
    assert row(store, two.id, "next_at") is None
    with pytest.raises(Conflict, match="is disabled"):
        await store.deliveries.replay(actor(), webhook.id, one.id, START)
    enabled = await store.webhooks.enable(actor(), webhook.id, START)
    assert enabled is not None
    assert (enabled.disabled_at, enabled.failing_since) == (None, None)
    assert {each.id for each in await due(store)} == {one.id, two.id}


async def test_five_days_of_failure_disable(store: Store, new_job: MakeJob) -> None:
    """Not the tries of one delivery but the time since something worked; a success begins anew."""
    webhook = await add_webhook(store)
    await end_job(store, new_job)
    (mine,) = await claim(store)
    assert await store.deliveries.failed(mine, START, failure()) is None
    stands = await store.webhooks.get(webhook.org_id, webhook.id)
    assert stands is not None
    assert stands.failing_since is not None
    look(store, "UPDATE webhooks SET failing_since = failing_since - 432001")
    reason = await store.deliveries.failed(mine, START, failure())
    assert reason == "No delivery worked for 120 hours; the last one: answered 500."
    await store.webhooks.enable(actor(), webhook.id, START)
    await store.deliveries.failed(mine, START, failure())
    await store.deliveries.delivered(mine, START, 200)
    stands = await store.webhooks.get(webhook.org_id, webhook.id)
    assert stands is not None
    assert stands.failing_since is None


async def test_what_was_told_is_told_again(store: Store, new_job: MakeJob) -> None:
    """A replay of anything, delivered or given up, is the same id and body with all its tries."""
    webhook = await add_webhook(store)
    await end_job(store, new_job)
    (before,) = await claim(store)
    await store.deliveries.delivered(before, START, 200)
    assert await due(store) == []
    shown = await store.deliveries.replay(actor(), webhook.id, before.id, START)
    assert shown is not None
    assert (shown.tries, shown.delivered_at) == (0, None)
    (after,) = await claim(store)
    assert (after.id, after.body) == (before.id, before.body)
    for other, webhook_id, delivery_id in (
        ("rival", webhook.id, before.id),
        ("acme", "whk_none", before.id),
        ("acme", webhook.id, "msg_none"),
    ):
        assert await store.deliveries.replay(actor(other), webhook_id, delivery_id, START) is None


async def test_nobody_waits_behind_a_crowd(store: Store, new_job: MakeJob) -> None:
    """A page has something of each organisation and endpoint, however much one of them has."""
    crowded = await add_webhook(store)
    for _ in range(12):
        await end_job(store, new_job)
    calm = await add_webhook(store)
    rival = await add_webhook(store, org="rival")
    await end_job(store, new_job)
    await end_job(store, new_job, "rival")
    page = await due(store, webhook_max=4, limit=4)
    assert [each.webhook_id for each in page[:2]].count(rival.id) == 1
    assert {each.webhook_id for each in page} == {crowded.id, calm.id, rival.id}
    others = await due(store, not_to=[crowded.id])
    assert {each.webhook_id for each in others} == {calm.id, rival.id}


async def test_a_page_goes_on_after_another(store: Store, new_job: MakeJob) -> None:
    """Newest first, each once, and nothing for another organisation."""
    webhook = await add_webhook(store)
    for number in range(5):
        await end_job(store, new_job, at=START + number // 2)
    seen: list[str] = []
    after = None
    while page := await store.deliveries.page(webhook.org_id, webhook.id, after, 2):
        seen += [each.id for each in page]
        after = page[-1].id
    assert len(seen) == len(set(seen)) == 5
    whole = await store.deliveries.page(webhook.org_id, webhook.id, None, 10)
    assert [each.id for each in whole] == seen
    assert [each.created_at for each in whole] == sorted(
        (each.created_at for each in whole), reverse=True
    )
    assert await store.deliveries.page(actor("rival").org_id, webhook.id, None, 10) == []
