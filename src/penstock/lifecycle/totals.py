"""The sums over a job's lines: what became of them, their tokens, their cost."""

from collections.abc import Mapping
from typing import Final

import msgspec

from penstock.core.bill import Bill, Share, Spent, added, spent_of
from penstock.core.job import Counts, Job
from penstock.core.line import Judgement, LineOutcome, Usage
from penstock.core.line_index import OUTCOMES
from penstock.core.models import PROMPT_TOKENS_LONG, Price, cost_pico_dollars
from penstock.core.money import micro_from_pico

_PLACES: Final = {outcome: place for place, outcome in enumerate(OUTCOMES)}

BILLED: Final = (
    LineOutcome.OK,
    LineOutcome.TRUNCATED,
    LineOutcome.BLOCKED,
    LineOutcome.EMPTY,
    LineOutcome.INVALID_OUTPUT,
)
"""How lines end that the provider answered, and that it therefore bills."""


class Sum(msgspec.Struct, kw_only=True, array_like=True):
    """Lines of one outcome, and their tokens."""

    lines: int = 0
    prompt_tokens: int = 0
    candidates_tokens: int = 0
    thoughts_tokens: int = 0
    tool_prompt_tokens: int = 0
    cached_tokens: int = 0
    pico_dollars: int = 0
    """What they cost, where that is not known from the sums."""
    online_pico_dollars: int = 0
    """The same without a batch."""

    @property
    def output_tokens(self) -> int:
        """Thoughts included."""
        return self.candidates_tokens + self.thoughts_tokens

    def add(self, other: "Sum") -> None:
        """Add other lines."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


def _sums() -> list[Sum]:
    return [Sum() for _ in range(len(OUTCOMES) + 1)]


class Sums(msgspec.Struct, kw_only=True):
    """Sums that can be sent to another process and added up there.

    In the order of `OUTCOMES`; last come the lines that were not sent because another has the same
    request, for which nobody paid.
    """

    plain: list[Sum] = msgspec.field(default_factory=_sums)
    """Of lines of which each token costs the same, so that their sums say what they cost."""
    special: list[Sum] = msgspec.field(default_factory=_sums)
    """Of the others: with cached, heard, drawn or very many tokens."""


_TWINS: Final = len(OUTCOMES)


class Totals:
    """Adds lines up; `price` is None where it is unknown, and then so is the cost."""

    def __init__(self, price: Price | None) -> None:
        self._price = price
        self._online = None if price is None else price.online
        self.sums = Sums()

    def add(self, judgement: Judgement, times: int = 1) -> None:
        """Count one line; with `times=-1`, take one back that was counted and is not delivered."""
        self._add(_PLACES[judgement.outcome], judgement.usage, times)

    def add_twin(self, usage: Usage) -> None:
        """Count a line that got the answer of another one."""
        self._add(_TWINS, usage, 1)

    def join(self, other: Sums) -> None:
        """Add the sums that somebody else made of other lines."""
        for mine, theirs in (
            *zip(self.sums.plain, other.plain, strict=True),
            *zip(self.sums.special, other.special, strict=True),
        ):
            mine.add(theirs)

    def tokens(self) -> Counts:
        """Return the tokens, and no lines."""
        plain, special = self._all()
        return Counts(
            prompt_tokens=plain.prompt_tokens + special.prompt_tokens,
            candidates_tokens=plain.candidates_tokens + special.candidates_tokens,
            thoughts_tokens=plain.thoughts_tokens + special.thoughts_tokens,
            cached_tokens=special.cached_tokens,
        )

    def spent(self) -> Spent:
        """Return what was billed."""
        return spent_of(self.bill())

    def bill(self) -> Bill:
        """Return what it did cost by what became of the lines, and what was saved."""
        plain, special = self._all()
        shares = {
            outcome.value: self._share(self.sums.plain[place], self.sums.special[place])
            for place, outcome in enumerate(OUTCOMES)
            if outcome in BILLED
        }
        return Bill(
            by_outcome={outcome: share for outcome, share in shares.items() if share.lines},
            micro_dollars=_micro(self._price, plain, special.pico_dollars),
            online_micro_dollars=_micro(self._online, plain, special.online_pico_dollars),
            twin_micro_dollars=self._share(
                self.sums.plain[_TWINS], self.sums.special[_TWINS]
            ).micro_dollars,
        )

    def _add(self, place: int, usage: Usage, times: int) -> None:
        prompt = usage.prompt_tokens
        if (
            usage.cached_tokens
            or usage.audio_prompt_tokens
            or usage.image_tokens
            or prompt > PROMPT_TOKENS_LONG
        ):
            found = self.sums.special[place]
            found.cached_tokens += times * usage.cached_tokens
            if self._price is not None:
                found.pico_dollars += times * cost_pico_dollars(self._price, usage)
            if self._online is not None:
                found.online_pico_dollars += times * cost_pico_dollars(self._online, usage)
        else:
            found = self.sums.plain[place]
            if usage.tool_prompt_tokens:
                found.tool_prompt_tokens += times * usage.tool_prompt_tokens
        found.lines += times
        found.prompt_tokens += times * prompt
        found.candidates_tokens += times * usage.candidates_tokens
        found.thoughts_tokens += times * usage.thoughts_tokens

    def _all(self) -> tuple[Sum, Sum]:
        """Return the sums over all outcomes, twins left out."""
        plain, special = Sum(), Sum()
        for found in self.sums.plain[:_TWINS]:
            plain.add(found)
        for found in self.sums.special[:_TWINS]:
            special.add(found)
        return plain, special

    def _share(self, plain: Sum, special: Sum) -> Share:
        return Share(
            lines=plain.lines + special.lines,
            prompt_tokens=plain.prompt_tokens + special.prompt_tokens,
            output_tokens=plain.output_tokens + special.output_tokens,
            micro_dollars=_micro(self._price, plain, special.pico_dollars),
        )


def _micro(price: Price | None, plain: Sum, special_pico_dollars: int) -> int | None:
    """Return a cost, rounded once; None if the price is unknown."""
    if price is None:
        return None
    prompt = plain.prompt_tokens + plain.tool_prompt_tokens
    pico = prompt * price.input + plain.output_tokens * price.output
    return micro_from_pico(pico + special_pico_dollars)


def counts_of(lines: Mapping[LineOutcome, int], *tokens: Counts) -> Counts:
    """Return the lines of an output, with the sums of tokens that were counted apart."""
    return Counts(
        **{outcome.value: lines.get(outcome, 0) for outcome in OUTCOMES},
        prompt_tokens=sum(one.prompt_tokens for one in tokens),
        candidates_tokens=sum(one.candidates_tokens for one in tokens),
        thoughts_tokens=sum(one.thoughts_tokens for one in tokens),
        cached_tokens=sum(one.cached_tokens for one in tokens),
    )


def bill_of_rounds(job: Job, more: Bill) -> Bill:
    """Return the bill of a job once the round that it is in has cost so much."""
    base = job.bill
    if base is None and job.counts is not None:
        # From before there were bills.
        base = Bill(micro_dollars=job.cost_micro_dollars)
    return added(base, more)
