"""totals: sums that can be taken back, and made in several processes."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.job import Counts
from penstock.core.line import Judgement, LineOutcome, Usage
from penstock.core.models import SEED_CATALOGUE
from penstock.lifecycle.totals import Sums, Totals

PRICE = SEED_CATALOGUE["gemini-3-flash-preview"].price
TOKENS = st.integers(0, 10**6)
JUDGEMENTS = st.builds(
    Judgement,
    outcome=st.sampled_from(LineOutcome),
    usage=st.builds(Usage, prompt_tokens=TOKENS, candidates_tokens=TOKENS, cached_tokens=TOKENS),
)


@given(st.lists(st.tuples(JUDGEMENTS, st.integers(0, 1), st.booleans())))
def test_sums_of_parts_are_the_sum(lines: list[tuple[Judgement, int, bool]]) -> None:
    """Whoever counts a line, and whatever is taken back in between, the totals are the same."""
    parts, whole = (Totals(PRICE), Totals(PRICE)), Totals(PRICE)
    for judgement, part, kept in lines:
        parts[part].add(judgement)
        if kept:
            whole.add(judgement)
        else:
            parts[1 - part].add(judgement, -1)
    joined = Totals(PRICE)
    for part_totals in parts:
        sent = msgspec.json.encode(part_totals.sums)
        joined.join(msgspec.json.decode(sent, type=Sums))
    assert joined.counts() == whole.counts()
    assert joined.micro_dollars() == whole.micro_dollars()


def test_an_unknown_price_gives_no_cost() -> None:
    """Tokens are counted without a price, and the cost is unknown, not zero."""
    totals = Totals(None)
    totals.add(Judgement(outcome=LineOutcome.OK, usage=Usage(prompt_tokens=3)))
    assert (totals.counts(), totals.micro_dollars()) == (Counts(ok=1, prompt_tokens=3), None)
