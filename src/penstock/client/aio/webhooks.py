"""Webhooks as the client manages them: `client.webhooks.add(…)`."""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from penstock.client.aio.wire import Wire
from penstock.client.calls import decode
from penstock.client.webhooks import (
    PATH,
    Delivery,
    DeliveryPage,
    Webhook,
    WebhookList,
    path_of,
)


class AsyncWebhooks:
    """The webhooks of the key's organisation."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def add(self, url: str, events: Sequence[str] = ()) -> Webhook:
        """Make a webhook; without events it is told of all. Keep its `secret`."""
        body = {"url": url, "events": list(events)}
        return decode(await self._call("POST", PATH, body), Webhook)

    async def list(self) -> list[Webhook]:
        """Return all of them, oldest first."""
        return decode(await self._wire.get(PATH), WebhookList).webhooks

    async def get(self, webhook_id: str) -> Webhook:
        """Return one."""
        return decode(await self._wire.get(path_of(webhook_id)), Webhook)

    async def remove(self, webhook_id: str) -> None:
        """Remove it; what waits for it is given up."""
        await self._call("DELETE", path_of(webhook_id))

    async def rotate(self, webhook_id: str, *, overlap_seconds: int | None = None) -> Webhook:
        """Give it another secret; both sign for a while."""
        body = {} if overlap_seconds is None else {"overlap_seconds": overlap_seconds}
        return decode(await self._call("POST", f"{path_of(webhook_id)}/rotate", body), Webhook)

    async def enable(self, webhook_id: str) -> Webhook:
        """Enable it again; what waits for it is sent from now on."""
        return decode(await self._call("POST", f"{path_of(webhook_id)}/enable"), Webhook)

    async def deliveries(
        self, webhook_id: str, *, limit: int | None = None, after: str | None = None
    ) -> DeliveryPage:
        """Return a page of what it was told, newest first."""
        params = {"limit": limit, "after": after}
        return decode(
            await self._wire.get(f"{path_of(webhook_id)}/deliveries", params), DeliveryPage
        )

    async def replay(self, webhook_id: str, delivery_id: str) -> Delivery:
        """Have something sent again, with the same id and body."""
        path = f"{path_of(webhook_id)}/deliveries/{quote(delivery_id, safe='')}/replay"
        return decode(await self._call("POST", path), Delivery)

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
        if body is None:
            return (await self._wire.exchange(method, path)).content
        content = iter([json.dumps(body).encode()])
        headers = {"Content-Type": "application/json"}
        answer = await self._wire.exchange(method, path, headers=headers, content=content)
        return answer.content
