"""deliver: at least once, on its schedule, to all in turn, whatever receivers and kills do."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.responses import Response
from tests.fake_clock import START, FakeClock
from tests.store.driver import look
from tests.webhooks.driver import (
    SEALER,
    SECRET,
    MakeJob,
    actor,
    add_webhook,
    due,
    end_job,
    make_due,
    row,
)
from tests.wire import wire

from penstock.core.job import OrgId
from penstock.core.limits import Limits
from penstock.core.webhook import JITTER, TRIES_MAX, WAITS_SECONDS
from penstock.errors import DatabaseUnavailable
from penstock.lifecycle.deliver import Deliverer, Post
from penstock.settings import Timing
from penstock.store.store import Store
from penstock.webhooks.address import Addresses
from penstock.webhooks.secrets import Sealer
from penstock.webhooks.sender import Outcome, open_sender

GOOD = Outcome(status=200)
BAD = Outcome(status=500, error="answered 500")
GONE = Outcome(status=410, error="answered 410")


class Told:
    """Receivers that answer as the test says, and remember what came."""

    def __init__(self, *outcomes: Outcome) -> None:
        self._outcomes = list(outcomes)
        self.urls: list[str] = []
        self.heads: list[Mapping[str, str]] = []
        self.bodies: list[bytes] = []
        self.gate: asyncio.Event | None = None
        """Closed, nobody answers."""

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        self.urls.append(url)
        self.heads.append(headers)
        self.bodies.append(body)
        if self.gate is not None:
            await self.gate.wait()
        return self._outcomes.pop(0) if len(self._outcomes) > 1 else self._outcomes[0]


def deliverer(
    store: Store,
    told: Any,  # noqa: ANN401  # a sender
    clock: FakeClock,
    **changes: Any,  # noqa: ANN401  # fields of a Post
) -> Deliverer:
    """A loop over a store."""
    values: dict[str, Any] = {
        "deliveries": store.deliveries,
        "sender": told,
        "sealer": SEALER,
        "clock": clock,
        "limits": Limits(),
        "timing": Timing(),
        "concurrency": 64,
        "dice": random.Random(1),  # noqa: S311  # the same waits each time
    }
    return Deliverer(Post(**{**values, **changes}))


async def once(one: Deliverer) -> int:
    """Look, and send what was found."""
    found = await one.look()
    await one.idle()
    return found


async def test_what_is_due_is_sent_signed(quick_store: Store, new_job: MakeJob) -> None:
    """A real receiver gets the body and the headers of Standard Webhooks, once."""
    with wire(lambda _request: Response()) as server:
        await add_webhook(quick_store, f"{server.url}/hook")
        await end_job(quick_store, new_job)
        sender = open_sender(Addresses(Limits(), [f"{server.url}/"]), Limits(), 2)
        one = deliverer(quick_store, sender, FakeClock())
        assert await once(one) == 1
        assert await once(one) == 0
    (request,) = server.requests
    assert request.headers["webhook-id"].startswith("msg_")
    assert request.headers["webhook-timestamp"] == str(int(START))
    assert request.headers["webhook-signature"].startswith("v1,")
    assert row(quick_store, request.headers["webhook-id"], "last_status") == 200


async def test_the_ten_tries(quick_store: Store, new_job: MakeJob) -> None:
    """They are at the schedule's times within the jitter, and after the last it is given up."""
    webhook = await add_webhook(quick_store)
    await end_job(quick_store, new_job)
    clock, told = FakeClock(), Told(BAD)
    one = deliverer(quick_store, told, clock)
    at = []
    while await once(one):
        at.append(clock.now())
        (shown,) = await quick_store.deliveries.page(webhook.org_id, webhook.id, None, 1)
        if shown.next_at is not None:
            # A moment before its time nothing is sent.
            clock.advance(shown.next_at - clock.now() - 0.001)
            assert await once(one) == 0
            clock.advance(0.001)
    assert len(at) == TRIES_MAX
    for wait, planned in zip(
        (b - a for a, b in itertools.pairwise(at)), WAITS_SECONDS[1:], strict=True
    ):
        assert planned * (1 - JITTER) <= wait <= planned * (1 + JITTER) + 0.01
    assert shown.given_up_at is not None
    assert len({head["webhook-id"] for head in told.heads}) == 1
    assert len(set(told.bodies)) == 1
    clock.advance(1e6)
    assert await once(one) == 0


async def test_five_days_without_a_success_disable(
    quick_store: Store, new_job: MakeJob, caplog: pytest.LogCaptureFixture
) -> None:
    """Failing job after job, it is disabled after five days, says so, and what waits is kept."""
    webhook = await add_webhook(quick_store)
    clock, told = FakeClock(), Told(BAD)
    one = deliverer(quick_store, told, clock)
    for _day in range(7):
        await end_job(quick_store, new_job, at=clock.now())
        await once(one)
        clock.advance(86_400)
    stands = await quick_store.webhooks.get(OrgId("acme"), webhook.id)
    assert stands is not None
    assert stands.disabled_at == START + 5 * 86_400
    assert f"the webhook {webhook.id} of acme is disabled: No delivery worked" in caplog.text
    waiting = await quick_store.deliveries.page(OrgId("acme"), webhook.id, None, 100)
    assert waiting
    assert all(each.next_at is None for each in waiting)
    assert await once(one) == 0
    told._outcomes = [GOOD]
    await quick_store.webhooks.enable(actor(), webhook.id, clock.now())
    kept = sum(1 for each in waiting if each.given_up_at is None)
    assert await once(one) == min(kept, Limits().webhook_deliveries_max)


async def test_gone_is_believed(quick_store: Store, new_job: MakeJob) -> None:
    """410 ends it at the first try."""
    webhook = await add_webhook(quick_store)
    await end_job(quick_store, new_job)
    clock = FakeClock()
    assert await once(deliverer(quick_store, Told(GONE), clock)) == 1
    stands = await quick_store.webhooks.get(OrgId("acme"), webhook.id)
    assert stands is not None
    assert stands.disabled_reason == "It answered 410 Gone."


async def test_a_rotation_signs_twice(quick_store: Store, new_job: MakeJob) -> None:
    """During the overlap both secrets sign, after it the new one alone."""
    webhook = await add_webhook(quick_store)
    sealed = SEALER.seal(webhook.id, SECRET)
    await quick_store.webhooks.rotate(actor(), webhook.id, START, sealed, START + 60)
    clock, told = FakeClock(), Told(GOOD)
    one = deliverer(quick_store, told, clock)
    await end_job(quick_store, new_job)
    await once(one)
    clock.advance(61)
    await end_job(quick_store, new_job)
    await once(one)
    assert [len(head["webhook-signature"].split()) for head in told.heads] == [2, 1]


async def test_a_secret_of_another_master_is_told(quick_store: Store, new_job: MakeJob) -> None:
    """What cannot be signed is not sent; its owner sees why, and a rotation mends it."""
    webhook = await add_webhook(quick_store)
    await end_job(quick_store, new_job)
    clock, told = FakeClock(), Told(GOOD)
    await once(deliverer(quick_store, told, clock, sealer=Sealer(b"x" * 32)))
    assert told.urls == []
    (shown,) = await quick_store.deliveries.page(OrgId("acme"), webhook.id, None, 1)
    assert shown.last_error == f"The secret of the webhook {webhook.id} cannot be decrypted."


async def test_one_slow_endpoint_holds_up_nobody(quick_store: Store, new_job: MakeJob) -> None:
    """It fills its own places; the other organisation's and the other endpoint's are free."""
    slow = await add_webhook(quick_store, "https://slow.example/")
    for _ in range(20):
        await end_job(quick_store, new_job)
    await add_webhook(quick_store, "https://calm.example/")
    await quick_store.tenants.ensure_org(OrgId("rival"), "rival", START)
    await quick_store.tenants.ensure_user("rival-user", OrgId("rival"), "owner", START)
    await add_webhook(quick_store, "https://rival.example/", "rival")
    clock, told = FakeClock(), Told(GOOD)
    told.gate = asyncio.Event()
    limits = Limits(webhook_deliveries_max=3)
    one = deliverer(quick_store, told, clock, limits=limits, concurrency=10)
    assert await one.look() == 3
    assert await one.look() == 0
    await end_job(quick_store, new_job)
    for _ in range(8):
        await end_job(quick_store, new_job, "rival")
    await one.look()
    await asyncio.sleep(0)
    counts = Counter(told.urls)
    assert counts["https://slow.example/"] == 3
    assert counts["https://calm.example/"] == 1
    assert counts["https://rival.example/"] == 3
    told.gate.set()
    await one.idle()
    while await once(one):
        pass
    waiting = await quick_store.deliveries.page(OrgId("acme"), slow.id, None, 100)
    assert all(each.delivered_at is not None for each in waiting)


async def test_an_organisation_has_half_of_the_places(quick_store: Store, new_job: MakeJob) -> None:
    """Twenty endpoints that do not answer leave the other half to the others."""
    for number in range(6):
        await add_webhook(quick_store, f"https://h{number}.example/")
    await end_job(quick_store, new_job)
    told = Told(GOOD)
    told.gate = asyncio.Event()
    one = deliverer(quick_store, told, FakeClock(), concurrency=4)
    assert await one.look() == 2
    assert await one.look() == 0
    told.gate.set()
    await one.idle()
    assert await once(one) == 2


class Stands(FakeClock):
    """A clock that moves so many times and then stands, with everybody who sleeps by it."""

    def __init__(self, sleeps: int) -> None:
        super().__init__()
        self._sleeps = sleeps
        self.stands = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Sleep, or stand still."""
        if len(self.slept) == self._sleeps:
            self.stands.set()
            await asyncio.Event().wait()
        await super().sleep(seconds)


async def run(one: Deliverer, until: asyncio.Event) -> None:
    """Run the loop until the event."""
    loop = asyncio.create_task(one.run())
    await asyncio.wait_for(until.wait(), 30)
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
    await one.idle()


async def test_the_loop_goes_on_after_an_error(
    quick_store: Store, new_job: MakeJob, caplog: pytest.LogCaptureFixture
) -> None:
    """A look that fails is logged, and the next one is a second later."""
    await add_webhook(quick_store)
    await end_job(quick_store, new_job)
    told = Told(GOOD)
    look(quick_store, "ALTER TABLE deliveries RENAME TO hidden")
    clock = Stands(3)
    await run(deliverer(quick_store, told, clock), clock.stands)
    assert caplog.text.count("looking for deliveries failed; trying again") == 4
    assert clock.slept == [1.0, 1.0, 1.0]
    look(quick_store, "ALTER TABLE hidden RENAME TO deliveries")
    clock = Stands(3)
    await run(deliverer(quick_store, told, clock), clock.stands)
    assert len(told.urls) == 1


async def test_what_cannot_be_recorded_is_sent_again(
    quick_store: Store, new_job: MakeJob, caplog: pytest.LogCaptureFixture
) -> None:
    """The lease ends, and the receiver gets the same once more."""
    await add_webhook(quick_store)
    await end_job(quick_store, new_job)
    clock = FakeClock()

    class Breaks(Told):
        async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
            outcome = await super().send(url, headers, body)
            if len(self.urls) == 1:
                raise OSError("a bug")
            return outcome

    told = Breaks(GOOD)
    one = deliverer(quick_store, told, clock)
    assert await once(one) == 1
    assert "it is sent again" in caplog.text
    assert await once(one) == 0
    clock.advance(Timing().deliver_lease_seconds)
    assert await once(one) == 1
    assert told.heads[0]["webhook-id"] == told.heads[1]["webhook-id"]
    assert told.bodies[0] == told.bodies[1]


async def test_leaving_gives_back(quick_store: Store, new_job: MakeJob) -> None:
    """Who ends in order lets others send at once what he did not finish."""
    await add_webhook(quick_store)
    await end_job(quick_store, new_job)
    told = Told(GOOD)
    told.gate = asyncio.Event()
    one = deliverer(quick_store, told, FakeClock())
    await one.look()
    await asyncio.sleep(0)
    await one.leave()
    assert len(await due(quick_store)) == 1


async def test_leaving_without_a_database_is_no_error(
    quick_store: Store, new_job: MakeJob, caplog: pytest.LogCaptureFixture
) -> None:
    """Then the lease has to end by itself."""
    await add_webhook(quick_store)
    await end_job(quick_store, new_job)

    class Away:
        async def release(self, _deliveries: object, _at: float) -> None:
            raise DatabaseUnavailable("The database does not answer.")

    one = deliverer(quick_store, Told(GOOD), FakeClock(), deliveries=Away())
    await one.leave()
    assert "could not give deliveries back: The database does not answer." in caplog.text


async def test_a_backlog_does_not_wait_for_the_next_second(
    quick_store: Store, new_job: MakeJob
) -> None:
    """While more is due than there was room for, a free place is filled at once."""
    for number in range(8):
        await add_webhook(quick_store, f"https://h{number}.example/")
    await end_job(quick_store, new_job)
    done = asyncio.Event()

    class Counts(Told):
        async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
            outcome = await super().send(url, headers, body)
            if len(self.urls) == 8:
                done.set()
            return outcome

    told = Counts(GOOD)
    await run(deliverer(quick_store, told, Stands(0), concurrency=2), done)
    assert len(set(told.urls)) == 8


class Dies:
    """A sender in processes that die before, or after they sent."""

    def __init__(self, plan: list[str]) -> None:
        self.plan = plan
        self.got: list[tuple[str, bytes]] = []
        self.good: set[str] = set()

    async def send(self, _url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        what = self.plan.pop() if self.plan else "good"
        if what == "dies before":
            raise asyncio.CancelledError
        name = headers["webhook-id"]
        self.got.append((name, body))
        if what == "bad":
            return BAD
        if what == "gone":
            return GONE
        self.good.add(name)
        if what == "dies after":
            raise asyncio.CancelledError
        return GOOD


@pytest.mark.slow
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    plan=st.lists(
        st.sampled_from(["good", "bad", "bad", "bad", "dies before", "dies after", "gone"]),
        max_size=60,
    )
)
async def test_any_order_of_failures_and_deaths_comes_to_an_end(
    plan: list[str], quick_store: Store, new_job: Callable[..., Any]
) -> None:
    """Each delivery ends delivered or given up; the same id has the same body; good means good."""
    look(quick_store, "DELETE FROM deliveries")
    look(quick_store, "UPDATE webhooks SET deleted_at = 1")
    webhook = await add_webhook(quick_store)
    for _ in range(3):
        await end_job(quick_store, new_job)
    told, clock = Dies(plan), FakeClock()
    for _ in range(200):
        # A new process each time: nothing is remembered but what is in the database.
        await once(deliverer(quick_store, told, clock))
        await quick_store.webhooks.enable(actor(), webhook.id, clock.now())
        ends = await quick_store.deliveries.page(OrgId("acme"), webhook.id, None, 10)
        if all(each.next_at is None for each in ends):
            break
        await make_due(quick_store)
    assert len(ends) == 3
    for each in ends:
        assert (each.delivered_at is None) != (each.given_up_at is None)
        assert each.delivered_at is None or each.id in told.good
        assert each.given_up_at is None or each.tries == TRIES_MAX
    assert len({name for name, _ in told.got}) == len(set(told.got)) <= 3
