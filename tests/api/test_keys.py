"""Keys over HTTP: none exceeds its maker, a revocation counts at once, a rotation overlaps."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from tests.api.driver import BASE as QUEUE
from tests.api.driver import Api, permit
from tests.api.operations import with_member
from tests.fake_clock import START, FakeClock

from penstock.core.access import Role
from penstock.core.ids import new_id
from penstock.core.job import OrgId
from penstock.core.key import key_id_of
from penstock.core.limits import Limits

ACME = OrgId("acme")
KEYS = "/api/v1/keys"
Client = httpx2.AsyncClient
Json = dict[str, Any]


@pytest.fixture
def limits() -> Limits:
    """Limits that a test can reach."""
    return Limits(keys_per_user_max=7, page_max=3, key_seconds_max=100_000)


@pytest.fixture
async def developer(api: Api) -> AsyncIterator[Client]:
    """A developer of acme."""
    async with api.client(await with_member(api, ACME, Role.DEVELOPER)) as client:
        yield client


async def made(client: Client, **wish: object) -> Json:
    """Make a key; return the answer's body."""
    answer = await client.post(KEYS, json=wish)
    assert answer.status_code == 201, answer.text
    found: Json = answer.json()
    return found


async def status(api: Api, key: str, path: str = f"{QUEUE}/requests") -> int:
    """What a key gets for a look."""
    async with api.client(key) as client:
        return (await client.get(path)).status_code


async def refusal(client: Client, path: str = KEYS, **wish: object) -> tuple[int, str]:
    """What the refusal of a call says."""
    answer = await client.post(path, json=wish)
    return answer.status_code, answer.json().get("code", answer.text)


async def test_a_key_is_made_and_works(api: Api, acme: Client) -> None:
    """Its text is in the first answer and in no other, and no store may keep that answer."""
    answer = await acme.post(KEYS, json={"name": "ci", "scopes": ["jobs:read"]})
    record = answer.json()
    text = record.pop("key")
    assert answer.headers["cache-control"] == "no-store"
    assert record == {
        "id": key_id_of(text),
        "user_id": "acme-user",
        "name": "ci",
        "scopes": ["jobs:read"],
        "created_at": int(START),
        "expires_at": None,
        "revoked_at": None,
        "last_used_at": None,
        "made_by": "acme-user",
        "successor_id": None,
    }
    assert await status(api, text) == 200
    shown = await acme.get(f"{KEYS}/{record['id']}")
    assert shown.json() == {**record, "last_used_at": int(START)}
    for look in (shown, await acme.get(KEYS), await acme.get("/api/v1/audit")):
        assert text.split("_")[2] not in look.text


async def test_all_is_given_only_to_oneself_by_a_key_of_all(api: Api, acme: Client) -> None:
    """For anybody else, and from a key of named scopes, `*` becomes what the maker has."""
    await with_member(api, ACME, Role.VIEWER)
    assert (await made(acme))["scopes"] == ["*"]
    assert (await made(acme, scopes=["*"]))["scopes"] == ["*"]
    listed = (await made(acme, user_id="acme-viewer"))["scopes"]
    assert "*" not in listed
    assert "users:write" in listed
    assert "orgs:write" not in listed
    named = await permit(api.store, "acme", scopes="keys:write jobs:read users:write")
    async with api.client(named) as client:
        for wish in ({}, {"scopes": ["*"]}, {"user_id": "acme-viewer"}):
            found = await made(client, **wish)
            assert found["scopes"] == ["jobs:read", "keys:write", "users:write"]


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        ({"scopes": ["users:write"]}, (403, "key_exceeds_maker")),
        ({"scopes": ["jobs:read", "jobs:write"]}, (403, "key_exceeds_maker")),
        ({"scopes": ["*", "jobs:read"]}, (400, "unknown_scope")),
        ({"scopes": ["jobs:reads"]}, (400, "unknown_scope")),
        ({"scopes": []}, (400, "unknown_scope")),
        ({"user_id": "rival-user"}, (403, "scope_missing")),
        ({"expires_in_seconds": 101}, (403, "key_exceeds_maker")),
        ({"expires_in_seconds": 0}, (400, "invalid_parameter")),
        ({"expires_in_seconds": -5}, (400, "invalid_parameter")),
        ({"expires_in_seconds": 10**6}, (400, "invalid_parameter")),
        ({"expires_in_seconds": 10**30}, (400, "invalid_parameter")),
        ({"name": "a\x00"}, (400, "invalid_name")),
        ({"name": "\u202ename"}, (400, "invalid_name")),
        ({"name": "n" * 101}, (400, "invalid_name")),
        ({"user_id": "a\x00"}, (400, "invalid_id")),
        ({"org_id": "rival"}, (400, "invalid_body")),
        ({"role": "owner"}, (400, "invalid_body")),
        ({"made_by": None}, (400, "invalid_body")),
        ({"name": "n" * 20_000}, (413, "body_too_large")),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_what_a_key_cannot_be(api: Api, wish: Json, code: tuple[int, str]) -> None:
    """A key of two scopes and 100 seconds gives neither more nor what does not exist."""
    own = await permit(api.store, "acme", scopes="keys:write jobs:read", expires_at=START + 100)
    async with api.client(own) as client:
        assert await refusal(client, **wish) == code
        assert (await made(client))["expires_at"] == int(START + 100)
        assert (await made(client, expires_in_seconds=9))["expires_at"] == int(START + 9)


async def test_a_key_cannot_escape_through_others(api: Api, acme: Client) -> None:
    """A chain of keys that make keys ends with no more than it began with."""
    text = (await made(acme, scopes=["keys:write", "jobs:read"]))["key"]
    for _ in range(3):
        async with api.client(text) as client:
            assert await refusal(client, scopes=["users:read"]) == (403, "key_exceeds_maker")
            text = (await made(client))["key"]
    assert await status(api, text) == 200
    assert await status(api, text, "/api/v1/users") == 403


async def test_admins_make_no_keys_for_owners(api: Api) -> None:
    """Otherwise they would have a key of somebody above themselves."""
    async with api.client(await with_member(api, ACME, Role.ADMIN)) as admin:
        assert await refusal(admin, user_id="acme-user") == (403, "role_too_low")
        for user_id in ("rival-user", "nobody"):
            assert await refusal(admin, user_id=user_id) == (404, "not_found")


async def test_a_key_for_a_user_of_others_stays_here(api: Api, acme: Client) -> None:
    """Adding an owner of another organisation and making a key for him opens nothing there."""
    user_id = new_id("usr")
    await api.store.tenants.ensure_user(user_id, OrgId("rival"), Role.OWNER, START)
    added = await acme.post("/api/v1/users", json={"id": user_id, "role": "viewer"})
    assert added.status_code == 201
    text = (await made(acme, user_id=user_id))["key"]
    async with api.client(text) as client:
        there = {"X-Organization-ID": "rival"}
        assert (await client.get(f"{QUEUE}/requests")).status_code == 200
        answer = await client.get(f"{QUEUE}/requests", headers=there)
    assert (answer.status_code, answer.json()["code"]) == (403, "organization_forbidden")


async def test_others_keys_look_like_none(acme: Client, rival: Client, developer: Client) -> None:
    """Foreign, absent, malformed: the same bytes; and a developer sees only his own keys."""
    foreign = (await made(rival))["id"]
    owners = (await made(acme))["id"]
    answers = {
        (await client.request(method, f"{KEYS}/{key_id}{rest}")).content
        for client, ids in (
            (acme, (foreign, "absent01", "a%00b", "%F0%9F%92%A9")),
            (developer, (owners,)),
        )
        for key_id in ids
        for method, rest in (("GET", ""), ("DELETE", ""), ("POST", "/rotate"))
    }
    assert len(answers) == 1
    listed = (await developer.get(KEYS)).json()["keys"]
    assert {key["user_id"] for key in listed} == {"acme-developer"}


async def test_a_revocation_counts_at_once(api: Api, acme: Client) -> None:
    """The next request with the key is refused, also one of an open client."""
    found = await made(acme)
    async with api.client(found["key"]) as client:
        assert (await client.get(KEYS)).status_code == 200
        assert (await acme.delete(f"{KEYS}/{found['id']}")).status_code == 204
        answer = await client.get(KEYS)
        assert (answer.status_code, answer.json()["code"]) == (401, "key_revoked")
    assert (await acme.get(f"{KEYS}/{found['id']}")).json()["revoked_at"] == int(START)
    assert (await acme.delete(f"{KEYS}/{found['id']}")).status_code == 404


async def test_a_lost_role_takes_its_keys_along(api: Api, acme: Client) -> None:
    """Who becomes a viewer has only a viewer's keys, and who leaves has none."""
    text = await with_member(api, ACME, Role.ADMIN)
    user = "/api/v1/users/acme-admin"
    assert await status(api, text, "/api/v1/users") == 200
    assert (await acme.patch(user, json={"role": "viewer"})).status_code == 200
    assert await status(api, text, "/api/v1/users") == 403
    assert (await acme.delete(user)).status_code == 204
    assert await status(api, text) == 401


async def test_a_rotation_overlaps(api: Api, clock: FakeClock, developer: Client) -> None:
    """Both keys work until the end of the overlap, and then the new one alone."""
    old = await made(developer, name="ci", scopes=["jobs:read"], expires_in_seconds=5_000)
    clock.advance(100)
    answer = await developer.post(f"{KEYS}/{old['id']}/rotate", json={"overlap_seconds": 60})
    new = answer.json()
    assert answer.status_code == 201
    same = ("user_id", "name", "scopes")
    assert [new[name] for name in same] == [old[name] for name in same]
    # The same time as the old one had from its beginning.
    assert new["expires_at"] == old["expires_at"] + 100
    shown = (await developer.get(f"{KEYS}/{old['id']}")).json()
    assert (shown["successor_id"], shown["expires_at"]) == (new["id"], int(START) + 160)
    assert [await status(api, key["key"]) for key in (old, new)] == [200, 200]
    clock.advance(60)
    assert [await status(api, key["key"]) for key in (old, new)] == [401, 200]


async def test_a_rotation_without_overlap_ends_the_old_key(api: Api, acme: Client) -> None:
    """A key can take itself out of the world, and there is a day of overlap if nothing is said."""
    first = await made(acme)
    async with api.client(first["key"]) as client:
        answer = await client.post(f"{KEYS}/{first['id']}/rotate", json={"overlap_seconds": 0})
        assert answer.status_code == 201
        assert (await client.get(KEYS)).json()["code"] == "key_expired"
    again = f"{KEYS}/{answer.json()['id']}/rotate"
    assert await refusal(acme, again, overlap_seconds=-1) == (400, "invalid_parameter")
    assert await refusal(acme, again, overlap_seconds=100_001) == (400, "invalid_parameter")
    assert await refusal(acme, again, overlap_seconds=1.5) == (400, "invalid_body")


async def test_a_rotation_gives_no_more_than_its_caller_has(api: Api, acme: Client) -> None:
    """Who rotates sees the new key, so he must be able to make such a one himself."""
    everything, narrow = await made(acme), await made(acme, scopes=["jobs:write"])
    own = await permit(api.store, "acme", scopes="keys:write jobs:read", expires_at=START + 9)
    async with api.client(own) as client:
        for key in (everything, narrow):
            path = f"{KEYS}/{key['id']}/rotate"
            assert await refusal(client, path) == (403, "key_exceeds_maker")
        # Nor does it live longer: not even one's own.
        answer = await client.post(f"{KEYS}/{key_id_of(own)}/rotate")
    assert answer.json()["expires_at"] == int(START + 9)


async def test_an_owner_rotates_a_key_of_another(api: Api, acme: Client) -> None:
    """One with named scopes; one for all that the user may do stays the user's own affair."""
    text = await with_member(api, ACME, Role.DEVELOPER, scopes="jobs:read")
    answer = await acme.post(f"{KEYS}/{key_id_of(text)}/rotate")
    assert (answer.status_code, answer.json()["user_id"]) == (201, "acme-developer")
    every = await with_member(api, ACME, Role.DEVELOPER)
    path = f"{KEYS}/{key_id_of(every)}/rotate"
    assert await refusal(acme, path) == (403, "key_exceeds_maker")


async def test_keys_are_listed_by_pages(acme: Client, clock: FakeClock) -> None:
    """Newest first; a page is never larger than a page may be, and the last one says so."""
    for _ in range(4):
        clock.advance(1)
        await made(acme)
    found: list[Json] = []
    query: dict[str, str] = {"limit": "99"}
    while True:
        page = (await acme.get(KEYS, params=query)).json()
        assert len(page["keys"]) <= 3
        found += page["keys"]
        if page["next"] is None:
            break
        query["after"] = page["next"]
    assert len({key["id"] for key in found}) == len(found) == 5
    times = [key["created_at"] for key in found]
    assert times == sorted(times, reverse=True)
    for bad in (
        {"limit": "0"},
        {"limit": "x"},
        {"limit": "9" * 19},
        {"after": "a\x00"},
        {"after": "absent01"},
    ):
        assert (await acme.get(KEYS, params=bad)).status_code == 400


async def test_one_user_has_so_many_keys(acme: Client, developer: Client) -> None:
    """One more is refused, and says which limit it is; others are not affected."""
    for _ in range(6):
        await made(acme)
    assert await refusal(acme) == (429, "too_many_keys")
    await made(developer)
