"""What docs/retries.md says of rounds and shards is what the code does, and its commands work."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.journeys.service import BASE, prompt, running

from penstock.api.retry import OUTCOMES
from penstock.core.limits import Limits
from penstock.core.line import LineOutcome
from penstock.core.options import RETRY_ATTEMPTS_MAX, SHARDS_MAX, RetryPolicy
from penstock.store.rounds import RETRY_FAILED

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "retries.md").read_text("utf-8")
WORDS = " ".join(PAGE.split())
COMMAND = re.compile(r"^ *(?:penstock )(retry req_… .*)$", re.MULTILINE)
CALL = re.compile(r"^ *(POST) /requests/\{id\}(/retry\?.*)$", re.MULTILINE)


@pytest.mark.slow
def test_the_call_and_the_command_send_lines_again(tmp_path: Path) -> None:
    """Both begin another round, and the job ends with the same line in the same place."""
    ((method, path),) = CALL.findall(PAGE)
    (command,) = COMMAND.findall(PAGE)
    lines = [prompt("Say hello"), prompt("[[emulator:fail=400]]")]
    with running(tmp_path) as service:
        record = service.wait(str(service.submit(lines)["request_id"]))
        job = str(record["request_id"])
        # What another try cannot mend is not tried again by itself.
        assert "round" not in record["outcome"]
        answer = service.http.request(method, f"{service.url}{BASE}/requests/{job}{path}")
        assert answer.status_code == 200, answer.text
        record = service.wait(job)
        assert record["outcome"]["round"]["number"] == 2
        assert record["outcome"]["round"]["outcomes"] == ["error", "truncated"]
        arguments = command.replace("req_…", job).split()
        done = subprocess.run(
            [sys.executable, "-m", "penstock.cli.main", *arguments],
            env={**os.environ, "PENSTOCK_URL": service.url, "PENSTOCK_API_KEY": service.key},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        record = service.get(job)
        assert record["status"] == "success", done.stderr
        assert record["outcome"]["round"]["number"] == 3, done.stderr
        rows = service.output(record)
        assert [bool(row["status"]) for row in rows] == [False, True]


def test_the_policy_on_the_page_is_that_of_the_code() -> None:
    """Defaults and bounds of both options, and how far shards go."""
    policy = RetryPolicy()
    attempts, outcomes = re.findall(r"^\| `retry_\w+` \| (\S+) \| (.*) \|$", PAGE, re.MULTILINE)
    assert attempts[0] == str(policy.attempts)
    assert f"0 to {RETRY_ATTEMPTS_MAX}" in attempts[1]
    assert outcomes[0] == "`" + ",".join(policy.outcomes) + "`"
    assert f"`?shards=4` cuts evenly (up to {SHARDS_MAX})" in WORDS
    assert set(OUTCOMES) == set(LineOutcome) - {LineOutcome.OK}
    assert "Any outcome but `ok`" in WORDS


def test_every_refusal_is_on_the_page() -> None:
    """The codes that the route gives are those that the page tells, each with its status."""
    code = (ROOT / "src" / "penstock" / "api" / "retry.py").read_text("utf-8")
    given = set(re.findall(r'code="(\w+)"', code)) - {"invalid_parameter"}
    refused = WORDS.partition("It is refused with ")[2].partition("on the day of the retry")[0]
    told = set(re.findall(r"\(`(\w+)`\)", refused))
    assert told == given | {"cost_over_cap"}
    assert re.findall(r"\b(\d{3})\b", refused) == ["409", "402", "404", "429"]


def test_names_on_the_page_exist() -> None:
    """Limits are limits, and events are those that the history has."""
    named = set(re.findall(r"`limits\.(\w+)`", PAGE))
    assert len(named) >= 4
    assert named <= set(Limits.__struct_fields__)
    assert f"the history has `{RETRY_FAILED}`" in WORDS
    again = (ROOT / "src" / "penstock" / "lifecycle" / "again.py").read_text("utf-8")
    assert "(event `retry_over_cap`)" in WORDS
    assert '"retry_over_cap"' in again
