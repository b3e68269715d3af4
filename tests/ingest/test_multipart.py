"""Forms with a file."""

import base64
import functools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ingest.naive import GOOD, Taken, Turned, judge_jsonl, take, through
from tests.ingest.test_properties import LIMITS, good_inputs, inputs, moderate, sizes

from penstock.core.limits import Limits
from penstock.ingest.blocks import BLOCK_BYTES
from penstock.ingest.intake import Envelope
from penstock.ingest.multipart import (
    BOUNDARY_BYTES_MAX,
    PART_HEADER_BYTES_MAX,
    PART_HEADERS_MAX,
    PARTS_MAX,
    MultipartIntake,
)

NOTHING = Envelope(model=None, payload={}, flat=True)
BOUNDARY = b"--x"
DELIMITER = b"--" + BOUNDARY
END = DELIMITER + b"--\r\n"
# What looks like a boundary for a while.
LOOKALIKES = ["\r\n--", "\r\n----", "\r\n----y", "\r", "\n--", "----x", "\r\r\n----\r\n", "x", "-"]


def part(name: str, data: bytes, *, filename: str | None = None, headers: bytes = b"") -> bytes:
    """One part with its delimiter."""
    disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename else "")
    return b"%b\r\nContent-Disposition: %b\r\n%b\r\n%b\r\n" % (
        DELIMITER,
        disposition.encode(),
        headers,
        data,
    )


def file(data: bytes = GOOD, name: str = "file") -> bytes:
    """The part with the input."""
    return part(name, data, filename="requests.jsonl")


def sent(
    body: bytes,
    cuts: list[int] | None = None,
    limits: Limits = LIMITS,
    envelope: Envelope = NOTHING,
    boundary: bytes = BOUNDARY,
) -> Taken | Turned:
    """What the door says of a body, having seen that single bytes give the same."""
    door = functools.partial(MultipartIntake, limits, boundary, envelope)
    result = through(door, body, cuts or [])
    if len(body) < 2_000:
        assert through(door, body, [1] * len(body)) == result
    return result


def refusal(body: bytes, limits: Limits = LIMITS, envelope: Envelope = NOTHING) -> Turned:
    """The refusal of a body."""
    result = sent(body, None, limits, envelope)
    assert isinstance(result, Turned), result
    return result


field_names = st.text("abc", min_size=1, max_size=3)
field_values = st.lists(
    st.one_of(st.sampled_from(LOOKALIKES), st.text(st.characters(codec="utf-8"), max_size=5)),
    max_size=6,
).map("".join)
# Whoever writes a form takes a boundary that is in none of its values.
field_values = field_values.filter(lambda value: "\r\n" + DELIMITER.decode() not in value)


@moderate
@given(
    good_inputs(),
    st.dictionaries(field_names, field_values, max_size=5),
    st.randoms(use_true_random=True),
    sizes,
    st.sampled_from(["file", "input_data", "base64"]),
)
def test_any_order_and_chunks_are_the_same_form(
    data: bytes,
    fields: dict[str, str],
    chance: random.Random,
    cuts: list[int],
    form: str,
) -> None:
    """Fields and input come out as they went in, whatever the order, the chunks and the text."""
    content = base64.b64encode(data) if form == "base64" else data
    parts = [part(name, value.encode()) for name, value in fields.items()]
    parts.append(file(content, "file" if form == "file" else "input_data"))
    parts.append(part("model", b"gemini"))
    chance.shuffle(parts)
    result = sent(b"".join(parts) + END, cuts)
    assert isinstance(result, Taken), result
    assert (result.stored, result.rows) == (data, judge_jsonl(data, LIMITS)[1])
    assert result.envelope == Envelope(model="gemini", payload=fields, flat=True)


def test_a_job_is_named_by_fields() -> None:
    """They are told apart from the caller's own, and a label comes as often as it is sent."""
    parts = [part("label", b"a:1"), part("name", b"n"), file(), part("label", b"a:1")]
    result = sent(b"".join(parts) + END)
    assert isinstance(result, Taken), result
    assert result.envelope == Envelope(
        model=None, payload={}, flat=True, name="n", label=("a:1", "a:1")
    )


@moderate
@given(inputs(), sizes)
def test_a_file_is_judged_like_its_lines(data: bytes, cuts: list[int]) -> None:
    """Good and bad lines get what the core says of them."""
    plain = take(data, (), LIMITS, raw=True)
    result = sent(file(data) + END, cuts)
    if isinstance(plain, Turned):
        assert result == plain
    else:
        assert isinstance(result, Taken)
        assert (result.stored, result.rows) == (plain.stored, plain.rows)


def test_a_delimiter_may_lie_anywhere() -> None:
    """The end of a file is found wherever the blocks cut it, with the next part behind it."""
    line = GOOD + b"\n"
    start = len(file(b"")) - 2
    lines = line * ((BLOCK_BYTES - start) // len(line))
    for slide in range(120):
        data = lines + b" " * slide + b"\n"
        result = sent(file(data) + part("note", b"\r\n----\r\n----") + END, None, Limits())
        assert isinstance(result, Taken)
        assert result.stored == data
        assert result.envelope is not None
        assert result.envelope.payload == {"note": "\r\n----\r\n----"}


def test_every_cut_is_a_truncated_body() -> None:
    """Without the final boundary nothing is taken, however much has come."""
    body = part("model", b"m") + file() + DELIMITER + b"--"
    for cut in range(len(body)):
        assert refusal(body[:cut]).code == "truncated_body", cut
    assert isinstance(sent(body), Taken)


CASES = {
    "no delimiter": (b"hello", "invalid_multipart"),
    "another boundary": (b"----y\r\n", "invalid_multipart"),
    "no parts": (END, "missing_input_data"),
    "no input": (part("model", b"m") + END, "missing_input_data"),
    "an empty file": (file(b"") + END, "empty_input"),
    "two files": (file() + file() + END, "ambiguous_input"),
    "two kinds of input": (file() + file(name="input_data") + END, "ambiguous_input"),
    "two models": (part("model", b"a") + part("model", b"a") + file() + END, "duplicate_member"),
    "another file": (file(name="data") + END, "unknown_file_part"),
    "no disposition": (DELIMITER + b"\r\nA: b\r\n\r\nx\r\n" + END, "invalid_multipart"),
    "no headers": (DELIMITER + b"\r\n\r\nx\r\n" + END, "invalid_multipart"),
    "no name": (
        DELIMITER + b"\r\nContent-Disposition: form-data\r\n\r\nx\r\n" + END,
        "invalid_multipart",
    ),
    "an extended name": (
        DELIMITER + b"\r\nContent-Disposition: form-data; name*=utf-8''file\r\n\r\nx\r\n" + END,
        "invalid_multipart",
    ),
    "an attachment": (
        DELIMITER + b'\r\nContent-Disposition: attachment; name="file"\r\n\r\nx\r\n' + END,
        "invalid_multipart",
    ),
    "a header twice": (part("a", b"", headers=b"X: 1\r\nx: 2\r\n") + END, "invalid_multipart"),
    "a header that is none": (part("a", b"", headers=b"no colon\r\n") + END, "invalid_multipart"),
    "an encoded part": (
        part("file", GOOD, headers=b"Content-Transfer-Encoding: base64\r\n") + END,
        "invalid_multipart",
    ),
    "many headers": (
        part("a", b"", headers=b"".join(b"X%d: 1\r\n" % i for i in range(PART_HEADERS_MAX))) + END,
        "invalid_multipart",
    ),
    "a long header": (
        part("a", b"", headers=b"X: " + b"y" * PART_HEADER_BYTES_MAX + b"\r\n") + END,
        "invalid_multipart",
    ),
    "many parts": (
        b"".join(part(f"f{i}", b"") for i in range(PARTS_MAX)) + file() + END,
        "too_many_parts",
    ),
    "a name that is no text": (
        part("a", b"").replace(b'"a"', b'"\xff"') + file() + END,
        "invalid_utf8",
    ),
    "a value that is no text": (part("a", b"\xff") + file() + END, "invalid_utf8"),
    "an array": (file(b"[" + GOOD + b"]") + END, "json_array_file"),
    "a compressed file": (file(b"\x1f\x8b\x08\x00") + END, "compressed_input"),
    "bad base64": (file(b"QUJ", "input_data") + END, "invalid_base64"),
    "a nested form": (file(b"--y\r\nA: b\r\n\r\n" + GOOD + b"\r\n--y--") + END, "invalid_input"),
    "a long preamble": (b"\r\n" + b"x" * 300_000 + file() + END, "invalid_multipart"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_form_is_refused(case: str) -> None:
    """Each fault has its code, and a hint of what to send."""
    body, code = CASES[case]
    result = refusal(body)
    assert result.code == code
    assert result.hint


@pytest.mark.parametrize("encoding", [b"7bit", b"8BIT", b"binary "])
def test_a_transfer_encoding_that_changes_nothing_is_fine(encoding: bytes) -> None:
    """Some libraries say that a part is binary."""
    headers = b"Content-Transfer-Encoding: " + encoding + b"\r\n"
    assert isinstance(sent(part("file", GOOD, headers=headers) + END), Taken)


@pytest.mark.parametrize("size", [0, BOUNDARY_BYTES_MAX + 1, 4_000])
def test_a_boundary_has_1_to_70_bytes(size: int) -> None:
    """A boundary of another length is refused before any byte of the body."""
    result = sent(b"", boundary=b"b" * size)
    assert isinstance(result, Turned)
    assert (result.code, str(size) in result.message) == ("invalid_multipart", True)


def test_the_longest_boundary_is_taken() -> None:
    """70 bytes are still fine."""
    boundary = b"b" * BOUNDARY_BYTES_MAX
    body = (file() + END).replace(DELIMITER, b"--" + boundary)
    assert isinstance(sent(body, boundary=boundary), Taken)


@pytest.mark.parametrize(
    "body",
    [
        file() + END + b"x" * 300_000,
        part("note", b"x" * 300_000) + file() + END,
    ],
    ids=["epilogue", "field"],
)
def test_what_is_no_input_is_bounded(body: bytes) -> None:
    """Neither after nor beside the input is there room for much."""
    assert refusal(body).code == "envelope_too_large"


def test_a_large_file_is_no_envelope() -> None:
    """The limit on the rest does not count the input."""
    data = (GOOD + b"\n") * 10_000
    limits = Limits(envelope_bytes_max=400)
    result = sent(file(data) + END, None, limits)
    assert isinstance(result, Taken)
    assert result.stored == data


def test_the_query_and_the_form_are_joined() -> None:
    """What the query names counts like a field, and may not be named again."""
    envelope = Envelope(model="m", payload={"a": "1"}, flat=True)
    result = sent(part("b", b"2") + file() + END, envelope=envelope)
    assert isinstance(result, Taken)
    assert result.envelope == Envelope(model="m", payload={"a": "1", "b": "2"}, flat=True)
    for name in ("model", "a"):
        assert refusal(part(name, b"m") + file() + END, envelope=envelope).code == (
            "duplicate_member"
        )


def test_a_path_in_a_file_name_means_nothing() -> None:
    """Nobody looks at the name of the file."""
    for name in ("../../etc/passwd", "C:\\x", "a;b", "\\\\host\\x"):
        assert isinstance(sent(part("file", GOOD, filename=name) + END), Taken)
