import re

import pytest
from starlette.requests import Request
from tests.api.driver import PEPPER, permit
from tests.fake_clock import START, FakeClock

from penstock.api.auth import TOUCH_SECONDS, Authenticator, Principal
from penstock.core.job import OrgId
from penstock.core.key import _with_check, key_id_of, new_key
from penstock.errors import Forbidden, Unauthenticated
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
    expected = Principal(org_id=ACME, user_id="acme-user", key_id=key[3:11])
    assert await authenticator.principal(request(f"Bearer {key}")) == expected


@pytest.mark.parametrize("form", ["bearer {}", "BEARER {}", "Bearer   {}", "Bearer {} "])
async def test_the_scheme_has_no_case(
    store: Store, authenticator: Authenticator, form: str
) -> None:
    """The scheme is compared without regard to case, and blanks around the key do not count."""
    header = form.format(await permit(store, "acme"))
    assert (await authenticator.principal(request(header))).org_id == ACME


async def test_no_header_is_told(authenticator: Authenticator) -> None:
    """A request without a key hears what to send."""
    with pytest.raises(Unauthenticated, match="No API key was sent") as caught:
        await authenticator.principal(request())
    assert "Authorization: Bearer" in str(caught.value.hint)


@pytest.mark.parametrize("header", ["Basic dTpw", "Bearer", "Bearer ", "Bearer\t", "pk_x", "a b c"])
async def test_another_form_of_header_is_told(authenticator: Authenticator, header: str) -> None:
    """Another scheme, or a scheme without a key, is named as such."""
    with pytest.raises(Unauthenticated, match="header is not"):
        await authenticator.principal(request(header))


@pytest.mark.parametrize("text", ["x", "pk_", "é" * 61, "\x00", "a" * 10_000, "pk_a b"])
async def test_a_malformed_key_is_unknown(authenticator: Authenticator, text: str) -> None:
    """Text that is no key at all is refused like a key that does not exist."""
    with pytest.raises(Unauthenticated, match="not known"):
        await authenticator.principal(request(f"Bearer {text}"))


async def test_a_key_of_nobody_is_unknown(authenticator: Authenticator) -> None:
    """A well-formed key that was never made opens nothing."""
    with pytest.raises(Unauthenticated, match="not known"):
        await authenticator.principal(request(f"Bearer {new_key()}"))


async def test_the_id_alone_opens_nothing(store: Store, authenticator: Authenticator) -> None:
    """The id is public: with it and another secret the answer is that of an unknown key."""
    wrong = mistyped(await permit(store, "acme"))
    assert key_id_of(wrong) is not None
    with pytest.raises(Unauthenticated, match="not known"):
        await authenticator.principal(request(f"Bearer {wrong}"))


async def test_another_pepper_knows_no_key(store: Store, clock: FakeClock) -> None:
    """A stolen database is of no use without the master secret."""
    key = await permit(store, "acme")
    with pytest.raises(Unauthenticated, match="not known"):
        await Authenticator(store.tenants, b"q" * 32, clock).principal(request(f"Bearer {key}"))


async def test_nothing_of_a_key_is_stored(store: Store, authenticator: Authenticator) -> None:
    """The row holds an HMAC, from which the key cannot be had."""
    key = await permit(store, "acme")
    (stored,) = await store.tenants.keys()
    assert key[12:55] not in repr(stored)
    assert re.fullmatch(r"[0-9a-f]{64}", stored.digest)
    assert stored.digest == authenticator.digest(key)


async def test_a_revoked_key_is_refused(store: Store, authenticator: Authenticator) -> None:
    """From the moment of its revocation a key opens nothing, and its owner hears why."""
    key = await permit(store, "acme", revoked_at=START)
    with pytest.raises(Unauthenticated, match="was revoked") as caught:
        await authenticator.principal(request(f"Bearer {key}"))
    assert caught.value.error_code == "key_revoked"


async def test_an_expired_key_is_refused(store: Store, authenticator: Authenticator) -> None:
    """At its end a key opens nothing, and its owner hears why."""
    key = await permit(store, "acme", expires_at=START)
    with pytest.raises(Unauthenticated, match="has expired") as caught:
        await authenticator.principal(request(f"Bearer {key}"))
    assert caught.value.error_code == "key_expired"


async def test_a_key_works_until_its_end(store: Store, authenticator: Authenticator) -> None:
    """Ends that lie in the future change nothing yet."""
    key = await permit(store, "acme", expires_at=START + 1, revoked_at=START + 1)
    assert (await authenticator.principal(request(f"Bearer {key}"))).org_id == ACME


async def test_an_alias_is_the_key_that_it_names(store: Store, clock: FakeClock) -> None:
    """A key of another form, as `dev --key` takes it, is found by its digest."""
    aliases: dict[str, str] = {}
    authenticator = Authenticator(store.tenants, PEPPER, clock, aliases)
    digest = authenticator.digest("my own key")
    await permit(store, "acme", id="dev-key", digest=digest)
    aliases[digest] = "dev-key"
    assert (await authenticator.principal(request("Bearer my own key"))).key_id == "dev-key"
    with pytest.raises(Unauthenticated, match="not known"):
        await authenticator.principal(request("Bearer my own kez"))


async def test_the_own_organisation_may_be_named(
    store: Store, authenticator: Authenticator
) -> None:
    """The header may say what is the case anyway."""
    key = await permit(store, "acme")
    assert (await authenticator.principal(request(f"Bearer {key}", "acme"))).org_id == ACME


async def test_a_member_may_act_for_another_organisation(
    store: Store, authenticator: Authenticator
) -> None:
    """Membership opens the organisation in the header, and nothing else changes."""
    await store.tenants.ensure_user("acme-user", OrgId("rival"), "member", START)
    key = await permit(store, "acme")
    principal = await authenticator.principal(request(f"Bearer {key}", "rival"))
    assert (principal.org_id, principal.user_id) == ("rival", "acme-user")


async def test_foreign_and_absent_organisations_answer_alike(
    store: Store, authenticator: Authenticator
) -> None:
    """Nobody learns from the answer which organisations exist."""
    key = await permit(store, "acme")
    answers = []
    for organization in ("rival", "nowhere"):
        with pytest.raises(Forbidden) as caught:
            await authenticator.principal(request(f"Bearer {key}", organization))
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
        await authenticator.principal(request(f"Bearer {key}"))
        stored = await store.tenants.key(key[3:11])
        stamps.append(stored.last_used_at if stored else None)
    assert stamps == [START, START, START + TOUCH_SECONDS + 1]
