"""Organisations, users, keys and the audit log in the OpenAPI document."""

from typing import Final

from penstock.api.admin import BASE, NAME_CHARS_MAX, PAGE
from penstock.api.keys import OVERLAP_SECONDS
from penstock.api.openapi_pieces import (
    CHANGING,
    INTEGER,
    MAYBE_INTEGER,
    MAYBE_TEXT,
    REFUSED,
    TEXT,
    Json,
    answer,
    operation,
    parameter,
    path_id,
    shown,
    taken,
    taking,
)
from penstock.core.access import ALL, Role, Scope
from penstock.core.limits import Limits
from penstock.core.quotas import Quotas


def tenant_paths(limits: Limits) -> Json:
    """Return the paths; the limits of this very server are told."""
    return {**_orgs(limits), **_users(limits), **_keys(limits), **_audit(limits)}


def _orgs(limits: Limits) -> Json:
    create = operation(
        "createOrganization",
        "Make an organisation",
        f"For the operator's people. At most {limits.orgs_max} on this server.",
        {"201": answer("The organisation.", "Organization")},
        ("Invalid", *REFUSED, "NotFound", "Conflict", "TooLarge", "TooMany"),
    )
    change = operation(
        "changeOrganization",
        "Rename, suspend or resume an organisation, or set its quotas",
        "For the operator's people. Nobody of a suspended one gets in, from now on. `quotas` are "
        "those that differ from the settings, all of them; {} means none.",
        {"200": answer("The organisation.", "Organization")},
        (*CHANGING, "Conflict"),
    )
    return {
        f"{BASE}/orgs": {
            "get": _list(
                "listOrganizations", "List organisations", "For the operator's people.", limits
            ),
            "post": taking(create, "NewOrganization", {"name": "Acme Ltd", "id": "acme"}),
        },
        f"{BASE}/orgs/{{org_id}}": {
            "parameters": [path_id("org_id", "The organisation's id.")],
            "get": operation(
                "getOrganization",
                "Show an organisation",
                "One's own; the operator's people see all.",
                {"200": answer("The organisation.", "Organization")},
                (*REFUSED, "NotFound"),
            ),
            "patch": taking(change, "OrganizationChange", {"quotas": {"jobs_in_flight_max": 20}}),
        },
    }


def _users(limits: Limits) -> Json:
    add = operation(
        "addUser",
        "Let a user join the organisation",
        f"At most {limits.users_per_org_max}. Nobody adds somebody above himself.",
        {"201": answer("The user.", "User")},
        (*CHANGING, "Conflict", "TooMany"),
    )
    change = operation(
        "changeUser",
        "Change what a user is",
        "Admins cannot touch owners, and the last owner stays one. What the user's keys may do "
        "changes at once.",
        {"200": answer("The user.", "User")},
        (*CHANGING, "Conflict"),
    )
    remove = operation(
        "removeUser",
        "Remove a user from the organisation",
        "The user's keys of the organisation are revoked.",
        {"204": {"description": "Removed."}},
        (*REFUSED, "NotFound", "Conflict"),
    )
    return {
        f"{BASE}/users": {
            "get": _list("listUsers", "List users", "Of the organisation.", limits),
            "post": taking(add, "NewUser", {"name": "Ana", "role": "developer"}),
        },
        f"{BASE}/users/{{user_id}}": {
            "parameters": [path_id("user_id", "The user's id.")],
            "get": operation(
                "getUser",
                "Show a user",
                "",
                {"200": answer("The user.", "User")},
                (*REFUSED, "NotFound"),
            ),
            "patch": taking(change, "UserChange", {"role": "viewer"}),
            "delete": remove,
        },
    }


def _keys(limits: Limits) -> Json:
    most = limits.keys_per_user_max
    create = operation(
        "createKey",
        "Make a key",
        "Its text is in this answer and nowhere else. It cannot exceed the key that makes it, "
        f"neither in scopes nor in time. At most {most} in force a user.",
        {"201": answer("The key, with its text.", "NewKey")},
        (*CHANGING, "TooMany"),
    )
    rotate = operation(
        "rotateKey",
        "Replace a key",
        "Another key of the same user, name, scopes and time; the old one works for "
        "`overlap_seconds` longer.",
        {"201": answer("The new key, with its text.", "NewKey")},
        (*CHANGING, "TooMany"),
    )
    revoke = operation(
        "revokeKey",
        "Revoke a key",
        "The next request with it is refused.",
        {"204": {"description": "Revoked."}},
        (*REFUSED, "NotFound"),
    )
    seen = "Newest first; one's own, or everybody's with users:read."
    one = [path_id("key_id", "The public part of the key.")]
    return {
        f"{BASE}/keys": {
            "get": _list("listKeys", "List keys", seen, limits),
            "post": taking(
                create,
                "KeyWish",
                {"name": "ci", "scopes": ["jobs:read", "jobs:write"], "expires_in_seconds": 86400},
            ),
        },
        f"{BASE}/keys/{{key_id}}": {
            "parameters": one,
            "get": operation(
                "getKey",
                "Show a key",
                "",
                {"200": answer("The key.", "Key")},
                (*REFUSED, "NotFound"),
            ),
            "delete": revoke,
        },
        f"{BASE}/keys/{{key_id}}/rotate": {
            "parameters": one,
            "post": taking(rotate, "Rotation", {"overlap_seconds": 3600}),
        },
    }


def _audit(limits: Limits) -> Json:
    rows = operation(
        "listAudit",
        "List the audit log",
        "Newest first. One row for each call that changed something, or was refused to.",
        {"200": answer("One page.", "AuditPage")},
        ("Invalid", *REFUSED),
    )
    rows["parameters"] += [
        parameter("before", "query", "`next` of the page before.", _ROW),
        parameter("action", "query", "Such as key.create, or key. for all.", {"type": "string"}),
        _limit(limits),
    ]
    check = operation(
        "verifyAudit",
        "Check the audit log",
        f"Works {limits.audit_verify_rows_max} rows of the chain out again; unless `is_complete`, "
        "ask for the rest with `rows` and `head` of the answer. Keep the last ones elsewhere: "
        "`penstock audit verify --head` shows by them whether rows were cut off.",
        {"200": answer("What was found.", "Verdict")},
        ("Invalid", *REFUSED),
    )
    check["parameters"] += [
        parameter("after", "query", "`rows` of the answer before.", _ROW),
        parameter("head", "query", "Its `head`.", {"type": "string", "pattern": "^[0-9a-f]{64}$"}),
    ]
    return {f"{BASE}/audit": {"get": rows}, f"{BASE}/audit/verify": {"get": check}}


def _list(name: str, summary: str, description: str, limits: Limits) -> Json:
    schema = f"{name.removeprefix('list').removesuffix('s')}Page"
    listing = operation(
        name, summary, description, {"200": answer("One page.", schema)}, ("Invalid", *REFUSED)
    )
    listing["parameters"] += [
        parameter("after", "query", "`next` of the page before.", _ID),
        _limit(limits),
    ]
    return listing


def _limit(limits: Limits) -> Json:
    return parameter(
        "limit",
        "query",
        f"{PAGE} if left out; clamped to {limits.page_max}.",
        {"type": "integer", "minimum": 1},
    )


_NAME: Final = {"type": "string", "maxLength": NAME_CHARS_MAX}
_ID: Final = {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"}
_ROLE: Final = {"enum": [role.value for role in Role]}
_SECONDS: Final = {"type": "integer", "minimum": 1}
_ROW: Final = {"type": "integer", "minimum": 1}
_QUOTAS: Final = {
    "type": "object",
    "additionalProperties": False,
    "properties": {name: {"type": "integer", "minimum": 0} for name in Quotas.__struct_fields__},
}


def _page(name: str, schema: str, following: Json) -> Json:
    items = {"type": "array", "items": {"$ref": f"#/components/schemas/{schema}"}}
    return shown(**{name: items, "next": following})


_SCOPES: Final = {"enum": [ALL, *(scope.value for scope in Scope)]}
_KEY: Final[Json] = {
    "id": TEXT,
    "user_id": TEXT,
    "name": TEXT,
    "scopes": {"type": "array", "items": _SCOPES},
    "created_at": INTEGER,
    "expires_at": MAYBE_INTEGER,
    "revoked_at": MAYBE_INTEGER,
    "last_used_at": MAYBE_INTEGER,
    "made_by": {**MAYBE_TEXT, "description": "null for one that was made on the server itself."},
    "successor_id": {**MAYBE_TEXT, "description": "The key that replaced it."},
}

TENANT_SCHEMAS: Final[Json] = {
    "Organization": shown(
        id=TEXT,
        name=TEXT,
        created_at=INTEGER,
        suspended_at=MAYBE_INTEGER,
        quotas={**_QUOTAS, "description": "Those that differ from the settings."},
    ),
    "OrganizationPage": _page("orgs", "Organization", MAYBE_TEXT),
    "NewOrganization": taken(
        "`owner_id` names a known user who is to be its first owner.",
        ("name",),
        name=_NAME,
        id=_ID,
        owner_id=_ID,
    ),
    "OrganizationChange": taken(
        "What is left out stays.", name=_NAME, suspended={"type": "boolean"}, quotas=_QUOTAS
    ),
    "User": shown(id=TEXT, name=TEXT, role=_ROLE, created_at=INTEGER),
    "UserPage": _page("users", "User", MAYBE_TEXT),
    "NewUser": taken(
        "A `name` makes a new user; an `id` lets one join whom another organisation knows.",
        ("role",),
        role=_ROLE,
        name=_NAME,
        id=_ID,
    ),
    "UserChange": taken("What the user is to be.", ("role",), role=_ROLE),
    "Key": shown(**_KEY),
    "NewKey": shown(**_KEY, key={**TEXT, "description": "Shown once; only its hash is stored."}),
    "KeyPage": _page("keys", "Key", MAYBE_TEXT),
    "KeyWish": taken(
        "Without `user_id` it is one's own; without `scopes` it may do what its maker can give.",
        name=_NAME,
        user_id=_ID,
        scopes={"type": "array", "minItems": 1, "items": _SCOPES},
        expires_in_seconds=_SECONDS,
    ),
    "Rotation": taken(
        f"The overlap is {OVERLAP_SECONDS} seconds if nothing is said.",
        overlap_seconds={"type": "integer", "minimum": 0},
    ),
    "AuditRow": shown(
        org_id=TEXT,
        number={**INTEGER, "description": "From 1, without gaps."},
        at={"type": "number"},
        user_id=TEXT,
        key_id=TEXT,
        action=TEXT,
        object={**TEXT, "description": "The id of what it was done to."},
        result={**TEXT, "description": "done, or the code of the refusal."},
        address=TEXT,
        request_id=TEXT,
        detail={"type": "object"},
        hash=TEXT,
    ),
    "AuditPage": _page("rows", "AuditRow", MAYBE_INTEGER),
    "Verdict": shown(
        whole={"type": "boolean"},
        rows={**INTEGER, "description": "That are as they were written."},
        head={**TEXT, "description": "The hash of the last of these."},
        broken_at={**MAYBE_INTEGER, "description": "The first row that is not."},
        is_complete={"type": "boolean", "description": "Whether there is nothing after them."},
    ),
}
