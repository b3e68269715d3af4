"""Any chunking, order and encoding of the same input gives the same result, and the right one."""

import base64
import json
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.ingest.naive import (
    GOOD,
    GRAMMAR,
    Taken,
    Tree,
    Turned,
    input_of,
    judge_jsonl,
    take,
)

from penstock.core.limits import Limits

LIMITS = Limits(json_depth_max=8, provider_depth_max=4, job_lines_max=50, line_bytes_max=2_000)
REQUEST = b'"request":{"contents":[{"parts":[{"text":"x"}]}]}}'
FRAGMENTS = [
    b"",
    b" \t",
    b"\r",
    GOOD,
    b" " + GOOD + b" ",
    b"[]",
    b"3",
    b"{",
    b"},",
    b"\xff",
    b"\xef\xbb\xbf" + GOOD,
    GOOD + GOOD,
    b'{"k":1e400,' + REQUEST,
    b'{"k":1E308,' + REQUEST,
    b'{"k":18446744073709551616,' + REQUEST,
    b'{"k":-9223372036854775808,' + REQUEST,
    b'{"k":"\\"1e999\\\\",' + REQUEST,
    b'{"k":"\\ud83d",' + REQUEST,
    b'{"k":"\\ud83d\\ude00\xc3\xa9",' + REQUEST,
    b'{"k":' + b"[" * 7 + b"]" * 7 + b"," + REQUEST,
    b'{"k":' + b"[" * 8 + b"]" * 8 + b"," + REQUEST,
    b'{"k":"[[[[[[[[{{{{{{{{",' + REQUEST,
    b'{"request":{"contents":[{"a":{"a":{"b":1}}}]}}',
    b'{"request":{"contents":[{"a":{"a":{"a":{"b":1}}}}]}}',
    b'{"request":{"contents":[]}}',
    b'{"request":{"contents":{}}}',
    b'{"request":{"contents":[1],"config":0}}',
    b'{"request":{"messages":[1]}}',
    b'{"request":[]}',
    b'{"body":{}}',
    b'{"status":1,' + REQUEST,
    b'{"key":1}',
]
MUTATIONS = [
    b"{",
    b"}",
    b"[",
    b'"',
    b"\\",
    b",",
    b":",
    b"\n",
    b"\x00",
    b"\xc3",
    b"9e999",
    b"\\ud83d",
]

lines = st.lists(st.sampled_from(FRAGMENTS), max_size=6)
ends = st.sampled_from([b"\n", b"\r\n"])
good_text = st.text(st.characters(codec="utf-8"), max_size=12)
sizes = st.lists(st.integers(1, 40), max_size=30)
# The machine is shared; slowness is judged by benchmarks, not here.
moderate = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def inputs(draw: st.DrawFn) -> bytes:
    """JSONL of good and bad lines, sometimes with a mutation anywhere."""
    end = draw(ends)
    data = end.join(draw(lines)) + draw(st.sampled_from([b"", end]))
    return draw(mutated(data)) if draw(st.booleans()) else data


@st.composite
def mutated(draw: st.DrawFn, data: bytes) -> bytes:
    """The data with a few bytes replaced, added or cut."""
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(data)))
        until = draw(st.integers(at, min(len(data), at + 3)))
        data = data[:at] + draw(st.sampled_from([b"", *MUTATIONS])) + data[until:]
    return data


@st.composite
def good_inputs(draw: st.DrawFn) -> bytes:
    """JSONL that is accepted, with any text and blank lines."""
    rows = []
    for text in draw(st.lists(good_text, min_size=1, max_size=6)):
        tree = {"request": {"contents": [{"text": text}]}, "key": text}
        rows.append(json.dumps(tree, ensure_ascii=draw(st.booleans())).encode())
        rows.extend(draw(st.lists(st.sampled_from([b"", b" \t"]), max_size=1)))
    end = draw(ends)
    return end.join(rows) + draw(st.sampled_from([b"", end]))


def escape(text: str, chance: random.Random) -> bytes:
    """Write the inside of a JSON string, each character in any of its forms."""
    out = []
    for character in text:
        forms = [json.dumps(character)[1:-1], json.dumps(character, ensure_ascii=False)[1:-1]]
        if ord(character) < 0x10000:
            forms.append(f"\\u{ord(character):04X}")
        if character == "/":
            forms.append("\\/")
        out.append(chance.choice(forms))
    return "".join(out).encode()


def wrap(inside: bytes, chance: random.Random, *, flat: bool) -> bytes:
    """Put the string into a body with its members in any order."""
    space = chance.choice([b"", b" ", b"\n"])

    def join(members: list[bytes]) -> bytes:
        chance.shuffle(members)
        return b"{" + (space + b"," + space).join(members) + space + b"}"

    inner = [b'"input_data":' + space + b'"' + inside + b'"', b'"n":{"input_data":[1,"]"]}']
    outer = [b'"model":"m"', b'"x":null']
    if flat:
        return join(inner + outer)
    return space + join([*outer, b'"payload":' + join([*inner, b'"model":"g"'])]) + space


def encodings(data: bytes, chance: random.Random) -> list[bytes]:
    """The input escaped, in base64, and in base64 with line breaks and escapes."""
    text = base64.b64encode(data).decode()
    broken = "".join(char + chance.choice(["", "", "\r\n"]) for char in text.rstrip("="))
    return [
        escape(data.decode(), chance),
        text.encode(),
        escape(broken, chance),
    ]


@moderate
@given(good_inputs(), st.randoms(use_true_random=True), st.booleans(), sizes)
def test_every_encoding_order_and_chunking_stores_the_same(
    data: bytes,
    chance: random.Random,
    flat: bool,  # noqa: FBT001
    cuts: list[int],
) -> None:
    """Raw, escaped and base64, any key order and any chunks: the same bytes and index rows."""
    rows = judge_jsonl(data, LIMITS)[1]
    for inside in encodings(data, chance):
        result = take(wrap(inside, chance, flat=flat), cuts, LIMITS)
        assert isinstance(result, Taken), result
        assert (result.stored, result.rows, result.line_count) == (data, rows, len(rows))
        assert result.envelope is not None
        assert result.envelope.flat == flat
        assert result.envelope.model == "m"
    raw = take(data, cuts, LIMITS, raw=True)
    assert isinstance(raw, Taken)
    assert (raw.stored, raw.rows) == (data, rows)
    for offset, length in rows:
        assert json.loads(data[offset : offset + length])["request"]


def simple(refusal: Turned) -> list[tuple[int | None, str]]:
    """The problems as the reference states them."""
    return [
        (problem.line, "grammar" if problem.code in GRAMMAR else problem.code)
        for problem in refusal.problems
    ]


def expect(result: Taken | Turned, data: bytes) -> None:
    """Hold a result against the reference's judgement of the decoded input."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    bad, rows = judge_jsonl(data, LIMITS)
    if isinstance(result, Taken):
        assert (bad, result.rows, result.stored) == ([], rows, data)
    elif result.code == "invalid_input":
        assert simple(result) == [(number, code) for number, _, code in bad]
        for problem, (_, offset, _) in zip(result.problems, bad, strict=True):
            assert problem.offset is not None
            assert offset <= problem.offset <= len(data)
    elif result.code == "json_array_file":
        assert data.lstrip().startswith(b"[")
    elif result.code == "empty_input":
        assert not rows
    else:
        assert result.code == "utf16"


@moderate
@given(inputs(), sizes)
def test_raw_input_agrees_with_the_reference(data: bytes, cuts: list[int]) -> None:
    """Good and bad lines are found as json.loads and a plain loop find them, in any chunks."""
    result = take(data, cuts, LIMITS, raw=True)
    assert result == take(data, (), LIMITS, raw=True)
    expect(result, data)


@moderate
@given(inputs(), st.randoms(use_true_random=True), sizes)
def test_base64_input_agrees_with_the_reference(
    data: bytes, chance: random.Random, cuts: list[int]
) -> None:
    """The same through base64, which may hold any bytes."""
    body = wrap(base64.b64encode(data), chance, flat=True)
    result = take(body, cuts, LIMITS)
    assert result == take(body, [1] * len(body), LIMITS)
    expect(result, data)


@st.composite
def corrupted(draw: st.DrawFn) -> bytes:
    """A body, escaped or base64, with a mutation anywhere."""
    chance = draw(st.randoms(use_true_random=True))
    inside = chance.choice(encodings(draw(good_inputs()), chance))
    return draw(mutated(wrap(inside, chance, flat=draw(st.booleans()))))


@settings(moderate, max_examples=300)
@given(corrupted(), sizes)
def test_a_corrupted_body_agrees_with_the_reference(body: bytes, cuts: list[int]) -> None:
    """Whatever is broken: the same verdict in any chunks, and the reference's on acceptance."""
    result = take(body, cuts, LIMITS)
    assert result == take(body, (), LIMITS)
    data = input_of(body)
    if data is None:
        assert isinstance(result, Turned)
        assert result.kind in {"InvalidRequest", "InvalidInput"}
    else:
        expect(result, data)


json_values: st.SearchStrategy[Tree] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@moderate
@given(json_values, json_values)
def test_any_json_agrees_with_the_reference(request: Tree, other: Tree) -> None:
    """Random trees, numbers and depths in and beside a request get the reference's code."""
    line = json.dumps({"request": {"contents": [request]}, "k": other}).encode()
    result = take(line, (), LIMITS, raw=True)
    expect(result, line)
