import json
from typing import Any

import pytest
from tests.client.stub import Reply, Stub, record

from penstock.cli.main import run

pytestmark = pytest.mark.usefixtures("shell")

Out = pytest.CaptureFixture[str]
GROUP = {
    "day": "2026-11-22",
    "model": "gemini-3-flash-preview",
    "jobs": 2,
    "lines": 9,
    "prompt_tokens": 10,
    "output_tokens": 25,
    "batch_usd": "0.000042",
    "online_usd": "0.000084",
    "saved_usd": "0.000042",
    "unpriced_lines": 0,
}
UNKNOWN = {**GROUP, "model": "gemini-9", "batch_usd": None, "online_usd": None, "saved_usd": None}
REPORT = {
    "org_id": "acme",
    "from": "2026-10-25",
    "to": "2026-11-23",
    "group_by": ["model", "day"],
    "groups": [GROUP, {**UNKNOWN, "unpriced_lines": 9}],
}
DOLLARS = {"low": "0.010000", "expected": "0.020000", "high": "0.040000"}


def reply(value: object) -> Reply:
    """An answer in JSON."""
    return Reply(content=json.dumps(value).encode())


def sheet(stub: Stub, capsys: Out, status: str = "success", **members: Any) -> str:  # noqa: ANN401  # JSON
    """What `penstock status` says of a job with these members."""
    stub.on("GET", "/requests/req_7", reply({**record(), "status": status, **members}))
    run(["status", "req_7"])
    return capsys.readouterr().out


def test_usage_is_a_table(stub: Stub, capsys: Out) -> None:
    """A row a group, with what it is grouped by first; an unknown cost is called so."""
    stub.serve("/api/v1/usage", reply(REPORT))
    assert run(["usage", "--by", "model,day", "--from", "2026-10-25"]) == 0
    assert stub.seen[0].path.partition("?")[2] == "from=2026-10-25&group_by=model%2Cday"
    first, second = capsys.readouterr().out.splitlines()
    assert first.split("\t") == [
        *("gemini-3-flash-preview", "2026-11-22", "2", "9", "10", "25"),
        *("$0.000042", "$0.000084", "$0.000042", "0"),
    ]
    assert second.split("\t")[6:] == ["unknown", "unknown", "unknown", "9"]


def test_usage_as_json_is_the_report(stub: Stub, capsys: Out) -> None:
    """Scripts get the members of the API, under the same names."""
    stub.serve("/api/v1/usage", reply(REPORT))
    assert run(["usage", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["from"], told["groups"][0]["batch_usd"]) == ("2026-10-25", "0.000042")


def test_the_sheet_has_the_estimate(stub: Stub, capsys: Out) -> None:
    """Before a job has cost anything, people see what it is expected to, and how surely."""
    told = sheet(stub, capsys, "queued", estimate={"lines": 7, "cost_usd": DOLLARS})
    assert "estimate  $0.020000, nine in ten between $0.010000 and $0.040000" in told
    assert "cost" not in told
    unknown = {"lines": 7, "cost_usd": None, "output_tokens": {"expected": 7000}}
    told = sheet(stub, capsys, "queued", estimate=unknown)
    assert "estimate  unknown, the model has no price; 7,000 tokens out" in told


def test_the_sheet_has_cost_and_saving(stub: Stub, capsys: Out) -> None:
    """What was paid, how much less than online that is, and what identical lines saved."""
    cost = {
        "batch_usd": "0.000042",
        "online_usd": "0.000084",
        "saved_usd": "0.000042",
        "deduplicated_usd": "0.000007",
    }
    told = sheet(stub, capsys, outcome={"cost": cost})
    assert (
        "cost      $0.000042, $0.000042 less than online, $0.000007 saved by identical lines"
        in told
    )
    none = {**cost, "online_usd": None, "deduplicated_usd": "0.000000"}
    assert "cost      $0.000042\n" in sheet(stub, capsys, outcome={"cost": none})


def test_an_unknown_cost_is_called_unknown(stub: Stub, capsys: Out) -> None:
    """Never zero, and never nothing; an older server's cost is shown as it says it."""
    told = sheet(stub, capsys, outcome={"cost": {"batch_usd": None}, "actual_cost_usd": None})
    assert "cost      unknown, the model has no price" in told
    told = sheet(stub, capsys, outcome={"actual_cost_usd": "0.5"})
    assert "cost      $0.5" in told
