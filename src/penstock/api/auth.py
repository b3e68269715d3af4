"""Who is asking: the key from the headers, checked before a byte of the body is read."""

import hashlib
import hmac
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec
from starlette.requests import Request

from penstock.clock import Clock
from penstock.core.job import OrgId
from penstock.core.key import key_id_of, new_key
from penstock.errors import Forbidden, Unauthenticated
from penstock.store.tenants import Key, Tenants

TOUCH_SECONDS: Final = 60.0
"""`last_used_at` is written at most this often; a write per poll would be the busiest query."""

_HINT: Final = "Send `Authorization: Bearer <API key>`; `penstock keys create` makes one."


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """The caller of one request."""

    org_id: OrgId
    user_id: str
    key_id: str


class Authenticator:
    """Checks keys against their stored HMACs."""

    def __init__(
        self,
        tenants: Tenants,
        pepper: bytes,
        clock: Clock,
        aliases: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Take `aliases` from digest to key id, for keys of another form (`dev --key`)."""
        self._tenants = tenants
        self._aliases = aliases
        self._pepper = pepper
        self._clock = clock
        # Compared with when there is no such key, so that both answers take the same work.
        self._nobody = self.digest(new_key())

    def digest(self, text: str) -> str:
        """Return what is stored of a key; no slow hash, because the secret has 256 bits."""
        return hmac.new(self._pepper, text.encode(), hashlib.sha256).hexdigest()

    async def principal(self, request: Request) -> Principal:
        """Return who is asking, or raise `Unauthenticated` or `Forbidden`."""
        text = _bearer(request.headers.get("authorization"))
        key = await self._key(text)
        now = self._clock.now()
        if key.revoked_at is not None and key.revoked_at <= now:
            raise Unauthenticated(f"The key {key.id} was revoked.", code="key_revoked", hint=_HINT)
        if key.expires_at is not None and key.expires_at <= now:
            raise Unauthenticated(f"The key {key.id} has expired.", code="key_expired", hint=_HINT)
        if key.last_used_at is None or key.last_used_at < now - TOUCH_SECONDS:
            await self._tenants.touch_key(key.id, now)
        org_id = await self._organization(request, key)
        return Principal(org_id=org_id, user_id=key.user_id, key_id=key.id)

    async def _key(self, text: str) -> Key:
        key_id = key_id_of(text) or self._aliases.get(self.digest(text))
        key = None if key_id is None else await self._tenants.key(key_id)
        expected = self._nobody if key is None else key.digest
        if not hmac.compare_digest(self.digest(text), expected) or key is None:
            raise Unauthenticated("The API key is not known.", hint=_HINT)
        return key

    async def _organization(self, request: Request, key: Key) -> OrgId:
        wanted = request.headers.get("x-organization-id")
        if wanted is None or wanted == key.org_id:
            return key.org_id
        if not await self._tenants.is_member(wanted, key.user_id):
            # An organisation that does not exist answers the same.
            raise Forbidden(
                "This key may not act for the organisation in X-Organization-ID.",
                code="organization_forbidden",
                hint="Leave the header out to use the key's own organisation.",
            )
        return OrgId(wanted)


def _bearer(header: str | None) -> str:
    if header is None:
        raise Unauthenticated("No API key was sent.", hint=_HINT)
    scheme, _, text = header.partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise Unauthenticated("The Authorization header is not `Bearer <API key>`.", hint=_HINT)
    return text.strip()
