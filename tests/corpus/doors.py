"""Every door that can carry a JSONL file, and ways to cut what goes through it.

A door makes the body of a submission and its header fields; what opens it is what the server uses.
"""

import base64
import functools
import gzip
import json
import random
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from backports import zstd
from starlette.datastructures import Headers, QueryParams
from tests.corpus.case import NO_HEAD, Case
from tests.ingest.naive import FILES, Taken, Turned, through

from penstock.api.doors import read_head
from penstock.core.limits import Limits
from penstock.ingest.intake import BodyIntake, Envelope
from penstock.ingest.raw import RawIntake
from penstock.ingest.sink import Sink

JSONL: Final = {"content-type": "application/jsonl"}
FORM: Final = {"content-type": "multipart/form-data; boundary=cut"}

BYTEWISE_BYTES_MAX: Final = 400
"""Bodies up to this size are also fed byte by byte."""

CUTS: Final = 40
"""How many pieces a body is cut into at random."""

Door = Callable[[bytes], bytes | None]


def plain(data: bytes) -> bytes:
    """The JSONL as it is."""
    return data


def in_json(data: bytes) -> bytes | None:
    """A JSON string, if the file is text that counts as JSONL there."""
    text = _as_text(data)
    return None if text is None else json.dumps({"payload": {"input_data": text}}).encode()


def in_json_utf8(data: bytes) -> bytes | None:
    """The same without escapes, in the flat form."""
    text = _as_text(data)
    if text is None:
        return None
    return json.dumps({"input_data": text, "note": 1}, ensure_ascii=False).encode()


def in_base64(data: bytes) -> bytes:
    """Base64 in JSON, which carries any bytes."""
    return json.dumps({"payload": {"input_data": base64.b64encode(data).decode()}}).encode()


def in_form(data: bytes) -> bytes:
    """A file in a form."""
    return _part(b"file", data)


def in_form_text(data: bytes) -> bytes | None:
    """A field of a form, where base64 and JSONL are told apart."""
    return None if _starts_otherwise(data) else _part(b"input_data", data)


def in_form_base64(data: bytes) -> bytes:
    """Base64 in a field of a form."""
    return _part(b"input_data", base64.b64encode(data))


DOORS: Final[Mapping[str, tuple[Door, Mapping[str, str]]]] = MappingProxyType(
    {
        "plain": (plain, JSONL),
        "json": (in_json, NO_HEAD),
        "json-utf8": (in_json_utf8, NO_HEAD),
        "base64": (in_base64, NO_HEAD),
        "form": (in_form, FORM),
        "form-text": (in_form_text, FORM),
        "form-base64": (in_form_base64, FORM),
        "gzip": (functools.partial(gzip.compress, mtime=0), {**JSONL, "content-encoding": "gzip"}),
        "zstd": (zstd.compress, {**JSONL, "content-encoding": "zstd"}),
    }
)


def _as_text(data: bytes) -> str | None:
    if _starts_otherwise(data):
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _starts_otherwise(data: bytes) -> bool:
    """Tell that a door which also takes base64 would not see JSONL in it."""
    start = data.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")
    return bool(start) and start[:1] not in b"{["


def _part(name: bytes, data: bytes) -> bytes:
    disposition = b'Content-Disposition: form-data; name="%b"\r\n\r\n' % name
    return b"--cut\r\n" + disposition + data + b"\r\n--cut--\r\n"


def chunkings(seed: int, body: bytes) -> Iterator[list[int]]:
    """Yield the sizes of pieces: whole, at random, and byte by byte where that is short."""
    yield []
    yield at_random(seed, body)
    if len(body) <= BYTEWISE_BYTES_MAX:
        yield [1] * len(body)


def at_random(seed: int, body: bytes) -> list[int]:
    """Return the sizes of pieces, the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311  # the same cuts each time
    return [chance.randint(1, 1 + 2 * len(body) // CUTS) for _ in range(CUTS)]


def send(
    body: bytes, sizes: list[int], head: Mapping[str, str], limits: Limits, query: str = ""
) -> Taken | Turned:
    """Send a body as the server would receive it."""

    def open_door(sink: Sink) -> BodyIntake:
        upload = read_head(Headers(dict(head)), QueryParams(query))
        upload.check_length(limits)
        return upload.open(limits, sink, FILES)

    return through(open_door, body, sizes)


def said_of_lines(case: Case) -> Iterator[tuple[str, Taken | Turned]]:
    """Yield what each door says of a file of lines, and two of them in each chunking.

    All doors in all chunkings would be three times as much for each case; which door it is goes
    round, so that each of them meets hundreds of cases in each chunking.
    """
    if case.is_streamed:
        yield "a stream", _streamed(case)
        return
    data = case.data
    for name, (door, head) in DOORS.items():
        body = door(data)
        if body is None:
            continue
        cuts = [at_random(case.seed, body)] if case.seed % 2 else [[]]
        if name in ("plain", list(DOORS)[case.seed % len(DOORS)]):
            cuts = list(chunkings(case.seed, body))
        for sizes in cuts:
            yield f"{name} in {len(sizes) + 1} pieces", send(body, sizes, head, case.limits)


def _streamed(case: Case) -> Taken | Turned:
    """Feed the pieces of a large case as they are made, so that a refusal spares the rest."""

    def fed(sink: Sink) -> BodyIntake:
        envelope = Envelope(model=None, payload={}, flat=True)
        intake = RawIntake(case.limits, envelope, sink, FILES)
        for piece in case.pieces():
            intake.feed(piece)
        return intake

    return through(fed, b"")


def said_of_text(case: Case) -> Iterator[tuple[str, Taken | Turned]]:
    """Yield what is said of the text of `input_data`, in JSON and in a form, in each chunking."""
    text = case.data.decode()
    bodies = (
        ("json", json.dumps({"payload": {"input_data": text}}).encode(), NO_HEAD),
        ("json-utf8", json.dumps({"input_data": text}, ensure_ascii=False).encode(), NO_HEAD),
        ("form", _part(b"input_data", case.data), FORM),
    )
    for name, body, head in bodies:
        for sizes in chunkings(case.seed, body):
            yield f"{name} in {len(sizes) + 1} pieces", send(body, sizes, head, case.limits)


def said_of_body(case: Case) -> Iterator[tuple[str, Taken | Turned]]:
    """Yield what is said of a whole body with its header fields, in each chunking."""
    body = case.data
    for sizes in chunkings(case.seed, body):
        yield f"{len(sizes) + 1} pieces", send(body, sizes, case.head, case.limits)
