"""base64 of JSONL: what is accepted and what is refused, and where cuts may fall."""

import base64
import json

import pytest
from tests.ingest.naive import GOOD, body_of, pieces, taken, turned

from penstock.ingest.decode import Base64, JsonString, first_bad_utf8, safe_cut

# Where one of these is the third of its group, base64 has a `/` or a `+`.
LINE = GOOD.replace(b"hi", b"????>>>>\xc3\xbf")
TEXT = base64.b64encode(LINE).decode()
WRAPPED = "\r\n".join(TEXT[at : at + 76] for at in range(0, len(TEXT), 76))


@pytest.mark.parametrize("extra", range(3))
@pytest.mark.parametrize("form", ["{}", "  \n{}", "\ufeff{}\n", "{}\r\n", "{}  \t", "\n{}\n\n"])
def test_base64_stands_for_its_bytes(form: str, extra: int) -> None:
    """White space around, padding of every length, and none at all: the same stored bytes."""
    line = LINE + b" " * extra
    text = base64.b64encode(line).decode()
    assert taken(body_of(form.format(text))).stored == line
    assert taken(body_of(form.format(text.rstrip("=")))).stored == line


def test_escapes_inside_base64_are_accepted() -> None:
    r"""PHP writes `\/`, .NET writes `\u002B`, MIME breaks lines."""
    assert "/" in TEXT
    assert "+" in TEXT
    php = json.dumps({"input_data": TEXT}).replace("/", r"\/")
    net = json.dumps({"input_data": TEXT}).replace("+", r"\u002B")
    mime = json.dumps({"input_data": WRAPPED})
    spread = json.dumps({"input_data": "\n".join(TEXT)})
    for body in (php, net, mime, spread):
        assert taken(body.encode()).stored == LINE


@pytest.mark.parametrize(
    ("text", "offset", "words"),
    [
        ("hello world", 6, "after a blank"),
        ("<html>", 0, "not in the base64 alphabet"),
        ("e\u00e9", 1, "not in the base64 alphabet"),
        ("\ufeff e\u00e9", 3, "not in the base64 alphabet"),
        ("QUFB-_==", 4, "URL-safe"),
        ("QUF_QUFB", 3, "URL-safe"),
        ("QUFB\r\n,", 6, "not in the base64 alphabet"),
        ("QUE=QUFB", 4, "after the padding"),
        ("QUE= QUFB", 5, "after the padding"),
        ("QUE==", 4, "padding where none"),
        ("QUFB=", 4, "padding where none"),
        ("QUFBQ===", 5, "padding where none"),
        ("Q\nQ\n=\n=\n=", 8, "padding where none"),
        ("QUE= x", 5, "after the padding"),
        ("===x", 0, "padding where none"),
        ("QQ=", 3, "half of the padding"),
        ("QUFBQ", 5, "one character into"),
        ("QR==", 4, "bits that belong to no byte"),
        ("QUF", 3, "bits that belong to no byte"),
        ("data:image/png;base64,QUFB", 4, "not in the base64 alphabet"),
    ],
)
def test_bad_base64_is_refused_with_its_offset(text: str, offset: int, words: str) -> None:
    """The refusal names the character, counted from the start of `input_data`."""
    refusal = turned(body_of(text))
    assert (refusal.kind, refusal.code) == ("InvalidRequest", "invalid_base64")
    assert [problem.offset for problem in refusal.problems] == [offset]
    assert words in refusal.message
    assert refusal.hint


def test_much_white_space_is_raw() -> None:
    """White space beyond what is held back decides for JSONL."""
    data = b"\n" * 5_000 + GOOD
    assert taken(body_of(data)).stored == data
    assert turned(body_of("\n" * 5_000 + TEXT)).problems[0].line == 5_001


def test_first_characters_may_be_escaped() -> None:
    """Raw and base64 are told apart after un-escaping."""
    text = json.dumps(GOOD.decode())[2:]
    for start in (r"\u007b", r"\ufeff\u007b", r"\n\t\u0020\r{"):
        assert taken(b'{"input_data":"' + start.encode() + text.encode() + b"}").rows
    assert taken(b'{"input_data":"\\u0065' + TEXT[1:].encode() + b'"}').stored == LINE
    assert turned(b'{"input_data":"\\u005b1]"}').code == "json_array_file"


def decode_string(inside: bytes, sizes: list[int]) -> bytes:
    """Un-escape the inside of a string that arrives in pieces."""
    out = bytearray()
    string = JsonString(out.extend, offset=0)
    ends = [string.feed(piece, 0) for piece in pieces(inside + b'"', sizes)]
    assert ends[-1] >= 0
    return bytes(out)


@pytest.mark.parametrize(
    "text",
    [
        "a\U0001f600b",
        "\U0001f600\U0001f601",
        "\\" * 9 + '"' + "\\" * 4,
        '\\ud83d"\\\\u',
        "\u00e9\u4e2d\U00010000\x00\x1f\x7f/",
    ],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_any_cut_of_a_string_gives_the_same(text: str, ascii_only: bool) -> None:  # noqa: FBT001
    """Cuts inside escapes, pairs, sequences and runs of backslashes change nothing."""
    inside = json.dumps(text, ensure_ascii=ascii_only).encode()[1:-1]
    for first in range(len(inside) + 1):
        for second in range(len(inside) + 1 - first):
            assert decode_string(inside, [first, second]) == text.encode()


def test_a_cut_holds_back_no_more_than_is_open() -> None:
    """Complete characters are given at once, open ones are kept whole."""
    cases = {
        b"": 0,
        b"abc": 3,
        b"abc\\": 3,
        b"abc\\\\": 5,
        b"abc\\u12": 3,
        b'abc\\u1"': 7,
        b"abc\\n": 5,
        b"abc\\ud83d": 3,
        b"abc\\ud83d\\": 3,
        b"abc\\ud83d\\ude0": 3,
        b"abc\\ud83d\\ude00": 15,
        b"abc\\\\ud83d\\u": 10,
        b"abc\\u0041\\u": 9,
        b"\xc3": 0,
        b"\xc3\xa9": 2,
        b"\xe4\xb8": 0,
        b"\xf0\x9f\x98": 0,
        b"\x80\x80\x80\x80": 4,
    }
    assert {segment: safe_cut(segment) for segment in cases} == cases


def test_any_cut_of_base64_gives_the_same() -> None:
    """Cuts inside groups of four, line breaks and padding change nothing."""
    text = b"QUFB\r\nQUFB\nQ\nQ=\r\n= "
    for first in range(len(text) + 1):
        for second in range(len(text) + 1 - first):
            out = bytearray()
            decoder = Base64(out.extend)
            for piece in pieces(text, [first, second]):
                decoder.feed(piece)
            decoder.finish()
            assert bytes(out) == b"AAAAAAA"


def test_utf8_is_checked_across_slices() -> None:
    """A sequence may lie across the slices of the check, and its fault is found there."""
    good = b"x" * 65_535 + "\u00e9".encode()
    assert first_bad_utf8(good) is None
    assert first_bad_utf8(good + b"\xc3") == len(good)
    assert first_bad_utf8(b"x" * 65_535 + b"\xc3x") == 65_535
