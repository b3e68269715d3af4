"""Two tenants on one real server, made by the server's own API, and everything that they heard.

`acme` is whom the cells look at, `rival` the stranger. Each has things of every kind, marked with a
canary of its own; every byte that a client got is kept, so that a canary in the wrong hands shows.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from tests.journeys.service import BASE, Json, Service, prompt, running

from penstock.core.key import new_key

ADMIN = "/api/v1"
ACME, RIVAL = "acme", "rival"
ROLES = ("owner", "admin", "developer", "viewer")
NOBODY, WRONG, REVOKED, SCOPED, STRANGER = "nobody", "wrong", "revoked", "scoped", "stranger"
SCOPED_TO = "usage:read"
CANARIES = {org: f"canary-{org}-7f3a91" for org in (ACME, RIVAL)}
SECRET = "canary-master-secret-f81d4fae7dec11d0a76500a0c91e6bf6"
QUIET_PORT = 9
"""The port of "discard": nothing of ours listens there, so deliveries fail at once."""

SETTINGS = {
    "PENSTOCK_SECRET": SECRET,
    "PENSTOCK_WEBHOOKS_PRIVATE_ALLOWED": f"http://127.0.0.1:{QUIET_PORT}/",
    # A cell of each kind begins uploads and keys for each caller.
    "PENSTOCK_LIMITS_UPLOADS_OPEN_MAX": "1000",
    "PENSTOCK_LIMITS_KEYS_PER_USER_MAX": "1000",
    "PENSTOCK_LIMITS_WEBHOOKS_MAX": "1000",
}


class World:
    """The server, the keys of all callers, and what each tenant was told."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.http = httpx2.Client(base_url=service.url, timeout=30)
        self.heard: dict[str, list[bytes]] = defaultdict(list)
        self.keys: dict[str, str] = {}
        self.texts: list[str] = [service.key]
        self.admins: dict[str, str] = {}
        self.things: dict[str, dict[str, str]] = {}
        for org in (ACME, RIVAL):
            self._settle(org)
        self.keys[NOBODY] = ""
        self.keys[WRONG] = new_key()
        self.keys[STRANGER] = self.keys[f"{RIVAL}:owner"]

    def call(  # the parts of a request
        self,
        caller: str,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        org: str | None = None,
    ) -> httpx2.Response:
        """Call as one of the callers; what comes back is kept under his organisation."""
        own = {} if headers is None else dict(headers)
        if self.keys[caller]:
            own["Authorization"] = f"Bearer {self.keys[caller]}"
        if org is not None:
            own["X-Organization-ID"] = org
        answer = self.http.request(method, path, content=body, headers=own)
        heads = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
        whose = RIVAL if caller == STRANGER or caller.startswith(RIVAL) else ACME
        if caller == "operator":
            whose = caller
        self.heard[whose].append(heads.encode() + b"\n\n" + answer.content)
        return answer

    def made(self, caller: str, path: str, value: Json, org: str | None = None) -> Json:
        """Make something over the API and return its record."""
        body = json.dumps(value).encode()
        answer = self.call(caller, "POST", path, body=body, org=org)
        assert answer.status_code in (200, 201), (path, answer.text)
        record: Json = answer.json()
        if "key" in record:
            self.texts.append(record["key"])
        return record

    def submit(self, org: str) -> str:
        """Submit a job with the canary in its prompt, a member of the caller's own and its name."""
        canary = CANARIES[org]
        line = json.dumps(prompt(f"say {canary}", mark=canary)) + "\n"
        value = {"model": "Gemini-batch-inference", "payload": {"input_data": line}}
        path = f"{BASE}/requests?name={canary}&label=team:{canary}"
        return str(self.made(f"{org}:owner", path, value)["request_id"])

    def upload(self, org: str) -> str:
        """Begin an upload in pieces."""
        headers = {"Upload-Complete": "?0", "Upload-Length": "1000000"}
        headers["Content-Type"] = "application/jsonl"
        answer = self.call(f"{org}:owner", "POST", f"{BASE}/uploads", headers=headers)
        assert answer.status_code == 201, answer.text
        return str(answer.headers["Location"]).rsplit("/", 1)[1]

    def user(self, org: str) -> str:
        """Let a new viewer join."""
        value = {"role": "viewer", "name": CANARIES[org]}
        return str(self.made(f"{org}:owner", f"{ADMIN}/users", value)["id"])

    def key(self, org: str) -> str:
        """Make a key of one scope for the admin."""
        value: Json = {"name": CANARIES[org], "scopes": ["jobs:read"]}
        value["user_id"] = self.admins[org]
        return str(self.made(f"{org}:owner", f"{ADMIN}/keys", value)["id"])

    def webhook(self, org: str) -> str:
        """Make a webhook at which nobody answers."""
        value = {"url": f"http://127.0.0.1:{QUIET_PORT}/{CANARIES[org]}"}
        return str(self.made(f"{org}:owner", f"{ADMIN}/webhooks", value)["id"])

    def _settle(self, org: str) -> None:
        """Make an organisation, a user and a key of each role, and things of each kind."""
        self.keys["operator"] = self.service.key
        self.made("operator", f"{ADMIN}/orgs", {"name": org, "id": org, "owner_id": "owner"})
        users: dict[str, str] = {}
        for role in ROLES:
            member = {"role": role, "name": f"{role} {CANARIES[org]}"}
            users[role] = self.made("operator", f"{ADMIN}/users", member, org)["id"]
            record = self.made("operator", f"{ADMIN}/keys", {"user_id": users[role]}, org)
            self.keys[f"{org}:{role}"] = record["key"]
        self.admins[org] = users["admin"]
        if org == ACME:
            for role in ROLES:
                self.keys[role] = self.keys[f"{org}:{role}"]
            value: Json = {"user_id": users["admin"], "scopes": [SCOPED_TO]}
            self.keys[SCOPED] = self.made("operator", f"{ADMIN}/keys", value, org)["key"]
            gone = self.made("operator", f"{ADMIN}/keys", {"user_id": users["owner"]}, org)
            self.keys[REVOKED] = gone["key"]
            revoked = self.call("owner", "DELETE", f"{ADMIN}/keys/{gone['id']}")
            assert revoked.status_code == 204, revoked.text
        self.things[org] = {"org_id": org, "webhook_id": self.webhook(org)}
        self.things[org]["request_id"] = self.submit(org)
        self._wait(org)
        self.things[org]["delivery_id"] = self.delivery(org, self.things[org]["webhook_id"])
        self.things[org]["user_id"] = users["viewer"]
        self.things[org]["key_id"] = self.key(org)
        self.things[org]["upload_id"] = self.upload(org)

    def _wait(self, org: str) -> None:
        self.service.http.headers["Authorization"] = f"Bearer {self.keys[f'{org}:owner']}"
        record = self.service.wait(self.things[org]["request_id"])
        assert record["status"] == "success", record
        self.things[org]["output"] = record["outcome"]["output_url"]

    def delivery(self, org: str, webhook: str) -> str:
        """Return the id of what a webhook was told."""
        answer = self.call(f"{org}:owner", "GET", f"{ADMIN}/webhooks/{webhook}/deliveries")
        return str(answer.json()["deliveries"][0]["id"])

    def close(self) -> None:
        """End the connections."""
        self.http.close()


@contextmanager
def two_tenants(folder: Path) -> Iterator[World]:
    """Start a server and settle the two."""
    with running(folder, 400, **SETTINGS) as service:
        world = World(service)
        try:
            yield world
        finally:
            world.close()


def shown(answer: httpx2.Response) -> tuple[Any, ...]:
    """Return what a client sees of an answer, but for what is of the one request."""
    own = {"x-request-id", "date", "connection"}
    heads = sorted((k, v) for k, v in answer.headers.items() if k.lower() not in own)
    return (answer.status_code, heads, answer.content)
