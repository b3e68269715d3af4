from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.limits import Limits
from penstock.core.line import TOKENS_MAX, Usage
from penstock.core.models import (
    DEFAULT_MODEL,
    PROMPT_TOKENS_LONG,
    SEED_CATALOGUE,
    Model,
    Price,
    at_location,
    cost_pico_dollars,
)
from penstock.core.money import micro_from_pico
from penstock.core.quotas import day_of

FLASH = SEED_CATALOGUE["gemini-3-flash-preview"].price or Price(input=0, output=0)
PRO = SEED_CATALOGUE["gemini-3-pro-preview"].price or Price(input=0, output=0)
IMAGE = SEED_CATALOGUE["gemini-3-pro-image-preview"].price or Price(input=0, output=0)
MILLION = 1_000_000
DOLLAR = 10**12
COUNT = st.integers(min_value=0, max_value=2**40)


def test_text_costs_input_and_output() -> None:
    """A million tokens each way cost 0.25 and 1.50 dollars with Flash."""
    usage = Usage(prompt_tokens=100_000, candidates_tokens=MILLION)
    assert cost_pico_dollars(FLASH, usage) == DOLLAR * 25 // 1000 + DOLLAR * 3 // 2


def test_the_largest_bill_fits_the_ledger() -> None:
    """Whatever rows claim: the longest job with all counts of all lines at their bound fits."""
    usage = Usage(**dict.fromkeys(Usage.__struct_fields__, TOKENS_MAX))
    for price in (FLASH, PRO, IMAGE):
        pico_dollars = cost_pico_dollars(price, usage) * Limits().job_lines_max
        assert micro_from_pico(pico_dollars) < 2**63


def test_thinking_is_charged_as_output() -> None:
    """Thoughts stand beside the candidates and cost the same."""
    assert cost_pico_dollars(FLASH, Usage(thoughts_tokens=7)) == 7 * FLASH.output


def test_tool_prompts_are_charged_as_input() -> None:
    """Tokens of tool results are input."""
    assert cost_pico_dollars(FLASH, Usage(tool_prompt_tokens=5)) == 5 * FLASH.input


def test_images_have_their_own_price() -> None:
    """1,120 image tokens cost 6.72 cents; the text beside them costs the text price."""
    usage = Usage(candidates_tokens=1_220, image_tokens=1_120)
    assert cost_pico_dollars(IMAGE, usage) == 1_120 * 60_000_000 + 100 * 6_000_000


def test_audio_has_its_own_price() -> None:
    """Audio tokens are part of the prompt and cost twice the text price with Flash."""
    usage = Usage(prompt_tokens=10, audio_prompt_tokens=4)
    assert cost_pico_dollars(FLASH, usage) == 4 * 500_000 + 6 * 250_000


def test_cached_tokens_are_not_charged_twice() -> None:
    """Cached tokens are part of the prompt and replace its price."""
    usage = Usage(prompt_tokens=10, cached_tokens=4)
    assert cost_pico_dollars(FLASH, usage) == 4 * 50_000 + 6 * 250_000


def test_an_unknown_cached_price_is_the_input_price() -> None:
    """Without a known discount none is given."""
    price = Price(input=10, output=20)
    assert cost_pico_dollars(price, Usage(prompt_tokens=10, cached_tokens=4)) == 100


@pytest.mark.parametrize(("prompt", "each"), [(PROMPT_TOKENS_LONG, 0), (PROMPT_TOKENS_LONG + 1, 1)])
def test_a_long_prompt_changes_every_price(prompt: int, each: int) -> None:
    """Above 200,000 tokens, not at it, the whole request costs the long-context price."""
    usage = Usage(prompt_tokens=prompt, cached_tokens=10, candidates_tokens=10)
    rates = ((1_000_000, 200_000, 6_000_000), (2_000_000, 400_000, 9_000_000))[each]
    expected = (prompt - 10) * rates[0] + 10 * rates[1] + 10 * rates[2]
    assert cost_pico_dollars(PRO, usage) == expected


def test_a_model_without_long_prices_keeps_its_own() -> None:
    """Flash costs the same at any length."""
    usage = Usage(prompt_tokens=300_000)
    assert cost_pico_dollars(FLASH, usage) == 300_000 * FLASH.input


@settings(deadline=None, max_examples=300)
@given(st.builds(Usage, **dict.fromkeys(Usage.__struct_fields__, COUNT)))
def test_no_usage_costs_less_than_nothing(usage: Usage) -> None:
    """Counts that contradict each other still give a cost of zero or more."""
    assert all(cost_pico_dollars(price, usage) >= 0 for price in (FLASH, PRO, IMAGE))


def test_the_default_model_is_in_the_catalogue() -> None:
    """A submission without a model finds one."""
    assert DEFAULT_MODEL in SEED_CATALOGUE


@pytest.mark.parametrize("model_id", sorted(SEED_CATALOGUE))
def test_seed_models_are_complete(model_id: str) -> None:
    """Every model of the guide is known by its id, has a price and runs at `global`."""
    model = SEED_CATALOGUE[model_id]
    assert model.id == model_id
    assert model.price is not None
    assert model.location == "global"


def test_a_misspelt_price_is_refused() -> None:
    """A price with an unknown member is an error and not a free model."""
    with pytest.raises(msgspec.ValidationError, match="inptu"):
        msgspec.convert({"inptu": 1, "input": 1, "output": 1}, Price)


PRICES = """
    gemini-3-flash-preview 0.50 0.05 3.00 - 0.25 1.50 -
    gemini-3-pro-preview 2.00 0.20 12.00 - 1.00 6.00 -
    gemini-3.1-pro-preview 2.00 0.20 12.00 - 1.00 6.00 -
    gemini-3-pro-image-preview 2.00 0.20 12.00 120 1.00 6.00 60
    gemini-3.1-flash-image 0.50 0.05 3.00 60 0.25 1.50 30
    gemini-3.1-flash-lite 0.25 0.025 1.50 - 0.125 0.75 -
    gemini-3.1-flash-lite-image 0.25 0.025 1.50 30 0.125 0.75 15
    gemini-3.5-flash 1.50 0.15 9.00 - 0.75 4.50 -
    gemini-3.5-flash-lite 0.30 0.03 2.50 - 0.15 1.25 -
    gemini-3.6-flash 0.75 0.075 3.75 - 0.375 1.875 -
    gemini-3.7-flash 0.75 0.075 3.75 - 0.375 1.875 -
    gemini-3.8-flash 0.75 0.075 3.75 - 0.375 1.875 -
"""
"""Dollars a million tokens: input, cached, output and images, then what a batch costs of them."""

TODAY, NEW_YEAR = day_of(1_795_392_000), day_of(1_798_761_600)
"""2026-11-23 and 2027-01-01."""


def micro(dollars: str) -> int | None:
    """Micro-dollars of a number of the table."""
    return None if dollars == "-" else round(Decimal(dollars) * 1_000_000)


@pytest.mark.parametrize("row", PRICES.strip().splitlines(), ids=lambda row: row.split()[0])
def test_prices_are_those_of_the_table(row: str) -> None:
    """Every model has the batch price that was read, and the online price beside it."""
    model_id, *dollars = row.split()
    amounts = [micro(each) for each in dollars]
    price = SEED_CATALOGUE[model_id].price_on(TODAY)
    assert price is not None
    online = price.online
    assert online is not None
    assert [online.input, online.cached, online.output, online.image_output] == amounts[:4]
    assert [price.input, price.output, price.image_output] == amounts[4:]
    assert price.cached == amounts[1]


def test_every_model_of_the_catalogue_stands_in_the_table() -> None:
    """No price is untested, and the three models of the guide are offered first."""
    assert {row.split()[0] for row in PRICES.strip().splitlines()} == set(SEED_CATALOGUE)
    assert list(SEED_CATALOGUE)[:3] == [
        "gemini-3-flash-preview",
        "gemini-3-pro-preview",
        "gemini-3-pro-image-preview",
    ]


@pytest.mark.parametrize("model_id", ["gemini-3.6-flash", "gemini-3.7-flash", "gemini-3.8-flash"])
def test_a_price_changes_on_its_day(model_id: str) -> None:
    """Jobs of 2027-01-01 pay the new price, those of the day before the old one."""
    model = SEED_CATALOGUE[model_id]
    before, after = model.price_on(NEW_YEAR - 1), model.price_on(NEW_YEAR)
    assert before is not None
    assert after is not None
    assert before.online is not None
    assert after.online is not None
    assert (before.input, before.output, before.online.output) == (375_000, 1_875_000, 3_750_000)
    assert (after.input, after.output, after.online.output) == (750_000, 3_750_000, 7_500_000)
    assert model.price_on(NEW_YEAR + 400) == after


def test_other_locations_cost_more_where_the_provider_says_so() -> None:
    """Ten per cent, on every amount and every day; once, and not at `global`."""
    model = SEED_CATALOGUE["gemini-3.6-flash"]
    assert at_location(model, "global") == model
    there = at_location(model, "us-central1")
    before, after = there.price_on(TODAY), there.price_on(NEW_YEAR)
    assert before is not None
    assert after is not None
    assert before.online is not None
    assert (before.input, before.cached, before.output) == (412_500, 82_500, 2_062_500)
    assert (before.audio_input, before.online.input, after.input) == (None, 825_000, 825_000)
    assert at_location(there, "us-central1") == there
    pro = SEED_CATALOGUE["gemini-3-pro-preview"]
    assert at_location(pro, "us-central1") == pro
    unknown = Model(id="x", regional_percent=110)
    assert at_location(unknown, "us-central1") == unknown
    assert unknown.price_on(TODAY) is None
