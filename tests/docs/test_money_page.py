"""The commands of docs/money.md work as they stand there, and what they say adds up."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.journeys.service import Service, running

from penstock.client import Api, JobRecord
from penstock.core.limits import Limits
from penstock.core.money import usd_text
from penstock.core.quotas import Estimates
from penstock.store.spending import By

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "money.md").read_text("utf-8")
LINES = ["one", "two", "two"]
"""Two of them are the same request."""


def line(text: str) -> str:
    """A line of an input."""
    return json.dumps({"request": {"contents": [{"role": "user", "parts": [{"text": text}]}]}})


def ran(service: Service, folder: Path) -> JobRecord:
    """A job that has ended."""
    file = folder / "input.jsonl"
    file.write_text("\n".join(line(text) for text in LINES), encoding="utf-8")
    with Api(service.url, service.key) as client:
        return client.wait(client.submit(file).request_id, timeout_seconds=50)


def refused(service: Service, **query: str) -> Any:  # noqa: ANN401  # JSON
    """The refusal of a submission."""
    answer = httpx2.post(
        f"{service.url}/api/v1/ie/requestqueue/apikey/requests",
        params={"model": "gemini-3-flash-preview", **query},
        headers={
            "Authorization": f"Bearer {service.key}",
            "Content-Type": "application/jsonl",
        },
        content=line("one"),
    )
    return answer.status_code, answer.json()["code"]


def test_money_adds_up_before_and_after(tmp_path: Path) -> None:
    """Of a real job: its cost is within the estimate, and by outcome, key and day the same sum."""
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    with running(tmp_path) as service:
        job = ran(service, tmp_path)
        assert refused(service, max_cost_usd="0.000001") == (402, "cost_over_cap")
        command = f'penstock() {{ {sys.executable} -m penstock.cli.main "$@"; }}\n{block}'
        done = subprocess.run(
            ["bash", "-ec", f"{command}\necho\npenstock status {job.request_id}"],
            env={**os.environ, "PENSTOCK_URL": service.url, "PENSTOCK_API_KEY": service.key},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
    assert job.estimate is not None
    assert job.estimate.cost_usd is not None
    assert job.outcome is not None
    cost = job.outcome.cost
    assert cost is not None
    assert cost.batch_usd == job.outcome.actual_cost_usd
    assert cost.online_usd is not None
    low, batch, high = (
        float(text or "nan")
        for text in (job.estimate.cost_usd.low, cost.batch_usd, job.estimate.cost_usd.high)
    )
    assert low <= batch <= high
    assert float(cost.online_usd) == pytest.approx(2 * batch, abs=2e-6)
    assert set(cost.by_outcome) == {"ok"}
    assert float(cost.deduplicated_usd or 0) > 0
    assert job.estimate.lines == 2
    table, by_key, by_model, *sheet = done.stdout.splitlines()
    assert table.split("\t")[0] == "gemini-3-flash-preview"
    assert table.split("\t")[6] == f"${cost.batch_usd}"
    for report in (by_key, by_model):
        (group,) = json.loads(report)["groups"]
        assert (group["batch_usd"], group["online_usd"]) == (cost.batch_usd, cost.online_usd)
        assert (group["jobs"], group["unpriced_lines"]) == (1, 0)
    assert any(row.startswith("estimate") and "nine in ten" in row for row in sheet)
    assert any(row.startswith("cost") and "less than online" in row for row in sheet)


def test_the_page_has_the_words_of_the_code() -> None:
    """What can be grouped by, the limits and the setting stand there under their names."""
    assert all(f"`{name}`" in PAGE for name in By)
    for name in ("usage_days_max", "usage_groups_max"):
        assert f"`limits.{name}`" in PAGE
        assert name in Limits.__struct_fields__
    assert "`estimates.output_tokens_per_line`" in PAGE
    assert f"({Estimates().output_tokens_per_line:,}, of them" in PAGE
    examples = [
        json.loads("{" + text + "}") for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    ]
    estimate, cost = examples[0]["estimate"], examples[1]["cost"]
    shares = sum(float(share["usd"]) for share in cost["by_outcome"].values())
    assert shares == pytest.approx(float(cost["batch_usd"]))
    refunded = float(cost["reserved_usd"]) - float(cost["batch_usd"])
    assert cost["refunded_usd"] == usd_text(round(refunded * 1_000_000))
    assert estimate["cost_usd"]["expected"] == cost["reserved_usd"]
