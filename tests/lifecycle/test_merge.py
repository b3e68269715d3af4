"""merge: line k answers line k, the caller's bytes come back, and the sums are sums."""

import hashlib
import random
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fake_clock import START
from tests.lifecycle.fakes import answer_of, input_of, request_of, row_of
from tests.lifecycle.reading import Reading
from tests.lifecycle.spoiling import changed, changes_to

from penstock.core.job import Counts, JobId, tag_of
from penstock.core.line import LineKey
from penstock.core.line_index import packed_tokens
from penstock.core.models import SEED_CATALOGUE, Price
from penstock.lifecycle.merge import BLOCK_BYTES_AHEAD, WRITE_BYTES, Merge, Merged, Missing
from penstock.lifecycle.rows import ANSWERED, Ending, Reader, processed_time
from penstock.lifecycle.totals import Totals

JOB = JobId("req_aaaaaaaaaaaaaaaaaaaaaaaaaa")
PRICE = SEED_CATALOGUE["gemini-3-flash-preview"].price
MISSING = Missing(code="missing_row", message="The provider gave no row for this line.")
STARTED = "2026-11-22T16:00:00Z"

Output = tuple[list[bytes], Merged, list[bytes]]
Run = Callable[..., Output]


@pytest.fixture
def merge(tmp_path: Path) -> Run:
    """Merge rows into an input; gives the output's lines, the sums and the written blocks."""
    return lambda *args, **named: merged(tmp_path, *args, **named)


def merged(
    folder: Path,
    raw: bytes,
    rows: Iterable[bytes],
    *,
    price: Price | None = PRICE,
    missing: Missing = MISSING,
) -> Output:
    """Merge in a folder."""
    blocks: list[bytes] = []
    with Reading(folder, JOB, raw, price) as shards:
        shards.feed([b"\n".join(rows)])
        merge = Merge(shards.shards, shards.totals, missing, START)
        result = merge.write(blocks.append)
    output = b"".join(blocks)
    assert result.output_bytes == len(output)
    assert result.output_sha256 == hashlib.sha256(output).hexdigest()
    assert output.endswith(b"\n") or not output
    return output.split(b"\n")[:-1], result, blocks


def row(number: int, text: str, **members: object) -> bytes:
    """The provider's row for a line of our job."""
    return row_of(JOB, number, text, **members)


def error_of(line: bytes) -> dict[str, Any]:
    """The JSON that stands in the status of a line that we failed."""
    status = orjson.loads(line)["status"]
    error: dict[str, Any] = orjson.loads(status[status.index("{") :])["error"]
    return error


def test_an_answer_goes_to_its_line(merge: Run) -> None:
    """Rows in reverse order are put into input order."""
    texts = ["a", "b", "c"]
    rows = [row(number, text) for number, text in enumerate(texts, start=1)]
    lines, result, _ = merge(input_of(texts), reversed(rows))
    parsed = [orjson.loads(line) for line in lines]
    assert [one["request"] for one in parsed] == [request_of(text) for text in texts]
    assert [one["response"] for one in parsed] == [answer_of(f"answer {k}") for k in (1, 2, 3)]
    assert [one["status"] for one in parsed] == [""] * 3
    assert result.counts.ok == 3


def test_a_line_has_the_members_of_the_provider_and_the_callers_own(merge: Run) -> None:
    """Ours is the order: status, time, own members, request, response."""
    raw = b'{"id":"x","request":{"contents":[]},"key":"theirs"}\n'
    lines, _, _ = merge(raw, [row(1, "", request={"contents": []})])
    members = orjson.loads(lines[0])
    assert list(members) == ["status", "processed_time", "id", "key", "request", "response"]
    assert (members["id"], members["key"]) == ("x", "theirs")
    assert members["processed_time"] == "2026-11-22T16:05:00.000+00:00"


@pytest.mark.parametrize(
    "value",
    [
        b"1.0",
        b"1e2",
        b"-0.0",
        b"1E+2",
        b"12345678901234567890123456789",
        b'"\\u00fc\\/\\ud83d\\ude00"',
        b'"\xc3\xbc"',
        b"null",
        b"{ }",
        b'{"a" : [1.0,  2.50], "a": 3}',
    ],
)
def test_own_members_come_back_byte_for_byte(merge: Run, value: bytes) -> None:
    """Spelling of numbers, escapes and white space is the caller's and stays."""
    request = b'{"contents":[{"parts":[{"text":"a"}]}],"n":' + value + b"}"
    lines, _, _ = merge(b'{"own": ' + value + b' ,"request":' + request + b"}", [row(1, "a")])
    assert b',"own": ' + value + b' ,"request":' + request + b',"response":' in lines[0]


def test_a_failed_line_still_carries_the_callers_members(merge: Run) -> None:
    """Without a row the line has its own members, the request and an empty response."""
    lines, _, _ = merge(b'{"own":1.0,"request":{"a":1e2}}', [])
    assert lines[0].endswith(b'"own":1.0,"request":{"a":1e2},"response":{}}')
    assert orjson.loads(lines[0])["processed_time"] == STARTED


def test_a_missing_row_says_why(merge: Run) -> None:
    """The job's end explains it; the status has the provider's own shape, prose then JSON."""
    missing = Missing(code="cancelled", message="Cancelled before this line.")
    lines, result, _ = merge(input_of(["a"]), [], missing=missing)
    assert error_of(lines[0]) == {
        "code": "cancelled",
        "message": "Cancelled before this line.",
        "status": "PENSTOCK",
    }
    assert result.counts == Counts(missing=1)


@pytest.mark.parametrize(
    ("code", "rows"),
    [
        ("duplicate_row", [row(1, "a"), row(1, "a", response={"candidates": []})]),
        ("corrupt_row", [row(1, "a")[:-5]]),
        ("corrupt_row", [row(1, "a").replace(b"answer", b"\xff")]),
        ("corrupt_row", [row(1, "a", response=None)]),
        ("corrupt_row", [row(1, "a", response=[])]),
        ("corrupt_row", [row(1, "a", response={})]),
        ("corrupt_row", [row(1, "a", response=answer_of("x", prompt=-1))]),
        ("corrupt_row", [row(1, "a", response=answer_of("x", prompt=2**63))]),
        ("integrity_mismatch", [row(1, "another text")]),
        ("integrity_mismatch", [row(1, "a", request={"contents": []})]),
        ("missing_row", [row(2, "a"), b"garbage"]),
    ],
)
def test_each_fault_is_a_typed_error_on_its_line(merge: Run, code: str, rows: list[bytes]) -> None:
    """A row that cannot be trusted gives no answer and no tokens, and says why."""
    lines, result, _ = merge(input_of(["a"]), rows)
    assert error_of(lines[0])["code"] == code
    assert orjson.loads(lines[0])["response"] == {}
    assert (result.counts.failed, result.counts.prompt_tokens) == (1, 0)
    assert result.cost_micro_dollars == 0


def test_a_response_that_only_looks_like_json_is_corrupt(merge: Run) -> None:
    """A number that no machine can hold passes the first look and is found when it is read."""
    bad = row(1, "a").replace(b'"promptTokenCount":2', b'"promptTokenCount":1e999')
    assert bad != row(1, "a")
    lines, _, _ = merge(input_of(["a"]), [bad])
    assert error_of(lines[0])["code"] == "corrupt_row"


def test_a_line_that_the_provider_failed_keeps_its_words(merge: Run) -> None:
    """The provider's status is the line's status, and its partial response is not delivered."""
    status = 'Bad Request: {"error": {"code": 400}}'
    lines, result, _ = merge(input_of(["a"]), [row(1, "a", status=status)])
    assert orjson.loads(lines[0])["status"] == status
    assert orjson.loads(lines[0])["response"] == {}
    assert (result.counts.error, result.cost_micro_dollars) == (1, 0)


@pytest.mark.parametrize("time", [None, 7, "x" * 41, {}])
def test_a_strange_time_is_replaced(merge: Run, time: object) -> None:
    """A processed_time that is no short text becomes the time of the merge."""
    lines, _, _ = merge(input_of(["a"]), [row(1, "a", processed_time=time)])
    assert orjson.loads(lines[0])["processed_time"] == STARTED


@pytest.mark.parametrize(
    ("outcome", "response"),
    [
        ("ok", answer_of("x")),
        ("truncated", {"candidates": [{"content": {"parts": [{}]}, "finishReason": "MAX_TOKENS"}]}),
        ("blocked", {"candidates": [{"finishReason": "SAFETY"}]}),
        ("blocked", {"promptFeedback": {"blockReason": "SAFETY"}}),
        ("empty", {"candidates": [{"finishReason": "STOP"}]}),
    ],
)
def test_each_answer_is_counted_as_what_it_is(
    merge: Run, outcome: str, response: dict[str, object]
) -> None:
    """Answered lines carry the response as it came, and count by their outcome."""
    lines, result, _ = merge(input_of(["a"]), [row(1, "a", response=response)])
    assert orjson.loads(lines[0])["response"] == response
    assert (getattr(result.counts, outcome), result.counts.successful) == (1, 1)


def test_tokens_and_cost_are_sums_over_lines(merge: Run) -> None:
    """Cached, thought and audio tokens have their prices; only the total is rounded."""
    usage = {
        "promptTokenCount": 1000,
        "candidatesTokenCount": 10,
        "thoughtsTokenCount": 5,
        "cachedContentTokenCount": 100,
        "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 50}],
    }
    response = answer_of("x") | {"usageMetadata": usage}
    rows = [row(number, "a", response=response) for number in (1, 2, 3)]
    _, result, _ = merge(input_of(["a"] * 3), rows)
    dollars = 3 * (
        Fraction(850 * 250_000 + 100 * 50_000 + 50 * 500_000 + 15 * 1_500_000, 1_000_000)
    )
    assert result.cost_micro_dollars == round(dollars)
    assert result.counts == Counts(
        ok=3, prompt_tokens=3000, candidates_tokens=30, thoughts_tokens=15, cached_tokens=300
    )


def test_an_unknown_price_is_not_zero(merge: Run) -> None:
    """Without a price there is no cost, though the tokens are counted."""
    _, result, _ = merge(input_of(["a"]), [row(1, "a")], price=None)
    assert (result.cost_micro_dollars, result.counts.prompt_tokens) == (None, 2)


def test_the_output_comes_in_blocks(merge: Run) -> None:
    """Several megabytes are written about a megabyte at a time."""
    texts = ["x" * 100_000] * 30
    _, _, blocks = merge(input_of(texts), [])
    assert len(blocks) == 3
    assert max(map(len, blocks)) < WRITE_BYTES + 101_000


def test_an_output_that_fills_its_last_block_ends_there(merge: Run) -> None:
    """No empty block follows a block that ends with the input."""
    _, _, blocks = merge(input_of(["x" * WRITE_BYTES]), [])
    assert len(blocks) == 1


def test_huge_blocks_are_written_one_by_one(merge: Run) -> None:
    """A block far over the usual size is on its way out before the next line is taken."""
    lines, result, blocks = merge(input_of(["x" * BLOCK_BYTES_AHEAD] * 2), [])
    assert (len(lines), len(blocks), result.counts.missing) == (2, 2, 2)


def test_an_error_of_the_disk_ends_the_merge(tmp_path: Path) -> None:
    """What `write` raises in its thread is raised by the merge."""

    def full(_block: bytes) -> None:
        raise OSError("full")

    with Reading(tmp_path, JOB, input_of(["a"])) as shards:
        merge = Merge(shards.shards, shards.totals, MISSING, START)
        with pytest.raises(OSError, match="full"):
            merge.write(full)


STRANGE = [
    *[b"null", b"true", b"-1", b"1.0", b"1e999", b"{}", b"[]", b'""', b'"a"', b'"b"', b'"\\u0061"'],
    *[b'"\xff"', b'"\\ud800"', b'"STOP"', b'"status"', b'"request"', b'"response"', b'"contents"'],
    *[
        b'"processed_time"',
        b'"x"',
        b'"key":1,"x"',
        b'"status":"","status"',
        b"",
        b'"parts"',
        b"[[]]",
    ],
]


@given(changes=changes_to(STRANGE))
@settings(deadline=None, max_examples=600)
def test_the_fast_way_gives_what_care_gives(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, bytes]]
) -> None:
    """However a row is spoilt: if the fast way takes it, the exact way gives the same answer."""
    found = changed(row(1, "a"), changes)
    with Reading(tmp_path_factory.getbasetemp(), JOB, input_of(["a"]), PRICE) as shards:
        shards.feed([found])
        merge = Merge(shards.shards, shards.totals, MISSING, START)
        if shards.flag(1) != ANSWERED:
            return
        record = shards.shards.record(1)
        _, _, time_bytes, number, _, _, packed, time = record
        line, request = shards.lines.line(1), orjson.dumps(request_of("a"))
        answer = merge._with_care(found, line, request)
        judgement, usage = answer.judgement, answer.judgement.usage
        assert shards.row(1) == bytes(answer.response)
        assert time[:time_bytes] == processed_time(answer.time)
        ending = Ending(judgement.outcome, judgement.code, judgement.is_retryable)
        assert shards.reader.endings[number] == ending
        output_tokens = usage.candidates_tokens + usage.thoughts_tokens
        assert packed == packed_tokens(usage.prompt_tokens, output_tokens)
        exact = Totals(PRICE)
        exact.add(judgement)
        assert (judgement.status, exact.sums) == ("", shards.totals.sums)


class Careful(Reader):
    """A reader that finds nothing good beyond doubt."""

    def _good(self, *_found: object) -> None:
        """Leave every row to care."""


Spelled = tuple[bytes, str | None, tuple[str, str, str], bool]
PLACES = [
    b'{"request":%s}',
    b'{"own":1.0,"request":%s}',
    b'{"own" : "\\u00e9","request":%s}',
    b'{"a":{"request":{}},"b":"\xc3\xbc,\\"request\\":","request":%s}',
    b'{"request":%s,"own":[ 1 ]}',
    b'{"status":"mine","request":%s}',
    b'{"processed_time":"mine","response":{},"request":%s}',
    b'  {"own":1,"request":%s } ',
    b'{"a/\\/":"\x7f","\\u0041":2,"request":%s}',
]
CONTENTS = '[{"role":"user","parts":[{"text":"TEXT"}]}]'
OTHERWISE = '[ {"parts":[{"text":"TEXT"}],"role":"gr\u00fc\u00df"}]'
REQUESTS = [
    # The caller's, and what the provider echoes of it.
    ('{"contents":%s}', '{"contents":%s}', CONTENTS),
    ('{"contents":%s,"x":"\u00fc"}', '{"x":null,"contents":%s}', CONTENTS),
    ('{"x":{"contents":1},"contents":%s,"y":2}', '{"contents":%s,"x":{"contents":1}}', CONTENTS),
    ('{"x":{"contents":%s},"contents":%s}', '{"x":{"contents":%s},"contents":%s}', CONTENTS),
    ('{"contents":%s,"x":{"contents":%s}}', '{"x":{"contents":%s},"contents":%s}', CONTENTS),
    (
        '{"contents":%s,"generationConfig":{"responseMimeType":"text/plain"}}',
        '{"generationConfig":{"responseMimeType":"text/plain"},"contents":%s}',
        CONTENTS,
    ),
    ('{"x":"' + "x" * 5000 + '","contents":%s}', '{"contents":%s}', CONTENTS),
    ('{"contents":%s}', '{"contents":%s}', OTHERWISE),
    ('{"contents":%s}', '{"contents" : %s }', CONTENTS),
    ('{"contents" :%s }', '{"contents":%s}', CONTENTS),
    ('{"contents":%s}', '{"x":"\u00fc","contents":%s}', OTHERWISE),
]
TIMES = [None, "2026-11-22T16:05:00Z", "é" * 20, "x" * 34, "x" * 35, "x" * 40, "x" * 41, '"' * 17]


@given(
    plan=st.lists(
        st.tuples(
            st.sampled_from(PLACES),
            st.sampled_from(TIMES),
            st.sampled_from(REQUESTS),
            st.booleans(),
        ),
        min_size=1,
        max_size=12,
    )
)
@settings(deadline=None, max_examples=150)
def test_care_would_have_written_the_same_output(
    tmp_path_factory: pytest.TempPathFactory, plan: list[Spelled]
) -> None:
    """However lines, echoes and times are spelled: the fast way gives the bytes of care."""
    raw, rows = [], []
    for number, (place, time, (ours, theirs, contents), is_reversed) in enumerate(plan, start=1):
        text = f"t{number}"
        request = ours.replace("%s", CONTENTS).replace("TEXT", text)
        raw.append(place.replace(b"%s", request.encode()))
        plain = orjson.dumps(request_of(text))
        echo = theirs.replace("%s", contents).replace("TEXT", text).encode()
        found = orjson.loads(row(number, text, processed_time=time))
        members = reversed(found.items()) if is_reversed else found.items()
        rows.append(orjson.dumps(dict(members)).replace(plain, echo))
    results = []
    for kind in (Reader, Careful):
        with Reading(tmp_path_factory.getbasetemp(), JOB, b"\n".join(raw), PRICE) as shards:
            shards.reader = kind(LineKey(tag_of(JOB)), shards.lines, shards.totals)
            shards.shards.endings = shards.reader.endings
            shards.feed([b"\n".join(reversed(rows))])
            blocks: list[bytes] = []
            merge = Merge(shards.shards, shards.totals, MISSING, START)
            result = merge.write(blocks.append)
            results.append((result, blocks, b"".join(merge.index.pieces())))
    assert results[0] == results[1]
    assert results[0][0].counts.ok == len(plan)


FAULTS: dict[str, Callable[[int], list[bytes]]] = {
    "ok": lambda number: [row(number, f"text {number}", response=answer_of("x", prompt=number))],
    "twice": lambda number: [row(number, f"text {number}")] * 2,
    "missing": lambda _number: [],
    "foreign": lambda number: [row_of(JobId("req_other"), number, f"text {number}")],
    "garbage": lambda _number: [b"{garbage"],
    "corrupt": lambda number: [row(number, f"text {number}")[:-3]],
    "conflict": lambda number: [
        row(number, f"text {number}"),
        row(number, f"text {number}", response=answer_of("y")),
    ],
    "swapped": lambda number: [row(number, f"text {number + 1}")],
    "failed": lambda number: [row(number, f"text {number}", status="Too Many Requests")],
    "usage": lambda number: [
        row(number, f"text {number}", response=answer_of("x", candidates=-5)),
    ],
}
CODES = {
    "missing": "missing_row",
    "foreign": "missing_row",
    "garbage": "missing_row",
    "corrupt": "corrupt_row",
    "conflict": "duplicate_row",
    "swapped": "integrity_mismatch",
    "usage": "corrupt_row",
}
OWN = st.sampled_from([b"", b'"own":1.0,', b'"own":"\\u00e9",', b'"a":1e2,"b":{"x":[ ]},'])


@given(
    plan=st.lists(st.tuples(st.sampled_from(sorted(FAULTS)), OWN), min_size=1, max_size=30),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=150)
def test_n_lines_come_out_in_order_whatever_happens_to_each(
    tmp_path_factory: pytest.TempPathFactory, plan: list[tuple[str, bytes]], seed: int
) -> None:
    """For any faults and any order of rows: N in, N out, each line's own fate, exact sums."""
    numbered = list(enumerate(plan, start=1))
    requests = [orjson.dumps(request_of(f"text {number}")) for number, _ in numbered]
    raw = b"\n".join(
        b"{" + own + b'"request":' + request + b"}"
        for (_, own), request in zip(plan, requests, strict=True)
    )
    rows = [each for number, (fault, _) in numbered for each in FAULTS[fault](number)]
    random.Random(seed).shuffle(rows)  # noqa: S311  # reproducible, not secret

    lines, result, _ = merged(tmp_path_factory.getbasetemp(), raw, rows)

    assert len(lines) == len(plan)
    prompt = candidates = 0
    for (number, (fault, own)), request, line in zip(numbered, requests, lines, strict=True):
        assert own + b'"request":' + request + b',"response":' in line
        if fault in CODES:
            assert error_of(line)["code"] == CODES[fault]
        elif fault == "failed":
            assert orjson.loads(line)["status"] == "Too Many Requests"
        else:
            assert orjson.loads(line)["status"] == ""
            prompt += number if fault == "ok" else 2
            candidates += 3
    counts = result.counts
    good = sum(1 for fault, _ in plan if fault in {"ok", "twice"})
    assert (counts.ok, counts.successful + counts.failed) == (good, len(plan))
    assert (counts.prompt_tokens, counts.candidates_tokens) == (prompt, candidates)
    assert (
        result.cost_micro_dollars == (prompt * 250_000 + candidates * 1_500_000 + 500_000) // 10**6
    )
