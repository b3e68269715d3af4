"""Organisations, users, keys and the audit log in the OpenAPI document."""

from typing import Any, Final

from penstock.api.admin import BASE, NAME_CHARS_MAX, PAGE
from penstock.api.keys import OVERLAP_SECONDS
from penstock.api.openapi_pieces import Json, answer, operation, parameter
from penstock.core.access import ALL, Role, Scope
from penstock.core.limits import Limits
from penstock.core.quotas import Quotas

_REFUSED: Final = ("Unauthenticated", "Forbidden")
_CHANGING: Final = ("Invalid", *_REFUSED, "NotFound", "TooLarge")


def tenant_paths(limits: Limits) -> Json:
    """Return the paths; the limits of this very server are told."""
    return {**_orgs(limits), **_users(limits), **_keys(limits), **_audit(limits)}


def _orgs(limits: Limits) -> Json:
    create = operation(
        "createOrganization",
        "Make an organisation",
        f"For the operator's people. At most {limits.orgs_max} on this server.",
        {"201": answer("The organisation.", "Organization")},
        ("Invalid", *_REFUSED, "NotFound", "Conflict", "TooLarge", "TooMany"),
    )
    change = operation(
        "changeOrganization",
        "Rename, suspend or resume an organisation, or set its quotas",
        "For the operator's people. Nobody of a suspended one gets in, from now on. `quotas` are "
        "those that differ from the settings, all of them; {} means none.",
        {"200": answer("The organisation.", "Organization")},
        (*_CHANGING, "Conflict"),
    )
    return {
        f"{BASE}/orgs": {
            "get": _list(
                "listOrganizations", "List organisations", "For the operator's people.", limits
            ),
            "post": _taking(create, "NewOrganization", {"name": "Acme Ltd", "id": "acme"}),
        },
        f"{BASE}/orgs/{{org_id}}": {
            "parameters": [_id("org_id", "The organisation's id.")],
            "get": operation(
                "getOrganization",
                "Show an organisation",
                "One's own; the operator's people see all.",
                {"200": answer("The organisation.", "Organization")},
                (*_REFUSED, "NotFound"),
            ),
            "patch": _taking(change, "OrganizationChange", {"quotas": {"jobs_in_flight_max": 20}}),
        },
    }


def _users(limits: Limits) -> Json:
    add = operation(
        "addUser",
        "Let a user join the organisation",
        f"At most {limits.users_per_org_max}. Nobody adds somebody above himself.",
        {"201": answer("The user.", "User")},
        (*_CHANGING, "Conflict", "TooMany"),
    )
    change = operation(
        "changeUser",
        "Change what a user is",
        "Admins cannot touch owners, and the last owner stays one. What the user's keys may do "
        "changes at once.",
        {"200": answer("The user.", "User")},
        (*_CHANGING, "Conflict"),
    )
    remove = operation(
        "removeUser",
        "Remove a user from the organisation",
        "The user's keys of the organisation are revoked.",
        {"204": {"description": "Removed."}},
        (*_REFUSED, "NotFound", "Conflict"),
    )
    return {
        f"{BASE}/users": {
            "get": _list("listUsers", "List users", "Of the organisation.", limits),
            "post": _taking(add, "NewUser", {"name": "Ana", "role": "developer"}),
        },
        f"{BASE}/users/{{user_id}}": {
            "parameters": [_id("user_id", "The user's id.")],
            "get": operation(
                "getUser",
                "Show a user",
                "",
                {"200": answer("The user.", "User")},
                (*_REFUSED, "NotFound"),
            ),
            "patch": _taking(change, "UserChange", {"role": "viewer"}),
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
        (*_CHANGING, "TooMany"),
    )
    rotate = operation(
        "rotateKey",
        "Replace a key",
        "Another key of the same user, name, scopes and time; the old one works for "
        "`overlap_seconds` longer.",
        {"201": answer("The new key, with its text.", "NewKey")},
        (*_CHANGING, "TooMany"),
    )
    revoke = operation(
        "revokeKey",
        "Revoke a key",
        "The next request with it is refused.",
        {"204": {"description": "Revoked."}},
        (*_REFUSED, "NotFound"),
    )
    seen = "Newest first; one's own, or everybody's with users:read."
    one = [_id("key_id", "The public part of the key.")]
    return {
        f"{BASE}/keys": {
            "get": _list("listKeys", "List keys", seen, limits),
            "post": _taking(
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
                (*_REFUSED, "NotFound"),
            ),
            "delete": revoke,
        },
        f"{BASE}/keys/{{key_id}}/rotate": {
            "parameters": one,
            "post": _taking(rotate, "Rotation", {"overlap_seconds": 3600}),
        },
    }


def _audit(limits: Limits) -> Json:
    rows = operation(
        "listAudit",
        "List the audit log",
        "Newest first. One row for each call that changed something, or was refused to.",
        {"200": answer("One page.", "AuditPage")},
        ("Invalid", *_REFUSED),
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
        ("Invalid", *_REFUSED),
    )
    check["parameters"] += [
        parameter("after", "query", "`rows` of the answer before.", _ROW),
        parameter("head", "query", "Its `head`.", {"type": "string", "pattern": "^[0-9a-f]{64}$"}),
    ]
    return {f"{BASE}/audit": {"get": rows}, f"{BASE}/audit/verify": {"get": check}}


def _list(name: str, summary: str, description: str, limits: Limits) -> Json:
    schema = f"{name.removeprefix('list').removesuffix('s')}Page"
    listing = operation(
        name, summary, description, {"200": answer("One page.", schema)}, ("Invalid", *_REFUSED)
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


def _taking(one: Json, schema: str, example: Json) -> Json:
    reference = {"$ref": f"#/components/schemas/{schema}"}
    content = {"application/json": {"schema": reference, "example": example}}
    return {**one, "requestBody": {"required": True, "content": content}}


def _id(name: str, description: str) -> Json:
    return {**parameter(name, "path", description, {"type": "string"}), "required": True}


_INTEGER: Final = {"type": "integer"}
_TEXT: Final = {"type": "string"}
_MAYBE_TEXT: Final = {"type": ["string", "null"]}
_MAYBE_INTEGER: Final = {"type": ["integer", "null"]}
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


def _shown(**properties: Any) -> Json:  # noqa: ANN401  # JSON schemas
    return {"type": "object", "properties": properties, "required": list(properties)}


def _taken(description: str, required: tuple[str, ...] = (), **properties: Any) -> Json:  # noqa: ANN401  # JSON schemas
    return {
        "type": "object",
        "description": description,
        "additionalProperties": False,
        "properties": properties,
        "required": list(required),
    }


def _page(name: str, schema: str, following: Json) -> Json:
    items = {"type": "array", "items": {"$ref": f"#/components/schemas/{schema}"}}
    return _shown(**{name: items, "next": following})


_SCOPES: Final = {"enum": [ALL, *(scope.value for scope in Scope)]}
_KEY: Final[Json] = {
    "id": _TEXT,
    "user_id": _TEXT,
    "name": _TEXT,
    "scopes": {"type": "array", "items": _SCOPES},
    "created_at": _INTEGER,
    "expires_at": _MAYBE_INTEGER,
    "revoked_at": _MAYBE_INTEGER,
    "last_used_at": _MAYBE_INTEGER,
    "made_by": {**_MAYBE_TEXT, "description": "null for one that was made on the server itself."},
    "successor_id": {**_MAYBE_TEXT, "description": "The key that replaced it."},
}

TENANT_SCHEMAS: Final[Json] = {
    "Organization": _shown(
        id=_TEXT,
        name=_TEXT,
        created_at=_INTEGER,
        suspended_at=_MAYBE_INTEGER,
        quotas={**_QUOTAS, "description": "Those that differ from the settings."},
    ),
    "OrganizationPage": _page("orgs", "Organization", _MAYBE_TEXT),
    "NewOrganization": _taken(
        "`owner_id` names a known user who is to be its first owner.",
        ("name",),
        name=_NAME,
        id=_ID,
        owner_id=_ID,
    ),
    "OrganizationChange": _taken(
        "What is left out stays.", name=_NAME, suspended={"type": "boolean"}, quotas=_QUOTAS
    ),
    "User": _shown(id=_TEXT, name=_TEXT, role=_ROLE, created_at=_INTEGER),
    "UserPage": _page("users", "User", _MAYBE_TEXT),
    "NewUser": _taken(
        "A `name` makes a new user; an `id` lets one join whom another organisation knows.",
        ("role",),
        role=_ROLE,
        name=_NAME,
        id=_ID,
    ),
    "UserChange": _taken("What the user is to be.", ("role",), role=_ROLE),
    "Key": _shown(**_KEY),
    "NewKey": _shown(**_KEY, key={**_TEXT, "description": "Shown once; only its hash is stored."}),
    "KeyPage": _page("keys", "Key", _MAYBE_TEXT),
    "KeyWish": _taken(
        "Without `user_id` it is one's own; without `scopes` it may do what its maker can give.",
        name=_NAME,
        user_id=_ID,
        scopes={"type": "array", "minItems": 1, "items": _SCOPES},
        expires_in_seconds=_SECONDS,
    ),
    "Rotation": _taken(
        f"The overlap is {OVERLAP_SECONDS} seconds if nothing is said.",
        overlap_seconds={"type": "integer", "minimum": 0},
    ),
    "AuditRow": _shown(
        org_id=_TEXT,
        number={**_INTEGER, "description": "From 1, without gaps."},
        at={"type": "number"},
        user_id=_TEXT,
        key_id=_TEXT,
        action=_TEXT,
        object={**_TEXT, "description": "The id of what it was done to."},
        result={**_TEXT, "description": "done, or the code of the refusal."},
        address=_TEXT,
        request_id=_TEXT,
        detail={"type": "object"},
        hash=_TEXT,
    ),
    "AuditPage": _page("rows", "AuditRow", _MAYBE_INTEGER),
    "Verdict": _shown(
        whole={"type": "boolean"},
        rows={**_INTEGER, "description": "That are as they were written."},
        head={**_TEXT, "description": "The hash of the last of these."},
        broken_at={**_MAYBE_INTEGER, "description": "The first row that is not."},
        is_complete={"type": "boolean", "description": "Whether there is nothing after them."},
    ),
}
