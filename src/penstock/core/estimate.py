"""What a job is expected to cost before it runs.

Two things are not known: how many tokens the lines have, and how many their answers will. The first
is counted in a sample of the lines. The second is guessed from what the requests say, and then
corrected by what earlier jobs of the organisation with this model did get: how far the guesses for
them were off, and how much that differs from job to job.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from penstock.core.line import Usage
from penstock.core.models import PROMPT_TOKENS_LONG, Price, cost_pico_dollars
from penstock.core.money import micro_from_pico
from penstock.core.tokens import Guess, LineGuess

SAMPLE_LINES_MAX: Final = 500
"""Lines of a job that are looked at; a submission waits for them, a hundred in two milliseconds."""

HISTORY_JOBS_MAX: Final = 20
"""Earlier jobs that an estimate rests on."""


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A number that is not known yet; nine jobs in ten end between `low` and `high`."""

    low: int
    expected: int
    high: int


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens and cost of a job, before anything is spent."""

    lines: int
    """That are paid: identical ones count once."""
    prompt_tokens: Span
    output_tokens: Span
    micro_dollars: Span | None = None
    """None where the model's price is not known."""
    online_micro_dollars: int | None = None
    """What is expected of the same without a batch; None where that price is not known."""
    sampled_lines: int = 0
    """How many were looked at."""
    history_jobs: int = 0
    """How many earlier jobs it rests on."""
    plain_prompt_tokens: int = 0
    """What was expected before earlier jobs corrected it, so that this job can correct others."""
    plain_output_tokens: int = 0
    basis: str = ""
    """What it rests on, in words for people."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Some of a job's lines, spread evenly over it."""

    line_count: int
    """Of the job."""
    input_bytes: int
    guesses: tuple[LineGuess, ...]
    sizes_bytes: tuple[int, ...]
    """Of the same lines."""
    digests: tuple[bytes, ...]
    """Of the same lines' requests: equal where the requests are."""


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """How an earlier job of the model ended, beside what was expected of it; tokens a line."""

    prompt_tokens: float
    output_tokens: float
    plain_prompt_tokens: float
    plain_output_tokens: float


class _Total(NamedTuple):
    """A sum over all lines, and by how much the sample may be off."""

    guess: Guess
    error: float
    """Standard error over the expected sum."""
    few: float = 1.0
    many: float = 1.0
    """Factors for fewer and more lines that differ."""


class _Belief(NamedTuple):
    """How far plain guesses are off: the logarithms of factors."""

    middle: float
    reach: float
    """From the middle to where nine in ten are, on either side."""


_Beliefs = tuple[_Belief | None, _Belief | None]
"""Of prompts and of answers."""

_Z: Final = 1.645
"""Nine in ten of a normal distribution are within so many standard deviations."""

_PRIOR_JOBS: Final = 2.0
"""How many jobs the spreads below are worth, against those that were seen."""
_PROMPT_SPREAD: Final = 0.1
_OUTPUT_SPREAD: Final = 0.3
"""How much such factors differ between jobs of one organisation, as a standard deviation of their
logarithms, before any are seen."""
_LINE_SPREAD: Final = 0.6
"""The same for the answers to the lines of one job: what matters for small ones."""
_LIKENESS: Final = 0.7
"""How far apart two jobs are, in the logarithm of tokens a line, that say little of each other."""
_LOG_MAX: Final = math.log(1_000)
"""No guess is believed to be off by more."""
_UNLIKE_SPREAD: Final = 0.8
"""What is added where none of the earlier jobs is like this one."""


def estimate(
    sample: Sample, price: Price | None, past: Sequence[Past], *, deduplicate: bool
) -> Estimate:
    """Return what a job is expected to have, get and cost."""
    paid = _paid(sample) if deduplicate else Guess(*(sample.line_count,) * 3)
    lines = max(1.0, paid.expected)
    sampled = _first_of_their_like(sample) if deduplicate else sample
    prompt = _total(sampled, paid, lambda one: one.prompt)
    output = _total(sampled, paid, lambda one: one.output.plus(one.images))
    on_prompt = _belief(
        [(one.prompt_tokens, one.plain_prompt_tokens) for one in past],
        prompt.guess.expected / lines,
        _PROMPT_SPREAD,
        lines,
    )
    on_output = _belief(
        [(one.output_tokens, one.plain_output_tokens) for one in past],
        output.guess.expected / lines,
        _OUTPUT_SPREAD,
        lines,
    )
    beliefs = (on_prompt, on_output)
    online = None if price is None or price.online is None else price.online
    if _is_plain(sampled):
        # Then the cost is the tokens times a price; line by line it takes twenty times as long.
        cost = None if price is None else _plain_cost(prompt, output, price, beliefs)
        dear = None if online is None else _plain_cost(prompt, output, online, beliefs)
    else:
        cost = None if price is None else _cost(sampled, paid, price, beliefs)
        dear = None if online is None else _cost(sampled, paid, online, beliefs)
    return Estimate(
        lines=round(paid.expected),
        prompt_tokens=_span(_believed(prompt, on_prompt)),
        output_tokens=_span(_believed(output, on_output)),
        micro_dollars=cost,
        online_micro_dollars=None if dear is None else dear.expected,
        sampled_lines=len(sample.guesses),
        history_jobs=len(past),
        plain_prompt_tokens=round(prompt.guess.expected),
        plain_output_tokens=round(output.guess.expected),
        basis=_basis(sample, len(past), is_priced=price is not None),
    )


def _paid(sample: Sample) -> Guess:
    """Return how many lines differ; beyond the sample that is a guess (Chao's, of species)."""
    seen = Counter(sample.digests)
    distinct, looked = len(seen), len(sample.digests)
    if looked in {0, sample.line_count}:
        return Guess(distinct, distinct, distinct)
    if distinct == looked:
        # Nothing speaks for a second one of any.
        return Guess(sample.line_count * 0.9, sample.line_count, sample.line_count)
    once = sum(1 for times in seen.values() if times == 1)
    twice = sum(1 for times in seen.values() if times == 2)  # noqa: PLR2004
    guessed = distinct + once * (once - 1) / (2 * (twice + 1))
    expected = min(guessed, sample.line_count)
    # Few that were seen once mean that nearly all were seen.
    most = min(sample.line_count, expected * (1 + once / looked))
    return Guess(max(distinct, expected * 0.7), expected, max(expected, most))


def _first_of_their_like(sample: Sample) -> Sample:
    """Return the sample without lines that another one's answer serves."""
    first = {digest: place for place, digest in reversed(list(enumerate(sample.digests)))}
    places = sorted(first.values())
    return msgspec.structs.replace(
        sample,
        guesses=tuple(sample.guesses[place] for place in places),
        sizes_bytes=tuple(sample.sizes_bytes[place] for place in places),
    )


def _total(sample: Sample, paid: Guess, of: Callable[[LineGuess], Guess]) -> _Total:
    """Return the sum over the lines that are paid, from the sampled ones.

    By the mean line, or in proportion to the bytes, whichever is nearer to the sample.
    """
    guesses = [of(one) for one in sample.guesses]
    count = len(guesses)
    if count == 0:
        return _Total(Guess(0, 0, 0), 0)
    sums = Guess(*(sum(column) for column in zip(*guesses, strict=True)))
    share = 1 - min(1.0, count / max(1.0, paid.expected))
    mean = sums.expected / count
    sizes_sum = sum(sample.sizes_bytes)
    by_mean = _deviation([one.expected - mean for one in guesses])
    rate = sums.expected / max(1, sizes_sum)
    by_size = _deviation(
        [one.expected - rate * size for one, size in zip(guesses, sample.sizes_bytes, strict=True)]
    )
    factor = paid.expected / count
    if by_size < by_mean and share > 0:
        paid_share = paid.expected / max(1, sample.line_count)
        factor = sample.input_bytes * paid_share / max(1, sizes_sum)
    error = min(by_mean, by_size) / max(1e-9, mean) / math.sqrt(count) * math.sqrt(share)
    few, many = (each / max(1.0, paid.expected) for each in (paid.low, paid.high))
    return _Total(sums.times(factor), error, few, many)


def _deviation(differences: Sequence[float]) -> float:
    if len(differences) < 2:  # noqa: PLR2004
        return 0.0
    return math.sqrt(sum(one * one for one in differences) / (len(differences) - 1))


def _belief(
    past: Sequence[tuple[float, float]], per_line: float, spread: float, lines: float
) -> _Belief | None:
    """Return how far the plain guess is off, going by earlier jobs; None if nobody knows.

    Jobs whose lines are like these weigh more. The spread is what they show, mixed with what is
    usual, so that two that happen to agree do not make a narrow range.
    """
    known = [(actual, plain) for actual, plain in past if actual > 0 and plain > 0]
    if not known or per_line <= 0:
        return None
    logs = [_within(math.log(actual / plain)) for actual, plain in known]
    weights = [_weight(plain, per_line) for _, plain in known]
    total = sum(weights)
    middle = sum(w * log for w, log in zip(weights, logs, strict=True)) / total
    seen = sum(w * (log - middle) ** 2 for w, log in zip(weights, logs, strict=True))
    count = total * total / sum(w * w for w in weights)
    freedom = _PRIOR_JOBS + count - 1
    variance = (_PRIOR_JOBS * spread**2 + seen / total * count) / freedom
    likeness = min(1.0, total)
    deviation = math.sqrt(
        variance * (1 + 1 / count)
        + (_LINE_SPREAD * spread / _OUTPUT_SPREAD) ** 2 / lines
        + _UNLIKE_SPREAD**2 * (1 - likeness)
    )
    return _Belief(middle * total / (total + 0.1), _quantile(freedom) * deviation)


def _within(log: float) -> float:
    return max(-_LOG_MAX, min(_LOG_MAX, log))


def _weight(plain: float, per_line: float) -> float:
    distance = math.log(plain / per_line) / _LIKENESS
    return math.exp(-min(distance * distance / 2, 12))


def _quantile(freedom: float) -> float:
    """Return Student's 95 % quantile (Cornish-Fisher)."""
    first = (_Z**3 + _Z) / (4 * freedom)
    second = (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / (96 * freedom**2)
    return _Z + first + second


def _believed(total: _Total, belief: _Belief | None) -> Guess:
    """Return the sum with what earlier jobs say of it, and with the sample's own error."""
    low, expected, high = total.guess
    if belief is not None:
        expected *= math.exp(belief.middle)
        low = expected * math.exp(-belief.reach)
        high = expected * math.exp(belief.reach)
    error = _Z * total.error
    return Guess(low * total.few * max(0.0, 1 - error), expected, high * total.many * (1 + error))


def _ratio(one: float, other: float) -> float:
    return one / other if other > 0 else 1.0


def _is_plain(sample: Sample) -> bool:
    """Tell that no line has tokens with a price of their own."""
    return all(
        not one.audio and not one.images.high and one.prompt.high <= PROMPT_TOKENS_LONG
        for one in sample.guesses
    )


def _plain_cost(prompt: _Total, output: _Total, price: Price, beliefs: _Beliefs) -> Span:
    """Return the cost of tokens that all have the same price."""
    return _sum(
        _believed(prompt, beliefs[0]).times(price.input),
        _believed(output, beliefs[1]).times(price.output),
    )


def _cost(sample: Sample, paid: Guess, price: Price, beliefs: _Beliefs) -> Span:
    """Return the cost, line by line."""

    def of_prompt(one: LineGuess) -> Guess:
        return Guess(*(float(_prompt_pico(price, each, one)) for each in one.prompt))

    def of_output(one: LineGuess) -> Guess:
        both = zip(one.output, one.images, strict=True)
        return Guess(*(float(_output_pico(price, *each, one)) for each in both))

    return _sum(
        _believed(_total(sample, paid, of_prompt), beliefs[0]),
        _believed(_total(sample, paid, of_output), beliefs[1]),
    )


def _sum(prompt: Guess, output: Guess) -> Span:
    """Return the cost in micro-dollars of both in pico-dollars: each errs in its own direction."""
    expected = prompt.expected + output.expected
    below = math.hypot(prompt.expected - prompt.low, output.expected - output.low)
    above = math.hypot(prompt.high - prompt.expected, output.high - output.expected)
    return Span(
        low=micro_from_pico(round(max(0.0, expected - below))),
        expected=micro_from_pico(round(expected)),
        high=micro_from_pico(round(expected + above)),
    )


def _prompt_pico(price: Price, tokens: float, one: LineGuess) -> int:
    audio = round(one.audio * _ratio(tokens, one.prompt.expected))
    return cost_pico_dollars(
        price, Usage(prompt_tokens=round(tokens), audio_prompt_tokens=min(audio, round(tokens)))
    )


def _output_pico(price: Price, text: float, images: float, one: LineGuess) -> int:
    # A long prompt makes the answer dearer, too.
    prompt = Usage(prompt_tokens=round(one.prompt.expected))
    usage = msgspec.structs.replace(
        prompt, candidates_tokens=round(text + images), image_tokens=round(images)
    )
    return cost_pico_dollars(price, usage) - cost_pico_dollars(price, prompt)


def _span(guess: Guess) -> Span:
    low, expected, high = (round(max(0.0, each)) for each in guess)
    return Span(low=min(low, expected), expected=expected, high=max(high, expected))


def _basis(sample: Sample, jobs: int, *, is_priced: bool) -> str:
    looked = f"{len(sample.guesses):,} of {sample.line_count:,} lines were looked at"
    if jobs:
        answers = f"{jobs} earlier job{'s' if jobs > 1 else ''} of yours with this model"
    else:
        answers = "what the requests say, since no job of yours with this model has ended yet"
    text = f"{looked}; the length of the answers is guessed from {answers}."
    return text if is_priced else f"{text} The price of this model is not known."
