"""What the Vertex calls take and answer, refusals above all."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from tests.emulator.driver import JOBS, Emulator, create_body, fresh_emulator, line


def error(answer: httpx2.Response) -> dict[str, Any]:
    """The error object of an answer."""
    found: dict[str, Any] = answer.json()["error"]
    assert found["code"] == answer.status_code
    return found


def test_credentials_are_needed(emulator: Emulator) -> None:
    """401 without; any bearer token or API key will do."""
    with httpx2.Client(base_url=emulator.url) as bare:
        assert error(bare.get(JOBS))["status"] == "UNAUTHENTICATED"
        assert bare.get(JOBS, headers={"x-goog-api-key": "k"}).status_code == 200
        assert bare.get(JOBS, headers={"Authorization": "Bearer x"}).json() == {}


def test_a_foreign_project_is_forbidden(emulator: Emulator) -> None:
    """403 PERMISSION_DENIED naming the permission and the resource; the number is as good."""
    answer = emulator.http.post(JOBS.replace("penstock-emulator", "acme"), json=create_body())
    assert error(answer)["status"] == "PERMISSION_DENIED"
    assert "aiplatform.batchPredictionJobs.create" in error(answer)["message"]
    by_number = JOBS.replace("penstock-emulator", "415104041262")
    assert emulator.http.get(by_number).status_code == 200


@pytest.mark.parametrize(
    ("model", "location", "status", "reason"),
    [
        ("gemini-9-nova", "global", 404, None),
        ("gemini-3-pro-preview", "global", 404, None),
        ("gemini-3-flash-preview", "us-central1", 404, "MODEL_NOT_SUPPORTED_FOR_BATCH"),
        ("gemini-3-flash-preview", "global", 200, None),
        ("gemini-2.5-flash", "us-central1", 200, None),
        ("gemini-2.5-flash", "global", 200, None),
    ],
)
def test_models_have_their_places(
    shared: Emulator, model: str, location: str, status: int, reason: str | None
) -> None:
    """3.x only at global, 2.5 anywhere, the unknown and the shut down nowhere."""
    body = create_body(model=f"publishers/google/models/{model}")
    answer = shared.http.post(JOBS.replace("global", location), json=body)
    assert answer.status_code == status, answer.text
    if reason is not None:
        assert error(answer)["details"][0]["reason"] == reason
    elif status == 404:
        assert error(answer)["message"] == f"The PublisherModel {model} does not exist."


@pytest.mark.parametrize(
    "change",
    [
        {"displayName": ""},
        {"displayName": "x" * 129},
        {"model": "gemini-3-flash-preview"},
        {"inputConfig": {"instancesFormat": "csv"}},
        {"inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["https://x/y"]}}},
        {"inputConfig": {"instancesFormat": "bigquery", "bigquerySource": {"inputUri": "bq://p"}}},
        {"outputConfig": {"predictionsFormat": "jsonl"}},
        {"labels": {"Upper": "x"}},
        {"labels": {"a": "x" * 65}},
        {"labels": {"a": "has blank"}},
        {"requestId": "no-such-field"},
    ],
)
def test_bad_creates_are_refused(shared: Emulator, change: dict[str, Any]) -> None:
    """400 INVALID_ARGUMENT and no job."""
    before = shared.http.get("/emulator/v1/jobs").json()["jobsMade"]
    answer = shared.http.post(JOBS, json=create_body(**change))
    assert answer.status_code == 400, answer.text
    assert error(answer)["status"] == "INVALID_ARGUMENT"
    assert shared.http.get("/emulator/v1/jobs").json()["jobsMade"] == before


def test_malformed_json_is_refused(emulator: Emulator) -> None:
    """400 with the beginning that Google's message has."""
    answer = emulator.http.post(JOBS, content=b'{"displayName": ')
    assert error(answer)["message"].startswith("Invalid JSON payload received.")


def test_unknown_paths_and_wrong_locations_are_404(emulator: Emulator) -> None:
    """A job lives in its location only; other methods do not exist."""
    name = emulator.create()["name"]
    assert emulator.http.get(f"/v1/{name.replace('global', 'us')}").status_code == 404
    assert emulator.http.patch(f"/v1/{name}").status_code == 404
    assert emulator.http.get("/v1/projects/penstock-emulator/endpoints").status_code == 404


def listed(emulator: Emulator, text: str, **more: Any) -> list[str]:  # noqa: ANN401 - query values
    """The display names that a filter lets through."""
    answer = emulator.http.get(JOBS, params={"filter": text, **more})
    assert answer.status_code == 200, answer.text
    return [job["displayName"] for job in answer.json().get("batchPredictionJobs", [])]


@pytest.fixture(scope="module")
def three_jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """Jobs a (cancelled), b and c, a second apart, with labels."""
    with fresh_emulator(tmp_path_factory.mktemp("three")) as emulator:
        yield with_three_jobs(emulator)


def with_three_jobs(emulator: Emulator) -> Emulator:
    """Make the three jobs."""
    for name, labels in (("svc-a", {"batch": "1"}), ("svc-b", {"batch": "2", "x": "y"}), ("c", {})):
        made = emulator.create(displayName=name, labels=labels)
        if name == "svc-a":
            emulator.http.post(f"/v1/{made['name']}:cancel")
        emulator.clock.now += 1
    return emulator


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["c", "svc-b", "svc-a"]),
        ('display_name="svc-a"', ["svc-a"]),
        ('display_name!="svc-a"', ["c", "svc-b"]),
        ('display_name:"svc-*"', ["svc-b", "svc-a"]),
        ("display_name=svc-a", ["svc-a"]),
        ('labels.batch="2"', ["svc-b"]),
        ("labels.batch:*", ["svc-b", "svc-a"]),
        ('labels."batch"=1', ["svc-a"]),
        ("NOT labels.batch:*", ["c"]),
        ("-labels.batch:*", ["c"]),
        ('state="JOB_STATE_CANCELLED"', ["svc-a"]),
        ('labels.batch="1" AND state!="JOB_STATE_CANCELLED"', []),
        ('labels.batch="1" OR labels.batch="2"', ["svc-b", "svc-a"]),
        ('(labels.batch="1" OR display_name="c") AND NOT state="JOB_STATE_CANCELLED"', ["c"]),
        ('labels.batch:* AND labels.batch="1" OR labels.x="y"', ["svc-b", "svc-a"]),
        ('create_time>"2026-11-18T11:06:40Z"', ["c", "svc-b"]),
        ('create_time<="2026-11-18T11:06:41Z"', ["svc-b", "svc-a"]),
        ('model_display_name="x"', []),
    ],
)
def test_the_filter_grammar(three_jobs: Emulator, text: str, names: list[str]) -> None:
    """Every operator and combination, newest first."""
    assert listed(three_jobs, text) == names


@pytest.mark.parametrize(
    "text",
    ["nonsense", "state>1", 'labels.a<"b"', "(state=x", "state=x)", "create_time>yesterday", "~"],
)
def test_bad_filters_are_refused(shared: Emulator, text: str) -> None:
    """400 INVALID_ARGUMENT."""
    answer = shared.http.get(JOBS, params={"filter": text})
    assert error(answer)["status"] == "INVALID_ARGUMENT"


def test_pages_give_every_job_once(emulator: Emulator) -> None:
    """Opaque tokens lead through all jobs, newest first; a bad token is refused."""
    made = [emulator.create(displayName=f"d{i}")["name"] for i in range(5)]
    seen: list[str] = []
    token = ""
    for _ in range(3):
        page = emulator.http.get(JOBS, params={"pageSize": 2, "pageToken": token}).json()
        seen += [job["name"] for job in page["batchPredictionJobs"]]
        token = page.get("nextPageToken", "")
    assert seen == made[::-1]
    assert token == ""
    assert emulator.http.get(JOBS, params={"pageToken": "x"}).status_code == 400


def test_ids_depend_on_the_seed_only(emulator: Emulator) -> None:
    """The first job of seed 0 always has the same id."""
    assert emulator.create()["name"].endswith("/3279391537009204010")


def test_the_control_api_counts_calls(emulator: Emulator) -> None:
    """Creates are counted as they arrive, whether they were answered or not."""
    emulator.rule(when={"call": "create"}, then={"status": 503}, times=1)
    assert emulator.http.post(JOBS, json=create_body()).status_code == 503
    emulator.create()
    report = emulator.http.get("/emulator/v1/jobs").json()
    assert report["calls"]["create"] == 2
    assert report["jobsMade"] == len(report["jobs"]) == 1


def test_token_endpoint_and_health(emulator: Emulator) -> None:
    """A service-account key can point its token_uri here."""
    token = emulator.http.post("/token", data={"grant_type": "jwt"}).json()
    assert token["token_type"] == "Bearer"
    assert emulator.http.get("/healthz").json() == {"status": "ok"}


def test_a_job_of_nothing_but_foreign_lines_has_a_failed_row(emulator: Emulator) -> None:
    """A line without contents and one with a bad role fail alone, in Google's words."""
    bad = {"key": "k-1", "request": {"contents": [{"role": "tester", "parts": [{"text": "hi"}]}]}}
    empty = {"key": "k-2", "request": {"generationConfig": {"temperature": 0.1}}}
    done = emulator.run([line("a"), bad, empty])
    rows = {row["key"]: row for row in emulator.rows(done)}
    assert rows["k-0"]["status"] == ""
    assert rows["k-1"]["status"] == (
        'Bad Request: {"error":{"code":400,"message":"Please use a valid role: user, model.",'
        '"status":"INVALID_ARGUMENT"}}'
    )
    assert rows["k-1"]["response"] == rows["k-2"]["response"] == {}
    assert rows["k-2"]["status"].startswith("Bad Request: {")
