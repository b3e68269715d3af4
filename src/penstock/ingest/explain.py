"""What a parser's complaint means for the person who wrote the file."""

import re
from typing import Final

import msgspec
import orjson

from penstock.ingest.spot import Keys

_EXPLAINED_BYTES: Final = 1_048_576
_BYTE: Final = re.compile(r"\(byte (\d+)\)")
_LITERALS: Final = re.compile(rb"-?(?:NaN|Infinity|nan|inf\b)")
_PYTHON: Final = re.compile(rb"(?:True|False|None)\b")
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_PAIRED: Final = re.compile(
    rb"(?:[^\\]++|\\[^u]|\\u(?![dD][89a-fA-F])"
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})*+"
)
_SPREAD: Final = re.compile(rb"[{\[,:][ \t\r]*\Z")
_CONTINUATION: Final = re.compile(rb"[ \t]*[\"}\]]")

_SPREAD_HINT: Final = (
    "This looks like one JSON document spread over lines; write each object on one line "
    "(`jq -c . file`)."
)


class Verdict(msgspec.Struct, frozen=True):
    """Why a line is refused, and enough to find the place when somebody asks for it.

    `at` is the byte in the line; `keys`, when given, lead to the place instead, without the last
    `missing` of them.
    """

    code: str
    message: str
    at: int = 0
    keys: Keys | None = None
    missing: int = 0
    hint: str | None = None


def syntax_verdict(line: bytes, complaint: str) -> Verdict:
    """Explain why a line of sound UTF-8 is not JSON; `complaint` is msgspec's."""
    at, message = _spot(line, complaint)
    if _SURROGATE.match(line, at):
        return Verdict(
            "lone_surrogate",
            "half of a surrogate pair stands alone",
            at=at,
            hint="A text was cut in the middle of an emoji; cut by characters instead.",
        )
    if "content after document" in message or "trailing characters" in message:
        return _second_value(line, at)
    spread = at >= len(line) and _SPREAD.search(line)
    if spread or _CONTINUATION.match(line):
        return Verdict("pretty_printed_json", message, at=at, hint=_SPREAD_HINT)
    return Verdict("invalid_json", message, at=at, hint=_hint(line, at, message))


def _spot(line: bytes, complaint: str) -> tuple[int, str]:
    """Return `(byte, message)`; orjson has the better words, but builds what it reads."""
    try:
        orjson.loads(line if len(line) <= _EXPLAINED_BYTES else b"0")
    except orjson.JSONDecodeError as error:
        return len(line.decode()[: error.pos].encode()), error.msg
    lone = next(_PAIRED.finditer(line)).end()
    if _SURROGATE.match(line, lone):
        return lone, complaint
    byte = _BYTE.search(complaint)
    if byte is None:
        return len(line), complaint
    # msgspec has already read the character when it finds that nothing may follow.
    return int(byte[1]) - ("trailing characters" in complaint), _BYTE.sub("", complaint).strip()


def _second_value(line: bytes, at: int) -> Verdict:
    rest = line[at : at + 1]
    if rest == b"{":
        return Verdict(
            "multiple_objects_on_line",
            "a second object stands on this line",
            at=at,
            hint="Write a line feed between objects; a lone carriage return does not end a line.",
        )
    if _CONTINUATION.match(line):
        return Verdict(
            "pretty_printed_json", "the line is a part of JSON", at=at, hint=_SPREAD_HINT
        )
    hint = (
        "Lines are not separated by commas; remove it." if rest == b"," else "Remove what follows."
    )
    return Verdict("invalid_json", "there is something after the value", at=at, hint=hint)


def _hint(line: bytes, at: int, message: str) -> str:
    if "trailing comma" in message:
        return "Remove the comma after the last member or element."
    if line[at : at + 1] == b"'":
        return "JSON strings take double quotes."
    if _LITERALS.match(line, at) or _LITERALS.match(line, max(0, at - 1)):
        return "JSON has no NaN and no Infinity; use null or a string."
    if _PYTHON.match(line, at):
        return "JSON writes true, false and null."
    if at < len(line):
        return "Let a JSON library write the line."
    if line.replace(b"\\\\", b"").replace(b'\\"', b"").count(b'"') % 2:
        return "The line ends inside a string; a line break in a string is written \\n."
    return "The line ends before its object does; was the file cut?"
