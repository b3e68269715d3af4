"""Who may do what: roles, scopes, and what a key may do with both.

What a key may do is what the role of its user in the organisation allows *and* its own scopes do,
worked out again at every request: whoever loses a role loses it with all keys at once.
"""

from collections.abc import Iterable
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import msgspec

from penstock.core.job import OrgId
from penstock.errors import Forbidden, InvalidRequest

OPERATOR_ORG: Final = OrgId("default")
"""The organisation that a server makes at its first start. Those who own or administer it run the
server: they make other organisations and set their quotas."""

ALL: Final = "*"
"""As the scopes of a key: whatever the role of its user allows, now and later."""


class Role(StrEnum):
    """What a user is in an organisation."""

    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    VIEWER = "viewer"


class Scope(StrEnum):
    """One kind of thing that a key may do."""

    JOBS_READ = "jobs:read"
    """See jobs and their outputs."""
    JOBS_WRITE = "jobs:write"
    """Submit and cancel."""
    USAGE_READ = "usage:read"
    """See quotas and what is used of them."""
    KEYS_READ = "keys:read"
    """See one's own keys; everybody's together with `users:read`."""
    KEYS_WRITE = "keys:write"
    """Make, rotate and revoke one's own keys; everybody's together with `users:write`."""
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    USERS_READ = "users:read"
    USERS_WRITE = "users:write"
    """Add and remove people and change what they are."""
    AUDIT_READ = "audit:read"
    ORGS_READ = "orgs:read"
    """See all organisations of the server; for the operator's own people only."""
    ORGS_WRITE = "orgs:write"
    """Make organisations, suspend them, set their quotas; for the operator's own people only."""
    METRICS_READ = "metrics:read"
    """See figures over the whole server; for the operator's own people only."""


_VIEWER: Final = frozenset(
    {Scope.JOBS_READ, Scope.USAGE_READ, Scope.KEYS_READ, Scope.WEBHOOKS_READ}
)
_DEVELOPER: Final = _VIEWER | {Scope.JOBS_WRITE, Scope.KEYS_WRITE}
_OPERATOR: Final = frozenset({Scope.ORGS_READ, Scope.ORGS_WRITE, Scope.METRICS_READ})
ROLE_SCOPES: Final = MappingProxyType(
    {
        # Both may do everything; only an owner may change what owners are (`may_manage`).
        Role.OWNER: frozenset(Scope),
        Role.ADMIN: frozenset(Scope),
        Role.DEVELOPER: _DEVELOPER,
        Role.VIEWER: _VIEWER,
    }
)
_RANKS: Final = (Role.VIEWER, Role.DEVELOPER, Role.ADMIN, Role.OWNER)


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who does something, for the audit log."""

    org_id: OrgId
    user_id: str
    key_id: str
    """Empty for the command line on the server itself."""
    address: str
    """Of the client, as the server sees it."""
    request_id: str


def may(org_id: OrgId, role: Role, scopes: str) -> frozenset[Scope]:
    """Return what a key with these scopes may do for a user of this role."""
    of_role = ROLE_SCOPES[role]
    if org_id != OPERATOR_ORG:
        of_role = of_role - _OPERATOR
    if scopes == ALL:
        return of_role
    return of_role & frozenset(scopes.split())


def may_manage(role: Role, other: Role) -> bool:
    """Return whether one of this role may change one of the other; nobody above himself."""
    return _RANKS.index(role) >= _RANKS.index(other)


def parse_scopes(names: Iterable[str]) -> frozenset[Scope]:
    """Read the names of scopes; raise `InvalidRequest` naming those that do not exist."""
    wanted = set(names)
    unknown = sorted(wanted - set(Scope))
    if unknown:
        raise InvalidRequest(
            f"There is no scope {', '.join(name[:40] for name in unknown[:5])}.",
            code="unknown_scope",
            hint=f"Use some of: {', '.join(Scope)}.",
        )
    return frozenset(Scope(name) for name in wanted)


class Maker(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody who makes a key has himself; the key can never exceed it."""

    scopes: frozenset[Scope]
    """What he may do now."""
    has_all: bool
    """Whether he may make a key for whatever the role allows, now and later: his own key is such a
    one and the new key is for himself, or he is at the server itself."""
    expires_at: float | None
    """The end of the key that he uses."""


def grant(maker: Maker, wanted: frozenset[Scope] | None) -> str:
    """Return the scopes to store of a new key; None asks for all that its maker can give.

    Raises `Forbidden` if he does not have what he wants to give.
    """
    if wanted is None:
        return ALL if maker.has_all else _stored(maker.scopes)
    lacking = wanted - maker.scopes
    if lacking and not maker.has_all:
        raise Forbidden(
            f"A key cannot exceed its maker, who lacks {', '.join(sorted(lacking))}.",
            code="key_exceeds_maker",
            hint=f"You can give: {', '.join(sorted(maker.scopes)) or 'nothing'}.",
        )
    return _stored(wanted)


def grant_again(maker: Maker, stored: str) -> str:
    """Return the scopes of a key that takes the place of one with these.

    Raises `Forbidden` unless its maker could make the old one: he gets to see the new one.
    """
    if stored != ALL:
        return grant(maker, parse_scopes(stored.split()))
    if maker.has_all:
        return ALL
    raise Forbidden(
        "A key cannot exceed its maker, and that one may do all that its user may.",
        code="key_exceeds_maker",
        hint="Make a key with the scopes that are needed, and revoke that one.",
    )


def grant_until(maker: Maker, wanted: float | None) -> float | None:
    """Return when a new key ends; one that is to have no end gets that of its maker's key."""
    if wanted is None or maker.expires_at is None:
        return maker.expires_at if wanted is None else wanted
    if wanted > maker.expires_at:
        raise Forbidden(
            "A key cannot exceed its maker, whose key ends earlier.",
            code="key_exceeds_maker",
            hint="Ask for less time, or leave the time out.",
        )
    return wanted


def _stored(scopes: Iterable[Scope]) -> str:
    return " ".join(sorted(scopes))
