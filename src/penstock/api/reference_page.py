"""The OpenAPI document as one HTML page: no script, nothing loaded from elsewhere."""

import json
from html import escape
from typing import Any, Final

Json = dict[str, Any]

STYLE: Final = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
section { border-top: 1px solid #8888; padding: 1rem 0; }
code, pre { font: 0.9em/1.5 ui-monospace, monospace; }
pre { overflow-x: auto; padding: 0.75rem; border: 1px solid #8888; border-radius: 4px; }
table { border-collapse: collapse; } td, th { text-align: left; padding: 0.2rem 1rem 0.2rem 0; }
.method { display: inline-block; min-width: 4.5rem; font-weight: 600; }
"""

_METHODS: Final = ("post", "get", "patch", "delete")
_SHOWN_SCHEMAS: Final = (
    "Record",
    "Outcome",
    "Waiting",
    "Error",
    "Problem",
    "Organization",
    "User",
    "Key",
    "Webhook",
    "Delivery",
    "Event",
    "SlowEvent",
    "AuditRow",
    "Verdict",
)


def page(described: Json) -> str:
    """Render the document."""
    operations = [
        _operation(described, method, path, item)
        for path, item in described["paths"].items()
        for method in _METHODS
        if method in item
    ]
    schemas = [_schema(name, described["components"]["schemas"][name]) for name in _SHOWN_SCHEMAS]
    title = escape(described["info"]["title"])
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'>"
        f"<title>{title}</title><link rel=stylesheet href=/docs/style.css>"
        f"<h1>{title}</h1><p>{escape(described['info']['summary'])} "
        "Send <code>Authorization: Bearer &lt;API key&gt;</code> with every call. "
        "Machine-readable: <a href=/openapi.json>openapi.json</a>.</p>"
        f"{''.join(operations)}{''.join(schemas)}</html>"
    )


def _operation(described: Json, method: str, path: str, item: Json) -> str:
    operation = item[method]
    given = [*item.get("parameters", []), *operation.get("parameters", [])]
    parameters = [resolved(described, parameter) for parameter in given]
    answers = {
        code: resolved(described, answer)["description"]
        for code, answer in operation["responses"].items()
    }
    return (
        f"<section><h2>{escape(operation['summary'])}</h2>"
        f"<p><span class=method>{method.upper()}</span><code>{escape(path)}</code></p>"
        f"<p>{escape(operation.get('description', ''))}</p>"
        f"{_bodies(described, operation)}"
        + _table({f"{one['name']} ({one['in']})": one["description"] for one in parameters})
        + _table(answers)
        + "</section>"
    )


def _bodies(described: Json, operation: Json) -> str:
    return "".join(
        f"<p><code>{escape(kind)}</code> "
        f"{escape(resolved(described, content['schema'])['description'])}</p>"
        f"<pre>{escape(_shown(content['example']))}</pre>"
        for kind, content in operation.get("requestBody", {}).get("content", {}).items()
    )


def _shown(example: object) -> str:
    return example if isinstance(example, str) else json.dumps(example, indent=2)


def _schema(name: str, schema: Json) -> str:
    rows = {
        field: f"{_type(one)} {one.get('description', '')}"
        for field, one in schema["properties"].items()
    }
    return f"<section><h2>{escape(name)}</h2>{_table(rows)}</section>"


def _type(schema: Json) -> str:
    if "enum" in schema:
        return " | ".join(schema["enum"])
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if "oneOf" in schema:
        return " or ".join(_type(one) for one in schema["oneOf"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"array of {_type(schema['items'])}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _table(rows: dict[str, str]) -> str:
    cells = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(text)}</td></tr>"
        for name, text in rows.items()
    )
    return f"<table>{cells}</table>" if cells else ""


def resolved(described: Json, value: Json) -> Json:
    """Follow one `$ref` into the document."""
    reference = value.get("$ref")
    if reference is None:
        return value
    found: Any = described
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    resolved: Json = found
    return resolved
