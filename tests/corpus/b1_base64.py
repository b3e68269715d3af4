r"""B1: what stands in `input_data` when it is no JSONL: base64, or something that claims to be.

RFC 4648 section 4, strictly: one alphabet, canonical last bits, padding whole or not at all. Line
ends may stand anywhere (MIME), blanks at the end only. A text that starts with `{` or `[` after
blanks is JSONL and never base64.
"""

import base64
from collections.abc import Iterator
from typing import Final

from tests.corpus.case import GOOD, Case, Row, cases

BAD: Final = "invalid_base64"


def encoded(data: bytes) -> bytes:
    """Base64 with its padding."""
    return base64.b64encode(data)


# One, two and no bytes of padding.
ONE: Final = GOOD + b" " * ((2 - len(GOOD)) % 3)
TWO: Final = GOOD + b" " * ((1 - len(GOOD)) % 3)
NONE: Final = GOOD + b" " * (-len(GOOD) % 3)
TEXT: Final = encoded(NONE)
PAD1: Final = encoded(ONE)
PAD2: Final = encoded(TWO)
# A character that uses the two signs of the alphabet.
SIGNS: Final = encoded(GOOD.replace(b"hi", b"\xc3\xbf\xc3\xbe\xef\xbf\xbf>>>???") + b" ")


def _wrapped(text: bytes, width: int, end: bytes) -> bytes:
    return end.join(text[at : at + width] for at in range(0, len(text), width))


GOOD_ROWS: Final[tuple[Row, ...]] = (
    ("no padding needed", TEXT, "ok:1"),
    ("one sign of padding", PAD1, "ok:1"),
    ("two signs of padding", PAD2, "ok:1"),
    ("one sign left out", PAD1.rstrip(b"="), "ok:1"),
    ("two signs left out", PAD2.rstrip(b"="), "ok:1"),
    ("lines of 76 and CRLF", _wrapped(TEXT, 76, b"\r\n"), "ok:1"),
    ("lines of 64 and LF", _wrapped(TEXT, 64, b"\n"), "ok:1"),
    ("lines of one", _wrapped(TEXT, 1, b"\n"), "ok:1"),
    ("CR alone", _wrapped(TEXT, 19, b"\r"), "ok:1"),
    ("an LF at the end", PAD2 + b"\n", "ok:1"),
    ("blanks at the end", PAD2 + b" \t\r\n", "ok:1"),
    ("an LF inside the padding", PAD2[:-1] + b"\n=", "ok:1"),
    ("a blank inside the padding", PAD2[:-1] + b" =", "ok:1"),
    ("blanks in front", b" \r\n\t" + TEXT, "ok:1"),
    ("a mark in front", b"\xef\xbb\xbf" + TEXT, "ok:1"),
    ("both signs of the alphabet", SIGNS, "ok:1"),
    ("three lines", encoded((GOOD + b"\n") * 3), "ok:3"),
    ("a mark inside", encoded(b"\xef\xbb\xbf" + GOOD), "ok:1"),
    ("JSONL is no base64", GOOD, "ok:1"),
    ("JSONL behind blanks", b" \r\n" + GOOD, "ok:1"),
)

ALPHABET: Final[tuple[Row, ...]] = (
    ("a minus", b"-" + TEXT[1:], BAD),
    ("an underscore", TEXT[:-1] + b"_", BAD),
    ("the URL-safe alphabet", SIGNS.replace(b"+", b"-").replace(b"/", b"_"), BAD),
    ("both alphabets", TEXT + b"+-/_", BAD),
    ("the alphabet of IMAP", TEXT[:-4] + b"AA,A", BAD),
    ("a full stop", TEXT[:8] + b"." + TEXT[9:], BAD),
    ("an asterisk", b"*" + TEXT, BAD),
    ("a colon", TEXT + b":", BAD),
    ("a data: URL", b"data:application/jsonl;base64," + TEXT, BAD),
    ("PEM", b"-----BEGIN X-----\n" + TEXT + b"\n-----END X-----", BAD),
    ("percent signs", TEXT[:4] + b"%2B" + TEXT[4:], BAD),
    ("quotes around", b"'" + TEXT + b"'", BAD),
    ("e with an accent", TEXT[:4] + b"\xc3\xa9" + TEXT[4:], BAD),
    ("full-width letters", b"\xef\xbc\xa1" * 4, BAD),
    ("a zero-width blank", TEXT[:8] + b"\xe2\x80\x8b" + TEXT[8:], BAD),
    ("a mark in the middle", TEXT[:8] + b"\xef\xbb\xbf" + TEXT[8:], BAD),
    ("U+00A0", TEXT[:8] + b"\xc2\xa0" + TEXT[8:], BAD),
    ("hexadecimal with signs", b"0x7b22:72", BAD),
    ("words", b"hello world", BAD),
    ("markup", b"<html>", BAD),
    ("VT", TEXT[:8] + b"\x0b" + TEXT[8:], BAD),
    ("FF", TEXT[:8] + b"\x0c" + TEXT[8:], BAD),
    ("NUL", TEXT[:8] + b"\x00" + TEXT[8:], BAD),
    ("DEL", TEXT[:8] + b"\x7f" + TEXT[8:], BAD),
)

FORM: Final[tuple[Row, ...]] = (
    ("a blank in the middle", TEXT[:8] + b" " + TEXT[8:], BAD),
    ("a tab in the middle", TEXT[:8] + b"\t" + TEXT[8:], BAD),
    ("padding where none belongs", TEXT + b"=", BAD),
    ("three signs of padding", PAD2 + b"=", BAD),
    ("a sign too many", PAD1 + b"=", BAD),
    ("half of the padding", PAD2[:-1], BAD),
    ("padding first", b"=" + TEXT, BAD),
    ("padding only", b"====", BAD),
    ("padding in the middle", TEXT[:8] + b"=" + TEXT[9:], BAD),
    ("two texts joined", PAD2 + PAD2, BAD),
    ("data after the padding", PAD1 + b"QUFB", BAD),
    ("data after a blank", TEXT + b" QUFB", BAD),
    ("one character", b"Q", BAD),
    ("one character too many", TEXT + b"Q", BAD),
    ("cut within a group, one left", TEXT[:-3], BAD),
    ("a last bit that is lost", PAD1[:-2] + bytes([PAD1[-2] + 1]) + b"=", BAD),
    ("last bits that are lost", PAD2[:-3] + bytes([PAD2[-3] + 1]) + b"==", BAD),
    ("the same without padding", PAD2[:-3] + bytes([PAD2[-3] + 1]), BAD),
    ("all last bits", PAD2[:-3] + b"/==", BAD),
)

INSIDE: Final[tuple[Row, ...]] = (
    ("an array inside", encoded(b"[" + GOOD + b"]"), "json_array_file@1"),
    ("gzip inside", encoded(b"\x1f\x8b\x08\x00"), "compressed_input@1"),
    ("UTF-16 inside", encoded(b"\xff\xfe{\x00"), "utf16@1"),
    ("Latin-1 inside", encoded(b'{"key":"\xe9"}'), "invalid_utf8@1"),
    ("blank lines inside", encoded(b"\n \n"), "empty_input"),
    ("base64 inside", encoded(TEXT), "not_json@1"),
    ("a good and a cut line", encoded(GOOD + b"\n" + GOOD[:-1]), "not_json@2"),
    ("cut after a whole group", TEXT[:-4], "not_json@1"),
    ("text of four letters", b"true", "invalid_utf8@1"),
    ("nothing", b"", "empty_input"),
    ("blanks", b" \n", "empty_input"),
)


def _borders() -> Iterator[Row]:
    """The text is decoded in segments of 32 KiB and blocks of 64 KiB; no border may show."""
    data = b"\n".join(GOOD for _ in range(2_000))
    text = encoded(data)
    for at in (32_768, 65_535, 65_536, 65_537):
        yield f"an LF at {at}", text[:at] + b"\n" + text[at:], "ok:2000"
        yield f"a minus at {at}", text[:at] + b"-" + text[at + 1 :], BAD


CASES: Final[list[Case]] = [
    *cases("B1", GOOD_ROWS),
    *cases("B1", ALPHABET),
    *cases("B1", FORM),
    *cases("B1", INSIDE),
    *cases("B1", _borders()),
]
