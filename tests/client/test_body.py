import base64
import io
import json
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.client.body import READ_BYTES, body, body_bytes
from penstock.client.errors import InputChanged

MODEL = 'a "model" — with é'


class Dripping:
    """A file that returns as many bytes as it likes, like a pipe."""

    def __init__(self, content: bytes, sizes: list[int]) -> None:
        self._file = io.BytesIO(content)
        self._sizes: Iterator[int] = iter(sizes)

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(next(self._sizes, 1000), size))


class Zeros:
    """A large file that costs no memory."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.largest = 0

    def read(self, size: int, /) -> bytes:
        given = min(size, self.left)
        self.left -= given
        self.largest = max(self.largest, size)
        return bytes(given)


def sent(content: bytes) -> dict[str, str]:
    """Return the payload of a body, and prove that nothing else is in it."""
    document = json.loads(content)
    assert list(document) == ["model", "payload"]
    assert document["model"] == "Gemini-batch-inference"
    payload: dict[str, str] = document["payload"]
    assert payload["model"] == MODEL
    return payload


@given(st.binary(max_size=3000), st.lists(st.integers(1, 700)))
def test_base64_of_any_file(content: bytes, sizes: list[int]) -> None:
    """Whatever a read returns, the body is the base64 of the file and as long as announced."""
    pieces = b"".join(body(Dripping(content, sizes), MODEL))
    assert base64.b64decode(sent(pieces)["input_data"], validate=True) == content
    assert len(pieces) == body_bytes(MODEL, len(content))


@given(st.text(max_size=1000), st.lists(st.integers(1, 7)))
def test_text_of_any_file(content: str, sizes: list[int]) -> None:
    """The escaped form gives back the same text, also when a read cuts a letter in two."""
    pieces = b"".join(body(Dripping(content.encode(), sizes), MODEL, encoding="text"))
    assert sent(pieces)["input_data"] == content


@pytest.mark.parametrize("content", [b"\xff", b"ok \xe2\x82"])
def test_text_refuses_other_bytes(content: bytes) -> None:
    """Bytes that are not UTF-8 are refused, also when the file ends within a letter."""
    with pytest.raises(UnicodeDecodeError):
        list(body(io.BytesIO(content), MODEL, encoding="text"))


def test_constant_memory() -> None:
    """A file of 64 MB is sent in small pieces and in less memory than two megabytes."""
    size = 64 * 1024 * 1024
    file = Zeros(size)
    tracemalloc.start()
    try:
        total = sum(len(piece) for piece in body(file, MODEL, size=size))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == body_bytes(MODEL, size)
    assert file.largest == READ_BYTES
    assert peak < 2_000_000


@pytest.mark.parametrize("size", [4, 6])
def test_changed_file(size: int) -> None:
    """A file that is longer or shorter than announced never gives a complete body."""
    with pytest.raises(InputChanged, match="changed while it was being sent"):
        list(body(io.BytesIO(b"12345"), MODEL, size=size))


def test_progress() -> None:
    """The bytes of the file that have gone are told after each piece."""
    told: list[int] = []
    list(body(Dripping(b"12345", [2, 2, 2]), MODEL, on_sent=told.append))
    assert told == [2, 4, 5]
