"""bill: the cost of rounds is a sum, and what is not known is never taken for nothing."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.bill import Bill, Share, Spent, added, spent_of

MONEY = st.none() | st.integers(0, 10**9)
SHARES = st.builds(
    Share,
    lines=st.integers(0, 9),
    prompt_tokens=st.integers(0, 9),
    output_tokens=st.integers(0, 9),
    micro_dollars=MONEY,
)
BILLS = st.builds(
    Bill,
    by_outcome=st.dictionaries(st.sampled_from(["ok", "truncated", "blocked"]), SHARES),
    micro_dollars=MONEY,
    online_micro_dollars=MONEY,
    twin_micro_dollars=MONEY,
)


@given(BILLS, BILLS)
def test_two_rounds_cost_the_sum_of_both(one: Bill, other: Bill) -> None:
    """Each amount by itself, in any order; unknown and known is unknown."""
    both = added(one, other)
    assert both == added(other, one)
    for name in ("micro_dollars", "online_micro_dollars", "twin_micro_dollars"):
        amounts = getattr(one, name), getattr(other, name)
        assert getattr(both, name) == (None if None in amounts else sum(amounts))
    for outcome, share in both.by_outcome.items():
        known = [bill.by_outcome[outcome] for bill in (one, other) if outcome in bill.by_outcome]
        assert share.lines == sum(each.lines for each in known)
        assert share.output_tokens == sum(each.output_tokens for each in known)
        assert (share.micro_dollars is None) == any(each.micro_dollars is None for each in known)


@given(BILLS)
def test_the_first_round_is_all_there_is(bill: Bill) -> None:
    """Nothing before is not the same as an unknown cost before."""
    assert added(None, bill) == bill


def test_what_was_spent_is_the_bill_of_a_round() -> None:
    """Lines and tokens of all shares, and the money as it was rounded."""
    shares = {
        "ok": Share(lines=2, prompt_tokens=3, output_tokens=5, micro_dollars=7),
        "blocked": Share(lines=1, prompt_tokens=1, output_tokens=0, micro_dollars=1),
    }
    bill = Bill(by_outcome=shares, micro_dollars=9)
    assert spent_of(bill) == Spent(lines=3, prompt_tokens=4, output_tokens=5, micro_dollars=9)
