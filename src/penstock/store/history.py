"""What became of the jobs of all organisations: for estimates, for the watchdog and for metrics.

Only times and counts leave it, and never whose they were. What is asked of one job takes its row.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from penstock.clock import Clock
from penstock.core.job import SHARDS, Job, JobId
from penstock.core.line import LineOutcome
from penstock.core.state import TERMINAL, JobState
from penstock.core.waiting import Past, PastJob, WaitingRules
from penstock.store import tables
from penstock.store.connections import Connections
from penstock.store.database import typed
from penstock.store.deliveries import announce_slow

_jobs = tables.jobs.c
_OPEN: Final = tuple(state.value for state in JobState if state not in TERMINAL)
_IN_OUR_QUEUE: Final = (JobState.PREPARED.value, JobState.ACCEPTED.value)
"""In the order in which they go on."""
_AT_THE_PROVIDER: Final = (JobState.SUBMITTING.value, JobState.RUNNING.value)
_BEGAN: Final = sa.func.coalesce(_jobs.round_began_at, _jobs.created_at)
_NO_PARENT: Final = sa.or_(_jobs.provider_job.is_(None), _jobs.provider_job.not_like(f"{SHARDS}%"))
"""A job that was cut into several waits for these, and they are counted themselves."""

_seen = tables.jobs.alias("seen").c
"""The job that takes long; of a shard it is the parent whose owner is told."""
_SEEN_BEGAN: Final = sa.func.coalesce(_seen.round_began_at, _seen.created_at)
_IS_GOING: Final = (
    _seen.cancel_requested_at.is_(None),
    _seen.state.in_([state for state in _OPEN if state != JobState.COLLECTING.value]),
    sa.or_(_seen.provider_job.is_(None), _seen.provider_job.not_like(f"{SHARDS}%")),
)
_OUTCOMES: Final = tuple(outcome.value for outcome in LineOutcome)
_NOT_SLOW: Final = sa.or_(
    _jobs.slow_at.is_(None),
    sa.and_(_jobs.round_began_at.is_not(None), _jobs.slow_at < _jobs.round_began_at),
)
"""Nobody was told of it in this round."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a job stands among those of its organisation that wait with us."""

    before: int
    waiting: int
    """All that wait, itself included."""
    at_provider: int
    """Of its organisation, shards included."""


class ShardsNow(msgspec.Struct, frozen=True, kw_only=True):
    """How far the shards of a job are."""

    total: int
    ended: int
    pending: int
    """Those that the provider does not run yet."""
    running_since: float | None
    """Of the last one that began to run."""


class OpenTime(msgspec.Struct, frozen=True, kw_only=True):
    """What the watchdog needs to know of a job that has not ended."""

    id: JobId
    told_id: JobId
    """Of a shard, its parent."""
    model: str
    line_count: int
    began_at: float
    running_since: float | None


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Counts over all organisations, for whoever runs the server."""

    open_jobs: dict[str, int]
    """By state; jobs as tenants see them."""
    oldest_at: dict[str, float]
    """Since when the oldest of these has been there."""
    slow_jobs: int
    ended_jobs: dict[str, int]
    """By state, within the span that was asked for."""
    outcomes: dict[str, int]
    """Lines of these, by what became of them."""
    deliveries: int
    """To webhooks, that are due now or later."""
    models: tuple[str, ...]
    """That jobs were sent to within the span."""


class History:
    """Queries on many jobs at once; one instance per store."""

    def __init__(self, engine: Connections) -> None:
        self._engine = engine
        self._reader = engine.for_reading()

    async def past(self, model: str, limit: int, now: float) -> Past:
        """Return how long the jobs of a model took: the last that ended, and those still open.

        Of more open ones than `limit` some are taken, each standing for several: ids are random.
        """
        columns = (
            _jobs.state,
            _BEGAN.label("began_at"),
            _jobs.running_since,
            _jobs.finished_at,
            # How many were sent in a later round is not known.
            sa.case((_jobs.round == 1, _jobs.line_count)).label("lines"),
        )
        mine = (_jobs.model == model, _NO_PARENT)
        ended = (
            sa.select(*columns)
            .where(*mine, _jobs.finished_at.is_not(None))
            .order_by(_jobs.finished_at.desc())
            .limit(limit)
        )
        still = (*mine, _jobs.finished_at.is_(None))
        some = sa.select(*columns).where(*still).order_by(_jobs.id).limit(limit)
        count = sa.select(sa.func.count()).select_from(tables.jobs).where(*still)
        async with self._reader.connect() as connection:
            over = _past_jobs((await connection.execute(ended)).mappings().all())
            going = _past_jobs((await connection.execute(some)).mappings().all())
            number = len(going)
            if number == limit:
                number = (await connection.execute(count)).scalar_one()
        weight = number / max(1, len(going))
        going = [msgspec.structs.replace(job, weight=weight) for job in going]
        since = over[-1].finished_at if len(over) == limit else None
        return Past.of([*over, *going], now, since)

    async def place(self, job: Job) -> Place:
        """Return where a job that waits with us stands in its organisation's line."""
        own = sa.tuple_(sa.literal(job.priority), sa.literal(job.created_at), sa.literal(job.id))
        goes_first = sa.tuple_(_jobs.priority, _jobs.created_at, _jobs.id) < own
        before = sa.and_(_jobs.state == job.state.value, goes_first)
        further = _IN_OUR_QUEUE[: _IN_OUR_QUEUE.index(job.state.value)]
        is_waiting = sa.and_(_jobs.state.in_(_IN_OUR_QUEUE), _jobs.parent_id.is_(None))
        query = sa.select(
            _count(is_waiting, sa.or_(before, _jobs.state.in_(further))).label("before"),
            _count(is_waiting).label("waiting"),
            _count(_jobs.state.in_(_AT_THE_PROVIDER), _NO_PARENT).label("at_provider"),
        ).where(_jobs.org_id == job.org_id, _jobs.state.in_(_OPEN))
        async with self._reader.connect() as connection:
            return typed((await connection.execute(query)).mappings().one(), Place)

    async def shards(self, job: Job) -> ShardsNow:
        """Return how far the shards of a job are."""
        is_open = _jobs.state.in_(_OPEN)
        query = sa.select(
            sa.func.count().label("total"),
            _count(sa.not_(is_open)).label("ended"),
            _count(is_open, _jobs.running_since.is_(None)).label("pending"),
            sa.func.max(sa.case((is_open, _jobs.running_since))).label("running_since"),
        ).where(_jobs.parent_id == job.id)
        async with self._reader.connect() as connection:
            return typed((await connection.execute(query)).mappings().one(), ShardsNow)

    async def open_times(self, began_before: float) -> list[OpenTime]:
        """Return what the provider has not ended and what began before then, the oldest first.

        Shards each for itself, and of none whose owner was told already. Not what the provider is
        done with: the rest is ours, and soon over.
        """
        query = (
            sa.select(
                _seen.id,
                _jobs.id.label("told_id"),
                _seen.model,
                _seen.line_count,
                _SEEN_BEGAN.label("began_at"),
                _seen.running_since,
            )
            .join(tables.jobs, _jobs.id == sa.func.coalesce(_seen.parent_id, _seen.id))
            .where(*_IS_GOING, sa.literal(began_before, sa.Double) > _SEEN_BEGAN, _NOT_SLOW)
            .order_by(_SEEN_BEGAN, _seen.id)
        )
        async with self._reader.connect() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [typed(row, OpenTime) for row in rows]

    async def mark_slow(self, job: OpenTime, at: float, reason: str) -> bool:
        """Write that a job takes long, with its event and what is told to webhooks.

        False if somebody else did, or if it is not any more where it was seen.
        """
        began_at, since = job.began_at, job.running_since
        still = (
            sa.select(_seen.id)
            .where(
                _seen.id == job.id,
                *_IS_GOING,
                sa.literal(began_at, sa.Double) == _SEEN_BEGAN,
                _seen.running_since.is_(None) if since is None else _seen.running_since == since,
            )
            .exists()
        )
        async with self._engine.begin() as connection:
            changed = await connection.execute(
                tables.jobs.update()
                .where(_jobs.id == job.told_id, _NOT_SLOW, still)
                .values(slow_at=at, updated_at=at)
            )
            if changed.rowcount == 0:
                return False
            event = {"job_id": job.told_id, "at": at, "kind": "slow", "detail": reason}
            await connection.execute(tables.events.insert().values(**event))
            await announce_slow(connection, job.told_id, at, reason)
        return True

    async def figures(self, now: float, span_seconds: float) -> Figures:
        """Return counts; of what has ended, for the last so many seconds."""
        seen = _jobs.parent_id.is_(None)
        open_jobs = (
            sa.select(
                _jobs.state,
                sa.func.count().label("number"),
                sa.func.min(_BEGAN).label("oldest_at"),
                sa.func.count(sa.case((sa.not_(_NOT_SLOW), 1))).label("slow"),
            )
            .where(seen, _jobs.state.in_(_OPEN))
            .group_by(_jobs.state)
        )
        # Summed up by the database: on a busy day there are many of them.
        counts = sa.cast if self._reader.has_a_clock else sa.type_coerce
        lines = counts(_jobs.counts, sa.JSON)
        ended_jobs = (
            sa.select(
                _jobs.state,
                _jobs.model,
                sa.func.count().label("number"),
                *(sa.func.sum(lines[name].as_integer()).label(name) for name in _OUTCOMES),
            )
            .where(
                seen,
                _jobs.state.in_([state.value for state in TERMINAL]),
                # The one that an index has; nothing ends before it is last changed.
                _jobs.updated_at >= now - span_seconds,
                _jobs.finished_at >= now - span_seconds,
            )
            .group_by(_jobs.state, _jobs.model)
        )
        waiting = sa.select(sa.func.count()).where(tables.deliveries.c.next_at.is_not(None))
        async with self._reader.connect() as connection:
            states = (await connection.execute(open_jobs)).all()
            ended = (await connection.execute(ended_jobs)).mappings().all()
            deliveries = (await connection.execute(waiting)).scalar_one()
        return Figures(
            open_jobs={row.state: row.number for row in states},
            oldest_at={row.state: row.oldest_at for row in states},
            slow_jobs=sum(row.slow for row in states),
            ended_jobs=_sums((row["state"], row["number"]) for row in ended),
            outcomes=_sums((name, int(row[name] or 0)) for row in ended for name in _OUTCOMES),
            deliveries=deliveries,
            models=tuple(sorted({row["model"] for row in ended})),
        )


def _count(*conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.count(sa.case((sa.and_(*conditions), 1)))


def _past_jobs(rows: Sequence[Any]) -> list[PastJob]:
    return [typed(row, PastJob) for row in rows]


def _sums(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for name, number in pairs:
        sums[name] += number
    return dict(sums)


class Pasts:
    """What became of the jobs of each model, kept for some seconds.

    However often it is asked for meanwhile, the database is asked once.
    """

    def __init__(self, history: History, clock: Clock, rules: WaitingRules) -> None:
        self._history = history
        self.clock = clock
        self._rules = rules
        self._kept: dict[str, tuple[float, Past]] = {}
        self._looking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def of(self, model: str) -> Past:
        """Return what became of the jobs of a model."""
        async with self._looking[model]:
            now = self.clock.now()
            kept = self._kept.get(model)
            if kept is not None and now < kept[0] + self._rules.cache_seconds:
                return kept[1]
            past = await self._history.past(model, self._rules.history_jobs_max, now)
            self._kept[model] = (now, past)
            return past
