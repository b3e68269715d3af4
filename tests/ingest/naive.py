"""The same contract written the obvious way: everything in memory, json.loads, one line at a time.

Slow and simple on purpose; the property tests hold the push parser against it.
"""

import base64
import binascii
import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
from tests.ingest.importing import import_code

from penstock.core.files import FileRule
from penstock.core.limits import Limits
from penstock.errors import Problem, Refused
from penstock.ingest.index import ROW_BYTES, unpack_row
from penstock.ingest.intake import BodyIntake, Envelope, Intake
from penstock.ingest.jsonl import JsonlIntake

GOOD = b'{"request":{"contents":[{"parts":[{"text":"hi"}]}]}}'
GRAMMAR = {"invalid_json", "pretty_printed_json", "multiple_objects_on_line", "lone_surrogate"}


Tree = Any
"""What json.loads returns."""


class Taken(msgspec.Struct, frozen=True):
    """An accepted input, with everything that was written."""

    envelope: Envelope | None
    line_count: int
    stored: bytes
    rows: tuple[tuple[int, int], ...]


class Memory:
    """A sink that keeps everything, or only the sizes."""

    def __init__(self, *, keep: bool = True) -> None:
        self.blocks: list[bytes] = []
        self.rows: list[bytes] = []
        self.problems: list[bytes] = []
        self.sizes: list[int] = []
        self._keep = keep
        self._hash = hashlib.sha256()

    def write(self, block: bytes) -> None:
        """Take a block of the input."""
        self._hash.update(block)
        self.sizes.append(len(block))
        if self._keep:
            self.blocks.append(block)

    def write_index(self, rows: bytes) -> None:
        """Take rows of the index."""
        self.rows.append(rows)

    def write_problem(self, row: bytes) -> None:
        """Take a line that was put aside."""
        self.problems.append(row)

    def sha256(self) -> str:
        """Hash of all blocks."""
        return self._hash.hexdigest()


class Turned(msgspec.Struct, frozen=True):
    """A refusal: its class, code, words and problems."""

    kind: str
    code: str
    message: str
    hint: str | None
    problems: tuple[Problem, ...]
    total: int


def pieces(data: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """Cut the data into pieces of the sizes, the rest in one."""
    start = 0
    for size in sizes:
        yield data[start : start + size]
        start += size
    yield data[start:]


def take(
    data: bytes,
    sizes: Iterable[int] = (),
    limits: Limits | None = None,
    *,
    raw: bool = False,
) -> Taken | Turned:
    """Feed the data in pieces; `raw` feeds JSONL without the JSON around it."""
    door: Callable[..., Intake | JsonlIntake] = JsonlIntake if raw else Intake
    return through(functools.partial(door, limits or Limits(), files=FILES), data, sizes)


def through(
    door: Callable[..., BodyIntake | JsonlIntake], data: bytes, sizes: Iterable[int] = ()
) -> Taken | Turned:
    """Feed the data in pieces to a door that lacks nothing but its outputs."""
    sink = Memory()
    try:
        intake = door(sink=sink)
        for piece in pieces(data, sizes):
            intake.feed(piece)
        result = intake.finish()
    except Refused as refusal:
        return Turned(
            type(refusal).__name__,
            refusal.error_code,
            refusal.message,
            refusal.hint,
            refusal.problems,
            refusal.problems_total,
        )
    stored = b"".join(sink.blocks)
    assert result.input_bytes == len(stored)
    assert result.sha256 == hashlib.sha256(stored).hexdigest()
    packed = b"".join(sink.rows)
    rows = tuple(unpack_row(packed, row) for row in range(len(packed) // ROW_BYTES))
    envelope = getattr(result, "envelope", None)
    return Taken(envelope, result.line_count, stored, rows)


def body_of(text: bytes | str) -> bytes:
    """Wrap JSONL, or base64 of it, as clients do."""
    decoded = text.decode() if isinstance(text, bytes) else text
    return json.dumps({"payload": {"input_data": decoded}}).encode()


def turned(data: bytes, limits: Limits | None = None, *, raw: bool = False) -> Turned:
    """Return the refusal, having seen that whole and byte by byte give the same one."""
    whole = take(data, (), limits, raw=raw)
    assert isinstance(whole, Turned), whole
    assert take(data, [1] * len(data), limits, raw=raw) == whole
    return whole


def taken(data: bytes, limits: Limits | None = None, *, raw: bool = False) -> Taken:
    """Return what was accepted, having seen that whole and byte by byte give the same."""
    whole = take(data, (), limits, raw=raw)
    assert isinstance(whole, Taken), whole
    assert take(data, [1] * len(data), limits, raw=raw) == whole
    return whole


class _Double(Exception):
    """A member that stands twice."""


class _Wide(Exception):
    """A number out of range."""


def _integer(token: str) -> int:
    if len(token) > 20 or not -(2**63) <= int(token) < 2**64:
        raise _Wide
    return int(token)


def _double(token: str) -> float:
    if abs(float(token)) == float("inf"):
        raise _Wide
    return float(token)


def _constant(token: str) -> None:
    raise ValueError(token)


def _depth(value: object, *, arrays: bool) -> int:
    if isinstance(value, dict):
        return 1 + max((_depth(item, arrays=arrays) for item in value.values()), default=0)
    if isinstance(value, list):
        return arrays + max((_depth(item, arrays=arrays) for item in value), default=0)
    return 0


def line_code(
    line: bytes, limits: Limits, before: list[dict[str, Any]] | None = None
) -> str | None:
    """Return the code of what is wrong with one line; all of the grammar is `grammar`.

    `before` are the requests of the good lines before it; that of a good one is added.
    """
    if line.startswith(b"\xef\xbb\xbf"):
        return "bom"
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return "invalid_utf8"
    try:
        value = json.loads(text, parse_constant=_constant)
        # Members that stand twice are all kept, so that none can hide half of a surrogate pair.
        pairs = json.loads(text, object_pairs_hook=list)
        json.dumps(pairs, ensure_ascii=False).encode()
    except ValueError:
        return "grammar"
    if not isinstance(value, dict):
        return "not_an_object"
    request = value.get("request")
    if (
        _depth(value, arrays=True) > limits.json_depth_max
        or _depth(request, arrays=False) > limits.provider_depth_max
    ):
        return "nesting_too_deep"
    try:
        json.loads(text, parse_int=_integer, parse_float=_double)
        json.loads(text, object_pairs_hook=_no_doubles)
    except _Wide:
        return "number_out_of_range"
    except _Double:
        return "duplicate_member"
    before = [] if before is None else before
    code = _members_code(value) or import_code(value["request"], before)
    if code is None:
        before.append(value["request"])
    return code


def _no_doubles(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) < len(pairs):
        raise _Double


def _members_code(value: dict[str, Any]) -> str | None:
    if {"status", "response", "processed_time"} & value.keys():
        return "reserved_member"
    if "request" not in value:
        return "openai_format" if {"body", "messages"} & value.keys() else "missing_request"
    request = value["request"]
    if not isinstance(request, dict):
        return "request_not_an_object"
    if "config" in request:
        return "sdk_format"
    if "contents" not in request:
        return "openai_format" if "messages" in request else "missing_contents"
    if not isinstance(request["contents"], list):
        return "contents_not_an_array"
    return _contents_code(request["contents"]) or _files_code(request)


def _contents_code(contents: list[Any]) -> str | None:
    if not contents:
        return "empty_contents"
    for content in contents:
        if not isinstance(content, dict):
            return "content_not_an_object"
        if content.get("role") not in ("user", "model", "function", "", None):
            return "unknown_role"
    return None


def _files_code(request: dict[str, Any]) -> str | None:
    """Return the first fault of an address in the members of a request."""
    for inner in request.values():
        for file in _files(inner):
            for name, address in file.items():
                if name.lower() in ("fileuri", "file_uri") and address is not None:
                    code = file_code(address)
                    if code:
                        return code
    return None


def _files(value: Tree) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name.lower() in ("filedata", "file_data") and isinstance(inner, dict):
                yield inner
            yield from _files(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _files(inner)


PRIVATE = "gs://own-bucket/penstock/"
"""The server's folder in the corpus and the tests; the rest of the bucket is not."""

FILES = FileRule.of((), [PRIVATE])


def file_code(address: Tree) -> str | None:
    """Judge an address of the kinds that the tests name; tests/core/test_files.py has the rest."""
    if not isinstance(address, str) or not re.match(r"(gs|(?i:https))://...", address):
        return "invalid_file_uri"
    scheme, _, rest = address.partition("://")
    host, _, name = rest.partition("/")
    if re.search(r"\.\.|//|#|\\|[\0-\x1f]|@", rest):
        return "invalid_file_uri"
    if scheme != "gs":
        bad = not rest.isascii() or " " in rest or "%2f" in rest
        ours = host.endswith(".googleapis.com") and "own-bucket" in rest
    else:
        bad = not name or len(name) > 1_024 or host != host.lower()
        spelled = re.match(r"penstock(/|$)|.*[%*?{]", name)
        ours = host == "own-bucket" and spelled is not None
    if bad:
        return "invalid_file_uri"
    return "file_uri_not_allowed" if ours else None


def judge_jsonl(
    data: bytes, limits: Limits
) -> tuple[list[tuple[int, int, str]], tuple[tuple[int, int], ...]]:
    """Return the bad lines as `(number, offset, code)` and the index rows of all lines."""
    bad: list[tuple[int, int, str]] = []
    rows: list[tuple[int, int]] = []
    good: list[dict[str, Any]] = []
    offset = 0
    for number, raw in enumerate(data.split(b"\n"), start=1):
        line = raw.removesuffix(b"\r")
        if line.strip(b" \t\r"):
            rows.append((offset, len(line)))
            code = line_code(line, limits, good)
            if code:
                bad.append((number, offset, code))
        offset += len(raw) + 1
    return bad, tuple(rows)


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {"twins" if len(dict(pairs)) < len(pairs) else "pairs": pairs}


def _plain(value: Tree) -> Tree:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in next(iter(value.values()))}
    return value


def input_of(body: bytes) -> bytes | None:
    """Return the decoded input of a body, None when the JSON around it or base64 is wrong."""
    try:
        text = body.removeprefix(b"\xef\xbb\xbf").decode()
        tree = json.loads(
            text, parse_constant=_constant, parse_float=_double, object_pairs_hook=_no_twins
        )
        json.dumps(tree, ensure_ascii=False).encode()
    except (ValueError, _Wide):
        return None
    top = _plain(tree) if isinstance(tree, dict) else None
    if top is None or "twins" in tree or not isinstance(top.get("model", ""), str):
        return None
    payload = top.get("payload")
    if "payload" in top:
        twins = isinstance(payload, dict) and "twins" in dict(tree["pairs"])["payload"]
        if not isinstance(payload, dict) or twins or "input_data" in top:
            return None
        if not isinstance(payload.get("model", ""), str):
            return None
    data = (payload or top).get("input_data")
    return _decoded(data) if isinstance(data, str) else None


def _decoded(data: str) -> bytes | None:
    start = data.lstrip(" \t\r\n\ufeff")
    if not start or start[0] in "{[":
        return data.encode()
    compact = re.sub(r"[\r\n]", "", start)
    match = re.fullmatch(r"([A-Za-z0-9+/]*)(=[= \t]*|[ \t][= \t]*)?", compact)
    if not match:
        return None
    pads = (match[2] or "").count("=")
    try:
        decoded = base64.b64decode(match[1] + "=" * (-len(match[1]) % 4), validate=True)
    except binascii.Error:
        return None
    canonical = base64.b64encode(decoded).decode().rstrip("=") == match[1]
    return decoded if canonical and pads in (0, -len(match[1]) % 4) else None
