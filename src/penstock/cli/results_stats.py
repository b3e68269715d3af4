"""`penstock results stats`: what all answers of a job are like, in figures."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from penstock.cli.command import command
from penstock.cli.connection import Server, connected
from penstock.cli.ids import job_argument, job_id
from penstock.cli.results_look import answers
from penstock.cli.results_text import symbols

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.client import JobRecord
    from penstock.client.results import Result

WORDS_MAX: Final = 50
"""Different finish reasons and codes that are told apart; a provider has about ten."""

WORD_CHARS_MAX: Final = 50

GROWTH: Final = 1.05
"""From one length to the next that is told apart: quantiles are right to a twentieth."""

_OTHER: Final = "other"
_QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class Lengths:
    """How long texts are, in a few hundred numbers however many there are."""

    def __init__(self) -> None:
        self.count = self.total = self.longest = 0
        self.shortest: int | None = None
        self._steps: Counter[int] = Counter()

    def add(self, length: int) -> None:
        """Count one text."""
        self.count += 1
        self.total += length
        self.longest = max(self.longest, length)
        self.shortest = length if self.shortest is None else min(self.shortest, length)
        self._steps[math.ceil(math.log(length, GROWTH)) if length else -1] += 1

    def summary(self) -> dict[str, int]:
        """Return the least, the mean, quantiles and the most, in characters."""
        if not self.count:
            return {}
        found = {"min": self.shortest or 0, "mean": round(self.total / self.count)}
        found |= {name: self._up_to(share) for name, share in _QUANTILES.items()}
        return {**found, "max": self.longest}

    def _up_to(self, share: float) -> int:
        left = share * self.count
        for step in sorted(self._steps):
            left -= self._steps[step]
            if left <= 0:
                return min(self.longest, 0 if step < 0 else round(GROWTH**step))
        return self.longest


class Figures:
    """What is counted of each answer."""

    def __init__(self) -> None:
        self.lines = 0
        self.outcomes: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.finish_reasons: Counter[str] = Counter()
        self.lengths = Lengths()
        self.tokens: Counter[str] = Counter()

    def add(self, result: Result[str]) -> None:
        """Count one answer."""
        self.lines += 1
        _count(self.outcomes, result.outcome)
        error = result.error
        if error is not None:
            _count(self.errors, error.code)
        if result.finish_reason is not None:
            _count(self.finish_reasons, result.finish_reason)
        if result.text:
            self.lengths.add(len(result.text))
        usage = result.usage
        self.tokens["prompt"] += usage.prompt_tokens
        self.tokens["output"] += usage.output_tokens
        self.tokens["thoughts"] += usage.thoughts_tokens
        self.tokens["cached"] += usage.cached_tokens

    def value(self, job: JobRecord) -> dict[str, Any]:
        """Return everything, for programs."""
        return {
            "request_id": job.request_id,
            "lines": self.lines,
            "outcomes": dict(self.outcomes.most_common()),
            "errors": dict(self.errors.most_common()),
            "finish_reasons": dict(self.finish_reasons.most_common()),
            "tokens": dict(self.tokens),
            "text_chars": self.lengths.summary(),
            "cost_usd": job.outcome.actual_cost_usd if job.outcome else None,
        }


@command()
@job_argument
@connected
def stats(server: Server, *, job: str) -> None:
    """Count and measure all answers of the job ID: outcomes, errors, tokens, lengths, cost.

    All of the output is read, and none of it is stored. Lengths are characters of the answers'
    texts; p50 is what half of them do not exceed, right to a twentieth.

    \b
    Examples:
      penstock results stats @last
      penstock results stats @last --json
    """  # noqa: D301  # \b is click's mark for lines that are not to be wrapped
    figures = Figures()
    with server.client() as client:
        request_id = job_id(server, client, job)
        for result in answers(client, request_id):
            figures.add(result)
        record = client.get(request_id)
    value = figures.value(record)
    server.show(value, server.sheet(_sheet(value)))


def _sheet(value: Mapping[str, Any]) -> list[str]:
    cost = value["cost_usd"]
    rows = [
        ("lines", f"{value['lines']:,}"),
        ("outcomes", _pairs(value["outcomes"])),
        ("errors", _pairs(value["errors"])),
        ("finish", _pairs(value["finish_reasons"])),
        ("tokens", _pairs(value["tokens"])),
        ("length", _pairs(value["text_chars"])),
        ("cost", f"${cost}" if cost else ""),
    ]
    return [f"{name:<9} {text}" for name, text in rows if text]


def _pairs(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{symbols(name)} {count:,}" for name, count in counts.items() if count)


def _count(counts: Counter[str], word: str) -> None:
    """Count a word that the output has; so many different ones, and then `other`."""
    word = word[:WORD_CHARS_MAX]
    counts[word if word in counts or len(counts) < WORDS_MAX else _OTHER] += 1
