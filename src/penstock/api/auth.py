"""Who is asking: the key from the headers, checked before a byte of the body is read."""

import hashlib
import hmac
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec
from starlette.requests import Request

from penstock.api.rates import Rates
from penstock.clock import Clock
from penstock.core.access import ALL, Actor, Role, Scope, may
from penstock.core.job import OrgId
from penstock.core.key import key_id_of, new_key
from penstock.core.quotas import Quotas
from penstock.errors import Forbidden, Unauthenticated
from penstock.store.tenants import Key, Standing, Tenants

TOUCH_SECONDS: Final = 60.0
"""`last_used_at` is written at most this often; a write per poll would be the busiest query."""

_HINT: Final = "Send `Authorization: Bearer <API key>`; `penstock keys create` makes one."


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """The caller of one request, and what he may do."""

    actor: Actor
    role: Role
    scopes: frozenset[Scope]
    quotas: str | None = None
    """JSON of the quotas of his organisation that differ from the settings."""
    key_expires_at: float | None = None
    key_scopes: str = ALL
    """As they are stored; `scopes` is what is left of them."""

    @property
    def org_id(self) -> OrgId:
        """The organisation that he acts for."""
        return self.actor.org_id

    @property
    def user_id(self) -> str:
        """The user whose key it is."""
        return self.actor.user_id

    @property
    def key_id(self) -> str:
        """The public id of the key."""
        return self.actor.key_id

    def require(self, scope: Scope) -> None:
        """Raise `Forbidden` unless he may."""
        if scope in self.scopes:
            return
        raise Forbidden(
            f"This key may not do that: it lacks {scope}.",
            code="scope_missing",
            hint=f"Its user is {self.role} of the organisation {self.org_id}; the key may do: "
            f"{', '.join(sorted(self.scopes)) or 'nothing'}. Ask an owner or admin.",
        )


class Authenticator:
    """Checks keys against their stored HMACs."""

    def __init__(
        self,
        tenants: Tenants,
        pepper: bytes,
        clock: Clock,
        aliases: Mapping[str, str] = MappingProxyType({}),
        rates: Rates | None = None,
    ) -> None:
        """Take `aliases` from digest to key id, for keys of another form (`dev --key`)."""
        self._tenants = tenants
        self._aliases = aliases
        self._pepper = pepper
        self._clock = clock
        self._rates = rates or Rates(Quotas())
        # Compared with when there is no such key, so that both answers take the same work.
        self._nobody = self.digest(new_key())

    def digest(self, text: str) -> str:
        """Return what is stored of a key; no slow hash, because the secret has 256 bits."""
        return hmac.new(self._pepper, text.encode(), hashlib.sha256).hexdigest()

    async def principal(self, request: Request, scope: Scope) -> Principal:
        """Return who is asking if he may do what the route needs.

        Raises `Unauthenticated` or `Forbidden`.
        """
        principal = await self.identify(request)
        principal.require(scope)
        return principal

    async def identify(self, request: Request) -> Principal:
        """Return who is asking, whatever he may do.

        Raises `Unauthenticated`, and `QuotaExceeded` for one request too many in this second.
        """
        text = _bearer(request.headers.get("authorization"))
        key = await self._key(text)
        now = self._clock.now()
        if key.revoked_at is not None and key.revoked_at <= now:
            raise Unauthenticated(f"The key {key.id} was revoked.", code="key_revoked", hint=_HINT)
        if key.expires_at is not None and key.expires_at <= now:
            raise Unauthenticated(f"The key {key.id} has expired.", code="key_expired", hint=_HINT)
        org_id = OrgId(request.headers.get("x-organization-id", key.org_id))
        standing = await self._standing(org_id, key)
        # Before anything is written for it.
        self._rates.count(request.scope, org_id, standing.quotas, now)
        if key.last_used_at is None or key.last_used_at < now - TOUCH_SECONDS:
            await self._tenants.touch_key(key.id, now)
        return Principal(
            actor=Actor(
                org_id=org_id,
                user_id=key.user_id,
                key_id=key.id,
                address="" if request.client is None else request.client.host,
                request_id=str(request.scope.get("state", {}).get("request_id", "")),
            ),
            role=standing.role,
            scopes=may(org_id, standing.role, key.scopes),
            quotas=standing.quotas,
            key_expires_at=key.expires_at,
            key_scopes=key.scopes,
        )

    async def _key(self, text: str) -> Key:
        digest = self.digest(text)
        key_id = key_id_of(text) or self._aliases.get(digest)
        key = None if key_id is None else await self._tenants.key_with(key_id, digest)
        expected = self._nobody if key is None else key.digest
        if not hmac.compare_digest(digest, expected) or key is None:
            raise Unauthenticated("The API key is not known.", hint=_HINT)
        return key

    async def _standing(self, org_id: OrgId, key: Key) -> Standing:
        # A key that was made by a call acts for its own organisation only. Any admin may add a
        # user of another organisation to his own and make a key for him there; elsewhere that key
        # must not stand for him.
        is_open = org_id == key.org_id or key.made_by is None
        standing = await self._tenants.standing(org_id, key.user_id) if is_open else None
        if standing is None:
            # An organisation that does not exist answers the same.
            raise Forbidden(
                "This key may not act for the organisation in X-Organization-ID."
                if org_id != key.org_id
                else "The user of this key does not belong to its organisation any more.",
                code="organization_forbidden",
                hint="Leave the header out to use the key's own organisation."
                if org_id != key.org_id
                else "Ask an owner or admin of the organisation.",
            )
        if standing.suspended_at is not None:
            raise Forbidden(
                "The organisation is suspended.",
                code="organization_suspended",
                hint="Ask the operator of this server.",
            )
        return standing


def _bearer(header: str | None) -> str:
    if header is None:
        raise Unauthenticated("No API key was sent.", hint=_HINT)
    scheme, _, text = header.partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise Unauthenticated("The Authorization header is not `Bearer <API key>`.", hint=_HINT)
    return text.strip()
