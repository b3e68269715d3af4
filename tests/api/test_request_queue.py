import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from tests.api.driver import BASE, Api, ended, files, job_ids, lines, submission
from tests.fake_clock import START, FakeClock
from tests.store.driver import rows

from penstock.blobs.spool import INPUT
from penstock.core.job import Job, OrgId
from penstock.core.limits import Limits
from penstock.core.models import DEFAULT_MODEL, SEED_CATALOGUE
from penstock.core.state import JobState

MakeJob = Callable[..., Job]
Json = dict[str, Any]
SHORT = "/api/v1/ie/requestqueue"


@pytest.fixture
def limits() -> Limits:
    """Limits that a test can reach."""
    return Limits(job_bytes_max=20_000, job_lines_max=20)


async def submit(client: httpx2.AsyncClient, body: object, base: str = BASE) -> httpx2.Response:
    """Send a submission."""
    return await client.post(f"{base}/requests", json=body)


async def nothing_stored(api: Api, tmp_path: Path) -> bool:
    """Whether there is neither a job nor a file."""
    return not await job_ids(api.store) and not files(tmp_path / "data")


# -- submitting ----------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [BASE, SHORT])
async def test_a_submission_is_queued(acme: httpx2.AsyncClient, api: Api, base: str) -> None:
    """200 says `queued` under both bases, the bytes are stored, and the lifecycle is woken."""
    answer = await submit(acme, submission(lines(3)), base)
    assert (answer.status_code, answer.json()["status"]) == (200, "queued")
    stored = api.spool.path(answer.json()["request_id"], INPUT).read_text()
    assert stored == lines(3)
    assert api.accepted == 1


async def test_base64_is_the_same_as_raw(acme: httpx2.AsyncClient, api: Api) -> None:
    """The stored input is the decoded one."""
    encoded = base64.b64encode(lines(3).encode()).decode()
    answer = await submit(acme, submission(encoded))
    assert answer.status_code == 200
    assert api.spool.path(answer.json()["request_id"], INPUT).read_text() == lines(3)


async def test_the_flat_form_is_taken(acme: httpx2.AsyncClient) -> None:
    """The guide's flat form names the Gemini model at the top."""
    body = {"model": "gemini-3-pro-preview", "input_data": lines(1), "note": "mine"}
    answer = await submit(acme, body)
    assert answer.status_code == 200
    assert answer.json()["payload"] == {"model": "gemini-3-pro-preview", "note": "mine"}
    assert answer.json()["model"] == "Gemini-batch-inference"


@pytest.mark.parametrize(
    "body",
    [
        {"model": "Gemini-batch-inference", "payload": {"input_data": lines(1)}},
        {"model": "gemini-BATCH-inference", "payload": {"input_data": lines(1)}},
        {"payload": {"input_data": lines(1)}},
        {"model": "Gemini-batch-inference", "input_data": lines(1)},
        {"input_data": lines(1)},
    ],
)
async def test_a_model_is_found_for_every_form(acme: httpx2.AsyncClient, body: Json) -> None:
    """Without a Gemini model the default runs, and the outer model's case does not matter."""
    answer = await submit(acme, body)
    assert answer.status_code == 200
    assert answer.json()["payload"] == {"model": DEFAULT_MODEL}


@pytest.mark.parametrize("model", ["gemini-0", "", "GEMINI-3-FLASH-PREVIEW", "x" * 5_000])
async def test_an_unknown_model_names_the_allowed(
    acme: httpx2.AsyncClient, api: Api, tmp_path: Path, model: str
) -> None:
    """The refusal lists what would have been taken, and nothing is stored."""
    answer = await submit(acme, submission(lines(1), model=model))
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown_model")
    assert all(name in answer.json()["message"] for name in SEED_CATALOGUE)
    assert await nothing_stored(api, tmp_path)


async def test_a_model_that_is_nearly_right_is_named(acme: httpx2.AsyncClient) -> None:
    """What was probably meant stands before all that there is."""
    answer = await submit(acme, submission(lines(1), model="gemini-3-flash-preveiw"))
    assert "did you mean gemini-3-flash-preview" in answer.json()["message"]


@pytest.mark.parametrize("model", [7, ["gemini-3-flash-preview"], {}, True])
async def test_a_model_that_is_no_text_is_refused(acme: httpx2.AsyncClient, model: object) -> None:
    """Another type of model is a clear refusal and no crash."""
    answer = await submit(acme, submission(lines(1), model=model))
    assert (answer.status_code, answer.json()["code"]) == (400, "model_not_a_string")


async def test_an_unknown_outer_model_is_refused(acme: httpx2.AsyncClient) -> None:
    """The outer model is the queue's; the hint says where the Gemini model goes."""
    answer = await submit(acme, {"model": "other", "payload": {"input_data": lines(1)}})
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown_model")
    assert "payload.model" in answer.json()["hint"]


async def test_every_bad_line_is_reported(
    acme: httpx2.AsyncClient, api: Api, tmp_path: Path
) -> None:
    """All bad lines are named at once, by number, and nothing is stored."""
    good = lines(1)
    bad = good + '{"request": {"contents": []}}\n' + good + "not JSON\n" + good + '{"key": 1}\n'
    answer = await submit(acme, submission(bad))
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
    assert [problem["line"] for problem in answer.json()["details"]] == [2, 4, 6]
    assert answer.json()["details_total"] == 3
    assert await nothing_stored(api, tmp_path)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"not JSON", 400),
        (b"[]", 400),
        (b"{}", 400),
        (b'{"payload": {"input_data": 7}}', 400),
        (b'{"payload": {"input_data": ""}}', 400),
        (b'{"payload": {"input_data": "!!!!"}}', 400),
        (b'{"payload": {"input_data": "{', 400),
        (b"\xff\xfe", 400),
        (b'{"input_data": "' + b"A" * 400_000 + b'"}', 413),
    ],
)
async def test_a_bad_body_stores_nothing(
    acme: httpx2.AsyncClient, api: Api, tmp_path: Path, content: bytes, status: int
) -> None:
    """Whatever is wrong with the body, the answer says so and no byte of it stays."""
    answer = await acme.post(f"{BASE}/requests", content=content)
    assert answer.status_code == status
    assert answer.json()["error"] == answer.json()["message"] != ""
    assert await nothing_stored(api, tmp_path)
    assert api.accepted == 0


async def test_too_many_lines_are_too_large(
    acme: httpx2.AsyncClient, api: Api, tmp_path: Path
) -> None:
    """One request over the limit is refused whole."""
    answer = await submit(acme, submission(lines(21)))
    assert answer.status_code == 413
    assert await nothing_stored(api, tmp_path)


async def test_a_declared_length_over_the_limit_is_refused(acme: httpx2.AsyncClient) -> None:
    """A length that no input needs is refused before the body is read."""
    headers = {"Content-Length": str(10**9)}
    answer = await acme.post(f"{BASE}/requests", content=b"{}", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "input_too_large")


async def test_a_job_that_cannot_be_committed_leaves_no_file(
    acme: httpx2.AsyncClient, api: Api, tmp_path: Path
) -> None:
    """When the database refuses the row, the answer is an error and the bytes are removed."""
    refuse = "CREATE TRIGGER no BEFORE INSERT ON jobs BEGIN SELECT RAISE(ABORT, 'no'); END"
    rows(tmp_path / "penstock.db", refuse)
    answer = await submit(acme, submission(lines(3)))
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert await nothing_stored(api, tmp_path)
    assert api.accepted == 0


async def test_the_other_members_of_the_payload_are_echoed(acme: httpx2.AsyncClient) -> None:
    """The caller's own members come back, the input does not."""
    answer = await submit(acme, submission(lines(1), note={"a": [1, None]}))
    assert answer.json()["payload"] == {"model": DEFAULT_MODEL, "note": {"a": [1, None]}}


# -- the record ----------------------------------------------------------------------------------


async def test_a_fresh_record_has_the_reference_shape(
    acme: httpx2.AsyncClient, clock: FakeClock
) -> None:
    """Every member of the reference is there, with times as whole seconds."""
    clock.advance(0.75)
    record = (await submit(acme, submission(lines(1)))).json()
    assert record.pop("request_id").startswith("req_")
    assert record.pop("status_detail")
    assert record.pop("estimate")["lines"] == 1
    assert record == {
        "org_id": "acme",
        "user_id": "acme-user",
        "model": "Gemini-batch-inference",
        "status": "queued",
        "is_public": False,
        "payload": {"model": DEFAULT_MODEL},
        "outcome": None,
        "created_at": int(START),
        "updated_at": int(START),
        "queued_at": int(START),
    }
    assert all(type(record[name]) is int for name in ("created_at", "updated_at", "queued_at"))


async def test_a_record_is_the_same_when_read(acme: httpx2.AsyncClient) -> None:
    """GET answers what POST answered, and why the job waits."""
    record = (await submit(acme, submission(lines(1)))).json()
    answer = await acme.get(f"{BASE}/requests/{record['request_id']}")
    read = answer.json()
    assert answer.status_code == 200
    assert read.pop("waiting")["reason"] == "our_queue"
    assert read.pop("status_detail").startswith(record.pop("status_detail").rstrip("."))
    assert read == record


# -- lists ---------------------------------------------------------------------------------------


async def listed(client: httpx2.AsyncClient, **params: object) -> Json:
    """The answer of a list."""
    answer = await client.get(f"{BASE}/requests", params={k: str(v) for k, v in params.items()})
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def several(api: Api, new_job: MakeJob, count: int = 5) -> list[str]:
    """Store jobs, some of the same time, and return their ids newest first."""
    jobs = [new_job(created_at=START + number // 2) for number in range(count)]
    for job in jobs:
        await api.store.jobs.add(job)
    jobs.sort(key=lambda job: (job.created_at, job.id), reverse=True)
    return [job.id for job in jobs]


async def test_an_empty_list_is_empty(acme: httpx2.AsyncClient) -> None:
    """A tenant without jobs gets an empty page and no cursor."""
    assert await listed(acme) == {"requests": [], "total": 0}


async def test_cursors_lead_through_all_pages(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """Following `next_cursor` shows every job once, newest first, and then ends."""
    expected = await several(api, new_job)
    seen: list[str] = []
    page = await listed(acme, limit=2)
    while True:
        seen += [record["request_id"] for record in page["requests"]]
        assert page["total"] == 5
        if "next_cursor" not in page:
            break
        page = await listed(acme, limit=2, cursor=page["next_cursor"])
    assert seen == expected


async def test_offsets_skip(acme: httpx2.AsyncClient, api: Api, new_job: MakeJob) -> None:
    """`offset` and `limit` cut a page out of the whole."""
    expected = await several(api, new_job)
    page = await listed(acme, limit=2, offset=3)
    assert [record["request_id"] for record in page["requests"]] == expected[3:]
    assert page["total"] == 5


async def test_a_large_limit_is_clamped(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """More than 200 is not refused; the answer holds 200 and a cursor."""
    await several(api, new_job, 203)
    page = await listed(acme, limit=100_000)
    assert (len(page["requests"]), page["total"]) == (200, 203)
    assert "next_cursor" in page


@pytest.mark.parametrize(
    ("status", "state"), [("success", JobState.SUCCEEDED), ("failed", JobState.FAILED)]
)
async def test_a_status_selects(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob, status: str, state: JobState
) -> None:
    """The filter takes the words of the record, and the total counts what it selects."""
    await several(api, new_job)
    job_id = await ended(api, new_job(), state)
    page = await listed(acme, status=status, limit=1)
    assert [record["request_id"] for record in page["requests"]] == [job_id]
    assert page["total"] == 1


@pytest.mark.parametrize("name", ["model_id", "model"])
async def test_a_model_selects_by_any_case(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob, name: str
) -> None:
    """The queue's model selects everything and another one nothing."""
    await several(api, new_job)
    assert (await listed(acme, **{name: "GEMINI-batch-inference"}))["total"] == 5
    assert await listed(acme, **{name: "other"}) == {"requests": [], "total": 0}


@pytest.mark.parametrize(
    "params",
    [
        {"status": "SUCCESS"},
        {"status": ""},
        {"limit": "0"},
        {"limit": "-1"},
        {"limit": "x"},
        {"limit": "1_0"},
        {"limit": "\u0661"},
        {"offset": "-1"},
        {"offset": "1.5"},
        {"cursor": "x"},
        {"cursor": "é"},
        {"cursor": ""},
        {"cursor": base64.urlsafe_b64encode(b"nan req_1").decode()},
        {"cursor": base64.urlsafe_b64encode(b"0x1p99999 req_1").decode()},
    ],
)
async def test_an_odd_parameter_is_refused(
    acme: httpx2.AsyncClient, params: dict[str, str]
) -> None:
    """A parameter that cannot be read is an error and not a default."""
    answer = await acme.get(f"{BASE}/requests", params=params)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


async def test_an_unknown_status_names_the_known(acme: httpx2.AsyncClient) -> None:
    """The hint lists the five words."""
    answer = await acme.get(f"{BASE}/requests", params={"status": "done"})
    for word in ("queued", "processing", "success", "failed", "cancelled"):
        assert word in answer.json()["hint"]


# -- models --------------------------------------------------------------------------------------


async def test_the_model_is_listed(acme: httpx2.AsyncClient) -> None:
    """The list names the one model of the queue and describes it."""
    answer = (await acme.get(f"{BASE}/models")).json()
    assert answer["model_ids"] == ["Gemini-batch-inference"]
    assert [model["model"] for model in answer["models"]] == answer["model_ids"]


@pytest.mark.parametrize("name", ["Gemini-batch-inference", "gemini-BATCH-INFERENCE"])
async def test_the_detail_has_the_reference_shape(acme: httpx2.AsyncClient, name: str) -> None:
    """The detail is found in any case and has every member that clients read."""
    detail = (await acme.get(f"{BASE}/models/{name}")).json()
    members = "model org_id brief_description detailed_description parameters price_info"
    assert set(detail) == {*members.split(), "created_at", "updated_at"}
    parameter = {"name", "type", "required", "description", "default", "constraints"}
    assert all(set(each) == parameter for each in detail["parameters"])
    assert detail["parameters"][0]["constraints"]["allowed"] == list(SEED_CATALOGUE)
    assert detail["org_id"] == "acme"


async def test_another_model_is_not_found(acme: httpx2.AsyncClient) -> None:
    """A Gemini model is no model of the queue."""
    answer = await acme.get(f"{BASE}/models/gemini-3-flash-preview")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


# -- cancelling ----------------------------------------------------------------------------------

CANCELS = [("POST", "/cancel"), ("DELETE", "")]


@pytest.mark.parametrize(("method", "suffix"), CANCELS)
async def test_a_cancel_is_the_same_twice(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob, method: str, suffix: str
) -> None:
    """The wish is committed once, and asking again answers the same."""
    job = new_job()
    await api.store.jobs.add(job)
    answers = [await acme.request(method, f"{BASE}/requests/{job.id}{suffix}") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    assert await api.store.jobs.cancel_requested() == {job.id}


@pytest.mark.parametrize(("method", "suffix"), CANCELS)
@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED])
async def test_an_ended_job_cannot_be_cancelled(
    acme: httpx2.AsyncClient,
    api: Api,
    new_job: MakeJob,
    method: str,
    suffix: str,
    state: JobState,
) -> None:
    """After the end the answer is 409."""
    job_id = await ended(api, new_job(), state)
    answer = await acme.request(method, f"{BASE}/requests/{job_id}{suffix}")
    assert (answer.status_code, answer.json()["code"]) == (409, "invalid_state")


async def test_cancelling_a_cancelled_job_is_fine(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """A wish that was fulfilled is no conflict."""
    job_id = await ended(api, new_job(), JobState.CANCELLED)
    answer = await acme.delete(f"{BASE}/requests/{job_id}")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")


# -- tenants -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), *CANCELS])
async def test_a_foreign_request_is_absent(
    rival: httpx2.AsyncClient, api: Api, new_job: MakeJob, method: str, suffix: str
) -> None:
    """The answer to another tenant's id is the answer to no id, byte for byte."""
    job = new_job()
    await api.store.jobs.add(job)
    answers = []
    for job_id in (job.id, "req_00000000000000000000000000"):
        answer = await rival.request(method, f"{BASE}/requests/{job_id}{suffix}")
        headers = {n: v for n, v in answer.headers.items() if n != "x-request-id"}
        answers.append((answer.status_code, headers, answer.content))
    assert answers[0] == answers[1]
    assert answers[0][0] == 404
    assert await api.store.jobs.cancel_requested() == set()


async def test_a_list_shows_no_foreign_request(
    rival: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """Neither the page nor the total of one tenant knows of another's requests."""
    await several(api, new_job)
    assert await listed(rival) == {"requests": [], "total": 0}


async def test_a_foreign_cursor_leads_nowhere_foreign(
    acme: httpx2.AsyncClient, rival: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """A cursor that another tenant got selects nothing of that tenant."""
    await several(api, new_job)
    cursor = (await listed(acme, limit=1))["next_cursor"]
    assert (await listed(rival, cursor=cursor))["requests"] == []


async def test_a_member_submits_for_the_named_organisation(
    acme: httpx2.AsyncClient, api: Api
) -> None:
    """With X-Organization-ID the request belongs to that organisation."""
    await api.store.tenants.ensure_user("acme-user", OrgId("rival"), "developer", START)
    headers = {"X-Organization-ID": "rival"}
    body = submission(lines(1))
    answer = await acme.post(f"{BASE}/requests", json=body, headers=headers)
    assert answer.json()["org_id"] == "rival"


async def test_a_foreign_organisation_stores_nothing(
    acme: httpx2.AsyncClient, api: Api, tmp_path: Path
) -> None:
    """A submission for somebody else's organisation is forbidden."""
    headers = {"X-Organization-ID": "rival"}
    answer = await acme.post(f"{BASE}/requests", json=submission(lines(1)), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "organization_forbidden")
    assert await nothing_stored(api, tmp_path)


# -- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/api/v1/other", f"{BASE}/requests/", f"{BASE}/requests/a/b"]
)
async def test_an_unknown_path_answers_in_our_shape(nobody: httpx2.AsyncClient, path: str) -> None:
    """404 is JSON with the members that clients read."""
    answer = await nobody.get(path)
    assert answer.status_code == 404
    assert set(answer.json()) == {"error", "message", "code", "details", "hint"}


async def test_an_unknown_method_names_the_known(nobody: httpx2.AsyncClient) -> None:
    """405 is JSON and carries Allow."""
    answer = await nobody.put(f"{BASE}/requests", content=b"x")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert "POST" in answer.headers["allow"] or "GET" in answer.headers["allow"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/requests"),
        ("GET", "/requests"),
        ("GET", "/requests/req_1"),
        ("DELETE", "/requests/req_1"),
        ("POST", "/requests/req_1/cancel"),
        ("GET", "/models"),
        ("GET", "/models/x"),
    ],
)
async def test_every_route_wants_a_key(nobody: httpx2.AsyncClient, method: str, path: str) -> None:
    """Without a key the answer is 401 in our shape, whatever the path."""
    answer = await nobody.request(method, BASE + path)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_a_full_disk_says_when_to_come_back(api: Api, acme: httpx2.AsyncClient) -> None:
    """507 with Retry-After, before a byte is read."""
    big = msgspec.structs.replace(Limits(), job_bytes_max=2**60)
    full = Api(api.store, api.spool, FakeClock(), big)
    async with full.client() as client:
        client.headers = acme.headers
        headers = {"Content-Length": str(2**59)}
        answer = await client.post(f"{BASE}/requests", content=b"{}", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
    assert answer.headers["retry-after"] == "60"


@pytest.mark.parametrize("given", ["mine-1.2_3", "x" * 64])
async def test_a_good_request_id_is_kept(nobody: httpx2.AsyncClient, given: str) -> None:
    """The caller's X-Request-ID comes back, so that both logs can be joined."""
    answer = await nobody.get("/healthz", headers={"X-Request-ID": given})
    assert answer.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, 'a"b', "<script>"])
async def test_an_odd_request_id_is_replaced(nobody: httpx2.AsyncClient, given: str) -> None:
    """Text that could disturb a log is not repeated."""
    answer = await nobody.get("/healthz", headers={"X-Request-ID": given})
    assert len(answer.headers["x-request-id"]) == 32
