"""Tokens of a request are counted from what it says, and what cannot be known is a range."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.tokens import NOTHING, Guess, Traits, guess_line, text_tokens

TEXT = Traits(draws=False, thinks=True, output_tokens=1_000)
QUIET = Traits(draws=False, thinks=False, output_tokens=1_000)
IMAGE = Traits(draws=True, thinks=False, output_tokens=1_000)


def asking(*parts: object, **more: object) -> dict[str, Any]:
    """A request with these parts."""
    return {"contents": [{"role": "user", "parts": list(parts)}], **more}


def prompt(*parts: object, **more: object) -> Guess:
    """What is guessed of its prompt."""
    return guess_line(asking(*parts, **more), TEXT).prompt


def output(traits: Traits = QUIET, **config: object) -> Guess:
    """What is guessed of its answer."""
    return guess_line(asking({"text": "x"}, generationConfig=config), traits).output


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("a" * 400, 100),
        ("ж" * 350, 100),
        ("山" * 150, 100),
        ("😀" * 100, 100),
        ("a" * 400 + "ж" * 350 + "山" * 150 + "😀" * 100, 400),
        ("\ud800", 1 / 1.5),
    ],
)
def test_characters_count_by_their_script(text: str, expected: float) -> None:
    """Four characters of English are a token, fewer of other scripts, and mixtures add up."""
    guess = text_tokens(text)
    assert guess.expected == pytest.approx(expected)
    assert guess.low <= guess.expected <= guess.high


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_four_characters_a_token_is_always_within_the_range(text: str) -> None:
    """The emulator counts like that whatever the script is."""
    guess = text_tokens(text)
    assert guess.low <= len(text) / 4 + 1e-9 <= guess.high + 2e-9


def test_all_text_counts() -> None:
    """Parts, the system's instruction and tools, under either spelling; a lone part as well."""
    part = {"text": "a" * 40}
    assert prompt(part, part).expected == 20
    for name in ("systemInstruction", "system_instruction"):
        assert prompt(part, **{name: {"parts": [part]}}).expected == 20
        assert prompt(part, **{name: {"parts": part}}).expected == 20
    assert guess_line({"contents": {"parts": [part]}}, TEXT).prompt.expected == 10
    tools = [{"functionDeclarations": [{"name": "weather"}]}]
    assert prompt(part, tools=tools).expected > 20
    assert prompt({"functionResponse": {"name": "weather"}}).expected > 5


@pytest.mark.parametrize("contents", [None, "x", [], [None], [{"parts": None}], [{"parts": ["x"]}]])
def test_what_is_no_text_has_no_tokens(contents: object) -> None:
    """A request that the provider will refuse costs nothing here."""
    assert guess_line({"contents": contents, "generationConfig": 7}, TEXT).prompt == NOTHING


@pytest.mark.parametrize(
    ("part", "config", "expected"),
    [
        ({}, {}, 1_120),
        ({}, {"mediaResolution": "MEDIA_RESOLUTION_LOW"}, 280),
        ({}, {"media_resolution": "MEDIA_RESOLUTION_MEDIUM"}, 560),
        ({}, {"mediaResolution": "MEDIA_RESOLUTION_OF_TOMORROW"}, 1_120),
        ({"mediaResolution": {"level": "MEDIA_RESOLUTION_ULTRA_HIGH"}}, {}, 2_240),
        (
            {"mediaResolution": "MEDIA_RESOLUTION_LOW"},
            {"mediaResolution": "MEDIA_RESOLUTION_HIGH"},
            280,
        ),
    ],
)
def test_an_image_has_as_many_tokens_as_its_resolution(
    part: dict[str, object], config: dict[str, object], expected: int
) -> None:
    """The part's own word goes before that of the request."""
    for media in (
        {"inlineData": {"mimeType": "image/png"}},
        {"file_data": {"mime_type": "image/x"}},
    ):
        found = prompt({**media, **part}, generationConfig=config)
        assert found.expected == expected
        assert found.low <= 258 or expected < 258


@pytest.mark.parametrize("kind", ["audio/mp3", "video/mp4", "application/pdf", "None"])
def test_other_media_are_a_wide_range(kind: str) -> None:
    """Nobody knows how long a file is; only what is heard has a price of its own."""
    found = guess_line(asking({"fileData": {"mimeType": kind}}), TEXT)
    assert found.prompt.low <= 640 <= found.prompt.high
    assert found.prompt.high > 50 * found.prompt.low
    assert found.audio == (found.prompt.expected if kind == "audio/mp3" else 0)


def test_nothing_said_is_the_usual_length() -> None:
    """The setting is what an answer has with its thoughts; without thoughts it has fewer."""
    assert output(TEXT).expected == 1_000
    assert output(QUIET).expected == 400


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        ({"thinkingBudget": 0}, 400),
        ({"thinking_budget": "0"}, 400),
        ({"thinkingBudget": 50}, 450),
        ({"thinkingBudget": -1}, 1_000),
        ({"thinkingLevel": "LOW"}, 500),
        ({"thinking_level": "minimal"}, 500),
        ({"thinkingLevel": "HIGH"}, 1_000),
        (7, 1_000),
    ],
)
def test_thoughts_are_as_many_as_are_allowed(thinking: object, expected: float) -> None:
    """A budget of none is none, a small one is all, and -1 is the model's own."""
    assert output(TEXT, thinkingConfig=thinking).expected == expected


def test_a_cap_is_a_cap() -> None:
    """No number exceeds `maxOutputTokens`, once for each candidate; text is a number, too."""
    assert output(TEXT, maxOutputTokens=64) == Guess(64, 64, 64)
    assert output(TEXT, max_output_tokens="64").high == 64
    assert output(TEXT, maxOutputTokens=64, candidateCount=3).high == 192
    assert output(TEXT, maxOutputTokens="many", candidateCount=True).expected == 1_000
    assert output(QUIET, candidateCount=3).expected == 1_200


def test_a_schema_says_how_long_the_answer_is() -> None:
    """Fields add up, lists have some items, a choice is short; whatever it is, it ends."""
    leaf = {"type": "STRING"}
    one = output(responseSchema={"type": "OBJECT", "properties": {"a": leaf}}).expected
    two = output(responseSchema={"type": "OBJECT", "properties": {"a": leaf, "b": leaf}}).expected
    assert one < two < 3 * one
    listed = {"type": "ARRAY", "items": leaf}
    assert output(responseJsonSchema=listed).expected > one
    short = output(responseSchema={**listed, "maxItems": "1"}).expected
    assert short < output(responseSchema={**listed, "minItems": 9}).expected
    assert output(responseSchema={"enum": ["a", "b"]}).expected == 3
    assert output(responseSchema={"type": "BOOLEAN"}).expected == 1
    assert output(responseSchema={"$ref": "#"}).expected == 12
    assert output(responseMimeType="text/x.enum").expected == 2
    deep: dict[str, object] = dict(leaf)
    for _ in range(40):
        deep = {"items": deep}
    assert output(responseSchema=deep).expected <= 100_000
    assert output(responseSchema={"items": [leaf]}).expected > 12


def test_a_schema_may_be_part_of_the_prompt() -> None:
    """Nobody documents whether it is billed, so only the upper end has it."""
    schema = {"type": "OBJECT", "properties": {"a" * 400: {"type": "STRING"}}}
    plain, with_schema = prompt(), prompt(generationConfig={"responseSchema": schema})
    assert with_schema[:2] == plain[:2]
    assert with_schema.high > plain.high + 100


def test_a_model_that_draws_answers_with_images() -> None:
    """An image has a fixed number of tokens, more at 4K, for each candidate."""
    usual = guess_line(asking({"text": "a cat"}), IMAGE)
    assert usual.images.expected == 1_120
    large = {"imageConfig": {"imageSize": "4K"}, "candidateCount": 2}
    assert (
        guess_line(asking({"text": "a cat"}, generationConfig=large), IMAGE).images.expected
        == 4_000
    )
    assert guess_line(asking({"text": "a cat"}), TEXT).images == NOTHING
