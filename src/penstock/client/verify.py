"""For receivers of webhooks: whether what came was sent by Penstock, and lately.

As Standard Webhooks has it, so its own libraries do as well. This one needs the standard library
alone.
"""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any, Final

from penstock.client.errors import ClientError

TOLERANCE_SECONDS: Final = 300.0
"""How old, or how far ahead, a request may be: what was recorded cannot be played again later."""

_PREFIX: Final = "whsec_"
_VERSION: Final = "v1,"
_STAMP_CHARS_MAX: Final = 15
"""Of Unix seconds; more is no time."""


class WebhookRefused(ClientError):
    """The request is not from who it claims, was changed on the way, or is too old."""

    code = "webhook_refused"


def verify_webhook(
    secret: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float | None = None,
    tolerance: float = TOLERANCE_SECONDS,
) -> dict[str, Any]:
    """Return the event of a request whose signature is good; raises `WebhookRefused`.

    `body` are the bytes as they came: parsed and written again they have another signature. The
    same event may come twice, with the same `webhook-id`; `now` and `tolerance` are in seconds.
    """
    given = {name.lower(): value for name, value in headers.items()}
    wanted = ("webhook-id", "webhook-timestamp", "webhook-signature")
    if any(not given.get(name) for name in wanted):
        raise WebhookRefused(
            "a header of Standard Webhooks is missing", hint=f"it has {', '.join(wanted)}"
        )
    webhook_id, stamp, signatures = (given[name] for name in wanted)
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= _STAMP_CHARS_MAX):
        raise WebhookRefused("webhook-timestamp is not a number of seconds")
    if abs((time.time() if now is None else now) - int(stamp)) > tolerance:
        raise WebhookRefused(
            f"the request is not of the last {tolerance:g} seconds",
            hint="is this machine's clock right?",
        )
    signed = f"{webhook_id}.{stamp}.".encode() + body
    expected = hmac.new(_key(secret), signed, hashlib.sha256).digest()
    # While a secret is being replaced there are several, of which one is ours.
    if not any(hmac.compare_digest(expected, each) for each in _decoded(signatures)):
        raise WebhookRefused(
            "no signature is good",
            hint="is it the secret of this webhook, and the body as it came, byte for byte?",
        )
    event: dict[str, Any] = json.loads(body)
    return event


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ClientError("the secret of the webhook is not base64") from error
    if not key:
        # With an empty key anybody could sign.
        raise ClientError("the secret of the webhook is empty")
    return key


def _decoded(signatures: str) -> list[bytes]:
    found = []
    for each in signatures.split():
        if not each.startswith(_VERSION):
            continue
        try:
            found.append(base64.b64decode(each.removeprefix(_VERSION), validate=True))
        except (binascii.Error, ValueError):
            # Somebody else's form; another one of the list may be good.
            continue
    return found
