"""forms: rows like a good one are read as by the parser, and all others by it."""

import json
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.lifecycle.fakes import answer_of, input_of, request_of, row_of
from tests.lifecycle.reading import Reading
from tests.lifecycle.spoiling import changed, changes_to

from penstock.core.job import JobId, tag_of
from penstock.core.line import LineKey
from penstock.core.models import SEED_CATALOGUE
from penstock.lifecycle.forms import (
    FORM_COSTS,
    FORMS_MAX,
    GOOD_ROW,
    PATIENCE,
    ROW_BYTES_MAX,
    Form,
    form_of,
)
from penstock.lifecycle.rows import ANSWERED, ONE_ROW, UNREADABLE, Reader
from penstock.lifecycle.totals import Sums

JOB = JobId("req_aaaaaaaaaaaaaaaaaaaaaaaaaa")
PRICE = SEED_CATALOGUE["gemini-3-flash-preview"].price
TIME = "2026-11-22T16:05:00.000+00:00"
KEYS = LineKey(tag_of(JOB))

Found = tuple[list[bytes], Sums, int, dict[int, object], int]


class Parsing(Reader):
    """A reader that compares no row with one before."""

    def _alike(self, *_row: object) -> None:
        """Leave every row to the parser."""


def found_by(
    kind: Callable[..., Reader], folder: Path, raw: bytes, rows: list[bytes]
) -> tuple[Found, Reader]:
    """What a kind of reader finds: records, sums, strangers, classes, lines with rows."""
    with Reading(folder, JOB, raw, PRICE) as shards:
        shards.reader = kind(KEYS, shards.lines, shards.totals)
        shards.shards.endings = shards.reader.endings
        shards.feed([b"\n".join(rows) + b"\n"])
        records = [bytes(records) for _, records in shards.shards.stripes(1)]
        sums, strangers = shards.totals.sums, shards.strangers
        endings = dict[int, object](shards.reader.endings)
        return (records, sums, strangers, endings, shards.shards.rows), shards.reader


def both(folder: Path, raw: bytes, rows: list[bytes]) -> tuple[list[int], Reader]:
    """Read rows in both ways, hold the results to be the same; the flags, and who has forms."""
    (found, reader), (expected, _) = (
        found_by(kind, folder, raw, rows) for kind in (Reader, Parsing)
    )
    assert found == expected
    return [record[4] for record in found[0]], reader


def forms_of(reader: Reader) -> list[Form]:
    """The forms that a reader remembers."""
    return reader._forms.known


def row(number: int, text: str, **members: object) -> bytes:
    """The provider's row for a line of our job."""
    return row_of(JOB, number, text, **members)


TEXTS = [
    "one",
    "two \u00e9",
    'a "quoted" text',
    "ends with \\",
    '\\" ',
    "",
    'x","y":"z',
    "\n\u0001",
]


def test_rows_like_a_good_one_are_read_as_by_the_parser(tmp_path: Path) -> None:
    """Whatever the texts hold, one form is enough for all, and each is an answer."""
    rows = [
        row(number, text, response=answer_of(text or "x", prompt=number))
        for number, text in enumerate(TEXTS, start=1)
    ]
    flags, reader = both(tmp_path, input_of(TEXTS), rows)
    assert flags == [ANSWERED] * len(TEXTS)
    assert len(forms_of(reader)) == 1
    assert reader._forms._patience == PATIENCE - FORM_COSTS + len(TEXTS) - 1


def test_texts_in_ascii_are_the_same_texts(tmp_path: Path) -> None:
    """What a caller spells with escapes fills the form as well, if it says what the row says."""
    texts = ["gr\u00fc\u00dfe 1", "\u6f22 2", "plain 3", "\u00e9 4", "\u00e9 5", "\u00e9 6"]
    rows = [row(number, text) for number, text in enumerate(texts[:5], start=1)]
    rows[3] = row(4, "\u00e8 4")
    rows.append(row(6, "\u00e9 6").replace("\u00e9".encode(), b"\\ud800"))
    raw = b"\n".join(json.dumps({"request": request_of(text)}).encode() for text in texts)
    flags, reader = both(tmp_path, raw, rows)
    assert flags == [ANSWERED] * 3 + [ONE_ROW, ANSWERED, UNREADABLE]
    assert len(forms_of(reader)) == 1
    assert reader._forms._patience == PATIENCE - FORM_COSTS + 3


ORDERS = [
    ("status", "processed_time", "key", "request", "response"),
    ("key", "processed_time", "request", "response", "status"),
    ("request", "response", "key", "processed_time", "status"),
    ("request", "response", "processed_time", "status", "key"),
    ("key", "status", "request", "response"),
]
UNREAD_ORDERS = [
    ("response", "request", "key", "status", "processed_time"),
    ("request", "key", "response", "status", "processed_time"),
    ("request", "processed_time", "response", "status", "key"),
]


def ordered(names: tuple[str, ...], number: int, text: str, **members: object) -> bytes:
    """A row with these members in this order."""
    found = orjson.loads(row(number, text, **members))
    return orjson.dumps({name: found[name] for name in names})


@pytest.mark.parametrize(
    ("names", "forms"), [(o, 1) for o in ORDERS] + [(o, 0) for o in UNREAD_ORDERS]
)
def test_members_may_come_in_many_orders(
    tmp_path: Path, names: tuple[str, ...], forms: int
) -> None:
    """Key and time may stand before the echo or behind the answer; else each row is parsed."""
    texts = [f"text {number}" for number in range(1, 5)]
    rows = [ordered(names, number, text) for number, text in enumerate(texts, start=1)]
    flags, reader = both(tmp_path, input_of(texts), rows)
    assert flags == [ANSWERED] * 4
    assert len(forms_of(reader)) == forms


def test_an_echo_with_more_members_has_a_form(tmp_path: Path) -> None:
    """The provider adds nulls and sorts members; texts are what is compared."""
    texts = ["a", "b", "c"]
    rows = [
        row(
            number,
            text,
            request={"contents": [{"parts": [{"fileData": None, "text": text}], "role": "user"}]},
        )
        for number, text in enumerate(texts, start=1)
    ]
    flags, reader = both(tmp_path, input_of(texts), rows)
    assert (flags, len(forms_of(reader))) == ([ANSWERED] * 3, 1)


def test_another_lines_text_is_no_answer(tmp_path: Path) -> None:
    """A row that fills the form with a neighbour's echo is left to care."""
    flags, reader = both(
        tmp_path, input_of("abcd"), [row(1, "a"), row(2, "c"), row(3, "c"), row(4, "dd")]
    )
    assert flags == [ANSWERED, ONE_ROW, ANSWERED, ONE_ROW]
    assert len(forms_of(reader)) == 1


def test_rows_of_several_kinds_have_a_form_each(tmp_path: Path) -> None:
    """The last one that was filled is tried first, and there are only so many."""
    kinds = [f"kind {number}" for number in range(FORMS_MAX + 2)]
    texts = [f"t{number}" for number in range(3 * len(kinds))]
    rows = [
        row(number, text, zz=kinds[(number // 2) % len(kinds)])
        for number, text in enumerate(texts, start=1)
    ]
    flags, reader = both(tmp_path, input_of(texts), rows)
    assert flags == [ANSWERED] * len(texts)
    assert len(forms_of(reader)) == FORMS_MAX
    both(tmp_path, input_of("abcd"), [row(1, "a"), row(2, "b", z=1), row(3, "c"), row(4, "d")])


def test_rows_that_are_all_different_are_not_compared_for_long(tmp_path: Path) -> None:
    """What does not pay off is given up: no form is tried, and none is made."""
    count = PATIENCE // FORM_COSTS + 5
    texts = [f"t{number}" for number in range(count)]
    rows = [row(number, text, z=number) for number, text in enumerate(texts, start=1)]
    flags, reader = both(tmp_path, input_of(texts), rows)
    assert flags == [ANSWERED] * count
    assert (forms_of(reader), reader._forms._patience) == ([], 0)


def test_a_long_row_is_neither_a_form_nor_compared_with_one(tmp_path: Path) -> None:
    """Memory stays with the rows that are parsed, not twice that."""
    long = "x" * (ROW_BYTES_MAX + 1)
    texts = [long, "a", long, "b"]
    rows = [row(number, text) for number, text in enumerate(texts, start=1)]
    flags, reader = both(tmp_path, input_of(texts), rows)
    assert flags == [ANSWERED] * 4
    assert reader._forms._patience == PATIENCE - FORM_COSTS + 1


@pytest.mark.parametrize(
    "time",
    ["2026-11-22T16:05:00.000+0\\u0030:0", "x" * 28 + "\u00e9", '"' * 14 + "x", "y" * 29],
)
def test_a_time_of_another_kind_is_parsed(tmp_path: Path, time: str) -> None:
    """A time that is not spelled as we would spell it fills no form."""
    rows = [row(1, "a"), row(2, "b", processed_time=time), row(3, "c", processed_time=None)]
    both(tmp_path, input_of("abc"), rows)


def test_an_answer_that_its_line_asked_to_be_json_is_judged(tmp_path: Path) -> None:
    """Forms know whether their lines ask for a schema."""
    config = {"responseMimeType": "application/json", "responseSchema": {"type": "OBJECT"}}
    lines = [
        orjson.dumps({"request": request_of(text) | {"generationConfig": config}})
        for text in ("a", "b", "c")
    ]
    rows = [
        row(number, text, response=answer_of(answer))
        for number, (text, answer) in enumerate(
            [("a", "{}"), ("b", "no object"), ("c", "{}")], start=1
        )
    ]
    flags, reader = both(tmp_path, b"\n".join(lines), rows)
    assert flags == [ANSWERED] * 3
    assert len(reader.endings) == 2


def test_an_answer_that_is_not_good_is_left_to_care(tmp_path: Path) -> None:
    """A row may fill the form and hold a refusal."""
    bad = answer_of("x") | {"unheard_of": 1}
    flags, _ = both(tmp_path, input_of("ab"), [row(1, "a"), row(2, "b", response=bad)])
    assert flags == [ANSWERED, ONE_ROW]


def test_lines_of_other_kinds_fill_no_form(tmp_path: Path) -> None:
    """Of the caller's line, too, all but its own member and the text must be what it was."""
    lines = [
        b'{"request":{"contents":[{"parts":[{"text":"a"}]}],"x":1}}',
        b'{"own":{},"request":{"contents":[{"parts":[{"text":"b"}]}],"x":1}}',
        b'{"request":{"contents":[{"parts":[{"text":"c"}]}],"x":2}}',
        b'{"request":{"y":1,"contents":[{"parts":[{"text":"d"}]}],"x":1}}',
        b'{"own":"o","request":{"contents":[{"parts":[{"text":"e"}]}],"x":1}}',
        b'{"request":{"contents":[{"parts":[{"text":"f","t":"f"}]}],"x":1}}',
        b'{"request":{"contents":[{"parts":[{"text":"g"},{"text":"g"}]}],"x":1}}',
    ]
    rows = [
        row(number, text, request={"contents": [{"parts": [{"text": text}]}]})
        for number, text in enumerate("abcdefg", start=1)
    ]
    flags, _ = both(tmp_path, b"\n".join(lines), rows)
    assert flags == [ANSWERED] * 6 + [ONE_ROW]


LINE = orjson.dumps({"request": request_of("told")})


def form(row_: bytes, line: bytes = LINE) -> Form | None:
    """The form of a row and its line."""
    return form_of(row_, GOOD_ROW.decode(row_), line, b'"%s"' % TIME.encode())


def test_large_numbers_have_more_digits() -> None:
    """A key of seven digits is another form, and no number in it begins with a nought."""
    found = form(row(1_234_567, "told"))
    assert found is not None
    numbers = {}
    for digits in (b"7654321", b"0000001", b"765432x", b"1234567"):
        other = row(1_234_567, "told").replace(b"1234567", digits)
        numbers[digits] = found.number(other, 0, len(other))
    assert list(numbers.values()) == [7_654_321, 0, 0, 1_234_567]
    shorter = row(123_456, "told")
    assert found.number(shorter, 0, len(shorter)) == 0


@pytest.mark.parametrize("digit", ["7", "1"])
def test_any_key_can_be_learned_from(digit: str) -> None:
    """What stands in for the key is another one than it was."""
    assert form(row(int(digit * 6), "told")) is not None


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (row(1, "told"), LINE.replace(b'{"request"', b'{"own":1,"request"')),
        (row(1, "told", x="27182818284590452353"), LINE),
        (row(1, "told"), LINE.replace(b"user", b"27182818284590452353")),
        (row(1, ""), LINE.replace(b"told", b"")),
        (row(1, "told"), LINE.replace(b'"told"', b"null")),
        (row(1, "told"), b'{"request":{"contents":[]}}'),
        (row(1, "told"), b'{"request":{"contents":[7]}}'),
        (row(1, "another"), LINE),
        (row(1, "told", a="told"), b'{"request":{"contents":[{"parts":[{"text":"status"}]}]}}'),
        (b'{"a":"told",' + row(1, "told")[1:], LINE),
        (row(1, "told", processed_time=None), LINE),
        (row(1, "told", processed_time=TIME[:-1]), LINE),
        (
            row(1, "told", request=request_of("told") | {"x": "\xff"}).replace(
                b"\xc3\xbf", b"\xff"
            ),
            LINE,
        ),
        (row(1, "told"), LINE.replace(b'"contents"', b'"x":{"text":"told"},"contents"')),
    ],
)
def test_what_cannot_be_proven_is_no_form(found: bytes, line: bytes) -> None:
    """Whatever is not surely where it seems to be, no later row is compared with it."""
    assert form(found, line) is None


STRANGE = [
    *[
        b"null",
        b"true",
        b"-1",
        b"1e999",
        b"{}",
        b"[]",
        b'""',
        b'"a"',
        b'"b"',
        b'"\\u0062"',
        b'"\\"',
    ],
    *[b'"\xff"', b'"\\ud800"', b'"STOP"', b'"status"', b'"request"', b'"response"', b'"contents"'],
    *[b'"b","text":"a"', b" ", b'"x":1,"key"', b'"status":"","status"', b"", b"[[]]", b"}", b"{"],
    *[b'"%s"' % KEYS.of(number).encode() for number in (1, 3, 7)],
]


@given(
    changes=changes_to(STRANGE),
    names=st.sampled_from(ORDERS),
    raw_bytes=st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=2)), max_size=2),
)
@settings(deadline=None, max_examples=600)
def test_a_row_that_nearly_fills_a_form_is_read_as_by_the_parser(
    tmp_path_factory: pytest.TempPathFactory,
    changes: list[tuple[int, bytes]],
    names: tuple[str, ...],
    raw_bytes: list[tuple[int, bytes]],
) -> None:
    """However a row is spoilt behind a good one: records, sums and classes are the parser's."""
    spoilt = changed(ordered(names, 2, "b"), changes)
    for place, some in raw_bytes:
        at = place % (len(spoilt) + 1)
        spoilt = spoilt[:at] + some.replace(b"\n", b"") + spoilt[at + 1 :]
    rows = [ordered(names, 1, "a"), spoilt, ordered(names, 3, "c")]
    _, reader = both(tmp_path_factory.getbasetemp(), input_of("abc"), rows)
    assert forms_of(reader)


PIECES = [
    "a",
    "\u00e9",
    '"',
    "\\",
    "\n",
    "\u0000",
    '"text":"',
    '"}]}],"x":',
    "27182818284590452353",
    "",
]


def in_ascii(text: str) -> bytes:
    """As Python's `json.dumps` spells it."""
    return json.dumps(text).encode()


def all_escaped(text: str) -> bytes:
    """Each character as an escape."""
    return b'"%s"' % b"".join(b"\\u%04x" % ord(char) for char in text)


@given(
    texts=st.lists(
        st.lists(st.sampled_from(PIECES), max_size=4).map("".join), min_size=2, max_size=12
    ),
    echoes=st.lists(st.integers(0, 1_000), min_size=12, max_size=12),
    spelling=st.sampled_from([orjson.dumps, in_ascii, all_escaped]),
)
@settings(deadline=None, max_examples=300)
def test_any_texts_are_compared_as_by_the_parser(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[str],
    echoes: list[int],
    spelling: Callable[[str], bytes],
) -> None:
    """Texts that look like the form's own bytes, and echoes of other lines: the same verdicts."""
    rows = [
        row(number, texts[echo % len(texts)] if echo % 3 == 0 else text)
        for number, (text, echo) in enumerate(zip(texts, echoes, strict=False), start=1)
    ]
    line = orjson.dumps({"request": request_of("TEXT")})
    raw = b"\n".join(line.replace(b'"TEXT"', spelling(text)) for text in texts)
    both(tmp_path_factory.getbasetemp(), raw, rows)
