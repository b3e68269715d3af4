"""Quotas, usage and idempotency keys in the OpenAPI document."""

from typing import Final

from penstock.api.idempotency import KEY_HEADER, REPLAYED
from penstock.api.openapi_money import spent_parameters
from penstock.api.openapi_pieces import Json, answer, operation, parameter
from penstock.api.usage import USAGE_PATH
from penstock.core.job import PRIORITY, PRIORITY_MAX
from penstock.core.limits import Limits
from penstock.core.quotas import Quotas, Used

_INTEGER: Final[Json] = {"type": "integer", "minimum": 0}
_TEXT: Final[Json] = {"type": "string"}
_RESERVED_BY: Final[Json] = {
    "type": "array",
    "description": "Jobs that have not ended, those that hold the most first; no more than ten.",
    "items": {
        "type": "object",
        "properties": {"request_id": _TEXT, "amount": _INTEGER},
        "required": ["request_id", "amount"],
    },
}

QUOTA_SCHEMA: Final[Json] = {
    "type": "object",
    "description": "With 429: the quota that is used up. Money is micro-dollars.",
    "properties": {
        "name": _TEXT,
        "limit": _INTEGER,
        "used": _INTEGER,
        "reserved": _INTEGER,
        "asked": _INTEGER,
        "reserved_by": _RESERVED_BY,
        "resets_at": {
            "type": ["integer", "null"],
            "description": "When it counts from zero again, in Unix seconds.",
        },
    },
    "required": ["name", "limit", "used", "reserved", "asked", "reserved_by", "resets_at"],
}

USAGE_SCHEMA: Final[Json] = {
    "type": "object",
    "properties": {
        "org_id": _TEXT,
        "quotas": {
            "type": "object",
            "description": "0 means without limit.",
            "properties": dict.fromkeys(Quotas.__struct_fields__, _INTEGER),
            "required": list(Quotas.__struct_fields__),
        },
        "used": {
            "type": "object",
            "properties": dict.fromkeys(Used.__struct_fields__, _INTEGER),
            "required": list(Used.__struct_fields__),
        },
        "reserved_by": _RESERVED_BY,
        "resets": {
            "type": "object",
            "description": "When day and month count from zero again, in Unix seconds.",
            "properties": {"day": _INTEGER, "month": _INTEGER},
            "required": ["day", "month"],
        },
        "days": {
            "type": "array",
            "description": "The days of this month on which jobs were submitted, UTC.",
            "items": {
                "type": "object",
                "properties": {
                    "day": {"type": "string", "format": "date"},
                    **dict.fromkeys(
                        ("jobs", "lines", "bytes", "reserved_micro_dollars", "spent_micro_dollars"),
                        _INTEGER,
                    ),
                },
                "required": ["day", "jobs", "lines", "bytes"],
            },
        },
    },
    "required": ["org_id", "quotas", "used", "reserved_by", "resets", "days"],
}


def usage_paths(limits: Limits) -> Json:
    """Return the path of the usage page."""
    get = operation(
        "getUsage",
        "Quotas, usage and spending",
        "What your organisation may use, what it uses, and which jobs hold what is reserved. With "
        "from, to or group_by: what its jobs did cost, and would have cost without a batch.",
        {"200": answer("The usage, or what was spent.", "UsageOrSpent")},
        ("Invalid", "Unauthenticated", "Forbidden"),
    )
    get["parameters"] += spent_parameters(limits)
    return {USAGE_PATH: {"get": get}}


def key_parameter(limits: Limits) -> Json:
    """Return the header that makes a submission safe to repeat."""
    return parameter(
        KEY_HEADER,
        "header",
        f"Sent again with the same key within {limits.idempotency_seconds} seconds, the same "
        f"submission answers with the same job, and `{REPLAYED}: true`.",
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    )


def priority_parameter(name: str) -> Json:
    """Return the header that puts a job before or behind others of its organisation."""
    return parameter(
        name,
        "header",
        "Among your organisation's own jobs the lowest number goes first.",
        {"type": "integer", "minimum": 1, "maximum": PRIORITY_MAX, "default": PRIORITY},
    )
