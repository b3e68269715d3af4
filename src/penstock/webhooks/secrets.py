"""Secrets of webhooks: made, kept encrypted, and signed with, as Standard Webhooks asks.

A secret must be known to sign, so unlike a key's it cannot be kept as a hash. At rest it is
encrypted under a derived key, bound to its endpoint: moved to another row it opens no more.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from typing import Final

import cryptography.exceptions
from cryptography.hazmat.primitives.ciphers import aead

from penstock.errors import InternalError

PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = 32
_NONCE_BYTES: Final = 12


def new_secret() -> str:
    """Return a new secret in the form that receivers configure."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


class Sealer:
    """Encrypts secrets for the database and decrypts them."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, webhook_id: str, secret: str) -> str:
        """Return the secret as it is stored with an endpoint."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher().encrypt(nonce, secret.encode(), webhook_id.encode())
        return base64.b64encode(nonce + sealed).decode()

    def open(self, webhook_id: str, sealed: str) -> str:
        """Return the secret; raises `InternalError` if it was sealed by another key or endpoint."""
        raw = base64.b64decode(sealed)
        nonce, text = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:]
        try:
            return self._cipher().decrypt(nonce, text, webhook_id.encode()).decode()
        except cryptography.exceptions.InvalidTag as error:
            raise InternalError(
                f"The secret of the webhook {webhook_id} cannot be decrypted.",
                code="webhook_secret_unreadable",
                hint="The server's master secret was changed. Rotate the webhook's secret.",
            ) from error

    def _cipher(self) -> "aead.AESGCM":
        # Made for each use: a server without webhooks need not load what it is made of.
        return aead.AESGCM(self._key)


def headers_of(delivery_id: str, at: float, body: bytes, keys: Iterable[str]) -> dict[str, str]:
    """Return the headers of a try: a signature for each secret, so that one can be replaced."""
    stamp = str(int(at))
    signed = f"{delivery_id}.{stamp}.".encode() + body
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join(_signature(key, signed) for key in keys),
    }


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
