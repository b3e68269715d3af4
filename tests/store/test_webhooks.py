"""Endpoints on both databases: each change has its row of the audit log, others see nothing."""

import json

import pytest
from tests.fake_clock import START
from tests.store.driver import look
from tests.webhooks.driver import MakeJob, actor, add_webhook, claim, due, end_job, failure, row

from penstock.core.job import OrgId
from penstock.errors import TooMany
from penstock.store.store import Store


async def actions(store: Store, org: str = "acme") -> list[str]:
    """What the audit log has, oldest first."""
    rows = await store.audit.page(OrgId(org), None, 100)
    return [entry.action for entry in reversed(rows) if entry.action.startswith("webhook.")]


async def test_each_change_is_audited(store: Store, new_job: MakeJob) -> None:
    """Making, changing, rotating, enabling, replaying and removing leave a row each, in order."""
    webhook = await add_webhook(store, "https://hooks.example/T0/secret-path?token=secret")
    await end_job(store, new_job)
    ((delivery),) = await due(store)
    who = actor()
    assert await store.webhooks.change(who, webhook.id, START, {"events": "job.failed"})
    assert await store.webhooks.rotate(who, webhook.id, START, "sealed", START + 60)
    assert await store.webhooks.enable(who, webhook.id, START)
    assert await store.deliveries.replay(who, webhook.id, delivery.id, START)
    assert await store.webhooks.remove(who, webhook.id, START)
    assert await actions(store) == [
        "webhook.create",
        "webhook.update",
        "webhook.rotate",
        "webhook.enable",
        "webhook.replay",
        "webhook.delete",
    ]
    log = await store.audit.page(OrgId("acme"), None, 100)
    assert "secret" not in "".join(entry.detail for entry in log)
    made = next(entry for entry in log if entry.action == "webhook.create")
    assert json.loads(made.detail) == {"events": "*", "host": "hooks.example"}


async def test_there_are_so_many(store: Store) -> None:
    """One more than an organisation may have is refused; removed ones do not count."""
    first = await add_webhook(store)
    second = await add_webhook(store)
    with pytest.raises(TooMany) as caught:
        await store.webhooks.add(actor(), second, 2)
    assert caught.value.error_code == "too_many_webhooks"
    assert await store.webhooks.remove(actor(), first.id, START)
    assert [each.id for each in await store.webhooks.all(OrgId("acme"))] == [second.id]
    await add_webhook(store)


async def test_anothers_is_like_none(store: Store) -> None:
    """Nothing of another organisation can be seen or changed, and no row says that it was."""
    webhook = await add_webhook(store)
    await store.webhooks.remove(actor(), (await add_webhook(store)).id, START)
    rival = actor("rival")
    assert await store.webhooks.get(rival.org_id, webhook.id) is None
    assert await store.webhooks.all(rival.org_id) == []
    assert await store.webhooks.change(rival, webhook.id, START, {"events": "*"}) is None
    assert await store.webhooks.rotate(rival, webhook.id, START, "x", START) is None
    assert await store.webhooks.enable(rival, webhook.id, START) is None
    assert not await store.webhooks.remove(rival, webhook.id, START)
    assert await actions(store, "rival") == []
    assert await store.webhooks.get(OrgId("acme"), webhook.id) == webhook


async def test_a_change_holds_for_what_waits(store: Store, new_job: MakeJob) -> None:
    """The next try goes to the new address, with both secrets until the overlap is over."""
    webhook = await add_webhook(store)
    await end_job(store, new_job)
    changed = await store.webhooks.change(
        actor(), webhook.id, START, {"url": "https://new.example/"}
    )
    assert changed is not None
    assert changed.url == "https://new.example/"
    rotated = await store.webhooks.rotate(actor(), webhook.id, START, "sealed", 9e9)
    assert rotated is not None
    assert (rotated.secret, rotated.old_secret) == ("sealed", webhook.secret)
    (mine,) = await claim(store)
    assert (mine.url, mine.secret, mine.old_secret) == (
        "https://new.example/",
        "sealed",
        webhook.secret,
    )
    await store.deliveries.release([mine], START)
    look(store, "UPDATE webhooks SET old_secret_until = 1")
    (mine,) = await claim(store, START + 1)
    assert mine.old_secret is None


async def test_removal_gives_up_what_waits(store: Store, new_job: MakeJob) -> None:
    """Nothing is sent any more, the secrets are gone, and what was delivered stays so."""
    webhook = await add_webhook(store)
    for _ in range(3):
        await end_job(store, new_job)
    done, running, _ = await claim(store)
    await store.deliveries.delivered(done, START, 200)
    assert await store.webhooks.remove(actor(), webhook.id, START)
    assert await due(store) == []
    assert row(store, done.id, "given_up_at") is None
    assert row(store, running.id, "given_up_at") is not None
    assert look(store, "SELECT secret, old_secret FROM webhooks") == [("", None)]
    # A try that was on its way says what came of it.
    assert await store.deliveries.failed(running, START, failure()) is None
    assert row(store, running.id, "given_up_at") is not None
    assert row(store, running.id, "next_at") is None
    assert await store.deliveries.replay(actor(), webhook.id, done.id, START) is None
