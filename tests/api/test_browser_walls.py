"""What a browser of somebody else's could do with this server: nothing, for want of the key.

Every route with every method, with and without a good key, so that a new route is held to it too.
"""

import json
import re
from collections.abc import AsyncIterator, Callable

import httpx2
import msgspec
import pytest
import sqlalchemy as sa
from starlette.routing import Route
from tests.api.driver import BASE, Api, ended, permit

from penstock.blobs.spool import OUTPUT, Spool
from penstock.core.job import Job, JobId
from penstock.store import tables
from penstock.store.store import Store

pytestmark = pytest.mark.slow

SAFE = ("GET", "HEAD", "OPTIONS")
METHODS = (*SAFE, "POST", "PUT", "PATCH", "DELETE", "TRACE")
OPEN = {"/healthz", "/readyz", "/docs", "/docs/style.css", "/openapi.json"}
"""Routes that need no key."""

CROSS = {
    "Origin": "https://evil.example",
    "Referer": "https://evil.example/page",
    "Sec-Fetch-Site": "cross-site",
    "Cookie": "session=1; __Host-session=1",
}
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type",
    "Access-Control-Request-Private-Network": "true",
}
UNASKED_TYPES = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data")
"""What a page may send to another origin without asking it first."""

Snapshot = dict[str, list[tuple[object, ...]]]


class Call(msgspec.Struct, frozen=True):
    """A request and what came of it."""

    method: str
    path: str
    answer: httpx2.Response


@pytest.fixture
async def owner(
    api: Api, new_job: Callable[..., Job]
) -> AsyncIterator[tuple[httpx2.AsyncClient, str]]:
    """A client that may do all, and the id of a job that has an output; one more is open."""
    job = new_job()
    await ended(api, job, output=b'{"a":1}\n')
    await api.store.jobs.add(new_job())
    async with api.client(await permit(api.store, "acme")) as client:
        yield client, job.id


def paths(api: Api, job_id: str) -> list[str]:
    """Every path that is served, with the id of a job that there is, and one that is none."""
    found = {route.path for route in api.app.routes if isinstance(route, Route)}
    assert len(found) > 20
    named = (path.replace("{request_id}", job_id) for path in found)
    return sorted({"/nowhere", *(re.sub(r"\{\w+\}", "x", path) for path in named)})


async def snapshot(store: Store) -> Snapshot:
    """All rows of all tables, without the stamp that tells when a key was last used."""
    found: Snapshot = {}
    async with store._engine.connect() as connection:
        for table in tables.metadata.sorted_tables:
            columns = [column for column in table.columns if column.name != "last_used_at"]
            rows = await connection.execute(sa.select(*columns))
            found[table.name] = sorted((tuple(row) for row in rows), key=repr)
    return found


async def sweep(
    api: Api, client: httpx2.AsyncClient, job_id: str, headers: dict[str, str]
) -> list[Call]:
    """Call everything by every method."""
    return [
        Call(method, path, await client.request(method, path, headers=headers))
        for path in paths(api, job_id)
        for method in METHODS
    ]


@pytest.fixture
async def calls(
    api: Api, owner: tuple[httpx2.AsyncClient, str], nobody: httpx2.AsyncClient
) -> list[Call]:
    """The answers to a page of another origin, with the key and without."""
    client, job_id = owner
    with_key = await sweep(api, client, job_id, {**CROSS, **PREFLIGHT})
    return with_key + await sweep(api, nobody, job_id, {**CROSS, **PREFLIGHT})


async def test_no_answer_is_for_another_origin(calls: list[Call]) -> None:
    """No answer has a CORS header: no page of another origin reads one, no preflight passes."""
    shared = {
        (call.method, call.path, name)
        for call in calls
        for name in call.answer.headers
        if name.startswith("access-control-") or name == "timing-allow-origin"
    }
    assert len(calls) > 400
    assert {call.answer.status_code for call in calls} >= {200, 401, 404, 405}
    assert shared == set()


async def test_no_answer_sets_a_cookie(calls: list[Call]) -> None:
    """There is nothing that a browser would send along by itself."""
    assert [call.path for call in calls if "set-cookie" in call.answer.headers] == []


async def test_every_body_says_what_it_is(calls: list[Call]) -> None:
    """Each body has a type; JSON is JSON, lines are lines, and texts name their character set."""
    kinds = set()
    for call in calls:
        body, kind = call.answer.content, call.answer.headers.get("content-type", "")
        if not body:
            continue
        kinds.add(kind)
        if kind == "application/json":
            json.loads(body)
        elif kind == "application/jsonl":
            assert all(json.loads(line) for line in body.splitlines())
        else:
            assert re.fullmatch(r"text/(html|css); charset=utf-8", kind), (call.path, kind)
            assert body.decode("utf-8")
    assert kinds >= {"application/json", "text/html; charset=utf-8", "text/css; charset=utf-8"}


async def test_no_method_works_that_is_not_named(api: Api, calls: list[Call]) -> None:
    """A method that a route does not name is 405 with those that it does; TRACE is none of any."""
    named: dict[str, set[str]] = {}
    for route in api.app.routes:
        assert isinstance(route, Route)
        pattern = re.sub(r"\{\w+\}", "[^/]+", route.path)
        named.setdefault(pattern, set()).update(route.methods or ())
    for call in calls:
        fitting = [methods for path, methods in named.items() if re.fullmatch(path, call.path)]
        allowed = set[str]().union(*fitting)
        if call.method not in allowed:
            assert call.answer.status_code == (405 if allowed else 404), call
        if call.answer.status_code == 405:
            assert set(call.answer.headers["allow"].split(", ")) == allowed
    assert all(methods <= {*SAFE, "POST", "PATCH", "DELETE"} for methods in named.values())


async def test_methods_that_promise_to_change_nothing_do_not(
    api: Api, owner: tuple[httpx2.AsyncClient, str]
) -> None:
    """GET, HEAD and OPTIONS of every route, with the key of an owner, leave each row as it was."""
    client, job_id = owner
    before = await snapshot(api.store)
    assert len(before["jobs"]) == 2
    for path in paths(api, job_id):
        for method in SAFE:
            await client.request(method, path)
    assert await snapshot(api.store) == before


async def test_what_a_page_may_send_unasked_changes_nothing(
    api: Api, owner: tuple[httpx2.AsyncClient, str], nobody: httpx2.AsyncClient
) -> None:
    """Forms and texts of another origin, cookies with them, are 401: the key is in a header.

    `Authorization` is no header that a page may add without a preflight, and no preflight passes.
    """
    _, job_id = owner
    before = await snapshot(api.store)
    answers = [
        await nobody.request(
            method, path, headers={**CROSS, "Content-Type": kind}, content=b"payload=1"
        )
        for path in paths(api, job_id)
        for method in ("POST", "PATCH", "PUT", "DELETE")
        for kind in UNASKED_TYPES
    ]
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {401, 404, 405}
    assert statuses.count(401) >= 60
    assert await snapshot(api.store) == before


async def test_a_key_counts_in_its_header_alone(
    api: Api, store: Store, nobody: httpx2.AsyncClient
) -> None:
    """In the query, a cookie, another header or another scheme a good key opens nothing."""
    key = await permit(store, "acme")
    path = f"{BASE}/requests"
    for name in ("key", "api_key", "apikey", "access_token", "token", "authorization"):
        assert (await nobody.get(path, params={name: key})).status_code == 401
        assert (await nobody.get(path, headers={"Cookie": f"{name}={key}"})).status_code == 401
    for name in ("X-API-Key", "X-Goog-Api-Key", "Proxy-Authorization", "X-Authorization"):
        assert (await nobody.get(path, headers={name: f"Bearer {key}"})).status_code == 401
    for scheme in ("Basic", "Digest", "Token", "Bearer:", ""):
        answer = await nobody.get(path, headers={"Authorization": f"{scheme} {key}"})
        assert answer.status_code == 401
    async with api.client(key) as client:
        assert (await client.get(path)).status_code == 200


async def test_every_route_but_a_few_needs_the_key(calls: list[Call]) -> None:
    """Without a key only probes and the reference are shown; a download is opened by its link."""
    without = calls[len(calls) // 2 :]
    good = {call.path for call in without if call.answer.status_code < 400}
    assert good == OPEN


@pytest.mark.parametrize(
    "path",
    [
        *("/.git/HEAD", "/.git/", "/.env", "/.svn/entries", "/pyproject.toml", "/penstock.db"),
        *("/secret", "/data/", "/jobs/", "/incoming/", "/uploads/", "/static/", "/docs/"),
        *("/docs/../penstock.db", "/docs/%2e%2e/secret", "/docs/style.css/../../secret"),
        *("/..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd"),
    ],
)
async def test_no_file_of_the_server_is_served(
    api: Api, nobody: httpx2.AsyncClient, path: str
) -> None:
    """There is no folder behind any path, so nothing in one can be listed, read or run."""
    assert all(isinstance(route, Route) for route in api.app.routes), "no mount, no static folder"
    answer = await nobody.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "job_id", ["..", "%2e%2e", "..%2f..%2fother", "req_0%00", "a%5c..%5cother", "../other", "other"]
)
async def test_an_id_is_no_path(spool: Spool, nobody: httpx2.AsyncClient, job_id: str) -> None:
    """What stands in the place of an id is looked up in the database and nowhere else."""
    part = spool.begin(JobId("other"), OUTPUT)
    part.write(b"canary")
    spool.commit(JobId("other"), {OUTPUT: part})
    assert spool.path(JobId("other"), OUTPUT).read_bytes() == b"canary"
    answer = await nobody.get(f"/api/v1/ie/requestqueue/downloads/{job_id}/output.jsonl")
    assert answer.status_code in {403, 404}
    assert b"canary" not in answer.content


async def test_nobody_has_a_password(nobody: httpx2.AsyncClient) -> None:
    """No table stores one, no route takes one, no session begins: there are keys alone."""
    words = re.compile(r"(?i)passw(or)?d|passphrase|session|otp|login|logout|secret_question")
    columns = {column.name for table in tables.metadata.sorted_tables for column in table.columns}
    document = (await nobody.get("/openapi.json")).text
    assert len(columns) > 50
    assert {name for name in columns if words.search(name)} == set()
    assert words.findall(document) == []
