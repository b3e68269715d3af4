"""The body of a submission, made piece by piece so that a gigabyte costs no memory.

The source of a base64 text can be cut at any multiple of three bytes; whatever a read returns
beyond that is carried over to the next piece.
"""

import binascii
import json
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator
from typing import Literal, Protocol

from penstock.client.errors import InputChanged

Encoding = Literal["base64", "text"]

READ_BYTES = 192 * 1024
"""One read from the file; its base64 is 256 KiB."""

_KIND = "Gemini-batch-inference"


class Readable(Protocol):
    """The only thing that is asked of a file: fewer bytes than wanted are fine, none is the end."""

    def read(self, size: int, /) -> bytes | None:
        """Return at most `size` bytes."""
        ...


def envelope(model: str) -> tuple[bytes, bytes]:
    """Return what stands before and after the content of `input_data`."""
    head = f'{{"model":"{_KIND}","payload":{{"model":{json.dumps(model)},"input_data":"'
    return head.encode(), b'"}}'


def body_bytes(model: str, input_bytes: int) -> int:
    """Return the length of the base64 body for an input of `input_bytes`."""
    head, tail = envelope(model)
    return len(head) + (input_bytes + 2) // 3 * 4 + len(tail)


def body(
    file: Readable,
    model: str,
    *,
    encoding: Encoding = "base64",
    size: int | None = None,
    on_sent: Callable[[int], None] | None = None,
) -> Iterator[bytes]:
    """Yield the JSON body; `on_sent` is told the bytes of the file that have gone so far.

    `base64` takes any bytes. `text` writes the file as an escaped JSON string, which is what most
    scripts do; it raises UnicodeDecodeError when the file is not UTF-8. A file that does not have
    the given `size` raises InputChanged before the body is complete.
    """
    head, tail = envelope(model)
    blocks = reads(file, size, on_sent)
    yield head
    yield from _base64(blocks) if encoding == "base64" else _text(blocks)
    yield tail


def reads(
    file: Readable, size: int | None, on_sent: Callable[[int], None] | None
) -> Iterator[bytes]:
    """Yield the file as it is; raises InputChanged if it does not have the size."""
    sent = 0
    while data := file.read(READ_BYTES):
        sent += len(data)
        if size is not None and sent > size:
            raise changed(size)
        yield data
        if on_sent is not None:
            on_sent(sent)
    if size is not None and sent < size:
        raise changed(size)


def changed(size: int) -> InputChanged:
    """Return the error for a file that does not have its size any more."""
    return InputChanged(
        f"the file changed while it was being sent; it had {size:,} bytes at the start",
        hint="wait until nothing writes to it, then submit again; nothing has been stored",
    )


def _base64(reads: Iterator[bytes]) -> Iterator[bytes]:
    carry = b""
    for data in reads:
        joined = carry + data
        whole = len(joined) // 3 * 3
        carry = joined[whole:]
        if whole:
            yield binascii.b2a_base64(joined[:whole], newline=False)
    if carry:
        yield binascii.b2a_base64(carry, newline=False)


def _text(reads: Iterator[bytes]) -> Iterator[bytes]:
    decoder = getincrementaldecoder("utf-8")()
    for data in reads:
        text = decoder.decode(data)
        if text:
            yield json.dumps(text)[1:-1].encode("ascii")
    decoder.decode(b"", final=True)
