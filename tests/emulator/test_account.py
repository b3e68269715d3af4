"""What is asked about rights: project, models, the bucket's IAM; by path and member as Google's."""

import httpx2
import pytest
from tests.emulator.driver import Emulator

PROJECT = "/v1/projects/penstock-emulator"
MODEL = "/v1/publishers/google/models/gemini-3-flash-preview"
BUCKET = "/storage/v1/b/penstock"


def test_the_project_tells_its_number(shared: Emulator) -> None:
    """The service agent's name is made of it."""
    found = shared.http.get(PROJECT).json()
    assert (found["projectId"], found["projectNumber"]) == ("penstock-emulator", "415104041262")
    policy = shared.http.post(f"{PROJECT}:getIamPolicy").json()
    agent = "serviceAccount:service-415104041262@gcp-sa-aiplatform.iam.gserviceaccount.com"
    assert policy["bindings"] == [{"role": "roles/aiplatform.serviceAgent", "members": [agent]}]


def test_permissions_are_those_that_were_asked_for(shared: Emulator) -> None:
    """Whoever has a token has all, of project and bucket; nothing asked, nothing told."""
    asked = ["aiplatform.batchPredictionJobs.create", "aiplatform.batchPredictionJobs.get"]
    answer = shared.http.post(f"{PROJECT}:testIamPermissions", json={"permissions": asked})
    assert answer.json() == {"permissions": asked}
    of_bucket = {"permissions": ["storage.objects.get", "storage.objects.list"]}
    answer = shared.http.get(f"{BUCKET}/iam/testPermissions", params=of_bucket)
    assert answer.json()["permissions"] == of_bucket["permissions"]
    assert "permissions" not in shared.http.get(f"{BUCKET}/iam/testPermissions").json()
    assert shared.http.get(f"{BUCKET}/iam").json()["bindings"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/projects/acme", 403),
        ("POST", f"{PROJECT}:setIamPolicy", 404),
        ("POST", PROJECT, 404),
        ("GET", MODEL.replace("gemini-3-flash-preview", "gemini-9-nova"), 404),
        ("GET", MODEL, 200),
        ("GET", BUCKET.replace("penstock", "nobodys") + "/iam", 404),
        ("GET", f"{BUCKET}/iam/other", 404),
        ("POST", f"{BUCKET}/iam", 404),
    ],
)
def test_what_is_not_there_is_refused(
    shared: Emulator, method: str, path: str, status: int
) -> None:
    """404 or 403 in the shape of the service."""
    answer = shared.http.request(method, path)
    assert answer.status_code == status, answer.text
    if status != 200:
        assert answer.json()["error"]["code"] == status


@pytest.mark.parametrize(
    "body", [b"{", b'{"permissions": "x"}', b'{"permissions": ["storage.*"]}', b"[]"]
)
def test_a_bad_question_is_refused(shared: Emulator, body: bytes) -> None:
    """400 INVALID_ARGUMENT, as for wildcards with Google."""
    answer = shared.http.post(f"{PROJECT}:testIamPermissions", content=body)
    assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"


def test_credentials_are_needed_here_too(shared: Emulator) -> None:
    """401 for a call without a token."""
    with httpx2.Client(base_url=shared.url) as bare:
        assert [bare.get(path).status_code for path in (PROJECT, MODEL)] == [401, 401]


def test_rules_strike_these_calls_only_by_name(emulator: Emulator) -> None:
    """A rule for all calls is for the work; one that names the question changes its answer."""
    everything = emulator.rule(then={"status": 503})
    assert emulator.http.get(PROJECT).status_code == 200
    assert emulator.http.get(BUCKET).status_code == 200
    emulator.http.delete(f"/emulator/v1/rules/{everything}")
    emulator.rule(when={"call": "about_bucket", "path": "*/iam/*"}, then={"body": "{}"})
    emulator.rule(when={"call": "about_project"}, then={"status": 403})
    emulator.rule(when={"call": "about_model"}, then={"status": 500})
    assert emulator.http.get(f"{BUCKET}/iam/testPermissions").json() == {}
    assert emulator.http.get(BUCKET).json()["name"] == "penstock"
    assert emulator.http.get(PROJECT).json()["error"]["status"] == "PERMISSION_DENIED"
    assert emulator.http.get(MODEL).status_code == 500
