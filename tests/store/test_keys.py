import asyncio

import msgspec
import pytest
from tests.fake_clock import START
from tests.store.tenancy import ACME, AT_ACME, MANY, RIVAL, by, new_key, rows, with_people

from penstock.core.access import Role
from penstock.errors import Forbidden, InvalidRequest, NotFound, TooMany
from penstock.store.store import Store

OWNER = by("acme-user", ACME)


async def test_a_key_is_made_and_found(store: Store) -> None:
    """Every field comes back, and one row tells whose it is and what it may do, not its secret."""
    made = new_key("newkey01", scopes="jobs:read", expires_at=START + 9, made_by="acme-user")
    await store.keys.create(ACME, made, OWNER, START, MANY)
    assert await store.keys.get(ACME, "newkey01") == made
    (row,) = await rows(store, ACME)
    assert (row.action, row.object, row.key_id) == ("key.create", "newkey01", "somekey1")
    told = {"user": "acme-user", "name": "ci", "scopes": "jobs:read", "expires_at": START + 9}
    assert msgspec.json.decode(row.detail) == told


async def test_a_key_stays_in_its_organisation(store: Store) -> None:
    """Whatever the key itself says, it is one of the organisation that it is made for."""
    await store.keys.create(ACME, new_key("newkey01", org_id=RIVAL), AT_ACME, START, MANY)
    assert (await store.keys.get(ACME, "newkey01")).org_id == ACME
    with pytest.raises(NotFound):
        await store.keys.get(RIVAL, "newkey01")


@pytest.mark.parametrize("user_id", ["rival-user", "nobody"])
async def test_keys_are_made_for_members_only(store: Store, user_id: str) -> None:
    """A user of another organisation gets none, and is refused like one of nobody."""
    with pytest.raises(NotFound, match="There is no such user"):
        await store.keys.create(ACME, new_key("newkey01", user_id), AT_ACME, START, MANY)
    assert await rows(store, ACME) == []


async def test_nobody_handles_keys_of_those_above_himself(store: Store) -> None:
    """An admin makes, rotates and revokes no key of an owner, and a viewer none of an admin."""
    await with_people(store)
    await store.tenants.put_key(new_key("oldkey01"))
    admin, viewer = by("acme-admin", ACME), by("acme-viewer", ACME)
    for work in (
        store.keys.create(ACME, new_key("newkey01"), admin, START, MANY),
        store.keys.rotate(ACME, "oldkey01", new_key("newkey01"), admin, START, MANY),
        store.keys.revoke(ACME, "oldkey01", None, admin, START),
        store.keys.create(ACME, new_key("newkey01", "acme-admin"), viewer, START, MANY),
    ):
        with pytest.raises(Forbidden) as caught:
            await work
        assert caught.value.error_code == "role_too_low"
    assert (await store.keys.get(ACME, "oldkey01")).successor_id is None
    await store.keys.create(ACME, new_key("newkey01", "acme-viewer"), admin, START, MANY)
    assert len(await rows(store, ACME)) == 1


async def test_keys_are_listed_newest_first_by_pages(store: Store) -> None:
    """The pages hold each key once, also those of one second, and none of others."""
    await with_people(store)
    made = [("c", 0), ("b", 1), ("a", 0), ("e", 2), ("d", 1)]
    for key_id, at in made:
        user_id = "acme-viewer" if key_id == "b" else "acme-user"
        await store.tenants.put_key(new_key(key_id, user_id, created_at=START + at))
    await store.tenants.put_key(new_key("x", "rival-user", RIVAL))
    pages: list[str] = []
    while page := await store.keys.page(ACME, None, pages[-1] if pages else None, 2):
        pages += [key.id for key in page]
    assert pages == ["e", "d", "b", "c", "a"]
    own = await store.keys.page(ACME, "acme-user", "d", MANY)
    assert [key.id for key in own] == ["c", "a"]


@pytest.mark.parametrize("after", ["b", "x", "nothing1"])
async def test_a_page_begins_after_what_the_caller_saw(store: Store, after: str) -> None:
    """Keys of another user, of another organisation and of nobody give the same refusal."""
    await with_people(store)
    await store.tenants.put_key(new_key("b", "acme-viewer"))
    await store.tenants.put_key(new_key("x", "rival-user", RIVAL))
    with pytest.raises(InvalidRequest, match="not a key that this list answered"):
        await store.keys.page(ACME, "acme-user", after, MANY)


async def test_one_more_key_than_may_be_is_refused(store: Store) -> None:
    """Of several that are made at once as many pass as there is room for; the dead do not count."""
    await store.tenants.put_key(new_key("dead0001", revoked_at=START))
    await store.tenants.put_key(new_key("dead0002", expires_at=START))
    made = await asyncio.gather(
        *(store.keys.create(ACME, new_key(f"newkey0{n}"), AT_ACME, START, 2) for n in range(5)),
        return_exceptions=True,
    )
    assert sum(isinstance(one, TooMany) for one in made) == 3
    assert sum(key.revoked_at is None for key in await store.keys.page(ACME, None, None, 9)) == 3


async def test_a_rotation_leaves_both_keys_for_a_while(store: Store) -> None:
    """The old key gets an end and a successor, and one row tells both ids."""
    await store.tenants.put_key(new_key("oldkey01"))
    successor = new_key("newkey01", created_at=START + 5)
    await store.keys.rotate(ACME, "oldkey01", successor, OWNER, START + 65, MANY)
    old = await store.keys.get(ACME, "oldkey01")
    assert (old.expires_at, old.successor_id, old.revoked_at) == (START + 65, "newkey01", None)
    assert await store.keys.get(ACME, "newkey01") == successor
    (row,) = await rows(store, ACME)
    assert (row.action, row.object, row.at) == ("key.rotate", "oldkey01", START + 5)
    assert msgspec.json.decode(row.detail)["successor"] == "newkey01"


async def test_a_rotation_prolongs_nothing(store: Store) -> None:
    """The old key ends when it was to end, if the overlap is longer than that."""
    await store.tenants.put_key(new_key("oldkey01", expires_at=START + 10))
    await store.keys.rotate(ACME, "oldkey01", new_key("newkey01"), OWNER, START + 65, MANY)
    assert (await store.keys.get(ACME, "oldkey01")).expires_at == START + 10


@pytest.mark.parametrize(
    "changes",
    [
        {"revoked_at": START},
        {"expires_at": START},
        {"successor_id": "newkey00"},
        {"user_id": "acme-viewer"},
        {"org_id": RIVAL, "user_id": "rival-user"},
        {"id": "another1"},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_only_a_key_in_force_is_rotated(store: Store, changes: dict[str, object]) -> None:
    """Dead, replaced, foreign and absent keys are refused alike, and nothing is stored."""
    await with_people(store)
    await store.tenants.put_key(msgspec.structs.replace(new_key("oldkey01"), **changes))
    with pytest.raises(NotFound, match="There is no such key in force"):
        await store.keys.rotate(ACME, "oldkey01", new_key("newkey01"), OWNER, START + 65, MANY)
    assert await store.tenants.key("newkey01") is None
    assert await rows(store, ACME) == []


async def test_a_rotation_happens_once(store: Store) -> None:
    """Of several at once one succeeds: the others would leave keys that nobody knows of."""
    await store.tenants.put_key(new_key("oldkey01"))
    done = await asyncio.gather(
        *(
            store.keys.rotate(ACME, "oldkey01", new_key(f"newkey0{n}"), OWNER, START + 9, MANY)
            for n in range(4)
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(one, NotFound) for one in done) == 3
    assert len(await store.keys.page(ACME, None, None, MANY)) == 2


async def test_rotations_do_not_pile_up(store: Store) -> None:
    """A rotation with an overlap needs room; without one it always works."""
    await store.tenants.put_key(new_key("oldkey01"))
    with pytest.raises(TooMany):
        await store.keys.rotate(ACME, "oldkey01", new_key("newkey01"), OWNER, START + 1, 1)
    await store.keys.rotate(ACME, "oldkey01", new_key("newkey01"), OWNER, START, 1)


async def test_a_key_is_revoked_by_its_organisation_once(store: Store) -> None:
    """The second time, and for others' keys, there is no such key; one row tells of the first."""
    await with_people(store)
    await store.tenants.put_key(new_key("acmekey1"))
    await store.tenants.put_key(new_key("rivalkey", "rival-user", RIVAL))
    developer = by("acme-developer", ACME)
    with pytest.raises(NotFound):
        await store.keys.revoke(ACME, "acmekey1", "acme-developer", developer, START)
    await store.keys.revoke(ACME, "acmekey1", None, OWNER, START + 5)
    for key_id in ("acmekey1", "rivalkey", "nothing1"):
        with pytest.raises(NotFound, match="There is no such key in force"):
            await store.keys.revoke(ACME, key_id, None, OWNER, START + 9)
    assert (await store.keys.get(ACME, "acmekey1")).revoked_at == START + 5
    (row,) = await rows(store, ACME)
    assert (row.action, row.object) == ("key.revoke", "acmekey1")


async def test_keys_of_somebody_who_left_can_be_revoked(store: Store) -> None:
    """A key whose user has no role here any more is nobody's superior."""
    await with_people(store)
    await store.tenants.put_key(new_key("leftover", "rival-user"))
    await store.keys.revoke(ACME, "leftover", None, by("acme-admin", ACME), START)
    assert (await store.keys.get(ACME, "leftover")).revoked_at == START


async def test_a_user_of_two_organisations_has_keys_in_each(store: Store) -> None:
    """The list and the count of the one do not see the other."""
    await store.tenants.ensure_user("acme-user", RIVAL, Role.VIEWER, START)
    await store.keys.create(ACME, new_key("acmekey1"), AT_ACME, START, 1)
    rival = by("operator", RIVAL, key_id="")
    await store.keys.create(RIVAL, new_key("rivalkey"), rival, START, 1)
    assert [key.id for key in await store.keys.page(ACME, "acme-user", None, 9)] == ["acmekey1"]
