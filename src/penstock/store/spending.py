"""What was billed in a span of time, by day, model, key and organisation: sums over the ledger.

What the same would have cost online is no business of the ledger; it is in the bills of the jobs,
for all rounds together, and counts with the first one.
"""

from enum import StrEnum
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.entry import EntryKind
from penstock.core.job import OrgId
from penstock.core.quotas import DAY_SECONDS
from penstock.store import tables


class By(StrEnum):
    """What sums can be split by."""

    DAY = "day"
    MODEL = "model"
    KEY = "key"
    ORG = "org"


class Spending(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked."""

    org_id: OrgId | None
    """None for all of them, which is the operator's question."""
    first_day: int
    last_day: int
    """Counted since the epoch, both included: of the day on which it was billed."""
    by: tuple[By, ...] = ()
    groups_max: int


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """One sum; of `day`, `model`, `key` and `org` those are set that it is split by."""

    jobs: int
    lines: int
    """That the provider answered."""
    prompt_tokens: int
    output_tokens: int
    micro_dollars: int
    """Of the lines whose price is known."""
    unpriced_lines: int
    """The others."""
    compared_micro_dollars: int
    """Of the first, what those cost whose online price is known, too."""
    online_micro_dollars: int
    """What these would have cost online."""
    day: int | None = None
    model: str | None = None
    key: str | None = None
    org: str | None = None


async def read_groups(connection: AsyncConnection, asked: Spending) -> list[Group]:
    """Return the sums, in the order of what they are split by; one more than may be, at most."""
    ledger, jobs = tables.ledger.c, tables.jobs.c
    is_postgres = connection.dialect.name == "postgresql"
    columns = {
        By.DAY: _day(ledger.at, is_postgres=is_postgres),
        By.MODEL: jobs.model,
        By.KEY: jobs.key_id,
        By.ORG: ledger.org_id,
    }
    split = [columns[name].label(name.value) for name in asked.by]
    online = _online(is_postgres=is_postgres)
    known = online.is_not(None)
    query = (
        sa.select(
            *split,
            sa.func.count(sa.distinct(ledger.job_id)).label("jobs"),
            _sum(ledger.lines, "lines"),
            _sum(ledger.prompt_tokens, "prompt_tokens"),
            _sum(ledger.output_tokens, "output_tokens"),
            _sum(ledger.micro_dollars, "micro_dollars"),
            _sum(sa.case((ledger.micro_dollars.is_(None), ledger.lines)), "unpriced_lines"),
            _sum(sa.case((known, ledger.micro_dollars)), "compared_micro_dollars"),
            _sum(sa.case((ledger.round == 1, online)), "online_micro_dollars"),
        )
        .join_from(tables.ledger, tables.jobs, jobs.id == ledger.job_id)
        .where(
            ledger.kind == EntryKind.USAGE.value,
            ledger.at >= asked.first_day * DAY_SECONDS,
            ledger.at < (asked.last_day + 1) * DAY_SECONDS,
        )
        .group_by(*split)
        .order_by(*split)
        .limit(asked.groups_max + 1)
    )
    if asked.org_id is not None:
        query = query.where(ledger.org_id == asked.org_id)
    rows = (await connection.execute(query)).mappings().all()
    # A sum over nothing is one row of zeroes, and no group.
    return [_group(dict(row)) for row in rows if row["jobs"]]


def _group(row: dict[str, Any]) -> Group:
    # Postgres adds big integers up to a decimal number.
    values = {name: value if isinstance(value, str) else int(value) for name, value in row.items()}
    return msgspec.convert(values, Group)


def _sum(column: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[Any]:
    return sa.func.coalesce(sa.func.sum(column), 0).label(name)


def _day(at: sa.ColumnElement[float], *, is_postgres: bool) -> sa.ColumnElement[int]:
    days = at / DAY_SECONDS
    # SQLite cuts, and may be too old to have floor(); Postgres rounds.
    return sa.cast(sa.func.floor(days) if is_postgres else days, sa.Integer)


def _online(*, is_postgres: bool) -> sa.ColumnElement[int]:
    """Return the online cost in the job's bill; null where there is no bill or no such price."""
    bill = tables.jobs.c.bill
    found = sa.cast(bill, sa.JSON) if is_postgres else sa.type_coerce(bill, sa.JSON)
    number: sa.ColumnElement[int] = sa.cast(
        found["online_micro_dollars"].as_string(), sa.BigInteger
    )
    return number
