"""Lists of a tenant's jobs, newest first: which of them a page holds, from the indexes alone.

By state, each state has an index of its own. By name, label or the beginning of an id, so has each
of these. Of several filters the one that selects the fewest jobs leads, and each of its jobs is
held against the others. What they select is counted before, because SQLite keeps no statistics, and
those of Postgres do not know which names and labels go together.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.job import OrgId
from penstock.core.state import JobState
from penstock.store import tables

FEW: Final = 4_000
"""So many jobs are sorted, or held against other filters, in a few milliseconds."""

OURS: Final = tables.jobs.c.parent_id.is_(None)
"""What a tenant sees: no shards."""

_LAST: Final = "\U0010ffff"
"""Behind whatever follows a beginning: no name and no id has this character."""

_jobs = tables.jobs.c

Column = sa.ColumnElement[Any]


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs of a tenant to list, newest first."""

    states: frozenset[JobState] | None = None
    name: str | None = None
    name_prefix: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    """Keys and values; a job must have all of them."""
    id_prefix: str | None = None
    limit: int = 50
    offset: int = 0
    before: tuple[float, str] | None = None
    """(created_at, id) of the last job of the page before; `offset` is then ignored."""


class _Filter(msgspec.Struct, frozen=True, kw_only=True):
    """One way to select jobs of a tenant."""

    found: sa.Select[Any]
    """`created_at` and `id` of all that it selects, from an index."""
    holds: Callable[[Column], Column]
    """Whether it selects the job with the id."""
    is_ordered: bool
    """Whether the index has them in the order of the list."""


async def ids_of(
    connection: AsyncConnection, org_id: OrgId, page: Page
) -> sa.Select[Any] | sa.CompoundSelect[Any]:
    """Select `created_at` and `id` of the jobs of a page, in their order."""
    is_sqlite = connection.dialect.name == "sqlite"
    filters = _filters(org_id, page, is_sqlite=is_sqlite)
    if not filters:
        return ids_by_state(org_id, page, merges=is_sqlite)
    filters += _states(org_id, page)
    lead = filters[0]
    if len(filters) > 1 or not lead.is_ordered:
        lead = await _lead(connection, org_id, filters)
    chosen = _both(lead, filters).subquery()
    at = sa.tuple_(chosen.c.created_at, chosen.c.id)
    query = sa.select(chosen.c.created_at, chosen.c.id)
    if page.before is not None:
        query = query.where(at < sa.tuple_(*page.before))
    offset = page.offset if page.before is None else 0
    # What is to be sorted is sorted: an index that has all jobs in order would be read to its end.
    created_at = chosen.c.created_at if lead.is_ordered else chosen.c.created_at + 0.0
    order = (created_at.desc(), chosen.c.id.desc())
    return query.order_by(*order).limit(page.limit).offset(offset)


async def count_of(connection: AsyncConnection, org_id: OrgId, page: Page) -> int:
    """Return how many jobs the filters of a page select in all."""
    filters = _filters(org_id, page, is_sqlite=connection.dialect.name == "sqlite")
    filters += _states(org_id, page)
    if not filters:
        filters = [_all(org_id)]
    lead = filters[0]
    if len(filters) > 1:
        # To count is to go to the end, so it is worth to know which one is the shortest.
        (_, lead), *_others = await _sizes(connection, filters, most=None)
    query = sa.select(sa.func.count()).select_from(_both(lead, filters).subquery())
    return int((await connection.execute(query)).scalar_one())


async def _lead(connection: AsyncConnection, org_id: OrgId, filters: list[_Filter]) -> _Filter:
    """Return what finds the first jobs of a list at once, or at least few jobs."""
    (size, smallest), *_others = await _sizes(connection, filters, most=FEW + 1)
    if size <= FEW:
        return smallest
    # All of them select many, so the first page is near: in order, and nothing is sorted.
    return next((each for each in filters if each.is_ordered), _all(org_id))


async def _sizes(
    connection: AsyncConnection, filters: list[_Filter], *, most: int | None
) -> list[tuple[int, _Filter]]:
    """Return how many jobs each of the filters selects, counted up to `most`, fewest first."""
    counts = [
        sa.select(sa.func.count())
        .select_from(each.found.limit(most).subquery())
        .scalar_subquery()
        .label(f"n{number}")
        for number, each in enumerate(filters)
    ]
    sizes = (await connection.execute(sa.select(*counts))).one()
    return sorted(zip(sizes, filters, strict=True), key=lambda pair: pair[0])


def _both(lead: _Filter, filters: list[_Filter]) -> sa.Select[Any]:
    id_ = lead.found.selected_columns.id
    return lead.found.where(*(each.holds(id_) for each in filters if each is not lead))


def _all(org_id: OrgId) -> _Filter:
    return _of_rows(org_id, lambda _jobs: sa.true(), is_ordered=True)


def _of_rows(org_id: OrgId, selects: Callable[[Any], Column], *, is_ordered: bool) -> _Filter:
    """Return a filter on a job's own row."""
    other = tables.jobs.alias()

    def holds(id_: Column) -> Column:
        return sa.exists().where(other.c.id == id_, selects(other.c))

    found = sa.select(_jobs.created_at, _jobs.id)
    return _Filter(
        found=found.where(_jobs.org_id == org_id, OURS, selects(_jobs)),
        holds=holds,
        is_ordered=is_ordered,
    )


def _filters(org_id: OrgId, page: Page, *, is_sqlite: bool) -> list[_Filter]:
    """Return the filters of a page that are not its states, the narrowest kind first."""
    filters = []
    if page.name is not None:
        name = page.name
        filters.append(_of_rows(org_id, lambda jobs: jobs.name == name, is_ordered=True))
    filters += [_labelled(org_id, key, value) for key, value in page.labels]
    for column, prefix in (("id", page.id_prefix), ("name", page.name_prefix)):
        if prefix is not None:
            filters.append(_beginning(org_id, column, prefix, is_sqlite=is_sqlite))
    return filters


def _labelled(org_id: OrgId, key: str, value: str) -> _Filter:
    own = tables.job_labels.alias()
    other = tables.job_labels.alias()

    def holds(id_: Column) -> Column:
        return sa.exists().where(other.c.job_id == id_, other.c.key == key, other.c.value == value)

    found = sa.select(own.c.created_at, own.c.job_id.label("id"))
    return _Filter(
        found=found.where(own.c.org_id == org_id, own.c.key == key, own.c.value == value),
        holds=holds,
        is_ordered=True,
    )


def _beginning(org_id: OrgId, column: str, prefix: str, *, is_sqlite: bool) -> _Filter:
    def selects(jobs: Any) -> Column:  # noqa: ANN401  # the columns of a table
        text = jobs[column]
        if is_sqlite:
            return sa.and_(text >= prefix, text < prefix + _LAST)
        # Byte by byte, as the indexes are: the order of a language does not keep them together.
        from_here = text.op("~>=~", is_comparison=True)(prefix)
        return sa.and_(from_here, text.op("~<~", is_comparison=True)(prefix + _LAST))

    return _of_rows(org_id, selects, is_ordered=False)


def _states(org_id: OrgId, page: Page) -> list[_Filter]:
    if page.states is None:
        return []
    values = [state.value for state in sorted(page.states)]

    def selects(jobs: Any) -> Column:  # noqa: ANN401  # the columns of a table
        return jobs.state.in_(values)  # type: ignore[no-any-return]

    return [_of_rows(org_id, selects, is_ordered=len(values) == 1)]


def ids_by_state(org_id: OrgId, page: Page, *, merges: bool) -> sa.CompoundSelect[Any]:
    """Select the ids of a page that is filtered by states alone, or not at all.

    One branch a state, because then each branch is in order already and the database merges them:
    `state IN (…)` would step over every job of the tenant to reach a late page of a few. Postgres
    does not merge but sorts them; there each branch gives no more than the page can need.
    """
    mine = sa.select(_jobs.created_at, _jobs.id).where(_jobs.org_id == org_id, OURS)
    if page.before is not None:
        mine = mine.where(sa.tuple_(_jobs.created_at, _jobs.id) < sa.tuple_(*page.before))
    branches = [mine]
    if page.states is not None:
        branches = [mine.where(_jobs.state == state.value) for state in sorted(page.states)]
    offset = page.offset if page.before is None else 0
    if not merges and len(branches) > 1:
        newest = (_jobs.created_at.desc(), _jobs.id.desc())
        branches = [
            sa.select(branch.order_by(*newest).limit(offset + page.limit).subquery())
            for branch in branches
        ]
    merged = sa.union_all(*(branches or [mine.where(sa.false())]))
    order = (merged.selected_columns.created_at.desc(), merged.selected_columns.id.desc())
    return merged.order_by(*order).limit(page.limit).offset(offset)
