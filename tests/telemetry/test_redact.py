import json
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.telemetry.log import MESSAGE_CHARS_MAX, JsonFormatter
from penstock.telemetry.redact import HIDDEN, VALUE_CHARS_MIN, Redactor

KEY = "pk_abcdEFGH_canarySecretOfATestThatOpensNothing01234567_2la974"
"""Not a new one: its text is in the names of tests, which must be the same in every process."""
SECRET = KEY[12:55]
CANARY = "canary-7f3a91c05be2d846"
PEM = f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n{CANARY}\n-----END PRIVATE KEY-----"

SHAPES = [
    KEY,
    f"'{KEY}'",
    f"key={KEY}&x",
    KEY[:-7],
    f"Authorization: Bearer {CANARY}",
    f"{{'authorization': 'bearer {CANARY}'}}",
    f"(b'authorization', b'Bearer {CANARY}')",
    f"Basic {CANARY}==",
    f"postgresql://penstock:{CANARY}@db/penstock",
    f"https://me:{CANARY}@x.example/?a=b",
    f"postgresql+psycopg://:{CANARY}@db/x",
    f"GET /downloads/x?expires=1795366800&signature={CANARY} 200",
    f"https://storage.googleapis.com/b/o?X-Goog-Signature={CANARY}&x=1",
    f"https://a.blob.core.windows.net/c/b?sv=1&sig={CANARY}",
    f"X-Amz-Signature={CANARY}",
    f"host=db password={CANARY} user=x",
    f"sslpassword={CANARY}",
    f'{{"access_token": "{CANARY}", "expires_in": 1}}',
    f"{{'refresh_token': '{CANARY}'}}",
    f"client_secret={CANARY}&grant_type=x",
    f"?api_key={CANARY}",
    f"whsec_{CANARY}",
    f"ya29.{CANARY}",
    f"AIza{CANARY}",
    PEM,
    PEM.partition("-----END")[0],
]

PLAIN = [
    "GET /api/v1/ie/requestqueue/apikey/requests 200 1.2 ms 0123abcd",
    "The key 7Kd2xQ9a was revoked.",
    "provider_unreachable: Vertex AI did not answer: ConnectError('x').",
    "https://penstock.example.com:8443/docs and gs://bucket/inputs/a.jsonl at 12:30:01",
    "postgresql://penstock@db:5432/penstock",
    "The signature is not valid; send `Authorization: Bearer <API key>`.",
    "mailto:me@x.example, 1:2@3",
    "{'a': 'password'}",
    "",
]


@pytest.mark.parametrize("text", SHAPES)
def test_the_form_of_a_secret_is_enough(text: str) -> None:
    """Keys, tokens, passwords in URLs and signatures are hidden although nobody named them."""
    shown = Redactor()(f"before {text} after")
    assert CANARY not in shown
    assert SECRET not in shown
    assert HIDDEN in shown
    assert shown.startswith("before ")


def test_the_id_of_a_key_stays() -> None:
    """An operator can see which key it was."""
    assert Redactor()(f"key {KEY}.") == f"key {KEY[:12]}{HIDDEN}."


@pytest.mark.parametrize("text", PLAIN)
def test_ordinary_text_stays(text: str) -> None:
    """What has no such form is not touched."""
    assert Redactor(["another-value"])(text) == text


def test_a_known_value_is_hidden_anywhere() -> None:
    """Also within other text, and the longer of two that overlap as a whole."""
    redact = Redactor([CANARY, CANARY + "-longer", "a.b*c+d", ""])
    shown = redact(f"x{CANARY}-longer{CANARY}y a.b*c+d aXbbcdd")
    assert shown == f"x{HIDDEN}{HIDDEN}y {HIDDEN} aXbbcdd"


def test_a_short_value_is_no_secret() -> None:
    """Five characters stand in too many words; six are hidden."""
    assert Redactor(["x" * (VALUE_CHARS_MIN - 1)])("xxxxx") == "xxxxx"
    assert Redactor(["x" * VALUE_CHARS_MIN])("xxxxxx") == HIDDEN


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=60), st.text(max_size=60))
def test_no_surroundings_let_a_value_through(before: str, after: str) -> None:
    """Whatever stands around a known value, it is not in the record."""
    formatter = JsonFormatter([CANARY])
    record = logging.LogRecord("x", 30, "f", 1, before + CANARY + after, (), None)
    assert CANARY not in formatter.format(record)


def formatted(message: str, *, raised: Exception | None = None) -> dict[str, str]:
    """One record as it is written."""
    info = None if raised is None else (type(raised), raised, raised.__traceback__)
    record = logging.LogRecord("x", 30, "f", 1, "%s", (message,), info)
    entry: dict[str, str] = json.loads(JsonFormatter([CANARY]).format(record))
    return entry


@pytest.mark.parametrize("place", [0, MESSAGE_CHARS_MAX - 10, MESSAGE_CHARS_MAX, 30_000])
def test_a_cut_shows_no_half_of_a_secret(place: int) -> None:
    """Where a long message is cut, what is left of a secret is hidden too."""
    message = formatted("x" * place + " " + CANARY + " " + "y" * 5_000)["message"]
    assert "canary" not in message
    assert len(message) <= MESSAGE_CHARS_MAX


def test_a_traceback_shows_no_secret() -> None:
    """Neither the error nor the one that caused it."""
    raised = RuntimeError(f"connecting to postgresql://me:{CANARY}@db failed")
    raised.__cause__ = ValueError(f"Bearer {KEY}")
    entry = formatted("failed", raised=raised)
    assert "RuntimeError: connecting to postgresql://me:[hidden]@db failed" in entry["exception"]
    assert SECRET not in entry["exception"]


@pytest.mark.parametrize(
    "unit", ["Bearer ", "://a:", "signature=", "pk_abcdefgh_", "-----BEGIN PRIVATE KEY-----", "a:@"]
)
def test_no_text_takes_the_square(unit: str) -> None:
    """A megabyte of almost-secrets is read to its end; the square of it would be a hang."""
    assert Redactor([CANARY])(unit * (1_048_576 // len(unit)) + CANARY)[-len(HIDDEN) :] == HIDDEN


FIELDS = [
    "\r\n",
    "\n",
    "\r",
    "\x1b[2J",
    "\x1b]0;x\x07",
    "\x00",
    "\x85",
    "\u2028",
    "\u2029",
    "\x0b",
    "\x0c",
    "\x9b31m",
    "\u202e",
    "\x7f",
]


@pytest.mark.parametrize("evil", FIELDS, ids=ascii)
def test_control_characters_make_no_second_line(evil: str) -> None:
    """Line ends, escapes and marks of direction stay inside of one line of plain ASCII."""
    forged = f'x{evil}{{"at": "now", "level": "info", "message": "forged"}}'
    record = logging.LogRecord(forged, 30, "f", 1, "%s", (forged,), None)
    line = JsonFormatter().format(record)
    assert line.isascii()
    assert line.isprintable()
    entry = json.loads(line)
    assert (entry["message"], entry["logger"], entry["level"]) == (forged, forged, "warning")
