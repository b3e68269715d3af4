"""What a job is expected to cost and what it did cost, as records say it: dollars as text.

What nobody knows is null, and never zero.
"""

from typing import Any

from penstock.core.bill import Bill
from penstock.core.estimate import Estimate, Span
from penstock.core.job import Job
from penstock.core.money import usd_text
from penstock.core.state import TERMINAL


def estimate_record(estimate: Estimate) -> dict[str, Any]:
    """Return an estimate; `online_cost_usd` is what the same would be expected to cost online."""
    return {
        "lines": estimate.lines,
        "prompt_tokens": _numbers(estimate.prompt_tokens),
        "output_tokens": _numbers(estimate.output_tokens),
        "cost_usd": None if estimate.micro_dollars is None else _dollars(estimate.micro_dollars),
        "online_cost_usd": _usd(estimate.online_micro_dollars),
        "basis": estimate.basis,
    }


def cost_record(job: Job) -> dict[str, Any]:
    """Return what all rounds of a job did cost, beside what was set aside for the newest one."""
    bill = job.bill or Bill()
    saved = None
    if bill.online_micro_dollars is not None and bill.micro_dollars is not None:
        saved = bill.online_micro_dollars - bill.micro_dollars
    return {
        "tier": "batch",
        "model": job.model,
        "batch_usd": _usd(bill.micro_dollars),
        "online_usd": _usd(bill.online_micro_dollars),
        "saved_usd": _usd(saved),
        "deduplicated_usd": _usd(bill.twin_micro_dollars),
        "by_outcome": {
            outcome: {
                "lines": share.lines,
                "prompt_tokens": share.prompt_tokens,
                "output_tokens": share.output_tokens,
                "usd": _usd(share.micro_dollars),
            }
            for outcome, share in bill.by_outcome.items()
        },
        "reserved_usd": _usd(job.reserved_micro_dollars),
        "refunded_usd": _usd(_refunded(job)),
    }


def _refunded(job: Job) -> int | None:
    """Return what the end of the job gave back.

    Of a later round only the ledger knows: the job's row has the cost of all rounds together.
    """
    if job.state not in TERMINAL or job.reserved_micro_dollars is None or job.round > 1:
        return None
    return max(0, job.reserved_micro_dollars - (job.cost_micro_dollars or 0))


def _usd(micro_dollars: int | None) -> str | None:
    return None if micro_dollars is None else usd_text(micro_dollars)


def _numbers(span: Span) -> dict[str, int]:
    return {"low": span.low, "expected": span.expected, "high": span.high}


def _dollars(span: Span) -> dict[str, str]:
    return {name: usd_text(number) for name, number in _numbers(span).items()}
