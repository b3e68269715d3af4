"""What a submission may ask for beside its model: how far to go, and what to do with bad lines."""

from enum import StrEnum
from typing import Annotated, Final

import msgspec

from penstock.core.line import LineOutcome

RETRY_ATTEMPTS_MAX: Final = 5
"""Rounds that follow the first one without anybody asking."""

SHARDS_MAX: Final = 20
"""Provider jobs that one round of a job may be cut into on request."""

RETRIED: Final = (LineOutcome.ERROR, LineOutcome.MISSING)
"""What is tried again by itself, once, unless somebody says otherwise; of errors, only those that
another try may mend."""


class OnInvalid(StrEnum):
    """What becomes of a file with bad lines."""

    REFUSE = "refuse"
    """Nothing is stored and nothing is spent."""
    QUARANTINE = "quarantine"
    """The good lines run; each bad one is a line of the output that says what is wrong with it."""


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which lines are sent again without anybody asking, and how often."""

    attempts: Annotated[int, msgspec.Meta(ge=0, le=RETRY_ATTEMPTS_MAX)] = 1
    outcomes: tuple[LineOutcome, ...] = RETRIED


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which lines of an output are sent again."""

    outcomes: tuple[LineOutcome, ...]
    only_retryable: bool = False
    """Of these, only those that another try may mend; what an owner chose by hand is all sent."""


class Options(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The options of one job."""

    max_cost_micro_dollars: int | None = None
    """Nothing is sent that is expected to bring the job above this."""
    deduplicate: bool = True
    """Send lines with the same request once, and give all of them its answer."""
    shards: Annotated[int, msgspec.Meta(ge=1, le=SHARDS_MAX)] = 1
    """Into how many provider jobs it is cut; more where the provider's limits ask for it."""
    retry: RetryPolicy = RetryPolicy()
    on_invalid: OnInvalid = OnInvalid.REFUSE


NO_OPTIONS: Final = Options()
"""Of a submission that asks for nothing."""
