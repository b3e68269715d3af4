"""The API as OpenAPI 3.1, with the models and limits of this very server."""

from functools import cached_property
from typing import Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from penstock import __version__
from penstock.api.answers import json_answer
from penstock.api.doors import INPUT_URI, MODEL_HEADER, PRIORITY_HEADER
from penstock.api.jobs import JobDoor
from penstock.api.openapi_images import IMAGES_PARAMETER, image_paths
from penstock.api.openapi_lines import LINE_SCHEMAS, line_paths
from penstock.api.openapi_money import MONEY_SCHEMAS
from penstock.api.openapi_partial import PARTIAL_SCHEMAS, partial_paths
from penstock.api.openapi_pieces import Json, answer, described, operation, parameter, problem
from penstock.api.openapi_preflight import (
    OPTIONS_SCHEMA,
    VALIDATION_SCHEMA,
    label_schema,
    name_parameters,
    option_parameters,
    validate_parameter,
)
from penstock.api.openapi_retry import retry_paths
from penstock.api.openapi_schemas import SCHEMAS
from penstock.api.openapi_tenants import TENANT_SCHEMAS, tenant_paths
from penstock.api.openapi_usage import (
    QUOTA_SCHEMA,
    USAGE_SCHEMA,
    key_parameter,
    priority_parameter,
    usage_paths,
)
from penstock.api.openapi_waiting import WAITING_SCHEMA, metrics_paths
from penstock.api.openapi_webhooks import WEBHOOK_SCHEMAS, webhook_events, webhook_paths
from penstock.api.pages import NAME_PREFIX, PREFIX
from penstock.api.reference_page import STYLE, page
from penstock.api.request_queue_record import DOWNLOAD_PATH
from penstock.api.upload_fields import COMPLETE, LENGTH, LIMIT, OFFSET, PARTIAL_TYPE
from penstock.core.models import REQUEST_QUEUE_MODEL
from penstock.core.naming import LABEL, NAME
from penstock.ingest.compressed import ENCODINGS
from penstock.ingest.upload import Form

_BASE: Final = "/api/v1/ie/requestqueue/apikey"
_PAGE_POLICY: Final = "default-src 'none'; style-src 'self'; frame-ancestors 'none'"


class Reference:
    """`/openapi.json`, `/docs` and its style sheet."""

    def __init__(self, door: JobDoor) -> None:
        self._door = door

    # Made when somebody asks, which takes a few milliseconds; most servers are never asked.
    @cached_property
    def _document(self) -> Json:
        return document(self._door)

    @cached_property
    def _page(self) -> str:
        return page(self._document)

    def routes(self) -> list[Route]:
        """Return the routes; none needs a key, for none tells anything of a tenant."""
        return [
            Route("/openapi.json", self.json),
            Route("/docs", self.html),
            Route("/docs/style.css", self.style),
        ]

    async def json(self, _request: Request) -> Response:
        """Return the document."""
        return json_answer(self._document)

    async def html(self, _request: Request) -> Response:
        """Return the page."""
        return HTMLResponse(self._page, headers={"Content-Security-Policy": _PAGE_POLICY})

    async def style(self, _request: Request) -> Response:
        """Return the page's style."""
        return Response(STYLE, media_type="text/css")


_USED: Final = ("Usage", "Spent")


def document(door: JobDoor) -> Json:
    """Return the OpenAPI document of this server: its models and limits are in it."""
    paths = {**_requests(door), **_uploads(door), **_models(), **_files(), **_health()}
    paths |= line_paths(door.limits) | partial_paths(_BASE) | retry_paths(_BASE, door.limits)
    paths |= tenant_paths(door.limits) | webhook_paths(door.limits) | usage_paths(door.limits)
    paths |= metrics_paths() | image_paths(door.limits)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Penstock request queue",
            "version": __version__,
            "summary": "Gemini batch inference: one proven answer per line, at half the price.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "paths": paths,
        "webhooks": webhook_events(),
        "components": {
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key, pk_…"}
            },
            "parameters": {
                "organization": parameter(
                    "X-Organization-ID", "header", "Act for this organisation.", {"type": "string"}
                ),
                "request_id": {
                    **parameter("request_id", "path", "The request's id.", {"type": "string"}),
                    "required": True,
                },
            },
            "responses": {
                name: answer(text, "Error")
                for name, text in (
                    ("Invalid", "Bad JSON, bad lines (all of them at once) or an unknown model."),
                    ("Unauthenticated", "No key, or one that is not known."),
                    ("OverCost", "Expected to cost more than max_cost_usd."),
                    ("Forbidden", "The key may not do this."),
                    ("NotFound", "No such id, or another tenant's: the two answer alike."),
                    ("Conflict", "The state of the thing does not allow it."),
                    ("TooLarge", "Over a limit in bytes or lines."),
                    ("UnsupportedMedia", "The body has a Content-Encoding that is not read."),
                    ("Locked", "Another request is working on the upload."),
                    ("TooMany", "As many as there may be; see `quota` and Retry-After."),
                    ("SourceRefused", "No input at input_uri, or another submission had the key."),
                    ("Unavailable", "Not now; see Retry-After."),
                    ("StorageFull", "No room for the upload; see Retry-After."),
                )
            }
            | {
                name: problem(text)
                for name, text in (
                    ("InvalidPiece", "The headers contradict each other, or the whole is wrong."),
                    ("PieceConflict", "The piece begins elsewhere, or another request ended it."),
                )
            },
            "schemas": _schemas(),
        },
    }


def _schemas() -> Json:
    return {
        **SCHEMAS,
        **LINE_SCHEMAS,
        **PARTIAL_SCHEMAS,
        **TENANT_SCHEMAS,
        **WEBHOOK_SCHEMAS,
        "Options": OPTIONS_SCHEMA,
        "Validation": VALIDATION_SCHEMA,
        "Quota": QUOTA_SCHEMA,
        **MONEY_SCHEMAS,
        "Usage": USAGE_SCHEMA,
        "UsageOrSpent": {"oneOf": [{"$ref": f"#/components/schemas/{name}"} for name in _USED]},
        "Waiting": WAITING_SCHEMA,
    }


def _submit(door: JobDoor) -> Json:
    limits = door.limits
    submit = operation(
        "submitRequest",
        "Submit a batch",
        f"Up to {limits.job_bytes_max} decoded bytes and {limits.job_lines_max} requests. "
        f"Models: {', '.join(door.models)}. 200 means that the job is durable. "
        "The input comes as a string in JSON, as the JSONL itself, or as a file in a form; a type "
        f"that is not listed counts as JSON. Each may be compressed ({', '.join(ENCODINGS)}).",
        {"200": answer("The request record.", "Record")},
        (
            "Invalid",
            "Unauthenticated",
            "OverCost",
            "Forbidden",
            "TooLarge",
            "UnsupportedMedia",
            "SourceRefused",
            "Conflict",
            "Unavailable",
            "StorageFull",
        ),
    )
    elsewhere = "The Gemini model, unless the body is JSON, which names it inside."
    submit["parameters"] += [
        parameter("Content-Encoding", "header", "Of the body.", {"enum": list(ENCODINGS)}),
        parameter("model", "query", elsewhere, {"type": "string"}),
        parameter(MODEL_HEADER, "header", "The same as model.", {"type": "string"}),
        priority_parameter(PRIORITY_HEADER),
        key_parameter(limits),
        parameter(
            INPUT_URI, "query", "Where the JSONL lies; the body is empty then.", {"type": "string"}
        ),
        validate_parameter(),
        *option_parameters(),
        *name_parameters(limits),
        {
            **parameter(
                "options",
                "query",
                "Any other names, unless the body is JSON; they come back in payload.",
                {"type": "object", "additionalProperties": {"type": "string"}},
            ),
            "style": "form",
            "explode": True,
        },
    ]
    submit["responses"]["200"]["content"]["application/json"]["schema"] = {
        "oneOf": [
            {"$ref": "#/components/schemas/Record"},
            {"$ref": "#/components/schemas/Validation"},
        ]
    }
    line = (
        '{"key": "1", "request": {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}}\n'
    )
    payload = {"model": door.default_model, "input_data": line}
    contents = {
        Form.JSON: ("Submission", {"model": REQUEST_QUEUE_MODEL, "payload": payload}),
        Form.JSONL: ("Lines", line),
        Form.MULTIPART: ("Upload", {"model": door.default_model, "file": line}),
    }
    submit["requestBody"] = {
        "required": True,
        "content": {
            form.value: {"schema": {"$ref": f"#/components/schemas/{name}"}, "example": example}
            for form, (name, example) in contents.items()
        },
    }
    return submit


def _requests(door: JobDoor) -> Json:
    listing = operation(
        "listRequests",
        "List your batches",
        "Newest first.",
        {"200": answer("One page.", "Page")},
        ("Invalid", "Unauthenticated", "Forbidden"),
    )
    listing["parameters"] += [
        parameter("model_id", "query", f"{REQUEST_QUEUE_MODEL}, any case.", {"type": "string"}),
        parameter("model", "query", "The same as model_id.", {"type": "string"}),
        parameter("status", "query", "One status.", SCHEMAS["Record"]["properties"]["status"]),
        parameter("limit", "query", "Clamped to 200.", {"type": "integer", "minimum": 1}),
        parameter("offset", "query", "Skip so many.", {"type": "integer", "minimum": 0}),
        parameter(
            "cursor", "query", "next_cursor of the page before, same filters.", {"type": "string"}
        ),
        parameter(NAME, "query", "Exactly this name.", {"type": "string"}),
        parameter(
            LABEL,
            "query",
            "key:value; of several, all.",
            {"type": "array", "items": label_schema(door.limits)},
        ),
        parameter(PREFIX, "query", "Ids that begin so.", {"type": "string"}),
        parameter(NAME_PREFIX, "query", "Names that begin so.", {"type": "string"}),
    ]
    return {
        f"{_BASE}/requests": {"post": _submit(door), "get": listing},
        f"{_BASE}/requests/{{request_id}}": {
            "parameters": [{"$ref": "#/components/parameters/request_id"}],
            "get": operation(
                "getRequest",
                "Check status",
                "",
                {"200": answer("The request record.", "Record")},
                ("Unauthenticated", "Forbidden", "NotFound"),
            ),
            "delete": _cancel("deleteRequest"),
        },
        f"{_BASE}/requests/{{request_id}}/cancel": {
            "parameters": [{"$ref": "#/components/parameters/request_id"}],
            "post": _cancel("cancelRequest"),
        },
    }


def _uploads(door: JobDoor) -> Json:
    refusals = ("Unauthenticated", "Forbidden", "NotFound")
    create = operation(
        "createUpload",
        "Begin a submission in pieces",
        "Headers and query as for POST /requests; the body, if any, is the first piece. Goes on "
        f"with PATCH at Location for {door.limits.upload_seconds_max} seconds. Resumable Uploads "
        "for HTTP, draft-ietf-httpbis-resumable-upload-12, without 104 answers.",
        {
            "200": answer("The body was the whole: the request record.", "Record"),
            "201": described("Begun; Location is the upload's address.", "Location", OFFSET, LIMIT),
        },
        ("InvalidPiece", *refusals[:2], "TooLarge", "UnsupportedMedia", "TooMany", "Unavailable"),
    )
    create["parameters"] += [_COMPLETE, _LENGTH, priority_parameter(PRIORITY_HEADER)]
    create["parameters"] += option_parameters() + name_parameters(door.limits)
    limits = operation(
        "getUploadLimits",
        "Limits of an upload",
        "",
        {"204": described("max-size in bytes, max-age in seconds.", LIMIT)},
        refusals[:2],
    )
    offset = operation(
        "getUploadOffset",
        "Where to go on",
        "HEAD gives the same. Ends a piece that is still coming; what it brought is counted.",
        {"204": described("The bytes that are stored.", OFFSET, COMPLETE, LENGTH, LIMIT)},
        ("Invalid", *refusals),
    )
    cancel = operation(
        "deleteUpload",
        "Remove an upload",
        "A job that was made of it stays.",
        {"204": {"description": "Removed."}},
        (*refusals, "Locked"),
    )
    return {
        f"{_BASE}/uploads": {"post": create, "options": limits},
        f"{_BASE}/uploads/{{upload_id}}": {
            "parameters": [
                {
                    **parameter("upload_id", "path", "The upload's id.", {"type": "string"}),
                    "required": True,
                }
            ],
            "get": offset,
            "patch": _append(refusals),
            "delete": cancel,
        },
    }


def _append(refusals: tuple[str, ...]) -> Json:
    append = operation(
        "appendUpload",
        "Send a piece",
        "What came before a cut is stored: ask for the offset and go on. The last piece answers as "
        "POST /requests does; sent again, it gives the same job. A refusal of the whole, or bytes "
        "beyond what was announced, remove the upload.",
        {
            "200": answer("It was the last piece: the request record.", "Record"),
            "204": described("Stored.", OFFSET, COMPLETE, LENGTH, LIMIT),
        },
        (
            "InvalidPiece",
            *refusals,
            "PieceConflict",
            "TooLarge",
            "UnsupportedMedia",
            "Locked",
            "Unavailable",
        ),
    )
    begins = parameter(OFFSET, "header", "Where the piece begins.", {"type": "integer"})
    append["parameters"] += [{**begins, "required": True}, _COMPLETE, _LENGTH]
    piece = {"type": "string", "format": "binary", "description": "Bytes of the whole."}
    append["requestBody"] = {
        "required": True,
        "content": {PARTIAL_TYPE: {"schema": piece, "example": "…"}},
    }
    return append


def _cancel(name: str) -> Json:
    return operation(
        name,
        "Cancel",
        "Finished lines, if any, are delivered. Asking twice is the same as once.",
        {"200": answer("The request record.", "Record")},
        ("Unauthenticated", "Forbidden", "NotFound", "Conflict"),
    )


def _models() -> Json:
    return {
        f"{_BASE}/models": {
            "get": operation(
                "listModels",
                "List models",
                "",
                {"200": answer("The models.", "Models")},
                ("Unauthenticated", "Forbidden"),
            )
        },
        f"{_BASE}/models/{{model_id}}": {
            "parameters": [
                {
                    **parameter("model_id", "path", "Any case.", {"type": "string"}),
                    "required": True,
                }
            ],
            "get": operation(
                "getModel",
                "Parameters, limits and prices",
                "",
                {"200": answer("The detail.", "Model")},
                ("Unauthenticated", "Forbidden", "NotFound"),
            ),
        },
    }


def _files() -> Json:
    content = {"application/jsonl": {"schema": {"type": "string", "format": "binary"}}}
    return {
        DOWNLOAD_PATH: {
            "parameters": [{"$ref": "#/components/parameters/request_id"}],
            "get": {
                "operationId": "downloadOutput",
                "summary": "Download the output",
                "description": (
                    "output_url is such a link, signed and expiring; it needs no key. With "
                    "`Accept-Encoding: zstd` the bytes come compressed, with an ETag of their "
                    "own; a range is always one of the plain bytes. A cut download goes on with "
                    "`Range` and `If-Range`. A link in outcome.partial, with `partial=true`, is to "
                    "one look at a request that runs, and ends with the next look."
                ),
                "security": [],
                "parameters": [
                    IMAGES_PARAMETER,
                    parameter("partial", "query", "Of a look.", {"const": "true"}),
                    parameter("expires", "query", "Unix seconds.", {"type": "integer"}),
                    parameter("signature", "query", "Ours.", {"type": "string"}),
                    parameter("Range", "header", "One range of bytes.", {"type": "string"}),
                    parameter("If-Range", "header", "The ETag so far.", {"type": "string"}),
                ],
                "responses": {
                    "200": {"description": "Line k answers line k.", "content": content},
                    "206": {"description": "A part.", "content": content},
                    "304": {"description": "Unchanged."},
                    "403": {"$ref": "#/components/responses/Forbidden"},
                    "416": {"description": "The range is outside the file."},
                    "503": {"description": "Too many downloads run; see Retry-After."},
                },
            },
        }
    }


def _health() -> Json:
    def probe(name: str, summary: str) -> Json:
        answers = {
            "200": {"description": "Yes.", "content": {"application/json": {"schema": {}}}},
            "503": {"description": "No.", "content": {"application/json": {"schema": {}}}},
        }
        return {
            "get": {
                "operationId": name,
                "summary": summary,
                "security": [],
                "responses": answers,
            }
        }

    return {
        "/healthz": probe("alive", "Does the process answer?"),
        "/readyz": probe("ready", "Can it accept a job?"),
    }


_COMPLETE: Final = {
    **parameter(
        COMPLETE, "header", "?1 with the last piece, ?0 with the others.", {"enum": ["?1", "?0"]}
    ),
    "required": True,
}
_LENGTH: Final = parameter(LENGTH, "header", "Bytes of the whole.", {"type": "integer"})
