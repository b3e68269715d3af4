"""The end of a round whose output is written, in the terms of the store."""

import msgspec

from penstock.lifecycle.merge import Merged
from penstock.store.jobs import Finish


def summary_of(merged: Merged) -> str:
    """Say in one sentence what became of the lines."""
    if merged.counts.failed == 0:
        return "All lines were answered."
    return f"{merged.counts.failed} lines failed; their status says why."


def with_output(ended: Finish, merged: Merged, output_name: str, index_name: str) -> Finish:
    """Return an end with the output that was written for it."""
    return msgspec.structs.replace(
        ended,
        counts=merged.counts,
        cost_micro_dollars=merged.cost_micro_dollars,
        output_bytes=merged.output_bytes,
        output_sha256=merged.output_sha256,
        output_name=output_name,
        index_name=index_name,
        bill=merged.bill,
        spent=merged.spent,
    )
