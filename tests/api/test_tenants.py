"""Organisations, users and the audit log over HTTP."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from tests.api.driver import BASE as QUEUE
from tests.api.driver import Api, permit
from tests.api.operations import with_member
from tests.fake_clock import START, FakeClock

from penstock.blobs.spool import Spool
from penstock.core.access import OPERATOR_ORG, Role
from penstock.core.job import OrgId
from penstock.core.limits import Limits
from penstock.store.store import Store

ACME = OrgId("acme")
API = "/api/v1"
Client = httpx2.AsyncClient
Json = dict[str, Any]


@pytest.fixture
def limits() -> Limits:
    """Limits that a test can reach."""
    return Limits(orgs_max=5, users_per_org_max=3, page_max=2)


@pytest.fixture
async def operator(api: Api) -> AsyncIterator[Client]:
    """An owner of the operator's organisation, with the key that the server itself made."""
    async with api.client(await with_member(api, OPERATOR_ORG, Role.OWNER)) as client:
        yield client


async def code(client: Client, method: str, path: str, body: object) -> tuple[int, str]:
    """What the refusal of a call says."""
    answer = await client.request(method, f"{API}{path}", json=body)
    return answer.status_code, answer.json().get("code", answer.text)


async def every(client: Client, path: str, name: str) -> list[Json]:
    """All things of a list, page by page."""
    found: list[Json] = []
    query = {"limit": "2"}
    while True:
        page = (await client.get(f"{API}{path}", params=query)).json()
        found += page[name]
        if page["next"] is None:
            return found
        query["before" if name == "rows" else "after"] = str(page["next"])


async def test_an_organisation_begins_over_http_alone(api: Api, operator: Client) -> None:
    """The operator makes it with himself as owner, adds its people, gives a key, and goes."""
    body = {"id": "fresh", "name": "Fresh Ltd", "owner_id": "default-owner"}
    record = (await operator.post(f"{API}/orgs", json=body)).json()
    assert record == {
        "id": "fresh",
        "name": "Fresh Ltd",
        "created_at": int(START),
        "suspended_at": None,
        "quotas": {},
    }
    operator.headers["X-Organization-ID"] = "fresh"
    user = (await operator.post(f"{API}/users", json={"name": "Ana", "role": "owner"})).json()
    key = (await operator.post(f"{API}/keys", json={"user_id": user["id"]})).json()
    assert "orgs:write" not in key["scopes"]
    async with api.client(key["key"]) as ana:
        assert (await ana.delete(f"{API}/users/default-owner")).status_code == 204
        assert [one["id"] for one in await every(ana, "/users", "users")] == [user["id"]]
        assert (await ana.get(f"{API}/orgs/fresh")).json() == record
    answer = await operator.get(f"{API}/users")
    assert (answer.status_code, answer.json()["code"]) == (403, "organization_forbidden")


async def test_an_organisation_gets_an_id_that_cannot_be_guessed(operator: Client) -> None:
    """If none is asked for."""
    record = (await operator.post(f"{API}/orgs", json={"name": "Fresh Ltd"})).json()
    assert len(record["id"]) == len("org_") + 26


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ({"name": "acme"}, (409, "name_taken")),
        ({"name": "x", "id": "acme"}, (409, "id_taken")),
        ({"name": "x", "id": "a/b"}, (400, "invalid_id")),
        ({"name": "x", "id": ""}, (400, "invalid_id")),
        ({"name": ""}, (400, "invalid_name")),
        ({"name": " x"}, (400, "invalid_name")),
        ({"name": "a\u001b[31m"}, (400, "invalid_name")),
        ({"name": "x", "owner_id": "nobody"}, (404, "not_found")),
        ({"name": "x", "quotas": {}}, (400, "invalid_body")),
        ({"name": "x", "suspended_at": None}, (400, "invalid_body")),
        ({"name": 5}, (400, "invalid_body")),
        ({}, (400, "invalid_body")),
        ([], (400, "invalid_body")),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_what_an_organisation_cannot_be(
    operator: Client, body: object, refused: tuple[int, str]
) -> None:
    """Ids and names are taken once, have one line, and nothing else can be set."""
    assert await code(operator, "POST", "/orgs", body) == refused


async def test_there_are_so_many_organisations_and_users(operator: Client, acme: Client) -> None:
    """One more is refused, and says which limit it is."""
    for number in range(2):
        await operator.post(f"{API}/orgs", json={"name": f"Number {number}"})
        await acme.post(f"{API}/users", json={"name": f"Number {number}", "role": "viewer"})
    one_more = await code(operator, "POST", "/orgs", {"name": "x"})
    assert one_more == (429, "too_many_organisations")
    one_more = await code(acme, "POST", "/users", {"name": "x", "role": "viewer"})
    assert one_more == (429, "too_many_users")
    ids = [one["id"] for one in await every(operator, "/orgs", "orgs")]
    assert len(ids) == 5
    assert ids == sorted(ids)


async def test_a_suspended_organisation_is_shut_until_it_is_resumed(
    operator: Client, acme: Client
) -> None:
    """The next request of its people is refused, and the next one after the end works."""
    for suspended, status in ((True, 403), (False, 200)):
        answer = await operator.patch(f"{API}/orgs/acme", json={"suspended": suspended})
        assert (answer.json()["suspended_at"] is not None) is suspended
        assert (await acme.get(f"{QUEUE}/requests")).status_code == status
    own = await code(operator, "PATCH", "/orgs/default", {"suspended": True})
    assert own == (409, "operator_organisation")


async def test_an_organisation_is_renamed_and_limited(operator: Client, acme: Client) -> None:
    """What is left out stays, and the organisation itself sees it."""
    await operator.patch(f"{API}/orgs/acme", json={"quotas": {"jobs_in_flight_max": 3}})
    answer = await operator.patch(f"{API}/orgs/acme", json={"name": "Acme Ltd"})
    assert answer.json() == (await acme.get(f"{API}/orgs/acme")).json()
    assert answer.json()["quotas"] == {"jobs_in_flight_max": 3}
    cleared = await operator.patch(f"{API}/orgs/acme", json={"quotas": {}})
    assert cleared.json()["quotas"] == {}


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ({"quotas": {"jobs": 1}}, "invalid_quotas"),
        ({"quotas": {"lines_day_max": -1}}, "invalid_quotas"),
        ({"quotas": {"lines_day_max": 10**30}}, "invalid_quotas"),
        ({"quotas": {"lines_day_max": "1"}}, "invalid_body"),
        ({"quotas": None}, "invalid_body"),
        ({"id": "another"}, "invalid_body"),
        ({"created_at": 1}, "invalid_body"),
        ({"suspended": 1}, "invalid_body"),
        ({}, "invalid_body"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_what_an_organisation_cannot_become(
    operator: Client, body: object, refused: str
) -> None:
    """Unknown quotas, wrong types and everything that is not one's to set."""
    assert await code(operator, "PATCH", "/orgs/acme", body) == (400, refused)


async def test_another_organisation_looks_like_none(acme: Client, operator: Client) -> None:
    """To its people and to the operator a foreign, absent and malformed id give the same bytes."""
    wanted = ("rival", "nowhere", "a%00b", "x" * 99)
    answers = {(await acme.get(f"{API}/orgs/{org_id}")).content for org_id in wanted}
    answers |= {(await operator.get(f"{API}/orgs/{org_id}")).content for org_id in wanted[1:]}
    assert len(answers) == 1


async def test_a_user_joins_and_changes(acme: Client) -> None:
    """A new one gets an id that cannot be guessed."""
    record = (await acme.post(f"{API}/users", json={"name": "Ana", "role": "viewer"})).json()
    assert len(record["id"]) == len("usr_") + 26
    path = f"{API}/users/{record['id']}"
    assert (await acme.get(path)).json() == record
    changed = (await acme.patch(path, json={"role": "admin"})).json()
    assert changed == {**record, "role": "admin"}


@pytest.mark.parametrize(
    ("method", "path", "body", "refused"),
    [
        ("POST", "/users", {"name": "x"}, (400, "invalid_body")),
        ("POST", "/users", {"name": "x", "role": "god"}, (400, "invalid_body")),
        ("POST", "/users", {"role": "viewer"}, (400, "invalid_body")),
        ("POST", "/users", {"role": "viewer", "name": "x", "id": "y"}, (400, "invalid_body")),
        ("POST", "/users", {"role": "viewer", "name": "a\nb"}, (400, "invalid_name")),
        ("POST", "/users", {"role": "viewer", "id": "nobody"}, (404, "not_found")),
        ("POST", "/users", {"role": "viewer", "id": "acme-user"}, (409, "already_member")),
        ("POST", "/users", {"role": "viewer", "name": "x", "org_id": "y"}, (400, "invalid_body")),
        ("PATCH", "/users/acme-user", {"role": "viewer"}, (409, "last_owner")),
        ("PATCH", "/users/acme-user", {"role": "owner", "name": "x"}, (400, "invalid_body")),
        ("DELETE", "/users/acme-user", None, (409, "last_owner")),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_what_a_user_cannot_be(
    acme: Client, method: str, path: str, body: object, refused: tuple[int, str]
) -> None:
    """Roles come from the list, names have one line, and the last owner stays."""
    assert await code(acme, method, path, body) == refused


async def test_an_admin_cannot_touch_owners(api: Api) -> None:
    """Neither make one of himself nor of others, nor demote or remove one."""
    async with api.client(await with_member(api, ACME, Role.ADMIN)) as admin:
        for method, path, body in (
            ("PATCH", "/users/acme-admin", {"role": "owner"}),
            ("POST", "/users", {"role": "owner", "name": "x"}),
            ("PATCH", "/users/acme-user", {"role": "viewer"}),
            ("DELETE", "/users/acme-user", None),
        ):
            assert await code(admin, method, path, body) == (403, "role_too_low")


async def test_a_user_of_others_looks_like_none(acme: Client) -> None:
    """Foreign, absent and malformed ids give the same bytes."""
    body = {"role": "viewer"}
    answers = {
        (await acme.request(method, f"{API}/users/{user_id}", json=body)).content
        for user_id in ("rival-user", "nobody", "a%00b", "x" * 99)
        for method in ("GET", "PATCH", "DELETE")
    }
    assert len(answers) == 1


@pytest.mark.parametrize(
    ("content", "refused"),
    [
        (b'{"role":"viewer","name":"x","name":"y"}', "duplicate_member"),
        (b'{"role":"viewer","name":"\\ud800"}', "invalid_body"),
        (b'{"role":"viewer","name":"\xff"}', "invalid_body"),
        (b'\xef\xbb\xbf{"role":"viewer","name":"x"}', "invalid_body"),
        (b'{"role":"viewer","name":"x"}{}', "invalid_body"),
        (b'{"role":"viewer","x":' + b"[" * 9_000, "invalid_body"),
        (b"", "invalid_body"),
    ],
    ids=["twice", "surrogate", "not UTF-8", "mark", "two", "deep", "empty"],
)
async def test_bodies_are_strict_json(acme: Client, content: bytes, refused: str) -> None:
    """What could be read in two ways, or in none, is refused."""
    answer = await acme.post(f"{API}/users", content=content)
    assert (answer.status_code, answer.json()["code"]) == (400, refused)


async def test_a_long_body_is_not_read(acme: Client) -> None:
    """Neither one that announces its length nor one that just goes on."""
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while read < 10**6:
            read += 1000
            yield b" " * 1000

    answer = await acme.post(f"{API}/users", content=endless())
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    answer = await acme.post(f"{API}/users", content=b" " * 20_000)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


async def test_a_long_log_is_checked_in_pieces(
    store: Store, spool: Spool, clock: FakeClock
) -> None:
    """One call works out so many rows, and the next goes on; a wrong head is a broken chain."""
    api = Api(store, spool, clock, Limits(audit_verify_rows_max=2))
    async with api.client(await permit(store, "acme")) as acme:
        for name in ("a", "b", "c"):
            await acme.post(f"{API}/users", json={"name": name, "role": "viewer"})
        first = (await acme.get(f"{API}/audit/verify")).json()
        assert (first["rows"], first["is_complete"], first["whole"]) == (2, False, True)
        on: Json = {"after": first["rows"], "head": first["head"]}
        last = (await acme.get(f"{API}/audit/verify", params=on)).json()
        assert (last["rows"], last["is_complete"], last["whole"]) == (3, True, True)
        forged: Json = {"after": 2, "head": "0" * 64}
        found = (await acme.get(f"{API}/audit/verify", params=forged)).json()
        assert (found["whole"], found["broken_at"]) == (False, 3)
        bads: list[Json] = [{"after": 2}, {"head": "0" * 64}, {"after": 2, "head": "x"}]
        for bad in bads:
            assert (await acme.get(f"{API}/audit/verify", params=bad)).status_code == 400


async def test_the_log_is_read_and_checked(api: Api, acme: Client, rival: Client) -> None:
    """Newest first and by pages; the head is the newest hash; others' rows are not there."""
    names = ("a", "b", "c")
    for name in names:
        await acme.post(f"{API}/users", json={"name": name, "role": "viewer"})
    await acme.delete(f"{API}/users/absent")
    rows = await every(acme, "/audit", "rows")
    assert [row["number"] for row in rows] == [4, 3, 2, 1]
    assert [row["result"] for row in rows] == ["not_found", "too_many_users", "done", "done"]
    assert rows[3]["detail"] == {"role": "viewer"}
    head = {"whole": True, "rows": 4, "head": rows[0]["hash"], "broken_at": None}
    assert (await acme.get(f"{API}/audit/verify")).json() == {**head, "is_complete": True}
    for action, count in (("user.add", 2), ("user.", 2), ("user.remove", 1), ("key.", 0)):
        page = (await acme.get(f"{API}/audit", params={"action": action})).json()
        assert len(page["rows"]) == count
    assert (await rival.get(f"{API}/audit")).json() == {"rows": [], "next": None}
    for bad in ({"action": "x"}, {"action": "%.x"}, {"before": "0"}, {"before": "x"}):
        assert (await acme.get(f"{API}/audit", params=bad)).status_code == 400
    text = await permit(api.store, "acme", scopes="users:read")
    async with api.client(text) as client:
        assert (await client.get(f"{API}/audit/verify")).status_code == 403
