"""The API as OpenAPI 3.1, with the models and limits of this very server."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from penstock import __version__
from penstock.api.answers import json_answer
from penstock.api.doors import INPUT_URI, MODEL_HEADER
from penstock.api.jobs import JobDoor
from penstock.api.openapi_schemas import SCHEMAS
from penstock.api.reference_page import STYLE, page
from penstock.api.request_queue_record import DOWNLOAD_PATH
from penstock.api.upload_fields import COMPLETE, LENGTH, LIMIT, OFFSET, PARTIAL_TYPE
from penstock.core.models import REQUEST_QUEUE_MODEL
from penstock.ingest.compressed import ENCODINGS
from penstock.ingest.upload import Form

Json = dict[str, Any]

_BASE: Final = "/api/v1/ie/requestqueue/apikey"
_PAGE_POLICY: Final = "default-src 'none'; style-src 'self'; frame-ancestors 'none'"


class Reference:
    """`/openapi.json`, `/docs` and its style sheet."""

    def __init__(self, door: JobDoor) -> None:
        self._document = document(door)
        self._page = page(self._document)

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


def document(door: JobDoor) -> Json:
    """Return the OpenAPI document of this server: its models and limits are in it."""
    paths = {**_requests(door), **_uploads(door), **_models(), **_files(), **_health()}
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
        "components": {
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key, pk_…"}
            },
            "parameters": {
                "organization": _parameter(
                    "X-Organization-ID", "header", "Act for this organisation.", {"type": "string"}
                ),
                "request_id": {
                    **_parameter("request_id", "path", "The request's id.", {"type": "string"}),
                    "required": True,
                },
            },
            "responses": {
                name: _answer(text, "Error")
                for name, text in (
                    ("Invalid", "Bad JSON, bad lines (all of them at once) or an unknown model."),
                    ("Unauthenticated", "No key, or one that is not known."),
                    ("Forbidden", "The key may not do this."),
                    ("NotFound", "No such id, or another tenant's: the two answer alike."),
                    ("Conflict", "The request has ended."),
                    ("TooLarge", "Over a limit in bytes or lines."),
                    ("UnsupportedMedia", "The body has a Content-Encoding that is not read."),
                    ("Locked", "Another request is working on the upload."),
                    ("TooMany", "The organisation has as many unfinished uploads as it may have."),
                    ("SourceRefused", "What input_uri names cannot be read."),
                    ("Unavailable", "Not now; see Retry-After."),
                    ("StorageFull", "No room for the upload; see Retry-After."),
                )
            },
            "schemas": SCHEMAS,
        },
    }


def _submit(door: JobDoor) -> Json:
    limits = door.limits
    submit = _operation(
        "submitRequest",
        "Submit a batch",
        f"Up to {limits.job_bytes_max} decoded bytes and {limits.job_lines_max} requests. "
        f"Models: {', '.join(sorted(door.models))}. 200 means that the job is durable. "
        "The input comes as a string in JSON, as the JSONL itself, or as a file in a form; a type "
        f"that is not listed counts as JSON. Each may be compressed ({', '.join(ENCODINGS)}).",
        {"200": _answer("The request record.", "Record")},
        (
            "Invalid",
            "Unauthenticated",
            "Forbidden",
            "TooLarge",
            "UnsupportedMedia",
            "SourceRefused",
            "Unavailable",
            "StorageFull",
        ),
    )
    elsewhere = "The Gemini model, unless the body is JSON, which names it inside."
    submit["parameters"] += [
        _parameter("Content-Encoding", "header", "Of the body.", {"enum": list(ENCODINGS)}),
        _parameter("model", "query", elsewhere, {"type": "string"}),
        _parameter(MODEL_HEADER, "header", "The same as model.", {"type": "string"}),
        _parameter(
            INPUT_URI, "query", "Where the JSONL lies; the body is empty then.", {"type": "string"}
        ),
        {
            **_parameter(
                "options",
                "query",
                "Any other names, unless the body is JSON; they come back in payload.",
                {"type": "object", "additionalProperties": {"type": "string"}},
            ),
            "style": "form",
            "explode": True,
        },
    ]
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
    listing = _operation(
        "listRequests",
        "List your batches",
        "Newest first.",
        {"200": _answer("One page.", "Page")},
        ("Invalid", "Unauthenticated", "Forbidden"),
    )
    listing["parameters"] += [
        _parameter("model_id", "query", f"{REQUEST_QUEUE_MODEL}, any case.", {"type": "string"}),
        _parameter("model", "query", "The same as model_id.", {"type": "string"}),
        _parameter("status", "query", "One status.", SCHEMAS["Record"]["properties"]["status"]),
        _parameter("limit", "query", "Clamped to 200.", {"type": "integer", "minimum": 1}),
        _parameter("offset", "query", "Skip so many.", {"type": "integer", "minimum": 0}),
        _parameter("cursor", "query", "next_cursor of the page before.", {"type": "string"}),
    ]
    return {
        f"{_BASE}/requests": {"post": _submit(door), "get": listing},
        f"{_BASE}/requests/{{request_id}}": {
            "parameters": [{"$ref": "#/components/parameters/request_id"}],
            "get": _operation(
                "getRequest",
                "Check status",
                "",
                {"200": _answer("The request record.", "Record")},
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
    create = _operation(
        "createUpload",
        "Begin a submission in pieces",
        "Headers and query as for POST /requests; the body, if any, is the first piece. Goes on "
        f"with PATCH at Location for {door.limits.upload_seconds_max} seconds. Resumable Uploads "
        "for HTTP, draft-ietf-httpbis-resumable-upload-12, without 104 answers.",
        {
            "200": _answer("The body was the whole: the request record.", "Record"),
            "201": _described(
                "Begun; Location is the upload's address.", "Location", OFFSET, LIMIT
            ),
        },
        ("Invalid", *refusals[:2], "TooLarge", "UnsupportedMedia", "TooMany", "Unavailable"),
    )
    create["parameters"] += [_COMPLETE, _LENGTH]
    limits = _operation(
        "getUploadLimits",
        "Limits of an upload",
        "",
        {"204": _described("max-size in bytes, max-age in seconds.", LIMIT)},
        refusals[:2],
    )
    offset = _operation(
        "getUploadOffset",
        "Where to go on",
        "HEAD gives the same. Ends a piece that is still coming; what it brought is counted.",
        {"204": _described("The bytes that are stored.", OFFSET, COMPLETE, LENGTH, LIMIT)},
        ("Invalid", *refusals),
    )
    cancel = _operation(
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
                    **_parameter("upload_id", "path", "The upload's id.", {"type": "string"}),
                    "required": True,
                }
            ],
            "get": offset,
            "patch": _append(refusals),
            "delete": cancel,
        },
    }


def _append(refusals: tuple[str, ...]) -> Json:
    append = _operation(
        "appendUpload",
        "Send a piece",
        "What came before a cut is stored: ask for the offset and go on. The last piece answers as "
        "POST /requests does; sent again, it gives the same job. A refusal of the whole, or bytes "
        "beyond what was announced, remove the upload.",
        {
            "200": _answer("It was the last piece: the request record.", "Record"),
            "204": _described("Stored.", OFFSET, COMPLETE, LENGTH, LIMIT),
        },
        ("Invalid", *refusals, "Conflict", "TooLarge", "UnsupportedMedia", "Locked", "Unavailable"),
    )
    begins = _parameter(OFFSET, "header", "Where the piece begins.", {"type": "integer"})
    append["parameters"] += [{**begins, "required": True}, _COMPLETE, _LENGTH]
    piece = {"type": "string", "format": "binary", "description": "Bytes of the whole."}
    append["requestBody"] = {
        "required": True,
        "content": {PARTIAL_TYPE: {"schema": piece, "example": "…"}},
    }
    return append


def _cancel(name: str) -> Json:
    return _operation(
        name,
        "Cancel",
        "Finished lines, if any, are delivered. Asking twice is the same as once.",
        {"200": _answer("The request record.", "Record")},
        ("Unauthenticated", "Forbidden", "NotFound", "Conflict"),
    )


def _models() -> Json:
    return {
        f"{_BASE}/models": {
            "get": _operation(
                "listModels",
                "List models",
                "",
                {"200": _answer("The models.", "Models")},
                ("Unauthenticated", "Forbidden"),
            )
        },
        f"{_BASE}/models/{{model_id}}": {
            "parameters": [
                {
                    **_parameter("model_id", "path", "Any case.", {"type": "string"}),
                    "required": True,
                }
            ],
            "get": _operation(
                "getModel",
                "Parameters, limits and prices",
                "",
                {"200": _answer("The detail.", "Model")},
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
                    "`Range` and `If-Range`."
                ),
                "security": [],
                "parameters": [
                    _parameter("expires", "query", "Unix seconds.", {"type": "integer"}),
                    _parameter("signature", "query", "Ours.", {"type": "string"}),
                    _parameter("Range", "header", "One range of bytes.", {"type": "string"}),
                    _parameter("If-Range", "header", "The ETag so far.", {"type": "string"}),
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


def _operation(
    name: str, summary: str, description: str, answers: Json, refusals: tuple[str, ...]
) -> Json:
    codes = {
        "Invalid": "400",
        "Unauthenticated": "401",
        "Forbidden": "403",
        "NotFound": "404",
        "Conflict": "409",
        "TooLarge": "413",
        "UnsupportedMedia": "415",
        "Locked": "423",
        "TooMany": "429",
        "SourceRefused": "422",
        "Unavailable": "503",
        "StorageFull": "507",
    }
    refused = {
        codes[refusal]: {"$ref": f"#/components/responses/{refusal}"} for refusal in refusals
    }
    return {
        "operationId": name,
        "summary": summary,
        "description": description,
        "parameters": [{"$ref": "#/components/parameters/organization"}],
        "responses": {**answers, **refused},
    }


def _parameter(name: str, place: str, description: str, schema: Json) -> Json:
    return {"name": name, "in": place, "description": description, "schema": schema}


def _described(description: str, *headers: str) -> Json:
    return {
        "description": description,
        "headers": {name: {"schema": {"type": "string"}} for name in headers},
    }


def _answer(description: str, schema: str) -> Json:
    reference = {"$ref": f"#/components/schemas/{schema}"}
    return {
        "description": description,
        "content": {"application/json": {"schema": reference}},
    }


_COMPLETE: Final = {
    **_parameter(
        COMPLETE, "header", "?1 with the last piece, ?0 with the others.", {"enum": ["?1", "?0"]}
    ),
    "required": True,
}
_LENGTH: Final = _parameter(LENGTH, "header", "Bytes of the whole.", {"type": "integer"})
