"""What a job did cost, by what became of its lines; sums over all its rounds."""

from typing import Final

import msgspec


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """The lines of one outcome, as they were billed."""

    lines: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    micro_dollars: int | None = None
    """None where the model's price is not known."""


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What one round of a job was billed, for the ledger."""

    lines: int = 0
    """That the provider answered."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    micro_dollars: int | None = None


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of a job; each amount is rounded once, so the shares may differ from their sum."""

    by_outcome: dict[str, Share] = {}
    """By `LineOutcome`; a line that was answered in two rounds was paid in both."""
    micro_dollars: int | None = None
    online_micro_dollars: int | None = None
    """What the same tokens cost without a batch; None where that price is not known."""
    twin_micro_dollars: int | None = None
    """What the lines would have cost that got the answer of an identical one."""


def added(base: Bill | None, more: Bill) -> Bill:
    """Return the cost of the rounds so far and of one more; None means that there were none.

    Unknown and known is unknown: a sum that leaves something out would be a promise.
    """
    if base is None:
        return more
    return Bill(
        by_outcome={
            outcome: _together(
                base.by_outcome.get(outcome, _NOTHING), more.by_outcome.get(outcome, _NOTHING)
            )
            for outcome in {**base.by_outcome, **more.by_outcome}
        },
        micro_dollars=_sum(base.micro_dollars, more.micro_dollars),
        online_micro_dollars=_sum(base.online_micro_dollars, more.online_micro_dollars),
        twin_micro_dollars=_sum(base.twin_micro_dollars, more.twin_micro_dollars),
    )


def spent_of(bill: Bill) -> Spent:
    """Return what the bill of one round says was spent in it."""
    shares = bill.by_outcome.values()
    return Spent(
        lines=sum(share.lines for share in shares),
        prompt_tokens=sum(share.prompt_tokens for share in shares),
        output_tokens=sum(share.output_tokens for share in shares),
        micro_dollars=bill.micro_dollars,
    )


_NOTHING: Final = Share(micro_dollars=0)


def _together(one: Share, other: Share) -> Share:
    return Share(
        lines=one.lines + other.lines,
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
        micro_dollars=_sum(one.micro_dollars, other.micro_dollars),
    )


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
