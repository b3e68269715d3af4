"""What the head of a submission says about its body: which form, which encoding, how long.

Three forms lead to one core: JSON with `input_data`, the JSONL itself, and a form with a file.
"""

import re
from types import MappingProxyType
from typing import Final

import msgspec
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, QueryParams

from penstock.api.options import OPTION_NAMES
from penstock.blobs.fetch import Source
from penstock.core.job import PRIORITY, PRIORITY_MAX
from penstock.errors import InvalidRequest, UnsupportedMedia
from penstock.ingest.compressed import ENCODINGS
from penstock.ingest.intake import Envelope
from penstock.ingest.upload import Form, Upload

INPUT_URI: Final = "input_uri"
MODEL_HEADER: Final = "X-Penstock-Model"
PRIORITY_HEADER: Final = "X-Penstock-Priority"
_PRIORITY: Final = re.compile(r"[0-9]{1,4}")
_ALIASES: Final = {"x-gzip": "gzip"}
_SUFFIXES: Final = MappingProxyType({".gz": "gzip", ".zst": "zstd"})


JSONL_TYPES: Final = (
    b"application/jsonl",
    b"application/x-ndjson",
    b"application/x-jsonlines",
    b"application/jsonlines",
)
_FORMS: Final = MappingProxyType(
    {b"multipart/form-data": Form.MULTIPART} | dict.fromkeys(JSONL_TYPES, Form.JSONL)
)


def read_head(headers: Headers, query: QueryParams) -> Upload:
    """Return what is to come; raises `UnsupportedMedia`, or `InvalidRequest` for the query.

    A type that is not known counts as JSON, because existing clients send all kinds.
    """
    kind, options = parse_options_header(headers.get("content-type"))
    form = _FORMS.get(kind.strip(), Form.JSON)
    if INPUT_URI in query:
        _check_empty(headers)
        form = Form.JSONL
    length = headers.get("content-length")
    return Upload(
        form=form,
        encoding=_encoding(headers.getlist("content-encoding")),
        # The HTTP parser has refused anything but digits.
        content_length=None if length is None else int(length),
        boundary=options.get(b"boundary", b"") if form is Form.MULTIPART else b"",
        envelope=_envelope(headers, query if form is not Form.JSON else QueryParams()),
    )


def read_priority(headers: Headers) -> int:
    """Return the place of a submission among the jobs of its organisation.

    A header, because the query and `payload` belong to the caller: all of that comes back.
    """
    values = headers.getlist(PRIORITY_HEADER)
    if not values:
        return PRIORITY
    text = values[0]
    if len(values) > 1 or not _PRIORITY.fullmatch(text) or not 1 <= int(text) <= PRIORITY_MAX:
        raise InvalidRequest(
            f"{PRIORITY_HEADER} is not one whole number between 1 and {PRIORITY_MAX}.",
            code="invalid_priority",
            hint=f"The lowest number goes first; without the header it is {PRIORITY}.",
        )
    return int(text)


def pulled(source: Source, envelope: Envelope) -> Upload:
    """Return the submission whose lines a source holds; raises `UnsupportedMedia`.

    What the server says of the encoding counts more than a name.
    """
    suffix = next((name for end, name in _SUFFIXES.items() if source.shown.endswith(end)), "")
    return Upload(
        form=Form.JSONL,
        encoding=_encoding([source.encoding or suffix]),
        content_length=source.content_length,
        boundary=b"",
        # From here on the address is only told, so it stands there as it is shown.
        envelope=msgspec.structs.replace(envelope, input_uri=source.shown),
    )


def _encoding(values: list[str]) -> str | None:
    named = [part.strip().lower() for value in values for part in value.split(",")]
    named = [_ALIASES.get(name, name) for name in named if name not in ("", "identity")]
    if not named:
        return None
    if len(named) > 1 or named[0] not in ENCODINGS:
        raise UnsupportedMedia(
            f"The body is encoded as {', '.join(named)[:40]!r}; "
            f"one of {', '.join(ENCODINGS)} is read, or none.",
            hint=f"Use one Content-Encoding of {', '.join(ENCODINGS)}, or leave it out.",
        )
    return named[0]


def _envelope(headers: Headers, query: QueryParams) -> Envelope:
    payload: dict[str, str] = {}
    for name, value in query.multi_items():
        if name in OPTION_NAMES:
            continue
        if name in payload:
            raise _bad_query("duplicate_member", f"{name[:40]!r} stands twice in the query")
        payload[name] = value
    if "input_data" in payload:
        raise _bad_query("ambiguous_input", "`input_data` stands in the query and in the body")
    uri = payload.pop(INPUT_URI, None)
    named = headers.get(MODEL_HEADER)
    model = payload.pop("model", named)
    if named is not None and named != model:
        raise _bad_query("ambiguous_model", f"the query and {MODEL_HEADER} name different models")
    return Envelope(model=model, payload=payload, flat=True, input_uri=uri)


def check_one_input(upload: Upload) -> None:
    """Raise `InvalidRequest` for an address beside a body; one that comes in pieces ends here."""
    if upload.envelope.input_uri is not None and upload.content_length:
        raise _bad_query("ambiguous_input", f"`{INPUT_URI}` stands in the query, and a body came")


def _check_empty(headers: Headers) -> None:
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        raise _bad_query(
            "ambiguous_input", f"`{INPUT_URI}` stands in the query, and there is a body"
        )


def _bad_query(code: str, message: str) -> InvalidRequest:
    return InvalidRequest(
        f"The request is not accepted: {message}.",
        code=code,
        hint="Send each option once; which one counts would be a guess.",
    )
