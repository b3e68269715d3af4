"""totals: sums that can be taken back, and made in several processes."""

from collections.abc import Callable

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.bill import Bill, Share
from penstock.core.job import Counts, Job
from penstock.core.line import Judgement, LineOutcome, Usage
from penstock.core.models import PROMPT_TOKENS_LONG, SEED_CATALOGUE, Price, cost_pico_dollars
from penstock.core.money import micro_from_pico
from penstock.lifecycle.totals import BILLED, Sums, Totals, bill_of_rounds

PRICE = SEED_CATALOGUE["gemini-3-flash-preview"].price
TOKENS = st.integers(0, 10**6)
JUDGEMENTS = st.builds(
    Judgement,
    outcome=st.sampled_from(LineOutcome),
    usage=st.builds(Usage, prompt_tokens=TOKENS, candidates_tokens=TOKENS, cached_tokens=TOKENS),
)
ONLINE = Price(input=7, output=11, cached=3, audio_input=13, image_output=17, long_input=19)
BATCH = Price(input=5, output=9, cached=2, audio_input=8, long_output=14, online=ONLINE)
FEW = st.sampled_from([0, 0, 0, 1, 1_000])
USAGES = st.builds(
    Usage,
    prompt_tokens=st.one_of(TOKENS, st.just(PROMPT_TOKENS_LONG)),
    candidates_tokens=TOKENS,
    thoughts_tokens=FEW,
    cached_tokens=FEW,
    tool_prompt_tokens=FEW,
    audio_prompt_tokens=FEW,
    image_tokens=FEW,
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
    assert joined.tokens() == whole.tokens()
    assert (joined.bill(), joined.spent()) == (whole.bill(), whole.spent())


@given(
    st.lists(st.tuples(st.sampled_from(BILLED), USAGES), max_size=12),
    st.lists(USAGES, max_size=4),
)
def test_each_line_costs_what_its_tokens_do(
    lines: list[tuple[LineOutcome, Usage]], twins: list[Usage]
) -> None:
    """However they are added up: by outcome, in all, online and for twins, rounded once each."""
    totals = Totals(BATCH)
    for outcome, usage in lines:
        totals.add(Judgement(outcome=outcome, usage=usage))
    for usage in twins:
        totals.add_twin(usage)

    def cost(price: Price, some: list[Usage]) -> int:
        return micro_from_pico(sum(cost_pico_dollars(price, usage) for usage in some))

    usages = [usage for _, usage in lines]
    bill, spent = totals.bill(), totals.spent()
    assert bill.micro_dollars == spent.micro_dollars == cost(BATCH, usages)
    assert bill.online_micro_dollars == cost(ONLINE, usages)
    assert bill.twin_micro_dollars == cost(BATCH, twins)
    assert set(bill.by_outcome) == {outcome.value for outcome, _ in lines}
    for name, share in bill.by_outcome.items():
        mine = [usage for outcome, usage in lines if outcome.value == name]
        assert (share.lines, share.micro_dollars) == (len(mine), cost(BATCH, mine))
        assert share.prompt_tokens == sum(usage.prompt_tokens for usage in mine)
    assert spent.lines == len(lines)
    assert spent.output_tokens == sum(one.candidates_tokens + one.thoughts_tokens for one in usages)
    assert totals.tokens().cached_tokens == sum(usage.cached_tokens for usage in usages)


def test_lines_that_nobody_answered_are_not_billed() -> None:
    """They are no lines of the ledger and no share of the bill."""
    totals = Totals(PRICE)
    for outcome in LineOutcome:
        totals.add(Judgement(outcome=outcome))
    assert totals.spent().lines == len(BILLED)
    assert set(totals.bill().by_outcome) == {outcome.value for outcome in BILLED}


def test_the_bill_of_a_round_is_added_to_those_before(new_job: Callable[..., Job]) -> None:
    """Of the row's bill, or of its cost if it is from before there were bills, or of nothing."""
    more = Bill(by_outcome={"ok": Share(lines=1, micro_dollars=2)}, micro_dollars=2)
    assert bill_of_rounds(new_job(), more) == more
    old = new_job(counts=Counts(ok=1), cost_micro_dollars=5)
    assert bill_of_rounds(old, more).micro_dollars == 7
    twice = bill_of_rounds(new_job(counts=Counts(ok=1), bill=more), more)
    assert twice.by_outcome == {"ok": Share(lines=2, micro_dollars=4)}


def test_an_unknown_price_gives_no_cost() -> None:
    """Tokens are counted without a price, and the cost is unknown, not zero; online as well."""
    usage = Usage(prompt_tokens=3, cached_tokens=1)
    for price, cost in ((None, None), (Price(input=10**6, output=1), 3)):
        totals = Totals(price)
        totals.add(Judgement(outcome=LineOutcome.OK, usage=usage))
        assert totals.tokens() == Counts(prompt_tokens=3, cached_tokens=1)
        bill = totals.bill()
        assert (bill.micro_dollars, bill.online_micro_dollars) == (cost, None)
