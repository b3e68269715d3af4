r"""The quick yes for lines like others never says yes to what the exact rules refuse."""

import re
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ingest.naive import FILES, GOOD, GRAMMAR, Memory, Taken, judge_jsonl, line_code, take
from tests.ingest.test_properties import moderate, sizes

from penstock.core.limits import Limits
from penstock.errors import InvalidInput
from penstock.ingest.alike import FORMS_MAX, GAPS_MAX, PATIENCE, SHORT_BYTES, VALUES_MAX
from penstock.ingest.check import LineCheck
from penstock.ingest.jsonl import JsonlIntake

LIMITS = Limits()

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


TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|-?[0-9][0-9.eE+-]*', re.DOTALL)
LONG = b'"%b"' % (b"x y" * SHORT_BYTES)
FILLINGS = [
    *TEXTS,
    *INTEGERS,
    LONG,
    b'"a\\\\"',
    b'"\\\\\\""',
    b'"a\\"b\\"c"',
    b'"a","text":"b"',
    b'"\\',
    b'"a": "b"',
    b"1e5",
    b"1" * 15,
    b"1" * 16,
    b"1.5.5",
    b"--1",
]


@st.composite
def alike(draw: st.DrawFn) -> bytes:
    """Lines that differ from a first one in some of its texts and numbers, mostly harmlessly."""
    base = draw(st.just(GOOD) | near_ordinary())
    rows = [base]
    places = [match.span() for match in TOKEN.finditer(base)]
    for _ in range(draw(st.integers(1, 6))):
        row = base
        changed = draw(st.lists(st.sampled_from(places), max_size=3, unique=True))
        for start, end in sorted(changed, reverse=True):
            row = row[:start] + draw(st.sampled_from(FILLINGS)) + row[end:]
        rows.append(row)
    return b"".join(row + draw(st.sampled_from(ENDS)) for row in rows)


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
@given(blocks() | alike() | st.tuples(alike(), alike()).map(b"".join), sizes)
def test_blocks_of_lines_that_are_alike_agree_with_the_reference(
    block: bytes, cuts: list[int]
) -> None:
    """The intake as a whole finds the same lines, good and bad, in any chunks."""
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


def reached(lines: list[bytes], limits: Limits = LIMITS) -> int:
    """How many lines behind the first one are taken because they are like it."""
    block = b"".join(line + b"\n" for line in lines)
    check = LineCheck(limits, FILES)
    assert check.lengths(block) is not None
    check.learn(lines[0])
    begin = len(lines[0]) + 1
    return block[begin : check.reach(block, begin)].count(b"\n")


SCHEMA = b'"generationConfig":{"responseSchema":{"type":"OBJECT","minItems":"%b"}}'
SAID = b'{"request":{"contents":[{"role":"%b","parts":[{"text":"%b"}]}],%b},"key":%b}'
MEDIA = b'{"request":{"contents":[{"parts":[{"inlineData":{"mimeType":"a/b","data":"%b"}}]}]}}'
FILE = b'{"request":{"contents":[{"parts":[{"fileData":{"fileUri":"https://a/%b"}}]}]}}'


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (GOOD, GOOD.replace(b"hi", b"ho")),
        (GOOD, GOOD.replace(b"hi", b"")),
        (GOOD, GOOD.replace(b"hi", b'a \\"quoted\\" \\n text, \\u0041\xc3\xa9')),
        (
            SAID % (b"user", b"a", b'"generationConfig":{"temperature":0.5,"seed":-3}', b'"1"'),
            SAID % (b"user", b"b", b'"generationConfig":{"temperature":1,"seed":900}', b'"2"'),
        ),
        (SAID % (b"user", b"a", SCHEMA % b"1", b"1"), SAID % (b"user", b"b", SCHEMA % b"1", b"2")),
        (MEDIA % b"AAAA", MEDIA % b"BBBBBBBB"),
        *(
            (SAID % (b"user", b"a", b'"x":1', b"1"), SAID % (b"user", b"a", b'"x":1', number))
            for number in (b"9" * 19, b"-" + b"9" * 18, b"-0.8444218515250481", b"0." + b"1" * 17)
        ),
    ],
)
@pytest.mark.parametrize("long", [b"", b" " * SHORT_BYTES])
def test_lines_like_a_good_one_pass(first: bytes, second: bytes, long: bytes) -> None:
    """The quick way is taken by the lines that it is for, short and long."""
    lines = [line.replace(b"{", b"{" + long, 1) for line in (first, *[second, first] * 50)]
    assert reached(lines) == 100


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (GOOD, b'{"x":1,' + GOOD[1:]),
        (GOOD, b" " + GOOD),
        (GOOD, GOOD + GOOD),
        (GOOD, GOOD.replace(b"text", b"texts")),
        (GOOD, GOOD.replace(b"hi", b"a\\\\")),
        (GOOD, GOOD.replace(b'"hi"', b'"a\\\\"').replace(b"{", b'{"k":"a",', 1)),
        (GOOD, GOOD.replace(b'"hi"', b"1")),
        (SAID % (b"user", b"a", b'"x":1', b"1"), SAID % (b"User", b"a", b'"x":1', b"1")),
        (SAID % (b"user", b"a", b'"x":1', b"1"), SAID % (b"user", b"a", b'"x":2', b"1")),
        (SAID % (b"user", b"a", SCHEMA % b"1", b"1"), SAID % (b"user", b"a", SCHEMA % b"2", b"1")),
        (SAID % (b"user", b"a", b'"x":1', b"1"), SAID % (b"user", b"a", b'"x":1', b"1" * 20)),
        (SAID % (b"user", b"a", b'"x":1', b"1"), SAID % (b"user", b"a", b'"x":1', b"1e5")),
        (SAID % (b"user", b"a", b'"x":1', b"1"), SAID % (b"user", b"a", b'"x":1', b'"1"')),
        (SAID % (b"user", b"a", b'"x":1', b"1e5"), SAID % (b"user", b"a", b'"x":1', b"2e5")),
    ],
)
@pytest.mark.parametrize("long", [b"", b" " * SHORT_BYTES])
def test_what_is_not_alike_is_looked_at(first: bytes, second: bytes, long: bytes) -> None:
    """No yes to another member, role, schema, space, or number that nobody may rely on."""
    lines = [line.replace(b"{", b"{" + long, 1) for line in (first, second, first)]
    assert reached(lines) == reached(lines[:2]) == 0


@pytest.mark.parametrize(
    "line",
    [
        FILE % b"a",
        GOOD.replace(b"hi", b"a\\\\"),
        GOOD.replace(b'"text"', b'"functionCall":{"name":"x"},"text"'),
        GOOD.replace(b'"hi"', b'"hi"},{"text":' * GAPS_MAX + b'""'),
        b'{"k":[' + b"1," * GAPS_MAX + b"1]," + GOOD[1:],
        b'{"k":[' + b"{}," * VALUES_MAX + b"{}]," + GOOD[1:],
        GOOD.replace(b"contents", b"content"),
    ],
)
def test_lines_that_are_no_examples(line: bytes) -> None:
    """A file's address, another kind of part or a bad line is not what others may look like."""
    assert reached([line, line]) == 0


def test_several_forms_are_known_and_the_latest_are_kept() -> None:
    """Lines of some kinds by turns are all taken; of one kind too many the oldest is forgotten."""
    kinds = [GOOD.replace(b"{", b"{" + b" " * spaces, 1) for spaces in range(FORMS_MAX + 1)]
    block = b"".join(line + b"\n" for line in kinds)
    ends = [end + 1 for end, byte in enumerate(block) if byte == ord("\n")]
    check = LineCheck(LIMITS, FILES)
    assert check.lengths(block) is not None
    for line in kinds:
        check.learn(line)
    assert check.reach(block, 0) == 0
    for start, end in pairwise(ends):
        assert check.reach(block, start) == end


@pytest.mark.parametrize("between", [b'{"x":1,' + GOOD[1:], b" " + GOOD, b"\n" + GOOD])
def test_lines_are_where_the_index_says(between: bytes) -> None:
    """Behind lines that are alike, before one that is not, and after it; blank ones have no row."""
    lines = [GOOD] * 3 + between.split(b"\n") + [GOOD] * 2
    result = take(b"\n".join(lines) + b"\n", raw=True)
    assert isinstance(result, Taken)
    found = [result.stored[offset : offset + length] for offset, length in result.rows]
    assert found == [line for line in lines if line]


def test_a_file_of_different_lines_is_not_compared_for_ever() -> None:
    """Where hardly a line is like another one nothing is tried any more, and all are still good."""
    lines = [b'{"k%d":1,' % number + GOOD[1:] for number in range(PATIENCE)]
    block = b"".join(line + b"\n" for line in lines)
    check = LineCheck(LIMITS, FILES)
    at = 0
    for line in lines[:100]:
        assert check.reach(block, at) == at
        check.learn(line)
        at += len(line) + 1
    assert check.lengths(block) is None
    intake = JsonlIntake(LIMITS, Memory())
    intake.feed(block)
    assert intake.finish().line_count == PATIENCE


@pytest.mark.parametrize(
    "text",
    [
        *[b'"\xff"', b'"\\ud83d"', b'"\t"', b"{"],
        *[b"01", b"1.", b".5", b"-", b"--1", b"1-2", b"1.2.3", b"-.5", b"1.-2"],
    ],
)
def test_an_unsound_block_is_looked_at_line_by_line(text: bytes) -> None:
    """Only in JSON and UTF-8 does a quote say where a text ends."""
    block = GOOD + b'\n{"key":' + text + b"," + GOOD[1:]
    assert LineCheck(LIMITS, FILES).lengths(block) is None


def test_a_line_of_objects_is_not_built() -> None:
    """A long line of many values is refused in a few times its own size."""
    piece, pieces = b"{}" * 131_072, 64
    tracemalloc.start()
    intake = JsonlIntake(LIMITS, Memory(keep=False))
    for _ in range(pieces):
        intake.feed(piece)
    with pytest.raises(InvalidInput):
        intake.finish()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * pieces * len(piece)


@pytest.mark.parametrize("limits", [Limits(json_depth_max=5), Limits(provider_depth_max=4)])
def test_a_lower_limit_of_depth_is_kept(limits: Limits) -> None:
    """What may be too deep is no example for lines that are as deep."""
    assert reached([GOOD, GOOD]) == 1
    assert reached([GOOD, GOOD], limits) == 0


WIDE = [b"18446744073709551616", b"-9223372036854775809", b"1" * 30]


@pytest.mark.parametrize("token", WIDE)
def test_a_wide_integer_where_a_float_belongs_is_refused(token: bytes) -> None:
    """A number that fits no 64 bits is refused wherever it stands."""
    config = b'"generationConfig":{"temperature":%b},' % token
    line = b'{"request":{' + config + GOOD[len(b'{"request":{') :]
    problem = LineCheck(LIMITS, FILES).problem(line, 1, 0)
    assert problem is not None
    assert problem.code == "number_out_of_range"
    assert not LineCheck(LIMITS, FILES).is_plainly_good(line)
