import asyncio

import pytest
import sqlalchemy as sa
from tests.fake_clock import START
from tests.store.driver import all_keys

from penstock.core.job import OrgId
from penstock.store.store import Store
from penstock.store.tenants import Key

ACME = OrgId("acme")


def key(key_id: str = "key00001", **changes: object) -> Key:
    """A key of acme's owner."""
    values = {
        "id": key_id,
        "org_id": ACME,
        "user_id": "acme-user",
        "name": "ci",
        "digest": "d" * 64,
        "created_at": START,
    }
    return Key(**{**values, **changes})  # type: ignore[arg-type]  # fields of a Key


async def test_a_new_store_has_no_keys(store: Store) -> None:
    """A server that was never used says so."""
    assert not await store.tenants.has_keys()


async def test_a_stored_key_comes_back(store: Store) -> None:
    """Every field of a key survives."""
    stored = key(expires_at=START + 1, revoked_at=START + 2, last_used_at=START + 3)
    await store.tenants.put_key(stored)
    assert await store.tenants.key("key00001") == stored
    assert await store.tenants.has_keys()


async def test_an_unknown_key_is_none(store: Store) -> None:
    """There is no key until it is stored."""
    assert await store.tenants.key("key00001") is None


async def test_putting_a_key_again_replaces_it(store: Store) -> None:
    """A key of the same id takes the place of the old one, its revocation included."""
    await store.tenants.put_key(key(revoked_at=START))
    await store.tenants.put_key(key(digest="e" * 64))
    assert await all_keys(store) == [key(digest="e" * 64)]


async def test_touching_a_key_stamps_it_alone(store: Store) -> None:
    """Only the key that was used gets the time of its use."""
    for key_id in ("a", "b"):
        await store.tenants.put_key(key(key_id))
    await store.tenants.touch_key("a", START + 7)
    assert [each.last_used_at for each in await all_keys(store)] == [START + 7, None]


async def test_membership_is_per_organisation(store: Store) -> None:
    """A member of one organisation is none of another, nor of one that does not exist."""
    assert await store.tenants.standing("acme", "acme-user") is not None
    assert await store.tenants.standing("rival", "acme-user") is None
    assert await store.tenants.standing("nowhere", "acme-user") is None


async def test_ensuring_twice_changes_nothing(store: Store) -> None:
    """A restart that ensures its organisation and user again is harmless."""
    await store.tenants.ensure_org(ACME, "another name", START + 1)
    await store.tenants.ensure_user("acme-user", ACME, "viewer", START + 1)
    assert await store.tenants.standing("acme", "acme-user") is not None


async def test_a_user_can_join_a_second_organisation(store: Store) -> None:
    """Membership is many to many."""
    await store.tenants.ensure_user("acme-user", OrgId("rival"), "developer", START)
    assert await store.tenants.standing("rival", "acme-user") is not None
    assert await store.tenants.standing("acme", "acme-user") is not None


async def test_a_key_belongs_to_somebody(store: Store) -> None:
    """The database refuses a key of an organisation that does not exist."""
    with pytest.raises(sa.exc.IntegrityError):
        await store.tenants.put_key(key(org_id=OrgId("nowhere")))


async def test_there_is_one_first_key(store: Store) -> None:
    """Of several that are made at once the first is stored, and never another one."""
    wanted = [key(f"key0000{n}") for n in range(8)]
    made = await asyncio.gather(*(store.tenants.put_first_key(one) for one in wanted))
    assert sum(made) == 1
    assert [one.id for one in await all_keys(store)] == [wanted[made.index(True)].id]


async def test_an_organisation_is_made_once(store: Store) -> None:
    """Several processes that start on a new database do not stumble over each other."""
    names = [OrgId(f"new{n}") for n in range(3)] * 4
    await asyncio.gather(*(store.tenants.ensure_org(name, name, START) for name in names))
    joins = [store.tenants.ensure_user("new-user", name, "owner", START) for name in names]
    await asyncio.gather(*joins)
    for name in names:
        assert await store.tenants.standing(name, "new-user") is not None
