"""The body of `POST /requests` in chunks -> stored, checked, indexed input. No I/O, no waiting.

    chunks -> Body -> InputData -> JsonString -> [Base64] -> JsonlIntake -> Sink

This is the JSON door; `raw` and `multipart` are the others, `compressed` goes before any of them.

`input_data` never exists as a whole: about a megabyte is in memory at any time, or one line of the
input when that is longer.
"""

import re
from typing import Any, Final, Protocol, Self

import msgspec

from penstock.core.files import ANY_FILE, FileRule
from penstock.core.limits import Limits
from penstock.core.naming import LABELS, NAME
from penstock.errors import Problem
from penstock.ingest.body import Body
from penstock.ingest.decode import Base64, JsonString
from penstock.ingest.jsonl import JsonlIntake, Tally
from penstock.ingest.sink import Sink
from penstock.ingest.treatment import STRICT, Report, Treatment

LEAD_BYTES_MAX: Final = 4_096
"""White space held back until raw and base64 can be told apart; with more it is raw."""

_LEAD: Final = re.compile(rb"(?:[ \t\r\n]|\xef\xbb\xbf)*+")
_RAW_STARTS: Final = (b"{", b"[")


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """The body without `input_data`."""

    model: str | None
    """The outer `model`; None if absent. In the flat form it names the Gemini model."""

    payload: dict[str, Any]
    """The other members of `payload`, in order; of the top level in the flat form."""

    flat: bool
    """True when `input_data` stood at the top level, or outside of any JSON."""

    input_uri: str | None = None
    """Where the lines lie, if they are not in the body."""

    name: Any = None
    """Of the job, as the body says it; nobody has looked at it."""

    labels: Any = None
    """The same, in JSON."""

    label: tuple[str, ...] = ()
    """The same, in a form."""


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """A good input: its envelope, requests, stored bytes and their SHA-256 in hexadecimal."""

    envelope: Envelope
    line_count: int
    input_bytes: int
    sha256: str
    problem_count: int = 0
    """Bad lines among them: those that were put aside, or that a trial found."""
    problems: tuple[Problem, ...] = ()
    """The first of them."""
    report: Report | None = None
    """Of a trial."""

    @property
    def is_elsewhere(self) -> bool:
        """Whether the lines are still to be pulled; no input without any is ever accepted."""
        return self.line_count == 0

    @classmethod
    def of(cls, envelope: Envelope, tally: Tally) -> Self:
        """Join what stood around the lines with what was counted of them."""
        return cls(
            envelope=envelope,
            line_count=tally.line_count,
            input_bytes=tally.input_bytes,
            sha256=tally.sha256,
            problem_count=tally.problem_count,
            problems=tally.problems,
            report=tally.report,
        )


class BodyIntake(Protocol):
    """What takes the body of a submission in chunks of any size, whatever its form."""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes; raises a `Refused` as soon as it is certain."""
        ...

    def finish(self) -> Accepted:
        """Return what was accepted, when the body has ended; raises a `Refused`."""
        ...


class RawOrBase64:
    """Decides whether a text is JSONL or base64 of it.

    After leading white space JSONL starts with `{` (or `[`, which is refused by name), base64 never
    does.
    """

    def __init__(self, jsonl: JsonlIntake) -> None:
        self._jsonl = jsonl
        self.base64: Base64 | None = None
        self._raw = False
        self._lead = b""

    def feed(self, text: bytes) -> None:
        """Take the next bytes; raises what `JsonlIntake.feed` and `Base64.feed` raise."""
        if self._raw:
            self._jsonl.feed(text)
        elif self.base64:
            self.base64.feed(text)
        else:
            self._decide(text)

    def finish(self) -> None:
        """Deliver what was held back, when the text has ended."""
        if self.base64:
            self.base64.finish()
        else:
            self._jsonl.feed(self._lead)

    def _decide(self, text: bytes) -> None:
        """Hold white space back until the first character after it tells the two apart."""
        self._lead += text
        start = next(_LEAD.finditer(self._lead)).end()
        if start == len(self._lead) <= LEAD_BYTES_MAX:
            return
        if start > LEAD_BYTES_MAX or self._lead[start : start + 1] in _RAW_STARTS:
            self._raw = True
            self._jsonl.feed(self._lead)
        else:
            # Offsets in base64 count characters; a byte-order mark is one of three bytes.
            self.base64 = Base64(self._jsonl.feed, offset=len(self._lead[:start].decode()))
            self.base64.feed(self._lead[start:])
        self._lead = b""


class InputData:
    """The inside of the `input_data` string, which holds JSONL or base64 of it."""

    def __init__(self, jsonl: JsonlIntake, *, offset: int) -> None:
        self._content = RawOrBase64(jsonl)
        self._string = JsonString(self._content.feed, offset=offset)

    def feed(self, chunk: bytes, start: int) -> int:
        """Take `chunk` from `start`; return the index after the closing quote, -1 if it goes on."""
        end = self._feed_plain_base64(chunk, start)
        if end is None:
            end = self._string.feed(chunk, start)
        if end >= 0:
            self._content.finish()
        return end

    def _feed_plain_base64(self, chunk: bytes, start: int) -> int | None:
        """Decode base64 without un-escaping it first; None when it does hold something else."""
        base64 = self._content.base64
        if base64 is None or not self._string.between:
            return None
        quote = chunk.find(b'"', start)
        stop = len(chunk) if quote < 0 else quote
        if not base64.take(chunk[start:stop]):
            return None
        self._string.skip(stop - start)
        return -1 if quote < 0 else quote + 1


class Intake:
    """Takes the body of `POST /requests` in chunks of any size.

    The sink is called from within `feed` and `finish`.
    """

    def __init__(
        self,
        limits: Limits,
        sink: Sink,
        files: FileRule = ANY_FILE,
        treatment: Treatment = STRICT,
    ) -> None:
        self._jsonl = JsonlIntake(limits, sink, files, treatment)
        self._body = Body(limits, open_input=self._open_input)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body.

        Raises `InvalidRequest` for the JSON around the lines and for bad base64, `TooLarge` for a
        limit, `InvalidInput` for a file of the wrong kind, each as soon as it is certain. Bad lines
        are collected until `finish`, so that all of them are reported. Do not feed again after an
        error.
        """
        self._body.feed(chunk)

    def finish(self) -> Accepted:
        """Return what was accepted, when the body has ended.

        A body that names its input is accepted without lines.

        Raises `InvalidRequest` when the body is cut, `InvalidInput` with the bad lines or when
        there is no request, `TooLarge` when the last lines exceed a limit.
        """
        members = self._body.finish()
        top = members.top
        rest = {name: value for name, value in top.items() if name != "model"}
        payload = rest if members.flat else top["payload"]
        envelope = Envelope(
            model=top.get("model"),
            payload=payload,
            flat=members.flat,
            input_uri=members.input_uri,
            name=payload.get(NAME),
            labels=payload.get(LABELS),
        )
        if members.input_uri is not None:
            return Accepted(envelope=envelope, line_count=0, input_bytes=0, sha256="")
        return Accepted.of(envelope, self._jsonl.finish())

    def _open_input(self, offset: int) -> InputData:
        return InputData(self._jsonl, offset=offset)
