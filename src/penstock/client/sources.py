"""What may be submitted: a file, bytes, requests one by one; and how they become JSONL.

Requests are dictionaries in the form of a line, of a plain Gemini request, or texts, which are
prompts. Those without a key get the number of their line.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from io import BytesIO, TextIOBase, UnsupportedOperation
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, BinaryIO, Final, cast

import msgspec

from penstock.client.errors import ClientError
from penstock.client.frames import ArrowStream, Frame
from penstock.client.prompts import text_of

Request = Mapping[str, Any] | str | bytes
"""A line's members, a plain request, a prompt, or a line as it is."""

Source = str | os.PathLike[str] | BinaryIO | bytes | Iterable[Request] | ArrowStream
"""A path, an open file, JSONL, requests one by one, or a frame."""

MEMORY_BYTES_MAX: Final = 8 * 1024 * 1024
"""What is larger lies in a temporary file until it is sent."""

_PROMPT_MEMBERS: Final = frozenset({"contents", "systemInstruction", "generationConfig"})


def size_of(file: IO[bytes]) -> int | None:
    """Return the bytes that are left in the file, or None for a pipe."""
    try:
        here = file.tell()
        end = file.seek(0, os.SEEK_END)
        file.seek(here)
    except (OSError, UnsupportedOperation):
        # A pipe has no size; it is sent in chunks.
        return None
    return end - here


def opened(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file to be sent."""
    return Path(path).open("rb")


def readable(source: Source) -> AbstractContextManager[BinaryIO]:
    """Return the requests as an open file, which is closed at the end unless it is the caller's.

    Raises `ClientError` for what is no request, and OSError for a path that cannot be opened.
    """
    if isinstance(source, str | os.PathLike):
        return opened(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return BytesIO(source)
    if hasattr(source, "read"):
        return nullcontext(binary(source))
    if hasattr(source, "__arrow_c_stream__") or hasattr(source, "__dataframe__"):
        return spooled(_of_frame(source))
    # A dictionary alone is one request, and not the names of its members.
    return spooled([source] if isinstance(source, Mapping) else source)


def _of_frame(native: object) -> Iterator[Request]:
    """Yield the rows of a frame as requests; raises `ClientError` for other columns than ours."""
    frame = Frame(native)
    content = next((name for name in ("request", "prompt") if name in frame.columns), None)
    if content is None:
        raise ClientError(
            f"the frame has neither a column request nor prompt, but {', '.join(frame.columns)}",
            hint="rename the one with the prompts to prompt, or use client.map, which fills in "
            "a template",
        )
    keyed = ["key"] if "key" in frame.columns else []
    for number, (value, *keys) in enumerate(frame.rows([content, *keyed]), start=1):
        line = msgspec.json.decode(line_of(_of_cell(value, content, number), number))
        key = text_of(keys[0]) if keys else None
        yield line if key is None else {**line, "key": key}


def _of_cell(value: object, column: str, number: int) -> Request:
    if column == "prompt" and not isinstance(value, str):
        raise _refused(number, f"a prompt of type {type(value).__name__}")
    if column == "request" and isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeEncodeError) as error:
            raise _refused(number, f"no JSON: {error}") from error
    if not isinstance(value, str | Mapping):
        raise _refused(number, f"of type {type(value).__name__}")
    return value


def spooled(requests: Iterable[Request]) -> BinaryIO:
    """Return a temporary file with a line for each request, to be read from its beginning.

    One request is in memory at a time. Raises `ClientError` for what is no request.
    """
    file = SpooledTemporaryFile(max_size=MEMORY_BYTES_MAX)  # noqa: SIM115  # the caller closes it
    try:
        for number, request in enumerate(requests, start=1):
            file.write(line_of(request, number))
            file.write(b"\n")
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return cast(BinaryIO, file)


def line_of(request: object, number: int) -> bytes:
    """Return the line for a request, without its end."""
    if isinstance(request, bytes):
        line = request.rstrip(b"\r\n")
        if b"\n" in line:
            raise _refused(number, "bytes with a line end in the middle")
        return line
    if isinstance(request, str):
        contents = [{"role": "user", "parts": [{"text": request}]}]
        return _encoded({"key": str(number), "request": {"contents": contents}}, number)
    if not isinstance(request, Mapping):
        raise _refused(number, f"of type {type(request).__name__}")
    if "request" in request:
        return _encoded({"key": str(number), **request}, number)
    if not _PROMPT_MEMBERS & request.keys():
        raise _refused(number, "a dictionary with neither `request` nor `contents`")
    return _encoded({"key": str(number), "request": request}, number)


def binary(file: object) -> BinaryIO:
    """Return an open file; raises `ClientError` if it was opened as text."""
    if isinstance(file, TextIOBase):
        raise ClientError("the file is open as text", hint='open it with mode "rb"')
    return cast(BinaryIO, file)


def _encoded(line: Mapping[str, Any], number: int) -> bytes:
    try:
        return msgspec.json.encode(line)
    except (TypeError, ValueError, UnicodeEncodeError, RecursionError) as error:
        raise _refused(number, f"no JSON: {error}") from error


def _refused(number: int, what: str) -> ClientError:
    return ClientError(
        f"request {number:,} is {what}",
        hint="give dictionaries with `request` and `key`, or with `contents`, or texts",
    )
