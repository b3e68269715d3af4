"""Whole jobs under fire: the real server, the real emulator, and what the emulator itself says.

Nothing here asks our database: what a job cost, what was done to its rows and how many jobs were
made is read from the emulator's control API and its log.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.journeys.service import Json, Service, prompt, until

ERROR_CODES = {
    "missing_row",
    "corrupt_row",
    "duplicate_row",
    "integrity_mismatch",
    "expired",
    "cancelled",
    "provider_output_unreadable",
}
"""The closed list of what our own line errors say; the provider's own errors are prose."""
FOREIGN_TEXT = "This row belongs to another job."
LINE_USAGE = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount")
_CODE = re.compile(r'\{"error":\{"code":"([a-z_]+)"')


def fire(service: Service, fault: str, times: int | None = None, **more: Any) -> str:  # noqa: ANN401
    """Order a fault by its name and return the rule's id."""
    parameters = more.pop("parameters", {})
    body: Json = {"fault": fault, "with": parameters, **more}
    if times is not None:
        body["times"] = times
    answer = service.http.post(f"{service.emulator_url}/emulator/v1/rules", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def strikes(service: Service, rule: str) -> int:
    """How often a rule has struck, as the emulator says."""
    answer = service.http.get(f"{service.emulator_url}/emulator/v1/rules/{rule}")
    return int(answer.json()["used"])


def rules(service: Service) -> list[Json]:
    """All rules with their strikes."""
    found: list[Json] = service.http.get(f"{service.emulator_url}/emulator/v1/rules").json()[
        "rules"
    ]
    return found


@contextmanager
def under(service: Service, fault: str, times: int | None = None, **more: Any) -> Iterator[str]:  # noqa: ANN401
    """A fault that must have struck before the block ends; then it goes."""
    rule = fire(service, fault, times, **more)
    try:
        yield rule
        assert strikes(service, rule) > 0, f"{fault} hit nothing"
    finally:
        service.drop_rule(rule)


def advance(service: Service, seconds: float) -> None:
    """Move the emulator's clock."""
    answer = service.http.post(
        f"{service.emulator_url}/emulator/v1/clock", json={"advance_seconds": seconds}
    )
    assert answer.status_code == 200, answer.text


def lines_of(count: int, mark: str = "") -> list[Json]:
    """Input lines with a mark of their own each."""
    return [prompt(f"Question {mark} {n}", custom_id=f"{mark}-{n}") for n in range(count)]


def code_of(line: Json) -> str:
    """The error code of an output line; empty for an answer."""
    if not line["status"]:
        return ""
    match = _CODE.search(line["status"])
    assert match is not None, line["status"]
    return match[1]


def provider_jobs(service: Service, record: Json) -> list[Json]:
    """All provider jobs of a request, from the emulator."""
    request_id = record["request_id"].replace("-", "")
    jobs: list[Json] = [
        job
        for job in service.witness()["jobs"]
        if request_id in job["displayName"].replace("-", "")
    ]
    return jobs


def paid_jobs(service: Service, record: Json) -> list[Json]:
    """The finished provider jobs of a request that cost something, by the emulator's own log."""
    log = (service.folder / "emulator.jsonl").read_bytes().splitlines()
    events = [json.loads(line) for line in log]
    request_id = record["request_id"]
    return list(
        {
            event["id"]: event
            for event in events
            if event["event"] == "job_finished"
            and request_id in event["displayName"]
            and event["successful"] > 0
        }.values()
    )


def witness_rows(service: Service, record: Json) -> dict[int, Json]:
    """What the emulator says of every line: its usage, and what was done to its row."""
    (job,) = [job for job in provider_jobs(service, record) if job["lines"]]
    url = f"{service.emulator_url}/emulator/v1/jobs/{job['id']}/rows"
    rows = service.http.get(url).json()["rows"]
    return {int(row["key"].rsplit("-", 1)[1]): row for row in rows}


def check_output(service: Service, record: Json, lines: list[Json]) -> list[str]:
    """N lines in order, each an answer or a typed error; return the codes, "" for an answer."""
    output = service.output(record)
    assert [line.get("custom_id") for line in output] == [line["custom_id"] for line in lines]
    assert [line["request"] for line in output] == [line["request"] for line in lines]
    codes = [code_of(line) for line in output]
    for line, code in zip(output, codes, strict=True):
        assert code in ERROR_CODES or (code == "" and line["response"]["candidates"]), line
        assert code == "" or line["response"] == {}
        assert FOREIGN_TEXT not in json.dumps(line)
    failed = sum(code != "" for code in codes)
    outcome = record["outcome"]
    stats = outcome["batch_job_completion_stats"]
    assert stats["total_count"] == len(lines)
    assert stats["successful_count"] == len(lines) - failed
    word = "PARTIALLY_SUCCEEDED" if failed else "SUCCEEDED"
    if record["status"] == "success":
        assert outcome["batch_job_state"] == f"JOB_STATE_{word}"
    return codes


def check_money(service: Service, record: Json, codes: list[str]) -> None:
    """Tokens and cost are the emulator's own usage of exactly the delivered rows."""
    rows = witness_rows(service, record)
    delivered = [rows[n] for n, code in enumerate(codes, start=1) if code == ""]
    # A row without usage is an answer that states no tokens; nobody can charge for it.
    told = [row["usage"] for row in delivered if "no-usage" not in row["faults"]]
    prompts, answers, thoughts = (sum(usage.get(name, 0) for usage in told) for name in LINE_USAGE)
    outcome = record["outcome"]
    assert outcome["token_usage"]["total_prompt_tokens"] == prompts
    assert outcome["token_usage"]["total_candidates_tokens"] == answers
    micro = (prompts * 250_000 + (answers + thoughts) * 1_500_000 + 500_000) // 1_000_000
    assert outcome["actual_cost_usd"] == f"{micro / 1e6:.6f}"


def created(service: Service, request_id: str) -> None:
    """Wait until a provider job of the request exists, whoever knows of it."""
    until(
        lambda: [job for job in service.witness()["jobs"] if request_id in job["displayName"]],
        f"a provider job of {request_id}",
    )
