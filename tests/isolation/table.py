"""Every route of the server, and what a call of it needs; one without its row fails the build.

`scope` is what the key must be allowed, None for a route that asks for no key. `thing` is the
member of the path that names something of a tenant. `fresh` makes a thing of `acme` for a call that
uses it up. `own` is what a caller who may gets for a thing of his own.
"""

from collections.abc import Callable
from typing import Final

import msgspec
from tests.isolation.world import ACME, ADMIN, World
from tests.journeys.service import prompt

from penstock.core.access import Scope

QUEUES: Final = ("/api/v1/ie/requestqueue/apikey", "/api/v1/ie/requestqueue")

JSONL: Final = {"Content-Type": "application/jsonl"}
PIECE: Final = {
    "Content-Type": "application/partial-upload",
    "Upload-Offset": "0",
    "Upload-Complete": "?0",
}
LINE: Final = msgspec.json.encode(prompt("hello")) + b"\n"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one route."""

    scope: Scope | None
    own: frozenset[int] = frozenset({200})
    thing: str | None = None
    body: bytes = b""
    headers: dict[str, str] = {}
    fresh: Callable[[World], str] | None = None
    gone: Callable[[World], str] | None = None
    """Makes a thing of `acme` and removes it again; None if such things are never removed."""


def _removed(path: str, make: Callable[[World], str]) -> Callable[[World], str]:
    def gone(world: World) -> str:
        thing = make(world)
        answer = world.call("owner", "DELETE", f"{path}/{thing}")
        assert answer.status_code == 204, answer.text
        return thing

    return gone


def _upload(world: World) -> str:
    return world.upload(ACME)


def _user(world: World) -> str:
    return world.user(ACME)


def _key(world: World) -> str:
    return world.key(ACME)


def _webhook(world: World) -> str:
    return world.webhook(ACME)


_NO_UPLOAD = _removed(f"{QUEUES[0]}/uploads", _upload)
_NO_USER = _removed(f"{ADMIN}/users", _user)
_NO_WEBHOOK = _removed(f"{ADMIN}/webhooks", _webhook)


ONE_LINE = "/requests/{request_id}/lines/{line_number}"


def _queue() -> dict[tuple[str, str], Row]:
    job, upload = "request_id", "upload_id"
    read, write = Scope.JOBS_READ, Scope.JOBS_WRITE
    ended = frozenset({409})
    rows = {
        ("POST", "/requests"): Row(scope=write, body=LINE, headers=JSONL),
        ("GET", "/requests"): Row(scope=read),
        ("GET", "/requests/{request_id}"): Row(scope=read, thing=job),
        ("GET", "/requests/{request_id}/output"): Row(scope=read, thing=job),
        ("DELETE", "/requests/{request_id}"): Row(scope=write, thing=job, own=ended),
        ("POST", "/requests/{request_id}/cancel"): Row(scope=write, thing=job, own=ended),
        ("POST", "/requests/{request_id}/retry"): Row(scope=write, thing=job, own=ended),
        ("GET", "/requests/{request_id}/lines"): Row(scope=read, thing=job),
        ("GET", "/requests/{request_id}/lines/groups"): Row(scope=read, thing=job),
        ("GET", "/requests/{request_id}/lines/{line_number}"): Row(scope=read, thing=job),
        ("GET", f"{ONE_LINE}/parts/{{part_number}}"): Row(scope=read, thing=job),
        ("GET", "/models"): Row(scope=read),
        ("GET", "/models/{model_id}"): Row(scope=read),
        ("POST", "/uploads"): Row(
            scope=write,
            own=frozenset({201}),
            headers={**JSONL, "Upload-Complete": "?0", "Upload-Length": "1000000"},
        ),
        ("OPTIONS", "/uploads"): Row(scope=write, own=frozenset({204})),
        ("GET", "/uploads/{upload_id}"): Row(
            scope=write, thing=upload, own=frozenset({204}), gone=_NO_UPLOAD
        ),
        ("PATCH", "/uploads/{upload_id}"): Row(
            scope=write,
            thing=upload,
            own=frozenset({204}),
            body=LINE,
            headers=PIECE,
            fresh=_upload,
            gone=_NO_UPLOAD,
        ),
        ("DELETE", "/uploads/{upload_id}"): Row(
            scope=write, thing=upload, own=frozenset({204}), fresh=_upload, gone=_NO_UPLOAD
        ),
    }
    return {(method, base + path): row for base in QUEUES for (method, path), row in rows.items()}


def _people() -> dict[tuple[str, str], Row]:
    made, done = frozenset({201}), frozenset({204})
    keys, users = f"{ADMIN}/keys", f"{ADMIN}/users"
    return {
        ("GET", users): Row(scope=Scope.USERS_READ),
        ("POST", users): Row(
            scope=Scope.USERS_WRITE, own=made, body=b'{"role": "viewer", "name": "x"}'
        ),
        ("GET", f"{users}/{{user_id}}"): Row(
            scope=Scope.USERS_READ, thing="user_id", gone=_NO_USER
        ),
        ("PATCH", f"{users}/{{user_id}}"): Row(
            scope=Scope.USERS_WRITE, thing="user_id", body=b'{"role": "viewer"}', gone=_NO_USER
        ),
        ("DELETE", f"{users}/{{user_id}}"): Row(
            scope=Scope.USERS_WRITE, thing="user_id", own=done, fresh=_user, gone=_NO_USER
        ),
        ("GET", keys): Row(scope=Scope.KEYS_READ),
        ("POST", keys): Row(scope=Scope.KEYS_WRITE, own=made, body=b"{}"),
        ("GET", f"{keys}/{{key_id}}"): Row(scope=Scope.KEYS_READ, thing="key_id"),
        ("DELETE", f"{keys}/{{key_id}}"): Row(
            scope=Scope.KEYS_WRITE, thing="key_id", own=done, fresh=_key
        ),
        ("POST", f"{keys}/{{key_id}}/rotate"): Row(
            scope=Scope.KEYS_WRITE, thing="key_id", own=made, body=b"{}", fresh=_key
        ),
    }


def _operators() -> dict[tuple[str, str], Row]:
    orgs = f"{ADMIN}/orgs"
    return {
        ("GET", orgs): Row(scope=Scope.ORGS_READ),
        ("POST", orgs): Row(scope=Scope.ORGS_WRITE, body=b'{"name": "another"}'),
        ("GET", f"{orgs}/{{org_id}}"): Row(scope=Scope.USAGE_READ, thing="org_id"),
        ("PATCH", f"{orgs}/{{org_id}}"): Row(
            scope=Scope.ORGS_WRITE, thing="org_id", body=b'{"name": "other"}'
        ),
        ("GET", f"{ADMIN}/audit"): Row(scope=Scope.AUDIT_READ),
        ("GET", f"{ADMIN}/audit/verify"): Row(scope=Scope.AUDIT_READ),
        ("GET", f"{ADMIN}/usage"): Row(scope=Scope.USAGE_READ),
        ("GET", "/metrics"): Row(scope=Scope.METRICS_READ),
    }


def _webhooks() -> dict[tuple[str, str], Row]:
    all_, one = f"{ADMIN}/webhooks", f"{ADMIN}/webhooks/{{webhook_id}}"
    read, write = Scope.WEBHOOKS_READ, Scope.WEBHOOKS_WRITE
    made, done, thing = frozenset({201}), frozenset({204}), "webhook_id"
    url = b'{"url": "http://127.0.0.1:9/hook"}'
    return {
        ("GET", all_): Row(scope=read),
        ("POST", all_): Row(scope=write, own=made, body=url),
        ("GET", one): Row(scope=read, thing=thing, gone=_NO_WEBHOOK),
        ("PATCH", one): Row(scope=write, thing=thing, body=b'{"events": []}', gone=_NO_WEBHOOK),
        ("DELETE", one): Row(scope=write, thing=thing, own=done, fresh=_webhook, gone=_NO_WEBHOOK),
        ("POST", f"{one}/rotate"): Row(scope=write, thing=thing, body=b"{}", gone=_NO_WEBHOOK),
        ("POST", f"{one}/enable"): Row(scope=write, thing=thing, body=b"{}", gone=_NO_WEBHOOK),
        ("GET", f"{one}/deliveries"): Row(scope=read, thing=thing, gone=_NO_WEBHOOK),
        ("POST", f"{one}/deliveries/{{delivery_id}}/replay"): Row(
            scope=write, thing="delivery_id", own=frozenset({200, 202}), body=b"{}"
        ),
    }


def _public() -> dict[tuple[str, str], Row]:
    paths = ("/healthz", "/readyz", "/openapi.json", "/docs", "/docs/style.css")
    return {("GET", path): Row(scope=None) for path in paths}


DOWNLOAD: Final = ("GET", "/api/v1/ie/requestqueue/downloads/{request_id}/output.jsonl")
"""Its key is the signature in the link: it has tests of its own."""

TABLE: Final = {**_queue(), **_people(), **_operators(), **_webhooks(), **_public()}
