import base64
import json
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook as Reference
from tests.client.kinds import Connect
from tests.client.stub import KEY, Reply, Stub, error

from penstock.client import (
    ClientError,
    LimitReached,
    NotFound,
    WebhookRefused,
    verify_webhook,
)

PATH = "/api/v1/webhooks"
SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
OTHER = "whsec_" + base64.b64encode(b"o" * 32).decode()
BODY = '{"type": "job.succeeded", "data": {"request_id": "req_ü"}}'.encode()
NOW = 1_795_363_200.0
RECORD = {"id": "whk_1", "url": "https://hooks.example/", "events": ["*"], "created_at": 7}
DELIVERY = {"id": "msg_1", "webhook_id": "whk_1", "request_id": "req_7", "state": "pending"}


def headers(*secrets: str, at: float = NOW, name: str = "msg_1") -> dict[str, str]:
    """Headers that the reference library signed."""
    when = datetime.fromtimestamp(at, UTC)
    signatures = [Reference(secret).sign(name, when, BODY.decode()) for secret in secrets]
    return {
        "Webhook-Id": name,
        "WEBHOOK-TIMESTAMP": str(int(at)),
        "webhook-signature": " ".join(signatures),
    }


def reply(value: object, status: int = 200) -> Reply:
    """An answer in JSON."""
    return Reply(status, json.dumps(value).encode())


def test_what_the_reference_library_signed_is_good() -> None:
    """The event comes back, whichever of the signatures is ours and whatever else stands there."""
    for secrets in ([SECRET], [OTHER, SECRET], [SECRET, OTHER]):
        event = verify_webhook(SECRET, headers(*secrets), BODY, now=NOW)
        assert event["data"]["request_id"] == "req_ü"
    given = headers(SECRET)
    given["webhook-signature"] = "v1a,xx v1,%% v1 " + given["webhook-signature"]
    assert verify_webhook(SECRET.removeprefix("whsec_"), given, BODY, now=NOW)


def test_every_byte_counts() -> None:
    """Whatever is changed, in the body or in a header, it is refused."""
    for position in range(len(BODY)):
        changed = BODY[:position] + bytes([BODY[position] ^ 1]) + BODY[position + 1 :]
        with pytest.raises(WebhookRefused, match="no signature is good"):
            verify_webhook(SECRET, headers(SECRET), changed, now=NOW)
    for name, value in (("Webhook-Id", "msg_2"), ("WEBHOOK-TIMESTAMP", str(int(NOW) + 1))):
        with pytest.raises(WebhookRefused, match="no signature is good"):
            verify_webhook(SECRET, {**headers(SECRET), name: value}, BODY, now=NOW)
    with pytest.raises(WebhookRefused, match="no signature is good"):
        verify_webhook(OTHER, headers(SECRET), BODY, now=NOW)


@pytest.mark.parametrize("seconds", [-301, 301, 10_000_000])
def test_what_was_recorded_is_not_good_later(seconds: int) -> None:
    """Older or newer than the tolerance is refused; at its edge it is good."""
    given = headers(SECRET, at=NOW + seconds)
    with pytest.raises(WebhookRefused, match="not of the last 300 seconds"):
        verify_webhook(SECRET, given, BODY, now=NOW)
    assert verify_webhook(SECRET, given, BODY, now=NOW, tolerance=1e9)
    assert verify_webhook(SECRET, headers(SECRET, at=NOW - 300), BODY, now=NOW)


def test_without_a_time_it_is_now() -> None:
    """What was signed in the past is too old by the machine's own clock."""
    with pytest.raises(WebhookRefused, match="not of the last"):
        verify_webhook(SECRET, headers(SECRET, at=7), BODY)


@pytest.mark.parametrize("stamp", ["", "x", "-1", "1e9", "٣", "9" * 400])
def test_a_time_that_is_none_is_refused(stamp: str) -> None:
    """It is never taken for a number in another way than the sender meant."""
    given = {**headers(SECRET), "WEBHOOK-TIMESTAMP": stamp}
    with pytest.raises(WebhookRefused):
        verify_webhook(SECRET, given, BODY, now=NOW)


@pytest.mark.parametrize("name", ["Webhook-Id", "WEBHOOK-TIMESTAMP", "webhook-signature"])
def test_a_missing_header_is_refused(name: str) -> None:
    """Each of the three is needed."""
    given = {key: value for key, value in headers(SECRET).items() if key != name}
    with pytest.raises(WebhookRefused, match="a header of Standard Webhooks is missing"):
        verify_webhook(SECRET, given, BODY, now=NOW)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_%", "é"])
def test_a_secret_that_is_none_is_an_error(secret: str) -> None:
    """With an empty one anybody could sign."""
    with pytest.raises(ClientError, match="the secret of the webhook is"):
        verify_webhook(secret, headers(SECRET), BODY, now=NOW)


def test_webhooks_are_managed(connect: Connect, stub: Stub) -> None:
    """Each call goes to its route with the key, and its answer is typed."""
    one = f"{PATH}/whk_1"
    stub.answers["POST", PATH] = [reply({**RECORD, "secret": SECRET}, 201)]
    stub.answers["GET", PATH] = [reply({"webhooks": [RECORD]})]
    stub.answers["GET", one] = [reply(RECORD)]
    stub.answers["DELETE", one] = [Reply(204, b"")]
    stub.answers["POST", f"{one}/rotate"] = [reply({**RECORD, "secret": OTHER})]
    stub.answers["POST", f"{one}/enable"] = [reply(RECORD)]
    stub.answers["GET", f"{one}/deliveries"] = [reply({"deliveries": [DELIVERY], "next": "msg_1"})]
    stub.answers["POST", f"{one}/deliveries/msg_1/replay"] = [reply(DELIVERY)]
    with connect(stub) as client:
        made = client.webhooks.add("https://hooks.example/", ["job.failed"])
        assert made.secret == SECRET
        assert SECRET not in repr(made)
        assert [each.id for each in client.webhooks.list()] == ["whk_1"]
        assert client.webhooks.get("whk_1").created_at == 7
        assert client.webhooks.rotate("whk_1").secret == OTHER
        assert client.webhooks.rotate("whk_1", overlap_seconds=0).secret == OTHER
        assert client.webhooks.enable("whk_1").disabled_at is None
        page = client.webhooks.deliveries("whk_1", limit=1, after="msg_9")
        assert (page.deliveries[0].state, page.next) == ("pending", "msg_1")
        assert client.webhooks.replay("whk_1", "msg_1").id == "msg_1"
        client.webhooks.remove("whk_1")
    assert json.loads(stub.seen[0].body) == {
        "url": "https://hooks.example/",
        "events": ["job.failed"],
    }
    assert [json.loads(each.body) for each in stub.seen if each.path.endswith("rotate")] == [
        {},
        {"overlap_seconds": 0},
    ]
    assert all(each.headers["authorization"] == f"Bearer {KEY}" for each in stub.seen)


def test_refusals_are_typed(connect: Connect, stub: Stub) -> None:
    """As those of jobs are; an answer of something else is said to be that."""
    stub.answers["POST", PATH] = [error(429, "too_many_webhooks", "The organisation has 20.")]
    stub.answers["GET", PATH] = [Reply(200, b"<html>")]
    with connect(stub) as client:
        with pytest.raises(LimitReached, match="has 20"):
            client.webhooks.add("https://hooks.example/")
        with pytest.raises(NotFound):
            client.webhooks.get("a/b c")
        with pytest.raises(ClientError, match="not one of Penstock's"):
            client.webhooks.list()
    assert stub.seen[1].path == f"{PATH}/a%2Fb%20c"
