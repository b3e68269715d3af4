from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.responses import JSONResponse, Response
from tests.emulator.driver import Emulator, fresh_emulator, jsonl, line
from tests.wire import closed_port, cutting, wire

from penstock.errors import ProviderRefused, ProviderUnclear, ProviderUnreachable
from penstock.providers.fixed_token import FixedToken
from penstock.providers.provider import ENDED, ENDED_WITH_OUTPUT, NOT_ENDED, NewBatch
from penstock.providers.vertex import PAGE_SIZE, PAGES_MAX, Vertex, api_host

PROJECT = "penstock-emulator"
PARENT = f"projects/{PROJECT}/locations/global/batchPredictionJobs"
ABSENT = f"{PARENT}/1234567890123456789"
GOOD = {"name": f"{PARENT}/7", "state": "JOB_STATE_PENDING"}


class UserToken:
    """A token of a user account, which is charged to a project."""

    quota_project = "billed"

    async def __call__(self) -> str:
        return "user-token"


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator for the whole file, with one input."""
    with fresh_emulator(tmp_path_factory.mktemp("vertex")) as made:
        made.put("in/x.jsonl", jsonl([line("Hello")]))
        yield made


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    """A client with little patience."""
    async with httpx2.AsyncClient(timeout=10) as client:
        yield client


@pytest.fixture
def vertex(emulator: Emulator, http: httpx2.AsyncClient) -> Vertex:
    """Vertex AI as the emulator plays it."""
    return at(emulator.url, http)


@pytest.fixture
def label(tmp_path: Path) -> str:
    """A label of this test alone."""
    return tmp_path.name.lower()[:60]


def at(url: str, http: httpx2.AsyncClient) -> Vertex:
    """Vertex AI at an address."""
    return Vertex(PROJECT, FixedToken("any"), http, url + "/")


def batch(label: str = "req_1", **changes: str) -> NewBatch:
    """A batch over the emulator's input."""
    values = {
        "model": "gemini-3-flash-preview",
        "location": "global",
        "display_name": f"{label}-a1",
        "label": label,
        "input_uri": "gs://penstock/in/x.jsonl",
        "output_prefix": f"gs://penstock/out/{label}",
    }
    return NewBatch(**{**values, **changes})


def listed(number: int, created: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """An entry of a list with our label."""
    return {
        "name": f"projects/415104041262/locations/global/batchPredictionJobs/{number}",
        "state": "JOB_STATE_RUNNING",
        "createTime": created,
        "labels": {"penstock-job": "req_1"},
        **changes,
    }


# -- create --------------------------------------------------------------------------------------


async def test_a_created_job_is_one_job(emulator: Emulator, vertex: Vertex, label: str) -> None:
    """One create makes one job that carries our label, names and addresses."""
    made = await vertex.create(batch(label))
    (found,) = (
        job for job in emulator.events("job_created") if job["displayName"] == f"{label}-a1"
    )
    assert found["id"] == made.name.rsplit("/", 1)[1]
    assert found["labels"] == {"penstock-job": label}
    assert found["uri"] == ["gs://penstock/in/x.jsonl"]
    assert found["outputUriPrefix"] == f"gs://penstock/out/{label}"


async def test_a_name_holds_the_project_that_we_know(vertex: Vertex, label: str) -> None:
    """Google answers with the project's number; ours is built from its id, so it never varies."""
    made = await vertex.create(batch(label))
    assert made.name.startswith(f"{PARENT}/")
    assert (made.state, made.has_started) == ("JOB_STATE_PENDING", False)
    assert made.display_name == f"{label}-a1"


async def test_a_model_that_does_not_exist_is_refused(vertex: Vertex) -> None:
    """A definite no is passed on with the provider's own words."""
    with pytest.raises(ProviderRefused, match="PublisherModel"):
        await vertex.create(batch(model="gemini-0-none"))


async def test_a_wrong_location_is_refused(vertex: Vertex) -> None:
    """Gemini 3 does not run in a region."""
    with pytest.raises(ProviderRefused, match="us-central1"):
        await vertex.create(batch(location="us-central1"))


async def test_a_lost_answer_is_unclear(emulator: Emulator, vertex: Vertex, label: str) -> None:
    """The create took effect and its answer was lost: that is unclear, and one job."""
    emulator.rule(
        when={"call": "create", "display_name": f"{label}-a1"}, then={"drop": "after"}, times=1
    )
    with pytest.raises(ProviderUnclear, match="no answer came"):
        await vertex.create(batch(label))
    assert len(await vertex.find(label, "global")) == 1


@pytest.mark.parametrize("status", [400, 404, 405, 412, 413])
async def test_a_definite_no_is_refused(http: httpx2.AsyncClient, status: int) -> None:
    """These answers prove that nothing was made; the create was sent once."""
    body = {"error": {"message": "It is so."}}
    with (
        wire(lambda _request: JSONResponse(body, status)) as server,
        pytest.raises(ProviderRefused, match=r"It is so\."),
    ):
        await at(server.url, http).create(batch())
    assert [each.method for each in server.requests] == ["POST"]


@pytest.mark.parametrize("status", [401, 403])
async def test_a_missing_permission_can_be_mended(http: httpx2.AsyncClient, status: int) -> None:
    """Nothing was made, and the job can wait until the operator has given the permission."""
    with (
        wire(lambda _request: Response("no JSON", status)) as server,
        pytest.raises(ProviderUnreachable, match=f"HTTP {status}") as caught,
    ):
        await at(server.url, http).create(batch())
    assert caught.value.error_code == "provider_permission_denied"
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [201, 204, 302, 408, 409, 429, 500, 502, 503, 504])
async def test_any_other_answer_is_unclear(http: httpx2.AsyncClient, status: int) -> None:
    """Nobody promises that such a create was not carried out; it is not sent again."""
    headers = {"Location": "/elsewhere", "Retry-After": "0"}
    with (
        wire(lambda _request: Response(status_code=status, headers=headers)) as server,
        pytest.raises(ProviderUnclear, match=str(status)),
    ):
        await at(server.url, http).create(batch())
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"garbage",
        b"[]",
        b"null",
        b"{}",
        b'{"name": "x"}',
        b'{"name": "no-slash", "state": "JOB_STATE_PENDING"}',
        b'{"name": 7, "state": "JOB_STATE_PENDING"}',
        b'{"name": "a/b", "state": null}',
        b"\xff\xfe",
    ],
)
async def test_an_unreadable_success_is_unclear(http: httpx2.AsyncClient, body: bytes) -> None:
    """A 200 that names no job may have made one."""
    with (
        wire(lambda _request: Response(body, media_type="application/json")) as server,
        pytest.raises(ProviderUnclear, match="unreadable"),
    ):
        await at(server.url, http).create(batch())
    assert len(server.requests) == 1


@pytest.mark.parametrize("member", ["error", "outputInfo", "labels", "displayName"])
async def test_an_odd_member_hides_no_job(http: httpx2.AsyncClient, member: str) -> None:
    """An answer that names its job is taken, whatever else stands in it."""
    with wire(lambda _request: JSONResponse({**GOOD, member: 7})) as server:
        made = await at(server.url, http).create(batch())
    assert (made.name, made.error_code, made.output_folder) == (GOOD["name"], None, None)


async def test_a_refused_connection_is_unreachable(http: httpx2.AsyncClient) -> None:
    """Without a connection nothing can have been made."""
    with pytest.raises(ProviderUnreachable, match="cannot be reached"):
        await at(f"http://127.0.0.1:{closed_port()}", http).create(batch())


async def test_a_cut_connection_is_unclear_and_sent_once(http: httpx2.AsyncClient) -> None:
    """When the other side hangs up after the request, nobody sends it again."""
    with cutting() as (url, heads), pytest.raises(ProviderUnclear):
        await at(url, http).create(batch())
    assert [head.split(b" ", 1)[0] for head in heads] == [b"POST"]


async def test_a_silent_server_is_unclear(emulator: Emulator, label: str) -> None:
    """An answer that does not come in time says nothing about what was made."""
    emulator.rule(
        when={"call": "create", "display_name": f"{label}-a1"}, then={"delay_seconds": 1}, times=1
    )
    async with httpx2.AsyncClient(timeout=httpx2.Timeout(5, read=0.1)) as http:
        with pytest.raises(ProviderUnclear, match="ReadTimeout"):
            await at(emulator.url, http).create(batch(label))


# -- get -----------------------------------------------------------------------------------------


async def test_a_job_is_read_by_its_name(vertex: Vertex, label: str) -> None:
    """The name that create gave is the one that get takes."""
    made = await vertex.create(batch(label))
    assert await vertex.get(made.name) == made


async def test_a_job_that_is_not_known_is_none(vertex: Vertex) -> None:
    """404 is an answer and no error."""
    assert await vertex.get(ABSENT) is None


async def test_a_finished_job_tells_its_output(
    emulator: Emulator, vertex: Vertex, label: str
) -> None:
    """State, start and output folder are read from a real resource."""
    made = await vertex.create(batch(label))
    emulator.finish(made.name)
    seen = await vertex.get(made.name)
    assert seen is not None
    assert (seen.state, seen.has_started) == ("JOB_STATE_SUCCEEDED", True)
    assert str(seen.output_folder).startswith(f"gs://penstock/out/{label}/prediction-model-")


async def test_a_failed_job_tells_why(emulator: Emulator, vertex: Vertex, label: str) -> None:
    """The provider's code and message are read."""
    made = await vertex.create(batch(label, input_uri="gs://penstock/in/none.jsonl"))
    emulator.finish(made.name)
    seen = await vertex.get(made.name)
    assert seen is not None
    assert seen.state == "JOB_STATE_FAILED"
    assert isinstance(seen.error_code, int)
    assert seen.error_message


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
async def test_a_get_may_be_repeated(http: httpx2.AsyncClient, status: int) -> None:
    """Whatever a get answers but 200 and 404, asking again is right."""
    with (
        wire(lambda _request: Response(status_code=status)) as server,
        pytest.raises(ProviderUnreachable, match=str(status)),
    ):
        await at(server.url, http).get(ABSENT)


async def test_an_unreadable_get_may_be_repeated(http: httpx2.AsyncClient) -> None:
    """A 200 that is no job is no news of the job."""
    with (
        wire(lambda _request: Response("<html>")) as server,
        pytest.raises(ProviderUnreachable, match="not a job"),
    ):
        await at(server.url, http).get(ABSENT)


async def test_a_get_without_answer_may_be_repeated(http: httpx2.AsyncClient) -> None:
    """A cut connection is an unreachable provider."""
    with cutting() as (url, _heads), pytest.raises(ProviderUnreachable, match="did not answer"):
        await at(url, http).get(ABSENT)


# -- find ----------------------------------------------------------------------------------------


async def test_only_our_label_is_found(vertex: Vertex, label: str) -> None:
    """Other jobs of the project are not ours, whatever they look like."""
    mine = await vertex.create(batch(label))
    await vertex.create(batch(f"{label}x"))
    assert await vertex.find(label, "global") == [mine]


async def test_nothing_is_found_where_nothing_is(vertex: Vertex) -> None:
    """Google leaves the list out when it is empty."""
    assert await vertex.find("no-such-label", "global") == []


async def test_all_attempts_are_found_oldest_first(
    emulator: Emulator, vertex: Vertex, label: str
) -> None:
    """Every job of the label is there, and the first is the oldest."""
    names = [f"{label}-a{number}" for number in (1, 2, 3)]
    for name in names:
        emulator.clock.now += 60
        await vertex.create(batch(label, display_name=name))
    found = await vertex.find(label, "global")
    assert [job.display_name for job in found] == names


async def test_a_list_that_ignores_the_filter_is_filtered(http: httpx2.AsyncClient) -> None:
    """The filter is undocumented for batches, so its work is done again here."""
    entries = [
        listed(2, "2026-11-22T09:00:02Z"),
        listed(3, "2026-11-22T09:00:00Z", labels={"penstock-job": "other"}),
        listed(4, "2026-11-22T09:00:00Z", labels=None),
        listed(1, "2026-11-22T09:00:01Z"),
        {"labels": {"penstock-job": "req_1"}},
    ]
    with wire(lambda _request: JSONResponse({"batchPredictionJobs": entries})) as server:
        found = await at(server.url, http).find("req_1", "global")
    assert [job.name for job in found] == [f"{PARENT}/1", f"{PARENT}/2"]
    assert server.requests[0].query_params["filter"] == 'labels.penstock-job="req_1"'


async def test_every_page_is_read(http: httpx2.AsyncClient) -> None:
    """Jobs of later pages are found too, and each page is asked for by its token."""
    pages = {
        None: {"batchPredictionJobs": [listed(2, "2026-11-22T09:00:02Z")], "nextPageToken": "b"},
        "b": {"nextPageToken": "c"},
        "c": {"batchPredictionJobs": [listed(1, "2026-11-22T09:00:01Z")]},
    }
    with wire(lambda request: JSONResponse(pages[request.query_params.get("pageToken")])) as server:
        found = await at(server.url, http).find("req_1", "global")
    assert [job.name[-1] for job in found] == ["1", "2"]
    assert {each.query_params["pageSize"] for each in server.requests} == {str(PAGE_SIZE)}


async def test_a_list_that_never_ends_is_ended(http: httpx2.AsyncClient) -> None:
    """A provider that always names another page holds nobody for ever, and proves no absence."""
    with (
        wire(lambda _request: JSONResponse({"nextPageToken": "again"})) as server,
        pytest.raises(ProviderUnreachable, match="incomplete"),
    ):
        await at(server.url, http).find("req_1", "global")
    assert len(server.requests) == PAGES_MAX


@pytest.mark.parametrize("status", [400, 403, 429, 500])
async def test_a_find_that_fails_finds_not_nothing(http: httpx2.AsyncClient, status: int) -> None:
    """An error is never read as an empty list, which would permit a second create."""
    with (
        wire(lambda _request: Response(status_code=status)) as server,
        pytest.raises(ProviderUnreachable),
    ):
        await at(server.url, http).find("req_1", "global")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b'{"error": {"code": 404}}'),
        (200, b"<html>"),
        (200, b"[]"),
        (200, b'{"batchPredictionJobs": 7}'),
        (200, b'{"batchPredictionJobs": ["x"]}'),
    ],
)
async def test_an_unreadable_list_is_not_an_empty_one(
    http: httpx2.AsyncClient, status: int, body: bytes
) -> None:
    """Garbage and 404 prove nothing about jobs, so they may not look like "there is none"."""
    with (
        wire(lambda _request: Response(body, status)) as server,
        pytest.raises(ProviderUnreachable),
    ):
        await at(server.url, http).find("req_1", "global")


# -- cancel --------------------------------------------------------------------------------------


async def test_a_cancel_reaches_the_job(emulator: Emulator, vertex: Vertex, label: str) -> None:
    """The job ends as cancelled."""
    made = await vertex.create(batch(label))
    await vertex.cancel(made.name)
    assert emulator.finish(made.name)["state"] == "JOB_STATE_CANCELLED"


async def test_cancelling_a_finished_job_is_fine(
    emulator: Emulator, vertex: Vertex, label: str
) -> None:
    """A job that ended in the meantime answers FAILED_PRECONDITION, and nothing is wrong."""
    made = await vertex.create(batch(label))
    emulator.finish(made.name)
    await vertex.cancel(made.name)
    seen = await vertex.get(made.name)
    assert seen is not None
    assert seen.state == "JOB_STATE_SUCCEEDED"


async def test_cancelling_what_is_gone_is_fine(vertex: Vertex) -> None:
    """A job that does not exist needs no cancel."""
    await vertex.cancel(ABSENT)


@pytest.mark.parametrize("status", [403, 429, 500])
async def test_a_cancel_that_fails_may_be_repeated(http: httpx2.AsyncClient, status: int) -> None:
    """A cancel that was not taken is not forgotten."""
    with (
        wire(lambda _request: Response(status_code=status)) as server,
        pytest.raises(ProviderUnreachable, match=str(status)),
    ):
        await at(server.url, http).cancel(ABSENT)


# -- headers and hosts ---------------------------------------------------------------------------


async def test_user_credentials_name_their_project(http: httpx2.AsyncClient) -> None:
    """Google refuses user accounts without `x-goog-user-project`."""
    with wire(lambda _request: JSONResponse(GOOD)) as server:
        await Vertex(PROJECT, UserToken(), http, server.url).create(batch())
    assert server.requests[0].headers["x-goog-user-project"] == "billed"
    assert server.requests[0].headers["authorization"] == "Bearer user-token"


async def test_service_accounts_name_no_project(http: httpx2.AsyncClient) -> None:
    """A service account may lack the right that the header asks for."""
    with wire(lambda _request: JSONResponse(GOOD)) as server:
        await at(server.url, http).create(batch())
    assert "x-goog-user-project" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("global", "https://aiplatform.googleapis.com"),
        ("eu", "https://aiplatform.eu.rep.googleapis.com"),
        ("us", "https://aiplatform.us.rep.googleapis.com"),
        ("europe-west4", "https://europe-west4-aiplatform.googleapis.com"),
    ],
)
def test_each_location_has_its_host(location: str, host: str) -> None:
    """Global, multi-regional and regional hosts are those of the discovery document."""
    assert api_host(location) == host


def test_every_state_has_one_meaning() -> None:
    """A state has ended or has not, and those with output are among the ended."""
    assert not ENDED & NOT_ENDED
    assert ENDED_WITH_OUTPUT < ENDED
    assert len(ENDED | NOT_ENDED) == 12
