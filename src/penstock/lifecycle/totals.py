"""The sums over a job's lines: what became of them, their tokens, their cost."""

from typing import Final

import msgspec

from penstock.core.job import Counts
from penstock.core.line import Judgement, LineOutcome
from penstock.core.models import Price, cost_pico_dollars
from penstock.core.money import micro_from_pico

OUTCOMES: Final = tuple(LineOutcome)
_PLACES: Final = {outcome: place for place, outcome in enumerate(OUTCOMES)}


class Sums(msgspec.Struct, kw_only=True):
    """Sums that can be sent to another process and added up there."""

    outcomes: list[int] = msgspec.field(default_factory=lambda: [0] * len(OUTCOMES))
    """How many lines, in the order of `OUTCOMES`."""
    prompt_tokens: int = 0
    candidates_tokens: int = 0
    thoughts_tokens: int = 0
    cached_tokens: int = 0
    pico_dollars: int = 0


class Totals:
    """Adds lines up; `price` is None where it is unknown, and then so is the cost."""

    def __init__(self, price: Price | None) -> None:
        self._price = price
        self.sums = Sums()

    def add(self, judgement: Judgement, times: int = 1) -> None:
        """Count one line; with `times=-1`, take one back that was counted and is not delivered."""
        sums = self.sums
        usage = judgement.usage
        sums.outcomes[_PLACES[judgement.outcome]] += times
        sums.prompt_tokens += times * usage.prompt_tokens
        sums.candidates_tokens += times * usage.candidates_tokens
        sums.thoughts_tokens += times * usage.thoughts_tokens
        sums.cached_tokens += times * usage.cached_tokens
        if self._price is not None:
            sums.pico_dollars += times * cost_pico_dollars(self._price, usage)

    def join(self, other: Sums) -> None:
        """Add the sums that somebody else made of other lines."""
        sums = self.sums
        sums.outcomes = [
            mine + theirs for mine, theirs in zip(sums.outcomes, other.outcomes, strict=True)
        ]
        sums.prompt_tokens += other.prompt_tokens
        sums.candidates_tokens += other.candidates_tokens
        sums.thoughts_tokens += other.thoughts_tokens
        sums.cached_tokens += other.cached_tokens
        sums.pico_dollars += other.pico_dollars

    def counts(self) -> Counts:
        """Return the lines and tokens."""
        sums = self.sums
        return Counts(
            prompt_tokens=sums.prompt_tokens,
            candidates_tokens=sums.candidates_tokens,
            thoughts_tokens=sums.thoughts_tokens,
            cached_tokens=sums.cached_tokens,
            **{
                outcome.value: count for outcome, count in zip(OUTCOMES, sums.outcomes, strict=True)
            },
        )

    def micro_dollars(self) -> int | None:
        """Return the cost of all lines, rounded once; None if the price is unknown."""
        return None if self._price is None else micro_from_pico(self.sums.pico_dollars)
