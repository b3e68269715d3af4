"""What is found out about an account for nothing, and each way in which it can be wrong."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.doctor.google import google_at
from tests.emulator.driver import Emulator, fresh_emulator
from tests.wire import closed_port

from penstock.core.models import SEED_CATALOGUE, Model
from penstock.doctor import account, bucket
from penstock.doctor.account import Account
from penstock.doctor.assumptions import BY_ID
from penstock.doctor.check import Finding, Verdict, exit_code_of

MODEL = SEED_CATALOGUE["gemini-3-flash-preview"]
AGENT = "service-415104041262@gcp-sa-aiplatform.iam.gserviceaccount.com"
HOLDS, WARNS, FAILS, UNKNOWN = Verdict.HOLDS, Verdict.WARNS, Verdict.FAILS, Verdict.UNKNOWN


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    """A fresh emulator."""
    with fresh_emulator(tmp_path) as made:
        yield made


def look(
    url: str,
    *,
    model: Model = MODEL,
    location: str = "global",
    described: str = "a token",
    **values: str,
) -> dict[str, Finding]:
    """Make all free checks."""

    async def ask() -> list[Finding]:
        async with google_at(url, **values) as google:
            known = Account(google=google, model=model, location=location)
            findings = await account.look(known, described)
            return [*findings, *await bucket.look(known)]

    return {finding.check: finding for finding in asyncio.run(ask())}


def said(emulator: Emulator, call: str, status: int = 200, path: str = "*", **body: Any) -> None:  # noqa: ANN401  # JSON
    """Have the emulator answer a question in this way."""
    text = json.dumps(body) if body else None
    then = {"status": status, **({"body": text} if text else {})}
    emulator.rule(when={"call": call, "path": path}, then=then)


def test_all_holds(emulator: Emulator) -> None:
    """With the emulator as it is nothing is wrong, and nothing is written."""
    findings = look(emulator.url)
    assert {finding.verdict for finding in findings.values()} == {HOLDS}, findings
    assert AGENT in findings["service-agent-rights"].saw
    assert emulator.names() == []
    assert emulator.http.get("/emulator/v1/jobs").json()["jobsMade"] == 0


def test_the_page_lists_these_checks(emulator: Emulator) -> None:
    """docs/verified.md has a row for each, but for those that it lists as assumptions."""
    page = (Path(__file__).parents[2] / "docs" / "verified.md").read_text("utf-8")
    listed = set(re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE))
    assert listed == set(look(emulator.url)) - set(BY_ID)


def test_a_google_that_does_not_answer() -> None:
    """Without an answer there is one finding for each host, and what to do."""
    findings = look(f"http://127.0.0.1:{closed_port()}")
    assert {name: one.verdict for name, one in findings.items()} == {
        "credentials": FAILS,
        "bucket": FAILS,
    }


def test_credentials_that_are_refused(emulator: Emulator) -> None:
    """401 is about the key: exit code 4, and nothing else is asked."""
    emulator.rule(when={"call": "list"}, then={"status": 401})
    findings = look(emulator.url)
    assert findings["credentials"].verdict is FAILS
    assert exit_code_of(list(findings.values())) == 4
    assert "permissions" not in findings


def test_users_need_a_quota_project(emulator: Emulator) -> None:
    """People's own credentials without one are told before Google refuses them for odd reasons."""
    found = look(emulator.url, described="user (gcloud)")["credentials"]
    assert found.verdict is WARNS
    assert "set-quota-project penstock-emulator" in found.todo


@pytest.mark.parametrize(
    ("status", "error", "word", "code"),
    [
        (403, {"message": "x", "details": [{"reason": "SERVICE_DISABLED"}]}, "not enabled", 1),
        (403, {"message": "Permission denied"}, "Permission denied", 4),
        (404, {"message": "no such location"}, "no such location", 5),
        (500, {"message": "oops", "details": "x"}, "oops", 1),
    ],
)
def test_an_api_that_says_no(
    emulator: Emulator, status: int, error: dict[str, Any], word: str, code: int
) -> None:
    """Disabled, forbidden, elsewhere: each has its own advice."""
    text = json.dumps({"error": error})
    emulator.rule(when={"call": "list"}, then={"status": status, "body": text})
    finding = look(emulator.url)["vertex-api"]
    assert word in finding.saw
    assert finding.todo
    assert finding.exit_code == code


def test_permissions_that_are_missing(emulator: Emulator) -> None:
    """Each missing right is named, with the command that grants it."""
    said(emulator, "about_project", path="*:testIamPermissions", permissions=[account.NEEDED[1]])
    said(emulator, "about_bucket", path="*/iam/test*", permissions=[bucket.NEEDED[0]])
    findings = look(emulator.url)
    assert "may not create, list, cancel" in findings["permissions"].saw
    assert "roles/aiplatform.user" in findings["permissions"].todo
    assert "storage.objects.delete" in findings["bucket-rights"].saw
    assert exit_code_of(list(findings.values())) == 4


def test_questions_that_may_not_be_asked(emulator: Emulator) -> None:
    """What cannot be found out is unknown, never a failure; only a job can tell then."""
    said(emulator, "about_project", 403)
    said(emulator, "about_model", 403)
    said(emulator, "about_bucket", 403)
    findings = look(emulator.url)
    asked = ("project", "permissions", "model", "bucket", "bucket-rights", "service-agent-rights")
    assert {findings[name].verdict for name in asked} == {UNKNOWN}
    assert "--spend" in findings["service-agent-rights"].todo


def test_answers_that_get_lost_are_unknown(emulator: Emulator) -> None:
    """A connection that breaks at one question does not hide the answers to the others."""
    emulator.rule(when={"call": "about_model"}, then={"drop": "before"})
    findings = look(emulator.url)
    assert findings["model"].verdict is UNKNOWN
    assert findings["bucket"].verdict is HOLDS


@pytest.mark.parametrize(("status", "code"), [(403, 4), (500, 1)])
def test_an_unknown_job_must_be_unknown(emulator: Emulator, status: int, code: int) -> None:
    """Another answer than 404 would have lost jobs waited for."""
    emulator.rule(when={"call": "get"}, then={"status": status})
    finding = look(emulator.url)["get-unknown"]
    assert (finding.verdict, finding.exit_code) == (FAILS, code)


def test_a_model_that_is_gone(emulator: Emulator) -> None:
    """404 of the model, exit code 5."""
    findings = look(emulator.url, model=Model(id="gemini-3-pro-preview"))
    assert (findings["model"].verdict, findings["model"].exit_code) == (FAILS, 5)


@pytest.mark.parametrize(
    ("model", "location", "verdict"),
    [
        ("gemini-3-flash-preview", "us-central1", FAILS),
        ("gemini-2.5-flash", "us-central1", WARNS),
        ("gemini-2.5-flash", "global", HOLDS),
    ],
)
def test_models_have_their_places(
    emulator: Emulator, model: str, location: str, verdict: Verdict
) -> None:
    """Gemini 3 at a region is known to fail."""
    findings = look(emulator.url, model=Model(id=model), location=location)
    assert findings["location"].verdict is verdict


def test_a_bucket_that_is_not_there(emulator: Emulator) -> None:
    """404 ends the questions about it, with the command that makes one."""
    findings = look(emulator.url, bucket="nobodys-bucket")
    assert (findings["bucket"].verdict, findings["bucket"].exit_code) == (FAILS, 5)
    assert "gcloud storage buckets create" in findings["bucket"].todo
    assert "bucket-rights" not in findings


def test_a_storage_that_fails(emulator: Emulator) -> None:
    """Any other answer is shown as it is."""
    said(emulator, "about_bucket", 500)
    assert look(emulator.url)["bucket"].verdict is FAILS


@pytest.mark.parametrize(
    ("resource", "check", "verdict"),
    [
        ({"location": "EUROPE-WEST4", "locationType": "region"}, "bucket-location", WARNS),
        ({"location": "US-CENTRAL1", "locationType": "region"}, "bucket-location", HOLDS),
        ({"location": "US", "locationType": "multi-region"}, "bucket-location", HOLDS),
        ({"retentionPolicy": {"retentionPeriod": "60"}}, "bucket-deletes", FAILS),
        ({"defaultEventBasedHold": True}, "bucket-deletes", FAILS),
        (
            {"softDeletePolicy": {"retentionDurationSeconds": "604800"}},
            "bucket-deletes",
            WARNS,
        ),
        ({"versioning": {"enabled": True}}, "bucket-deletes", WARNS),
        ({"softDeletePolicy": {"retentionDurationSeconds": "0"}}, "bucket-deletes", HOLDS),
    ],
)
def test_buckets_of_other_kinds(
    emulator: Emulator, resource: dict[str, Any], check: str, verdict: Verdict
) -> None:
    """Where it lies and what keeps deleted objects is judged by what jobs and the fence need."""
    said(emulator, "about_bucket", path="penstock/", name="penstock", **resource)
    findings = look(emulator.url, location="us-central1", model=Model(id="gemini-2.5-flash"))
    assert findings[check].verdict is verdict
    assert bool(findings[check].todo) == (verdict is not HOLDS)


def bound(role: str) -> list[Any]:
    """A policy with one role for the service agent."""
    return [{"role": role, "members": [f"serviceAccount:{AGENT}"]}, {"role": "x"}, "odd"]


@pytest.mark.parametrize(
    ("call", "path", "role", "verdict"),
    [
        ("about_bucket", "*/iam/", "roles/storage.objectAdmin", HOLDS),
        ("about_project", "*:getIamPolicy", "roles/editor", HOLDS),
        ("about_project", "*:getIamPolicy", "roles/viewer", WARNS),
    ],
)
def test_roles_of_the_service_agent(
    emulator: Emulator, call: str, path: str, role: str, verdict: Verdict
) -> None:
    """A role on the bucket or on the project is enough; others are not proof of a no."""
    said(emulator, call, path=path, bindings=bound(role))
    finding = look(emulator.url)["service-agent-rights"]
    assert finding.verdict is verdict


def test_the_own_role_reaches_no_bucket_of_another_project(emulator: Emulator) -> None:
    """What Google grants by itself ends at the project; the bucket must be granted then."""
    said(emulator, "about_bucket", path="penstock/", name="penstock", projectNumber="7")
    finding = look(emulator.url)["service-agent-rights"]
    assert finding.verdict is WARNS
    assert f"serviceAccount:{AGENT}" in finding.todo


def test_policies_that_may_not_be_read(emulator: Emulator) -> None:
    """A policy that is closed leaves the question open."""
    said(emulator, "about_bucket", 403, path="*/iam/")
    said(emulator, "about_project", 403, path="*:getIamPolicy")
    assert look(emulator.url)["service-agent-rights"].verdict is UNKNOWN


def test_answers_that_are_no_json_are_errors(emulator: Emulator) -> None:
    """A page of something in between is no list of jobs and no crash."""
    emulator.rule(when={"call": "list"}, then={"status": 502, "body": "<html>"})
    assert look(emulator.url)["vertex-api"].saw.endswith("502")
