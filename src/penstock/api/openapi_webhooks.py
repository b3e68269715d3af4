"""Webhooks in the OpenAPI document: the calls, and what receivers are sent."""

from typing import Final

from penstock.api.admin import BASE, PAGE
from penstock.api.openapi_pieces import (
    CHANGING,
    INTEGER,
    MAYBE_INTEGER,
    MAYBE_TEXT,
    REFUSED,
    TEXT,
    Json,
    answer,
    operation,
    parameter,
    path_id,
    shown,
    taken,
    taking,
)
from penstock.core.limits import Limits
from penstock.core.state import STATUS_WORDS, TERMINAL, JobState
from penstock.core.webhook import ALL_KINDS, KIND_OF, EventKind


def webhook_paths(limits: Limits) -> Json:
    """Return the paths; the limits of this very server are told."""
    one = f"{BASE}/webhooks/{{webhook_id}}"
    parameters = [path_id("webhook_id", "The webhook's id.")]
    return {
        f"{BASE}/webhooks": _collection(limits),
        one: {"parameters": parameters, **_one()},
        f"{one}/rotate": {"parameters": parameters, "post": _rotate(limits)},
        f"{one}/enable": {
            "parameters": parameters,
            "post": operation(
                "enableWebhook",
                "Enable a disabled webhook",
                "What waits for it is sent from now on.",
                {"200": answer("The webhook.", "Webhook")},
                CHANGING,
            ),
        },
        f"{one}/deliveries": {"parameters": parameters, "get": _deliveries(limits)},
        f"{one}/deliveries/{{delivery_id}}/replay": {
            "parameters": [*parameters, path_id("delivery_id", "The delivery's id.")],
            "post": operation(
                "replayDelivery",
                "Send something again",
                "From now on, with all its tries, the same id and body.",
                {"200": answer("The delivery.", "Delivery")},
                (*CHANGING, "Conflict"),
            ),
        },
    }


def webhook_events() -> Json:
    """Return what receivers are sent."""
    return {
        "jobEnded": _event("jobEnded", "A job has ended", "Event"),
        "jobSlow": _event("jobSlow", "A job takes longer than 95 of 100 others did", "SlowEvent"),
    }


def _event(name: str, summary: str, schema: str) -> Json:
    headers = {
        "webhook-id": "The delivery's id, the same at every try.",
        "webhook-timestamp": "Unix seconds of the try.",
        "webhook-signature": "`v1,…`, base64 of HMAC-SHA256 over id.timestamp.body; with a space "
        "between those of two secrets while one is replaced.",
    }
    reference = {"$ref": f"#/components/schemas/{schema}"}
    return {
        "post": {
            "operationId": name,
            "summary": summary,
            "description": "As Standard Webhooks has it. At least once, in no order.",
            "security": [],
            "parameters": [
                {**parameter(header, "header", text, {"type": "string"}), "required": True}
                for header, text in headers.items()
            ],
            "requestBody": {"content": {"application/json": {"schema": reference}}},
            "responses": {
                "2XX": {"description": "Delivered."},
                "410": {"description": "Wants no more: the webhook is disabled."},
                "default": {"description": "Is tried again."},
            },
        }
    }


def _collection(limits: Limits) -> Json:
    create = operation(
        "createWebhook",
        "Make a webhook",
        f"Its secret is in this answer and nowhere else. At most {limits.webhooks_max}.",
        {"201": answer("The webhook, with its secret.", "NewWebhook")},
        ("Invalid", *REFUSED, "TooLarge", "TooMany"),
    )
    example = {"url": "https://hooks.example.com/penstock", "events": [EventKind.JOB_SUCCEEDED]}
    return {
        "get": operation(
            "listWebhooks",
            "List webhooks",
            "All of the organisation, oldest first.",
            {"200": answer("All.", "WebhookList")},
            REFUSED,
        ),
        "post": taking(create, "WebhookWish", example, is_needed=False),
    }


def _one() -> Json:
    change = operation(
        "changeWebhook",
        "Change the address or the events",
        "What waits goes to the new address.",
        {"200": answer("The webhook.", "Webhook")},
        CHANGING,
    )
    return {
        "get": operation(
            "getWebhook",
            "Show a webhook",
            "",
            {"200": answer("The webhook.", "Webhook")},
            (*REFUSED, "NotFound"),
        ),
        "patch": taking(change, "WebhookChange", {"events": [ALL_KINDS]}, is_needed=False),
        "delete": operation(
            "deleteWebhook",
            "Remove a webhook",
            "What waits for it is given up.",
            {"204": {"description": "Removed."}},
            (*REFUSED, "NotFound"),
        ),
    }


def _rotate(limits: Limits) -> Json:
    rotate = operation(
        "rotateWebhook",
        "Replace the secret",
        "The new one is in this answer and nowhere else. Both sign for `overlap_seconds` "
        f"({limits.webhook_overlap_seconds} if left out, and at most).",
        {"200": answer("The webhook, with its secret.", "NewWebhook")},
        CHANGING,
    )
    return taking(rotate, "SecretRotation", {"overlap_seconds": 3600}, is_needed=False)


def _deliveries(limits: Limits) -> Json:
    listing = operation(
        "listDeliveries",
        "List deliveries",
        "Newest first.",
        {"200": answer("One page.", "DeliveryPage")},
        ("Invalid", *REFUSED, "NotFound"),
    )
    listing["parameters"] += [
        parameter("after", "query", "`next` of the page before.", {"type": "string"}),
        parameter(
            "limit",
            "query",
            f"{PAGE} if left out; clamped to {limits.page_max}.",
            {"type": "integer", "minimum": 1},
        ),
    ]
    return listing


_KINDS: Final = {
    "type": "array",
    "items": {"enum": [*EventKind, ALL_KINDS]},
    "description": f"Nothing and {ALL_KINDS} are all.",
}
_URL: Final = {"type": "string", "description": "https, port 443 or 8443, a public host."}
_WEBHOOK: Final = {
    "id": TEXT,
    "url": _URL,
    "events": _KINDS,
    "created_at": INTEGER,
    "created_by": TEXT,
    "old_secret_until": {**MAYBE_INTEGER, "description": "Until then two secrets sign."},
    "failing_since": {**MAYBE_INTEGER, "description": "The first failure after a success."},
    "disabled_at": MAYBE_INTEGER,
    "disabled_reason": MAYBE_TEXT,
}
_DELIVERY: Final = {
    "id": {**TEXT, "description": "Sent as webhook-id."},
    "webhook_id": TEXT,
    "request_id": TEXT,
    "type": {"enum": list(EventKind)},
    "state": {
        "enum": ["pending", "delivered", "given_up", "paused"],
        "description": "paused: it waits until its webhook is enabled.",
    },
    "created_at": INTEGER,
    "tries": INTEGER,
    "next_at": MAYBE_INTEGER,
    "delivered_at": MAYBE_INTEGER,
    "given_up_at": MAYBE_INTEGER,
    "last_status": MAYBE_INTEGER,
    "last_error": MAYBE_TEXT,
}
_EVENT_DATA: Final = {
    "request_id": TEXT,
    "org_id": TEXT,
    "status": {"enum": sorted(STATUS_WORDS[state] for state in TERMINAL)},
    "model": TEXT,
    "created_at": TEXT,
    "finished_at": TEXT,
    "total_count": INTEGER,
    "successful_count": INTEGER,
    "failed_count": INTEGER,
    "actual_cost_usd": {**MAYBE_TEXT, "description": "null if the price is not known."},
    "error_code": MAYBE_TEXT,
}
_SLOW_DATA: Final = {
    **{name: _EVENT_DATA[name] for name in ("request_id", "org_id", "model", "created_at")},
    "status": {"enum": sorted({STATUS_WORDS[state] for state in set(JobState) - TERMINAL})},
    "slow_at": TEXT,
    "total_count": INTEGER,
    "reason": {**TEXT, "description": "What it waits for, how long, and how long others did."},
}


def _told(data: Json) -> Json:
    """Return the schema of what an event tells; a job that nobody named has no name in it."""
    told = shown(**data)
    told["properties"] |= {"name": TEXT, "labels": {"type": "object", "additionalProperties": TEXT}}
    return told


WEBHOOK_SCHEMAS: Final[Json] = {
    "WebhookWish": taken("Where to send what.", ("url",), url=_URL, events=_KINDS),
    "WebhookChange": taken("What shall be different.", url=_URL, events=_KINDS),
    "SecretRotation": taken(
        "How long the old secret signs as well.",
        overlap_seconds={"type": "integer", "minimum": 0},
    ),
    "Webhook": shown(**_WEBHOOK),
    "NewWebhook": shown(**_WEBHOOK, secret={**TEXT, "description": "whsec_…"}),
    "WebhookList": shown(
        webhooks={"type": "array", "items": {"$ref": "#/components/schemas/Webhook"}}
    ),
    "Delivery": shown(**_DELIVERY),
    "DeliveryPage": shown(
        deliveries={"type": "array", "items": {"$ref": "#/components/schemas/Delivery"}},
        next=MAYBE_TEXT,
    ),
    "Event": shown(type={"enum": list(KIND_OF.values())}, timestamp=TEXT, data=_told(_EVENT_DATA)),
    "SlowEvent": shown(type={"const": EventKind.JOB_SLOW}, timestamp=TEXT, data=_told(_SLOW_DATA)),
}
