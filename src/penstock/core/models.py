"""The one catalogue of models: what they can do, where they run, what a batch token costs.

Prices are those of Vertex AI's price page as read by two independent tables on 2026-10-14
(reference/wire.md 1.12). A settings file can add, replace and alias models without a release.
"""

from collections.abc import Mapping
from datetime import date
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
    online: "Price | None" = None
    """What the same costs without a batch, to show what was saved; None where it is not known."""
    source: str = "Vertex AI price page"
    as_of: str = "2026-10-14"


class PriceFrom(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A price that holds from a day on, until the next one does."""

    from_day: date
    """UTC, the first one. A job costs what holds on the day on which it was submitted."""
    price: Price


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
    prices: tuple[PriceFrom, ...] = ()
    """Those that replace `price` on later days, in order."""
    regional_percent: int = 100
    """Of the price, at any location but `global`."""
    provider_model: str | None = None
    """What is sent instead of `id`, for example the successor of a preview that was shut down."""

    def price_on(self, day: int) -> Price | None:
        """Return what holds for jobs that are submitted on that day, counted since the epoch."""
        price = self.price
        for each in self.prices:
            if each.from_day.toordinal() - _EPOCH <= day:
                price = each.price
        return price


def at_location(model: Model, location: str) -> Model:
    """Return the model with the prices of where it runs."""
    percent = 100 if location == "global" else model.regional_percent
    if percent == 100 or model.price is None:  # noqa: PLR2004  # all of it
        return model
    return msgspec.structs.replace(
        model,
        price=_scaled(model.price, percent),
        prices=tuple(
            msgspec.structs.replace(each, price=_scaled(each.price, percent))
            for each in model.prices
        ),
        regional_percent=100,
    )


def _scaled(price: Price, percent: int) -> Price:
    amounts = {
        name: (getattr(price, name) * percent + 50) // 100
        for name in _AMOUNTS
        if getattr(price, name) is not None
    }
    online = None if price.online is None else _scaled(price.online, percent)
    return msgspec.structs.replace(price, **amounts, online=online)


def _halved(**online: int) -> Price:
    """Return the price of a batch from that of the same online: half, but for what is cached.

    The discount for cached input replaces the one for batches.
    """
    batch = {
        name: amount if name.endswith("cached") else amount // 2 for name, amount in online.items()
    }
    return msgspec.convert({**batch, "online": online}, Price)


_EPOCH: Final = date(1970, 1, 1).toordinal()
_AMOUNTS: Final = tuple(
    name for name in Price.__struct_fields__ if name not in {"online", "source", "as_of"}
)

_PRO: Final = _halved(
    input=2_000_000,
    cached=200_000,
    output=12_000_000,
    long_input=4_000_000,
    long_cached=400_000,
    long_output=18_000_000,
)

_FLASH: Final = Model(
    id="gemini-3.6-flash",
    description="Gemini 3.6 Flash",
    best_for="Fast tasks with tools and long inputs",
    regional_percent=110,
    price=_halved(input=750_000, cached=75_000, output=3_750_000),
    prices=(
        PriceFrom(
            from_day=date(2027, 1, 1),
            price=_halved(input=1_500_000, cached=150_000, output=7_500_000),
        ),
    ),
)

_SEED_MODELS: Final = (
    # The guide's three, in its order.
    Model(
        id="gemini-3-flash-preview",
        description="Fast, efficient Gemini 3 Flash",
        best_for="High-volume, simple tasks",
        price=_halved(input=500_000, audio_input=1_000_000, cached=50_000, output=3_000_000),
    ),
    Model(
        id="gemini-3-pro-preview",
        # Shut down on 2026-03-09; Vertex names this successor, at the same price.
        provider_model="gemini-3.1-pro-preview",
        description="Most capable Gemini 3 Pro",
        best_for="Complex reasoning tasks",
        price=_PRO,
    ),
    Model(
        id="gemini-3-pro-image-preview",
        # The preview ended on 2026-06-25 when this model became generally available.
        provider_model="gemini-3-pro-image",
        description="Gemini 3 Pro with image generation",
        best_for="Batch image generation",
        images=True,
        price=_halved(input=2_000_000, cached=200_000, output=12_000_000, image_output=120_000_000),
    ),
    # What else could be batched on Vertex AI on 2026-09-03.
    Model(
        id="gemini-3.1-pro-preview",
        description="Gemini 3.1 Pro",
        best_for="Complex reasoning tasks",
        price=_PRO,
    ),
    Model(
        id="gemini-3.1-flash-image",
        description="Gemini 3.1 Flash with image generation",
        best_for="Batch image generation at half the price of Pro",
        images=True,
        regional_percent=110,
        price=_halved(input=500_000, cached=50_000, output=3_000_000, image_output=60_000_000),
    ),
    Model(
        id="gemini-3.1-flash-lite",
        description="The cheapest of Gemini 3",
        best_for="Classification and extraction in great numbers",
        regional_percent=110,
        price=_halved(input=250_000, cached=25_000, output=1_500_000),
    ),
    Model(
        id="gemini-3.1-flash-lite-image",
        description="Gemini 3.1 Flash-Lite with image generation",
        best_for="Simple images in great numbers",
        images=True,
        # No source names a price at other locations, where the model's siblings cost more.
        price=_halved(input=250_000, cached=25_000, output=1_500_000, image_output=30_000_000),
    ),
    Model(
        id="gemini-3.5-flash",
        description="Gemini 3.5 Flash",
        best_for="Fast tasks that need more thought",
        regional_percent=110,
        price=_halved(input=1_500_000, cached=150_000, output=9_000_000),
    ),
    Model(
        id="gemini-3.5-flash-lite",
        description="Gemini 3.5 Flash-Lite",
        best_for="High-volume, simple tasks",
        regional_percent=110,
        price=_halved(input=300_000, cached=30_000, output=2_500_000),
    ),
    _FLASH,
    msgspec.structs.replace(_FLASH, id="gemini-3.7-flash", description="Gemini 3.7 Flash"),
    msgspec.structs.replace(_FLASH, id="gemini-3.8-flash", description="Gemini 3.8 Flash"),
)

SEED_CATALOGUE: Final[Mapping[str, Model]] = {model.id: model for model in _SEED_MODELS}
"""In the order in which they are offered: the three of the guide first."""


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
