r"""J3: where lines end, what is no JSONL at all, and the limits on lines and bytes, to the byte.

Lines end at `\n` only; one `\r` before it belongs to the end. Blank lines (spaces, tabs, `\r`) are
no requests. A byte-order mark may stand at the very start and is not counted.
"""

import gzip
from collections.abc import Iterator
from typing import Final

from tests.corpus.case import GOOD, Case, Row, cases

from penstock.core.limits import Limits

G: Final = GOOD
BOM: Final = b"\xef\xbb\xbf"
BLOCK: Final = 262_144
"""What the splitter takes at once; the cases around it must not notice."""

ENDS: Final[tuple[Row, ...]] = (
    ("no end", G, "ok:1"),
    ("LF", G + b"\n", "ok:1"),
    ("CRLF", G + b"\r\n", "ok:1"),
    ("CR at the end of the file", G + b"\r", "ok:1"),
    ("CR CR LF", G + b"\r\r\n" + G, "ok:2"),
    ("CRLF between, none at the end", G + b"\r\n" + G, "ok:2"),
    ("LF and CRLF mixed", G + b"\n" + G + b"\r\n" + G, "ok:3"),
    ("LF CR", G + b"\n\r" + G, "ok:2"),
    ("CR only", G + b"\r" + G, "not_json@1"),
    ("CR only, three lines", G + b"\r" + G + b"\r" + G + b"\r", "not_json@1"),
    ("nothing between", G + G, "not_json@1"),
    ("a blank between", G + b" " + G, "not_json@1"),
    ("a comma between", G + b"," + G, "not_json@1"),
    ("commas at the ends", G + b",\n" + G, "not_json@1"),
    ("U+2028 between", G + b"\xe2\x80\xa8" + G, "not_json@1"),
    ("U+2029 between", G + b"\xe2\x80\xa9" + G, "not_json@1"),
    ("U+0085 between", G + b"\xc2\x85" + G, "not_json@1"),
    ("VT between", G + b"\x0b" + G, "not_json@1"),
    ("FF between", G + b"\x0c" + G, "not_json@1"),
    ("FS between", G + b"\x1c" + G, "not_json@1"),
    ("RS in front, RFC 7464", b"\x1e" + G + b"\n", "not_json@1"),
    ("NUL between", G + b"\x00" + G, "not_json@1"),
    ("an escaped LF in a text", G.replace(b"hi", rb"h\ni"), "ok:1"),
    ("LF in a text", G.replace(b"hi", b"h\ni"), "not_json@1,not_json@2"),
    ("CRLF in a text", G.replace(b"hi", b"h\r\ni"), "not_json@1,not_json@2"),
    ("U+2028 in a text", G.replace(b"hi", b"\xe2\x80\xa8"), "ok:1"),
    ("VT in a text", G.replace(b"hi", b"\x0b"), "not_json@1"),
)

BLANKS: Final[tuple[Row, ...]] = (
    ("nothing", b"", "empty_input"),
    ("an LF", b"\n", "empty_input"),
    ("a CRLF", b"\r\n", "empty_input"),
    ("a space", b" ", "empty_input"),
    ("blank lines only", b" \n\t\n\r\n\n", "empty_input"),
    ("a mark only", BOM, "empty_input"),
    ("a mark and blank lines", BOM + b"\n\n", "empty_input"),
    ("blank lines between", G + b"\n\n \n\t\r\n" + G, "ok:2"),
    ("blank lines in front", b"\n\n" + G, "ok:1"),
    ("blank lines behind", G + b"\n\n\n", "ok:1"),
    ("blanks around", b" \t" + G + b"\t ", "ok:1"),
    ("a line of VT", G + b"\n\x0b\n" + G, "not_json@2"),
    ("a line of FF", G + b"\n\x0c\n" + G, "not_json@2"),
    ("a line of U+00A0", G + b"\n\xc2\xa0\n" + G, "not_json@2"),
    ("a line of U+3000", G + b"\n\xe3\x80\x80\n" + G, "not_json@2"),
    ("a line of NUL", G + b"\n\x00\n" + G, "not_json@2"),
    ("NUL to the end of a disk block", G + b"\n" + b"\x00" * 500, "not_json@2"),
    ("the end of a file in DOS", G + b"\r\n\x1a", "not_json@2"),
    ("a mark in front of line 2", G + b"\n" + BOM + G, "bom@2"),
    ("a mark as the last line", G + b"\n" + BOM, "bom@2"),
    ("a mark and a blank line", BOM + b"\n" + G, "ok:1"),
    ("half of a mark", b"\xef\xbb", "invalid_utf8@1"),
    ("half of a mark and a line", b"\xef\xbb" + G, "invalid_utf8@1"),
    ("files with their marks joined", (BOM + G + b"\n") * 3, "bom@2,bom@3"),
)

PRETTY: Final = b'{\n  "request": {\n    "contents": []\n  }\n}\n'
KINDS: Final[tuple[Row, ...]] = (
    ("an array", b"[" + G + b"]", "json_array_file@1"),
    ("an array over lines", b"[\n" + G + b",\n" + G + b"\n]\n", "json_array_file@1"),
    ("an array behind blank lines", b"\n\n [" + G + b"]", "json_array_file@3"),
    ("an array behind a mark", BOM + b"[" + G + b"]", "json_array_file@1"),
    ("an array on line 2", G + b"\n[" + G + b"]", "not_an_object@2"),
    ("an object over lines", PRETTY, ",".join(f"not_json@{line}" for line in range(1, 6))),
    ("gzip", gzip.compress(G, mtime=0), "compressed_input@1"),
    ("gzip behind a line end", b"\n" + gzip.compress(G, mtime=0), "compressed_input@2"),
    ("the magic of gzip on line 2", G + b"\n\x1f\x8b\x08", "invalid_utf8@2"),
    ("zstd", b"\x28\xb5\x2f\xfd\x04\x00", "invalid_utf8@1"),
    ("xz", b"\xfd7zXZ\x00\x00", "invalid_utf8@1"),
    ("bzip2", b"BZh91AY&SY", "not_json@1"),
    ("zip", b"PK\x03\x04\x14\x00", "not_json@1"),
    ("Parquet", b"PAR1\x15\x04", "not_json@1"),
    ("a picture", b"\x89PNG\r\n\x1a\n", "invalid_utf8@1,not_json@2"),
    ("PDF", b"%PDF-1.7\n", "not_json@1"),
    ("HTML", b"<!doctype html>\n<html>\n", "not_json@1,not_json@2"),
    ("CSV", b"prompt,model\nhi,gemini\n", "not_json@1,not_json@2"),
    ("YAML", b"---\nrequest:\n", "not_json@1,not_json@2"),
    ("a comment", b"# good lines\n" + G, "not_json@1"),
    ("null", G + b"\nnull\n" + G, "not_an_object@2"),
    ("a text", G + b'\n"x"\n' + G, "not_an_object@2"),
    ("a number", G + b"\n17\n" + G, "not_an_object@2"),
    ("a cut last line", G + b"\n" + G + b"\n" + G[:-1], "not_json@3"),
    ("a cut first line", G[9:] + b"\n" + G, "not_json@1"),
)

FEW: Final = Limits(job_lines_max=3)
LINES: Final[tuple[Row, ...]] = (
    ("one line", G, "ok:1"),
    ("as many lines as allowed", (G + b"\n") * 3, "ok:3"),
    ("one line too many", (G + b"\n") * 4, "too_many_lines"),
    ("one too many of which two are bad", b"{\n{\n" + (G + b"\n") * 2, "too_many_lines"),
    ("twice as many with blank ones", b"\n\n\n" + (G + b"\n") * 3, "ok:3"),
    ("more than twice as many", b"\n\n\n\n" + (G + b"\n") * 3, "too_many_lines"),
    ("blank lines alone, too many", b"\n" * 7, "too_many_lines"),
    ("blank lines alone", b"\n" * 6, "empty_input"),
)

SHORT: Final = Limits(line_bytes_max=60)
LONG: Final = G + b" " * (60 - len(G))
LENGTHS: Final[tuple[Row, ...]] = (
    ("a line of the limit", LONG, "ok:1"),
    ("a line of the limit and LF", LONG + b"\n", "ok:1"),
    ("a line of the limit and CRLF", LONG + b"\r\n", "ok:1"),
    ("a line of the limit and CR", LONG + b"\r", "ok:1"),
    ("a line over the limit", LONG + b" ", "line_too_long@1"),
    ("a line over the limit and LF", LONG + b" \n", "line_too_long@1"),
    ("a line over the limit with two CR", LONG + b"\r\r\n", "line_too_long@1"),
    ("line 3 over the limit", G + b"\n" + G + b"\n" + LONG + b" ", "line_too_long@3"),
    ("a blank line over the limit", G + b"\n" + b" " * 61 + b"\n", "line_too_long@2"),
    ("a mark is not a part of the line", BOM + LONG, "ok:1"),
    ("over the limit after a bad line", b"{\n" + LONG + b" ", "line_too_long@2"),
    ("far over the limit without an end", ((b"x" * 1_000, 1_000),), "line_too_long@1"),
)

SMALL: Final = Limits(job_bytes_max=2 * (len(G) + 1))
TWO: Final = (G + b"\n") * 2
SIZES: Final[tuple[Row, ...]] = (
    ("a byte less than the limit", TWO[:-1], "ok:2"),
    ("as many bytes as the limit", TWO, "ok:2"),
    ("a byte more than the limit", TWO + b"\n", "input_too_large"),
    ("as many bytes and a mark", BOM + TWO, "ok:2"),
    ("a byte more and a mark", BOM + TWO + b"\n", "input_too_large"),
    ("a byte more after a bad line", b"{\n" + b" " * len(TWO), "input_too_large"),
)

LISTED: Final = Limits(problems_reported_max=2)
LISTS: Final[tuple[Row, ...]] = (
    ("as many problems as are listed", b"{\n1\n" + G, "not_json@1,not_an_object@2"),
    (
        "more problems than are listed",
        b"{\n1\n" + G + b"\n{\n\n2\n",
        "not_json@1,not_an_object@2+2",
    ),
)


def _borders() -> Iterator[Row]:
    """A line's end around the place where a block ends."""
    for shift in (-2, -1, 0, 1):
        filler = b" " * (BLOCK + shift - len(G))
        for name, end in (("LF", b"\n"), ("CRLF", b"\r\n")):
            yield f"{name} at {shift} from the border", G + filler + end + G, "ok:2"
    yield (
        "U+1F600 across the border",
        b" " * (BLOCK - 42) + G.replace(b"hi", b"\xf0\x9f\x98\x80" * 4),
        "ok:1",
    )


MANY: Final[tuple[Row, ...]] = (
    ("200,000 lines", ((b'{"request":{"contents":[{"parts":[]}]}}\n', 200_000),), "ok:200000"),
    ("200,001 lines", ((b'{"request":{"contents":[{"parts":[]}]}}\n', 200_001),), "too_many_lines"),
)


def _many() -> Iterator[Case]:
    for name, given, verdict in MANY:
        yield Case(id=f"J3/{name}", kind="J3", given=given, verdict=verdict, is_streamed=True)


CASES: Final[list[Case]] = [
    *cases("J3", ENDS),
    *cases("J3", BLANKS),
    *cases("J3", KINDS),
    *cases("J3", LINES, FEW),
    *cases("J3", LENGTHS, SHORT),
    *cases("J3", SIZES, SMALL),
    *cases("J3", LISTS, LISTED),
    *cases("J3", _borders()),
    *_many(),
]
