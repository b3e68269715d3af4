"""Why requests wait, and the server's metrics, in the OpenAPI document."""

from typing import Final

from penstock.api.metrics import METRICS_PATH
from penstock.api.openapi_pieces import INTEGER, MAYBE_INTEGER, MAYBE_TEXT, Json, operation, shown
from penstock.api.waiting import Reason
from penstock.telemetry.metrics import CONTENT_TYPE


def _maybe(schema: Json, description: str) -> Json:
    return {"oneOf": [schema, {"type": "null"}], "description": description}


_PERCENTILES: Final = shown(p50=MAYBE_INTEGER, p90=MAYBE_INTEGER, p95=MAYBE_INTEGER)
_ETA: Final = shown(
    expected_at={**INTEGER, "description": "As likely before as after it."},
    earliest_at=MAYBE_INTEGER,
    latest_at={
        **MAYBE_INTEGER,
        "description": "With earliest_at an interval; both null while too few others are known.",
    },
    coverage={
        "type": ["number", "null"],
        "description": "So many requests end within such an interval.",
    },
)

WAITING_SCHEMA: Final[Json] = {
    **shown(
        reason={"enum": list(Reason)},
        since=INTEGER,
        position=_maybe(
            shown(number=INTEGER, of=INTEGER),
            "In your organisation's own line, from 1; organisations take turns.",
        ),
        round=shown(number=INTEGER, of=INTEGER),
        shards=_maybe(
            shown(of=INTEGER, ended=INTEGER, pending=INTEGER),
            "The provider jobs that it was cut into; pending are those that do not run yet.",
        ),
        provider_state=MAYBE_TEXT,
        provider_state_since=MAYBE_INTEGER,
        slow_since={
            **MAYBE_INTEGER,
            "description": "Since when it has been taking longer than 95 of 100 others did.",
        },
        wait_percentiles=_maybe(
            _PERCENTILES, "Seconds until the provider ran the last requests to the model."
        ),
        run_percentiles=_maybe(
            _PERCENTILES, "Seconds from there to their end; of like size, if samples says so."
        ),
        eta=_maybe(_ETA, "Null where too few others are known, or none that waited so long."),
        samples=shown(waits=INTEGER, runs=INTEGER, by_size={"type": "boolean"}),
    ),
    "description": "Of a request that has not ended, when it is asked for by its id: why it waits, "
    "how long others did, and when it is likely to end. Times are Unix seconds.",
}


def metrics_paths() -> Json:
    """Return the path of the metrics."""
    content = {CONTENT_TYPE.partition(";")[0]: {"schema": {"type": "string"}}}
    get = operation(
        "getMetrics",
        "Metrics of the whole server",
        "In the text format of Prometheus; for the operator's own keys with metrics:read.",
        {"200": {"description": "Gauges.", "content": content}},
        ("Unauthenticated", "Forbidden"),
    )
    return {METRICS_PATH: {"get": get}}
