"""J2: what grammar leaves open, as a value or a name of a line that is right otherwise.

The verdicts follow the rules at the head of penstock/ingest/check.py: integers fit int64 or uint64,
other numbers a double, where too small is zero; names are unique within an object, compared after
their escapes; text is UTF-8 without halves of surrogate pairs; 64 levels, 15 objects in `request`.
"""

from collections.abc import Iterator
from typing import Final

from tests.corpus.case import GOOD, Bytes, Case, Row, cases, on_line_one

TAIL: Final = b', "request": {"contents": [{"parts": [{"text": "x"}]}]}}'
BOM: Final = b"\xef\xbb\xbf"

NUMBERS: Final = {
    "0": "ok",
    "-0": "ok",
    "-0.0": "ok",
    "0e999999": "ok",
    "1e308": "ok",
    "-1E+308": "ok",
    "1.7976931348623157e308": "ok",
    "1.7976931348623158e308": "ok",
    "1.7976931348623159e308": "number_out_of_range",
    "1e309": "number_out_of_range",
    "1e400": "number_out_of_range",
    "-1e400": "number_out_of_range",
    "1E+99999": "number_out_of_range",
    "5e-324": "ok",
    "1e-400": "ok",
    "-1e-99999": "ok",
    "9223372036854775807": "ok",
    "9223372036854775808": "ok",
    "18446744073709551615": "ok",
    "18446744073709551616": "number_out_of_range",
    "-9223372036854775808": "ok",
    "-9223372036854775809": "number_out_of_range",
    "18446744073709551616.0": "ok",
    "1e19": "ok",
    "123456789012345678901234567890": "number_out_of_range",
    "+1": "not_json",
    ".5": "not_json",
    "5.": "not_json",
    "01": "not_json",
    "-01": "not_json",
    "-": "not_json",
    "--1": "not_json",
    "- 1": "not_json",
    "1e": "not_json",
    "1e+": "not_json",
    "1e1.5": "not_json",
    "0x10": "not_json",
    "0b1": "not_json",
    "1_000": "not_json",
    "1L": "not_json",
    "1 2": "not_json",
    "1,5": "not_json",
    "NaN": "not_json",
    "-NaN": "not_json",
    "nan": "not_json",
    "Infinity": "not_json",
    "-Infinity": "not_json",
    "inf": "not_json",
    "1e999e1": "not_json",
    "\uff11": "not_json",
    "\u221e": "not_json",
}

LONG_NUMBERS: Final[dict[str, tuple[bytes, str]]] = {
    "5000 digits": (b"9" * 5_000, "number_out_of_range"),
    "4301 digits, where Python's int gives up": (b"1" * 4_301, "number_out_of_range"),
    "21 digits": (b"1" * 21, "number_out_of_range"),
    "a fraction of 5000 digits": (b"0." + b"1" * 5_000, "ok"),
    "an exponent of 5000 digits": (b"1e" + b"9" * 5_000, "number_out_of_range"),
    "an exponent that is written long": (b"1e" + b"0" * 500 + b"1", "ok"),
    "400 digits and a fraction": (b"1" * 400 + b".5", "number_out_of_range"),
}

LITERALS: Final = {
    "null": "ok",
    "true": "ok",
    "false": "ok",
    "True": "not_json",
    "None": "not_json",
    "TRUE": "not_json",
    "nul": "not_json",
    "nulll": "not_json",
    "undefined": "not_json",
    "'x'": "not_json",
    "`x`": "not_json",
    "x": "not_json",
    "[1,]": "not_json",
    "[,1]": "not_json",
    '{"a":1,}': "not_json",
    "{a:1}": "not_json",
    '{"a" 1}': "not_json",
    '{"a":1 "b":2}': "not_json",
    "[1 2]": "not_json",
    "1 // c": "not_json",
    "/* c */ 1": "not_json",
    "1 # c": "not_json",
    "": "not_json",
    "[]": "ok",
    "{}": "ok",
    "[[],{},[{}]]": "ok",
}

INSIDES: Final[dict[str, tuple[bytes, str]]] = {
    "empty": (b"", "ok"),
    "a pair": (rb"\ud83d\ude00", "ok"),
    "a pair in capitals": (rb"\uD83D\uDE00", "ok"),
    "a high half": (rb"\ud83d", "lone_surrogate"),
    "a low half": (rb"\ude00", "lone_surrogate"),
    "halves the wrong way round": (rb"\ude00\ud83d", "lone_surrogate"),
    "two high halves": (rb"\ud83d\ud83d", "lone_surrogate"),
    "a high half and a letter": (rb"\ud83dx", "lone_surrogate"),
    "a high half and an escape": (rb"\ud83d\n", "lone_surrogate"),
    "a high half and another code": (rb"\ud83d\u0041", "lone_surrogate"),
    "a pair and a half": (rb"\ud83d\ude00\ud83d", "lone_surrogate"),
    "the first and the last half": (rb"\ud800\udfff", "ok"),
    "half of an escape": (rb"\ud8", "not_json"),
    "a half in its bytes": (b"\xed\xa0\x80", "invalid_utf8"),
    "a pair in its bytes, CESU-8": (b"\xed\xa0\xbd\xed\xb8\x80", "invalid_utf8"),
    "the last code point": (b"\xf4\x8f\xbf\xbf", "ok"),
    "beyond the last code point": (b"\xf4\x90\x80\x80", "invalid_utf8"),
    "an overlong NUL": (b"\xc0\x80", "invalid_utf8"),
    "an overlong slash": (b"\xc0\xaf", "invalid_utf8"),
    "an overlong slash of three": (b"\xe0\x80\xaf", "invalid_utf8"),
    "an overlong slash of four": (b"\xf0\x80\x80\xaf", "invalid_utf8"),
    "five bytes": (b"\xf8\x88\x80\x80\x80", "invalid_utf8"),
    "six bytes": (b"\xfc\x84\x80\x80\x80\x80", "invalid_utf8"),
    "a byte that goes on with nothing": (b"\x80", "invalid_utf8"),
    "two of three bytes": (b"\xe2\x82", "invalid_utf8"),
    "three of four bytes": (b"\xf0\x9f\x98", "invalid_utf8"),
    "0xFE": (b"\xfe", "invalid_utf8"),
    "0xFF": (b"\xff", "invalid_utf8"),
    "Latin-1": (b"caf\xe9", "invalid_utf8"),
    "Windows-1252": (b"\x93x\x94", "invalid_utf8"),
    "U+FFFE and U+FFFF": (b"\xef\xbf\xbe\xef\xbf\xbf", "ok"),
    "a mark inside": (BOM, "ok"),
    "DEL": (b"\x7f", "ok"),
    "U+0080": (b"\xc2\x80", "ok"),
    "U+2028 and U+2029": (b"\xe2\x80\xa8\xe2\x80\xa9", "ok"),
    "from right to left": (b"\xe2\x80\xae\xd7\xa9\xd7\x9c\xd7\x95\xd7\x9d", "ok"),
    "a family of four": ("\U0001f468\u200d\U0001f469\u200d\U0001f467".encode(), "ok"),
    "a NUL": (b"\x00", "not_json"),
    "0x01": (b"\x01", "not_json"),
    "a backspace": (b"\x08", "not_json"),
    "a tab": (b"\t", "not_json"),
    "a carriage return": (b"a\rb", "not_json"),
    "a vertical tab": (b"\x0b", "not_json"),
    "an escape character": (b"\x1b[31m", "not_json"),
    "0x1F": (b"\x1f", "not_json"),
    "an escaped NUL": (rb"\u0000", "ok"),
    "all short escapes": (rb"\"\\\/\b\f\n\r\t", "ok"),
    "a quote by its number": (rb"\u0022", "ok"),
    "an escaped line feed": (rb"\u000a", "ok"),
    r"\x41": (rb"\x41", "not_json"),
    r"\a": (rb"\a", "not_json"),
    r"\0": (rb"\0", "not_json"),
    r"\'": (rb"\'", "not_json"),
    r"\u{1F600}": (rb"\u{1F600}", "not_json"),
    r"\U0001F600": (rb"\U0001F600", "not_json"),
    r"\u00g0": (rb"\u00g0", "not_json"),
    r"\u 041": (rb"\u 041", "not_json"),
    r"\u+041": (rb"\u+041", "not_json"),
}

OBJECTS: Final = {
    '{"a":1,"a":1}': "duplicate_member",
    '{"a":1,"a":2}': "duplicate_member",
    '{"a":1,"b":2,"a":3}': "duplicate_member",
    r'{"a":1,"\u0061":2}': "duplicate_member",
    r'{"/":1,"\/":2}': "duplicate_member",
    '{"":1,"":2}': "duplicate_member",
    '[{"a":[{"b":1,"b":1}]}]': "duplicate_member",
    '{"__proto__":{},"__proto__":{}}': "duplicate_member",
    r'{"\ud83d\ude00":1,"😀":2}': "duplicate_member",
    '[{"a":1},{"a":1}]': "ok",
    '{"a":{"a":1}}': "ok",
    '{"a":1,"A":2}': "ok",
    '{"a":1,"a ":2}': "ok",
    '{"\u00e9":1,"e\u0301":2}': "ok",
    '{"__proto__":{"x":1}}': "ok",
    '{"constructor":{"prototype":{}}}': "ok",
    '{"toString":1,"$ref":"#","@type":"x"}': "ok",
    r'{"\u0000":1,"":2}': "ok",
}


def _rows() -> Iterator[Row]:
    for table in (NUMBERS, LITERALS, OBJECTS):
        for text, verdict in table.items():
            yield f"value {text}", b'{"k": ' + text.encode() + TAIL, verdict
    for name, (value, verdict) in LONG_NUMBERS.items():
        yield name, b'{"k": ' + value + TAIL, verdict
    for name, (inside, verdict) in INSIDES.items():
        yield f"text with {name}", b'{"k": "' + inside + b'"' + TAIL, verdict
    # A name is text like any other.
    for name in ("a high half", "an overlong NUL", "a tab", "an escaped NUL", "a pair"):
        inside, verdict = INSIDES[name]
        yield f"name with {name}", b'{"' + inside + b'": 1' + TAIL, verdict
    yield from _nested()
    yield "request twice", b'{"request": {}' + TAIL, "duplicate_member"
    yield r"request twice, once escaped", rb'{"\u0072equest": {}' + TAIL, "duplicate_member"
    yield (
        "a member of contents twice",
        b'{"request":{"contents":[{"role":"user","parts":[],"role":"user"}]}}',
        "duplicate_member",
    )
    yield "a number in request", b'{"request":{"contents":[{}],"n":1e999}}', "number_out_of_range"


def _nested() -> Iterator[Row]:
    """Levels are counted with the line's own object."""
    for inner, verdict in ((63, "ok"), (64, "nesting_too_deep"), (100, "nesting_too_deep")):
        yield f"{inner} arrays", b'{"k": ' + b"[" * inner + b"]" * inner + TAIL, verdict
        objects = b'{"a":' * inner + b"1" + b"}" * inner
        yield f"{inner} objects", b'{"k": ' + objects + TAIL, verdict
    for inner in (1_000, 100_000):
        yield f"{inner} arrays", b'{"k": ' + b"[" * inner + b"]" * inner + TAIL, "nesting_too_deep"
    # Nobody follows a hundred thousand brackets to find out that they never end.
    yield "500 open arrays", b'{"k": ' + b"[" * 500, "not_json"
    yield "100000 open arrays", b'{"k": ' + b"[" * 100_000, "nesting_too_deep"
    yield "brackets in a text", b'{"k": "' + b"[{" * 500 + b'"' + TAIL, "ok"
    for inner, verdict in ((14, "ok"), (15, "nesting_too_deep")):
        objects = b'{"a":' * inner + b"1" + b"}" * inner
        line = b'{"request":{"contents":[{"parts":[]}],"t":' + objects + b"}}"
        yield f"{inner} objects in request", line, verdict
    lists = b"[" * 40 + b"]" * 40
    line = b'{"request":{"contents":[{"parts":[]}],"t":' + lists + b"}}"
    yield "40 arrays in request", line, "ok"


FILES: Final[tuple[Row, ...]] = (
    ("a mark at the start", BOM + GOOD, "ok:1"),
    ("two marks at the start", BOM + BOM + GOOD, "bom@1"),
    ("a mark on line 2", GOOD + b"\n" + BOM + GOOD, "bom@2"),
    ("a mark behind a blank", b" " + BOM + GOOD, "not_json@1"),
    ("UTF-16, little end first", b"\xff\xfe" + GOOD.decode().encode("utf-16-le"), "utf16@1"),
    ("UTF-16, big end first", b"\xfe\xff" + GOOD.decode().encode("utf-16-be"), "utf16@1"),
    ("UTF-32, little end first", b"\xff\xfe\x00\x00" + GOOD, "utf16@1"),
    ("UTF-32, big end first", b"\x00\x00\xfe\xff" + GOOD, "invalid_utf8@1"),
    ("UTF-16 without a mark", GOOD.decode().encode("utf-16-le"), "not_json@1"),
    ("UTF-7", b"+AHsAIg-" + GOOD, "not_json@1"),
    ("EBCDIC", GOOD.decode().encode("cp500"), "invalid_utf8@1"),
)

MIB: Final = 1_048_576
LARGE: Final[tuple[tuple[str, Bytes, str], ...]] = (
    (
        "a million members",
        ((b'{"k": {"a":0', 1), (b',"a":0', 1_000_000), (b"}", 1), (TAIL, 1)),
        "too_many_values",
    ),
    (
        "ten million members",
        ((b'{"k": {"a":0', 1), (b',"a":0', 10_000_000), (b"}", 1), (TAIL, 1)),
        "too_many_values",
    ),
    ("a text of 63 MiB", ((b'{"k": "', 1), (b"x" * MIB, 63), (b'"' + TAIL, 1)), "ok"),
    ("a text of 64 MiB", ((b'{"k": "', 1), (b"x" * MIB, 64), (b'"' + TAIL, 1)), "line_too_long"),
    ("a text of 1 GiB", ((b'{"k": "', 1), (b"x" * MIB, 1_024)), "line_too_long"),
)


def _large() -> Iterator[Case]:
    for case in on_line_one("J2", LARGE):
        yield Case(id=case.id, kind="J2", given=case.given, verdict=case.verdict, is_streamed=True)


CASES: Final[list[Case]] = [*on_line_one("J2", _rows()), *cases("J2", FILES), *_large()]
