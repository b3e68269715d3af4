"""One line of the output as somebody uses it: its text, what it says parsed, pictures, its error.

What became of a line is the server's verdict, read from the row index; nothing is judged twice. A
server from before there was one gives none, and then a line with a `status` has failed.
"""

import base64
import binascii
from collections.abc import Hashable, Iterator
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar, cast

import msgspec

from penstock.client.errors import ClientError, ParseFailed
from penstock.client.images import extension_of
from penstock.client.schemas import parser

T = TypeVar("T")
V = TypeVar("V")

OK: Final = "ok"
NOT_OK: Final = (
    "truncated",
    "blocked",
    "empty",
    "invalid_output",
    "error",
    "missing",
    "expired",
    "cancelled",
)
"""All other outcomes."""

_SAID: Final = {
    "truncated": "the answer stops at the output limit",
    "blocked": "the provider refused the request or its answer",
    "empty": "the answer has no content",
    "invalid_output": "the answer is not what the request's schema asks for",
}
_READERS_MAX: Final = 64


class LineError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a line did not end well; `retryable` says whether another try may mend it."""

    code: str
    message: str
    hint: str = ""
    retryable: bool = False

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" if self.code else self.message


class LineTokens(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens of one line; thoughts are beside the output and cost as much."""

    prompt_tokens: int = 0
    output_tokens: int = 0
    thoughts_tokens: int = 0
    cached_tokens: int = 0


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """A picture of an answer: its bytes, or `uri` where the answer has a link in its place.

    `media_type` is what the answer claims, `extension` what its bytes are, None for no picture.
    """

    part: int
    media_type: str = ""
    data: bytes = b""
    uri: str | None = None

    @property
    def extension(self) -> str | None:
        """What a file with these bytes is called behind its dot."""
        return extension_of(self.data)

    def __repr__(self) -> str:
        what = f"{len(self.data):,} bytes" if self.uri is None else self.uri
        return f"Image(part={self.part}, media_type={self.media_type!r}, {what})"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the server says of a line; those that it says nothing of are good."""

    line: int
    outcome: str = OK
    code: str = ""
    retryable: bool = False
    hint: str = ""
    output: msgspec.Raw = msgspec.Raw(b"null")
    """The line of the output, where it was asked for and is not too large for a page."""

    @property
    def has_output(self) -> bool:
        """Whether the line of the output is there."""
        return bytes(self.output) != b"null"


class VerdictPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some of them."""

    lines: list[Verdict]
    next_cursor: str | None = None


class _Row(msgspec.Struct):
    key: Any = None
    custom_id: Any = None
    status: Any = ""
    request: Any = None
    response: Any = None


_ROW: Final = msgspec.json.Decoder(_Row)


class Result(Generic[T]):
    """One line of the output.

    `line` is its number in the input, from 1, `key` its own name, `raw` the line as it came, and
    `outcome` a word such as `ok`, `blocked` or `error`.
    """

    __slots__ = ("_kind", "_row", "_verdict", "line", "raw")

    def __init__(self, raw: bytes, verdict: Verdict | None, line: int, kind: type[T]) -> None:
        self.raw = raw
        self.line = line
        self._kind = kind
        self._row = _read(raw, line)
        self._verdict = verdict or Verdict(line=line, outcome="error" if self._row.status else OK)

    @property
    def key(self) -> str | None:
        """The `key` of the line, else its `custom_id`, or None if it has neither."""
        key = self._row.custom_id if self._row.key is None else self._row.key
        return key if isinstance(key, str) or key is None else _json(key)

    @property
    def outcome(self) -> str:
        """How it ended, in a word."""
        return self._verdict.outcome

    @property
    def ok(self) -> bool:
        """Whether there is an answer with nothing wrong."""
        return self.outcome == OK

    @property
    def text(self) -> str:
        """The text of the answer without the model's thoughts; empty if there is none."""
        texts = [part.get("text") for part in self._parts() if part.get("thought") is not True]
        return "".join(text for text in texts if isinstance(text, str))

    @property
    def value(self) -> T:
        """The answer as the type that `results` was asked for, else its text.

        Raises `ParseFailed` if it is not of the type, and so for a line without an answer.
        """
        return self.parsed(self._kind)

    @property
    def error(self) -> LineError | None:
        """Why the line did not end well, or None."""
        if self.ok:
            return None
        said = self._verdict
        message = _message_of(self._row.status)
        if not message:
            message = _SAID.get(said.outcome, f"the line is {said.outcome}")
            feedback = self.response.get("promptFeedback")
            detail = feedback.get("blockReasonMessage") if isinstance(feedback, dict) else None
            message += f": {detail}" if isinstance(detail, str) and detail else ""
        return LineError(
            code=said.code or said.outcome,
            message=message,
            hint=said.hint,
            retryable=said.retryable,
        )

    @property
    def usage(self) -> LineTokens:
        """The tokens that the provider counted; zero where it counted none."""
        counts = self.response.get("usageMetadata")
        known = counts if isinstance(counts, dict) else {}
        return LineTokens(
            prompt_tokens=_count(known.get("promptTokenCount")),
            output_tokens=_count(known.get("candidatesTokenCount")),
            thoughts_tokens=_count(known.get("thoughtsTokenCount")),
            cached_tokens=_count(known.get("cachedContentTokenCount")),
        )

    @property
    def finish_reason(self) -> str | None:
        """Why the model stopped, in the provider's word."""
        reason = self._candidate().get("finishReason")
        return reason if isinstance(reason, str) else None

    @property
    def images(self) -> list[Image]:
        """The pictures and other media of the answer, in order."""
        return [
            image
            for number, part in enumerate(self._parts())
            if (image := self._image(number, part)) is not None
        ]

    @property
    def request(self) -> dict[str, Any]:
        """The request as it was sent."""
        return _object(self._row.request)

    @property
    def response(self) -> dict[str, Any]:
        """The provider's answer, empty if there is none."""
        return _object(self._row.response)

    def parsed(self, kind: type[V]) -> V:
        """Return the answer as this type: a pydantic model, a dataclass, a msgspec struct, ...

        Any type is fine that msgspec knows, such as `list[int]`; `str` is the text as it is. Raises
        `ParseFailed`, with line and key, if the answer is not of the type or there is none.
        """
        text = self.text
        if not text:
            raise self._not_parsed("there is no answer to parse", None)
        if kind is str:
            return text  # type: ignore[return-value]  # V is str here
        read = _reader(cast(Hashable, kind))
        try:
            value: V = read(text)
        except (ValueError, RecursionError) as error:
            raise self._not_parsed(f"the answer is no {_called(kind)}: {error}", error) from error
        return value

    def __repr__(self) -> str:
        text = self.text if self.ok else str(self.error)
        shown = text if len(text) <= 60 else text[:59] + "…"  # noqa: PLR2004  # a line of a terminal
        return f"Result(line={self.line}, key={self.key!r}, {self.outcome}, {shown!r})"

    def _candidate(self) -> dict[str, Any]:
        candidates = self.response.get("candidates")
        return _object(candidates[0] if isinstance(candidates, list) and candidates else None)

    def _parts(self) -> Iterator[dict[str, Any]]:
        parts = _object(self._candidate().get("content")).get("parts")
        yield from map(_object, parts if isinstance(parts, list) else [])

    def _image(self, number: int, part: dict[str, Any]) -> Image | None:
        inline, link = _object(part.get("inlineData")), _object(part.get("fileData"))
        media = inline or link
        data, uri = inline.get("data"), link.get("fileUri")
        media_type = str(media.get("mimeType") or "")
        if isinstance(data, str):
            try:
                content = base64.b64decode(data, validate=True)
            except (binascii.Error, ValueError) as error:
                raise self._not_parsed(f"part {number} is no base64: {error}", error) from error
            return Image(part=number, media_type=media_type, data=content)
        return Image(part=number, media_type=media_type, uri=uri) if isinstance(uri, str) else None

    def _not_parsed(self, why: str, error: Exception | None) -> ParseFailed:
        failure = self.error
        name = f"line {self.line}" + (f" ({self.key})" if self.key is not None else "")
        hint = "look at `text` of the result; `ok` says beforehand whether there is an answer"
        if failure is not None and error is None:
            why += f": {failure}"
            hint = failure.hint or hint
        return ParseFailed(f"{name}: {why}", line=self.line, key=self.key, hint=hint)


def _read(raw: bytes, line: int) -> _Row:
    try:
        return _ROW.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ClientError(
            f"line {line} of the output is not one of Penstock's: {error}",
            hint="check that the address is a Penstock server's, and not of something before it",
        ) from error


def _message_of(status: object) -> str:
    """Return what a failed line says: the message in its JSON, else all of it."""
    if not isinstance(status, str):
        return "" if status is None else _json(status)
    prose, brace, rest = status.partition("{")
    if not brace:
        return status
    try:
        said = msgspec.json.decode(brace + rest)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        # The provider's text only begins like that.
        return status
    message = _object(_object(said).get("error")).get("message")
    return message if isinstance(message, str) and message else prose.strip() or status


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _called(kind: object) -> str:
    return getattr(kind, "__name__", None) or str(kind)


@lru_cache(maxsize=_READERS_MAX)
def _reader(kind: Any) -> Any:  # noqa: ANN401  # any type there is
    """Return what reads a text as the type; made once, since some types take a while."""
    return parser(kind)
