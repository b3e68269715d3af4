"""docs/reference/http.md: each operation of the OpenAPI document that a server serves."""

import json
import shlex
from types import SimpleNamespace
from typing import Any, Final, cast

from penstock.api.jobs import JobDoor
from penstock.api.openapi import document
from penstock.api.reference_page import resolved
from penstock.settings import Settings, catalogue

Json = dict[str, Any]

METHODS: Final = ("post", "put", "get", "head", "options", "patch", "delete")
INLINE_ROWS_MAX: Final = 60

HEAD: Final = """# HTTP API

<!-- Written by tools/document_reference.py; do not edit. -->

Made from the OpenAPI document, which a server serves for itself, with its own models and limits, as
`/openapi.json` and `/docs`.

Every call has `Authorization: Bearer pk_…`, but for those that say otherwise. An answer from 400
on is an [`Error`](#error) with a stable `code`: [all codes](errors.md). Any call may be answered
with 429 and `Retry-After`.

"""

GROUPS: Final = (
    ("Jobs", "/requests"),
    ("Uploads in pieces", "/uploads"),
    ("Models", "/models"),
    ("Usage", "/usage"),
    ("Organisations", "/orgs"),
    ("Users", "/users"),
    ("Keys", "/keys"),
    ("Webhooks", "/webhooks"),
    ("Audit", "/audit"),
)


def build() -> str:
    """Return the page."""
    settings = Settings()
    # All that the document needs of a running server is what its settings say.
    door = SimpleNamespace(
        limits=settings.limits,
        models=catalogue(settings),
        default_model=settings.default_model,
    )
    described = document(cast("JobDoor", door))
    groups: dict[str, list[tuple[str, str, Json]]] = {title: [] for title, _ in GROUPS}
    groups["The server"] = []
    for path, item in described["paths"].items():
        title = next((title for title, part in GROUPS if part in path), "The server")
        groups[title] += [(method, path, item) for method in METHODS if method in item]
    parts = [HEAD]
    parts += (
        f"- [{title}](#{title.lower().replace(' ', '-')}): "
        + ", ".join(
            f"[{item[method]['summary']}](#{item[method]['operationId'].lower()})"
            for method, _, item in operations
        )
        + "\n"
        for title, operations in groups.items()
    )
    for title, operations in groups.items():
        parts.append(f"\n## {title}\n")
        parts += (_operation(described, *operation) for operation in operations)
    parts.append("\n## Schemas\n")
    parts += (
        _schema(described, name, schema)
        for name, schema in sorted(described["components"]["schemas"].items())
    )
    return "".join(parts)


def _operation(described: Json, method: str, path: str, item: Json) -> str:
    operation = item[method]
    given = [*item.get("parameters", []), *operation.get("parameters", [])]
    parameters = [resolved(described, one) for one in given]
    parts = [
        f"\n### {operation['summary']} {{ #{operation['operationId'].lower()} }}\n\n",
        f"`{method.upper()} {path}`\n",
    ]
    if operation.get("description"):
        parts.append(f"\n{operation['description']}\n")
    if operation.get("security") == []:
        parts.append("\nNeeds no key.\n")
    if parameters:
        parts.append("\n| parameter | in | type | |\n|---|---|---|---|\n")
        parts += (
            f"| `{one['name']}`{' (needed)' if one.get('required') else ''} | {one['in']} "
            f"| {_type(one['schema'])} | {_cell(one['description'])} |\n"
            for one in parameters
        )
    content = operation.get("requestBody", {}).get("content", {})
    if content:
        parts.append("\n| body | type | |\n|---|---|---|\n")
        parts += (
            f"| `{kind}` | {_type(one['schema'])} "
            f"| {_cell(resolved(described, one['schema']).get('description', ''))} |\n"
            for kind, one in content.items()
        )
    parts.append(f"\n```sh\n{_curl(method, path, parameters, content)}\n```\n")
    parts.append("\n| status | answer | |\n|---|---|---|\n")
    for status, given_answer in sorted(operation["responses"].items()):
        one = resolved(described, given_answer)
        kinds = one.get("content", {})
        shown = " or ".join(dict.fromkeys(_type(kind.get("schema", {})) for kind in kinds.values()))
        parts.append(f"| {status} | {shown} | {_cell(one['description'])} |\n")
    return "".join(parts)


def _curl(method: str, path: str, parameters: list[Json], content: Json) -> str:
    target = path
    query = []
    headers = []
    for one in parameters:
        name = one["name"]
        if one["in"] == "path":
            target = target.replace(f"{{{name}}}", _sample(name))
        elif one.get("required") and one["in"] == "query":
            query.append(f"{name}=…")
        elif one.get("required"):
            choices = one["schema"].get("enum")
            headers.append(f"{name}: {choices[0] if choices else 0}")
    words = ["curl -s"]
    if method == "head":
        words[0] += "I"
    elif method not in {"get", "post"} or (method == "post" and not content):
        words[0] += f" -X {method.upper()}"
    address = f"$PENSTOCK_URL{target}" + (f"?{'&'.join(query)}" if query else "")
    words.append(f'"{address}"')
    words.append('-H "Authorization: Bearer $PENSTOCK_API_KEY"')
    if content:
        kind, first = next(iter(content.items()))
        headers.append(f"Content-Type: {kind}")
        example = first.get("example", "…")
        text = example if isinstance(example, str) else json.dumps(example, ensure_ascii=False)
        headers_text = [f"-H {shlex.quote(header)}" for header in headers]
        return " \\\n  ".join([*words, *headers_text, f"-d {shlex.quote(text)}"])
    return " \\\n  ".join([*words, *(f"-H {shlex.quote(header)}" for header in headers)])


def _sample(name: str) -> str:
    prefix = {"request_id": "req_…", "webhook_id": "whk_…", "event_id": "msg_…"}.get(name)
    if prefix:
        return prefix
    return "1" if name.endswith("number") else "…"


def _schema(described: Json, name: str, schema: Json) -> str:
    parts = [f"\n### {name}\n"]
    if schema.get("description"):
        parts.append(f"\n{schema['description']}\n")
    if "oneOf" in schema:
        parts.append(f"\nOne of: {_type(schema)}.\n")
    needed = set(schema.get("required", ()))
    rows = [*_rows(described, schema, "", needed)][:INLINE_ROWS_MAX]
    if rows:
        parts.append("\n| member | type | |\n|---|---|---|\n")
        parts += rows
    elif "oneOf" not in schema and schema.get("type") != "object":
        parts.append(f"\n{_type(schema)}\n")
    return "".join(parts)


def _rows(described: Json, schema: Json, prefix: str, needed: set[str]) -> list[str]:
    rows = []
    for member, one in schema.get("properties", {}).items():
        mark = "" if member in needed or not needed else " (optional)"
        rows.append(
            f"| `{prefix}{member}`{mark} | {_type(one)} | {_cell(one.get('description', ''))} |\n"
        )
        inner = one.get("items", one) if isinstance(one.get("items", one), dict) else one
        deeper = prefix + member + ("[]" if inner is not one else "") + "."
        rows += _rows(described, inner, deeper, set(inner.get("required", ())))
    return rows


def _type(schema: Json) -> str:
    if "enum" in schema:
        return " \\| ".join(f"`{one}`" for one in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "$ref" in schema:
        name = str(schema["$ref"]).rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    for several in ("oneOf", "anyOf"):
        if several in schema:
            return " or ".join(_type(one) for one in schema[several])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"array of {_type(schema['items'])}"
    text = " or ".join(kind) if isinstance(kind, list) else str(kind)
    bounds = [f"{word} {schema[key]}" for key, word in _BOUNDS if key in schema]
    return f"{text} ({', '.join(bounds)})" if bounds else text


_BOUNDS: Final = (
    ("minimum", "from"),
    ("maximum", "to"),
    ("maxLength", "characters up to"),
    ("maxItems", "elements up to"),
)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
