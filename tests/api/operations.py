"""Every operation that needs a key, with a call of it that works: for tests of all of them.

Whoever adds a route adds a line here. A line names its path as the router has it; what stands in
braces is filled with the id of something that was made for this one call.
"""

from collections.abc import Mapping
from typing import Any, Final

import httpx2
import msgspec
from starlette.routing import Route
from tests.api.driver import BASE, Api, lines, permit, submission
from tests.api.indexed import BUSY, indexed
from tests.fake_clock import START
from tests.webhooks.driver import END, add_webhook

from penstock.api.admin import BASE as ADMIN
from penstock.api.request_queue import BASES
from penstock.api.upload_fields import PARTIAL_TYPE
from penstock.core.access import OPERATOR_ORG, Role
from penstock.core.ids import new_id
from penstock.core.job import Job, OrgId, new_job_id
from penstock.core.key import key_id_of

OPEN: Final = frozenset({"/healthz", "/readyz", "/openapi.json", "/docs", "/docs/style.css"})
"""Routes without a key, beside the downloads, whose links are signed."""

Json = dict[str, Any]


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One call."""

    method: str
    path: str
    body: Json | None = None
    content: bytes | None = None
    headers: Mapping[str, str] = {}

    @property
    def name(self) -> str:
        """As the golden table has it."""
        return f"{self.method} {self.path.removeprefix(BASE).removeprefix(ADMIN)}"

    @property
    def route(self) -> tuple[str, str]:
        """As the router has it."""
        return self.method, self.path.replace("{own_key_id}", "{key_id}")

    @property
    def changes(self) -> bool:
        """Whether it is one that has to leave a row in the audit log."""
        return self.method in {"POST", "PUT", "PATCH", "DELETE"}

    async def call(self, client: httpx2.AsyncClient, ids: Mapping[str, str]) -> httpx2.Response:
        """Do it."""
        return await client.request(
            self.method,
            self.path.format_map(ids),
            json=self.body,
            content=self.content,
            headers=dict(self.headers),
        )


def _of(method: str, path: str, body: Json | None = None, **more: Any) -> Operation:  # noqa: ANN401 - fields
    return Operation(method=method, path=path, body=body, **more)


_PIECE: Final = {"Upload-Complete": "?0", "Content-Type": "application/jsonl"}
_NEXT: Final = {"Upload-Complete": "?0", "Upload-Offset": "0", "Content-Type": PARTIAL_TYPE}

OPERATIONS: Final = (
    _of("POST", f"{BASE}/requests", submission(lines(1))),
    _of("GET", f"{BASE}/requests"),
    _of("GET", f"{BASE}/requests/{{request_id}}"),
    _of("DELETE", f"{BASE}/requests/{{request_id}}"),
    _of("POST", f"{BASE}/requests/{{request_id}}/cancel"),
    _of("POST", f"{BASE}/requests/{{request_id}}/retry"),
    _of("GET", f"{BASE}/requests/{{request_id}}/lines"),
    _of("GET", f"{BASE}/requests/{{request_id}}/lines/groups"),
    _of("GET", f"{BASE}/requests/{{request_id}}/lines/{{line_number}}"),
    _of("GET", f"{BASE}/requests/{{request_id}}/lines/{{line_number}}/parts/{{part_number}}"),
    _of("GET", f"{BASE}/models"),
    _of("GET", f"{BASE}/models/{{model_id}}"),
    _of("POST", f"{BASE}/uploads", content=b"", headers=_PIECE),
    _of("OPTIONS", f"{BASE}/uploads"),
    _of("GET", f"{BASE}/uploads/{{upload_id}}"),
    _of("PATCH", f"{BASE}/uploads/{{upload_id}}", content=b"x", headers=_NEXT),
    _of("DELETE", f"{BASE}/uploads/{{upload_id}}"),
    _of("GET", f"{ADMIN}/usage"),
    _of("GET", "/metrics"),
    _of("GET", f"{ADMIN}/orgs"),
    _of("POST", f"{ADMIN}/orgs", {"name": "A new one"}),
    _of("GET", f"{ADMIN}/orgs/{{org_id}}"),
    _of("PATCH", f"{ADMIN}/orgs/{{org_id}}", {"quotas": {"lines_day_max": 5}}),
    _of("GET", f"{ADMIN}/users"),
    _of("POST", f"{ADMIN}/users", {"name": "Ana", "role": "viewer"}),
    _of("GET", f"{ADMIN}/users/{{user_id}}"),
    _of("PATCH", f"{ADMIN}/users/{{user_id}}", {"role": "developer"}),
    _of("DELETE", f"{ADMIN}/users/{{user_id}}"),
    _of("GET", f"{ADMIN}/keys"),
    _of("POST", f"{ADMIN}/keys", {"name": "ci"}),
    _of("GET", f"{ADMIN}/keys/{{own_key_id}}"),
    _of("GET", f"{ADMIN}/keys/{{key_id}}"),
    _of("DELETE", f"{ADMIN}/keys/{{own_key_id}}"),
    _of("DELETE", f"{ADMIN}/keys/{{key_id}}"),
    _of("POST", f"{ADMIN}/keys/{{own_key_id}}/rotate"),
    _of("POST", f"{ADMIN}/keys/{{key_id}}/rotate", {"overlap_seconds": 60}),
    _of("GET", f"{ADMIN}/webhooks"),
    _of("POST", f"{ADMIN}/webhooks", {"url": "https://hooks.example/"}),
    _of("GET", f"{ADMIN}/webhooks/{{webhook_id}}"),
    _of("PATCH", f"{ADMIN}/webhooks/{{webhook_id}}", {"events": ["job.failed"]}),
    _of("DELETE", f"{ADMIN}/webhooks/{{webhook_id}}"),
    _of("POST", f"{ADMIN}/webhooks/{{webhook_id}}/rotate"),
    _of("POST", f"{ADMIN}/webhooks/{{webhook_id}}/enable"),
    _of("GET", f"{ADMIN}/webhooks/{{webhook_id}}/deliveries"),
    _of("POST", f"{ADMIN}/webhooks/{{webhook_id}}/deliveries/{{delivery_id}}/replay"),
    _of("GET", f"{ADMIN}/audit"),
    _of("GET", f"{ADMIN}/audit/verify"),
)


def routes_with_key(api: Api) -> set[tuple[str, str]]:
    """Every method and path of the application that asks for a key; the second base is left out."""
    return {
        (method, route.path)
        for route in api.app.routes
        if isinstance(route, Route) and route.path not in OPEN
        for method in route.methods or ()
        if method != "HEAD"
        and "/output" not in route.path
        and not (
            route.path.startswith(f"{BASES[1]}/") and not route.path.startswith(f"{BASES[0]}/")
        )
    }


async def with_member(api: Api, org_id: OrgId, role: Role, **more: Any) -> str:  # noqa: ANN401 - fields of a Key
    """Add a user of a role to an organisation and return a key of his."""
    user_id = f"{org_id}-{role}"
    await api.store.tenants.ensure_org(org_id, org_id, START)
    await api.store.tenants.ensure_user(user_id, org_id, role, START)
    return await permit(api.store, org_id, user_id=user_id, **more)


async def targets(api: Api, org_id: OrgId, job: Job, key: str, one: Operation) -> dict[str, str]:
    """Make what the operation works on, for whoever has the key; return the ids."""
    store, own_id = api.store, key_id_of(key) or ""
    caller = await store.tenants.key(own_id)
    assert caller is not None
    # There has to be another owner, whom nobody touches.
    await store.tenants.ensure_user(f"{org_id}-owner", org_id, Role.OWNER, START)
    user_id = new_id("usr")
    await store.tenants.ensure_user(user_id, org_id, Role.VIEWER, START)
    others = await permit(store, org_id, user_id=user_id, scopes="jobs:read")
    own = await permit(store, org_id, user_id=caller.user_id, scopes=caller.scopes)
    mine = msgspec.structs.replace(job, id=new_job_id(), org_id=org_id, user_id=f"{org_id}-owner")
    if one.path.endswith("/retry"):
        # Only what has ended can be sent again, and only what went wrong.
        await indexed(api, mine, [BUSY])
    else:
        await store.jobs.add(mine)
    upload_id = "none"
    if "{upload_id}" in one.path:
        owners = await permit(store, org_id, user_id=f"{org_id}-owner")
        async with api.client(owners) as owner:
            begun = await owner.post(f"{BASE}/uploads", content=b"", headers=_PIECE)
        upload_id = begun.headers["location"].rsplit("/", 1)[-1]
    webhook_id, delivery_id = "none", "none"
    if "{webhook_id}" in one.path:
        webhook_id, delivery_id = await _told(api, mine)
    return {
        "webhook_id": webhook_id,
        "delivery_id": delivery_id,
        "request_id": mine.id,
        "model_id": "gemini-batch-inference",
        "line_number": "1",
        "part_number": "0",
        "upload_id": upload_id,
        "org_id": org_id,
        "user_id": user_id,
        "key_id": key_id_of(others) or "",
        "own_key_id": key_id_of(own) or "",
    }


async def _told(api: Api, job: Job) -> tuple[str, str]:
    """Make a webhook and something that it is to be told of; return the ids of both."""
    webhook = await add_webhook(api.store, org=job.org_id)
    ended = msgspec.structs.replace(job, id=new_job_id())
    await api.store.jobs.add(ended)
    assert await api.store.jobs.finish(ended.id, START, END)
    (delivery,) = await api.store.deliveries.page(job.org_id, webhook.id, None, 2)
    return webhook.id, delivery.id


__all__ = ["OPERATIONS", "OPERATOR_ORG", "Operation", "routes_with_key", "targets", "with_member"]
