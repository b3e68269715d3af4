"""What a submission may ask for beside its model and priority."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final, Literal, TypedDict

import msgspec

Money = str | int | float | Decimal
"""Dollars."""


class Found(TypedDict, total=False):
    """What a list of jobs may be narrowed to, beside their status."""

    name: str | None
    name_prefix: str | None
    labels: Mapping[str, str] | None
    prefix: str | None
    """How the id begins."""


class SubmitOptions(TypedDict, total=False):
    """Options of a job; the server says what is allowed where one is not."""

    name: str
    """Under which it is found again; names need not be unique."""
    labels: Mapping[str, str]
    """By which lists are filtered."""
    max_cost_usd: Money
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


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """Which lines are sent again by themselves, and how often."""

    attempts: int = 1
    outcomes: tuple[str, ...] | None = None
    """Errors that another try may mend and missing lines unless something is said."""


class JobOptions(TypedDict, total=False):
    """What `client.jobs.submit` may be told beside the model; all of it may be left out."""

    name: str | None
    """Under which it is found again; names need not be unique."""
    labels: Mapping[str, str] | None
    """By which lists are filtered."""
    max_cost: Money | None
    """In dollars: nothing is sent that is expected to bring the job above this."""
    retry: Retry | int | None
    """How often lines are sent again by themselves, or a `Retry`, which also says which."""
    priority: int | None
    """Of 1 to 1000; among an organisation's own jobs the lowest goes first. 100 if left out."""
    on_invalid: Literal["refuse", "quarantine"]
    """With `quarantine` the good lines run, and each bad one is an error in the output."""
    deduplicate: bool
    """Lines with the same request are sent once unless this is false."""
    shards: int
    """Into how many provider jobs it is cut."""


_SAME: Final = ("name", "labels", "on_invalid", "deduplicate", "shards")


def submit_options(options: JobOptions) -> SubmitOptions:
    """Return what of the options is a member of the query."""
    asked = SubmitOptions()
    for name in _SAME:
        value = options.get(name)
        if value is not None:
            asked[name] = value  # type: ignore[typeddict-item]  # the two have the same types
    cost, retry = options.get("max_cost"), options.get("retry")
    if cost is not None:
        asked["max_cost_usd"] = cost
    if retry is not None:
        policy = Retry(attempts=retry) if isinstance(retry, int) else retry
        asked["retry_attempts"] = policy.attempts
        if policy.outcomes is not None:
            asked["retry_outcomes"] = policy.outcomes
    return asked


def query_of(options: SubmitOptions | Found) -> dict[str, str | Sequence[str]]:
    """Return the options as the query of a submission."""
    query: dict[str, str | Sequence[str]] = {}
    for name, value in options.items():
        if isinstance(value, bool):
            query[name] = "true" if value else "false"
        elif isinstance(value, str):
            query[name] = value
        elif isinstance(value, int | float | Decimal):
            query[name] = format(Decimal(str(value)), "f")
        elif isinstance(value, Mapping):
            query["label"] = [f"{key}:{text}" for key, text in value.items()]
        elif isinstance(value, Sequence):
            query[name] = ",".join(value)
    return query
