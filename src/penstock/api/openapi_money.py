"""Estimates, costs and what was spent on what, in the OpenAPI document."""

from typing import Final

from penstock.api.openapi_pieces import INTEGER, MAYBE_TEXT, TEXT, Json, parameter, shown
from penstock.core.limits import Limits
from penstock.store.spending import By

_DAY: Final[Json] = {"type": "string", "format": "date"}
_WHOLE: Final[Json] = {"type": "integer", "minimum": 0}
_TOKENS: Final[Json] = {
    **shown(low=_WHOLE, expected=_WHOLE, high=_WHOLE),
    "description": "Nine jobs in ten are meant to end between low and high.",
}

ESTIMATE_SCHEMA: Final[Json] = {
    **shown(
        lines={**_WHOLE, "description": "That are paid: identical ones count once."},
        prompt_tokens=_TOKENS,
        output_tokens=_TOKENS,
        cost_usd={
            **shown(low=TEXT, expected=TEXT, high=TEXT),
            "type": ["object", "null"],
            "description": "Dollars with six decimals; null if the model's price is unknown.",
        },
        online_cost_usd={
            **MAYBE_TEXT,
            "description": "What the same would be expected to cost without a batch.",
        },
        basis={"type": "string", "description": "What it rests on, in words."},
    ),
    "description": "What was expected before anything was spent; it stays as it was.",
}

COST_SCHEMA: Final[Json] = {
    **shown(
        tier=TEXT,
        model=TEXT,
        batch_usd=MAYBE_TEXT,
        online_usd={**MAYBE_TEXT, "description": "What the same tokens cost without a batch."},
        saved_usd=MAYBE_TEXT,
        deduplicated_usd={
            **MAYBE_TEXT,
            "description": "What lines would have cost that got the answer of an identical one.",
        },
        by_outcome={
            "type": "object",
            "description": "How lines ended, with what those cost; lines that were billed only.",
            "additionalProperties": shown(
                lines=_WHOLE, prompt_tokens=_WHOLE, output_tokens=_WHOLE, usd=MAYBE_TEXT
            ),
        },
        reserved_usd={**MAYBE_TEXT, "description": "What was set aside for the newest round."},
        refunded_usd={
            **MAYBE_TEXT,
            "description": "What its end gave back; null before, and in later rounds.",
        },
    ),
    "description": "Dollars with six decimals, over all rounds; null is what nobody knows.",
}

SPENT_SCHEMA: Final[Json] = {
    "type": "object",
    "description": "With from, to or group_by: what was billed on these days.",
    "properties": {
        "org_id": TEXT,
        "from": _DAY,
        "to": _DAY,
        "group_by": {"type": "array", "items": {"enum": list(By)}},
        "groups": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "day": {**_DAY, "description": "On which it was billed, UTC."},
                    "model": TEXT,
                    "key": {"type": "string", "description": "The id of the key that submitted."},
                    "org": TEXT,
                    **dict.fromkeys(("jobs", "lines", "prompt_tokens", "output_tokens"), _WHOLE),
                    "batch_usd": {**MAYBE_TEXT, "description": "Of lines whose price is known."},
                    "online_usd": MAYBE_TEXT,
                    "saved_usd": MAYBE_TEXT,
                    "unpriced_lines": {
                        **INTEGER,
                        "description": "Lines whose price is not known; they are in no amount.",
                    },
                },
                "required": ["jobs", "lines", "prompt_tokens", "output_tokens", "unpriced_lines"],
            },
        },
    },
    "required": ["org_id", "from", "to", "group_by", "groups"],
}

MONEY_SCHEMAS: Final[Json] = {
    "Estimate": ESTIMATE_SCHEMA,
    "Cost": COST_SCHEMA,
    "Spent": SPENT_SCHEMA,
}


def spent_parameters(limits: Limits) -> list[Json]:
    """Return the parameters of the usage page that ask for what was billed."""
    return [
        parameter("from", "query", "The first day, UTC; without it thirty days.", _DAY),
        parameter(
            "to", "query", f"The last day, or today; at most {limits.usage_days_max} days.", _DAY
        ),
        parameter(
            "group_by",
            "query",
            f"Some of {', '.join(By)}, with commas between them; org needs orgs:read and is about "
            f"all organisations. At most {limits.usage_groups_max} groups.",
            TEXT,
        ),
    ]
