import asyncio

import pytest
from tests.fake_clock import START
from tests.store.tenancy import ACME, OPERATOR, by, new_org, rows, with_operator

from penstock.core.access import OPERATOR_ORG, Role
from penstock.core.job import OrgId
from penstock.errors import Conflict, NotFound, TooMany
from penstock.store.orgs import OrgChange
from penstock.store.store import Store


async def test_an_organisation_is_made_and_found(store: Store) -> None:
    """What was made comes back as it was, and one row of the operator's log tells it."""
    await with_operator(store)
    await store.orgs.create(new_org("fresh"), None, OPERATOR, START, 9)
    assert await store.orgs.get(OrgId("fresh")) == new_org("fresh")
    (row,) = await rows(store, OPERATOR_ORG)
    assert (row.action, row.object, row.result) == ("org.create", "fresh", "done")


async def test_an_organisation_may_begin_with_an_owner(store: Store) -> None:
    """A known user becomes the first owner in the same transaction."""
    await with_operator(store)
    await store.orgs.create(new_org("fresh"), "acme-user", OPERATOR, START, 9)
    standing = await store.tenants.standing("fresh", "acme-user")
    assert standing is not None
    assert standing.role is Role.OWNER


async def test_an_owner_has_to_exist(store: Store) -> None:
    """With an owner whom nobody knows nothing is made."""
    await with_operator(store)
    with pytest.raises(NotFound, match="no such user"):
        await store.orgs.create(new_org("fresh"), "nobody", OPERATOR, START, 9)
    with pytest.raises(NotFound, match="no such organisation"):
        await store.orgs.get(OrgId("fresh"))
    assert await rows(store, OPERATOR_ORG) == []


@pytest.mark.parametrize(
    ("org_id", "name", "code"), [("acme", "new", "id_taken"), ("new", "acme", "name_taken")]
)
async def test_ids_and_names_are_taken_once(
    store: Store, org_id: str, name: str, code: str
) -> None:
    """The second of an id or name is refused, and says which of the two it was."""
    await with_operator(store)
    with pytest.raises(Conflict) as caught:
        await store.orgs.create(new_org(org_id, name), None, OPERATOR, START, 9)
    assert caught.value.error_code == code


async def test_one_more_organisation_than_may_be_is_refused(store: Store) -> None:
    """Of several that are made at once as many pass as there is room for."""
    await with_operator(store)
    wanted = [new_org(f"new{number}") for number in range(6)]
    made = await asyncio.gather(
        *(store.orgs.create(org, None, OPERATOR, START, 5) for org in wanted),
        return_exceptions=True,
    )
    assert sum(isinstance(one, TooMany) for one in made) == 4
    assert len(await store.orgs.page("", 100)) == 5


async def test_organisations_are_listed_by_pages(store: Store) -> None:
    """The pages together hold each organisation once, in the order of the ids."""
    await with_operator(store)
    first = await store.orgs.page("", 2)
    rest = await store.orgs.page(first[-1].id, 2)
    assert [org.id for org in (*first, *rest)] == ["acme", "default", "rival"]


async def test_what_is_left_out_of_a_change_stays(store: Store) -> None:
    """Name, quotas and suspension change one by one, and each change is one row."""
    await with_operator(store)
    changes = [
        OrgChange(name="Acme Ltd"),
        OrgChange(quotas='{"jobs_in_flight_max":3}'),
        OrgChange(suspended=True),
        OrgChange(suspended=True),
    ]
    for step, change in enumerate(changes):
        org = await store.orgs.update(ACME, change, OPERATOR, START + step)
    assert (org.name, org.quotas) == ("Acme Ltd", '{"jobs_in_flight_max":3}')
    # Suspended already: the first time counts.
    assert org.suspended_at == START + 2
    assert org == await store.orgs.get(ACME)
    standing = await store.tenants.standing(ACME, "acme-user")
    assert standing is not None
    assert (standing.suspended_at, standing.quotas) == (org.suspended_at, org.quotas)
    org = await store.orgs.update(ACME, OrgChange(suspended=False, quotas=None), OPERATOR, START)
    assert (org.suspended_at, org.quotas) == (None, None)
    assert [row.action for row in await rows(store, OPERATOR_ORG)] == ["org.update"] * 5


async def test_a_name_of_another_organisation_is_refused(store: Store) -> None:
    """A rename cannot take a name, but may say the own one again."""
    await with_operator(store)
    with pytest.raises(Conflict, match="of that name"):
        await store.orgs.update(ACME, OrgChange(name="rival"), OPERATOR, START)
    assert (await store.orgs.update(ACME, OrgChange(name="acme"), OPERATOR, START)).name == "acme"


async def test_the_operator_cannot_lock_himself_out(store: Store) -> None:
    """The operator's own organisation cannot be suspended."""
    await with_operator(store)
    with pytest.raises(Conflict, match="cannot be suspended"):
        await store.orgs.update(OPERATOR_ORG, OrgChange(suspended=True), OPERATOR, START)


async def test_what_is_not_there_cannot_be_changed(store: Store) -> None:
    """A change of an organisation that does not exist is refused and leaves no row."""
    await with_operator(store)
    with pytest.raises(NotFound):
        await store.orgs.update(OrgId("nowhere"), OrgChange(name="x"), by("owner"), START)
    assert await rows(store, OPERATOR_ORG) == []
