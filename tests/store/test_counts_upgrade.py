"""A database that is older than the counts of lists, and what its upgrade makes of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.store.conftest import on_postgres
from tests.store.driver import rows
from tests.store.test_database import make_at, upgrade_from_nothing
from tests.store.test_postgres import upgrade_to
from tests.store.test_tallies import ASTRAY, COUNTED, KEPT

from penstock.store.database import migrate
from penstock.store.jobs import FOUND_BY_BYTES_MAX

Run = Callable[[str], list[tuple[Any, ...]]]

LONG = '{"key":"' + "ü" * (FOUND_BY_BYTES_MAX // 2) + '"}'
OLD = (
    "INSERT INTO orgs (id, name, created_at) VALUES ('acme', 'acme', 0), ('rival', 'rival', 0)",
    "INSERT INTO users (id, name, created_at) VALUES ('u', 'u', 0)",
    """
    INSERT INTO jobs (id, org_id, user_id, key_id, state, model, payload, line_count, input_bytes,
                      input_sha256, created_at, updated_at, finished_at, parent_id, name, labels)
    WITH RECURSIVE one (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM one WHERE n < 40)
    SELECT 'req_' || n, CASE WHEN n < 30 THEN 'acme' ELSE 'rival' END, 'u', 'k',
           CASE WHEN n < 20 THEN 'accepted' ELSE 'failed' END, 'm', '{}', 1, 1, '', n, n,
           CASE WHEN n < 20 THEN NULL ELSE n END, CASE WHEN n = 7 THEN 'req_6' END, 'name ' || n,
           CASE WHEN n = 9 THEN 'LONG' ELSE '{"team":"ads"}' END
    FROM one
    """.replace("LONG", LONG),
    """
    INSERT INTO job_labels (job_id, key, value, org_id, created_at)
    SELECT id, CASE WHEN id = 'req_9' THEN 'key' ELSE 'team' END, 'ads', org_id, created_at
    FROM jobs WHERE id <> 'req_8' AND parent_id IS NULL
    """,
)
"""Of two organisations: jobs in two states, one shard, one without labels, one with long ones."""

FOUND_BY = "SELECT state, name, labels FROM job_labels WHERE job_id = "


def check_upgraded(run: Run) -> None:
    """The sums are those that one counts, and labels say what lists filter by."""
    kept = {row[:4]: int(row[4]) for row in run(KEPT)}
    assert kept == {row[:4]: row[4] for row in run(COUNTED)}
    assert kept["acme", "", "", "accepted"] == 18
    assert kept["rival", "team", "ads", "failed"] == 11
    assert run(ASTRAY) == []
    assert run(f"{FOUND_BY} 'req_30'") == [("failed", "name 30", '{"team":"ads"}')]
    assert run(f"{FOUND_BY} 'req_9'") == [("accepted", None, None)]
    run("UPDATE jobs SET state = 'prepared' WHERE id = 'req_1'")
    assert {row[:4]: int(row[4]) for row in run(KEPT)} == {row[:4]: row[4] for row in run(COUNTED)}
    assert run(ASTRAY) == []


def test_an_upgrade_counts_what_is_there(tmp_path: Path) -> None:
    """What revision 0007 wrote is counted, and goes on being counted (SQLite)."""
    path = tmp_path / "penstock.db"
    make_at(path, "0007")
    for statement in OLD:
        rows(path, statement)
    migrate(path)
    check_upgraded(lambda query: rows(path, query))


def test_an_upgrade_of_a_server_counts_what_is_there(empty_postgres_url: str) -> None:
    """The same on Postgres."""
    upgrade_to(empty_postgres_url, "0007")
    with psycopg.connect(empty_postgres_url) as connection:
        for statement in OLD:
            connection.execute(statement.encode())
    migrate(on_postgres(empty_postgres_url))
    with psycopg.connect(empty_postgres_url) as connection:

        def run(query: str) -> list[tuple[Any, ...]]:
            found = connection.execute(query.encode())
            return found.fetchall() if found.description else []

        check_upgraded(run)


def test_an_upgraded_database_counts_as_a_new_one(tmp_path: Path) -> None:
    """Each trigger of a new database is in an upgraded one, word for word (SQLite)."""
    made, upgraded = tmp_path / "made.db", tmp_path / "upgraded.db"
    migrate(made)
    upgrade_from_nothing(upgraded)
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name"
    assert rows(made, query) == rows(upgraded, query)
    assert sum(row[0].startswith("job_counts_") for row in rows(made, query)) == 6


@pytest.mark.parametrize("table", ["jobs", "job_labels"])
def test_an_upgraded_server_counts_as_a_new_one(
    empty_postgres_url: str, postgres_url: str, table: str
) -> None:
    """The same on Postgres, with the functions that its triggers call."""
    upgrade_to(empty_postgres_url, "head")
    found = []
    for url in (empty_postgres_url, postgres_url):
        with psycopg.connect(url) as connection:
            triggers = connection.execute(
                "SELECT pg_get_triggerdef(oid), pg_get_functiondef(tgfoid) FROM pg_trigger"
                " WHERE tgrelid = %s::regclass AND NOT tgisinternal ORDER BY tgname",
                [table],
            ).fetchall()
            (counts,) = connection.execute(
                "SELECT pg_get_functiondef('count_jobs'::regproc)"
            ).fetchall()
        found.append([*triggers, counts])
    assert found[0] == found[1]
    assert len(found[0]) == 2
