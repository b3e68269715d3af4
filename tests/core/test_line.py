import re
from contextlib import suppress
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.line import (
    ECHO,
    FAILED_OUTCOMES,
    TOKENS_MAX,
    Judgement,
    LineKey,
    LineOutcome,
    Usage,
    echo_differs,
    judge,
    judge_answer,
    read_usage,
    status_text,
)

ANSWER = {"content": {"parts": [{"text": "hello"}], "role": "model"}, "finishReason": "STOP"}
HOSTILE = [-1, 1.0, True, "3", 2**63, TOKENS_MAX + 1, 10**400, [], {}, float("nan")]
KEYS = LineKey("1f9c03ab")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["candidates", "usageMetadata", "promptFeedback", "finishReason", "error", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def outcome(candidate: object) -> LineOutcome:
    """What becomes of a row with this one candidate."""
    return judge("", {"candidates": [candidate]}).outcome


# -- judge ---------------------------------------------------------------------------------------


def test_an_answer_is_ok() -> None:
    """A row with content has succeeded, and its tokens count."""
    judgement = judge("", {"candidates": [ANSWER], "usageMetadata": {"promptTokenCount": 2}})
    assert judgement == Judgement(outcome=LineOutcome.OK, usage=Usage(prompt_tokens=2))


def test_an_absent_status_is_no_failure() -> None:
    """`status: null` and no status mean what an empty one means."""
    assert judge(None, {"candidates": [ANSWER]}).outcome is LineOutcome.OK


def test_a_status_text_is_a_failure() -> None:
    """A non-empty status fails the line and is kept word for word."""
    text = 'Bad Request: {"error": {"code": 400}}'
    assert judge(text, {}) == Judgement(outcome=LineOutcome.ERROR, status=text, code="400")


def test_a_failure_wins_over_an_answer() -> None:
    """A row with both a status and candidates has failed and costs nothing."""
    judgement = judge("error", {"candidates": [ANSWER], "usageMetadata": {"promptTokenCount": 9}})
    assert judgement.outcome is LineOutcome.ERROR
    assert judgement.usage == Usage()


@pytest.mark.parametrize(("status", "text"), [(0, "0"), (False, "false"), ({"a": 1}, '{"a":1}')])
def test_a_status_that_is_no_text_is_a_failure(status: object, text: str) -> None:
    """A status of another type fails the line, also one that Python calls false."""
    assert judge(status, {"candidates": [ANSWER]}) == Judgement(
        outcome=LineOutcome.ERROR, status=text, code="other", is_retryable=True
    )


@pytest.mark.parametrize("response", [None, "", [], 7, {}, {"candidates": []}, {"candidates": 3}])
def test_a_row_without_an_answer_is_a_failure(response: object) -> None:
    """A response with neither candidates nor prompt feedback cannot be used."""
    judgement = judge("", response)
    assert judgement.outcome is LineOutcome.ERROR
    assert '"code":"corrupt_row"' in judgement.status


def test_a_blocked_prompt_is_blocked() -> None:
    """Prompt feedback without candidates is a block, and its tokens count."""
    response = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {}}
    assert judge("", response).outcome is LineOutcome.BLOCKED


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("STOP", LineOutcome.OK),
        ("SOMETHING_NEW", LineOutcome.OK),
        (None, LineOutcome.OK),
        ("MAX_TOKENS", LineOutcome.TRUNCATED),
        ("SAFETY", LineOutcome.BLOCKED),
        ("RECITATION", LineOutcome.BLOCKED),
        ("PROHIBITED_CONTENT", LineOutcome.BLOCKED),
        ("IMAGE_SAFETY", LineOutcome.BLOCKED),
    ],
)
def test_the_finish_reason_decides(reason: str | None, expected: LineOutcome) -> None:
    """A stop for length or safety is told from a good answer; unknown words are no failure."""
    assert outcome({**ANSWER, "finishReason": reason}) is expected


@pytest.mark.parametrize(
    "candidate",
    [
        {"finishReason": "STOP"},
        {"content": {}},
        {"content": {"parts": []}},
        {"content": {"parts": [{}, {"text": ""}, None, ""]}},
        {"content": {"parts": [{"text": "I think", "thought": True}]}},
        {"content": {"parts": [{"thoughtSignature": "c2ln", "text": ""}]}},
        {"content": "x"},
        None,
        "x",
    ],
)
def test_a_success_without_content_is_empty(candidate: object) -> None:
    """The provider's success without parts is shown as what it is."""
    assert outcome(candidate) is LineOutcome.EMPTY


@pytest.mark.parametrize("reason", [[], {}, 3, ["SAFETY"]])
def test_a_finish_reason_of_another_type_is_survived(reason: object) -> None:
    """A finish reason that is no text neither crashes nor blocks."""
    assert outcome({**ANSWER, "finishReason": reason}) is LineOutcome.OK


@settings(deadline=None, max_examples=300)
@given(st.none() | st.just("") | JSON, JSON)
def test_any_row_gets_a_judgement(status: object, response: object) -> None:
    """Whatever JSON the provider sends, the line gets an outcome and no failure is mute."""
    judgement = judge(status, response)
    assert (judgement.outcome in FAILED_OUTCOMES) == bool(judgement.status)


def test_our_own_status_has_the_providers_shape() -> None:
    """Prose, then JSON from the first brace on, as clients parse it."""
    text = status_text("missing", 'No row for "it".')
    assert orjson.loads(text[text.index("{") :])["error"]["code"] == "missing"


GOOD = {
    "candidates": [{**ANSWER, "avgLogprobs": -0.25}],
    "usageMetadata": {
        "promptTokenCount": 9,
        "candidatesTokenCount": 8,
        "thoughtsTokenCount": 7,
        "cachedContentTokenCount": 6,
        "toolUsePromptTokenCount": 5,
        "totalTokenCount": 35,
        "promptTokensDetails": [
            {"modality": "AUDIO", "tokenCount": 4},
            {"modality": "TEXT", "tokenCount": 5},
        ],
        "candidatesTokensDetails": [
            {"modality": "IMAGE", "tokenCount": 3},
            {"modality": "TEXT", "tokenCount": 5},
        ],
    },
    "modelVersion": "gemini",
}
TOKENS = re.compile(rb'"[^"]*"|-?[0-9.]+|[][{}:,]')
STRANGE = [
    *[b"null", b"true", b"-1", b"1.0", b"1e2", b"1e999", b"7", b"9" * 30, b"1099511627777", b"{}"],
    *[b"[]", b'"STOP"', b'"MAX_TOKENS"', b'"SAFETY"', b'"AUDIO"', b'"IMAGE"', b'"\xff"'],
    *[
        b'"\\ud800"',
        b'"\\x"',
        b'"\\u0053TOP"',
        b"",
        b'"usageMetadata"',
        b'"candidates"',
        b'"parts"',
        b'"thought":true,"text"',
        b'"error":{"code":500},"candidates"',
    ],
    *[
        b'"x":1e999,"content"',
        b'"x"',
        b'"candidates":[],"modelVersion"',
        b'"text"',
        b"[[]]",
        b"[1]",
    ],
]


def exactly(response: bytes) -> Judgement | None:
    """What the exact way says of a response, None if it is no JSON."""
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return judge("", msgspec.json.decode(response))
    return None


@pytest.mark.parametrize("reason", ["STOP", "MAX_TOKENS"])
@pytest.mark.parametrize(
    "content", [ANSWER["content"], {}, {"parts": [{"text": ""}]}, {"parts": {"text": "x"}}, None]
)
def test_ordinary_answers_are_judged_at_once(reason: str, content: object) -> None:
    """The documented shape needs no second look, and the verdict is the same."""
    candidate = {"content": content, "finishReason": reason}
    for response in (GOOD | {"candidates": [candidate]}, {"candidates": [candidate]}):
        at_once = judge_answer(orjson.dumps(response))
        assert at_once is not None
        assert at_once == judge("", response)


def test_other_stops_are_left_to_the_exact_way() -> None:
    """Only the two ordinary ends are judged at once."""
    answer = {"candidates": [{**ANSWER, "finishReason": "SAFETY"}]}
    assert judge_answer(orjson.dumps(answer)) is None


def test_a_bottomless_answer_is_left_to_the_exact_way() -> None:
    """Nesting without end makes the fast way decline, not crash."""
    assert judge_answer(b'{"candidates":' + b"[" * 100_000) is None


@settings(deadline=None, max_examples=1500)
@given(st.lists(st.tuples(st.integers(0, 500), st.sampled_from(STRANGE)), min_size=1, max_size=3))
def test_judging_at_once_is_judging_exactly(changes: list[tuple[int, bytes]]) -> None:
    """However a good answer is spoilt, the fast way says what the exact way says, or nothing."""
    tokens = TOKENS.findall(orjson.dumps(GOOD))
    for place, token in changes:
        tokens[place % len(tokens)] = token
    response = b"".join(tokens)
    at_once = judge_answer(response)
    assert at_once is None or at_once == exactly(response)


@settings(deadline=None, max_examples=200)
@given(JSON)
def test_any_json_is_judged_at_once_or_not_at_all(response: object) -> None:
    """For other JSON too the fast way never contradicts the exact one."""
    encoded = msgspec.json.encode(response)
    assert judge_answer(encoded) in {None, exactly(encoded)}


@pytest.mark.parametrize("part", ["x", {"text": "x"}, {"functionCall": {"name": "f"}}])
def test_any_content_is_an_answer(part: object) -> None:
    """Whatever a part holds, there is an answer if it is more than nothing."""
    assert outcome({"content": {"parts": [{}, part]}, "finishReason": "STOP"}) is LineOutcome.OK


# -- usage ---------------------------------------------------------------------------------------


def test_every_count_is_read() -> None:
    """All counts and both modalities are read by their names in the wire."""
    metadata = {
        "promptTokenCount": 1,
        "candidatesTokenCount": 2,
        "thoughtsTokenCount": 3,
        "cachedContentTokenCount": 4,
        "toolUsePromptTokenCount": 5,
        "promptTokensDetails": [
            {"modality": "AUDIO", "tokenCount": 6},
            {"modality": "TEXT", "tokenCount": 100},
            {"modality": "AUDIO", "tokenCount": 10},
        ],
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 7}, {"modality": "IMAGE"}],
    }
    expected = {
        "prompt_tokens": 1,
        "candidates_tokens": 2,
        "thoughts_tokens": 3,
        "cached_tokens": 4,
        "tool_prompt_tokens": 5,
        "audio_prompt_tokens": 16,
        "image_tokens": 7,
    }
    assert read_usage(metadata) == Usage(**expected)


@pytest.mark.parametrize("metadata", [None, {}, {"promptTokenCount": None}])
def test_absent_counts_are_zero(metadata: object) -> None:
    """Rows without counts are good rows."""
    assert read_usage(metadata) == Usage()


def test_the_largest_count_is_taken() -> None:
    """The bound itself is a count."""
    usage = read_usage({"promptTokenCount": TOKENS_MAX})
    assert usage is not None
    assert usage.prompt_tokens == TOKENS_MAX


@pytest.mark.parametrize("count", HOSTILE, ids=lambda value: str(value)[:10])
@pytest.mark.parametrize("member", ["promptTokenCount", "candidatesTokenCount"])
def test_a_hostile_count_is_never_money(member: str, count: object) -> None:
    """A count that is no whole number in range fails the line instead of being billed."""
    judgement = judge("", {"candidates": [ANSWER], "usageMetadata": {member: count}})
    assert judgement.outcome is LineOutcome.ERROR
    assert judgement.usage == Usage()


@pytest.mark.parametrize(
    "details",
    [
        {},
        "x",
        3,
        [None],
        ["AUDIO"],
        *([{"modality": "AUDIO", "tokenCount": count}] for count in HOSTILE),
    ],
    ids=lambda value: str(value)[:40],
)
def test_hostile_details_are_refused(details: object) -> None:
    """Modality details are checked like the counts."""
    assert read_usage({"promptTokensDetails": details}) is None


def test_hostile_image_details_are_refused() -> None:
    """The details of candidates are checked too."""
    details = [{"modality": "IMAGE", "tokenCount": "7"}]
    assert read_usage({"candidatesTokensDetails": details}) is None


@pytest.mark.parametrize("metadata", [[], "x", 3, False])
def test_metadata_of_another_type_is_refused(metadata: object) -> None:
    """`usageMetadata` is an object or absent."""
    assert read_usage(metadata) is None


# -- echo ----------------------------------------------------------------------------------------


def request(*parts: object) -> bytes:
    """A request with these parts."""
    return orjson.dumps({"contents": [{"role": "user", "parts": list(parts)}]})


def test_another_text_is_another_request() -> None:
    """Rows whose key was mixed up at the provider are noticed by their text."""
    assert echo_differs(request({"text": "a"}), request({"text": "b"}))


def test_another_number_of_parts_is_another_request() -> None:
    """A part more or less is no re-serialisation."""
    assert echo_differs(request({"text": "a"}), request({"text": "a"}, {"text": "b"}))


@pytest.mark.parametrize(
    "echo",
    [
        request({"fileData": None, "text": "7"}),
        request({"text": 7}),
        request({"text": None}),
        b'{"labels": null, "contents": [{"role": null, "parts": [{"text": "\\u0037"}]}], "x": 1}',
    ],
)
def test_a_re_serialised_request_is_the_same(echo: bytes) -> None:
    """Nulls, other order, other escapes and re-typed numbers accuse nobody."""
    assert not echo_differs(request({"text": "7"}), echo)


@pytest.mark.parametrize(
    "echo",
    [b"", b"{", b"null", b"[]", b'{"contents": 3}', b"\xff", b'{"contents": [{"parts": ["x"]}]}'],
)
def test_an_unreadable_echo_accuses_nobody(echo: bytes) -> None:
    """What cannot be compared is not called different."""
    assert not echo_differs(request({"text": "a"}), echo)


def test_a_nesting_bomb_as_echo_is_survived() -> None:
    """An echo nested too deeply to read accuses nobody and crashes nothing."""
    bomb = b'{"contents": [{"parts": [{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]}]}"
    assert not echo_differs(request({"text": "a"}), bomb)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=5))
def test_a_request_never_differs_from_itself(texts: list[str]) -> None:
    """Any request is the same after another serialisation with nulls."""
    parts = [{"inlineData": None, "text": text} for text in texts]
    echo = orjson.dumps({"contents": [{"parts": parts}]}, option=orjson.OPT_INDENT_2)
    assert not echo_differs(request(*({"text": text} for text in texts)), echo)


TEXTS = st.sampled_from(
    [
        *[
            b"",
            b'{"text":"a"}',
            b'{"text":"b"}',
            b'{"text":"\\u0061"}',
            b'{"text":null}',
            b"{}",
            b"3",
        ],
        *[b'{"text":7}', b'{"text":1e999}', b'{"text":"a","text":"b"}', b'{"text":"\xff"}'],
    ]
)


@settings(deadline=None, max_examples=500)
@given(st.lists(TEXTS, min_size=2, max_size=2), st.sampled_from([b"", b',{"text":"c"}']))
def test_equal_spelling_is_never_another_request(texts: list[bytes], more: bytes) -> None:
    """Where the cheap comparison finds two requests equal, the exact one agrees."""
    ours, theirs = (b'{"contents":[{"parts":[' + text + more + b"]}]}" for text in texts)
    with suppress(msgspec.DecodeError, UnicodeDecodeError):
        if ECHO.decode(ours) == ECHO.decode(theirs):
            assert not echo_differs(ours, theirs)


# -- keys ----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(st.from_regex(r"[0-9a-f]{8}", fullmatch=True), st.integers(1, 999_999_999))
def test_a_key_names_its_line(tag: str, number: int) -> None:
    """Any line's key leads back to that line, parsed or found in a broken row."""
    keys = LineKey(tag)
    assert keys.line_number(keys.of(number)) == number
    assert keys.find(b'{"key" : "' + keys.of(number).encode() + b'", "respo') == number


def test_a_key_never_looks_like_a_number() -> None:
    """Vertex re-types texts that look like numbers; ours begins with a letter."""
    assert re.fullmatch(r"k-[0-9a-f]{8}-000017", KEYS.of(17))


@pytest.mark.parametrize(
    "key",
    [
        None,
        17,
        b"k-1f9c03ab-000017",
        "",
        "k-1f9c03ab-17",
        "k-1f9c03ab-0000017",
        "k-1f9c03ab-000017\n",
        "k-1f9c03ab-000017 ",
        "k-00000000-000017",
        "K-1F9C03AB-000017",
        "k-1f9c03ab--00017",
        "k-1f9c03ab-" + "\u0660" * 6,
        "k-1f9c03ab-1000000000",
    ],
)
def test_other_keys_name_no_line(key: Any) -> None:  # noqa: ANN401 - anything may stand in a row
    """Another job's key, other types and other spellings of a number are not ours."""
    assert KEYS.line_number(key) is None


@pytest.mark.parametrize(("number", "text"), [(999_999, "999999"), (1_000_000, "1000000")])
def test_lines_beyond_six_digits_have_keys(number: int, text: str) -> None:
    """The padding is a minimum and not a limit."""
    assert KEYS.of(number) == f"k-1f9c03ab-{text}"
    assert KEYS.line_number(KEYS.of(number)) == number


@pytest.mark.parametrize(
    "row",
    [
        b"",
        b"garbage",
        b'{"key": "k-00000000-000017"',
        b'{"key": "k-1f9c03ab-0000017"',
        b'{"key": "mine", "x',
        b'{"key": "k-1f9c03ab-00001',
    ],
)
def test_a_broken_row_without_our_key_names_no_line(row: bytes) -> None:
    """Half a key, another job's key and the caller's own keys lead to no line."""
    assert KEYS.find(row) is None
