"""What schemathesis must know to send our bodies; loaded by it alone (tools/schemathesis.toml)."""

import json
from typing import Any

import schemathesis  # type: ignore[import-not-found]  # it lies in a folder of its own


@schemathesis.serializer("application/jsonl", "application/partial-upload")  # type: ignore[untyped-decorator]  # as above
def as_bytes(_context: Any, value: Any) -> bytes:  # noqa: ANN401  # generated values are of any kind
    """Return a body as it is, and whatever is no text as the JSON of it."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    return json.dumps(value).encode()
