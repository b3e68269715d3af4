"""J1: each document of JSONTestSuite in three places: as a whole line, as a value, as a name.

The verdicts are rules. A document that must be accepted (`y_`) is accepted as a value; one that
must be refused (`n_`) is no JSON in any place; what the suite leaves open (`i_`) has our verdict
below. As a line a document is never a request, so the code says whether its grammar was understood.
As a name it stands without the brackets of the array that holds it, and only a string can be one.
"""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from tests.corpus.case import GOOD, Case, Row, cases

SUITE: Final = Path(__file__).with_name("json_test_suite.json")
REQUEST: Final = b', "request": {"contents": [{"parts": [{"text": "x"}]}]}}'
BOM: Final = b"\xef\xbb\xbf"

OPEN: Final = {
    "i_number_double_huge_neg_exp": "ok",
    "i_number_huge_exp": "number_out_of_range",
    "i_number_neg_int_huge_exp": "number_out_of_range",
    "i_number_pos_double_huge_exp": "number_out_of_range",
    "i_number_real_neg_overflow": "number_out_of_range",
    "i_number_real_pos_overflow": "number_out_of_range",
    "i_number_real_underflow": "ok",
    "i_number_too_big_neg_int": "number_out_of_range",
    "i_number_too_big_pos_int": "number_out_of_range",
    "i_number_very_big_negative_int": "number_out_of_range",
    "i_object_key_lone_2nd_surrogate": "lone_surrogate",
    "i_string_1st_surrogate_but_2nd_missing": "lone_surrogate",
    "i_string_1st_valid_surrogate_2nd_invalid": "lone_surrogate",
    "i_string_UTF-16LE_with_BOM": "invalid_utf8",
    "i_string_UTF-8_invalid_sequence": "invalid_utf8",
    "i_string_UTF8_surrogate_U+D800": "invalid_utf8",
    "i_string_incomplete_surrogate_and_escape_valid": "lone_surrogate",
    "i_string_incomplete_surrogate_pair": "lone_surrogate",
    "i_string_incomplete_surrogates_escape_valid": "lone_surrogate",
    "i_string_invalid_lonely_surrogate": "lone_surrogate",
    "i_string_invalid_surrogate": "lone_surrogate",
    "i_string_invalid_utf-8": "invalid_utf8",
    "i_string_inverted_surrogates_U+1D11E": "lone_surrogate",
    "i_string_iso_latin_1": "invalid_utf8",
    "i_string_lone_second_surrogate": "lone_surrogate",
    "i_string_lone_utf8_continuation_byte": "invalid_utf8",
    "i_string_not_in_unicode_range": "invalid_utf8",
    "i_string_overlong_sequence_2_bytes": "invalid_utf8",
    "i_string_overlong_sequence_6_bytes": "invalid_utf8",
    "i_string_overlong_sequence_6_bytes_null": "invalid_utf8",
    "i_string_truncated-utf-8": "invalid_utf8",
    "i_string_utf16BE_no_BOM": "invalid_utf8",
    "i_string_utf16LE_no_BOM": "invalid_utf8",
    "i_structure_500_nested_arrays": "nesting_too_deep",
    "i_structure_UTF-8_BOM_empty_object": "not_json",
}
"""What JSON leaves open, decided: a number must fit 64 bits or a double, where too small is zero;
text is UTF-8 without halves of pairs; nothing is nested more than 64 deep."""

REFUSED: Final = {
    "y_object_duplicated_key": "duplicate_member",
    "y_object_duplicated_key_and_value": "duplicate_member",
}
"""Sound grammar that we refuse all the same: parsers differ in which of two members counts."""

# A line feed ends a line wherever it stands, so each of these is cut in two or more pieces of JSON.
CUT: Final = {
    ("n_array_newlines_unclosed", "line"): "not_json@2,not_an_object@3,not_json@4",
    ("n_array_newlines_unclosed", "value"): "not_json@2,not_an_object@3,not_json@4",
    ("n_array_newlines_unclosed", "name"): "not_json@2,not_an_object@3,not_json@4",
    ("n_array_unclosed_with_new_lines", "line"): "not_json@2,not_an_object@3,not_json@4",
    ("n_array_unclosed_with_new_lines", "value"): "not_json@2,not_an_object@3,not_json@4",
    ("n_array_unclosed_with_new_lines", "name"): "not_json@2,not_an_object@3,not_json@4",
    ("n_number_invalid-utf-8-in-int", "line"): "invalid_utf8@2",
    ("n_number_invalid-utf-8-in-int", "value"): "invalid_utf8@2,not_json@3",
    ("n_number_invalid-utf-8-in-int", "name"): "invalid_utf8@2,not_json@3",
    ("n_object_bracket_key", "line"): "not_json@2",
    ("n_object_bracket_key", "value"): "not_json@2,not_json@3",
    ("n_object_bracket_key", "name"): "not_json@2,not_json@3",
    ("n_string_unescaped_newline", "line"): "not_json@2,not_json@3",
    ("n_string_unescaped_newline", "value"): "not_json@2,not_json@3",
    ("n_string_unescaped_newline", "name"): "not_json@2,not_json@3",
    ("n_structure_open_array_object", "line"): "nesting_too_deep@2",
    ("n_structure_open_array_object", "value"): "nesting_too_deep@2,not_json@3",
    ("n_structure_open_array_object", "name"): "not_json@2,not_json@3",
    ("y_array_with_1_and_newline", "line"): "not_json@2,not_json@3",
    ("y_array_with_1_and_newline", "value"): "not_json@2,not_json@3",
    ("y_array_with_1_and_newline", "name"): "not_json@2,not_json@3",
    ("y_number_double_close_to_zero", "line"): "not_an_object@2",
    ("y_number_double_close_to_zero", "value"): "not_json@2,not_json@3",
    ("y_number_double_close_to_zero", "name"): "not_json@2,not_json@3",
    ("y_object_with_newlines", "line"): "not_json@2,not_json@3,not_json@4",
    ("y_object_with_newlines", "value"): "not_json@2,not_json@3,not_json@4",
    ("y_object_with_newlines", "name"): "not_json@2,not_json@3,not_json@4",
    ("y_structure_trailing_newline", "line"): "not_an_object@2",
    ("y_structure_trailing_newline", "value"): "not_json@2,not_json@3",
    ("y_structure_trailing_newline", "name"): "not_json@2,not_json@3",
}

# No parser follows a hundred thousand brackets to find out that they never end.
DEEP: Final = frozenset({"n_structure_100000_opening_arrays", "n_structure_open_array_object"})

HALVES: Final = frozenset(
    {
        "n_string_1_surrogate_then_escape",
        "n_string_1_surrogate_then_escape_u",
        "n_string_1_surrogate_then_escape_u1",
        "n_string_1_surrogate_then_escape_u1x",
        "n_string_incomplete_surrogate",
        "n_string_incomplete_surrogate_escape_invalid",
    }
)
"""Half of a surrogate pair, and broken behind it; what stands first is told."""

MEANINGS: Final = frozenset({"number_out_of_range", "nesting_too_deep", "duplicate_member"})
"""Asked of objects only: what is no object is not looked into."""

# A blank line is no request and no fault.
BLANK: Final = frozenset({"n_single_space", "n_structure_no_data"})

_STRING: Final = re.compile(rb'\s*"(?:[^"\\]|\\.)*"\s*', re.DOTALL)


def documents() -> dict[str, bytes]:
    """Return the documents by name."""
    suite = msgspec.json.decode(SUITE.read_bytes())
    return {name: _bytes(entry) for name, entry in suite["documents"].items()}


def _bytes(entry: dict[str, Any]) -> bytes:
    if "base64" in entry:
        return base64.b64decode(entry["base64"], validate=True)
    text: str = entry["text"] * entry.get("times", 1) + entry.get("end", "")
    return text.encode()


def _rows() -> Iterator[Row]:
    for name, document in documents().items():
        places = {
            "line": document,
            "value": b'{"k": ' + document + REQUEST,
            "name": b"{" + _element(document) + b": 1" + REQUEST,
        }
        for place, line in places.items():
            verdict = CUT.get((name, place)) or _verdict(name, place, document, line)
            count = 3 - (place == "line" and name in BLANK)
            said = f"ok:{count}" if verdict == "ok" else verdict
            yield f"{name}/{place}", GOOD + b"\n" + line + b"\n" + GOOD, said


def _element(document: bytes) -> bytes:
    """Return what the array of a document holds, or the document if it is no array."""
    is_array = document.startswith(b"[") and document.endswith(b"]")
    return document[1:-1] if is_array else document


def _verdict(name: str, place: str, document: bytes, line: bytes) -> str:
    if place == "line" and name in BLANK:
        return "ok"
    code = _grammar(name, place, document, line)
    is_object = document.strip().startswith(b"{")
    if place == "line" and name not in DEEP:
        if code in MEANINGS | {"ok"} and not is_object:
            code = "not_an_object"
        elif code == "ok":
            code = "missing_request"
    return code if code == "ok" else f"{code}@2"


def _grammar(name: str, place: str, document: bytes, line: bytes) -> str:
    """Return what is wrong below the level of members."""
    if line.startswith(BOM):
        return "bom"
    if not _is_utf8(line):
        return "invalid_utf8"
    if name in HALVES:
        return "lone_surrogate"
    if place == "name" and not _STRING.fullmatch(_element(document)):
        return "not_json"
    if name in DEEP:
        return "nesting_too_deep"
    if name in OPEN:
        return OPEN[name]
    if name.startswith("n_"):
        return "not_json"
    return REFUSED.get(name, "ok")


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


CASES: Final[list[Case]] = cases("J1", _rows())
