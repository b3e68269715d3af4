"""Tell webhooks, at least once: what is due is claimed, sent, and what came of it is recorded.

A process may die at any point. Until the result is recorded the delivery is claimed for a while and
due again after that, with the same id and body; so a receiver may get it twice and never not at
all, unless all its tries fail. Any number of processes share the work.

Nobody waits for another's receiver: an endpoint has so many places at most, an organisation half of
all, and a free place goes to the organisation that holds the fewest.
"""

import asyncio
import logging
import random
import secrets
from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from penstock.clock import Clock
from penstock.core.limits import Limits
from penstock.core.webhook import wait_seconds
from penstock.errors import InternalError, Unavailable
from penstock.fault import fault
from penstock.settings import Timing
from penstock.store.deliveries import Claimed, Deliveries, Due, Failure
from penstock.webhooks.secrets import Sealer, headers_of
from penstock.webhooks.sender import Outcome, Sends

_log = logging.getLogger(__name__)

PAGE: Final = 4
"""So many times as much as there is room for is looked at, so that there is something to choose."""

ORG_SHARE: Final = 2
"""One organisation has at most this part of all places."""


class Post(msgspec.Struct, frozen=True, kw_only=True):
    """What the deliverer acts on."""

    deliveries: Deliveries
    sender: Sends
    sealer: Sealer
    clock: Clock
    limits: Limits
    timing: Timing
    concurrency: int
    """Deliveries at the same time."""
    dice: random.Random = msgspec.field(default_factory=secrets.SystemRandom)


class Deliverer:
    """The loop of one process."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._running: dict[asyncio.Task[None], Claimed] = {}
        self._is_behind = False
        self._has_room = asyncio.Event()

    async def run(self) -> None:
        """Look and send for ever."""
        while True:
            try:
                await self.look()
            except Exception:  # noqa: BLE001  # a loop's boundary: logged, and tried again
                # A missed look only costs a second; a dead loop would leave everybody untold.
                _log.exception("looking for deliveries failed; trying again")
            await self._pause()

    async def look(self) -> int:
        """Begin to send what is due, as far as there is room; return how much."""
        post = self._post
        room = post.concurrency - len(self._running)
        full = self._full()
        due = await post.deliveries.due(
            post.clock.now(),
            webhook_max=post.limits.webhook_deliveries_max,
            limit=post.concurrency * PAGE,
            not_to=full,
        )
        chosen = self._chosen(due, room)
        self._is_behind = bool(full) or len(due) > len(chosen)
        if not chosen:
            return 0
        # A claim of its own each time: what an older one lost must not look like the newer one's.
        claimed = await post.deliveries.claim(
            chosen, secrets.token_hex(16), post.clock.now(), post.timing.deliver_lease_seconds
        )
        fault("webhook.claimed")
        for each in claimed:
            task = asyncio.create_task(self._deliver(each), name=f"deliver {each.id}")
            self._running[task] = each
            task.add_done_callback(self._ended)
        return len(claimed)

    async def idle(self) -> None:
        """Return when nothing is being sent any more."""
        while self._running:
            await asyncio.wait(list(self._running))

    async def leave(self) -> None:
        """Stop in the middle, and give back what was not done."""
        left = dict(self._running)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        given_back = [each for task, each in left.items() if task.cancelled()]
        try:
            await self._post.deliveries.release(given_back, self._post.clock.now())
        except Unavailable as error:
            # They are due again by themselves, a minute later.
            _log.warning("could not give deliveries back: %s", error.message)

    def _full(self) -> list[str]:
        """Return the endpoints that have no place left."""
        held = Counter(each.webhook_id for each in self._running.values())
        return [name for name, n in held.items() if n >= self._post.limits.webhook_deliveries_max]

    def _chosen(self, due: Sequence[Due], room: int) -> list[str]:
        """Return whom the free places go to: the first of who holds the fewest, again and again."""
        by_webhook = Counter(each.webhook_id for each in self._running.values())
        by_org = Counter(each.org_id for each in self._running.values())
        org_max = max(1, self._post.concurrency // ORG_SHARE)
        order = []
        for number, each in enumerate(due):
            has_place = by_webhook[each.webhook_id] < self._post.limits.webhook_deliveries_max
            if has_place and by_org[each.org_id] < org_max:
                by_webhook[each.webhook_id] += 1
                by_org[each.org_id] += 1
                order.append((by_org[each.org_id], number, each.id))
        return [delivery_id for _, _, delivery_id in sorted(order)[:room]]

    async def _deliver(self, delivery: Claimed) -> None:
        try:
            outcome = await self._send(delivery)
            fault("webhook.answered")
            await self._record(delivery, outcome)
            fault("webhook.recorded")
        except Exception:  # noqa: BLE001  # a task's boundary: logged, and due again by its lease
            _log.exception("delivering %s failed; it is sent again", delivery.id)

    async def _send(self, delivery: Claimed) -> Outcome:
        post = self._post
        sealed = [each for each in (delivery.secret, delivery.old_secret) if each is not None]
        try:
            keys = [post.sealer.open(delivery.webhook_id, each) for each in sealed]
        except InternalError as error:
            # Its owner can mend it by a rotation, so it counts as a try and is shown.
            return Outcome(error=error.message)
        body = delivery.body.encode()
        headers = headers_of(delivery.id, post.clock.now(), body, keys)
        return await post.sender.send(delivery.url, headers, body)

    async def _record(self, delivery: Claimed, outcome: Outcome) -> None:
        post = self._post
        if outcome.error is None:
            await post.deliveries.delivered(delivery, post.clock.now(), outcome.status)
            return
        failure = Failure(
            status=outcome.status,
            error=outcome.error,
            wait_seconds=wait_seconds(delivery.tries + 1, post.dice),
            is_gone=outcome.is_gone,
            failing_seconds_max=post.limits.webhook_failing_seconds_max,
        )
        reason = await post.deliveries.failed(delivery, post.clock.now(), failure)
        if reason is not None:
            _log.warning(
                "the webhook %s of %s is disabled: %s", delivery.webhook_id, delivery.org_id, reason
            )

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        # Not at every end: a look costs the same for one place as for many.
        if self._is_behind and len(self._running) <= self._post.concurrency // 2:
            self._has_room.set()

    async def _pause(self) -> None:
        sleep = asyncio.ensure_future(self._post.clock.sleep(self._post.timing.deliver_seconds))
        room = asyncio.ensure_future(self._has_room.wait())
        try:
            await asyncio.wait({sleep, room}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            room.cancel()
        self._has_room.clear()
