"""Every call that changes something, or is refused to, leaves exactly one row in the audit log."""

from collections.abc import Callable

import pytest
from tests.api.driver import Api, permit
from tests.api.operations import OPERATIONS, Operation, routes_with_key, targets, with_member
from tests.fake_clock import START

from penstock.api.audited import TARGET_CHARS_MAX, printable
from penstock.core.access import OPERATOR_ORG, Role
from penstock.core.job import Job
from penstock.store.audit import Entry

MakeJob = Callable[..., Job]
CHANGING = [one for one in OPERATIONS if one.changes]


async def rows(api: Api) -> list[Entry]:
    """The log of the operator's organisation, oldest first."""
    assert (await api.store.audit.verify(OPERATOR_ORG)).broken_at is None
    return (await api.store.audit.page(OPERATOR_ORG, None, 1000))[::-1]


def test_every_changing_route_is_tested_here(api: Api) -> None:
    """A new route without its row in the table of operations fails here."""
    changing = {pair for pair in routes_with_key(api) if pair[0] not in {"GET", "OPTIONS"}}
    assert changing == {one.route for one in CHANGING}


@pytest.mark.parametrize("one", CHANGING, ids=lambda one: one.name)
async def test_what_is_done_has_one_row(api: Api, new_job: MakeJob, one: Operation) -> None:
    """It names who did it, from where, in which request and to what."""
    key = await with_member(api, OPERATOR_ORG, Role.OWNER)
    ids = await targets(api, OPERATOR_ORG, new_job(), key, one)
    before = await rows(api)
    async with api.client(key) as client:
        answer = await one.call(client, ids)
    assert answer.status_code < 300, answer.text
    (row,) = (await rows(api))[len(before) :]
    assert (row.result, row.user_id, row.key_id) == ("done", "default-owner", key[3:11])
    assert (row.address, row.request_id) == ("127.0.0.1", answer.headers["x-request-id"])
    assert row.at == START
    named = [ids[name] for name in ids if f"{{{name}}}" in one.path]
    assert row.object in named if named else row.object
    assert key not in repr(row)


@pytest.mark.parametrize("one", CHANGING, ids=lambda one: one.name)
async def test_what_the_key_may_not_has_one_row(api: Api, new_job: MakeJob, one: Operation) -> None:
    """A refusal for want of a scope is recorded with its code, under the same action."""
    owner = await with_member(api, OPERATOR_ORG, Role.OWNER)
    key = await permit(api.store, OPERATOR_ORG, user_id="default-owner", scopes="audit:read")
    ids = await targets(api, OPERATOR_ORG, new_job(), owner, one)
    before = await rows(api)
    async with api.client(key) as client:
        refused = await one.call(client, ids)
    async with api.client(owner) as client:
        done = await one.call(client, ids)
    assert (refused.status_code, done.status_code // 100) == (403, 2)
    no, yes = (await rows(api))[len(before) :]
    assert (no.result, no.key_id, no.action) == ("scope_missing", key[3:11], yes.action)
    named = [ids[name] for name in ids if f"{{{name}}}" in one.path]
    assert no.object in (named or [""])


@pytest.mark.parametrize(
    "one", [one for one in CHANGING if "{" in one.path], ids=lambda one: one.name
)
@pytest.mark.parametrize("wanted", ["absent1", "a\x00b%\n\x1b[31m", "\u00e9" * 99])
async def test_what_is_not_there_has_one_row(api: Api, one: Operation, wanted: str) -> None:
    """A refusal of an id that nobody has is recorded in characters that can be shown."""
    key = await with_member(api, OPERATOR_ORG, Role.OWNER)
    names = ["request_id", "upload_id", "org_id", "user_id", "key_id", "own_key_id"]
    names += ["webhook_id", "delivery_id"]
    async with api.client(key) as client:
        answer = await one.call(client, dict.fromkeys(names, _quoted(wanted)))
    assert answer.status_code == 404
    (row,) = await rows(api)
    assert row.result == answer.json()["code"] == "not_found"
    assert row.object == printable(wanted)
    assert row.object.isascii()
    assert row.object.isprintable()
    assert len(row.object) <= TARGET_CHARS_MAX


@pytest.mark.parametrize(
    "one", [one for one in CHANGING if one.body is not None], ids=lambda one: one.name
)
async def test_a_bad_body_has_one_row(api: Api, new_job: MakeJob, one: Operation) -> None:
    """What was sent is wrong, and is not repeated in the log."""
    key = await with_member(api, OPERATOR_ORG, Role.OWNER)
    ids = await targets(api, OPERATOR_ORG, new_job(), key, one)
    before = await rows(api)
    async with api.client(key) as client:
        answer = await client.request(one.method, one.path.format_map(ids), content=b'{"canary')
    assert answer.status_code == 400
    (row,) = (await rows(api))[len(before) :]
    assert row.result == answer.json()["code"]
    assert "canary" not in repr(row)


async def test_who_is_not_known_has_no_row(api: Api, new_job: MakeJob) -> None:
    """Anybody could fill the log otherwise."""
    key = await with_member(api, OPERATOR_ORG, Role.OWNER)
    ids = await targets(api, OPERATOR_ORG, new_job(), key, CHANGING[0])
    before = await rows(api)
    async with api.client() as client:
        absent = dict.fromkeys(ids, "absent1")
        codes = {(await one.call(client, absent)).status_code for one in OPERATIONS}
    assert codes == {401}
    assert await rows(api) == before


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())
