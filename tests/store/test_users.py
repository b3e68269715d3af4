import asyncio
import itertools

import pytest
from tests.fake_clock import START
from tests.store.tenancy import ACME, AT_ACME, MANY, RIVAL, by, new_key, rows, with_people

from penstock.core.access import Role
from penstock.core.ids import new_id
from penstock.errors import Conflict, Forbidden, NotFound, PenstockError, TooMany
from penstock.store.store import Store
from penstock.store.users import Member, NewMember

OWNER = by("acme-owner", ACME)


async def code_of(store: Store, user_id: str, role: Role, actor_id: str) -> str:
    """Try to make a user something else; return the code of the refusal, or `done`."""
    try:
        await store.users.change_role(ACME, user_id, role, by(actor_id, ACME), START)
    except PenstockError as refusal:
        return refusal.error_code
    return "done"


async def test_a_new_user_joins(store: Store) -> None:
    """The new one gets an id that cannot be guessed, is listed, and one row tells it."""
    wanted = NewMember(role=Role.VIEWER, name="Ana")
    made = await store.users.add(ACME, wanted, by("acme-user", ACME), START + 1, MANY)
    assert made == Member(id=made.id, name="Ana", role=Role.VIEWER, created_at=START + 1)
    assert len(made.id) == len("usr_") + 26
    assert await store.users.get(ACME, made.id) == made
    (row,) = await rows(store, ACME)
    assert (row.action, row.object, row.user_id) == ("user.add", made.id, "acme-user")


async def test_a_known_user_joins_a_second_organisation(store: Store) -> None:
    """Who is known keeps the name, and the other organisation sees nothing of it."""
    user_id = new_id("usr")
    await store.tenants.ensure_user(user_id, RIVAL, Role.OWNER, START)
    wanted = NewMember(role=Role.DEVELOPER, id=user_id, name="another name")
    made = await store.users.add(ACME, wanted, by("acme-user", ACME), START, MANY)
    assert (made.id, made.name, made.role) == (user_id, user_id, Role.DEVELOPER)
    assert (await store.users.get(RIVAL, user_id)).role is Role.OWNER
    assert await rows(store, RIVAL) == []


async def test_nobody_learns_who_belongs_to_others(store: Store) -> None:
    """An id that was chosen can be guessed: a known one is refused like one of nobody."""
    said = set()
    for user_id in ("rival-user", "nobody", new_id("usr")):
        wanted = NewMember(role=Role.VIEWER, id=user_id)
        with pytest.raises(NotFound) as caught:
            await store.users.add(ACME, wanted, by("acme-user", ACME), START, MANY)
        said.add((caught.value.message, caught.value.hint))
    assert len(said) == 1
    assert (await store.users.add(ACME, wanted, AT_ACME, START, MANY)).id == user_id


async def test_an_id_of_nobody_is_refused_over_the_network(store: Store) -> None:
    """Only at the server itself may a new user's id be chosen."""
    wanted = NewMember(role=Role.VIEWER, id="chosen", name="Ana")
    with pytest.raises(NotFound):
        await store.users.add(ACME, wanted, by("acme-user", ACME), START, MANY)
    assert (await store.users.add(ACME, wanted, AT_ACME, START, MANY)).id == "chosen"


async def test_a_member_cannot_join_again(store: Store) -> None:
    """It would be a way to change a role past the rules."""
    wanted = NewMember(role=Role.VIEWER, id="acme-user")
    with pytest.raises(Conflict) as caught:
        await store.users.add(ACME, wanted, AT_ACME, START, MANY)
    assert caught.value.error_code == "already_member"


async def test_one_more_user_than_may_be_is_refused(store: Store) -> None:
    """Of several who join at once as many pass as there is room for."""
    wanted = NewMember(role=Role.VIEWER, name="Ana")
    made = await asyncio.gather(
        *(store.users.add(ACME, wanted, AT_ACME, START, 3) for _ in range(6)),
        return_exceptions=True,
    )
    assert sum(isinstance(one, TooMany) for one in made) == 4
    assert len(await store.users.page(ACME, "", MANY)) == 3


async def test_users_are_listed_by_pages_of_their_organisation(store: Store) -> None:
    """The pages together hold each user once, and nobody of another organisation."""
    await with_people(store)
    first = await store.users.page(ACME, "", 3)
    rest = await store.users.page(ACME, first[-1].id, 3)
    ids = [f"acme-{name}" for name in ("admin", "developer", "owner", "user", "viewer")]
    assert [user.id for user in (*first, *rest)] == ids


async def test_who_belongs_to_others_is_not_found(store: Store) -> None:
    """A user of another organisation and one of none are refused in the same words."""
    await with_people(store)
    said = set()
    for user_id in ("rival-user", "nobody"):
        for work in (
            store.users.get(ACME, user_id),
            store.users.change_role(ACME, user_id, Role.VIEWER, OWNER, START),
            store.users.remove(ACME, user_id, OWNER, START),
        ):
            with pytest.raises(NotFound) as caught:
                await work
            said.add((caught.value.message, caught.value.hint))
    assert len(said) == 1
    assert await rows(store, ACME) == []


async def test_nobody_moves_those_above_himself(store: Store) -> None:
    """A role is changed by those who stand at least as high as both, whatever their key may do."""
    ranks = [Role.VIEWER, Role.DEVELOPER, Role.ADMIN, Role.OWNER]
    await with_people(store)
    done = 0
    for actor, before, role in itertools.product(Role, repeat=3):
        target = f"{actor}-{before}-{role}"
        await store.tenants.ensure_user(target, ACME, before, START)
        code = await code_of(store, target, role, f"acme-{actor}")
        allowed = ranks.index(actor) >= max(ranks.index(before), ranks.index(role))
        assert code == ("done" if allowed else "role_too_low")
        assert (await store.users.get(ACME, target)).role is (role if allowed else before)
        done += allowed
    assert len(await rows(store, ACME)) == done


async def test_an_admin_adds_and_removes_no_owner(store: Store) -> None:
    """Owners are made and removed by owners only."""
    await with_people(store)
    admin = by("acme-admin", ACME)
    with pytest.raises(Forbidden, match="an owner"):
        await store.users.add(ACME, NewMember(role=Role.OWNER, name="x"), admin, START, MANY)
    with pytest.raises(Forbidden):
        await store.users.remove(ACME, "acme-owner", admin, START)
    with pytest.raises(Forbidden, match="a developer"):
        await store.users.remove(ACME, "acme-developer", by("acme-viewer", ACME), START)


async def test_who_was_removed_meanwhile_may_nothing(store: Store) -> None:
    """The role counts that the actor has when it is done, not when the request came."""
    await with_people(store)
    await store.users.remove(ACME, "acme-admin", OWNER, START)
    assert await code_of(store, "acme-viewer", Role.DEVELOPER, "acme-admin") == "role_too_low"


async def test_the_last_owner_stays(store: Store) -> None:
    """The last owner can neither be removed nor demoted, not even at the server itself."""
    for work in (
        store.users.remove(ACME, "acme-user", AT_ACME, START),
        store.users.change_role(ACME, "acme-user", Role.ADMIN, AT_ACME, START),
    ):
        with pytest.raises(Conflict) as caught:
            await work
        assert caught.value.error_code == "last_owner"
    kept = await store.users.change_role(ACME, "acme-user", Role.OWNER, AT_ACME, START)
    assert kept.role is Role.OWNER


async def test_two_owners_who_demote_each_other_leave_one(store: Store) -> None:
    """Whoever comes second is refused, however close the two come."""
    for turn in range(10):
        await store.tenants.ensure_user(f"other{turn}", ACME, Role.OWNER, START)
    ids = ["acme-user", *(f"other{turn}" for turn in range(10))]
    pairs = zip(ids, [*ids[1:], ids[0]], strict=True)
    codes = await asyncio.gather(
        *(code_of(store, target, Role.VIEWER, actor) for actor, target in pairs)
    )
    owners = [one for one in await store.users.page(ACME, "", MANY) if one.role is Role.OWNER]
    assert owners
    assert codes.count("done") == len(ids) - len(owners)
    assert len(await rows(store, ACME)) == codes.count("done")


async def test_the_last_two_owners_cannot_both_go(store: Store) -> None:
    """Of two removals of the last two owners one is refused."""
    await store.tenants.ensure_user("second", ACME, Role.OWNER, START)
    gone = await asyncio.gather(
        store.users.remove(ACME, "acme-user", AT_ACME, START),
        store.users.remove(ACME, "second", AT_ACME, START),
        return_exceptions=True,
    )
    assert sum(isinstance(one, Conflict) for one in gone) == 1


async def test_who_goes_loses_his_keys_of_this_organisation(store: Store) -> None:
    """They stay dead if he comes back; those of another organisation are not touched."""
    await with_people(store)
    await store.tenants.ensure_user("acme-viewer", RIVAL, Role.VIEWER, START)
    for key in (
        new_key("oldkey01", "acme-viewer", revoked_at=START),
        new_key("acmekey1", "acme-viewer"),
        new_key("rivalkey", "acme-viewer", RIVAL),
    ):
        await store.tenants.put_key(key)
    await store.users.remove(ACME, "acme-viewer", OWNER, START + 5)
    assert await store.tenants.standing(ACME, "acme-viewer") is None
    ends = [(await store.tenants.key(one)) for one in ("oldkey01", "acmekey1", "rivalkey")]
    assert [one and one.revoked_at for one in ends] == [START, START + 5, None]
    (row,) = await rows(store, ACME)
    assert (row.action, row.detail) == ("user.remove", '{"keys_revoked":1,"role":"viewer"}')
