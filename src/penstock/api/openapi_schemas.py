"""The schemas of the OpenAPI document."""

from typing import Any, Final

from penstock.api.openapi_partial import PARTIAL_SCHEMA
from penstock.core.line import LineOutcome

_INTEGER: Final = {"type": "integer"}
_TEXT: Final = {"type": "string"}
_MAYBE_TEXT: Final = {"type": ["string", "null"]}


_LABELS: Final = {"type": "object", "additionalProperties": _TEXT}


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
    }


_STATS: Final = _object(
    {
        "successful_count": _INTEGER,
        "failed_count": _INTEGER,
        "incomplete_count": _INTEGER,
        "total_count": _INTEGER,
        **dict.fromkeys(LineOutcome, _INTEGER),
        "deduplicated_count": {
            "type": "integer",
            "description": "Lines that got the answer of an identical one, which alone was paid.",
        },
        "quarantined_count": {
            "type": "integer",
            "description": "Lines that were put aside because they are bad; they are errors.",
        },
    },
    ["successful_count", "failed_count", "incomplete_count", "total_count"],
)

_USAGE: Final = _object(
    {
        "total_prompt_tokens": _INTEGER,
        "total_candidates_tokens": _INTEGER,
        "total_thoughts_tokens": _INTEGER,
        "total_cached_tokens": _INTEGER,
        "successful_requests": _INTEGER,
        "failed_requests": _INTEGER,
    }
)

_OUTCOME: Final = _object(
    {
        "batch_job_state": {
            "enum": [
                "JOB_STATE_QUEUED",
                "JOB_STATE_PENDING",
                "JOB_STATE_RUNNING",
                "JOB_STATE_SUCCEEDED",
                "JOB_STATE_PARTIALLY_SUCCEEDED",
                "JOB_STATE_FAILED",
                "JOB_STATE_CANCELLED",
                "JOB_STATE_EXPIRED",
            ]
        },
        "batch_job_completion_stats": _STATS,
        "token_usage": _USAGE,
        "actual_cost_usd": {
            **_MAYBE_TEXT,
            "description": "Dollars with six decimals; null if the model's price is unknown.",
        },
        "cost": {"$ref": "#/components/schemas/Cost"},
        "message": _TEXT,
        "error": {
            "type": ["object", "null"],
            "properties": {"code": _TEXT, "message": _TEXT},
        },
        "output_url": {"type": "string", "description": "Present once there is an output."},
        "output_download_urls": {"type": "array", "items": _TEXT},
        "lines_url": {
            "type": "string",
            "description": "What became of each line; present once that is known. Needs the key.",
        },
        "round": {
            "type": "object",
            "description": "Of a request of which lines were sent again. While they are, status is "
            "processing, and output_url is of the round before.",
            "properties": {
                "number": {"type": "integer", "description": "The first time is round 1."},
                "began_at": {"type": ["integer", "null"]},
                "outcomes": {"type": "array", "items": {"enum": list(LineOutcome)}},
            },
            "required": ["number", "began_at", "outcomes"],
        },
        "partial": PARTIAL_SCHEMA,
    },
    [
        "batch_job_state",
        "batch_job_completion_stats",
        "token_usage",
        "actual_cost_usd",
        "message",
        "error",
    ],
)

_RECORD: Final = _object(
    {
        "request_id": _TEXT,
        "org_id": _TEXT,
        "user_id": _TEXT,
        "model": _TEXT,
        "status": {"enum": ["queued", "processing", "success", "failed", "cancelled"]},
        "status_detail": _TEXT,
        "is_public": {"type": "boolean"},
        "payload": {"type": "object", "description": "As sent, without input_data."},
        "outcome": {
            "oneOf": [{"$ref": "#/components/schemas/Outcome"}, {"type": "null"}],
        },
        "created_at": _INTEGER,
        "updated_at": _INTEGER,
        "queued_at": _INTEGER,
        "estimate": {"$ref": "#/components/schemas/Estimate"},
        "options": {"$ref": "#/components/schemas/Options"},
        "problem_count": {
            "type": "integer",
            "description": "Lines that were put aside because they are bad; absent if none were.",
        },
        "waiting": {"$ref": "#/components/schemas/Waiting"},
        "name": {"type": "string", "description": "What its owner calls it; absent without one."},
        "labels": {
            **_LABELS,
            "description": "What its owner labelled it with; absent without any.",
        },
        "priority": {
            "type": "integer",
            "description": "Of a request that was submitted with another one than 100.",
        },
    },
    [
        "request_id",
        "org_id",
        "user_id",
        "model",
        "status",
        "status_detail",
        "is_public",
        "payload",
        "outcome",
        "created_at",
        "updated_at",
        "queued_at",
    ],
)

_NAME: Final = {"type": "string", "description": "What you call the request."}
_NAMING: Final = {
    "name": _NAME,
    "labels": {**_LABELS, "description": "By which lists are filtered."},
}

_INPUT_DATA: Final = {
    "type": "string",
    "description": "JSONL, raw or base64. One object with request.contents a line; other "
    "top-level members are yours and come back unchanged.",
}

_LINES: Final = {
    "type": "string",
    "description": "JSONL: one object with request.contents a line.",
}

_UPLOAD: Final = {
    **_object(
        {
            "model": _TEXT,
            "name": _NAME,
            "label": {
                "type": "array",
                "items": _TEXT,
                "description": "key:value, a field for each label.",
            },
            "input_data": _INPUT_DATA,
            "file": _LINES,
        }
    ),
    "description": "One file part, file (JSONL) or input_data (JSONL or base64), and small fields "
    "in any order. model names the Gemini model; other fields come back in payload.",
    "required": [],
    "additionalProperties": _TEXT,
    "oneOf": [{"required": ["file"]}, {"required": ["input_data"]}],
}

_INPUT_URI: Final = {
    "type": "string",
    "description": "Where the JSONL lies instead: gs://bucket/name or https://host/path, if the "
    "operator allows it. Pulled while you wait, and checked as if it had been sent; .gz and .zst "
    "are decompressed.",
}

_SUBMISSION: Final = {
    "description": "input_data is the input as one string, input_uri the address of it; send one.",
    "oneOf": [
        _object(
            {
                "model": _TEXT,
                "payload": {
                    **_object(
                        {
                            "model": _TEXT,
                            "input_data": _INPUT_DATA,
                            "input_uri": _INPUT_URI,
                            **_NAMING,
                        },
                        [],
                    ),
                    "oneOf": [{"required": ["input_data"]}, {"required": ["input_uri"]}],
                },
            },
            ["payload"],
        ),
        _object({"model": _TEXT, "input_data": _INPUT_DATA, **_NAMING}, ["input_data"]),
        _object({"model": _TEXT, "input_uri": _INPUT_URI, **_NAMING}, ["input_uri"]),
    ],
}

_PROBLEM: Final = _object(
    {
        "code": _TEXT,
        "message": _TEXT,
        "line": _INTEGER,
        "column": _INTEGER,
        "offset": _INTEGER,
        "path": _TEXT,
        "hint": _TEXT,
        "excerpt": _TEXT,
    },
    ["code", "message"],
)

_ERROR: Final = _object(
    {
        "error": _TEXT,
        "message": _TEXT,
        "code": _TEXT,
        "hint": _TEXT,
        "details": {"type": "array", "items": {"$ref": "#/components/schemas/Problem"}},
        "details_total": _INTEGER,
        "quota": {"$ref": "#/components/schemas/Quota"},
    },
    ["error", "message", "code", "details"],
)

_MODEL: Final = _object(
    {
        "model": _TEXT,
        "org_id": _TEXT,
        "brief_description": _TEXT,
        "detailed_description": _TEXT,
        "parameters": {"type": "array", "items": {"type": "object"}},
        "price_info": {"type": "object"},
        "created_at": _INTEGER,
        "updated_at": _INTEGER,
    }
)

SCHEMAS: Final[dict[str, Any]] = {
    "Submission": _SUBMISSION,
    "Lines": _LINES,
    "Upload": _UPLOAD,
    "Record": _RECORD,
    "Outcome": _OUTCOME,
    "Page": _object(
        {
            "requests": {"type": "array", "items": {"$ref": "#/components/schemas/Record"}},
            "total": _INTEGER,
            "next_cursor": _TEXT,
        },
        ["requests", "total"],
    ),
    "Models": _object(
        {
            "model_ids": {"type": "array", "items": _TEXT},
            "models": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}},
        }
    ),
    "Model": _MODEL,
    "Problem": _PROBLEM,
    "Error": _ERROR,
}
