"""No answer of success leaves the server before what it promises is on the disk.

A kill cannot show that: the page cache survives it. So the calls of a real server are read.
`tools/check_acks.py` does the same more often and prints the table.
"""

from pathlib import Path

import pytest
from starlette.routing import Route
from tests.api.driver import Api
from tests.durability.broken import FAULTS
from tests.durability.routes import ROUTES, Row, run_commands, serve
from tests.durability.trace import why_not
from tests.durability.traced import Traced
from tests.fake_clock import FakeClock
from tests.journeys.service import BASE

from penstock.blobs.spool import Spool
from penstock.core.limits import Limits
from penstock.store.store import Store

REPEAT = 2
WRITES = {"POST", "PUT", "PATCH", "DELETE"}

FOUND = {
    "no-directory": ("json", "data/jobs/req_* (new name) was not synced"),
    "no-file": ("append", "data/uploads/upl_*.part (bytes) was not synced"),
    "normal": ("json", "data/penstock.db-journal (removed name) was not synced"),
    "early": ("json", "penstock.db was not written"),
}
"""By fault: a route and what must be said of it."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder of a machine on which calls can be traced."""
    reason = why_not(tmp_path)
    if reason:
        pytest.skip(reason)
    return tmp_path


def faults(rows: list[Row]) -> dict[str, set[str]]:
    """What was found, by route."""
    return {row.title: set(row.faults) for row in rows if row.faults}


@pytest.mark.slow
def test_no_answer_comes_before_the_disk(folder: Path) -> None:
    """Every write route, and what its answer promises: all files and directories are synced."""
    rows = serve(Traced(folder), ROUTES, REPEAT)
    assert faults(rows) == {}
    assert {row.title: row.answers for row in rows} == {
        route.title: REPEAT for route in ROUTES.values()
    }


@pytest.mark.slow
def test_no_key_is_shown_before_the_disk(folder: Path) -> None:
    """A key that was printed is in the database, also where that was made a moment before."""
    traced = Traced(folder)
    with traced.serving():
        rows = run_commands(traced, folder, 1)
    assert faults(rows) == {}
    assert [row.answers for row in rows] == [1, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("fault", FOUND)
def test_the_check_finds(folder: Path, fault: str) -> None:
    """A server that breaks one promise is caught at it."""
    route, sentence = FOUND[fault]
    (row,) = serve(Traced(folder, fault), [route], 1)
    assert any(found.endswith(sentence) for found in row.faults), row.faults


def test_every_broken_promise_is_looked_for() -> None:
    """The faults that can be made and those that are tested are the same."""
    assert set(FAULTS) == set(FOUND)


async def test_every_route_that_writes_is_driven(
    store: Store, tmp_path: Path, clock: FakeClock
) -> None:
    """A new route that writes has no place in the table yet, and this says so."""
    app = Api(store, Spool(tmp_path / "data"), clock, Limits()).app
    written = {
        f"{method} {route.path.removeprefix(BASE)}"
        for route in app.routes
        if isinstance(route, Route) and route.path.startswith(BASE)
        for method in WRITES & (route.methods or set())
    }
    written = {
        one.replace("{request_id}", "{id}").replace("{upload_id}", "{id}") for one in written
    }
    driven = {route.title.partition(",")[0].partition(" with ")[0] for route in ROUTES.values()}
    assert written == driven - {"HEAD /uploads/{id}"}
