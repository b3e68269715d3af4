"""What a submission may ask for beside its model and priority."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Literal, TypedDict


class SubmitOptions(TypedDict, total=False):
    """Options of a job; the server says what is allowed where one is not."""

    max_cost_usd: str | int | float | Decimal
    """Nothing is sent that is expected to bring the job above this."""
    on_invalid: Literal["refuse", "quarantine"]
    """With `quarantine` the good lines run, and each bad one is an error in the output."""
    deduplicate: bool
    """Lines with the same request are sent once unless this is false."""
    shards: int
    """Into how many provider jobs it is cut."""
    retry_attempts: int
    """How often lines are sent again by themselves."""
    retry_outcomes: Sequence[str]
    """Which ones; errors that another try may mend and missing lines unless something is said."""


def query_of(options: SubmitOptions) -> dict[str, str]:
    """Return the options as the query of a submission."""
    query: dict[str, str] = {}
    for name, value in options.items():
        if isinstance(value, bool):
            query[name] = "true" if value else "false"
        elif isinstance(value, str):
            query[name] = value
        elif isinstance(value, int | float | Decimal):
            query[name] = format(Decimal(str(value)), "f")
        elif isinstance(value, Sequence):
            query[name] = ",".join(value)
    return query
