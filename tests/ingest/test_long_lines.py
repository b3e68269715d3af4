r"""Lines that are too long to be parsed get the verdict that a short one gets."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ingest.naive import FILES, GOOD, Memory, Taken, Tree, Turned, take
from tests.ingest.test_properties import FRAGMENTS, json_values, moderate

from penstock.core.limits import Limits
from penstock.errors import TooLarge
from penstock.ingest.check import PARSED_BYTES, QUOTES_MAX, UTF8_BOM, LineCheck
from penstock.ingest.jsonl import JsonlIntake
from penstock.ingest.outline import (
    STEP_BYTES,
    TEXT_BYTES,
    deeper,
    marks_of,
    objects_deeper,
    values_most,
    without_texts,
)
from penstock.ingest.spot import SEARCHED_BYTES

LIMITS = Limits()
REQUEST = GOOD[1:]
CASES = {
    "good": b'{"k":1,' + REQUEST,
    "nan": b'{"k":NaN,' + REQUEST,
    "lone": b'{"k":"\\ud83d",' + REQUEST,
    "latin": b'{"k":"\xe9",' + REQUEST,
    "wide": b'{"k":18446744073709551616,' + REQUEST,
    "infinite": b'{"k":-1e999,' + REQUEST,
    "wide text": b'{"k":"18446744073709551616 1e999",' + REQUEST,
    "twice": b'{"k":1,"k":2,' + REQUEST,
    "twice spelled": b'{"k":1,"\\u006b":2,' + REQUEST,
    "twice inside": b'{"request":{"contents":[{"parts":[],"parts":[]}]}}',
    "deep": b'{"k":' + b"[" * 64 + b"]" * 64 + b"," + REQUEST,
    "just not deep": b'{"k":' + b"[" * 63 + b"]" * 63 + b"," + REQUEST,
    "deep text": b'{"k":"' + b"[{" * 99 + b'\\"",' + REQUEST,
    "deep objects": b'{"request":{"contents":[%b]}}' % (b'{"a":' * 15 + b"1" + b"}" * 15),
    "just not deep objects": b'{"request":{"contents":[%b]}}' % (b'{"a":' * 14 + b"1" + b"}" * 14),
    "deep elsewhere": b'{"k":' + b'{"a":' * 20 + b"1" + b"}" * 20 + b"," + REQUEST,
    "request": b'{"request":[]}',
    "no request": b'{"k":{}}',
    "openai": b'{"body":{}}',
    "sdk": b'{"request":{"config":{},"contents":[{}]}}',
    "reserved": b'{"response":1,' + REQUEST,
    "no contents": b'{"request":{}}',
    "empty contents": b'{"request":{"contents":[]}}',
    "role": b'{"request":{"contents":[{"role":"system"}]}}',
    "role named": b'{"request":{"contents":[{"role":"user"},{"role":"\\u006dodel"}]}}',
    "no role": b'{"request":{"contents":[{"role":7}]}}',
    "two": b'{"k":1}' + GOOD,
    "cut": b'{"k":1,' + REQUEST[:-1],
}
PADS = {
    "text": b'"%b"' % (b"x" * PARSED_BYTES),
    "escapes": b'"%b"' % (b'\\\\\\" [{, ' * (PARSED_BYTES // 7)),
    "backslashes": b'"%b"' % (b"\\\\" * (PARSED_BYTES // 2)),
    "wide characters": b'"%b"' % ("\U0001f600," * (PARSED_BYTES // 5)).encode(),
    "dense quotes": b"[%b0]" % (b'"{[12e999",' * (PARSED_BYTES // 11)),
    "texts": b"[%b0]" % ((b'"%b",' % (b"y" * (TEXT_BYTES + 1))) * (PARSED_BYTES // TEXT_BYTES)),
    "numbers": b"[%b0]" % (b"1234567.5," * (PARSED_BYTES // 10)),
    "name": b'{"%b":0}' % (b"n" * PARSED_BYTES),
    "medium": b'"%b"' % (b"x" * 3_072),
}


def code_of(line: bytes) -> str | None:
    """The code of what is wrong with a line."""
    problem = LineCheck(LIMITS, FILES).problem(line, 1, 0)
    assert LineCheck(LIMITS, FILES).is_bad(line) == (problem is not None)
    return problem.code if problem else None


@pytest.mark.slow
@pytest.mark.parametrize("pad", PADS)
@pytest.mark.parametrize("case", CASES)
def test_a_padded_line_gets_the_same_verdict(case: str, pad: str) -> None:
    """Before or behind whatever makes a line long, the same is wrong with it."""
    line, padding = CASES[case], PADS[pad]
    expected = code_of(line)
    assert code_of(b'{"pad":' + padding + b"," + line[1:]) == expected
    if case not in {"two", "cut"}:
        assert code_of(line[:-1] + b',"pad":' + padding + b"}") == expected


@pytest.mark.slow
@settings(moderate, max_examples=25)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=5), st.sampled_from(sorted(PADS)))
def test_a_padded_file_gets_the_same_verdict(rows: list[bytes], pad: str) -> None:
    """The bad lines of a file are the same, and have the same numbers, when each is long."""
    rows = [row for row in rows if b"\n" not in row]
    padded = [
        row.replace(b"{", b'{"pad":%b,' % PADS[pad], 1) if row.lstrip()[:2] == b'{"' else row
        for row in rows
    ]
    short, long = (take(b"\n".join(data), raw=True) for data in (rows, padded))
    assert type(short) is type(long)
    if isinstance(short, Turned) and isinstance(long, Turned):
        assert short.code == long.code
        assert [(one.line, one.code) for one in short.problems] == [
            (one.line, one.code) for one in long.problems
        ]
    elif isinstance(short, Taken) and isinstance(long, Taken):
        assert short.line_count == long.line_count
        assert long.stored == b"\n".join(padded).removeprefix(UTF8_BOM)


@pytest.mark.parametrize("what", ['"k":1', '"\\u006b":1'])
def test_a_member_twice_far_away_is_found(what: str) -> None:
    """Beyond the part that is searched for words the refusal stands without a place."""
    line = b'{"k":1,"pad":%b,%b,' % (PADS["text"], what.encode()) + REQUEST
    assert len(PADS["text"]) > SEARCHED_BYTES
    problem = LineCheck(LIMITS, FILES).problem(line, 3, 100)
    assert problem is not None
    assert (problem.code, problem.line, problem.offset) == ("duplicate_member", 3, 100)


def test_a_number_far_away_has_its_place() -> None:
    """The place is that in the line, not in the outline that was searched."""
    start = b'{"pad":' + PADS["text"] + b',"k":'
    problem = LineCheck(LIMITS, FILES).problem(start + b"1e999," + REQUEST, 1, 7)
    assert problem is not None
    assert problem.offset == 7 + len(start)


def with_values(count: int) -> bytes:
    """A line of about so many values."""
    return b'{"k":[' + b",".join([b"0"] * count) + b"]," + REQUEST


@pytest.mark.slow
def test_the_values_of_a_line_are_limited() -> None:
    """A line of commas is refused by the limit's name, before it becomes objects."""
    most = LIMITS.line_values_max
    assert code_of(with_values(most - 20)) is None
    problem = LineCheck(LIMITS, FILES).problem(with_values(most + 1), 1, 0)
    assert problem is not None
    assert problem.code == "too_many_values"
    assert "line_values_max" in (problem.hint or "")
    # Texts are one value each, whatever stands in them.
    assert code_of(b'{"k":"' + b"," * 2 * most + b'",' + REQUEST) is None


def test_a_line_of_braces_is_refused() -> None:
    """Neither depth nor number of containers costs more than a look."""
    for inside in (b"[" * 700_000 + b"]" * 700_000, b"[{}" + b",{}" * 700_000 + b"]"):
        assert code_of(b'{"k":' + inside + b"," + REQUEST) in {
            "too_many_values",
            "nesting_too_deep",
        }


def test_a_line_of_more_quotes_than_are_emptied() -> None:
    """A line of very many short texts is good, and a mistake behind them is found."""
    many = b"[" + b'"a",' * (QUOTES_MAX // 2 + 1) + b'"' + b"x" * PARSED_BYTES + b'"]'
    assert code_of(b'{"k":' + many + b"," + REQUEST) is None
    assert code_of(b'{"k":' + many + b',"k":1,' + REQUEST) == "duplicate_member"


def test_too_many_good_lines_of_one_block_are_refused() -> None:
    """A block that passes as a whole is counted as well."""
    intake = JsonlIntake(Limits(job_lines_max=5), Memory())
    intake.feed((GOOD + b"\n") * 6)
    with pytest.raises(TooLarge) as refusal:
        intake.finish()
    assert refusal.value.error_code == "too_many_lines"


# -- the outline itself --------------------------------------------------------------------------


def marks_slowly(text: str) -> str:
    """What stands outside strings, found a character at a time."""
    marks, at, inside = [], 0, False
    while at < len(text):
        if inside and text[at] == "\\":
            at += 1
        elif text[at] == '"':
            inside = not inside
        elif not inside and text[at] in "{}[],":
            marks.append(text[at])
        at += 1
    return "".join(marks)


hard_texts = st.text(st.sampled_from('\\"{}[],a: \u00e9'), max_size=12)
long_texts = hard_texts.map(lambda text: text + "x" * TEXT_BYTES)
trees = st.recursive(
    hard_texts | long_texts | st.integers() | json_values,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(hard_texts | long_texts, inner, max_size=4)
    ),
    max_leaves=12,
)


def depth(value: Tree, *, arrays: bool) -> int:
    """How deep containers are nested; without arrays only objects count."""
    if isinstance(value, dict):
        return 1 + max((depth(item, arrays=arrays) for item in value.values()), default=0)
    if isinstance(value, list):
        return arrays + max((depth(item, arrays=arrays) for item in value), default=0)
    return 0


def count(value: Tree) -> int:
    """How many values there are."""
    if isinstance(value, dict):
        return 1 + sum(map(count, value.values()))
    return 1 + sum(map(count, value)) if isinstance(value, list) else 1


def emptied(value: Tree) -> Tree:
    """The value without its long texts."""
    if isinstance(value, dict):
        return {name: emptied(item) for name, item in value.items()}
    if isinstance(value, list):
        return [emptied(item) for item in value]
    if isinstance(value, str) and len(json.dumps(value)) > TEXT_BYTES + 1:
        return ""
    return value


@moderate
@given(trees, st.sampled_from([None, (" , ", "\t:\r"), (",", ":")]))
def test_the_outline_is_what_stands_outside_of_texts(
    tree: Tree, separators: tuple[str, str] | None
) -> None:
    """Marks, depths and the bound of values are those that a plain walk finds."""
    text = json.dumps(tree, separators=separators)
    line = text.encode()
    marks = marks_of(line)
    assert marks.decode() == marks_slowly(text)
    assert values_most(marks) >= count(tree)
    for limit in range(6):
        assert deeper(marks, limit) == (depth(tree, arrays=True) > limit)
        assert objects_deeper(marks, limit) == (depth(tree, arrays=False) > limit)
    bare = without_texts(line)
    assert str(json.loads(bare)) == str(emptied(tree))
    assert marks_of(bare) == marks


def test_the_outline_of_a_long_line_is_found_in_steps() -> None:
    """A text that lies over the end of a step is still a text."""
    inside = b"[," * (STEP_BYTES * 3 // 4)
    line = b'["' + inside + b'",["' + inside + b'\\"]"],{}]'
    assert marks_of(line) == b"[,[],{}]"
