"""An estimate is a number with a range that says how much is known."""

import hashlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.estimate import Estimate, Past, Sample, Span, estimate
from penstock.core.models import Price
from penstock.core.tokens import NOTHING, Guess, LineGuess

ONLINE = Price(input=2_000_000, output=20_000_000)
PRICE = Price(input=1_000_000, output=10_000_000, online=ONLINE)
"""One micro-dollar a token of input, ten of output."""


def line(prompt: float = 100, output: float = 10, **more: object) -> LineGuess:
    """What is guessed of one line."""
    guess = LineGuess(
        Guess(prompt / 2, prompt, prompt * 2), 0, Guess(output / 10, output, output * 5), NOTHING
    )
    return guess._replace(**more)  # type: ignore[arg-type]  # fields of the tuple


def sample(*lines: LineGuess, of: int | None = None, **changes: object) -> Sample:
    """Lines that differ, of a job that has so many."""
    made = Sample(
        line_count=len(lines) if of is None else of,
        input_bytes=100 * (len(lines) if of is None else of),
        guesses=lines,
        sizes_bytes=(100,) * len(lines),
        digests=tuple(hashlib.blake2b(b"%d" % place).digest() for place in range(len(lines))),
    )
    return msgspec.structs.replace(made, **changes)


def past(prompt: float, output: float, plain: tuple[float, float] = (100, 10)) -> Past:
    """An earlier job: what it had a line, beside what was expected of it."""
    return Past(
        prompt_tokens=prompt,
        output_tokens=output,
        plain_prompt_tokens=plain[0],
        plain_output_tokens=plain[1],
    )


def of(found: Sample, *earlier: Past, price: Price | None = PRICE) -> Estimate:
    """The estimate."""
    return estimate(found, price, earlier, deduplicate=True)


def test_all_lines_add_up() -> None:
    """Where every line was looked at, the sums are exact and the ranges those of the lines."""
    found = of(sample(line(), line(300, 30)))
    assert found.lines == found.sampled_lines == 2
    assert found.prompt_tokens == Span(low=200, expected=400, high=800)
    assert found.output_tokens == Span(low=4, expected=40, high=200)
    assert (found.plain_prompt_tokens, found.plain_output_tokens) == (400, 40)
    cost = found.micro_dollars
    assert cost is not None
    # Prompts and answers are wrong each on its own: 200 and 360 below, 400 and 1,600 above.
    assert cost == Span(low=388, expected=800, high=2449)
    assert found.online_micro_dollars == 1_600
    assert "2 of 2 lines" in found.basis


@given(
    st.lists(st.tuples(st.integers(0, 9_000), st.integers(0, 9_000)), min_size=1, max_size=6),
    st.integers(1, 100),
)
def test_plain_tokens_cost_the_same_in_one_sum(tokens: list[tuple[int, int]], more: int) -> None:
    """Line by line, as where a line has dear tokens, the cost is the same but for roundings."""
    lines = [line(2.0 * prompt, 10.0 * output) for prompt, output in tokens]
    total = len(lines) * more
    found = sample(*lines, of=total)
    at_once = of(found, past(90, 20)).micro_dollars
    # One token of sound in the smallest range: what has a price of its own is looked at apart.
    mixed = sample(*lines[:-1], lines[-1]._replace(audio=1e-6), of=total)
    apart = of(mixed, past(90, 20)).micro_dollars
    assert at_once is not None
    assert apart is not None
    for one, other in zip(*map(msgspec.structs.astuple, (at_once, apart)), strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=20 * total)


def test_a_sample_stands_for_all() -> None:
    """Lines that are alike are multiplied, without an error."""
    found = of(sample(*[line()] * 100, of=5_000))
    assert found.lines == 5_000
    assert found.prompt_tokens.expected == 500_000


def test_lines_that_grow_with_their_bytes_are_taken_by_bytes() -> None:
    """Where tokens follow bytes, the bytes of all lines say more than the mean line does."""
    lines = [line(prompt) for prompt in (100, 200, 300, 10_000)]
    sizes = (400, 800, 1_200, 40_000)
    found = of(sample(*lines, of=1_000, sizes_bytes=sizes, input_bytes=4_000_000))
    assert found.prompt_tokens.expected == pytest.approx(1_000_000)


def test_the_fewer_lines_were_seen_the_wider_the_range() -> None:
    """The sampling error is in the range."""
    mixed = [line(10), line(1_000), line(40), line(700)]
    few = of(sample(*mixed, of=4_000, input_bytes=7)).prompt_tokens
    many = of(sample(*mixed * 50, of=4_000, input_bytes=7)).prompt_tokens
    assert few.high / few.expected > many.high / many.expected > 2


def test_identical_lines_count_once() -> None:
    """Of all lines exactly; without the option each is paid."""
    same = sample(line(), line(), line(300), digests=(b"a", b"a", b"b"))
    once = of(same)
    assert (once.lines, once.prompt_tokens.expected) == (2, 400)
    each = estimate(same, PRICE, [], deduplicate=False)
    assert (each.lines, each.prompt_tokens.expected) == (3, 500)


def test_how_many_lines_differ_is_guessed_from_a_sample() -> None:
    """A thousand different lines, a hundred times each: Chao's estimator finds about a thousand."""
    digests = [b"%d" % (number * 7919 % 1_000 * number % 1_000) for number in range(1_000)]
    lines = [line()] * 1_000
    found = of(sample(*lines, of=100_000, digests=tuple(digests)))
    distinct = len(set(digests))
    assert distinct <= found.lines < 3 * distinct
    assert found.prompt_tokens.low < 100 * distinct


def test_nothing_can_be_said_of_nothing() -> None:
    """A job without a single good line costs nothing."""
    found = of(sample(of=0))
    assert (found.lines, found.prompt_tokens) == (0, Span(low=0, expected=0, high=0))
    assert found.micro_dollars == Span(low=0, expected=0, high=0)


def test_an_unknown_price_is_no_cost() -> None:
    """The tokens are told, and that the price is not known."""
    found = of(sample(line()), price=None)
    assert (found.micro_dollars, found.online_micro_dollars) == (None, None)
    assert found.prompt_tokens.expected == 100
    assert "price of this model is not known" in found.basis
    alone = of(sample(line()), price=Price(input=1, output=1))
    assert alone.online_micro_dollars is None


def test_earlier_jobs_correct_the_guess() -> None:
    """Three jobs whose answers were four times as long: so will these be, and the range narrows."""
    found = sample(*[line()] * 50)
    before = of(found).output_tokens
    after = of(found, *[past(100, 40)] * 3).output_tokens
    assert before.expected == 500
    assert 1_700 < after.expected < 2_000
    assert after.high / after.low < before.high / before.low
    assert after.low < 2_000 < after.high
    assert of(found, *[past(100, 40)] * 3).plain_output_tokens == 500


def test_jobs_that_differ_make_a_wide_range() -> None:
    """What varied from job to job will vary again; more jobs make surer."""
    found = sample(*[line()] * 50)
    steady = of(found, *[past(100, 10)] * 6).output_tokens
    varied = of(found, *[past(100, size) for size in (2, 50) * 3]).output_tokens
    two = of(found, past(100, 10), past(100, 10)).output_tokens
    assert varied.high / varied.low > 3 * steady.high / steady.low
    assert two.high / two.low > steady.high / steady.low


def test_jobs_unlike_this_one_say_little() -> None:
    """Of a job with a hundred times the tokens a line nothing is learnt, and the range says so."""
    found = sample(*[line()] * 50)
    unlike = of(found, past(100, 4_000, (100, 1_000))).output_tokens
    like = of(found, past(100, 40, (100, 10))).output_tokens
    assert unlike.expected < 0.6 * like.expected
    assert unlike.high / unlike.low > like.high / like.low


@pytest.mark.parametrize("earlier", [past(0, 0), past(5, 5, (0, 0))])
def test_a_job_without_tokens_teaches_nothing(earlier: Past) -> None:
    """Blocked prompts and old jobs without an estimate change nothing."""
    found = sample(line())
    assert of(found, earlier).output_tokens == of(found).output_tokens


def test_a_job_that_expects_no_answer_stays_without_one() -> None:
    """Nothing times anything is nothing."""
    silent = line()._replace(output=NOTHING)
    assert of(sample(silent), past(100, 40)).output_tokens.expected == 0


def test_special_tokens_have_their_prices() -> None:
    """Heard input, drawn output and very long prompts are billed apart."""
    price = Price(
        input=1_000_000, audio_input=3_000_000, output=10_000_000, image_output=60_000_000
    )
    heard = of(sample(line(100, 0)._replace(audio=100.0)), price=price).micro_dollars
    drawn = of(sample(line(0, 0)._replace(images=Guess(5, 10, 10))), price=price).micro_dollars
    assert heard is not None
    assert drawn is not None
    assert (heard.expected, drawn.expected) == (300, 600)
    long_price = Price(input=1_000_000, output=1, long_input=2_000_000)
    long = of(sample(line(300_000, 0)), price=long_price).micro_dollars
    assert long is not None
    # Half of it would not have been long.
    assert (long.low, long.expected) == (150_000, 600_000)


@settings(max_examples=200, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e5)), max_size=12),
    more=st.integers(0, 100_000),
    earlier=st.lists(
        st.builds(
            Past,
            **dict.fromkeys(Past.__struct_fields__, st.floats(0, 1e6, allow_subnormal=False)),
        ),
        max_size=4,
    ),
    deduplicate=st.booleans(),
)
def test_the_expected_number_is_within_its_range(
    sizes: list[tuple[float, float]], more: int, earlier: list[Past], *, deduplicate: bool
) -> None:
    """Whatever the lines and earlier jobs say, low <= expected <= high, and nothing is negative."""
    lines = [line(*pair) for pair in sizes]
    found = estimate(
        sample(*lines, of=len(lines) + (more if lines else 0)),
        PRICE,
        earlier,
        deduplicate=deduplicate,
    )
    for span in (found.prompt_tokens, found.output_tokens, found.micro_dollars):
        assert span is not None
        assert 0 <= span.low <= span.expected <= span.high
