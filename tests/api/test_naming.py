"""Names and labels: through every door, in the record, and as filters of the list."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from tests.api.driver import BASE, Api, files, job_ids, lines, submission
from tests.api.test_doors import as_it_is, form, in_base64_form, in_json
from tests.fake_clock import FakeClock

from penstock.core.job import JobId
from penstock.core.limits import Limits

URL = f"{BASE}/requests"
JSONL = {"Content-Type": "application/jsonl"}
NAME = "Nightly evals 🙂"
LABELS = {"lang": "de:CH", "team": "ads"}
QUERY = {"name": NAME, "label": ["team:ads", "lang:de:CH"]}
Client = httpx2.AsyncClient
Sent = tuple[str, bytes]


class Ticking(FakeClock):
    """A clock that no two jobs find at the same time."""

    def now(self) -> float:
        self.advance(0.01)
        return super().now()


@pytest.fixture
def clock() -> FakeClock:
    """Time that goes on, so that the order of lists is that of the submissions."""
    return Ticking()


@pytest.fixture
def limits() -> Limits:
    """Limits that a test can reach."""
    return Limits(job_labels_max=3, job_name_characters_max=20)


def in_payload(data: str) -> Sent:
    """As members of `payload`."""
    return "application/json", json.dumps(submission(data, name=NAME, labels=LABELS)).encode()


def in_flat_json(data: str) -> Sent:
    """As members beside `input_data`."""
    return "application/json", json.dumps(
        {"input_data": data, "name": NAME, "labels": LABELS}
    ).encode()


def in_form(data: str) -> Sent:
    """As fields, one of them more than once."""
    kind, body = form(data, label="team:ads", called=NAME, other="lang:de:CH")
    body = body.replace(b'name="called"', b'name="name"')
    return kind, body.replace(b'name="other"', b'name="label"')


def names(answer: httpx2.Response) -> tuple[object, object]:
    """What the record says."""
    assert answer.status_code == 200, answer.text
    return answer.json().get("name"), answer.json().get("labels")


async def ids(client: Client, **query: object) -> list[str]:
    """The ids of a list, newest first."""
    answer = await client.get(URL, params=query)  # type: ignore[arg-type]  # texts and lists
    assert answer.status_code == 200, answer.text
    found = [record["request_id"] for record in answer.json()["requests"]]
    assert answer.json()["total"] == len(found)
    return found


async def submitted(client: Client, **query: object) -> str:
    """Submit a job with a query."""
    answer = await client.post(URL, params=query, content=lines(1).encode(), headers=JSONL)  # type: ignore[arg-type]  # texts and lists
    assert answer.status_code == 200, answer.text
    return str(answer.json()["request_id"])


@pytest.mark.parametrize("door", [in_json, as_it_is, form, in_base64_form])
async def test_the_query_names_a_job_whatever_the_form(
    acme: Client, api: Api, door: Callable[[str], Sent]
) -> None:
    """It is in the row, in the record and in the list, and not among what the caller sent."""
    kind, body = door(lines(2))
    answer = await acme.post(URL, params=QUERY, content=body, headers={"Content-Type": kind})
    assert names(answer) == (NAME, LABELS)
    assert not {"name", "label", "labels"} & answer.json()["payload"].keys()
    job = await api.store.jobs.load(JobId(answer.json()["request_id"]))
    assert job is not None
    assert (job.name, job.labels) == (NAME, LABELS)
    assert names(await acme.get(f"{URL}/{job.id}")) == (NAME, LABELS)
    listed = (await acme.get(URL)).json()["requests"][0]
    assert (listed["name"], listed["labels"]) == (NAME, LABELS)


@pytest.mark.parametrize("door", [in_payload, in_flat_json, in_form])
async def test_the_body_names_a_job(acme: Client, door: Callable[[str], Sent]) -> None:
    """Members of JSON stay in `payload`, which is the caller's; fields of a form are taken out."""
    kind, body = door(lines(2))
    answer = await acme.post(URL, content=body, headers={"Content-Type": kind})
    assert names(answer) == (NAME, LABELS)
    kept = {"name": NAME, "labels": LABELS} if kind == "application/json" else {}
    assert {**answer.json()["payload"], **kept} == answer.json()["payload"]
    assert ("label" in answer.json()["payload"]) is False


async def test_query_and_body_go_together(acme: Client) -> None:
    """Labels of both, and a name of either."""
    body = submission(lines(1), labels={"team": "ads"}, name=None)
    answer = await acme.post(URL, params={"name": NAME, "label": "lang:de:CH"}, json=body)
    assert names(answer) == (NAME, LABELS)


async def test_a_record_without_names_does_not_tell_of_them(acme: Client) -> None:
    """Existing clients get the record that they know; an empty object is no label."""
    for body in (submission(lines(1)), submission(lines(1), labels={}, name=None)):
        answer = await acme.post(URL, json=body)
        assert not {"name", "labels"} & answer.json().keys()


BAD_QUERIES = [
    ("name=", "invalid_name", "1 to 20"),
    ("name=" + "x" * 21, "invalid_name", "job_name_characters_max"),
    ("name=a%0Ab", "invalid_name", "printable"),
    ("name=a&name=b", "duplicate_member", "once"),
    ("label=team", "invalid_label", "key:value"),
    ("label=Team:x", "invalid_label", "a-z"),
    ("label=a:" + "x" * 64, "invalid_label", "job_label_characters_max"),
    ("label=a:1&label=a:1", "duplicate_member", "once"),
    ("label=a:1&label=b:1&label=c:1&label=d:1", "too_many_labels", "job_labels_max"),
]


@pytest.mark.parametrize(("query", "code", "allowed"), BAD_QUERIES)
@pytest.mark.parametrize("path", ["/requests", "/uploads", "/requests?validate_only=true&"])
async def test_bad_names_are_refused(  # the parts of a refusal
    acme: Client, api: Api, tmp_path: Path, query: str, code: str, allowed: str, path: str
) -> None:
    """The answer says what is allowed, through each way in, and nothing is stored."""
    headers = {**JSONL, "Upload-Complete": "?1"}
    address = f"{BASE}{path}{query if path.endswith('&') else '?' + query}"
    answer = await acme.post(address, content=lines(1).encode(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert allowed in answer.json()["hint"]
    assert not await job_ids(api.store)
    assert not files(tmp_path / "data")


@pytest.mark.parametrize(
    ("members", "query", "code"),
    [
        ({"name": 7}, "", "invalid_name"),
        ({"name": ""}, "", "invalid_name"),
        ({"labels": ["team:ads"]}, "", "invalid_label"),
        ({"labels": {"team": 7}}, "", "invalid_label"),
        ({"name": "a"}, "?name=b", "duplicate_member"),
        ({"labels": {"a": "1"}}, "?label=a:2", "duplicate_member"),
        ({"labels": {"a": "1", "b": "2"}}, "?label=c:1&label=d:1", "too_many_labels"),
    ],
)
@pytest.mark.parametrize("more", [{}, {"validate_only": "true"}])
async def test_bad_members_are_refused(  # the parts of a refusal
    acme: Client,
    api: Api,
    tmp_path: Path,
    members: dict[str, object],
    query: str,
    code: str,
    more: dict[str, str],
) -> None:
    """The same in `payload`, alone and together with the query; nothing is stored."""
    url = httpx2.URL(URL + query).copy_merge_params(more)
    answer = await acme.post(url, json=submission(lines(1), **members))
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert not await job_ids(api.store)
    assert not files(tmp_path / "data")


async def test_bad_members_are_refused_before_an_input_is_pulled(acme: Client) -> None:
    """Nobody's server is asked for a gigabyte for them."""
    body = {"payload": {"input_uri": "https://nobody.invalid/a", "name": 7}}
    for query in ("", "?validate_only=true"):
        answer = await acme.post(URL + query, json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_name")


async def test_names_survive_an_upload_in_pieces(acme: Client) -> None:
    """Those of the upload's creation hold at its end."""
    begun = await acme.post(
        f"{BASE}/uploads", params=QUERY, headers={**JSONL, "Upload-Complete": "?0"}
    )
    assert begun.status_code == 201, begun.text
    done = await acme.patch(
        begun.headers["Location"],
        content=lines(2).encode(),
        headers={
            "Content-Type": "application/partial-upload",
            "Upload-Offset": "0",
            "Upload-Complete": "?1",
        },
    )
    assert names(done) == (NAME, LABELS)


async def test_names_are_part_of_what_a_key_stands_for(acme: Client) -> None:
    """The same lines with another name or label are another submission."""
    headers = {"Idempotency-Key": "one"}
    body = submission(lines(1))

    async def send(**query: object) -> httpx2.Response:
        return await acme.post(URL, params=query, json=body, headers=headers)  # type: ignore[arg-type]  # texts and lists

    first, again = await send(**QUERY), await send(name=NAME, label=["lang:de:CH", "team:ads"])
    assert first.json() == again.json()
    for other in ({}, {"name": NAME}, {**QUERY, "name": "b"}, {**QUERY, "label": ["team:ads"]}):
        assert (await send(**other)).status_code == 422


async def test_lists_find_by_name_label_and_beginning(acme: Client, rival: Client) -> None:
    """Exactly this name, all of these labels, ids and names that begin so; nothing of others."""
    first = await submitted(acme, name="nightly", label=["team:ads", "env:prod"])
    second = await submitted(acme, name="nightly", label=["team:ads"])
    third = await submitted(acme, name="Nightly 2", label=["team:search"])
    await submitted(rival, name="nightly", label=["team:ads", "env:prod"])
    assert await ids(acme, name="nightly") == [second, first]
    assert await ids(acme, name="night") == []
    assert await ids(acme, name_prefix="night") == [second, first]
    assert await ids(acme, name_prefix="Night") == [third]
    assert await ids(acme, label="team:ads") == [second, first]
    assert await ids(acme, label=["team:ads", "env:prod"]) == [first]
    assert await ids(acme, label=["team:ads", "env:test"]) == []
    assert await ids(acme, prefix=third[:12]) == [third]
    assert await ids(acme, prefix=third, name="nightly") == []
    assert await ids(acme, prefix="req_") == [third, second, first]
    assert await ids(acme, name="nightly", label="env:prod", status="queued") == [first]
    assert await ids(acme, name="nightly", status="failed") == []
    assert await ids(acme, name_prefix="", prefix="") == [third, second, first]


@pytest.mark.parametrize("query", [{"prefix": "REQ_A"}, {"prefix": "%"}, {"name_prefix": "a\x00"}])
async def test_a_beginning_of_nothing_finds_nothing(acme: Client, query: dict[str, str]) -> None:
    """No id and no name begins so."""
    await submitted(acme)
    assert await ids(acme, **query) == []


@pytest.mark.parametrize(("query", "code", "allowed"), BAD_QUERIES)
async def test_bad_filters_are_refused(acme: Client, query: str, code: str, allowed: str) -> None:
    """What can be no name or label is not looked for."""
    answer = await acme.get(f"{URL}?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert allowed in answer.json()["hint"]


async def test_a_cursor_belongs_to_its_filters(acme: Client) -> None:
    """It leads through the same list, and not into another one."""
    made = [await submitted(acme, name="a", label="k:v") for _ in range(3)]
    query = {"name": "a", "label": "k:v", "limit": "1"}
    seen: list[str] = []
    while len(seen) < len(made):
        page = (await acme.get(URL, params=query)).json()
        seen += [record["request_id"] for record in page["requests"]]
        query["cursor"] = page["next_cursor"]
    assert seen == made[::-1]
    others: list[dict[str, str]] = [{}, {"name": "a"}, {"name": "b", "label": "k:v"}]
    for other in others:
        answer = await acme.get(URL, params={**other, "cursor": query["cursor"]})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")
        assert "other filters" in answer.json()["message"]
    plain = (await acme.get(URL, params={"limit": 1})).json()["next_cursor"]
    assert (await acme.get(URL, params={"cursor": plain, "name": "a"})).status_code == 400
    assert (await acme.get(URL, params={"cursor": plain, "status": "queued"})).status_code == 200
