"""The JSON around the lines: one case for each refusal, and what is accepted."""

import json
import tracemalloc

import pytest
from tests.ingest.naive import GOOD, Memory, Taken, body_of, take, taken, turned

from penstock.core.limits import Limits
from penstock.ingest.intake import Envelope, Intake

DATA = json.dumps(GOOD.decode()).encode()
INNER = b'"input_data":' + DATA
NEST = b"[" * 63 + b"]" * 63

CASES = [
    # body, code, offset
    (b"", "truncated_body", 0),
    (b" \n", "truncated_body", 2),
    (b"\xef\xbb", "truncated_body", 2),
    (b"{", "truncated_body", 1),
    (b'{"payload":{' + INNER[:-1], "truncated_body", 12 + len(INNER) - 1),
    (b'{"payload":{' + INNER, "truncated_body", 12 + len(INNER)),
    (b'{"payload":{' + INNER + b"}", "truncated_body", 13 + len(INNER)),
    (b"hello", "invalid_json", 0),
    (b"\xef{", "invalid_json", 1),
    (b"\xef ", "invalid_json", 1),
    (b" \xef\xbb\xbf{", "invalid_json", 1),
    (b"[1]", "not_an_object", 0),
    (b'"a"', "not_an_object", 0),
    (b" 12", "not_an_object", 1),
    (b"{,", "invalid_json", 1),
    (b'{"a" 1}', "invalid_json", 5),
    (b'{"a":}', "invalid_json", 5),
    (b'{"a":1 2}', "invalid_json", 7),
    (b'{"a":1,}', "invalid_json", 7),
    (b'{"a":[1,]}', "invalid_json", 8),
    (b'{"a":[1}', "invalid_json", 7),
    (b'{"a":01}', "invalid_json", 5),
    (b'{"a":truth}', "invalid_json", 5),
    (b'{"a":1e999}', "invalid_json", 5),
    (b'{"a":1"b"}', "invalid_json", 5),
    (b'{"a":"\\x"}', "invalid_json", 6),
    (b'{"a":"\n"}', "invalid_json", 6),
    (b'{"a\xff":1}', "invalid_utf8", 3),
    (b'{"a":"\\ud800"}', "lone_surrogate", 6),
    (b'{"a":18446744073709551616}', "number_out_of_range", 5),
    (b"{" + INNER + b"} x", "trailing_data", len(INNER) + 3),
    (b"{" + INNER + b"}{}", "trailing_data", len(INNER) + 2),
    (b"{}", "missing_input_data", 1),
    (b'{"payload":{"model":"m"}}', "missing_input_data", 24),
    (b'{"other":{' + INNER + b"}}", "missing_input_data", 11 + len(INNER)),
    (b'{"payload":{"deep":{' + INNER + b"}}}", "missing_input_data", 22 + len(INNER)),
    (b'{"payload":[{' + INNER + b"}]}", "payload_not_an_object", 11),
    (b'{"payload":null}', "payload_not_an_object", 11),
    (b'{"model":1}', "model_not_a_string", 9),
    (b'{"payload":{"model":null}}', "model_not_a_string", 20),
    (b'{"input_data":null}', "input_data_not_a_string", 14),
    (b'{"payload":{"input_data":{}}}', "input_data_not_a_string", 25),
    (b'{"model":"a","model":"b"}', "duplicate_member", 13),
    (b'{"payload":{"a":1,"\\u0061":1}}', "duplicate_member", 18),
    (b"{" + INNER + b"," + INNER + b"}", "duplicate_member", len(INNER) + 2),
    (b"{" + INNER + b',"payload":{}}', "ambiguous_input", len(INNER) + 2),
    (b'{"payload":{},"input_data":""}', "ambiguous_input", 14),
    (b"{" + INNER + b',"input_uri":"x"}', "ambiguous_input", len(INNER) + 2),
    (b'{"input_uri":"x",' + INNER + b"}", "ambiguous_input", 17),
    (b'{"payload":{"input_uri":"x",' + INNER + b"}}", "ambiguous_input", 28),
    (b'{"input_uri":"x","payload":{}}', "ambiguous_input", 17),
    (b'{"payload":{},"input_uri":"x"}', "ambiguous_input", 14),
    (b'{"input_uri":null}', "input_uri_not_a_string", 13),
    (b'{"payload":{"input_uri":["x"]}}', "input_uri_not_a_string", 24),
    (b'{"payload":{"deep":{"input_uri":"x"}}}', "missing_input_data", 37),
    (b'{"a":' + b"[" * 64, "nesting_too_deep", 68),
    (b'{"a":' + b'{"b":' * 64, "nesting_too_deep", 5 + 5 * 63),
    (b'{"input_data":"\\x"}', "invalid_json", 15),
    (b'{"input_data":"{\t"}', "invalid_json", 16),
    (b'{"input_data":"{\\u12"}', "invalid_json", 16),
    (b'{"input_data":"{\xff"}', "invalid_utf8", 16),
    (b'{"input_data":"{\xe4\xb8"}', "invalid_utf8", 16),
    (b'{"input_data":"{\\ud83d"}', "lone_surrogate", 16),
    (b'{"input_data":"{\\ud83d\\u0041"}', "lone_surrogate", 16),
    (b'{"input_data":"QUFB\n"}', "invalid_json", 19),
]


@pytest.mark.parametrize(("body", "code", "offset"), CASES)
def test_a_bad_envelope_is_refused_with_its_place(body: bytes, code: str, offset: int) -> None:
    """Each fault of the outer JSON has its code, the byte of the body, and a hint."""
    refusal = turned(body)
    assert (refusal.kind, refusal.code) == ("InvalidRequest", code)
    (problem,) = refusal.problems
    assert (problem.code, problem.offset) == (code, offset)
    assert refusal.hint


def test_the_envelope_has_a_limit() -> None:
    """Whatever stands outside the lines, even white space, is bounded."""
    limits = Limits(envelope_bytes_max=40)
    spaces = b" " * 40
    for body in (spaces + b"{", b"{" + INNER + b"}" + spaces, b'{"a":"' + spaces):
        refusal = turned(body, limits)
        assert (refusal.kind, refusal.code) == ("TooLarge", "envelope_too_large")
        assert refusal.problems[0].offset is not None


def test_a_refusal_comes_as_soon_as_it_is_certain() -> None:
    """The first wrong byte raises; the rest of a gigabyte need not come."""
    intake = Intake(Limits(), Memory())
    intake.feed(b'{"payload":{"model":')
    with pytest.raises(Exception, match="model` is not a string"):
        intake.feed(b"1")


@pytest.mark.parametrize(
    ("body", "envelope"),
    [
        (
            b'{"model":"G","payload":{"model":"m",' + INNER + b',"n":[1,{"a":2.5}]},"x":0}',
            Envelope(model="G", payload={"model": "m", "n": [1, {"a": 2.5}]}, flat=False),
        ),
        (
            b'{"payload":{' + INNER + b"}}",
            Envelope(model=None, payload={}, flat=False),
        ),
        (
            b"\xef\xbb\xbf {" + INNER + b' , "b" : [ ] , "model" : "m", "a":{}, "t":true } \r\n',
            Envelope(model="m", payload={"b": [], "a": {}, "t": True}, flat=True),
        ),
        (
            b'{"a":{"payload":1,"payload":2},"input\\u005fdata":' + DATA + b',"\\"":"\\\\\\""}',
            Envelope(model=None, payload={"a": {"payload": 2}, '"': '\\"'}, flat=True),
        ),
        (
            b"{" + INNER + b',"n":' + NEST + b',"i":18446744073709551615,"f":-1e-9}',
            Envelope(
                model=None,
                payload={"n": json.loads(NEST), "i": 2**64 - 1, "f": -1e-9},
                flat=True,
            ),
        ),
    ],
)
def test_both_forms_are_accepted(body: bytes, envelope: Envelope) -> None:
    """Nested and flat, members in any order, escaped names, white space, a byte-order mark."""
    result = taken(body)
    assert result.envelope == envelope
    assert list(result.envelope.payload) == list(envelope.payload)
    assert result.stored == GOOD


@pytest.mark.parametrize(
    ("body", "envelope"),
    [
        (
            b'{"model":"G","payload":{"a":1,"input_uri":"gs:\\/\\/b/\\u0061","model":"m"}}',
            Envelope(model="G", payload={"a": 1, "model": "m"}, flat=False, input_uri="gs://b/a"),
        ),
        (
            b'{"input_uri":"gs://b/a","model":"m","b":{"input_data":2}}',
            Envelope(model="m", payload={"b": {"input_data": 2}}, flat=True, input_uri="gs://b/a"),
        ),
    ],
)
def test_an_input_may_lie_elsewhere(body: bytes, envelope: Envelope) -> None:
    """Instead of lines either form may name where they lie; then nothing is stored of the body."""
    sink = Memory()
    intake = Intake(Limits(), sink)
    for start in range(len(body)):
        intake.feed(body[start : start + 1])
    result = intake.finish()
    assert result.envelope == envelope
    assert (result.is_elsewhere, result.line_count, result.input_bytes) == (True, 0, 0)
    assert (sink.blocks, sink.rows) == ([], [])


def test_lines_of_the_body_are_not_elsewhere() -> None:
    """An input that came with the body needs no second look."""
    intake = Intake(Limits(), Memory())
    intake.feed(body_of(GOOD))
    assert not intake.finish().is_elsewhere


def test_lines_are_judged_inside_the_envelope() -> None:
    """Bad lines of an escaped input are reported with offsets in the stored bytes."""
    refusal = turned(body_of(b"\xef\xbb\xbf" + GOOD + b"\r\n{}\n"))
    (problem,) = refusal.problems
    assert (problem.code, problem.line, problem.offset) == ("missing_request", 2, len(GOOD) + 2)


def test_limits_are_met_inside_the_envelope() -> None:
    """A limit of the input refuses while the string is still open."""
    refusal = turned(body_of(GOOD * 3), Limits(job_bytes_max=100))
    assert (refusal.kind, refusal.code) == ("TooLarge", "input_too_large")


@pytest.mark.slow
def test_memory_is_bounded() -> None:
    """64 MB in either encoding never need more than a few megabytes."""
    line = json.dumps({"request": {"contents": [{"text": "x" * 4_900}]}}) + "\n"
    piece = json.dumps(line * 53)[1:-1].encode()
    sink = Memory(keep=False)
    tracemalloc.start()
    intake = Intake(Limits(), sink)
    intake.feed(b'{"input_data":"')
    for _ in range(250):
        intake.feed(piece)
    intake.feed(b'"}')
    accepted = intake.finish()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert accepted.line_count == 53 * 250
    assert sum(sink.sizes) == accepted.input_bytes > 64_000_000
    assert peak < 8_000_000


@pytest.mark.slow
def test_memory_is_bounded_when_all_lines_are_bad() -> None:
    """Tens of thousands of bad lines keep a hundred problems, not all."""
    tracemalloc.start()
    result = take(b"{}\n" * 30_000, [65_536], raw=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not isinstance(result, Taken)
    assert (len(result.problems), result.total) == (100, 30_000)
    assert peak < 4_000_000
