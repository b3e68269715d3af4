"""One case for each code of a bad line."""

import json
from typing import Any

import pytest
from tests.ingest.naive import GOOD, Memory, Turned, body_of, take, taken, turned

from penstock.core.limits import Limits
from penstock.errors import InvalidInput
from penstock.ingest.check import LineCheck
from penstock.ingest.jsonl import JsonlIntake
from penstock.ingest.spot import MARKS_SEARCHED

TAIL = b'"request":{"contents":[{"parts":[{"text":"hi"}]}]}}'
DEEP_OBJECTS = b'{"a":' * 15 + b"1" + b"}" * 15
DEEP_REQUEST = b'{"a":{"request":1},"request":{"contents":[' + DEEP_OBJECTS + b"]}}"
CASES = [
    # line, code, column, offset in the line, path
    (b'{"request":{"contents":[1,]}}', "invalid_json", 26, 25, "$.request.contents[0]"),
    (b"{'request':1}", "invalid_json", 2, 1, "$"),
    (b'{"k":NaN,' + TAIL, "invalid_json", 6, 5, "$.k"),
    (b'{"k":-Infinity,' + TAIL, "invalid_json", 7, 6, "$.k"),
    (b'{"k":True,' + TAIL, "invalid_json", 6, 5, "$.k"),
    (b'{"k":"cut off', "invalid_json", 14, 13, "$.k"),
    (b'{"k":1', "invalid_json", 7, 6, "$.k"),
    (b'{"k":"\xc3\xa9\xe4\xb8\xad" 1}', "invalid_json", 11, 13, "$.k"),
    (b"{}]", "invalid_json", 3, 2, "$"),
    (GOOD + b",", "invalid_json", 53, 52, "$"),
    (b'{"request": {', "pretty_printed_json", 14, 13, "$.request"),
    (b'  "contents": [', "pretty_printed_json", 13, 12, "$"),
    (b"  },", "pretty_printed_json", 3, 2, "$"),
    (GOOD + GOOD, "multiple_objects_on_line", 53, 52, "$"),
    (GOOD + b"\r" + GOOD, "multiple_objects_on_line", 54, 53, "$"),
    (b'{"k":"\xe9",' + TAIL, "invalid_utf8", 7, 6, "$.k"),
    (b'{"\xc3\xa9":"\xff",' + TAIL, "invalid_utf8", 7, 7, '$["\u00e9"]'),
    (b"]]\xff", "invalid_utf8", 3, 2, "$"),
    (rb'{"k":"\ud83d",' + TAIL, "lone_surrogate", 7, 6, "$.k"),
    (rb'{"k":"a\udc00",' + TAIL, "lone_surrogate", 8, 7, "$.k"),
    (b"[1]", "not_an_object", 1, 0, "$"),
    (b"  null", "not_an_object", 3, 2, "$"),
    (b'{"key":"k"}', "missing_request", 1, 0, "$.request"),
    (b'{"contents":[{}]}', "missing_request", 1, 0, "$.request"),
    (b'{"request":null}', "request_not_an_object", 12, 11, "$.request"),
    (b'{"k":1,"request":{"a":{}}}', "missing_contents", 18, 17, "$.request.contents"),
    (b'{"request":{"contents":{}}}', "contents_not_an_array", 24, 23, "$.request.contents"),
    (b'{"request":{"contents":[ ]}}', "empty_contents", 24, 23, "$.request.contents"),
    (b'{"custom_id":"1","body":{}}', "openai_format", 25, 24, "$.body"),
    (b'{"messages":[]}', "openai_format", 13, 12, "$.messages"),
    (b'{"request":{"messages":[]}}', "openai_format", 24, 23, "$.request.messages"),
    (b'{"request":{"contents":[{}],"config":{}}}', "sdk_format", 38, 37, "$.request.config"),
    (b'{"request":{"contents":["hi"]}}', "content_not_an_object", 25, 24, "$.request.contents[0]"),
    (b'{"request":{"contents":[{},1]}}', "content_not_an_object", 28, 27, "$.request.contents[1]"),
    (
        b'{"request":{"contents":[{"role":"assistant"}]}}',
        "unknown_role",
        33,
        32,
        "$.request.contents[0].role",
    ),
    (b'{"request":{"contents":[{"role":1}]}}', "unknown_role", 33, 32, None),
    (b'{"k":1,"k":2,' + TAIL, "duplicate_member", 12, 11, "$.k"),
    (rb'{"k":[{"a":1},{"a":1,"b":0,"\u0061":2}],' + TAIL, "duplicate_member", 37, 36, "$.k[1].a"),
    (b'{"request":1,"request":{"contents":[{}]}}', "duplicate_member", 24, 23, "$.request"),
    (b'{"status":"x",' + TAIL, "reserved_member", 11, 10, "$.status"),
    (b'{"response":{},' + TAIL, "reserved_member", 13, 12, "$.response"),
    (b'{"processed_time":"",' + TAIL, "reserved_member", 19, 18, "$.processed_time"),
    (b'{"k":18446744073709551616,' + TAIL, "number_out_of_range", 6, 5, "$.k"),
    (b'{"k":-9223372036854775809,' + TAIL, "number_out_of_range", 6, 5, "$.k"),
    (b'{"k":[0,' + b"9" * 5000 + b"]," + TAIL, "number_out_of_range", 9, 8, "$.k[1]"),
    (b'{"k":1e400,' + TAIL, "number_out_of_range", 6, 5, "$.k"),
    (b'{"k": -1.5E+309,' + TAIL, "number_out_of_range", 7, 6, "$.k"),
    (b'{"k":' + b"[" * 64 + b"]" * 64 + b"," + TAIL, "nesting_too_deep", 69, 68, None),
    (b'{"k":' + b"[" * 9999 + b"]" * 9999 + b"," + TAIL, "nesting_too_deep", 69, 68, None),
    (DEEP_REQUEST, "nesting_too_deep", 113, 112, None),
    (b"\xef\xbb\xbf" + GOOD, "bom", 1, 0, "$"),
]


@pytest.mark.parametrize(("line", "code", "column", "offset", "path"), CASES)
def test_a_bad_line_is_reported_with_its_place(
    line: bytes, code: str, column: int, offset: int, path: str | None
) -> None:
    """Each fault has its code, line, column, offset, path, hint and a short excerpt."""
    refusal = turned(GOOD + b"\n\n" + line + b"\n" + GOOD, raw=True)
    assert (refusal.kind, refusal.code, refusal.total) == ("InvalidInput", "invalid_input", 1)
    (problem,) = refusal.problems
    assert (problem.code, problem.line, problem.column) == (code, 3, column)
    assert problem.offset == len(GOOD) + 2 + offset
    assert problem.hint
    assert refusal.hint
    assert problem.excerpt is not None
    assert 0 < len(problem.excerpt) <= 80
    assert path is None or problem.path == path
    assert problem.path is not None
    assert len(problem.path) <= 200
    assert refusal.message.startswith("1 of 3 requests are invalid. First: line 3, column")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"request":{"contents":[1,]}}', "comma"),
        (b"{'request':1}", "double quotes"),
        (b'{"k":NaN}', "no NaN"),
        (b'{"k":-Infinity}', "no NaN"),
        (b'{"k":None}', "true, false and null"),
        (b'{"k":"say \\"hi', "inside a string"),
        (b'{"k":1', "was the file cut"),
        (b'{"k":01}', "JSON library"),
        (GOOD + b",", "commas"),
        (GOOD + b"]", "Remove what follows"),
        (b'{"request": {', "spread over lines"),
        (b'"contents": [', "spread over lines"),
        (GOOD + GOOD, "line feed"),
    ],
)
def test_the_hint_fits_the_mistake(line: bytes, words: str) -> None:
    """Broken JSON of a known kind gets the advice for that kind."""
    (problem,) = turned(line, raw=True).problems
    assert words in (problem.hint or "")


@pytest.mark.parametrize(
    "line",
    [
        GOOD,
        b" " + GOOD + b" \t",
        b'{"k":[18446744073709551615,-9223372036854775808,1e308,1e-999],' + TAIL,
        b'{"k":"1e999 and 123456789012345678901",' + TAIL,
        b'{"k":"[1e999]","l":[ 1e307, 2E+0100],' + TAIL,
        b'{"k":"' + b"9e999/" * 200 + b'",' + TAIL,
        b'{"k":"' + b"x9e999" * 50 + b'",' + TAIL,
        b'{"k":"' + b"[{" * 99 + b'","l":"\\"{{\\\\",' + TAIL,
        b'{"k":' + b"[" * 63 + b"]" * 63 + b"," + TAIL,
        b'{"k":' + b'{"a":' * 62 + b"1" + b"}" * 62 + b"," + TAIL,
        b'{"request":{"contents":[' + DEEP_OBJECTS[5:-1] + b"]}}",
        b'{"request":{"contents":[{"role":null,"parts":[]},{"role":""},{"role":"model"},{"role":"function"}]}}',
        b'{"k":[{"a":1},{"a":1}],"a":{"k":[]},' + TAIL,
        rb'{"req\u0075est":{"contents":[{"parts":[]}]},"k":"\ud83d\ude00\\ud83d"}',
        '{"k":"\u2028\x85\U0001f600 \ufeff","request":{"contents":[{"parts":[]}]}}'.encode(),
    ],
)
def test_a_good_line_passes(line: bytes) -> None:
    """What JSON and the contract allow is accepted, however odd it looks."""
    assert taken(line, raw=True).stored == line


def test_a_line_of_its_own_is_good() -> None:
    """The check of one line says nothing when nothing is wrong."""
    check = LineCheck(Limits())
    assert check.problem(GOOD, 1, 0) is None
    assert not check.is_bad(GOOD)


def test_long_runs_are_cut_from_the_excerpt() -> None:
    """An excerpt shows neither base64 nor a key, and escapes what does not print."""
    line = b'{"a":"\x7f' + b"A" * 60 + b'","k":01}'
    (problem,) = turned(line, raw=True).problems
    assert problem.excerpt == '\u2026AAAAAAAA\u2026","k":01}'
    (problem,) = turned(b'{"a":"\xe2\x80\xae\x7f", "k":01}', raw=True).problems
    assert problem.excerpt == r'{"a":"\u202e\x7f", "k":01}'
    (problem,) = turned(b'{"a":"' + b"\x7f " * 40 + b'","k":01}', raw=True).problems
    assert len(problem.excerpt or "") == 80


LONG = b'{"pad":"' + b"x" * 2_000_000 + b'",'


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "code", "offset"),
    [
        (LONG + b'"k":1,}', "invalid_json", len(LONG) + 6),
        (LONG + b'"k":1', "invalid_json", len(LONG) + 5),
        (LONG + rb'"k":"\n\u0041\ud83d\ude00\ud83d"}', "lone_surrogate", len(LONG) + 25),
        (LONG + TAIL + b"{}", "multiple_objects_on_line", len(LONG) + len(TAIL)),
        (LONG + b'"k":"' + b'\\"{[' * 300_000 + b'","l":9e999}', "number_out_of_range", None),
        (LONG + TAIL + b" {}", "multiple_objects_on_line", len(LONG) + len(TAIL) + 1),
        (LONG + b'"k":' + b"[" * 99 + b"]" * 99 + b"}", "nesting_too_deep", 0),
        (LONG + b'"request":{}}', "missing_contents", 0),
        (LONG + b'"k":"\xff"}', "invalid_utf8", len(LONG) + 5),
        (LONG + b'"' + "\u00e9".encode() * 99_999 + b'":"\xff"}', "invalid_utf8", None),
    ],
)
def test_a_long_line_is_judged_without_building_it(
    line: bytes, code: str, offset: int | None
) -> None:
    """Lines over a mebibyte get the same codes and offsets."""
    refusal = take(line, raw=True)
    assert isinstance(refusal, Turned)
    (problem,) = refusal.problems
    assert problem.code == code
    assert offset is None or problem.offset == offset


@pytest.mark.slow
def test_a_long_good_line_passes() -> None:
    """Large media in a line is no problem."""
    assert taken_whole(LONG + b'"k":["{","}"],' + TAIL)


def taken_whole(line: bytes) -> bool:
    """Feed a long line in one piece."""
    return not isinstance(take(line, raw=True), Turned)


def test_a_long_key_is_cut_from_the_path() -> None:
    """A path stays readable and short whatever the keys are."""
    line = b'{"' + b"k" * 99 + b'":{"a b":' + b'{"abcdefghijklmnopqrstuvwxyz":' * 9 + b"!"
    (problem,) = turned(line, raw=True).problems
    path = problem.path or ""
    assert path.startswith("$." + "k" * 40 + '["a b"]')
    assert len(path) == 200


@pytest.mark.parametrize(
    ("begin", "end", "code"),
    [
        (b'{"a":[', b"x]}", "invalid_json"),
        (b'{"a":[', b'],"b":{"c":1,"c":2}}', "duplicate_member"),
        (b'{"a":[', b'],"request":{"contents":[{"role":"x"}]}}', "unknown_role"),
    ],
)
def test_a_line_of_marks_is_refused_without_its_place(begin: bytes, end: bytes, code: str) -> None:
    """The place in a line that would take long to walk is not told; with fewer marks it is."""
    walked, left = (
        turned(begin + b"1," * count + b"1" + end, raw=True).problems[0]
        for count in (MARKS_SEARCHED // 2, MARKS_SEARCHED)
    )
    assert (walked.code, left.code) == (code, code)
    assert (walked.path or "").startswith(("$.a[4096]", "$.b.c", "$.request.contents[0].role"))
    assert left.path in {"$", "$.request.contents[0].role"}


def test_half_of_an_escape_is_no_half_of_a_pair() -> None:
    """An escape that is cut is told as such, and not as a text that was cut in an emoji."""
    cut, alone = (
        turned(b'{"key":"' + text + b'"}', raw=True).problems[0].code
        for text in (rb"\ud8", rb"\ud83d")
    )
    assert (cut, alone) == ("invalid_json", "lone_surrogate")


def test_all_bad_lines_are_counted_and_the_first_are_listed() -> None:
    """A file of bad lines gives the first hundred in order and the count of all."""
    refusal = turned(b"x\n" * 250 + GOOD, raw=True)
    assert [problem.line for problem in refusal.problems] == list(range(1, 101))
    assert refusal.total == 250
    assert refusal.message.startswith("250 of 251 requests are invalid.")


def test_nothing_may_be_listed() -> None:
    """With no problem to report the count still stands."""
    refusal = turned(b"x", Limits(problems_reported_max=0), raw=True)
    assert (refusal.problems, refusal.total) == ((), 1)
    assert refusal.message == "1 of 1 request is invalid."


def test_writing_ends_with_the_first_bad_line() -> None:
    """The caller discards a bad input, so no further block or row is written."""
    sink = Memory()
    data = GOOD + b"\nx\n" + (GOOD + b"\n") * 40_000
    intake = JsonlIntake(Limits(), sink)
    intake.feed(data)
    with pytest.raises(InvalidInput, match="1 of 40002"):
        intake.finish()
    assert sink.sizes == [262_144]
    assert not sink.rows


@pytest.mark.parametrize(
    ("data", "code", "line"),
    [
        (b"\xef\xbb\xbf \n\n[\n" + GOOD, "json_array_file", 3),
        (b"[]", "json_array_file", 1),
        (b"\xff\xfe{\x00", "utf16", 1),
        (b"\xfe\xff\x00{", "utf16", 1),
        (b"\x1f\x8b\x08", "compressed_input", 1),
    ],
)
def test_a_file_of_another_kind_is_named(data: bytes, code: str, line: int) -> None:
    """A whole file of the wrong kind is one refusal, not thousands of bad lines."""
    refusal = turned(data, raw=True)
    assert (refusal.kind, refusal.code) == ("InvalidInput", code)
    assert [(problem.code, problem.line) for problem in refusal.problems] == [(code, line)]
    assert refusal.hint


@pytest.mark.parametrize("data", [b"", b"\n \r\n\t", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_an_input_without_requests_is_refused(data: bytes) -> None:
    """Nothing, or nothing but white space, is no job."""
    assert turned(data, raw=True).code == "empty_input"
    assert turned(body_of(data)).code == "empty_input"


def test_the_start_of_a_mark_is_not_a_mark() -> None:
    """Two bytes of a byte-order mark alone are a bad line."""
    (problem,) = turned(b"\xef\xbb", raw=True).problems
    assert problem.code == "invalid_utf8"


def test_framing_is_kept_as_sent() -> None:
    """Mark dropped; CRLF, blank lines and the missing last line feed are kept and not counted."""
    data = GOOD + b"\r\n\n \t\r\n" + GOOD + b" \r\n" + GOOD + b"\r"
    result = taken(b"\xef\xbb\xbf" + data, raw=True)
    assert result.stored == data
    size = len(GOOD)
    assert result.rows == ((0, size), (size + 7, size + 1), (2 * size + 10, size))
    assert result.line_count == 3


SMALL = Limits(job_bytes_max=300_000, job_lines_max=3, line_bytes_max=100)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b" " * 50 + (b"\n" + b" " * 50) * 5_000, "too_many_lines"),
        ((GOOD + b"\n") * 4, "too_many_lines"),
        (b"x\n" * 4, "too_many_lines"),
        (GOOD + b"\n" + b" " * 101 + b"\n", "line_too_long"),
        (GOOD + b"\n" + b" " * 270_000, "line_too_long"),
    ],
)
def test_a_limit_refuses_by_name(data: bytes, code: str) -> None:
    """Bytes, requests and the length of a line each have their code and name their limit."""
    refusal = take(data, raw=True, limits=SMALL)
    assert isinstance(refusal, Turned)
    assert (refusal.kind, refusal.code) == ("TooLarge", code)
    assert "limit" in (refusal.hint or "")
    assert [problem.line for problem in refusal.problems] == [2] * (code == "line_too_long")


def test_the_size_of_an_input_is_limited() -> None:
    """One byte over the limit is refused by the limit's name, blank or not."""
    limits = Limits(job_bytes_max=300_000, job_lines_max=3_000)
    data = (b" " * 50 + b"\n") * 5_882 + b" " * 18
    assert turned_code(data, limits) == "empty_input"
    assert turned_code(data + b"\n", limits) == "input_too_large"


def turned_code(data: bytes, limits: Limits) -> str:
    """The code of a refusal."""
    refusal = take(data, raw=True, limits=limits)
    assert isinstance(refusal, Turned)
    return refusal.code


def test_limits_are_inclusive() -> None:
    """Exactly as many bytes, requests and characters as allowed are accepted."""
    line = GOOD[:-1] + b" " * (99 - len(GOOD)) + b" }"
    data = (line + b"\r\n") * 3
    limits = Limits(job_bytes_max=len(data), job_lines_max=3, line_bytes_max=100)
    assert taken(data, limits, raw=True).line_count == 3


def test_a_full_index_block_is_dropped_after_a_bad_line() -> None:
    """Rows of lines before the bad one are not written late."""
    sink = Memory()
    intake = JsonlIntake(Limits(), sink)
    intake.feed(b'{"request":{"contents":[{"parts":[]}]}}\n' * 8_500 + b"x\n" * 9_000)
    with pytest.raises(InvalidInput):
        intake.finish()
    assert not sink.rows


def test_many_lines_fill_many_index_blocks() -> None:
    """Rows are written in blocks and still stand for every line in order."""
    line = b'{"request":{"contents":[{"parts":[]}]}}\n'
    result = take(line * 20_000, raw=True)
    assert not isinstance(result, Turned)
    assert result.rows == tuple((row * 40, 39) for row in range(20_000))


def test_reference_and_check_agree_on_json_dumps() -> None:
    """Any JSON that Python writes with room for a request is accepted."""
    request: dict[str, Any] = {"contents": [{"parts": []}]}
    line = json.dumps({"request": request, "k": {"\u00e9": [None, True, 1.5]}}).encode()
    assert taken(line, raw=True).line_count == 1
