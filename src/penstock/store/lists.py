"""Lists of a tenant's jobs, newest first: which of them a page holds, from the indexes alone.

How many there are in all is looked up where it is kept (`store/tallies`): without filters, by
states, by a label, and by both. Else it is counted, on the way that leads to the fewest jobs: the
index of one filter, whose jobs are held against the others, or the index of the whole list. The
latter and those of names and labels hold what else jobs are filtered by, so that to step over a job
takes a tenth of a microsecond and reads no row. A page behind the middle is sought from the end.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.operators import custom_op

from penstock.core.job import OrgId
from penstock.core.state import JobState
from penstock.store import tables
from penstock.store.tallies import ANY

FEW: Final = 4_000
"""So many jobs are sorted, or held against other filters, in a few milliseconds."""

OURS: Final = tables.jobs.c.parent_id.is_(None)
"""What a tenant sees: no shards."""

_LAST: Final = "\U0010ffff"
"""Behind whatever follows a beginning: no name and no id has this character."""

_jobs = tables.jobs.c

Column = sa.ColumnElement[Any]
Ids = sa.Select[Any] | sa.CompoundSelect[Any]
Label = tuple[str, str]


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs of a tenant to list, newest first."""

    states: frozenset[JobState] | None = None
    name: str | None = None
    name_prefix: str | None = None
    labels: tuple[Label, ...] = ()
    """Keys and values; a job must have all of them."""
    id_prefix: str | None = None
    limit: int = 50
    offset: int = 0
    before: tuple[float, str] | None = None
    """(created_at, id) of the last job of the page before; `offset` is then ignored."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a list finds."""

    total: int
    """How many jobs the filters select in all."""
    ids: Ids
    """`created_at` and `id` of those on the page, in an order that is not the list's."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs of a list are on a page, counted from the end that is nearer."""

    limit: int
    offset: int
    is_from_end: bool = False

    def cut(self, ids: sa.Select[Any], created_at: Column, id_: Column) -> sa.Select[Any]:
        """Return the part of a selection."""
        return ids.order_by(*self.order(created_at, id_)).limit(self.limit).offset(self.offset)

    def order(self, created_at: Column, id_: Column) -> tuple[Column, Column]:
        """Return the order of the list, or the one from its end."""
        if self.is_from_end:
            return created_at.asc(), id_.asc()
        return created_at.desc(), id_.desc()


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    """What a job is filtered by beside its labels, wherever that stands."""

    id: Column
    name: Column
    state: Column


class _Way(msgspec.Struct, frozen=True, kw_only=True):
    """A way to all jobs that pass the filters."""

    ids: sa.Select[Any]
    """Their `created_at` and `id`."""
    is_ordered: bool
    """Whether it comes by them in the order of the list."""


async def find(connection: AsyncConnection, org_id: OrgId, page: Page) -> Found:
    """Return how many jobs a list has, and how to select those of its page."""
    search = _Search(org_id, page, is_sqlite=connection.dialect.name == "sqlite")
    return await search.found(connection)


def part_of(page: Page, total: int) -> Part:
    """Return where the page is in a list of so many jobs."""
    if page.before is not None:
        return Part(limit=page.limit, offset=0)
    behind = total - page.offset - page.limit
    if behind >= page.offset:
        return Part(limit=page.limit, offset=page.offset)
    # The last page may be shorter, and behind that there is none.
    limit = max(0, min(page.limit, total - page.offset))
    return Part(limit=limit, offset=max(0, behind), is_from_end=True)


class _Search:
    """The ways to what a page asks for, on one of the two databases."""

    def __init__(self, org_id: OrgId, page: Page, *, is_sqlite: bool) -> None:
        self._org_id = org_id
        self._page = page
        self._is_sqlite = is_sqlite
        self._states = [state.value for state in sorted(page.states or ())]
        self._own = self._filters()
        # Whether one index has all that is asked for; that of ids has no states.
        self._is_alone = (
            not page.labels
            and len(self._own) == 1
            and (page.states is None or page.id_prefix is None)
        )

    async def found(self, connection: AsyncConnection) -> Found:
        """Return the total and the page."""
        page = self._page
        of_all, of_labels, of_own = await self._sizes(connection)
        if not of_labels and not of_own:
            part = part_of(page, of_all)
            ids = ids_by_state(self._org_id, page, part, merges=self._is_sqlite)
            return Found(total=of_all, ids=ids)
        way = self._way(of_all, of_labels, of_own)
        sizes = (*of_labels.values(), *of_own.values())
        if self._is_alone or (of_labels and len(sizes) == 1) or 0 in sizes:
            total = min(sizes)
        else:
            query = sa.select(sa.func.count()).select_from(way.ids.subquery())
            total = int((await connection.execute(query)).scalar_one())
        return Found(total=total, ids=self._page_of(way, part_of(page, total)))

    async def _sizes(
        self, connection: AsyncConnection
    ) -> tuple[int, dict[Label, int], dict[str, int]]:
        """Return how many jobs are in the page's states, and of these how many have each label.

        And how many each other filter selects: all that it does if it is alone, which is the total,
        else in any state and counted to a few.
        """
        labels = self._page.labels
        jobs = _row_of(tables.jobs)
        mine = sa.select(_jobs.id).where(_jobs.org_id == self._org_id, OURS)
        if not self._is_alone:
            mine = mine.limit(FEW + 1)
        elif self._page.states is not None:
            mine = mine.where(self._is_in_state(jobs.state))
        own = [
            sa.select(sa.func.count())
            .select_from(mine.where(passes(jobs)).subquery())
            .scalar_subquery()
            for passes in self._own.values()
        ]
        kept = [self._kept(key, value) for key, value in ((ANY, ANY), *labels)]
        columns = [size.label(f"n{number}") for number, size in enumerate([*kept, *own])]
        sizes = [int(size) for size in (await connection.execute(sa.select(*columns))).one()]
        of_labels = dict(zip(labels, sizes[1:], strict=False))
        of_own = dict(zip(self._own, sizes[1 + len(labels) :], strict=True))
        return sizes[0], of_labels, of_own

    def _kept(self, key: str, value: str) -> sa.ScalarSelect[Any]:
        counts = tables.job_counts.c
        query = sa.select(sa.func.coalesce(sa.func.sum(counts.jobs), 0)).where(
            counts.org_id == self._org_id, counts.key == key, counts.value == value
        )
        if self._page.states is not None:
            query = query.where(self._is_in_state(counts.state))
        return query.scalar_subquery()

    def _way(self, of_all: int, of_labels: dict[Label, int], of_own: dict[str, int]) -> _Way:
        """Return the way to the fewest jobs, or to many in their order."""
        label = min(of_labels, key=of_labels.__getitem__, default=None)
        own = min(of_own, key=of_own.__getitem__, default=None)
        fewest = min((*of_labels.values(), *of_own.values()))
        if own is not None and of_own[own] == fewest <= FEW:
            return self._by_own(own)
        if self._page.states is not None and of_all < fewest and of_all <= FEW:
            return _Way(ids=self._of_jobs("states"), is_ordered=len(self._states) == 1)
        if label is not None:
            return _Way(ids=self._of_label(label), is_ordered=True)
        if "name" in of_own:
            return self._by_own("name")
        return _Way(ids=self._of_jobs(None), is_ordered=True)

    def _by_own(self, name: str) -> _Way:
        return _Way(ids=self._of_jobs(name), is_ordered=name == "name")

    def _page_of(self, way: _Way, part: Part) -> sa.Select[Any]:
        chosen = way.ids.subquery()
        query = sa.select(chosen.c.created_at, chosen.c.id)
        if self._page.before is not None:
            at = sa.tuple_(chosen.c.created_at, chosen.c.id)
            query = query.where(at < sa.tuple_(*self._page.before))
        # What is to be sorted is sorted: an index that has all in order would be read to its end.
        created_at = chosen.c.created_at if way.is_ordered else chosen.c.created_at + 0.0
        return part.cut(query, created_at, chosen.c.id)

    # -- what is selected ------------------------------------------------------------------------

    def _of_jobs(self, lead: str | None) -> sa.Select[Any]:
        """Select the jobs of all filters from the index of one, or from that of the whole list."""
        shown = _row_of(tables.jobs)
        aside = _Row(
            id=self._aside(shown.id), name=self._aside(shown.name), state=self._aside(shown.state)
        )
        query = sa.select(_jobs.created_at, _jobs.id).where(_jobs.org_id == self._org_id, OURS)
        for name, passes in self._own.items():
            query = query.where(passes(shown if name == lead else aside))
        if self._page.states is not None:
            query = query.where(self._is_in_state((shown if lead == "states" else aside).state))
        return query.where(*(_is_labelled(_jobs.id, *label) for label in self._page.labels))

    def _of_label(self, lead: Label) -> sa.Select[Any]:
        """Select the jobs of all filters from the index of labels."""
        own = tables.job_labels.alias()
        key, value = lead
        query = sa.select(own.c.created_at, own.c.job_id.label("id")).where(
            own.c.org_id == self._org_id, own.c.key == key, own.c.value == value
        )
        if self._page.states is not None:
            query = query.where(self._is_in_state(own.c.state))
        row = _Row(id=self._aside(own.c.job_id), name=own.c.name, state=own.c.state)
        for passes in self._own.values():
            query = query.where(_known(own, passes(row), _is_job(own.c.job_id, passes)))
        for label in self._page.labels:
            if label != lead:
                is_among = self._is_among(own.c.labels, *label)
                query = query.where(_known(own, is_among, _is_labelled(own.c.job_id, *label)))
        return query

    def _is_in_state(self, state: Column) -> Column:
        # One is compared, because SQLite makes a table of what follows IN.
        return state == self._states[0] if len(self._states) == 1 else state.in_(self._states)

    def _is_among(self, labels: Column, key: str, value: str) -> Column:
        """Whether a label is in the JSON of all.

        Found as text: keys have neither quotes nor colons nor commas, so that a quote which is not
        escaped, a key and another quote stand nowhere but where the key does.
        """
        text = f"{msgspec.json.encode(key).decode()}:{msgspec.json.encode(value).decode()}"
        place = sa.func.instr if self._is_sqlite else sa.func.strpos
        return place(labels, text) > 0

    def _filters(self) -> dict[str, Callable[[_Row], Column]]:
        """Return the filters on what a job's own row says, but for its state."""
        page = self._page
        filters: dict[str, Callable[[_Row], Column]] = {}
        if page.name is not None:
            filters["name"] = lambda row: row.name == page.name
        for name, prefix in (("id", page.id_prefix), ("name", page.name_prefix)):
            if prefix is not None:
                filters[f"{name}_prefix"] = partial(self._begins, name, prefix)
        return filters

    def _begins(self, name: str, prefix: str, row: _Row) -> Column:
        text = row.id if name == "id" else row.name
        if self._is_sqlite:
            return sa.and_(text >= prefix, text < prefix + _LAST)
        # Byte by byte, as the indexes are: the order of a language does not keep them together.
        from_here = text.op("~>=~", is_comparison=True)(prefix)
        return sa.and_(from_here, text.op("~<~", is_comparison=True)(prefix + _LAST))

    def _aside(self, column: Column) -> Column:
        """Return a column by whose index nobody should go.

        SQLite has no idea of what is rare. Postgres has, but sorts all that a filter selects even
        for a first page, of which the index of the whole list shows fifty at once.
        """
        if self._is_sqlite:
            return sa.UnaryExpression(column, operator=custom_op("+"), type_=column.type)
        # Bytes are compared, as ever; only the index is of another collation.
        return sa.collate(column, "C")


def _row_of(jobs: sa.FromClause) -> _Row:
    return _Row(id=jobs.c.id, name=jobs.c.name, state=jobs.c.state)


def _known(labels: sa.FromClause, by_label: Column, by_job: Column) -> Column:
    """Ask the row of a label, or the job itself where too much would have to stand there."""
    # Where it does not stand there, `by_label` is neither true nor false.
    return sa.or_(by_label, sa.and_(labels.c.labels.is_(None), by_job))


def _is_job(id_: Column, passes: Callable[[_Row], Column]) -> Column:
    other = tables.jobs.alias()
    return sa.exists().where(other.c.id == id_, passes(_row_of(other)))


def _is_labelled(id_: Column, key: str, value: str) -> Column:
    other = tables.job_labels.alias()
    return sa.exists().where(other.c.job_id == id_, other.c.key == key, other.c.value == value)


def ids_by_state(org_id: OrgId, page: Page, part: Part, *, merges: bool) -> sa.CompoundSelect[Any]:
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
    if not merges and len(branches) > 1:
        needed = msgspec.structs.replace(part, limit=part.offset + part.limit, offset=0)
        branches = [
            sa.select(needed.cut(branch, _jobs.created_at, _jobs.id).subquery())
            for branch in branches
        ]
    merged = sa.union_all(*(branches or [mine.where(sa.false())]))
    columns = merged.selected_columns
    order = part.order(columns.created_at, columns.id)
    return merged.order_by(*order).limit(part.limit).offset(part.offset)
