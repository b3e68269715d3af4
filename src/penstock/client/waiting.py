"""Why a job waits, and when it is likely to end, as the server says of one that is open."""

import msgspec


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """The place in a line, from 1."""

    number: int = 0
    of: int = 0


class ShardCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How far the provider jobs are that a job was cut into."""

    of: int = 0
    ended: int = 0
    pending: int = 0


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds within which so many of a hundred others were through; None if nobody knows."""

    p50: int | None = None
    p90: int | None = None
    p95: int | None = None


class Samples(msgspec.Struct, frozen=True, kw_only=True):
    """How many other jobs stand behind what is said."""

    waits: int = 0
    runs: int = 0
    by_size: bool = False


class Eta(msgspec.Struct, frozen=True, kw_only=True):
    """When a job is likely to end, in Unix seconds.

    `coverage` of all jobs end between `earliest_at` and `latest_at`, which are None as long as too
    few others are known.
    """

    expected_at: int
    earliest_at: int | None = None
    latest_at: int | None = None
    coverage: float | None = None


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """Why an open job waits; times are Unix seconds."""

    reason: str = ""
    """`our_queue`, `sending`, `provider_queue`, `provider_run`, `shards`, `collecting` or
    `cancelling`; a newer server may know others."""
    since: int = 0
    position: Position | None = None
    """In the organisation's own line, as long as the job is in it; organisations take turns."""
    round: Position | None = None
    """How often lines were sent, and how often they may be without anybody asking."""
    shards: ShardCounts | None = None
    provider_state: str | None = None
    provider_state_since: int | None = None
    slow_since: int | None = None
    """Since when it has been taking longer than 95 of 100 others did."""
    wait_percentiles: Percentiles | None = None
    run_percentiles: Percentiles | None = None
    eta: Eta | None = None
    samples: Samples | None = None
