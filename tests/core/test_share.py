"""share: how much of a whole one organisation may hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.share import share_of


@pytest.mark.parametrize(
    ("whole", "each", "share"),
    [
        (500, 0, 400),
        (8, 0, 7),
        (5, 0, 4),
        (2, 0, 1),
        (1, 0, 1),
        (5, 5, 5),
        (5, 9, 5),
        (5, 2, 2),
    ],
)
def test_a_share_is_what_is_set_or_four_fifths(whole: int, each: int, share: int) -> None:
    """0 leaves a fifth to the others, and a number is taken as it is, up to the whole."""
    assert share_of(whole, each) == share


@given(st.integers(1, 10_000), st.integers(0, 10_000))
def test_a_share_is_at_least_one_and_never_more_than_the_whole(whole: int, each: int) -> None:
    """Whatever is set, an organisation gets something and cannot get more than there is."""
    assert 1 <= share_of(whole, each) <= whole


@given(st.integers(2, 10_000))
def test_something_stays_free_unless_somebody_says_otherwise(whole: int) -> None:
    """Where there are two or more, the default leaves one for whoever comes next."""
    assert share_of(whole, 0) < whole
