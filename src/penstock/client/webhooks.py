"""Webhooks as the server shows them: `client.webhooks.add(…)` gives one."""

from typing import Final
from urllib.parse import quote

import msgspec

PATH: Final = "/api/v1/webhooks"


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


class WebhookList(msgspec.Struct, frozen=True, kw_only=True):
    """All webhooks of an organisation."""

    webhooks: list[Webhook]


def path_of(webhook_id: str) -> str:
    """Return the path of one."""
    return f"{PATH}/{quote(webhook_id, safe='')}"
