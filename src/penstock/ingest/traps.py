"""What the provider's importer would refuse the whole file for, found at the line that holds it.

The importer makes one table of a file: a column of each path of members, with one type for all
lines. Whatever does not fit fails every line of the job before any is answered. So each request is
walked as the provider will get it (`core/normalise`), beside a tree of the columns that the lines
before it made; only good lines make any. What the API itself defines has its type from the start.
"""

import re
from hashlib import blake2b
from typing import Any, Final, NoReturn

import orjson

from penstock.core.gemini_request import REQUEST, Kind, Member, Message
from penstock.core.limits import Limits
from penstock.core.normalise import normalised
from penstock.core.ordinary import are_ordinary, is_ordinary_beside
from penstock.ingest.explain import Verdict
from penstock.ingest.spot import Keys, escaped

NAME_CHARACTERS_MAX: Final = 300
"""Of a column's name; BigQuery takes no longer ones."""

KNOWN_MAX: Final = 4_096
"""Requests whose members beside `contents` are remembered as good; most files have one such set."""

_BAD_IN_NAME: Final = re.compile(r"[\s!\"$()*,./;?@\[\\\]^`{}~]")
_NAME_SHOWN: Final = 40

_SCALAR: Final = 1
_STRUCT: Final = 2
_ARRAY: Final = 4
_NULL: Final = 8
_NAMES: Final = {_SCALAR: "a plain value", _STRUCT: "an object", _ARRAY: "an array", _NULL: "null"}
_ELEMENTS: Final = "[]"
"""The column of an array's elements, under a name that no member can have."""


class _Column:
    """What one path of members has held so far."""

    __slots__ = ("members", "seen")

    def __init__(self, seen: int = 0) -> None:
        self.seen = seen
        self.members: dict[str, _Column] = {}


class _Caught(Exception):
    """A trap, from wherever in the walk it was found."""

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


class Traps:
    """The columns of one file; not for several."""

    def __init__(self, limits: Limits) -> None:
        self._depth_max = limits.provider_depth_max
        self._columns_max = limits.import_columns_max
        self._root = _known(REQUEST)
        self._columns = 0
        self._path: list[str | int] = []
        # What this line has changed, to take back if it is bad after all.
        self._seen_before: list[tuple[_Column, int]] = []
        self._added: list[tuple[dict[str, _Column], str]] = []
        self._good: set[bytes] = set()

    def judge(self, request: dict[str, Any]) -> Verdict | None:
        """Return what the importer would refuse; a request that is good makes its columns."""
        contents = request["contents"]
        is_ordinary = are_ordinary(contents)
        if is_ordinary and is_ordinary_beside(request):
            return None
        rest = {name: inner for name, inner in request.items() if name != "contents"}
        digest = blake2b(orjson.dumps(rest), digest_size=16).digest()
        columns = self._columns
        try:
            if not is_ordinary:
                self._walk({"contents": contents})
            if digest not in self._good:
                self._walk(rest)
        except _Caught as caught:
            keys = _keys_as_sent(request, self._path)
            self._take_back(columns)
            return Verdict(caught.code, caught.message, keys=keys, hint=caught.hint)
        self._seen_before.clear()
        self._added.clear()
        if len(self._good) < KNOWN_MAX:
            self._good.add(digest)
        return None

    def _walk(self, members: dict[str, Any]) -> None:
        copy = normalised(members)
        if copy:
            self._struct(copy, self._root, 1)

    def _take_back(self, columns: int) -> None:
        for column, seen in reversed(self._seen_before):
            column.seen = seen
        for members, name in reversed(self._added):
            del members[name]
        self._columns = columns
        self._seen_before.clear()
        self._added.clear()
        self._path.clear()

    def _struct(self, value: dict[str, Any], column: _Column, depth: int) -> None:
        if depth > self._depth_max:
            raise _Caught(
                "nesting_too_deep",
                f"objects are nested more than {self._depth_max} deep inside `request`",
                "Vertex AI's importer would refuse the whole file; flatten the schema.",
            )
        if not value:
            raise _Caught(
                "empty_object",
                "an object without members cannot be imported",
                "Leave it out, or give it a member; Vertex AI's importer would refuse the whole "
                "file.",
            )
        members = column.members
        for name, inner in value.items():
            self._path.append(name)
            known = members.get(name)
            if known is None:
                known = self._new_column(members, name)
            self._value(inner, known, depth)
            self._path.pop()

    def _new_column(self, members: dict[str, _Column], name: str) -> _Column:
        if not name or len(name) > NAME_CHARACTERS_MAX or _BAD_IN_NAME.search(name):
            _refuse_name(name)
        if self._columns >= self._columns_max:
            raise _Caught(
                "too_many_columns",
                f"the lines up to this one have more than {self._columns_max} different members",
                "Put data with names of its own into a string (limit import_columns_max).",
            )
        self._columns += 1
        column = members[name] = _Column()
        self._added.append((members, name))
        return column

    def _value(self, value: object, column: _Column, depth: int) -> None:
        if type(value) is dict:
            self._see(column, _STRUCT)
            self._struct(value, column, depth + 1)
        elif type(value) is list:
            self._see(column, _ARRAY)
            self._array(value, column, depth)
        else:
            self._see(column, _NULL if value is None else _SCALAR)

    def _array(self, value: list[Any], column: _Column, depth: int) -> None:
        elements = column.members.get(_ELEMENTS)
        if elements is None:
            elements = column.members[_ELEMENTS] = _Column()
            self._added.append((column.members, _ELEMENTS))
        for index, element in enumerate(value):
            self._path.append(index)
            if element is None:
                raise _Caught(
                    "null_in_array",
                    "an array holds null",
                    "Leave the element out; Vertex AI's importer would refuse the whole file.",
                )
            if type(element) is list:
                self._array(element, elements, depth)
            else:
                self._value(element, elements, depth)
            self._path.pop()

    def _see(self, column: _Column, kind: int) -> None:
        before = column.seen
        if before & kind:
            return
        seen = before | kind
        if seen & _ARRAY and seen != _ARRAY:
            _refuse_mix(kind, _ARRAY if before & _ARRAY else before & ~_ARRAY)
        if seen & _STRUCT and seen & _SCALAR:
            _refuse_mix(kind, before & (_STRUCT | _SCALAR))
        self._seen_before.append((column, before))
        column.seen = seen


def _refuse_name(name: str) -> NoReturn:
    hint = "Use letters, digits and underscores; Vertex AI's importer would refuse the whole file."
    if name in ("$ref", "$defs"):
        hint = (
            "References are put in place only where they are not circular, name `#/$defs/...` and "
            "have no more than notes beside them; write the schema out."
        )
    shown = escaped(name[:_NAME_SHOWN])
    raise _Caught("invalid_member_name", f"the name {shown!r} cannot be that of a column", hint)


def _refuse_mix(kind: int, before: int) -> NoReturn:
    if (kind | before) & _NULL:
        raise _Caught(
            "null_in_array",
            "null and an array stand in one member, here or in a line before",
            "Leave the member out where it has no value; Vertex AI's importer would refuse the "
            "whole file.",
        )
    other = next(name for bit, name in _NAMES.items() if bit & before)
    raise _Caught(
        "mixed_types",
        f"it is {_NAMES[kind]} here and {other} in the API or in a line before",
        "Give it the same kind of value in every line; Vertex AI's importer would refuse the "
        "whole file.",
    )


def _known(message: Message) -> _Column:
    """Return the columns that the API itself defines."""
    column = _Column(_STRUCT)
    for name, member in message.members.items():
        inner = _known_member(member)
        if member.is_list:
            array = _Column(_ARRAY)
            array.members[_ELEMENTS] = inner
            inner = array
        column.members[name] = inner
    return column


def _known_member(member: Member) -> _Column:
    if member.of is not None:
        return _known(member.of)
    return _Column(_SCALAR if member.kind is Kind.SCALAR else 0)


def _keys_as_sent(request: dict[str, Any], path: list[str | int]) -> Keys:
    """Return where in the line as it was sent the place lies that the copy has at `path`."""
    keys: list[str | int | None] = ["request"]
    node: Any = request
    for key in path:
        if isinstance(key, str):
            spelled = _spelling(key, node)
            if spelled is None:
                # What a reference names lies elsewhere; the way there ends at the reference.
                break
            keys.append(spelled)
            node = node[spelled]
        elif type(node) is list:
            # Otherwise one object became an array of one.
            keys.append(key)
            node = node[key]
    return tuple(keys)


def _spelling(name: str, node: Any) -> str | None:  # noqa: ANN401  # any JSON
    """Return which spelling of a name of the API an object as it was sent has, if any."""
    snake = re.sub(r"([A-Z])", r"_\1", name).lower()
    both = (name, snake) if type(node) is dict else ()
    return next((one for one in both if one in node), None)
