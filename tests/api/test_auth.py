import re

import pytest
from starlette.requests import Request
from tests.api.driver import PEPPER, permit
from tests.fake_clock import START, FakeClock
from tests.store.driver import all_keys

from penstock.api.auth import TOUCH_SECONDS, Authenticator
from penstock.core.access import OPERATOR_ORG, Actor, Role, Scope
from penstock.core.job import OrgId
from penstock.core.key import _with_check, key_id_of, new_key
from penstock.errors import Forbidden, Unauthenticated
from penstock.store.orgs import OrgChange
from penstock.store.store import Store

ACME = OrgId("acme")


@pytest.fixture
def authenticator(store: Store, clock: FakeClock) -> Authenticator:
    """An authenticator over the test's store."""
    return Authenticator(store.tenants, PEPPER, clock)


def request(authorization: str | None = None, organization: str | None = None) -> Request:
    """A request with these headers."""
    headers = {"authorization": authorization, "x-organization-id": organization}
    raw = [(name.encode(), text.encode("latin-1")) for name, text in headers.items() if text]
    return Request({"type": "http", "headers": raw})


def mistyped(key: str) -> str:
    """A well-formed key with the same id and another secret."""
    return _with_check(f"pk_{key[3:11]}_{new_key()[12:55]}")


async def test_a_good_key_is_its_owner(store: Store, authenticator: Authenticator) -> None:
    """A known key stands for its organisation and user."""
    key = await permit(store, "acme")
    found = await authenticator.identify(request(f"Bearer {key}"))
    assert (found.org_id, found.user_id, found.key_id) == (ACME, "acme-user", key[3:11])


@pytest.mark.parametrize("form", ["bearer {}", "BEARER {}", "Bearer   {}", "Bearer {} "])
async def test_the_scheme_has_no_case(
    store: Store, authenticator: Authenticator, form: str
) -> None:
    """The scheme is compared without regard to case, and blanks around the key do not count."""
    header = form.format(await permit(store, "acme"))
    assert (await authenticator.identify(request(header))).org_id == ACME


async def test_no_header_is_told(authenticator: Authenticator) -> None:
    """A request without a key hears what to send."""
    with pytest.raises(Unauthenticated, match="No API key was sent") as caught:
        await authenticator.identify(request())
    assert "Authorization: Bearer" in str(caught.value.hint)


@pytest.mark.parametrize("header", ["Basic dTpw", "Bearer", "Bearer ", "Bearer\t", "pk_x", "a b c"])
async def test_another_form_of_header_is_told(authenticator: Authenticator, header: str) -> None:
    """Another scheme, or a scheme without a key, is named as such."""
    with pytest.raises(Unauthenticated, match="header is not"):
        await authenticator.identify(request(header))


@pytest.mark.parametrize("text", ["x", "pk_", "é" * 61, "\x00", "a" * 10_000, "pk_a b"])
async def test_a_malformed_key_is_unknown(authenticator: Authenticator, text: str) -> None:
    """Text that is no key at all is refused like a key that does not exist."""
    with pytest.raises(Unauthenticated, match="not known"):
        await authenticator.identify(request(f"Bearer {text}"))


async def test_a_key_of_nobody_is_unknown(authenticator: Authenticator) -> None:
    """A well-formed key that was never made opens nothing."""
    with pytest.raises(Unauthenticated, match="not known"):
        await authenticator.identify(request(f"Bearer {new_key()}"))


async def test_the_id_alone_opens_nothing(store: Store, authenticator: Authenticator) -> None:
    """The id is public: with it and another secret the answer is that of an unknown key."""
    wrong = mistyped(await permit(store, "acme"))
    assert key_id_of(wrong) is not None
    with pytest.raises(Unauthenticated, match="not known"):
        await authenticator.identify(request(f"Bearer {wrong}"))


async def test_another_pepper_knows_no_key(store: Store, clock: FakeClock) -> None:
    """A stolen database is of no use without the master secret."""
    key = await permit(store, "acme")
    with pytest.raises(Unauthenticated, match="not known"):
        await Authenticator(store.tenants, b"q" * 32, clock).identify(request(f"Bearer {key}"))


async def test_nothing_of_a_key_is_stored(store: Store, authenticator: Authenticator) -> None:
    """The row holds an HMAC, from which the key cannot be had."""
    key = await permit(store, "acme")
    (stored,) = await all_keys(store)
    assert key[12:55] not in repr(stored)
    assert re.fullmatch(r"[0-9a-f]{64}", stored.digest)
    assert stored.digest == authenticator.digest(key)


async def test_a_revoked_key_is_refused(store: Store, authenticator: Authenticator) -> None:
    """From the moment of its revocation a key opens nothing, and its owner hears why."""
    key = await permit(store, "acme", revoked_at=START)
    with pytest.raises(Unauthenticated, match="was revoked") as caught:
        await authenticator.identify(request(f"Bearer {key}"))
    assert caught.value.error_code == "key_revoked"


async def test_an_expired_key_is_refused(store: Store, authenticator: Authenticator) -> None:
    """At its end a key opens nothing, and its owner hears why."""
    key = await permit(store, "acme", expires_at=START)
    with pytest.raises(Unauthenticated, match="has expired") as caught:
        await authenticator.identify(request(f"Bearer {key}"))
    assert caught.value.error_code == "key_expired"


async def test_a_key_works_until_its_end(store: Store, authenticator: Authenticator) -> None:
    """Ends that lie in the future change nothing yet."""
    key = await permit(store, "acme", expires_at=START + 1, revoked_at=START + 1)
    assert (await authenticator.identify(request(f"Bearer {key}"))).org_id == ACME


async def test_an_alias_is_the_key_that_it_names(store: Store, clock: FakeClock) -> None:
    """A key of another form, as `dev --key` takes it, is found by its digest."""
    aliases: dict[str, str] = {}
    authenticator = Authenticator(store.tenants, PEPPER, clock, aliases)
    digest = authenticator.digest("my own key")
    await permit(store, "acme", id="dev-key", digest=digest)
    aliases[digest] = "dev-key"
    assert (await authenticator.identify(request("Bearer my own key"))).key_id == "dev-key"
    with pytest.raises(Unauthenticated, match="not known"):
        await authenticator.identify(request("Bearer my own kez"))


async def test_the_own_organisation_may_be_named(
    store: Store, authenticator: Authenticator
) -> None:
    """The header may say what is the case anyway."""
    key = await permit(store, "acme")
    assert (await authenticator.identify(request(f"Bearer {key}", "acme"))).org_id == ACME


async def test_a_member_may_act_for_another_organisation(
    store: Store, authenticator: Authenticator
) -> None:
    """Membership opens the organisation in the header, and nothing else changes."""
    await store.tenants.ensure_user("acme-user", OrgId("rival"), "developer", START)
    key = await permit(store, "acme")
    principal = await authenticator.identify(request(f"Bearer {key}", "rival"))
    assert (principal.org_id, principal.user_id) == ("rival", "acme-user")


async def test_foreign_and_absent_organisations_answer_alike(
    store: Store, authenticator: Authenticator
) -> None:
    """Nobody learns from the answer which organisations exist."""
    key = await permit(store, "acme")
    answers = []
    for organization in ("rival", "nowhere"):
        with pytest.raises(Forbidden) as caught:
            await authenticator.identify(request(f"Bearer {key}", organization))
        answers.append((caught.value.message, caught.value.error_code, caught.value.hint))
    assert answers[0] == answers[1]


async def test_the_use_of_a_key_is_stamped_once_a_minute(
    store: Store, authenticator: Authenticator, clock: FakeClock
) -> None:
    """The first request writes its time, those of the next minute do not, a later one does."""
    key = await permit(store, "acme")
    stamps = []
    for step in (0.0, TOUCH_SECONDS, 1.0):
        clock.advance(step)
        await authenticator.identify(request(f"Bearer {key}"))
        stored = await store.tenants.key(key[3:11])
        stamps.append(stored.last_used_at if stored else None)
    assert stamps == [START, START, START + TOUCH_SECONDS + 1]


async def test_a_key_of_a_call_acts_for_its_own_organisation_only(
    store: Store, authenticator: Authenticator
) -> None:
    """Any admin could add a user of others and make a key for him: elsewhere it must be nobody's.

    The answer is that of an organisation to which the user does not belong.
    """
    await store.tenants.ensure_user("acme-user", OrgId("rival"), "viewer", START)
    key = await permit(store, "rival", user_id="acme-user", made_by="rival-user")
    assert (await authenticator.identify(request(f"Bearer {key}"))).org_id == "rival"
    answers = []
    for organization in ("acme", "nowhere"):
        with pytest.raises(Forbidden) as caught:
            await authenticator.identify(request(f"Bearer {key}", organization))
        answers.append((caught.value.message, caught.value.error_code, caught.value.hint))
    assert answers[0] == answers[1]


async def test_a_user_who_left_has_no_key_any_more(
    store: Store, authenticator: Authenticator
) -> None:
    """A key without a membership opens nothing, and its owner hears why."""
    await store.tenants.ensure_user("guest", OrgId("rival"), "viewer", START)
    key = await permit(store, "acme", user_id="guest")
    with pytest.raises(Forbidden, match="does not belong to its organisation any more") as caught:
        await authenticator.identify(request(f"Bearer {key}"))
    assert caught.value.error_code == "organization_forbidden"
    assert "owner or admin" in str(caught.value.hint)


async def test_nobody_of_a_suspended_organisation_gets_in(
    store: Store, authenticator: Authenticator
) -> None:
    """From the commit on, until it is resumed."""
    await store.tenants.ensure_org(OPERATOR_ORG, "default", START)
    key = await permit(store, "acme")
    operator = Actor(org_id=OPERATOR_ORG, user_id="operator", key_id="", address="", request_id="")
    await store.orgs.update(ACME, OrgChange(suspended=True), operator, START)
    with pytest.raises(Forbidden) as caught:
        await authenticator.identify(request(f"Bearer {key}"))
    assert caught.value.error_code == "organization_suspended"
    await store.orgs.update(ACME, OrgChange(suspended=False), operator, START)
    assert (await authenticator.identify(request(f"Bearer {key}"))).org_id == ACME


async def test_a_key_may_what_its_scopes_and_its_users_role_allow(
    store: Store, authenticator: Authenticator
) -> None:
    """What is missing is named, with what there is; a change of role counts at once."""
    key = await permit(store, "acme", scopes="jobs:read users:read", expires_at=START + 5)
    bearer = request(f"Bearer {key}")
    found = await authenticator.principal(bearer, Scope.USERS_READ)
    assert found.role is Role.OWNER
    assert found.scopes == {Scope.JOBS_READ, Scope.USERS_READ}
    assert (found.key_scopes, found.key_expires_at) == ("jobs:read users:read", START + 5)
    await store.tenants.ensure_user("second", ACME, "owner", START)
    second = Actor(org_id=ACME, user_id="second", key_id="k", address="", request_id="")
    await store.users.change_role(ACME, "acme-user", Role.VIEWER, second, START)
    with pytest.raises(Forbidden, match="lacks users:read") as caught:
        await authenticator.principal(bearer, Scope.USERS_READ)
    assert caught.value.error_code == "scope_missing"
    assert "is viewer of the organisation acme; the key may do: jobs:read." in str(
        caught.value.hint
    )


async def test_a_key_may_have_nothing_left(store: Store, authenticator: Authenticator) -> None:
    """A key whose scopes its role does not allow still says who it is."""
    key = await permit(store, "acme", scopes="orgs:write")
    with pytest.raises(Forbidden) as caught:
        await authenticator.principal(request(f"Bearer {key}"), Scope.JOBS_READ)
    assert "may do: nothing" in str(caught.value.hint)


async def test_the_actor_says_from_where_he_comes(
    store: Store, authenticator: Authenticator
) -> None:
    """Address and request id are those of the connection and of the log line."""
    key = await permit(store, "acme")
    asked = request(f"Bearer {key}")
    assert (await authenticator.identify(asked)).actor.address == ""
    asked.scope.update(client=("192.0.2.7", 1234), state={"request_id": "r-1"})
    actor = (await authenticator.identify(asked)).actor
    assert (actor.address, actor.request_id, actor.key_id) == ("192.0.2.7", "r-1", key[3:11])
