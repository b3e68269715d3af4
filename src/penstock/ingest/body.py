"""The outer JSON object, read byte by byte except for the one string that is streamed.

A push parser: no library reads a JSON string in pieces. It is strict from the first byte, so that a
body that cannot become right is refused before its gigabyte has come, and always at the same byte
whatever the chunks were. Only what stands outside `input_data` goes through Python byte by byte;
`envelope_bytes_max` bounds that.
"""

import enum
from collections.abc import Callable
from typing import Any, Final, NoReturn, Protocol

import msgspec
import orjson

from penstock.core.limits import Limits
from penstock.errors import InvalidRequest, Problem, TooLarge
from penstock.ingest.check import PARSER_DEPTH_MAX, UTF8_BOM, number_in_range
from penstock.ingest.decode import string_fault

_SPACE: Final = b" \t\r\n"
_DELIMITERS: Final = b" \t\r\n,]}"
_QUOTE: Final = ord('"')
_BACKSLASH: Final = ord("\\")
_OPEN_OBJECT: Final = ord("{")
_OPEN_ARRAY: Final = ord("[")
_CLOSERS: Final = {_OPEN_OBJECT: ord("}"), _OPEN_ARRAY: ord("]")}
_NUMBER_STARTS: Final = b"-0123456789"
_VALUE_STARTS: Final = b'["-0123456789tfn'

_FLAT_INPUT: Final = ("input_data",)
_NESTED_INPUT: Final = ("payload", "input_data")
_FLAT_URI: Final = ("input_uri",)
_NESTED_URI: Final = ("payload", "input_uri")
_STRING_PLACES: Final[dict[tuple[str | None, ...], str]] = {
    ("model",): "model_not_a_string",
    ("payload", "model"): "model_not_a_string",
    _FLAT_INPUT: "input_data_not_a_string",
    _NESTED_INPUT: "input_data_not_a_string",
    _FLAT_URI: "input_uri_not_a_string",
    _NESTED_URI: "input_uri_not_a_string",
}


class _Expect(enum.Enum):
    """What may come next, white space aside."""

    VALUE = "a value"
    FIRST_ELEMENT = "a value or `]`"
    FIRST_KEY = "a member name or `}`"
    KEY = "a member name"
    COLON = "`:`"
    MORE = "`,` or the closing bracket"


class InputSink(Protocol):
    """Takes the inside of the `input_data` string."""

    def feed(self, chunk: bytes, start: int) -> int:
        """Take `chunk` from `start`; return the index after the closing quote, -1 if it goes on."""
        ...


class Members(msgspec.Struct, frozen=True, kw_only=True):
    """The body without its input: its top-level members, and which form it has."""

    top: dict[str, Any]
    flat: bool
    input_uri: str | None = None
    """Where the input lies instead of in the body."""


class Body:
    """Finds `payload.input_data` or `input_data` and hands its inside to a sink.

    `open_input` is called with the offset of the string's first byte in the body and returns the
    sink. Every refusal is an `InvalidRequest` or `TooLarge` with one problem, whose `offset` is in
    bytes from the start of the body.
    """

    def __init__(self, limits: Limits, *, open_input: Callable[[int], InputSink]) -> None:
        self._bytes_max = limits.envelope_bytes_max
        self._depth_max = min(limits.json_depth_max, PARSER_DEPTH_MAX)
        self._open_input = open_input
        self._sink: InputSink | None = None
        self._flat: bool | None = None
        self._state: Callable[[int], None] = self._before
        self._expect = _Expect.VALUE
        self._offset = 0
        self._text = bytearray()
        self._token_at = 0
        self._token_offset = 0
        self._token_is_key = False
        self._escaping = False
        self._open: list[int] = []
        self._keys: list[str | None] = []
        self._top: set[str] = set()
        self._inner: set[str] = set()
        self._members: Members | None = None

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body; refuse as soon as it cannot become right."""
        start = 0
        while start < len(chunk):
            if self._sink is None:
                self._take(chunk[start])
                start += 1
                continue
            end = self._sink.feed(chunk, start)
            if end < 0:
                self._offset += len(chunk) - start
                return
            # The closing quote belongs to the envelope.
            self._offset += end - 1 - start
            self._sink = None
            start = end - 1
            self._state = self._close_input

    def finish(self) -> Members:
        """Return the members; raises `InvalidRequest` `truncated_body` when the object is open."""
        if self._members is None:
            self._refuse("truncated_body", f"the body ends after {self._offset} bytes, too early")
        return self._members

    def _take(self, byte: int) -> None:
        self._text.append(byte)
        if len(self._text) > self._bytes_max:
            message = f"the body has more than {self._bytes_max} bytes outside `input_data`"
            raise TooLarge(
                f"The request is refused: {message}.",
                code="envelope_too_large",
                hint="Requests belong into `input_data` (limit envelope_bytes_max).",
                problems=[Problem(code="envelope_too_large", message=message, offset=self._offset)],
            )
        self._state(byte)
        self._offset += 1

    def _before(self, byte: int) -> None:
        """Expect the object, perhaps after a byte-order mark and white space."""
        if self._offset < len(UTF8_BOM) and UTF8_BOM.startswith(self._text):
            if len(self._text) == len(UTF8_BOM):
                self._text.clear()
            return
        if byte in _SPACE and self._text[0] in _SPACE:
            return
        if byte == _OPEN_OBJECT and not self._text[:-1].strip():
            self._state = self._structure
            self._push(byte)
        elif byte in _VALUE_STARTS:
            self._refuse("not_an_object", "the body is not a JSON object")
        else:
            self._refuse("invalid_json", "the body is not JSON")

    def _structure(self, byte: int) -> None:
        if byte in _SPACE:
            return
        expect = self._expect
        if expect is _Expect.COLON and byte == ord(":"):
            self._expect = _Expect.VALUE
        elif expect is _Expect.MORE and byte == ord(","):
            in_object = self._open[-1] == _OPEN_OBJECT
            self._expect = _Expect.KEY if in_object else _Expect.VALUE
        elif expect in (_Expect.KEY, _Expect.FIRST_KEY) and byte == _QUOTE:
            self._begin_token(self._string, is_key=True)
        elif expect in _MAY_CLOSE and byte == _CLOSERS[self._open[-1]]:
            self._pop()
        elif expect in (_Expect.VALUE, _Expect.FIRST_ELEMENT):
            self._begin_value(byte)
        else:
            self._refuse("invalid_json", f"expected {expect.value}")

    def _begin_value(self, byte: int) -> None:
        keys = tuple(self._keys)
        if keys in _STRING_PLACES and byte != _QUOTE:
            self._refuse(_STRING_PLACES[keys], f"`{'.'.join(map(str, keys))}` is not a string")
        if keys == ("payload",) and byte != _OPEN_OBJECT:
            self._refuse("payload_not_an_object", "`payload` is not an object")
        if keys in (_FLAT_INPUT, _NESTED_INPUT):
            self._flat = keys == _FLAT_INPUT
            self._sink = self._open_input(self._offset + 1)
        elif byte == _QUOTE:
            self._begin_token(self._string, is_key=False)
        elif byte in _CLOSERS:
            self._push(byte)
        elif byte in _VALUE_STARTS:
            self._begin_token(self._scalar, is_key=False)
        else:
            self._refuse("invalid_json", "expected a value")

    def _close_input(self, _byte: int) -> None:
        self._end_value()

    def _begin_token(self, state: Callable[[int], None], *, is_key: bool) -> None:
        self._state = state
        self._token_at = len(self._text) - 1
        self._token_offset = self._offset
        self._token_is_key = is_key

    def _string(self, byte: int) -> None:
        if self._escaping:
            self._escaping = False
        elif byte == _BACKSLASH:
            self._escaping = True
        elif byte == _QUOTE:
            token = bytes(self._text[self._token_at :])
            fault = string_fault(token[1:-1])
            if fault:
                at, code, message = fault
                self._refuse(code, message, offset=self._token_offset + 1 + at)
            if self._token_is_key:
                self._end_key(str(orjson.loads(token)))
            else:
                self._end_value()

    def _scalar(self, byte: int) -> None:
        if byte not in _DELIMITERS:
            return
        token = bytes(self._text[self._token_at : -1])
        try:
            orjson.loads(token)
        except orjson.JSONDecodeError as error:
            self._refuse("invalid_json", error.msg, offset=self._token_offset)
        if token[0] in _NUMBER_STARTS and not number_in_range(token):
            message = "the number does not fit 64 bits"
            self._refuse("number_out_of_range", message, offset=self._token_offset)
        self._end_value()
        self._structure(byte)

    def _end_key(self, key: str) -> None:
        self._state = self._structure
        self._expect = _Expect.COLON
        self._keys[-1] = key
        depth = len(self._keys)
        if depth == 1:
            self._remember(self._top, key)
            self._exclude(("payload", "input_data", "input_uri"), self._top, "a top-level ")
        elif self._keys[:-1] == ["payload"]:
            self._remember(self._inner, key)
            self._exclude(("input_data", "input_uri"), self._inner, "")

    def _exclude(self, places: tuple[str, ...], seen: set[str], where: str) -> None:
        """Refuse the second place for an input as soon as its name is read."""
        taken = [place for place in places if place in seen]
        if len(taken) > 1:
            message = f"`{taken[0]}` and {where}`{taken[1]}` exclude each other"
            self._refuse("ambiguous_input", message, offset=self._token_offset)

    def _remember(self, seen: set[str], key: str) -> None:
        if key in seen:
            shown = orjson.dumps(key[:40]).decode()
            message = f"the member {shown} stands twice"
            self._refuse("duplicate_member", message, offset=self._token_offset)
        seen.add(key)

    def _end_value(self) -> None:
        self._state = self._structure
        self._expect = _Expect.MORE

    def _push(self, byte: int) -> None:
        self._open.append(byte)
        self._keys.append(None)
        self._expect = _Expect.FIRST_KEY if byte == _OPEN_OBJECT else _Expect.FIRST_ELEMENT
        if len(self._open) > self._depth_max:
            self._refuse("nesting_too_deep", f"nested more than {self._depth_max} deep")

    def _pop(self) -> None:
        self._open.pop()
        self._keys.pop()
        self._end_value()
        if not self._open:
            self._complete()

    def _complete(self) -> None:
        """The object is closed: all that is known about it is certain now."""
        self._state = self._after
        top = orjson.loads(self._text)
        if self._flat is not None:
            del (top if self._flat else top["payload"])["input_data"]
            self._members = Members(top=top, flat=self._flat)
        elif "input_uri" in self._top:
            self._members = Members(top=top, flat=True, input_uri=top.pop("input_uri"))
        elif "input_uri" in self._inner:
            uri = top["payload"].pop("input_uri")
            self._members = Members(top=top, flat=False, input_uri=uri)
        else:
            message = "there is no `input_data` and no `input_uri` in `payload`"
            self._refuse("missing_input_data", message)

    def _after(self, byte: int) -> None:
        if byte not in _SPACE:
            self._refuse("trailing_data", "there is something after the JSON object")

    def _refuse(self, code: str, message: str, *, offset: int | None = None) -> NoReturn:
        at = self._offset if offset is None else offset
        raise InvalidRequest(
            f"The request body is not accepted: {message} (byte {at}).",
            code=code,
            hint=_HINTS.get(code, "Let a JSON library write the body."),
            problems=[Problem(code=code, message=message, offset=at)],
        )


_MAY_CLOSE: Final = (_Expect.FIRST_ELEMENT, _Expect.FIRST_KEY, _Expect.MORE)

_EXAMPLE: Final = (
    '{"model": "Gemini-batch-inference", '
    '"payload": {"model": "gemini-3-flash-preview", "input_data": "..."}}'
)
_HINTS: Final = {
    "not_an_object": f"Send {_EXAMPLE}.",
    "missing_input_data": f"Send {_EXAMPLE}.",
    "ambiguous_input": "Send `input_data` or `input_uri`, one of them once, inside `payload`.",
    "duplicate_member": "Send each member once; which one counts would be a guess.",
    "input_data_not_a_string": "Send the JSONL as one JSON string, or base64 of it.",
    "input_uri_not_a_string": "Send one address, like gs://bucket/name or https://host/path.",
    "payload_not_an_object": f"Send {_EXAMPLE}.",
    "model_not_a_string": 'Name a model, such as "gemini-3-flash-preview", or leave it out.',
    "nesting_too_deep": "Nothing outside `input_data` needs that.",
    "number_out_of_range": "Write it as a string.",
    "trailing_data": "Send one object and nothing else.",
    "truncated_body": "The upload was cut, or the Content-Length is too small; send it again.",
}
