"""One line -> what is wrong with it, or nothing.

There are two ways through. `LineCheck.passes` judges a block of lines at several hundred megabytes
a second with a few passes in C; it is allowed to say no to a good line, never yes to a bad one.
`LineCheck.problem` judges one line exactly and says where and why.

No parser is sound alone. msgspec skips what it is not asked for without looking at its UTF-8, takes
two values on one line, and gives up at a depth that depends on the caller's stack. orjson turns
integers beyond 64 bits into floats. json takes NaN and lone surrogates. Hence: msgspec for the
grammar and the shape, our own look at UTF-8, framing, depth and numbers, orjson for the words of a
refusal.

Verdicts on what JSON leaves open: duplicate members are accepted and the last one counts, as in
every parser behind us; `1e-400` is zero; integers must fit int64 or uint64 and floats a double.
"""

import math
import re
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from penstock.core.limits import Limits
from penstock.errors import Problem
from penstock.ingest.decode import first_bad_utf8
from penstock.ingest.explain import Verdict, syntax_verdict
from penstock.ingest.spot import Keys, column, excerpt, json_path, keys_at, keys_of, locate, values

JSON_SPACE: Final = b" \t\r"
"""White space that JSON knows, without the line feed that ends a line."""

UTF8_BOM: Final = b"\xef\xbb\xbf"

FAST_BYTES: Final = 1_048_576
"""Blocks larger than this are judged line by line: decoding them would build large lists."""

PARSER_DEPTH_MAX: Final = 512
"""A deeper limit could not be kept: the parsers recurse, on a stack that others use too."""

_RESERVED: Final = ("status", "response", "processed_time")

# No value satisfies this, so a member of this type refuses every line that has it.
_Never = Annotated[int, msgspec.Meta(gt=1, lt=0)]


class _AnyObject(msgspec.Struct, gc=False):
    """An object whose members are skipped."""


class _GoodRequest(msgspec.Struct, gc=False):
    contents: Annotated[list[_AnyObject], msgspec.Meta(min_length=1)]
    config: _Never = 0


class _GoodLine(msgspec.Struct, gc=False):
    request: _GoodRequest
    status: _Never = 0
    response: _Never = 0
    processed_time: _Never = 0


class _Line(msgspec.Struct, gc=False):
    request: Raw | UnsetType = UNSET
    body: Raw | UnsetType = UNSET
    messages: Raw | UnsetType = UNSET
    contents: Raw | UnsetType = UNSET
    status: Raw | UnsetType = UNSET
    response: Raw | UnsetType = UNSET
    processed_time: Raw | UnsetType = UNSET


class _Request(msgspec.Struct, gc=False):
    contents: Raw | UnsetType = UNSET
    config: Raw | UnsetType = UNSET
    messages: Raw | UnsetType = UNSET


_GOOD: Final = msgspec.json.Decoder(_GoodLine)
_GRAMMAR: Final = msgspec.json.Decoder(Raw)
_LINE: Final = msgspec.json.Decoder(_Line)
_REQUEST: Final = msgspec.json.Decoder(_Request)

_CLOSED: Final = (b"}", b"}\r")
_EMPTY_ARRAY: Final = re.compile(rb"\[\s*\]")
_NUMBER: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|-?[0-9][0-9.eE+-]*+', re.DOTALL)
_OPENERS_BY_LINE: Final = bytes(byte for byte in range(256) if byte not in b"{[\n")
_MARKS_TO_BRACES: Final = bytes.maketrans(b"[]", b"{}")
_NOT_MARKS: Final = bytes(byte for byte in range(256) if byte not in b'{}[]"')

# A number that leaves its range has 19 digits in a row or an exponent of three digits. Made alike,
# both are plain substrings; a regular expression would be twenty times slower. Deleting letters to
# have less to search is slower too: the processor cannot guess which byte stays.
_DIGITS_ALIKE: Final = bytes.maketrans(b"123456789+E", b"0000000000e")
_LONG_DIGITS: Final = b"0" * 19
_LONG_EXPONENT: Final = b"0e000"
_NUMBER_CHARACTERS: Final = b"0e.-"
_NUMBER_LOOK_BACK: Final = 400
_BEFORE_NUMBER: Final = b":,[ \t\r\n"
_INTEGERS: Final = range(-(2**63), 2**64)
_INTEGER_CHARACTERS_MAX: Final = 20
_CANDIDATES_FREE: Final = 64
_CANDIDATE_EVERY_BYTES: Final = 4_096


def number_in_range(token: bytes) -> bool:
    """Tell whether a JSON number fits int64, uint64 or a finite double."""
    if token.strip(b"-0123456789"):
        return math.isfinite(float(token))
    # Python refuses to convert very long integers, and we need not convert them to refuse them.
    return len(token) <= _INTEGER_CHARACTERS_MAX and int(token) in _INTEGERS


def _may_hold_wide_number(text: bytes) -> bool:
    """Look for digits that could be a number out of range; base64 and prose rarely mislead it."""
    shapes = text.translate(_DIGITS_ALIKE)
    if _LONG_DIGITS in shapes:
        return True
    left = _CANDIDATES_FREE + len(shapes) // _CANDIDATE_EVERY_BYTES
    at = shapes.find(_LONG_EXPONENT)
    while at >= 0:
        before = shapes[max(0, at - _NUMBER_LOOK_BACK) : at].rstrip(_NUMBER_CHARACTERS)
        left -= 1
        if left < 0 or before[-1:] in _BEFORE_NUMBER:
            return True
        at = shapes.find(_LONG_EXPONENT, at + 1)
    return False


def _brackets(text: bytes) -> bytes:
    """Return the brackets of valid JSON that stand outside strings."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Two quotes side by side change nothing for what follows; most strings vanish here.
    marks = text.translate(None, _NOT_MARKS).replace(b'""', b"")
    inside = 0
    outside = []
    # A list of a whole long line's pieces would be many times its size.
    for start in range(0, len(marks), FAST_BYTES):
        parts = marks[start : start + FAST_BYTES].split(b'"')
        outside.append(b"".join(parts[inside::2]))
        inside ^= (len(parts) - 1) & 1
    return b"".join(outside)


def _objects_deeper(brackets: bytes, limit: int) -> bool:
    """Tell whether objects are nested more than `limit` deep, whatever arrays are between."""
    return _peel(brackets.translate(None, b"[]"), limit)


def _deeper(brackets: bytes, limit: int) -> bool:
    """Tell whether objects and arrays are nested more than `limit` deep."""
    return len(brackets) > 2 * limit and _peel(brackets.translate(_MARKS_TO_BRACES), limit)


def _peel(braces: bytes, limit: int) -> bool:
    """Tell whether balanced braces are nested more than `limit` deep; each round peels one."""
    for _ in range(limit):
        if not braces:
            return False
        braces = braces.replace(b"{}", b"")
    return bool(braces)


class LineCheck:
    """The rules for one line; stateless, one for all lines of all jobs."""

    def __init__(self, limits: Limits) -> None:
        self._depth_max = min(limits.json_depth_max, PARSER_DEPTH_MAX)
        self._objects_max = limits.provider_depth_max
        # Fewer brackets than this cannot nest too deeply, whatever their order.
        self._free_brackets = min(self._depth_max, limits.provider_depth_max + 1)

    def passes(self, lines: Sequence[bytes], block: bytes) -> bool:
        """Tell, quickly, that all the lines are good; False only means that each must be looked at.

        `block` is the lines as they stand in the input; none is blank.
        """
        if len(block) > FAST_BYTES or first_bad_utf8(block) is not None:
            return False
        # In valid JSON `}` and `{` never meet without a comma. So when every line starts and ends
        # with one and there are as many values as lines, each line is exactly one value.
        if not all(line.startswith(b"{") and line.endswith(_CLOSED) for line in lines):
            return False
        try:
            good = len(_GOOD.decode_lines(block)) == len(lines)
        except (msgspec.DecodeError, RecursionError):
            return False
        return good and not self._may_be_deep(lines, block) and not _may_hold_wide_number(block)

    def is_bad(self, line: bytes) -> bool:
        """Tell exactly whether the line would be refused."""
        return self._judge(line) is not None

    def problem(self, line: bytes, number: int, offset: int) -> Problem | None:
        """Return what is wrong with a line that is not blank, None if nothing is.

        `line` comes without its line feed; `number` counts from 1; `offset` is the line's first
        byte in the stored input.
        """
        verdict = self._judge(line)
        if verdict is None:
            return None
        at, keys = self._place(line, verdict)
        return Problem(
            code=verdict.code,
            message=verdict.message,
            hint=verdict.hint,
            line=number,
            column=column(line, at),
            offset=offset + at,
            path=json_path(keys),
            excerpt=excerpt(line, at),
        )

    def _place(self, line: bytes, verdict: Verdict) -> tuple[int, Keys]:
        if verdict.code == "nesting_too_deep":
            return self._deep_place(line)
        if verdict.keys is None:
            return verdict.at, keys_at(line, verdict.at)
        # A member that is missing has no place of its own; its parent has.
        return locate(line, verdict.keys[: len(verdict.keys) - verdict.missing]), verdict.keys

    def _deep_place(self, line: bytes) -> tuple[int, Keys]:
        for value in values(line):
            if value.opens not in b"{[":
                continue
            in_request = value.levels[0].key == "request" if value.levels else False
            objects = sum(level.in_object for level in value.levels[1:]) + (value.opens == b"{")
            deep = len(value.levels) >= self._depth_max
            if deep or (in_request and objects > self._objects_max):
                return value.at, keys_of(value.levels)
        return 0, ()

    def _judge(self, line: bytes) -> Verdict | None:
        if self.passes([line], line):
            return None
        return _broken(line) or self._too_deep(line) or _wide_number(line) or _misshapen(line)

    def _may_be_deep(self, lines: Sequence[bytes], block: bytes) -> bool:
        openers = block.translate(None, _OPENERS_BY_LINE).split(b"\n")
        if max(map(len, openers)) <= self._free_brackets:
            return False
        return any(
            len(marks) > self._free_brackets and self._is_deep(_brackets(line))
            for marks, line in zip(openers, lines, strict=False)
        )

    def _is_deep(self, brackets: bytes) -> bool:
        # The line's own object is around `request`.
        objects_max = self._objects_max + 1
        return _objects_deeper(brackets, objects_max) or _deeper(brackets, self._depth_max)

    def _too_deep(self, line: bytes) -> Verdict | None:
        if _deeper(_brackets(line), self._depth_max):
            return Verdict(
                "nesting_too_deep",
                f"objects and arrays are nested more than {self._depth_max} deep",
                hint="Flatten the line, or put the deep part into a string.",
            )
        request = _LINE.decode(line).request
        if request is not UNSET and _objects_deeper(_brackets(bytes(request)), self._objects_max):
            return Verdict(
                "nesting_too_deep",
                f"objects are nested more than {self._objects_max} deep inside `request`",
                hint="Vertex AI's importer would refuse the whole file; flatten the schema.",
            )
        return None


def _broken(line: bytes) -> Verdict | None:
    """Judge what is wrong below the level of members: encoding, grammar, kind of value."""
    if line.startswith(UTF8_BOM):
        return Verdict(
            "bom",
            "a byte-order mark inside the file",
            hint="Only the start of the file may have one; files were joined with theirs.",
        )
    bad = first_bad_utf8(line)
    if bad is not None:
        return Verdict(
            "invalid_utf8",
            f"byte 0x{line[bad]:02x} is not UTF-8 here",
            at=bad,
            hint="Save the file as UTF-8; Latin-1 and Windows-1252 are not.",
        )
    try:
        _GRAMMAR.decode(line)
    except RecursionError:
        return Verdict(
            "nesting_too_deep",
            "objects and arrays are nested deeper than any parser follows",
            hint="Flatten the line, or put the deep part into a string.",
        )
    except msgspec.DecodeError as error:
        return syntax_verdict(line, str(error))
    start = len(line) - len(line.lstrip(JSON_SPACE))
    if line[start] != ord("{"):
        return Verdict(
            "not_an_object",
            "the line is JSON but not an object",
            at=start,
            hint='Each line is an object such as {"request": {"contents": [...]}}.',
        )
    return None


def _wide_number(line: bytes) -> Verdict | None:
    if not _may_hold_wide_number(line):
        return None
    for match in _NUMBER.finditer(line):
        token = match[0]
        if not token.startswith(b'"') and not number_in_range(token):
            return Verdict(
                "number_out_of_range",
                "the number fits neither 64 bits nor a double",
                at=match.start(),
                hint="Write it as a string; it would come back as another number.",
            )
    return None


def _misshapen(line: bytes) -> Verdict | None:
    """Judge the members of a line that is an object in sound JSON."""
    members = _LINE.decode(line)
    for name in _RESERVED:
        if getattr(members, name) is not UNSET:
            return Verdict(
                "reserved_member",
                f"`{name}` is a member that the output line adds itself",
                keys=(name,),
                hint="Rename it; yours could not come back unchanged.",
            )
    if members.request is UNSET:
        return _requestless(members)
    request = bytes(members.request)
    if not request.startswith(b"{"):
        return Verdict(
            "request_not_an_object",
            "`request` is not an object",
            keys=("request",),
            hint='It is a GenerateContentRequest: {"contents": [...]}.',
        )
    return _bad_request(_REQUEST.decode(request))


def _requestless(members: _Line) -> Verdict:
    if members.body is not UNSET or members.messages is not UNSET:
        name = "messages" if members.body is UNSET else "body"
        return Verdict(
            "openai_format",
            f"the line has `{name}` as in OpenAI's batch format",
            keys=(name,),
            hint='Convert the line to {"request": {"contents": [...]}}.',
        )
    hint = 'Put the request under `request`: {"request": {"contents": [...]}}.'
    return Verdict(
        "missing_request", "the line has no `request`", keys=("request",), missing=1, hint=hint
    )


def _bad_request(request: _Request) -> Verdict | None:
    if request.config is not UNSET:
        return Verdict(
            "sdk_format",
            "`config` is the SDK's name, the API does not know it",
            keys=("request", "config"),
            hint="Name it `generationConfig`; `tools`, `safetySettings` and `systemInstruction` "
            "stand beside it in `request`.",
        )
    if request.contents is UNSET and request.messages is not UNSET:
        return Verdict(
            "openai_format",
            "`request` has `messages` as in OpenAI's format",
            keys=("request", "messages"),
            hint='Convert them to `contents`: [{"role": "user", "parts": [{"text": "..."}]}].',
        )
    return _bad_contents(request.contents)


def _bad_contents(raw: Raw | UnsetType) -> Verdict | None:
    keys = ("request", "contents")
    hint = 'An example: [{"role": "user", "parts": [{"text": "..."}]}].'
    if raw is UNSET:
        message = "`request` has no `contents`"
        return Verdict("missing_contents", message, keys=keys, missing=1, hint=hint)
    contents = bytes(raw)
    if not contents.startswith(b"["):
        return Verdict("contents_not_an_array", "`contents` is not an array", keys=keys, hint=hint)
    if _EMPTY_ARRAY.fullmatch(contents):
        return Verdict("empty_contents", "`contents` is an empty array", keys=keys, hint=hint)
    return None
