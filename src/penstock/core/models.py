"""The one catalogue of models: what they can do, where they run, what a batch token costs.

Prices are those of Vertex AI's price page as read by two independent tables on 2026-10-14
(reference/wire.md 1.12). A settings file can add, replace and alias models without a release.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from penstock.core.line import Usage

REQUEST_QUEUE_MODEL: Final = "Gemini-batch-inference"
"""The outer model of the request-queue API; compared without regard to case."""

DEFAULT_MODEL: Final = "gemini-3-flash-preview"

PROMPT_TOKENS_LONG: Final = 200_000
"""Above this many prompt tokens the whole request is charged at the long-context price."""


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Micro-dollars per million tokens in batch, thinking tokens counted as output.

    Cached input has its own price only where it is known for batch; it replaces the input price.
    """

    input: int
    output: int
    cached: int | None = None
    audio_input: int | None = None
    image_output: int | None = None
    long_input: int | None = None
    long_cached: int | None = None
    long_output: int | None = None
    source: str = "Vertex AI price page"
    as_of: str = "2026-10-14"


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One Gemini model that batches can use."""

    id: str
    description: str = ""
    """One line for people."""
    best_for: str = ""
    """What to use it for."""
    location: str = "global"
    """Gemini 3.x batches run only at `global`; a regional create is refused by Vertex."""
    images: bool = False
    """Whether it generates images."""
    price: Price | None = None
    """None means unknown, which is said and never counted as zero."""
    provider_model: str | None = None
    """What is sent instead of `id`, for example the successor of a preview that was shut down."""


_SEED_MODELS: Final = (
    Model(
        id="gemini-3-flash-preview",
        description="Fast, efficient Gemini 3 Flash",
        best_for="High-volume, simple tasks",
        price=Price(input=250_000, audio_input=500_000, cached=50_000, output=1_500_000),
    ),
    Model(
        id="gemini-3-pro-preview",
        # Shut down on 2026-03-09; Vertex names this successor, at the same price.
        provider_model="gemini-3.1-pro-preview",
        description="Most capable Gemini 3 Pro",
        best_for="Complex reasoning tasks",
        price=Price(
            input=1_000_000,
            cached=200_000,
            output=6_000_000,
            long_input=2_000_000,
            long_cached=400_000,
            long_output=9_000_000,
        ),
    ),
    Model(
        id="gemini-3-pro-image-preview",
        # The preview ended on 2026-06-25 when this model became generally available.
        provider_model="gemini-3-pro-image",
        description="Gemini 3 Pro with image generation",
        best_for="Batch image generation",
        images=True,
        price=Price(input=1_000_000, cached=200_000, output=6_000_000, image_output=60_000_000),
    ),
)

SEED_CATALOGUE: Final[Mapping[str, Model]] = {model.id: model for model in _SEED_MODELS}


def cost_pico_dollars(price: Price, usage: Usage) -> int:
    """Return the exact cost of one answered line in pico-dollars.

    `usage` counts tokens as Gemini's `usageMetadata` does: cached tokens are part of the prompt,
    image tokens part of the candidates, thoughts are beside the candidates.
    """
    is_long = usage.prompt_tokens > PROMPT_TOKENS_LONG
    special = usage.cached_tokens or usage.audio_prompt_tokens or usage.image_tokens
    if not (special or is_long):
        # Nearly every line; the rest of this function gives the same, eight times slower.
        text = usage.candidates_tokens + usage.thoughts_tokens
        return (usage.prompt_tokens + usage.tool_prompt_tokens) * price.input + text * price.output
    per_input = (price.long_input if is_long else None) or price.input
    per_output = (price.long_output if is_long else None) or price.output
    per_cached = (price.long_cached if is_long else None) or price.cached or per_input
    per_audio = price.audio_input or per_input
    per_image = price.image_output or per_output

    cached = min(usage.cached_tokens, usage.prompt_tokens)
    audio = min(usage.audio_prompt_tokens, usage.prompt_tokens - cached)
    plain = usage.prompt_tokens - cached - audio + usage.tool_prompt_tokens
    images = min(usage.image_tokens, usage.candidates_tokens)
    text = usage.candidates_tokens - images + usage.thoughts_tokens
    return (
        plain * per_input
        + cached * per_cached
        + audio * per_audio
        + text * per_output
        + images * per_image
    )
