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
    Price,
    cost_pico_dollars,
)
from penstock.core.money import micro_from_pico

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
