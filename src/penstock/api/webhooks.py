"""Webhooks over HTTP: make them, see how they stand and what they were told, have it told again."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.api.admin import BASE, Admin, after, id_of, second
from penstock.api.answers import json_answer
from penstock.api.bodies import read_json
from penstock.core.access import Scope
from penstock.core.ids import new_id
from penstock.core.webhook import WEBHOOK_PREFIX, parse_kinds
from penstock.errors import InvalidRequest, NotFound
from penstock.store.deliveries import Delivery
from penstock.store.webhooks import Webhook
from penstock.webhooks.address import Addresses
from penstock.webhooks.secrets import Sealer, new_secret


class WebhookBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to send; without events it is told of all."""

    url: str
    events: list[str] = []


class ChangeBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shall be different."""

    url: str | None = None
    events: list[str] | None = None


class RotationBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the old secret signs beside the new one."""

    overlap_seconds: int | None = None


class EmptyBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A call that says everything by its path."""


class WebhookRoutes:
    """The endpoints; each authenticates first and only then reads."""

    def __init__(self, admin: Admin, sealer: Sealer, addresses: Addresses) -> None:
        self._admin = admin
        self._sealer = sealer
        self._addresses = addresses
        self._webhooks = admin.store.webhooks
        self._deliveries = admin.store.deliveries

    def routes(self) -> list[Route]:
        """Return the routes."""
        one = f"{BASE}/webhooks/{{webhook_id}}"
        return [
            Route(f"{BASE}/webhooks", self.list, methods=["GET"]),
            Route(f"{BASE}/webhooks", self.create, methods=["POST"]),
            Route(one, self.get, methods=["GET"]),
            Route(one, self.change, methods=["PATCH"]),
            Route(one, self.remove, methods=["DELETE"]),
            Route(f"{one}/rotate", self.rotate, methods=["POST"]),
            Route(f"{one}/enable", self.enable, methods=["POST"]),
            Route(f"{one}/deliveries", self.deliveries, methods=["GET"]),
            Route(f"{one}/deliveries/{{delivery_id}}/replay", self.replay, methods=["POST"]),
        ]

    async def list(self, request: Request) -> Response:
        """Return all webhooks of the organisation, oldest first."""
        principal = await self._admin.authenticator.principal(request, Scope.WEBHOOKS_READ)
        found = await self._webhooks.all(principal.org_id)
        return json_answer({"webhooks": [_record(each) for each in found]})

    async def create(self, request: Request) -> Response:
        """Make a webhook; its secret is in this answer and nowhere else."""
        admin = self._admin
        async with admin.changing(request, Scope.WEBHOOKS_WRITE, "webhook.create") as principal:
            body = await read_json(request, WebhookBody, admin.limits.admin_body_bytes_max)
            self._addresses.read(body.url)
            secret, webhook_id = new_secret(), new_id(WEBHOOK_PREFIX)
            webhook = Webhook(
                id=webhook_id,
                org_id=principal.org_id,
                url=body.url,
                events=parse_kinds(body.events),
                secret=self._sealer.seal(webhook_id, secret),
                created_at=admin.clock.now(),
                created_by=principal.user_id,
            )
            await self._webhooks.add(principal.actor, webhook, admin.limits.webhooks_max)
        return json_answer({**_record(webhook), "secret": secret}, 201)

    async def get(self, request: Request) -> Response:
        """Return one webhook."""
        principal = await self._admin.authenticator.principal(request, Scope.WEBHOOKS_READ)
        webhook_id = id_of(request, "webhook_id", no_webhook)
        return json_answer(_record(_there(await self._webhooks.get(principal.org_id, webhook_id))))

    async def change(self, request: Request) -> Response:
        """Change the address or the events; what waits goes to the new address."""
        admin = self._admin
        async with admin.changing(
            request, Scope.WEBHOOKS_WRITE, "webhook.update", "webhook_id"
        ) as principal:
            webhook_id = id_of(request, "webhook_id", no_webhook)
            body = await read_json(request, ChangeBody, admin.limits.admin_body_bytes_max)
            values = self._values(body)
            webhook = _there(
                await self._webhooks.change(principal.actor, webhook_id, admin.clock.now(), values)
            )
        return json_answer(_record(webhook))

    async def remove(self, request: Request) -> Response:
        """Remove a webhook; what waits for it is given up."""
        admin = self._admin
        async with admin.changing(
            request, Scope.WEBHOOKS_WRITE, "webhook.delete", "webhook_id"
        ) as principal:
            webhook_id = id_of(request, "webhook_id", no_webhook)
            if not await self._webhooks.remove(principal.actor, webhook_id, admin.clock.now()):
                raise no_webhook()
        return Response(status_code=204)

    async def rotate(self, request: Request) -> Response:
        """Give it another secret; the old one signs as well for a while."""
        admin = self._admin
        async with admin.changing(
            request, Scope.WEBHOOKS_WRITE, "webhook.rotate", "webhook_id"
        ) as principal:
            webhook_id = id_of(request, "webhook_id", no_webhook)
            body = await read_json(request, RotationBody, admin.limits.admin_body_bytes_max)
            now, secret = admin.clock.now(), new_secret()
            webhook = _there(
                await self._webhooks.rotate(
                    principal.actor,
                    webhook_id,
                    now,
                    self._sealer.seal(webhook_id, secret),
                    now + self._overlap_seconds(body),
                )
            )
        return json_answer({**_record(webhook), "secret": secret})

    async def enable(self, request: Request) -> Response:
        """Enable a disabled webhook; what waits for it is sent from now on."""
        admin = self._admin
        async with admin.changing(
            request, Scope.WEBHOOKS_WRITE, "webhook.enable", "webhook_id"
        ) as principal:
            webhook_id = id_of(request, "webhook_id", no_webhook)
            await read_json(request, EmptyBody, admin.limits.admin_body_bytes_max)
            webhook = _there(
                await self._webhooks.enable(principal.actor, webhook_id, admin.clock.now())
            )
        return json_answer(_record(webhook))

    async def deliveries(self, request: Request) -> Response:
        """Return a page of what it was told, or is to be told, newest first."""
        principal = await self._admin.authenticator.principal(request, Scope.WEBHOOKS_READ)
        limit = self._admin.limit(request)
        webhook_id = id_of(request, "webhook_id", no_webhook)
        webhook = _there(await self._webhooks.get(principal.org_id, webhook_id))
        found = await self._deliveries.page(principal.org_id, webhook_id, after(request), limit)
        is_full = len(found) == limit
        return json_answer(
            {
                "deliveries": [_delivery(each, webhook) for each in found],
                "next": found[-1].id if is_full else None,
            }
        )

    async def replay(self, request: Request) -> Response:
        """Have something sent again, with the same id and body."""
        admin = self._admin
        async with admin.changing(
            request, Scope.WEBHOOKS_WRITE, "webhook.replay", "delivery_id"
        ) as principal:
            webhook_id = id_of(request, "webhook_id", no_webhook)
            await read_json(request, EmptyBody, admin.limits.admin_body_bytes_max)
            webhook = _there(await self._webhooks.get(principal.org_id, webhook_id))
            delivery_id = id_of(request, "delivery_id", no_delivery)
            delivery = await self._deliveries.replay(
                principal.actor, webhook_id, delivery_id, admin.clock.now()
            )
            if delivery is None:
                raise no_delivery()
        return json_answer(_delivery(delivery, webhook))

    def _values(self, body: ChangeBody) -> dict[str, Any]:
        values: dict[str, Any] = {}
        if body.url is not None:
            self._addresses.read(body.url)
            values["url"] = body.url
        if body.events is not None:
            values["events"] = parse_kinds(body.events)
        if not values:
            raise InvalidRequest(
                "Nothing is to be changed.", code="invalid_body", hint="Send url, events or both."
            )
        return values

    def _overlap_seconds(self, body: RotationBody) -> int:
        most = self._admin.limits.webhook_overlap_seconds
        wanted = most if body.overlap_seconds is None else body.overlap_seconds
        if not 0 <= wanted <= most:
            raise InvalidRequest(
                f"overlap_seconds is not between 0 and {most} (webhook_overlap_seconds).",
                code="invalid_parameter",
            )
        return wanted


def no_webhook() -> NotFound:
    """Return the error for an id of nobody, and for one of another organisation."""
    return NotFound("There is no such webhook.", hint="GET /api/v1/webhooks lists yours.")


def no_delivery() -> NotFound:
    """Return the same for a delivery."""
    return NotFound(
        "There is no such delivery.",
        hint="GET /api/v1/webhooks/{webhook_id}/deliveries lists them.",
    )


def _there(webhook: Webhook | None) -> Webhook:
    if webhook is None:
        raise no_webhook()
    return webhook


def _record(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "url": webhook.url,
        "events": webhook.events.split(),
        "created_at": second(webhook.created_at),
        "created_by": webhook.created_by,
        "old_secret_until": second(webhook.old_secret_until),
        "failing_since": second(webhook.failing_since),
        "disabled_at": second(webhook.disabled_at),
        "disabled_reason": webhook.disabled_reason,
    }


def _delivery(delivery: Delivery, webhook: Webhook) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "webhook_id": delivery.webhook_id,
        "request_id": delivery.job_id,
        "type": delivery.kind,
        "state": _state(delivery, webhook),
        "created_at": second(delivery.created_at),
        "tries": delivery.tries,
        "next_at": second(delivery.next_at),
        "delivered_at": second(delivery.delivered_at),
        "given_up_at": second(delivery.given_up_at),
        "last_status": delivery.last_status,
        "last_error": delivery.last_error,
    }


def _state(delivery: Delivery, webhook: Webhook) -> str:
    if delivery.next_at is not None and webhook.disabled_at is None:
        return "pending"
    if delivery.delivered_at is not None:
        return "delivered"
    return "given_up" if delivery.given_up_at is not None else "paused"
