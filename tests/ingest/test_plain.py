r"""The quick yes for whole blocks never says yes to what the exact rules refuse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ingest.naive import FILES, GOOD, GRAMMAR, Taken, judge_jsonl, line_code, take
from tests.ingest.test_properties import moderate, sizes

from penstock.core.limits import Limits
from penstock.ingest.check import LineCheck
from penstock.ingest.plain import LINE_BYTES, PlainLines

LIMITS = Limits()
PLAIN = PlainLines()

TEXTS = [
    b'""',
    b'"hi"',
    b'"\\""',
    b'"\\\\"',
    b'"\\u0022"',
    b'"\\\\u0022"',
    b'"\\u0041\xc3\xa9"',
    b'"\xff"',
    b'"\\ud83d\\ude00"',
    b'"\\ud83d"',
    b'"}\\n{"',
    b'"} {"',
    b'"\t"',
    b"1",
    b"null",
    b"{}",
]
NUMBERS = [
    b"18446744073709551616",
    b"-9223372036854775809",
    b"0",
    b"-0",
    b"01",
    b"1.5",
    b"1e300",
    b"1E301",
    b"1e999",
    b"1e-400",
    b"NaN",
    b"-Infinity",
    b"9223372036854775807",
    b"18446744073709551615",
    b'"1"',
    b"true",
    b"null",
]
INTEGERS = [*NUMBERS, b"18446744073709551616", b"-9223372036854775809", b"1" * 30, b"1.0", b"1e18"]
ROLES = [b'"user"', b'"model"', b'"function"', b'""', b"null", b'"system"', b"1"]
SPACES = [b"", b"", b"", b" ", b"\t"]
ENDS = [b"\n", b"\n", b"\n", b"\r\n", b"\n\n", b" \n", b"", b"\n \n"]

texts = st.sampled_from(TEXTS)
numbers = st.sampled_from(NUMBERS)
integers = st.sampled_from(INTEGERS)
Member = tuple[bytes, bytes]


@st.composite
def objects(draw: st.DrawFn, usual: list[Member], odd: st.SearchStrategy[Member]) -> bytes:
    """An object of its usual members, sometimes with odd ones, or with one twice."""
    members = draw(st.permutations(usual))
    if draw(st.integers(0, 5)) == 0:
        members = [*members, draw(odd)]
    if members and draw(st.integers(0, 9)) == 0:
        members = [*members, draw(st.sampled_from(members))]
    space = draw(st.sampled_from(SPACES))
    rows = [b'"%b"%b:%b%b' % (name, space, space, value) for name, value in members]
    return b"{" + space + (b"," + space).join(rows) + b"}"


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """One element of `contents`, or a `systemInstruction`."""
    text = (b"text", draw(st.just(b'"hi"') | texts))
    others = st.tuples(st.sampled_from([b"text", b"te\\u0078t", b"inlineData"]), texts)
    parts = draw(st.lists(objects([text], others), min_size=1, max_size=2))
    members = [(b"parts", b"[" + b",".join(parts) + b"]")]
    if draw(st.booleans()):
        members.append((b"role", draw(st.sampled_from([b'"user"', *ROLES]))))
    odd = st.tuples(st.sampled_from([b"role", b"parts", b"x"]), texts)
    return draw(objects(members, odd))


@st.composite
def configs(draw: st.DrawFn) -> bytes:
    """A `generationConfig`."""
    fields = st.one_of(
        st.tuples(st.sampled_from([b"temperature", b"topP", b"topK"]), numbers),
        st.tuples(st.sampled_from([b"seed", b"maxOutputTokens", b"candidateCount"]), integers),
        st.tuples(st.just(b"stopSequences"), st.sampled_from([b"[]", b'["a"]', b"[1]"])),
        st.tuples(st.sampled_from([b"responseMimeType", b"x"]), texts),
    )
    return draw(objects(draw(st.lists(fields, max_size=2)), fields))


@st.composite
def near_ordinary(draw: st.DrawFn) -> bytes:
    """A line as most are, with at most a few things that are not."""
    elements = draw(st.lists(contents(), min_size=draw(st.integers(0, 1)), max_size=2))
    request = [(b"contents", b"[" + b",".join(elements) + b"]")]
    if draw(st.booleans()):
        request.append((b"generationConfig", draw(configs())))
    if draw(st.integers(0, 3)) == 0:
        request.append((b"systemInstruction", draw(contents())))
    odd = st.tuples(st.sampled_from([b"config", b"tools", b"messages", b"contents"]), texts)
    members = [(b"request", draw(objects(request, odd)))]
    if draw(st.booleans()):
        name = draw(st.sampled_from([b"key", b"custom_id", b"id", b"body", b"status", b"x"]))
        members.append((name, draw(texts | integers)))
    line = draw(objects(members, st.tuples(st.sampled_from([b"key", b"request"]), texts)))
    return line + draw(st.sampled_from([b""] * 12 + [b" ", line, b" " + line, b"}", b",", b"3"]))


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    """Lines, most of them ordinary."""
    rows = draw(st.lists(st.just(GOOD) | near_ordinary(), min_size=1, max_size=4))
    return b"".join(row + draw(st.sampled_from(ENDS)) for row in rows)


def lines_of(block: bytes) -> list[bytes]:
    """The lines as the intake cuts them."""
    lines = block.split(b"\n")
    return lines if lines[-1] else lines[:-1]


@moderate
@given(blocks())
def test_no_block_passes_with_a_bad_line(block: bytes) -> None:
    """In what `passes` takes, `problem` and the reference find nothing wrong, line by line."""
    lines = lines_of(block)
    for passes in (PLAIN.passes, LineCheck(LIMITS, FILES).passes):
        if passes(lines, block):
            check = LineCheck(LIMITS, FILES)
            assert [check.problem(line, 1, 0) for line in lines] == [None] * len(lines)
            assert [line_code(line, LIMITS) for line in lines] == [None] * len(lines)


@moderate
@given(near_ordinary())
def test_all_ways_agree_on_a_line(line: bytes) -> None:
    """What the exact rules say is what the reference says, and the quick look never says more."""
    problem = LineCheck(LIMITS, FILES).problem(line, 1, 0)
    code = problem and ("grammar" if problem.code in GRAMMAR else problem.code)
    assert code == line_code(line, LIMITS)
    assert LineCheck(LIMITS, FILES).is_bad(line) == (code is not None)
    assert not (LineCheck(LIMITS, FILES).is_plainly_good(line) and code)


@pytest.mark.slow
@moderate
@given(blocks(), sizes)
def test_blocks_of_near_ordinary_lines_agree_with_the_reference(
    block: bytes, cuts: list[int]
) -> None:
    """The intake as a whole finds the same bad lines in them, in any chunks."""
    bad, rows = judge_jsonl(block, LIMITS)
    result = take(block, cuts, LIMITS, raw=True)
    if isinstance(result, Taken):
        assert (bad, result.rows, result.stored) == ([], rows, block)
    else:
        found = [
            (problem.line, "grammar" if problem.code in GRAMMAR else problem.code)
            for problem in result.problems
        ]
        assert found == [(number, code) for number, _, code in bad]


ORDINARY = [
    GOOD,
    b'{"key": "a", "request": {"contents": [{"role": "user", "parts": [{"text": "\\"}\\n{"}]}]}}',
    (
        b'{"custom_id":7,"request":{"contents":[{"parts":[{"text":"a"},{"text":"b"}]}],'
        b'"systemInstruction":{"parts":[{"text":"s"}]},"generationConfig":{"temperature":0.5,"topP":1,'
        b'"maxOutputTokens":100,"stopSequences":["x"],"responseMimeType":"text/plain"}}}'
    ),
]


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_ordinary_lines_pass(end: bytes) -> None:
    """The quick way is taken by the lines that it is for, or it would only cost time."""
    block = b"\n".join(ORDINARY * 100) + end
    assert PLAIN.passes(ORDINARY * 100, block)


@pytest.mark.parametrize(
    "line",
    [
        b'{"x":1,' + GOOD[1:],
        b'{"key":"\\u0022",' + GOOD[1:],
        b'{"key":"' + b"x" * LINE_BYTES + b'",' + GOOD[1:],
        b" " + GOOD,
        GOOD + GOOD,
        b'{"key":"1","key":"2",' + GOOD[1:],
        b'{"key":"\xff",' + GOOD[1:],
    ],
)
def test_the_unusual_is_looked_at(line: bytes) -> None:
    """No yes to what the types, the count of values or of quotes do not vouch for."""
    assert not PLAIN.passes([line], line)


@pytest.mark.parametrize("limits", [Limits(json_depth_max=5), Limits(provider_depth_max=4)])
def test_a_lower_limit_of_depth_is_kept(limits: Limits) -> None:
    """Where six levels may be too many the quick way, which does not count them, is not taken."""
    block = b"\n".join(ORDINARY)
    check = LineCheck(limits)
    good = [check.problem(line, 1, 0) is None for line in ORDINARY]
    assert not check.passes(ORDINARY, block) or all(good)
    assert [line_code(line, limits) is None for line in ORDINARY] == good


WIDE = [b"18446744073709551616", b"-9223372036854775809", b"1" * 30]


@pytest.mark.parametrize("token", WIDE)
def test_a_wide_integer_where_a_float_belongs_is_refused(token: bytes) -> None:
    """A number that fits no 64 bits is refused wherever it stands."""
    config = b'"generationConfig":{"temperature":%b},' % token
    line = b'{"request":{' + config + GOOD[len(b'{"request":{') :]
    problem = LineCheck(LIMITS, FILES).problem(line, 1, 0)
    assert problem is not None
    assert problem.code == "number_out_of_range"
    assert not LineCheck(LIMITS, FILES).passes([line], line)
