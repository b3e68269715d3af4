"""How many tokens a request has and may get, counted without a tokenizer.

Google's rule of thumb is four characters a token; text of other scripts has fewer, and media cost
fixed numbers of tokens. What cannot be known is a range. The emulator counts four characters of any
script, 258 tokens an image and 640 any other medium; all of that is within the ranges.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

Json = dict[str, Any]


class Guess(NamedTuple):
    """A number that nobody knows, with where it is nearly always."""

    low: float
    expected: float
    high: float

    def plus(self, other: "Guess") -> "Guess":
        """Return the sum; both are taken to be wrong in the same direction."""
        return Guess(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def times(self, factor: float) -> "Guess":
        """Return it so many times."""
        return Guess(self.low * factor, self.expected * factor, self.high * factor)

    def at_most(self, most: float) -> "Guess":
        """Return it with a number that it cannot exceed."""
        return Guess(min(self.low, most), min(self.expected, most), min(self.high, most))


NOTHING: Final = Guess(0, 0, 0)


class LineGuess(NamedTuple):
    """The tokens of one request."""

    prompt: Guess
    audio: float
    """Of the prompt; it may have a price of its own."""
    output: Guess
    """Text and thoughts."""
    images: Guess
    """Tokens of generated images, beside `output`."""


class Traits(NamedTuple):
    """What is known of a model without asking it."""

    draws: bool
    """Whether it generates images."""
    thinks: bool
    output_tokens: int
    """What an answer has, thoughts included, where nothing else is known."""


_PER_CHARACTER: Final = (
    # One, two, three and four bytes of UTF-8: English and code; other alphabets; Chinese, Japanese,
    # Korean, Hindi; emoji.
    Guess(1 / 5.2, 1 / 4, 1 / 2.8),
    Guess(1 / 4.6, 1 / 3.5, 1 / 2),
    Guess(1 / 4, 1 / 1.5, 1),
    Guess(1 / 4, 1, 3),
)
_CHARACTERS_PER_TOKEN: Final = 4
"""Of JSON, such as that of tools."""

_IMAGE_DEFAULT: Final = Guess(258, 1_120, 1_120)
_IMAGE_BY_RESOLUTION: Final = {
    "LOW": Guess(64, 280, 280),
    "MEDIUM": Guess(258, 560, 560),
    "HIGH": Guess(258, 1_120, 1_120),
    "ULTRA_HIGH": Guess(258, 2_240, 2_240),
}
_MEDIA: Final = {
    # A minute of it, or a few pages: how long a file is cannot be seen from here.
    "audio": Guess(320, 1_920, 60_000),
    "video": Guess(600, 6_000, 300_000),
}
_DOCUMENT: Final = Guess(258, 1_120, 60_000)

_IMAGE_OUTPUT: Final = {"4K": 2_000}
_IMAGE_OUTPUT_USUAL: Final = 1_120
_IMAGE_TEXT: Final = Guess(0, 50, 400)

_THOUGHTS: Final = Guess(0.06, 0.6, 2)
_ANSWER: Final = Guess(0.04, 0.4, 2)
"""Both as shares of what an answer has where nothing else is known."""
_LITTLE_THOUGHT: Final = Guess(16, 100, 500)
_ENUM: Final = Guess(1, 2, 6)
_BY_SCHEMA: Final = Guess(0.3, 1, 4)
_SCHEMA_DEPTH_MAX: Final = 12
_SCHEMA_TOKENS_MAX: Final = 100_000
_LEAF_TOKENS: Final = {"string": 12, "number": 3, "integer": 2, "boolean": 1, "null": 1}
_ITEMS: Final = 3


def guess_line(request: Json, traits: Traits) -> LineGuess:
    """Return what a request may have and get."""
    config = _member(request, "generationConfig")
    config = config if isinstance(config, dict) else {}
    prompt, audio = _prompt(request, config)
    output, images = _output(config, traits)
    return LineGuess(prompt, audio, output, images)


def _prompt(request: Json, config: Json) -> tuple[Guess, float]:
    prompt, audio = NOTHING, 0.0
    usual = _resolution(_member(config, "mediaResolution"))
    for part in _parts(request):
        guess, kind = _part(part, usual)
        prompt = prompt.plus(guess)
        audio += guess.expected if kind == "audio" else 0
    prompt = prompt.plus(_text_of_json(request.get("tools")))
    schema = _schema(config)
    # Whether a schema is counted is not documented for what is billed, only for the limits.
    return prompt.plus(Guess(0, 0, _text_of_json(schema).high)), audio


def _parts(request: Json) -> Iterator[Json]:
    contents = request.get("contents")
    for content in [*_list(contents), _member(request, "systemInstruction")]:
        parts = content.get("parts") if isinstance(content, dict) else None
        yield from (part for part in _list(parts) if isinstance(part, dict))


def _part(part: Json, usual: Guess) -> tuple[Guess, str]:
    text = part.get("text")
    if isinstance(text, str):
        return text_tokens(text), "text"
    media = _member(part, "inlineData") or _member(part, "fileData")
    if not isinstance(media, dict):
        return _text_of_json(part), "text"
    kind = str(_member(media, "mimeType")).partition("/")[0].lower()
    if kind == "image":
        own = _member(part, "mediaResolution")
        own = own.get("level") if isinstance(own, dict) else own
        return (usual if own is None else _resolution(own)), kind
    return _MEDIA.get(kind, _DOCUMENT), kind


def _resolution(named: object) -> Guess:
    word = str(named).upper().removeprefix("MEDIA_RESOLUTION_")
    return _IMAGE_BY_RESOLUTION.get(word, _IMAGE_DEFAULT)


def text_tokens(text: str) -> Guess:
    """Return how many tokens a text has, by how many bytes its characters take."""
    if text.isascii():
        return _PER_CHARACTER[0].times(len(text))
    count = len(text)
    one = len(text.encode("ascii", "ignore"))
    four = len(text.encode("utf-16-le", "surrogatepass")) // 2 - count
    rest_bytes = len(text.encode("utf-8", "surrogatepass")) - one - 4 * four
    three = rest_bytes - 2 * (count - one - four)
    two = count - one - three - four
    total = NOTHING
    for each, number in zip(_PER_CHARACTER, (one, two, three, four), strict=True):
        total = total.plus(each.times(number))
    return total


def _text_of_json(value: object) -> Guess:
    if not value:
        return NOTHING
    tokens = len(msgspec.json.encode(value)) / _CHARACTERS_PER_TOKEN
    return Guess(tokens * 0.8, tokens, tokens * 1.6)


def _output(config: Json, traits: Traits) -> tuple[Guess, Guess]:
    count = max(1, _whole(_member(config, "candidateCount")) or 1)
    cap = _whole(_member(config, "maxOutputTokens"))
    if traits.draws:
        size = _member(_member(config, "imageConfig"), "imageSize")
        tokens = _IMAGE_OUTPUT.get(str(size), _IMAGE_OUTPUT_USUAL)
        return _IMAGE_TEXT.times(count), Guess(tokens * 0.7, tokens, tokens).times(count)
    output = _answer(config, traits).times(count).plus(_thoughts(config, traits))
    # The cap holds for each candidate, with the thoughts.
    return (output if cap is None else output.at_most(cap * count)), NOTHING


def _answer(config: Json, traits: Traits) -> Guess:
    if _member(config, "responseMimeType") == "text/x.enum":
        return _ENUM
    schema = _schema(config)
    if isinstance(schema, dict):
        return _BY_SCHEMA.times(_instance_tokens(schema, _SCHEMA_DEPTH_MAX))
    return _ANSWER.times(traits.output_tokens)


def _thoughts(config: Json, traits: Traits) -> Guess:
    if not traits.thinks:
        return NOTHING
    usual = _THOUGHTS.times(traits.output_tokens)
    thinking = _member(config, "thinkingConfig")
    if not isinstance(thinking, dict):
        return usual
    if str(_member(thinking, "thinkingLevel")).lower() in {"low", "minimal"}:
        return _LITTLE_THOUGHT
    budget = _whole(_member(thinking, "thinkingBudget"))
    return usual if budget is None or budget < 0 else usual.at_most(budget)


def _schema(config: Json) -> object:
    return _member(config, "responseSchema") or _member(config, "responseJsonSchema")


def _instance_tokens(schema: object, depth: int) -> float:
    """Return about how many tokens an instance of the schema has."""
    if not isinstance(schema, dict) or depth == 0:
        return _LEAF_TOKENS["string"]
    if isinstance(schema.get("enum"), list):
        return 3
    properties, items = schema.get("properties"), schema.get("items")
    if isinstance(properties, dict):
        # Its name, quotes and colon, beside the value.
        inner = (
            len(name) / _CHARACTERS_PER_TOKEN + 2 + _instance_tokens(value, depth - 1)
            for name, value in properties.items()
        )
        return _bounded(inner)
    if items is not None:
        return _bounded([_item_count(schema) * _instance_tokens(items, depth - 1)])
    return _LEAF_TOKENS.get(str(schema.get("type")).lower(), _LEAF_TOKENS["string"])


def _bounded(parts: Iterable[float]) -> float:
    return min(sum(parts) + 2, _SCHEMA_TOKENS_MAX)


def _item_count(schema: Json) -> int:
    least = _whole(_member(schema, "minItems")) or 0
    most = _whole(_member(schema, "maxItems"))
    usual = max(_ITEMS, least)
    return usual if most is None else min(usual, most)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


_SNAKE: Final = {
    name: "".join("_" + letter.lower() if letter.isupper() else letter for letter in name)
    for name in (
        *("generationConfig", "systemInstruction", "mediaResolution", "inlineData", "fileData"),
        *("mimeType", "candidateCount", "maxOutputTokens", "imageConfig", "imageSize", "minItems"),
        *("responseMimeType", "responseSchema", "responseJsonSchema", "thinkingConfig", "maxItems"),
        *("thinkingLevel", "thinkingBudget"),
    )
}


def _member(value: object, camel: str) -> Any:  # noqa: ANN401  # whatever the caller wrote
    """Return a member under either spelling; None if there is neither."""
    if not isinstance(value, dict):
        return None
    found = value.get(camel)
    return value.get(_SNAKE[camel]) if found is None else found


def _whole(value: object) -> int | None:
    """Return a whole number; the provider takes them as text, too."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 12:  # noqa: PLR2004
        return int(value)
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and isinstance(value, int) else None
