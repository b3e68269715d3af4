"""Every route x every id x every caller: who gets in, and that no stranger can tell what exists."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest
from starlette.routing import Route
from tests.isolation.table import DOWNLOAD, TABLE, Row
from tests.isolation.world import (
    ACME,
    ADMIN,
    CANARIES,
    NOBODY,
    QUIET_PORT,
    REVOKED,
    RIVAL,
    ROLES,
    SCOPED,
    SCOPED_TO,
    SECRET,
    STRANGER,
    WRONG,
    World,
    shown,
    two_tenants,
)
from tests.journeys.service import BASE

from penstock.core.access import ALL, Role, Scope, may
from penstock.core.job import OrgId
from penstock.settings import build, emulator_values
from penstock.wiring import Server

MALFORMED = ("x", quote("' OR 1=1 --"), "%00", "a" * 300)
"""The parsers of ids have a fuzzer of their own; these show that a route uses one."""

ROWS = sorted(TABLE)
OWN_ONLY = {Role.DEVELOPER, Role.VIEWER}
"""Who sees no keys but those of his own; the table's are the admin's."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two tenants on one server; in the end neither has heard or logged the other's canary."""
    folder = tmp_path_factory.mktemp("isolation")
    with two_tenants(folder) as made:
        yield made
        assert_separate(made, folder)


def assert_separate(world: World, folder: Path) -> None:
    """Fail if a canary or a secret is where it must not be."""
    for org, other in ((ACME, RIVAL), (RIVAL, ACME)):
        for answer in world.heard[org]:
            assert CANARIES[other].encode() not in answer, (org, answer[:500])
    log = (folder / "server.log").read_bytes()
    for secret in (*world.texts, SECRET, *CANARIES.values()):
        assert secret.encode() not in log


def test_every_route_has_its_row(tmp_path: Path) -> None:
    """A route that nobody wrote a row for, or a row without a route, fails the build."""
    vertex = emulator_values("http://127.0.0.1:9")
    server = Server(build({"data_dir": str(tmp_path), "vertex": vertex}))
    routes = {
        (method, route.path)
        for route in server.app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    asyncio.run(server.close())
    assert routes == TABLE.keys() | {DOWNLOAD}


@pytest.mark.parametrize(("method", "template"), ROWS)
def test_nobody_gets_in_without_a_key_in_force(world: World, method: str, template: str) -> None:
    """Without a key, with nobody's and with a revoked one the answer is 401, whatever the id."""
    row = TABLE[method, template]
    for caller in (NOBODY, WRONG, REVOKED):
        seen = {one: call(world, caller, method, template, one) for one in ids(row)}
        if row.scope is None:
            assert {answer.status_code for answer in seen.values()} == {200}
        else:
            assert {answer.status_code for answer in seen.values()} == {401}
        assert len({str(shown(answer)) for answer in seen.values()}) == 1


@pytest.mark.parametrize("caller", [*ROLES, SCOPED])
@pytest.mark.parametrize(("method", "template"), ROWS)
def test_a_key_does_what_role_and_scopes_allow(
    world: World, method: str, template: str, caller: str
) -> None:
    """A key that may not hears 403 and nothing of any id; one that may gets what is its own."""
    row = TABLE[method, template]
    answers = {one: call(world, caller, method, template, one) for one in ids(row)}
    own = answers.pop("own")
    if row.scope is not None and row.scope not in allowed(caller):
        assert own.status_code == 403, own.text
        assert own.json()["code"] == "scope_missing"
        assert {str(shown(answer)) for answer in answers.values()} <= {str(shown(own))}
        return
    if row.thing == "key_id" and caller in OWN_ONLY:
        assert own.status_code == 404, own.text
    else:
        assert own.status_code in row.own, own.text
    assert_absent(answers)


@pytest.mark.parametrize(("method", "template"), [name for name in ROWS if TABLE[name].thing])
def test_a_stranger_cannot_tell_what_exists(world: World, method: str, template: str) -> None:
    """What is another tenant's, what was removed and what never was give the same bytes."""
    row = TABLE[method, template]
    answers = {one: call(world, STRANGER, method, template, one) for one in ids(row)}
    if row.scope not in may(OrgId(RIVAL), Role.OWNER, ALL):
        assert {answer.status_code for answer in answers.values()} == {403}
        assert len({str(shown(answer)) for answer in answers.values()}) == 1
        return
    del answers["foreign"]  # that one is the stranger's own
    assert_absent(answers)
    # Nothing happened to it: its owner still has it.
    if method != "GET" and row.fresh is None and row.thing != "delivery_id":
        mine = call(world, "owner", method, template, "own")
        assert mine.status_code in row.own, mine.text


def test_another_organisation_is_not_entered_by_a_header(world: World) -> None:
    """One that exists and one that does not refuse a stranger with the same bytes."""
    path = f"{BASE}/requests"
    answers = [world.call(STRANGER, "GET", path, org=org) for org in (ACME, "nowhere", "' --")]
    assert {answer.status_code for answer in answers} == {403}
    assert len({str(shown(answer)) for answer in answers}) == 1


def test_a_key_made_by_another_organisation_does_not_travel(world: World) -> None:
    """Who makes a key for a user of several organisations gets into none but his own with it."""
    body = b'{"user_id": "owner", "scopes": ["jobs:read", "keys:write", "keys:read"]}'
    # The operator's owner owns both tenants; an owner of one of them makes a key in his name.
    answer = world.call(f"{RIVAL}:owner", "POST", f"{ADMIN}/keys", body=body)
    assert answer.status_code == 201, answer.text
    # It is the rival's, and what it hears of him is his own.
    planted, planted_again = f"{RIVAL}:planted", f"{RIVAL}:planted again"
    world.keys[planted] = answer.json()["key"]
    world.texts.append(answer.json()["key"])
    path = f"{BASE}/requests"
    assert world.call(planted, "GET", path).status_code == 200
    for org in (ACME, "default"):
        assert world.call(planted, "GET", path, org=org).status_code == 403
    # Nor does a key that it makes for itself.
    second = world.call(planted, "POST", f"{ADMIN}/keys", body=b'{"scopes": ["jobs:read"]}')
    assert second.status_code == 201, second.text
    world.keys[planted_again] = second.json()["key"]
    world.texts.append(second.json()["key"])
    assert world.call(planted_again, "GET", path, org=ACME).status_code == 403


def test_a_link_opens_its_own_output_only(world: World) -> None:
    """A download link works without a key, and with no other job's id in it."""
    for org, other in ((ACME, RIVAL), (RIVAL, ACME)):
        mine, theirs = world.things[org], world.things[other]
        own = httpx2.get(mine["output"])
        assert own.status_code == 200
        world.heard[org].append(own.content)
        assert CANARIES[org].encode() in own.content
        for request_id in (theirs["request_id"], "req_" + "0" * 26, "x"):
            moved = httpx2.get(mine["output"].replace(mine["request_id"], request_id))
            assert moved.status_code == 403
            world.heard[org].append(moved.content)


def test_each_tenant_sees_what_it_owns(world: World) -> None:
    """The lists of each tenant hold its own things and none of the other's."""
    lists = [path for method, path in ROWS if method == "GET" and "{" not in path]
    for org in (ACME, RIVAL):
        for path in lists:
            if TABLE["GET", path].scope in may(OrgId(org), Role.OWNER, ALL):
                answer = world.call(f"{org}:owner", "GET", path)
                assert answer.status_code == 200, answer.text
        users = world.call(f"{org}:owner", "GET", f"{ADMIN}/users").text
        assert CANARIES[org] in users
    hooks = world.call("owner", "GET", f"{ADMIN}/webhooks").json()["webhooks"]
    assert all(f":{QUIET_PORT}/{CANARIES[RIVAL]}" not in hook["url"] for hook in hooks)


def allowed(caller: str) -> frozenset[Scope]:
    """What a caller of `acme` may do."""
    if caller == SCOPED:
        return frozenset({Scope(SCOPED_TO)})
    return may(OrgId(ACME), Role(caller), ALL)


def ids(row: Row) -> dict[str, str]:
    """The kinds of ids that the row's thing can be asked by."""
    if row.thing is None:
        return {"own": ""}
    kinds = {"own": "", "foreign": "", "absent": ""}
    if row.gone is not None:
        kinds["deleted"] = ""
    return kinds | {f"malformed {text}": text for text in MALFORMED}


def call(world: World, caller: str, method: str, template: str, kind: str) -> httpx2.Response:
    """Call a route for one kind of id."""
    row = TABLE[method, template]
    numbers = {"line_number": "1", "part_number": "0"}
    path = {"model_id": "Gemini-batch-inference", **numbers, **world.things[ACME]}
    if row.thing is not None:
        path[row.thing] = named(world, row, kind)
    body, headers = row.body, row.headers
    return world.call(caller, method, template.format(**path), body=body, headers=headers)


def named(world: World, row: Row, kind: str) -> str:
    """Return an id of the kind for the row's thing."""
    assert row.thing is not None
    own = world.things[ACME][row.thing]
    if kind == "own":
        return own if row.fresh is None else row.fresh(world)
    if kind == "foreign":
        return world.things[RIVAL][row.thing]
    if kind == "absent":
        # Of the same form, and nobody's.
        return own[:-6] + "000000" if len(own) > 6 else "nowhere"
    if kind == "deleted":
        assert row.gone is not None
        return row.gone(world)
    return kind.removeprefix("malformed ")


def assert_absent(answers: dict[str, httpx2.Response]) -> None:
    """Fail unless all are 404 with the same bytes."""
    for kind, answer in answers.items():
        assert answer.status_code == 404, (kind, answer.status_code, answer.text)
    assert len({str(shown(answer)) for answer in answers.values()}) <= 1
