"""What the head of a submission says about its body: which form, which encoding, how long.

Three forms lead to one core: JSON with `input_data`, the JSONL itself, and a form with a file.
"""

import enum
from collections.abc import Callable
from types import MappingProxyType
from typing import Final

import msgspec
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, QueryParams

from penstock.core.limits import Limits
from penstock.errors import InvalidRequest, TooLarge, UnsupportedMedia
from penstock.ingest.check import UTF8_BOM
from penstock.ingest.compressed import ENCODINGS, FREE_BYTES, Decompressing
from penstock.ingest.intake import BodyIntake, Envelope, Intake
from penstock.ingest.multipart import MultipartIntake
from penstock.ingest.raw import RawIntake

MODEL_HEADER: Final = "X-Penstock-Model"
_ALIASES: Final = {"x-gzip": "gzip"}


class Form(enum.Enum):
    """The forms of a body."""

    JSON = "application/json"
    JSONL = "application/jsonl"
    MULTIPART = "multipart/form-data"


JSONL_TYPES: Final = (
    b"application/jsonl",
    b"application/x-ndjson",
    b"application/x-jsonlines",
    b"application/jsonlines",
)
_FORMS: Final = MappingProxyType(
    {b"multipart/form-data": Form.MULTIPART} | dict.fromkeys(JSONL_TYPES, Form.JSONL)
)


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A submission's body as its head announces it."""

    form: Form
    encoding: str | None
    """One of `ENCODINGS`; None for a plain body."""

    content_length: int | None
    boundary: bytes
    """Of a multipart body; empty for others."""

    envelope: Envelope
    """What the query and the headers say; the JSON form says all of it in the body."""

    def check_length(self, limits: Limits) -> None:
        """Raise `TooLarge` when no good input can need the declared length.

        Compressed bytes may become any number, but never need to be more than the plain ones.
        """
        most = limits.body_bytes_max
        if self.form is Form.JSONL and self.encoding is None:
            most = limits.job_bytes_max + len(UTF8_BOM)
        if self.content_length is not None and self.content_length > most:
            raise TooLarge(
                f"The body has {self.content_length} bytes; no input within the limit of "
                f"{limits.job_bytes_max} decoded bytes needs more than {most}.",
                code="input_too_large",
                hint="Split the file into several requests.",
            )

    def room(self, limits: Limits) -> int:
        """Return the bytes that must be free on the disk before the first one is taken."""
        if not self.content_length:
            return limits.job_bytes_max
        if self.encoding is None:
            return self.content_length
        most = max(FREE_BYTES, self.content_length * limits.compression_ratio_max)
        return min(limits.job_bytes_max, most)

    def open(
        self,
        limits: Limits,
        *,
        write: Callable[[bytes], object],
        write_index: Callable[[bytes], object],
    ) -> BodyIntake:
        """Return what takes the body; raises `InvalidRequest` for a bad boundary."""
        intake: BodyIntake
        if self.form is Form.JSONL:
            intake = RawIntake(limits, self.envelope, write=write, write_index=write_index)
        elif self.form is Form.MULTIPART:
            intake = MultipartIntake(
                limits, self.boundary, self.envelope, write=write, write_index=write_index
            )
        else:
            intake = Intake(limits, write=write, write_index=write_index)
        return intake if self.encoding is None else Decompressing(intake, self.encoding, limits)


def read_head(headers: Headers, query: QueryParams) -> Upload:
    """Return what is to come; raises `UnsupportedMedia`, or `InvalidRequest` for the query.

    A type that is not known counts as JSON, because existing clients send all kinds.
    """
    kind, options = parse_options_header(headers.get("content-type"))
    form = _FORMS.get(kind.strip(), Form.JSON)
    length = headers.get("content-length")
    return Upload(
        form=form,
        encoding=_encoding(headers.getlist("content-encoding")),
        # The HTTP parser has refused anything but digits.
        content_length=None if length is None else int(length),
        boundary=options.get(b"boundary", b"") if form is Form.MULTIPART else b"",
        envelope=_envelope(headers, query if form is not Form.JSON else QueryParams()),
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
        if name in payload:
            raise _bad_query("duplicate_member", f"{name[:40]!r} stands twice in the query")
        payload[name] = value
    if "input_data" in payload:
        raise _bad_query("ambiguous_input", "`input_data` stands in the query and in the body")
    named = headers.get(MODEL_HEADER)
    model = payload.pop("model", named)
    if named is not None and named != model:
        raise _bad_query("ambiguous_model", f"the query and {MODEL_HEADER} name different models")
    return Envelope(model=model, payload=payload, flat=True)


def _bad_query(code: str, message: str) -> InvalidRequest:
    return InvalidRequest(
        f"The request is not accepted: {message}.",
        code=code,
        hint="Send each option once; which one counts would be a guess.",
    )
