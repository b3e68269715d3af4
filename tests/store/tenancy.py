"""People and organisations for the tests of who may do what."""

from tests.fake_clock import START

from penstock.core.access import OPERATOR_ORG, Actor, Role
from penstock.core.job import OrgId
from penstock.store.audit import Entry
from penstock.store.orgs import Org
from penstock.store.store import Store
from penstock.store.tenants import Key

ACME = OrgId("acme")
RIVAL = OrgId("rival")
MANY = 1_000


def by(user_id: str, org_id: OrgId = OPERATOR_ORG, key_id: str = "somekey1") -> Actor:
    """Somebody who does something with a key."""
    return Actor(
        org_id=org_id, user_id=user_id, key_id=key_id, address="192.0.2.1", request_id="r1"
    )


OPERATOR = by("operator", key_id="")
"""The command line on the server itself, in its own organisation."""

AT_ACME = by("operator", ACME, key_id="")
"""The same, in acme's."""


def new_org(org_id: str, name: str | None = None) -> Org:
    """An organisation."""
    return Org(id=OrgId(org_id), name=org_id if name is None else name, created_at=START)


def new_key(key_id: str, user_id: str = "acme-user", org_id: OrgId = ACME, **more: object) -> Key:
    """A key as it is stored."""
    values = {
        "id": key_id,
        "org_id": org_id,
        "user_id": user_id,
        "name": "ci",
        "digest": "d" * 64,
        "created_at": START,
        **more,
    }
    return Key(**values)  # type: ignore[arg-type]  # fields of a Key


async def with_operator(store: Store) -> None:
    """Make the operator's organisation and its owner."""
    await store.tenants.ensure_org(OPERATOR_ORG, "default", START)
    await store.tenants.ensure_user("owner", OPERATOR_ORG, Role.OWNER, START)


async def with_people(store: Store, org_id: OrgId = ACME) -> None:
    """Add one of each role to the organisation, named after it; it has an owner already."""
    for role in Role:
        await store.tenants.ensure_user(f"{org_id}-{role}", org_id, role, START)


async def rows(store: Store, org_id: OrgId) -> list[Entry]:
    """The audit log, oldest first; it has to be whole."""
    assert (await store.audit.verify(org_id)).broken_at is None
    return (await store.audit.page(org_id, None, MANY))[::-1]
