"""A multipart/form-data body in chunks -> stored, checked, indexed input.

Parsed by callbacks and not into a form: a form would write the file to a disk first. The parts come
in any order, so a model may be named after the input.
"""

import logging
from typing import Final, NoReturn

import python_multipart.exceptions
import python_multipart.multipart

from penstock.core.files import ANY_FILE, FileRule
from penstock.core.limits import Limits
from penstock.core.naming import LABEL, NAME
from penstock.errors import InvalidRequest, TooLarge
from penstock.ingest.blocks import Blocks
from penstock.ingest.intake import Accepted, Envelope, RawOrBase64
from penstock.ingest.jsonl import JsonlIntake
from penstock.ingest.sink import Sink
from penstock.ingest.treatment import STRICT, Treatment

BOUNDARY_BYTES_MAX: Final = 70
"""RFC 2046 5.1.1."""

PARTS_MAX: Final = 64
PART_HEADERS_MAX: Final = 8
PART_HEADER_BYTES_MAX: Final = 4_096

_INPUT: Final = "input_data"
_FILE: Final = "file"
_DISPOSITION: Final = b"content-disposition"
_TRANSFER: Final = b"content-transfer-encoding"
_AS_IT_IS: Final = (b"7bit", b"8bit", b"binary")

# The refusal says what is wrong; a warning for each bad body would let senders fill our log.
logging.getLogger("python_multipart").setLevel(logging.ERROR)


class MultipartIntake:
    """Takes the body in chunks of any size; the sink gets the input that stands in it.

    One part holds the input: `input_data`, JSONL or base64 of it as in the JSON body, or `file`,
    the JSONL file as it is. Every other part is a small field: `model`, the job's `name`, a `label`
    of it, and the caller's own, which are echoed. `envelope` is what the query names already.
    """

    def __init__(
        self,
        limits: Limits,
        boundary: bytes,
        envelope: Envelope,
        sink: Sink,
        files: FileRule = ANY_FILE,
        treatment: Treatment = STRICT,
    ) -> None:
        if not 1 <= len(boundary) <= BOUNDARY_BYTES_MAX:
            _refuse(
                "invalid_multipart",
                f"the boundary in Content-Type has {len(boundary)} bytes, not 1 to "
                f"{BOUNDARY_BYTES_MAX}",
            )
        self._outside_bytes_max = limits.envelope_bytes_max
        self._jsonl = JsonlIntake(limits, sink, files, treatment)
        self._content = RawOrBase64(self._jsonl)
        self._blocks = Blocks(self._take)
        self._fields: dict[str, str] = {**envelope.payload}
        if envelope.model is not None:
            self._fields["model"] = envelope.model
        self._labels: list[str] = []
        self._parts = 0
        self._outside_bytes = 0
        self._input: str | None = None
        self._ended = False
        self._headers: dict[bytes, bytes] = {}
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._name = ""
        self._value = bytearray()
        self._parser = python_multipart.multipart.MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._take_header_name,
                "on_header_value": self._take_header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._take_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
            max_header_count=PART_HEADERS_MAX,
            max_header_size=PART_HEADER_BYTES_MAX,
        )

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises `InvalidRequest` for the parts and for bad base64, `TooLarge` for a limit, and what
        `JsonlIntake.feed` raises.
        """
        self._blocks.feed(chunk)

    def finish(self) -> Accepted:
        """Return what was accepted, when the body has ended.

        Raises `InvalidRequest` `truncated_body` without the final boundary, `missing_input_data`
        without an input, and what `JsonlIntake.finish` raises.
        """
        self._blocks.finish()
        if not self._ended:
            _refuse("truncated_body", "it ends before the final boundary")
        if self._input is None:
            _refuse("missing_input_data", f"no part is named `{_INPUT}` or `{_FILE}`")
        tally = self._jsonl.finish()
        payload = dict(self._fields)
        model = payload.pop("model", None)
        envelope = Envelope(
            model=model,
            payload=payload,
            flat=True,
            name=payload.pop(NAME, None),
            label=tuple(self._labels),
        )
        return Accepted.of(envelope, tally)

    def _take(self, block: bytes) -> None:
        self._outside_bytes += len(block)
        try:
            self._parser.write(block)
        except python_multipart.exceptions.MultipartParseError as error:
            _refuse("invalid_multipart", str(error), error)
        # What belongs to the input was taken off again.
        if self._outside_bytes > self._outside_bytes_max:
            raise TooLarge(
                f"The body has more than {self._outside_bytes_max} bytes outside its input.",
                code="envelope_too_large",
                hint=f"Requests belong into the part `{_FILE}` (limit envelope_bytes_max).",
            )

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > PARTS_MAX:
            raise TooLarge(
                f"The body has more than {PARTS_MAX} parts.",
                code="too_many_parts",
                hint="Send one input, the model and few fields of your own.",
            )
        self._headers.clear()

    def _take_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _take_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        name = bytes(self._header_name).lower()
        if name in self._headers:
            _refuse("invalid_multipart", f"a part has the header {name.decode('latin-1')!r} twice")
        self._headers[name] = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _end_headers(self) -> None:
        """Decide by the headers what the part is."""
        disposition = self._headers.get(_DISPOSITION, b"").decode("latin-1")
        kind, options = python_multipart.multipart.parse_options_header(disposition)
        if kind != b"form-data" or b"name" not in options:
            message = 'a part lacks the header `Content-Disposition: form-data; name="…"`'
            _refuse("invalid_multipart", message)
        if self._headers.get(_TRANSFER, b"8bit").strip().lower() not in _AS_IT_IS:
            _refuse("invalid_multipart", "a part has a Content-Transfer-Encoding")
        self._name = _text(options[b"name"], "the name of a part")
        if self._name in (_INPUT, _FILE):
            if self._input is not None:
                _refuse("ambiguous_input", f"`{self._input}` and `{self._name}` both hold an input")
            self._input = self._name
        elif b"filename" in options:
            message = f"the file part {self._name[:40]!r} is not known"
            _refuse("unknown_file_part", message)
        elif self._name in self._fields:
            _refuse("duplicate_member", f"the field {self._name[:40]!r} stands twice")

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        piece = data[start:end]
        if self._name == _FILE:
            self._jsonl.feed(piece)
        elif self._name == _INPUT:
            self._content.feed(piece)
        else:
            self._value += piece
            return
        self._outside_bytes -= len(piece)

    def _end_part(self) -> None:
        if self._name == _INPUT:
            self._content.finish()
        elif self._name != _FILE:
            text = _text(bytes(self._value), f"the field {self._name[:40]!r}")
            self._value.clear()
            if self._name == LABEL:
                # A job has several of them, so it is the one field that may stand more than once.
                self._labels.append(text)
            else:
                self._fields[self._name] = text

    def _end(self) -> None:
        self._ended = True


def _text(value: bytes, what: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        _refuse("invalid_utf8", f"{what} is not UTF-8", error)


def _refuse(code: str, message: str, cause: Exception | None = None) -> NoReturn:
    raise InvalidRequest(
        f"The multipart body is not accepted: {message}.",
        code=code,
        hint=_HINTS.get(code, "Let an HTTP library write the form."),
    ) from cause


_EXAMPLE: Final = "curl -F model=gemini-3-flash-preview -F file=@requests.jsonl"
_HINTS: Final = {
    "truncated_body": "The upload was cut, or the Content-Length is too small; send it again.",
    "missing_input_data": f"Send it as in: {_EXAMPLE}.",
    "ambiguous_input": f"Send one of them, as in: {_EXAMPLE}.",
    "unknown_file_part": f"Name the file part `{_FILE}`, as in: {_EXAMPLE}.",
    "duplicate_member": "Send each field once, in the form or in the query.",
}
