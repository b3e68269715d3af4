"""The description of a submission's options, and of a judgement without a job."""

from typing import Final

from penstock.api.openapi_pieces import INTEGER, TEXT, Json, parameter, shown
from penstock.api.options import (
    DEDUPLICATE,
    MAX_COST,
    ON_INVALID,
    OUTCOMES_RETRIED,
    RETRY_ATTEMPTS,
    RETRY_OUTCOMES,
    SHARDS,
    VALIDATE_ONLY,
)
from penstock.core.limits import Limits
from penstock.core.naming import LABEL, NAME
from penstock.core.options import RETRY_ATTEMPTS_MAX, SHARDS_MAX, OnInvalid

_FINDINGS: Final[Json] = {
    "type": "array",
    "items": shown(code=TEXT, message=TEXT, lines=INTEGER, first_line=INTEGER),
}

VALIDATION_SCHEMA: Final[Json] = {
    **shown(
        valid={
            "type": "boolean",
            "description": "Whether the same submission would be accepted.",
        },
        model=TEXT,
        line_count=INTEGER,
        input_bytes=INTEGER,
        problem_count=INTEGER,
        problems={
            "type": "array",
            "description": "The first bad lines.",
            "items": {"$ref": "#/components/schemas/Problem"},
        },
        warnings=_FINDINGS,
        normalisations={
            **_FINDINGS,
            "description": "What is done on the provider's copy only; the meaning stays.",
        },
        duplicates=shown(
            lines={"type": "integer", "description": "Lines that repeat another one's request."},
            groups=INTEGER,
            largest={
                "type": "array",
                "items": shown(lines=INTEGER, first_lines={"type": "array", "items": INTEGER}),
            },
        ),
        unread_lines=INTEGER,
        estimate={"oneOf": [{"$ref": "#/components/schemas/Estimate"}, {"type": "null"}]},
    ),
    "description": "What would become of a submission; nothing of it was kept.",
}
VALIDATION_SCHEMA["properties"]["refusal"] = {
    "type": "object",
    "description": "Why all of it would be refused although its lines are good.",
    "properties": {"code": TEXT, "message": TEXT, "hint": {"type": ["string", "null"]}},
}

OPTIONS_SCHEMA: Final[Json] = {
    "type": "object",
    "description": "The options that were chosen; absent if there were none.",
    "properties": {
        MAX_COST: TEXT,
        ON_INVALID: {"enum": list(OnInvalid)},
        DEDUPLICATE: {"type": "boolean"},
        SHARDS: INTEGER,
        RETRY_ATTEMPTS: INTEGER,
        RETRY_OUTCOMES: {"type": "array", "items": {"enum": list(OUTCOMES_RETRIED)}},
    },
}


def label_schema(limits: Limits) -> Json:
    """Return the schema of `key:value`."""
    most = limits.job_label_characters_max
    return {"type": "string", "pattern": f"^[a-z0-9_-]{{1,{most}}}:.{{0,{most}}}$"}


def name_parameters(limits: Limits) -> list[Json]:
    """Return the parameters of a submission that name its job."""
    labels = {"type": "array", "maxItems": limits.job_labels_max, "items": label_schema(limits)}
    return [
        parameter(
            NAME,
            "query",
            "What you call the request; others may have the same name.",
            {"type": "string", "maxLength": limits.job_name_characters_max},
        ),
        parameter(LABEL, "query", "A label, once for each: key:value.", labels),
    ]


def option_parameters() -> list[Json]:
    """Return the parameters of a submission that are its options."""
    return [
        parameter(
            MAX_COST,
            "query",
            "Dollars. Nothing is sent that is expected to bring the job above this.",
            {"type": "string", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,6})?$"},
        ),
        parameter(
            ON_INVALID,
            "query",
            "With quarantine the good lines run, and each bad one is an error in the output.",
            {"enum": list(OnInvalid), "default": OnInvalid.REFUSE},
        ),
        parameter(
            DEDUPLICATE,
            "query",
            "Send lines with the same request once.",
            {"enum": ["true", "false"], "default": "true"},
        ),
        parameter(
            SHARDS,
            "query",
            "Into how many provider jobs it is cut.",
            {"type": "integer", "minimum": 1, "maximum": SHARDS_MAX, "default": 1},
        ),
        parameter(
            RETRY_ATTEMPTS,
            "query",
            "How often lines are sent again by themselves.",
            {"type": "integer", "minimum": 0, "maximum": RETRY_ATTEMPTS_MAX, "default": 1},
        ),
        parameter(
            RETRY_OUTCOMES,
            "query",
            f"Which ones, with commas between: {', '.join(OUTCOMES_RETRIED)}.",
            {"type": "string", "default": "error,missing"},
        ),
    ]


def validate_parameter() -> Json:
    """Return the parameter that asks for a judgement only."""
    return parameter(
        VALIDATE_ONLY,
        "query",
        "Judge it, and keep and count nothing; the answer is a Validation instead of a Record.",
        {"enum": ["true", "false"], "default": "false"},
    )
