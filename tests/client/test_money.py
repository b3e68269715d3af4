import json
from typing import Any

from tests.client.kinds import Connect
from tests.client.stub import Reply, Stub, record

from penstock.client import Cost, Estimate

REPORT: dict[str, Any] = {
    "org_id": "acme",
    "from": "2026-11-01",
    "to": "2026-11-23",
    "group_by": ["day", "model"],
    "groups": [
        {
            "day": "2026-11-22",
            "model": "gemini-3-flash-preview",
            "jobs": 2,
            "lines": 9,
            "batch_usd": "0.000042",
            "online_usd": None,
            "unpriced_lines": 3,
            "new": 1,
        }
    ],
}


def reply(value: object) -> Reply:
    """An answer in JSON."""
    return Reply(content=json.dumps(value).encode())


def test_spending_is_read_by_what_is_asked(connect: Connect, stub: Stub) -> None:
    """The span and the groups go into the query; what is unknown stays unknown."""
    stub.serve("/api/v1/usage", reply(REPORT))
    with connect(stub) as client:
        report = client.spent(first="2026-11-01", last="2026-11-23", by=["day", "model"])
    query = stub.seen[0].path.partition("?")[2]
    assert query == "from=2026-11-01&to=2026-11-23&group_by=day%2Cmodel"
    assert (report.first, report.last, report.group_by) == (
        "2026-11-01",
        "2026-11-23",
        ["day", "model"],
    )
    (group,) = report.groups
    assert (group.day, group.key, group.batch_usd) == ("2026-11-22", None, "0.000042")
    assert (group.online_usd, group.unpriced_lines) == (None, 3)


def test_nothing_wanted_is_the_server_s_choice(connect: Connect, stub: Stub) -> None:
    """Without a span the server chooses one; the question is still the one for spending."""
    stub.serve("/api/v1/usage", reply(REPORT))
    with connect(stub) as client:
        client.spent()
    assert stub.seen[0].path.partition("?")[2] == "group_by="


def test_a_job_has_its_estimate_and_its_cost(connect: Connect, stub: Stub) -> None:
    """Both are typed, and an older server's job has neither."""
    dollars = {"low": "0.01", "expected": "0.02", "high": "0.04"}
    known = {
        "estimate": {"lines": 7, "cost_usd": dollars, "online_cost_usd": "0.04", "basis": "x"},
        "outcome": {"cost": {"batch_usd": "0.03", "by_outcome": {"ok": {"lines": 7}}}},
    }
    stub.on("GET", "/requests/req_1", reply({**record(), **known}), reply(record()))
    with connect(stub) as client:
        told, old = client.get("req_1"), client.get("req_1")
    assert isinstance(told.estimate, Estimate)
    assert told.estimate.cost_usd is not None
    assert told.estimate.cost_usd.expected == "0.02"
    assert told.outcome is not None
    assert isinstance(told.outcome.cost, Cost)
    assert told.outcome.cost.by_outcome["ok"].lines == 7
    assert old.estimate is None
