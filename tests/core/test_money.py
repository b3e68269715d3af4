from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.money import PICO_PER_MICRO, micro_from_pico, usd_text


@settings(deadline=None, max_examples=300)
@given(st.lists(st.integers(min_value=0, max_value=10**15), max_size=50))
def test_a_sum_is_off_by_half_a_micro_dollar_at_most(lines: list[int]) -> None:
    """Lines are summed exactly and rounded once, however many they are."""
    error = Fraction(sum(lines), PICO_PER_MICRO) - micro_from_pico(sum(lines))
    assert abs(error) <= Fraction(1, 2)


@pytest.mark.parametrize(
    ("pico", "micro"),
    [(0, 0), (499_999, 0), (500_000, 1), (1_499_999, 1), (1_500_000, 2), (10**30, 10**24)],
)
def test_half_a_micro_dollar_rounds_up(pico: int, micro: int) -> None:
    """Halves round up, and size does not cost precision."""
    assert micro_from_pico(pico) == micro


@pytest.mark.parametrize(
    ("micro", "text"),
    [
        (0, "0.000000"),
        (1, "0.000001"),
        (13_280, "0.013280"),
        (1_000_000, "1.000000"),
        (12_345_678_901, "12345.678901"),
        (-1_500_000, "-1.500000"),
    ],
)
def test_dollars_have_six_decimals(micro: int, text: str) -> None:
    """The text is the one that `actual_cost_usd` carries."""
    assert usd_text(micro) == text


@settings(deadline=None, max_examples=200)
@given(st.integers(min_value=-(10**18), max_value=10**18))
def test_the_text_is_exact(micro: int) -> None:
    """Reading the text back gives the same amount."""
    assert Fraction(usd_text(micro)) * 1_000_000 == micro
