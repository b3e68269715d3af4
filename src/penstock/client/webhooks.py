"""Webhooks as the client manages them: `client.webhooks.add(…)`."""

import json
from collections.abc import Sequence
from typing import Any, Final, TypeVar
from urllib.parse import quote

import msgspec

from penstock.client.wire import Wire, decode

T = TypeVar("T")

_PATH: Final = "/api/v1/webhooks"


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """One webhook; times are Unix seconds. `secret` is there once: when it is made or replaced."""

    id: str
    url: str
    events: list[str] = []
    created_at: int = 0
    created_by: str = ""
    old_secret_until: int | None = None
    failing_since: int | None = None
    disabled_at: int | None = None
    disabled_reason: str | None = None
    secret: str | None = None

    def __repr__(self) -> str:
        return f"Webhook(id={self.id!r}, url={self.url!r})"


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """What a webhook was told, or is to be told."""

    id: str
    webhook_id: str
    request_id: str
    type: str = ""
    state: str = ""
    created_at: int = 0
    tries: int = 0
    next_at: int | None = None
    delivered_at: int | None = None
    given_up_at: int | None = None
    last_status: int | None = None
    last_error: str | None = None


class DeliveryPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some deliveries, newest first; go on with `after=next`."""

    deliveries: list[Delivery]
    next: str | None = None


class _List(msgspec.Struct, frozen=True, kw_only=True):
    webhooks: list[Webhook]


class Webhooks:
    """The webhooks of the key's organisation."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def add(self, url: str, events: Sequence[str] = ()) -> Webhook:
        """Make a webhook; without events it is told of all. Keep its `secret`."""
        body = {"url": url, "events": list(events)}
        return decode(self._call("POST", _PATH, body), Webhook)

    def list(self) -> list[Webhook]:
        """Return all of them, oldest first."""
        return decode(self._wire.get(_PATH), _List).webhooks

    def get(self, webhook_id: str) -> Webhook:
        """Return one."""
        return decode(self._wire.get(_one(webhook_id)), Webhook)

    def remove(self, webhook_id: str) -> None:
        """Remove it; what waits for it is given up."""
        self._call("DELETE", _one(webhook_id))

    def rotate(self, webhook_id: str, *, overlap_seconds: int | None = None) -> Webhook:
        """Give it another secret; both sign for a while."""
        body = {} if overlap_seconds is None else {"overlap_seconds": overlap_seconds}
        return decode(self._call("POST", f"{_one(webhook_id)}/rotate", body), Webhook)

    def enable(self, webhook_id: str) -> Webhook:
        """Enable it again; what waits for it is sent from now on."""
        return decode(self._call("POST", f"{_one(webhook_id)}/enable"), Webhook)

    def deliveries(
        self, webhook_id: str, *, limit: int | None = None, after: str | None = None
    ) -> DeliveryPage:
        """Return a page of what it was told, newest first."""
        params = {"limit": limit, "after": after}
        return decode(self._wire.get(f"{_one(webhook_id)}/deliveries", params), DeliveryPage)

    def replay(self, webhook_id: str, delivery_id: str) -> Delivery:
        """Have something sent again, with the same id and body."""
        path = f"{_one(webhook_id)}/deliveries/{quote(delivery_id, safe='')}/replay"
        return decode(self._call("POST", path), Delivery)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
        if body is None:
            return self._wire.exchange(method, path).content
        content = iter([json.dumps(body).encode()])
        headers = {"Content-Type": "application/json"}
        return self._wire.exchange(method, path, headers=headers, content=content).content


def _one(webhook_id: str) -> str:
    return f"{_PATH}/{quote(webhook_id, safe='')}"
