"""When lines are sent again, how many they are, and what that may cost. Pure."""

from collections.abc import Iterable

from penstock.core.job import Job
from penstock.core.line import LineOutcome
from penstock.core.line_index import Kind
from penstock.core.options import Selection


def count_selected(kinds: Iterable[Kind], selection: Selection, problem_count: int) -> int:
    """Return how many lines of an output are selected; those that were put aside never are.

    Lines that get the answer of an identical one count, though only that one is sent.
    """
    count = sum(
        kind.lines
        for kind in kinds
        if kind.outcome in selection.outcomes and (kind.retryable or not selection.only_retryable)
    )
    if LineOutcome.ERROR in selection.outcomes and not selection.only_retryable:
        # A line that was put aside is an error that no other try may mend.
        count -= problem_count
    return count


def expected_micro_dollars(job: Job, lines: int, spent_micro_dollars: int | None) -> int | None:
    """Return what so many lines of a job are expected to cost; None where nobody knows the price.

    Their share of what all lines were expected to cost, or did cost if nobody said before.
    """
    estimate = job.estimate
    if estimate is not None and estimate.micro_dollars is not None:
        return _share(estimate.micro_dollars.expected, lines, estimate.lines)
    if spent_micro_dollars is None:
        return None
    return _share(spent_micro_dollars, lines, job.line_count)


def is_over_cap(job: Job, spent_micro_dollars: int | None, more_micro_dollars: int | None) -> bool:
    """Return whether a round would bring the job above what its owner wants to spend.

    A cap on a cost that nobody knows allows nothing more.
    """
    cap = job.options.max_cost_micro_dollars
    if cap is None:
        return False
    if more_micro_dollars is None:
        return True
    return (spent_micro_dollars or 0) + more_micro_dollars > cap


def _share(whole: int, lines: int, of_lines: int) -> int:
    """Return the lines' share, rounded up."""
    return -(-whole * lines // max(of_lines, 1))
