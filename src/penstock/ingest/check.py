"""One line -> what is wrong with it, or nothing.

There are three ways through, each exact where it answers and handing on what it does not know:

1. `AlikeLines` (`alike.py`) takes lines that differ from a good one in texts and numbers only, with
   a few calls into C.
2. `LineCheck.is_plainly_good` parses one line into objects and looks at them. It says no to lines
   that are too long to be parsed and to lines nested deeply.
3. `LineCheck.problem` judges any line and says where and why.

The first takes no line that names a file.

No parser is sound alone. jiter takes numbers that nothing else can hold, and builds objects twenty
times as large as their text. msgspec skips what it is not asked for without looking at its UTF-8
and lets the last of two members win. orjson turns integers beyond 64 bits into floats. json takes
NaN and lone surrogates. Hence: jiter for grammar, encoding and members that stand twice, our own
look at numbers, depth and shape; msgspec for lines that are not to be built; orjson for the words
of a refusal.

Verdicts on what JSON leaves open: a member that stands twice is refused, because parsers differ in
which one counts; `1e-400` is zero; integers must fit int64 or uint64 and floats a double.
"""

import math
import re
from typing import Any, Final

import jiter
import msgspec
from msgspec import UNSET, Raw, UnsetType

from penstock.core.files import ANY_FILE, FileRule
from penstock.core.limits import Limits
from penstock.core.ordinary import SIMPLEST_LEVELS, is_simplest
from penstock.errors import Problem
from penstock.ingest.alike import AlikeLines
from penstock.ingest.decode import first_bad_utf8
from penstock.ingest.explain import Verdict, syntax_verdict
from penstock.ingest.named import FILE_DATA, Tree, stray_file
from penstock.ingest.outline import deeper, marks_of, objects_deeper, values_most, without_texts
from penstock.ingest.spot import (
    Keys,
    column,
    duplicate_at,
    escaped,
    excerpt,
    json_path,
    keys_at,
    keys_of,
    locate,
    values,
)
from penstock.ingest.traps import Traps

JSON_SPACE: Final = b" \t\r"
"""White space that JSON knows, without the line feed that ends a line."""

UTF8_BOM: Final = b"\xef\xbb\xbf"

PARSED_BYTES: Final = 1_048_576
"""Lines longer than this are not built: what they become would be many times their size."""

QUOTES_MAX: Final = 65_536
"""Lines with more quotes keep their texts, because emptying them one by one would take longer."""

PARSER_DEPTH_MAX: Final = 128
"""A deeper limit could not be kept: jiter ends at 200, and the others recurse on a shared stack."""

ROLES: Final = ("user", "model", "function")
"""Who may speak in `contents`; the provider takes the first two, and the third for the answers of
functions. No role at all means the user."""

_RESERVED: Final = ("status", "response", "processed_time")
_NOT_OF_A_LINE: Final = frozenset(_RESERVED)
_ROLE_CHARACTERS: Final = 40
_KNOWN_ROLES: Final = frozenset((*ROLES, "", None))


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


class _Content(msgspec.Struct, gc=False):
    role: Raw | UnsetType = UNSET


_GRAMMAR: Final = msgspec.json.Decoder(Raw)
_LINE: Final = msgspec.json.Decoder(_Line)
_REQUEST: Final = msgspec.json.Decoder(_Request)
_ELEMENTS: Final = msgspec.json.Decoder(list[Raw])
_CONTENT: Final = msgspec.json.Decoder(_Content)

_NUMBER: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|-?[0-9][0-9.eE+-]*+', re.DOTALL)
_INTEGERS: Final = range(-(2**63), 2**64)
_INTEGER_MIN: Final = -(2**63)
_INTEGER_MAX: Final = 2**64 - 1
_INTEGER_CHARACTERS_MAX: Final = 20


def number_in_range(token: bytes) -> bool:
    """Tell whether a JSON number fits int64, uint64 or a finite double."""
    if token.strip(b"-0123456789"):
        return math.isfinite(float(token))
    # Python refuses to convert very long integers, and we need not convert them to refuse them.
    return len(token) <= _INTEGER_CHARACTERS_MAX and int(token) in _INTEGERS


class LineCheck:
    """The rules for one line, of one file: what its good lines hold bounds those after them."""

    def __init__(self, limits: Limits, files: FileRule = ANY_FILE) -> None:
        self._files = files
        self._traps = Traps(limits)
        self._depth_max = min(limits.json_depth_max, PARSER_DEPTH_MAX)
        self._objects_max = limits.provider_depth_max
        self._values_max = limits.line_values_max
        # Fewer levels than this cannot be too many, whatever they are.
        self._free_levels = min(self._depth_max, limits.provider_depth_max + 1)
        self._may_be_simplest = self._free_levels >= SIMPLEST_LEVELS
        self._alike = AlikeLines()

    def lengths(self, block: bytes) -> list[int] | None:
        """Return the bytes of each value of a block whose good lines `reach` may find quickly.

        None if it cannot. Lines that are blank have no value, and blanks around one are not of it.
        """
        return self._alike.lengths(block)

    def reach(self, block: bytes, at: int) -> int:
        """Return where the lines from `at` on that are surely good end, after a line feed.

        `at` itself means that the line there must be looked at. Only for a block with `lengths`.
        """
        return self._alike.reach(block, at)

    def learn(self, line: bytes) -> None:
        """Take a line that must be looked at for an example of those to come, if it is good."""
        if self._alike.may_learn() and self.is_plainly_good(line):
            self._alike.learn(line, jiter.from_json(line)["request"])

    def is_plainly_good(self, line: bytes) -> bool:
        """Tell, quickly, that the line is good; False means that `problem` must tell."""
        if len(line) > PARSED_BYTES:
            return False
        try:
            value = jiter.from_json(
                line, allow_inf_nan=False, cache_mode="keys", catch_duplicate_keys=True
            )
        except ValueError:
            return False
        if self._may_be_simplest and is_simplest(value):
            return True
        if not _is_well_shaped(value) or not self._is_within(value):
            return False
        return self._traps.judge(value["request"]) is None

    def is_bad(self, line: bytes) -> bool:
        """Tell exactly whether the line would be refused."""
        return self._judge(line) is not None

    def problem(
        self, line: bytes, number: int, offset: int, *, is_placed: bool = True
    ) -> Problem | None:
        """Return what is wrong with a line that is not blank, None if nothing is.

        `line` comes without its line feed; `number` counts from 1; `offset` is the line's first
        byte in the stored input. Unless it `is_placed`, the place in the line is not searched.
        """
        verdict = self._judge(line)
        if verdict is None:
            return None
        if not is_placed:
            return Problem(
                code=verdict.code,
                message=verdict.message,
                hint=verdict.hint,
                line=number,
                offset=offset,
            )
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
        if verdict.code == "duplicate_member":
            return duplicate_at(line)
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
        if self.is_plainly_good(line):
            return None
        verdict = _broken(line)
        if verdict:
            return verdict
        outline = line
        if len(line) > PARSED_BYTES and line.count(b'"') <= QUOTES_MAX:
            outline = without_texts(line)
        return self._outsized(line, outline) or self._misbuilt(line, outline)

    def _is_within(self, line: dict[str, Tree]) -> bool:
        """Tell that numbers are in range, the nesting well below every limit, and files allowed."""
        holders: list[dict[str, Tree]] = []
        containers = _containers(line, holders)
        if containers is None:
            return False
        # So few cannot be too deep, however they stand; nearly all lines end here.
        if len(containers) > self._free_levels and _levels(line) > self._free_levels:
            return False
        request = line["request"]
        for holder in holders:
            # What an ordinary request holds are no files, and nothing else holds objects in it.
            if holder is not request and not FILE_DATA.isdisjoint(holder):
                return stray_file(request, self._files) is None
        return True

    def _misbuilt(self, line: bytes, outline: bytes) -> Verdict | None:
        """Judge what must be built to be seen: members that stand twice, shape, files."""
        try:
            tree = jiter.from_json(outline, catch_duplicate_keys=True)
        except ValueError:
            # Everything else that jiter refuses has been found before, by others. The names are
            # compared, not their spelling.
            return Verdict(
                "duplicate_member",
                "a member stands twice in one object",
                hint="Send each member once; which one counts would be a guess.",
            )
        found = _misshapen(line) or stray_file(tree["request"], self._files)
        return found or self._traps.judge(tree["request"])

    def _outsized(self, line: bytes, outline: bytes) -> Verdict | None:
        """Judge what sound JSON can have too much of."""
        marks = marks_of(outline)
        if values_most(marks) > self._values_max:
            return Verdict(
                "too_many_values",
                f"the line holds more than {self._values_max} values",
                hint="Split the request (limit line_values_max).",
            )
        if deeper(marks, self._depth_max):
            return Verdict(
                "nesting_too_deep",
                f"objects and arrays are nested more than {self._depth_max} deep",
                hint="Flatten the line, or put the deep part into a string.",
            )
        deep = self._request_too_deep(outline)
        if deep:
            return deep
        # The outline is only quicker to search: the place is that in the line.
        return _wide_number(line) if _wide_number(outline) else None

    def _request_too_deep(self, outline: bytes) -> Verdict | None:
        request = _LINE.decode(outline).request
        if request is not UNSET and objects_deeper(marks_of(bytes(request)), self._objects_max):
            return Verdict(
                "nesting_too_deep",
                f"objects are nested more than {self._objects_max} deep inside `request`",
                hint="Vertex AI's importer would refuse the whole file; flatten the schema.",
            )
        return None


def _containers(line: Tree, holders: list[dict[str, Tree]]) -> list[Any] | None:
    """Return all objects and arrays of a line, itself first; None if a number is out of range.

    The objects that hold others without an array between are added to `holders`, but for the line.
    """
    containers = [line]
    holder = line
    # The list grows while it is read. The types are exact because jiter made them, and `type` is
    # half the cost of `isinstance`.
    for container in containers:
        is_object = type(container) is dict
        for value in container.values() if is_object else container:
            kind = type(value)
            if kind is str:
                continue
            if kind is dict or kind is list:
                containers.append(value)
                if is_object and kind is dict and container is not holder:
                    holder = container
                    holders.append(container)
            elif kind is float:
                if not math.isfinite(value):
                    return None
            elif kind is int and not _INTEGER_MIN <= value <= _INTEGER_MAX:
                return None
    return containers


def _levels(line: Tree) -> int:
    """Return how deep objects and arrays are nested."""
    levels = 0
    inner = [line]
    while inner:
        levels += 1
        inner = [
            value
            for container in inner
            for value in (container.values() if type(container) is dict else container)
            if type(value) is dict or type(value) is list
        ]
    return levels


def _is_well_shaped(value: object) -> bool:
    if type(value) is not dict or not _NOT_OF_A_LINE.isdisjoint(value):
        return False
    request = value.get("request")
    if type(request) is not dict or "config" in request:
        return False
    contents = request.get("contents")
    if type(contents) is not list or not contents:
        return False
    for content in contents:
        if type(content) is not dict:
            return False
        role = content.get("role")
        if type(role) is not str and role is not None:
            return False
        if role not in _KNOWN_ROLES:
            return False
    return True


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
    if not bytes(raw).startswith(b"["):
        return Verdict("contents_not_an_array", "`contents` is not an array", keys=keys, hint=hint)
    elements = _ELEMENTS.decode(raw)
    if not elements:
        return Verdict("empty_contents", "`contents` is an empty array", keys=keys, hint=hint)
    for index, element in enumerate(elements):
        verdict = _bad_content(bytes(element), (*keys, index), hint)
        if verdict:
            return verdict
    return None


def _bad_content(content: bytes, keys: Keys, hint: str) -> Verdict | None:
    if not content.startswith(b"{"):
        message = "an element of `contents` is not an object"
        return Verdict("content_not_an_object", message, keys=keys, hint=hint)
    raw = _CONTENT.decode(content).role
    role = None if raw is UNSET else msgspec.json.decode(raw)
    if role is None or (isinstance(role, str) and role in _KNOWN_ROLES):
        return None
    shown = escaped(role)[:_ROLE_CHARACTERS] if isinstance(role, str) else "no string"
    return Verdict(
        "unknown_role",
        f"`role` is {shown!r}, not one of {', '.join(ROLES)}",
        keys=(*keys, "role"),
        hint="OpenAI's `assistant` is `model` here, and `system` is `systemInstruction` in "
        "`request`.",
    )
