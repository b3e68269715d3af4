"""Which lines are sent again, and what that may cost."""

from collections.abc import Callable

import pytest

from penstock.core.estimate import Estimate, Span
from penstock.core.job import Job
from penstock.core.line import LineOutcome
from penstock.core.line_index import Kind
from penstock.core.options import Options, Selection
from penstock.core.retry import count_selected, expected_micro_dollars, is_over_cap

MakeJob = Callable[..., Job]
ERROR, MISSING, OK = LineOutcome.ERROR, LineOutcome.MISSING, LineOutcome.OK
KINDS = [
    Kind(outcome=OK, code="", lines=90),
    Kind(outcome=ERROR, code="503", retryable=True, lines=4),
    Kind(outcome=ERROR, code="invalid_json", lines=3),
    Kind(outcome=MISSING, code="missing_row", retryable=True, lines=2),
]


@pytest.mark.parametrize(
    ("outcomes", "only_retryable", "count"),
    [
        ((ERROR, MISSING), True, 6),
        ((ERROR, MISSING), False, 7),
        ((ERROR,), False, 5),
        ((MISSING,), False, 2),
        ((LineOutcome.BLOCKED,), False, 0),
    ],
)
def test_lines_that_were_put_aside_are_never_selected(
    outcomes: tuple[LineOutcome, ...],
    *,
    only_retryable: bool,
    count: int,
) -> None:
    """Two of the errors are bad lines, which no selection counts."""
    selection = Selection(outcomes=outcomes, only_retryable=only_retryable)
    assert count_selected(KINDS, selection, problem_count=2) == count


def test_a_round_costs_its_share(new_job: MakeJob) -> None:
    """Of the estimate if there is one, else of what was spent, rounded up; else nobody knows."""
    span = Span(low=1, expected=1_000, high=9_000)
    estimate = Estimate(lines=3, prompt_tokens=span, output_tokens=span, micro_dollars=span)
    job = new_job(line_count=4, estimate=estimate)
    assert expected_micro_dollars(job, 1, 77) == 334
    job = new_job(line_count=4)
    assert expected_micro_dollars(job, 1, 77) == 20
    assert expected_micro_dollars(job, 1, None) is None


@pytest.mark.parametrize(
    ("cap", "spent", "more", "is_over"),
    [
        (None, 5, None, False),
        (10, 5, 5, False),
        (10, 5, 6, True),
        (10, None, 10, False),
        (10, 0, None, True),
    ],
)
def test_the_cap_counts_what_was_spent(
    new_job: MakeJob, cap: int | None, spent: int | None, more: int | None, *, is_over: bool
) -> None:
    """Exactly the cap is allowed, and an unknown cost is not."""
    job = new_job(options=Options(max_cost_micro_dollars=cap))
    assert is_over_cap(job, spent, more) is is_over
