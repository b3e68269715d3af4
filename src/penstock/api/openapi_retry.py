"""Sending lines again, in the OpenAPI document."""

from penstock.api.openapi_pieces import REFUSED, Json, answer, operation, parameter
from penstock.api.openapi_usage import key_parameter
from penstock.api.retry import OUTCOMES
from penstock.core.limits import Limits


def retry_paths(base: str, limits: Limits) -> Json:
    """Return the path."""
    one = operation(
        "retryRequest",
        "Send lines again",
        "For a request that has ended with an output. The lines that ended as one of the outcomes "
        "are sent in another round and their answers merged into the same output, which stays as "
        "it is until then; if nothing comes of the round, it stays so for good. Refused with 409 "
        "while the request runs, if no line is selected, and after limits.job_rounds_max rounds; "
        "with 402 above its max_cost_usd.",
        {"200": answer("The request record; the round is durable.", "Record")},
        ("Invalid", "OverCost", *REFUSED, "NotFound", "Conflict", "SourceRefused", "Unavailable"),
    )
    one["parameters"] += [
        parameter(
            "outcomes",
            "query",
            "With commas between them; without any, those of the request's own policy.",
            {"type": "string", "examples": [",".join(OUTCOMES[-4:-2])]},
        ),
        key_parameter(limits),
    ]
    path = f"{base}/requests/{{request_id}}/retry"
    return {path: {"parameters": [{"$ref": "#/components/parameters/request_id"}], "post": one}}
