import base64
import json
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from penstock.errors import InternalError
from penstock.webhooks.secrets import Sealer, headers_of, new_secret

BODY = '{"type":"job.succeeded","data":{"request_id":"req_ü"}}'.encode()


def test_the_reference_library_takes_our_signature() -> None:
    """An implementation that is not ours accepts what we sign."""
    secret = new_secret()
    headers = headers_of("msg_1", time.time(), BODY, [secret])
    assert Webhook(secret).verify(BODY, headers) == json.loads(BODY)


def test_every_secret_of_a_rotation_signs() -> None:
    """While a secret is replaced a receiver may know either; one that knows neither refuses."""
    new, old = new_secret(), new_secret()
    headers = headers_of("msg_1", time.time(), BODY, [new, old])
    for known in (new, old):
        Webhook(known).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, headers)


@pytest.mark.parametrize("changed", ["webhook-id", "webhook-timestamp", "body"])
def test_a_signature_covers_everything(changed: str) -> None:
    """The id, the time and the body cannot be exchanged."""
    secret = new_secret()
    now = time.time()
    headers = headers_of("msg_1", now, BODY, [secret])
    if changed == "webhook-id":
        headers[changed] = "msg_2"
    elif changed == "webhook-timestamp":
        headers[changed] = str(int(now) + 1)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY + b" " if changed == "body" else BODY, headers)


def test_a_secret_has_256_bits() -> None:
    """It has the reference's form, and no two are alike."""
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert all(len(base64.b64decode(each.removeprefix("whsec_"))) == 32 for each in secrets)


def test_a_sealed_secret_opens_for_its_endpoint_only() -> None:
    """In another row, under another key, or with a byte changed it says so and gives nothing."""
    secret, sealer = new_secret(), Sealer(b"k" * 32)
    sealed = sealer.seal("whk_1", secret)
    assert secret not in sealed
    assert sealed != sealer.seal("whk_1", secret)
    assert sealer.open("whk_1", sealed) == secret
    spoiled = base64.b64encode(bytes(255 - b for b in base64.b64decode(sealed))).decode()
    for other, webhook_id, text in (
        (sealer, "whk_2", sealed),
        (Sealer(b"o" * 32), "whk_1", sealed),
        (sealer, "whk_1", spoiled),
    ):
        with pytest.raises(InternalError) as caught:
            other.open(webhook_id, text)
        assert caught.value.error_code == "webhook_secret_unreadable"
