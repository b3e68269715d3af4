"""merge: twins, lines put aside, schemas, ranges, later rounds, and the row index of them all."""

import random
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.lifecycle.fakes import answer_of, input_of, request_of, row_of
from tests.lifecycle.merging import JOB, MISSING, PRICE, Made, merge_all
from tests.lifecycle.reading import Reading

from penstock.core.bill import Share
from penstock.core.line import FAILED_OUTCOMES, LineOutcome
from penstock.core.options import Selection
from penstock.errors import BlobCorrupt, Problem
from penstock.lifecycle.merge import Missing, problem_text
from penstock.lifecycle.rows import ENDINGS_MAX, ONE_ROW, Ending
from penstock.lifecycle.selection import selected_lines

ERRORS = Selection(outcomes=(LineOutcome.ERROR, LineOutcome.MISSING), only_retryable=True)
BAD_ROW = 'Bad Request: {"error": {"code": 400, "message": "no", "status": "INVALID_ARGUMENT"}}'


def row(number: int, text: str | None = None, **members: object) -> bytes:
    """The provider's row for a line of our job."""
    return row_of(JOB, number, f"text {number}" if text is None else text, **members)


def texts(count: int) -> bytes:
    """An input of so many lines that all differ."""
    return input_of(f"text {number}" for number in range(1, count + 1))


def truncated(number: int) -> bytes:
    """A row that stops at the output limit."""
    response = answer_of("x")
    response["candidates"] = [{"content": {"parts": [{"text": "x"}]}, "finishReason": "MAX_TOKENS"}]
    return row(number, response=response)


ROWS: dict[str, Any] = {
    "ok": lambda number: [row(number)],
    "truncated": lambda number: [truncated(number)],
    "missing": lambda _number: [],
    "corrupt": lambda number: [row(number)[:-3]],
    "doubled": lambda number: [row(number), row(number, response=answer_of("y"))],
    "swapped": lambda number: [row(number, "something else")],
    "blocked": lambda number: [row(number, response={"candidates": [{"finishReason": "SAFETY"}]})],
}
FATES = st.lists(st.sampled_from(sorted(ROWS)), min_size=1, max_size=20)


@given(FATES, st.integers(0, 2**32))
@settings(deadline=None, max_examples=100)
def test_the_index_cuts_the_output_into_its_lines(
    tmp_path_factory: pytest.TempPathFactory, fates: list[str], seed: int
) -> None:
    """In any order of rows: the same output and index; its places are the lines, its sums ours."""
    folder = tmp_path_factory.getbasetemp()
    rows = [one for number, fate in enumerate(fates, start=1) for one in ROWS[fate](number)]
    made = merge_all(folder, texts(len(fates)), rows)
    random.Random(seed).shuffle(rows)  # noqa: S311  # reproducible, not secret
    assert merge_all(folder, texts(len(fates)), rows) == made
    entries = made.entries
    cut = [made.output[one.offset : one.offset + one.length] for one in entries]
    assert cut == made.lines
    assert len(cut) == len(fates)
    counts = made.merged.counts
    for outcome in LineOutcome:
        assert getattr(counts, outcome) == sum(one.outcome is outcome for one in entries)
    assert counts.prompt_tokens == sum(one.prompt_tokens for one in entries)
    assert counts.candidates_tokens == sum(one.output_tokens for one in entries)
    for kind in made.found.kinds:
        assert kind.retryable or kind.outcome is not LineOutcome.ERROR
        assert entries[kind.first_line - 1].code == kind.code


def test_each_way_to_have_no_answer_has_its_code(tmp_path: Path) -> None:
    """What another try may mend is told from what it may not, each with an example."""
    rows = [
        row(1),
        *ROWS["corrupt"](3),
        *ROWS["doubled"](4),
        *ROWS["swapped"](5),
        row(6, status=BAD_ROW),
    ]
    made = merge_all(tmp_path, texts(6), rows)
    assert made.endings[:5] == [
        ("ok", ""),
        ("missing", "missing_row"),
        ("error", "corrupt_row"),
        ("error", "duplicate_row"),
        ("error", "integrity_mismatch"),
    ]
    kinds = {kind.first_line: kind for kind in made.found.kinds}
    assert [kinds[number].retryable for number in range(1, 7)] == [False, *[True] * 4, False]
    assert kinds[2].message == MISSING.message
    assert kinds[6].message.startswith("Bad Request")


@pytest.mark.parametrize("outcome", [LineOutcome.CANCELLED, LineOutcome.EXPIRED])
def test_lines_that_the_end_came_before_are_not_missing(
    tmp_path: Path, outcome: LineOutcome
) -> None:
    """They have an outcome of their own, and nobody wants them tried again by himself."""
    missing = Missing(outcome=outcome, code=outcome.value, message="The end came.")
    made = merge_all(tmp_path, texts(2), [row(2)], missing=missing)
    assert made.endings == [(outcome.value, outcome.value), ("ok", "")]
    assert (made.merged.counts.unfinished, made.merged.counts.failed) == (1, 0)
    assert not made.entries[0].is_retryable


SCHEMA = {"type": "OBJECT", "properties": {"a": {"type": "INTEGER"}}, "required": ["a"]}


def asking(text: str) -> dict[str, object]:
    """A request that asks for an object with a number."""
    config = {"responseMimeType": "application/json", "responseSchema": SCHEMA}
    return request_of(text) | {"generationConfig": config}


@pytest.mark.parametrize("is_careful", [False, True])
def test_an_answer_that_is_not_what_was_asked_for_is_told(
    tmp_path: Path, *, is_careful: bool
) -> None:
    """It is delivered and paid, and has an outcome of its own; with care and without the same."""
    replies = ['{"a": 1}', '{"a": "one"}', "Sure! {", '{"b": 1}']
    raw = b"".join(orjson.dumps({"request": asking(f"t{n}")}) + b"\n" for n in range(1, 5))
    # A member that nobody has heard of is a matter for care.
    more = {"unheard_of": 1} if is_careful else {}
    rows = [
        row(number, request=asking(f"t{number}"), response=answer_of(text) | more)
        for number, text in enumerate(replies, start=1)
    ]
    made = merge_all(tmp_path, raw, [*rows, rows[1]])
    assert made.endings == [
        ("ok", ""),
        ("invalid_output", "schema_mismatch"),
        ("invalid_output", "not_json"),
        ("invalid_output", "schema_mismatch"),
    ]
    parsed = [orjson.loads(line) for line in made.lines]
    assert [one["response"] for one in parsed] == [answer_of(text) | more for text in replies]
    assert [one["status"] for one in parsed] == [""] * 4
    counts = made.merged.counts
    assert (counts.invalid_output, counts.successful, counts.prompt_tokens) == (3, 4, 8)
    shares = made.merged.bill.by_outcome
    assert (shares["invalid_output"].lines, shares["ok"].lines) == (3, 1)
    kinds = {kind.code: kind for kind in made.found.kinds}
    assert "schema" in kinds["schema_mismatch"].message
    assert kinds["not_json"].retryable


def test_a_class_of_answers_too_many_is_left_to_care(tmp_path: Path) -> None:
    """A record has room for a number; whatever a provider says, no two classes share one."""
    with Reading(tmp_path, JOB, texts(1)) as reading:
        some = Ending(LineOutcome.OK, "", is_retryable=False)
        reading.reader.endings.update(dict.fromkeys(range(ENDINGS_MAX), some))
        assert reading.feed([row(1)]).flag(1) == ONE_ROW


def test_an_answer_that_was_cut_off_is_not_asked_for_its_schema(tmp_path: Path) -> None:
    """Why it does not parse is known: it is truncated."""
    raw = orjson.dumps({"request": asking("t")}) + b"\n"
    response = orjson.loads(truncated(1))["response"]
    made = merge_all(tmp_path, raw, [row(1, request=asking("t"), response=response)])
    assert made.endings == [("truncated", "MAX_TOKENS")]


def test_a_twin_gets_its_leaders_answer_and_is_not_paid(tmp_path: Path) -> None:
    """Its own members and its own request, the answer of the other; tokens and money once."""
    raw = b"".join(
        b'{"id":%d,"request":%s}\n' % (number, orjson.dumps(request_of(text)))
        for number, text in enumerate("aabab", start=1)
    )
    rows = [row(1, "a"), row(3, "b", response=answer_of("b") | {"unheard_of": 1})]
    made = merge_all(tmp_path, raw, rows, leaders=[1, 1, 3, 1, 3])
    parsed = [orjson.loads(line) for line in made.lines]
    assert [one["id"] for one in parsed] == [1, 2, 3, 4, 5]
    assert [one["request"] for one in parsed] == [request_of(text) for text in "aabab"]
    assert parsed[1]["response"] == parsed[3]["response"] == answer_of("answer 1")
    assert parsed[1]["processed_time"] == parsed[0]["processed_time"]
    assert parsed[4]["response"] == parsed[2]["response"]
    merged = made.merged
    assert (merged.counts.ok, merged.counts.prompt_tokens, merged.spent.lines) == (5, 4, 2)
    each = 2 * 250_000 + 3 * 1_500_000
    assert merged.cost_micro_dollars == 2 * each // 10**6
    assert merged.bill.twin_micro_dollars == 3 * each // 10**6
    assert merged.bill.by_outcome == {
        "ok": Share(lines=2, prompt_tokens=4, output_tokens=6, micro_dollars=10)
    }
    assert [one.is_twin for one in made.entries] == [False, True, False, True, True]
    assert [one.prompt_tokens for one in made.entries] == [2, 0, 2, 0, 0]


def test_a_twin_shares_the_fate_of_its_leader(tmp_path: Path) -> None:
    """Whatever became of the one became of the other, and a row for a line not sent is nobody's."""
    raw = input_of(["a", "a", "b", "b"])
    rows = [row(1, "something else"), row(2, "a"), row(4, "b")]
    made = merge_all(tmp_path, raw, rows, leaders=[1, 1, 3, 3])
    assert made.endings == [("error", "integrity_mismatch")] * 2 + [("missing", "missing_row")] * 2
    assert (made.merged.counts.prompt_tokens, made.merged.bill.twin_micro_dollars) == (0, 0)


@pytest.mark.parametrize("leaders", [[1], [2, 2], [1, 3], [1, 9], [0, 1], [1, 1, 2]])
def test_a_damaged_table_of_twins_is_refused(tmp_path: Path, leaders: list[int]) -> None:
    """A leader comes before, leads, and is one of the job's own lines; nothing is guessed."""
    raw = input_of(["a"] * max(len(leaders), 2))
    with pytest.raises(BlobCorrupt, match="identical lines"):
        merge_all(tmp_path, raw, [], leaders=leaders)


@pytest.mark.parametrize(
    ("line", "own", "request_member"),
    [
        (b'{"id":1.0,"status":"mine","request":{"a":1e2}}', b'"id":1.0,', b'{"a":1e2}'),
        (b'{"id":"x"}', b'"id":"x",', b"null"),
        (b"not json", b"", b"null"),
        (b'{"id":"\xff","request":{}}', b"", b"null"),
        (b'{"id":1e999,"request":{}}', b"", b"null"),
        (b"[1]", b"", b"null"),
        (b"[" * 5_000, b"", b"null"),
    ],
)
def test_a_line_that_was_put_aside_says_what_is_wrong(
    tmp_path: Path, line: bytes, own: bytes, request_member: bytes
) -> None:
    """As much of it as is sound goes back as it came, and its neighbours are as they would be."""
    problem = Problem(
        code="bad_role", message="No such role.", line=7, column=3, path="$.request", hint="Fix it."
    )
    raw = line + b"\n" + input_of(["text 2"])
    made = merge_all(tmp_path, raw, [row(1), row(2)], problems={1: problem, 9: problem})
    first, second = (orjson.loads(one) for one in made.lines)
    assert first["status"].startswith("line 7, column 3, $.request: No such role. {")
    assert made.lines[0].endswith(own + b'"request":' + request_member + b',"response":{}}\n')
    assert second["response"] == answer_of("answer 2")
    assert made.endings == [("error", "bad_role"), ("ok", "")]
    assert not made.entries[0].is_retryable
    assert (made.merged.counts.error, made.merged.spent.lines) == (1, 1)


def test_a_problem_without_a_place_says_only_what_it_is() -> None:
    """Not every problem has a line or a path."""
    assert problem_text(Problem(code="c", message="All wrong.")) == "All wrong."


def test_a_range_has_only_its_lines(tmp_path: Path) -> None:
    """Keys carry the numbers of the whole input, the index counts from 1, others are nobody's."""
    rows = [row(number) for number in range(1, 7)]
    whole = merge_all(tmp_path, texts(6), rows)
    problem = Problem(code="bad", message="Bad.")
    made = merge_all(
        tmp_path,
        texts(6),
        rows,
        numbers=range(3, 6),
        leaders=[1, 2, 3, 4, 4, 6],
        problems={1: problem, 3: problem},
    )
    assert made.endings == [("error", "bad"), ("ok", ""), ("ok", "")]
    assert made.lines[1] == whole.lines[3]
    assert [one.is_twin for one in made.entries] == [False, False, True]
    assert made.merged.spent.lines == 1


def test_a_range_stands_in_one_piece_of_the_input(tmp_path: Path) -> None:
    """A shard has no more of the input read ahead than what its lines take."""
    raw = texts(3)
    with Reading(tmp_path, JOB, raw, None, range(2, 4)) as reading:
        offset, size = reading.lines.span()
    assert raw[offset : offset + size] + b"\n" == b"".join(raw.splitlines(keepends=True)[1:])


def test_a_range_beyond_the_input_is_refused(tmp_path: Path) -> None:
    """A shard of lines that are not there is an error, not an empty output."""
    with pytest.raises(BlobCorrupt, match="too short"):
        merge_all(tmp_path, texts(2), [], numbers=range(2, 4))


SELECTIONS = st.builds(
    Selection,
    outcomes=st.lists(st.sampled_from(LineOutcome), unique=True, max_size=9).map(tuple),
    only_retryable=st.booleans(),
)


@given(FATES, FATES, SELECTIONS)
@settings(deadline=None, max_examples=150)
def test_a_line_has_the_new_row_or_what_it_had(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[str],
    after: list[str],
    selection: Selection,
) -> None:
    """For any rounds: a selected line has its new row if that is no worse, others what they had."""
    folder = tmp_path_factory.getbasetemp()
    raw = texts(len(before))
    after = (after * len(before))[: len(before)]
    base_rows = [one for number, fate in enumerate(before, start=1) for one in ROWS[fate](number)]
    base = merge_all(folder, raw, base_rows)
    new_rows = [one for number, fate in enumerate(after, start=1) for one in ROWS[fate](number)]
    alone = merge_all(folder, raw, new_rows)
    made = merge_all(folder, raw, new_rows, base=base, selection=selection)
    selected = set(selected_lines(base.found, selection))
    spent = 0
    for number, line, entry in zip(
        range(1, len(before) + 1), made.lines, made.entries, strict=True
    ):
        old, new = base.entries[number - 1], alone.entries[number - 1]
        is_worse = new.outcome in FAILED_OUTCOMES and old.outcome not in FAILED_OUTCOMES
        if number in selected and after[number - 1] != "missing" and not is_worse:
            assert line == alone.lines[number - 1]
            assert (entry.outcome, entry.code, entry.round) == (new.outcome, new.code, 2)
            assert (entry.prompt_tokens, entry.is_retryable) == (
                new.prompt_tokens,
                new.is_retryable,
            )
            spent += new.prompt_tokens
        else:
            assert line == base.lines[number - 1]
            assert (entry.outcome, entry.code, entry.round) == (old.outcome, old.code, 1)
            assert (entry.prompt_tokens, entry.is_retryable) == (
                old.prompt_tokens,
                old.is_retryable,
            )
        assert made.output[entry.offset : entry.offset + entry.length] == line
    counts = made.merged.counts
    assert counts.successful + counts.failed == len(before)
    assert (counts.prompt_tokens, made.merged.spent.prompt_tokens) == (spent, spent)


def test_a_twin_is_sent_again_with_its_leader(tmp_path: Path) -> None:
    """In a later round as well the leader decides for both, and what is copied stays a twin."""
    raw = input_of(["a", "a", "b", "b"])
    leaders = [1, 1, 3, 3]
    base = merge_all(tmp_path, raw, [row(3, "b")], leaders=leaders)
    made = merge_all(tmp_path, raw, [row(1, "a")], leaders=leaders, base=base, selection=ERRORS)
    assert [one.outcome.value for one in made.entries] == ["ok"] * 4
    assert [one.round for one in made.entries] == [2, 2, 1, 1]
    assert [one.is_twin for one in made.entries] == [False, True, False, True]
    again = merge_all(tmp_path, raw, [], leaders=leaders, base=base, selection=ERRORS)
    assert (again.output, again.endings) == (base.output, base.endings)


def test_a_line_put_aside_stays_so_in_later_rounds(tmp_path: Path) -> None:
    """It cannot be sent, whoever chooses it."""
    problems = {1: Problem(code="bad", message="Bad.")}
    raw = b"bad\n" + input_of(["text 2"])
    base = merge_all(tmp_path, raw, [], problems=problems)
    chosen = Selection(outcomes=(LineOutcome.ERROR, LineOutcome.MISSING))
    rows = [row(1), row(2)]
    made = merge_all(tmp_path, raw, rows, problems=problems, base=base, selection=chosen)
    assert made.lines[0] == base.lines[0]
    assert made.endings == [("error", "bad"), ("ok", "")]


def test_all_is_sent_again_where_nothing_was_chosen(tmp_path: Path) -> None:
    """Without a selection only lines without a row are as they were."""
    base = merge_all(tmp_path, texts(2), [row(1), row(2)])
    made = merge_all(tmp_path, texts(2), [truncated(2)], base=base)
    assert made.endings == [("ok", ""), ("truncated", "MAX_TOKENS")]


def test_a_damaged_base_is_never_copied(tmp_path: Path) -> None:
    """An index of fewer lines, of unknown kinds, or of another output than this one is refused."""
    raw = texts(2)
    base = merge_all(tmp_path, raw, [row(1), row(2)])
    small = merge_all(tmp_path, texts(1), [row(1)])
    at = len(base.index) - 25 * 2 + 2
    unknown = base.index[:at] + b"\x09" + base.index[at + 1 :]
    for output, index, why in (
        (base.output, small.index, "too few lines"),
        (base.output, unknown, "damaged"),
        (base.output[:-5], base.index, "not what its row index says"),
        (b" " + base.output, base.index, "not what its row index says"),
    ):
        spoilt = Made(output, index, base.merged)
        with pytest.raises(BlobCorrupt, match=why):
            merge_all(tmp_path, raw, [], base=spoilt, selection=ERRORS)


def test_an_unknown_price_is_unknown_for_twins_as_well(tmp_path: Path) -> None:
    """Nothing is said to be saved where nobody knows what it costs."""
    raw = input_of(["a", "a"])
    made = merge_all(tmp_path, raw, [row(1, "a")], leaders=[1, 1], price=None)
    bill = made.merged.bill
    assert (bill.micro_dollars, bill.twin_micro_dollars, bill.online_micro_dollars) == (None,) * 3
    assert PRICE is not None
