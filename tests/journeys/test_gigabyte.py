"""Refusals behind a whole gigabyte, with the limits that are the default, and the sizes real.

The lines are of 64 KiB, which are checked fastest; test_bad_uploads has the other shapes.
"""

import base64
import hashlib
import select
from collections.abc import Iterator
from contextlib import closing
from itertools import repeat

import pytest
from backports import zstd
from tests.journeys.sending import MORE, answer_of, connect, head, nothing_stays
from tests.journeys.service import Json, Service, running

pytestmark = pytest.mark.slow

LINE_BYTES = 65_536
GIBIBYTE = 2**30
_START = b'{"key":"k","request":{"contents":[{"parts":[{"text":"'
_END = b'"}]}]}}\n'
REST_BYTES = 400_000_000
"""What a body still has to bring when it is refused."""


def line(noise_bytes: int, seed: int = 0) -> bytes:
    """A line of 64 KiB, that much of it not to be compressed."""
    noise = hashlib.shake_256(b"%d" % seed).hexdigest(noise_bytes // 2).encode()
    text = noise.ljust(LINE_BYTES - len(_START) - len(_END), b".")
    return _START + text + _END


LINES = line(0) * 48
"""Three mebibytes: base64 of it has no padding."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A pair with all limits as they are."""
    with running(tmp_path_factory.mktemp("service")) as pair:
        # What is accepted here need not be run.
        pair.rule({}, {"hold": "queued"})
        yield pair


@pytest.fixture(autouse=True)
def no_rules() -> None:
    """The one rule of this module stays."""


@pytest.fixture(autouse=True)
def clean(service: Service) -> Iterator[None]:
    """After each refusal nothing is left, and the next upload works."""
    with nothing_stays(service):
        yield


def test_a_byte_over_a_gibibyte_is_refused(service: Service) -> None:
    """A length that a byte-order mark could explain is let in, and the byte too many counted."""
    with closing(connect(service)) as client:
        length = f"Content-Length: {GIBIBYTE + 1}"
        client.sendall(head(service, "application/jsonl", length))
        for piece in repeat(LINES, GIBIBYTE // len(LINES)):
            client.sendall(piece)
        client.sendall(LINES[: GIBIBYTE % len(LINES)] + b"\n")
        assert refusal(answer_of(client)) == (413, "input_too_large")


def test_a_byte_over_a_gibibyte_is_refused_compressed(service: Service) -> None:
    """Some fifteen megabytes that become more than a job may hold are no bomb by their ratio."""
    frame = zstd.compress(b"".join(line(1_700, seed) for seed in range(64)))
    frames = GIBIBYTE // LINE_BYTES // 64
    assert GIBIBYTE / (frames * len(frame)) < 100
    body = frame * frames + zstd.compress(b"\n")
    with closing(connect(service)) as client:
        more = ("Content-Encoding: zstd", f"Content-Length: {len(body)}")
        client.sendall(head(service, "application/jsonl", *more) + body)
        assert refusal(answer_of(client)) == (413, "input_too_large")


def test_a_mistake_at_the_end_of_a_gigabyte_is_told_at_once(service: Service) -> None:
    """Base64 that changes its alphabet there is refused long before the rest of it has come."""
    text = base64.b64encode(LINES)
    start = b'{"payload": {"input_data": "'
    pieces = GIBIBYTE // len(LINES) - 1
    with closing(connect(service)) as client:
        length = len(start) + len(text) * pieces + REST_BYTES
        client.sendall(head(service, "application/json", f"Content-Length: {length}") + start)
        for piece in repeat(text, pieces):
            client.sendall(piece)
        client.sendall(text[:1_000] + b"-_-_")
        sent_bytes = 0
        while not select.select([client], [], [], 0)[0]:
            client.sendall(MORE)
            sent_bytes += len(MORE)
        # Some of it stood in buffers before anybody could look.
        assert sent_bytes < REST_BYTES // 2
        answer = answer_of(client)
    assert refusal(answer) == (400, "invalid_base64")
    assert answer["details"][0]["offset"] == len(text) * pieces + 1_000


def refusal(answer: Json) -> tuple[int, str]:
    """Status and code."""
    return answer["http"], answer["code"]
