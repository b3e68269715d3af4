"""A compressed body in chunks -> any intake, in bounded memory and bounded work.

A bomb is refused by what it becomes, never by what it says of itself: a step gives at most
`STEP_BYTES`, and both the size and the ratio are judged before the step goes on.
"""

import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, Protocol

from penstock.core.limits import Limits
from penstock.errors import InvalidRequest, PenstockError, TooLarge
from penstock.ingest.blocks import Blocks
from penstock.ingest.intake import Accepted, BodyIntake

if sys.version_info >= (3, 14):  # pragma: no cover  # one Python sees one of the two
    from compression import zstd
else:
    from backports import zstd

STEP_BYTES: Final = 1_048_576
"""The most that is decompressed before it is judged and handed on."""

FREE_BYTES: Final = 1_048_576
"""Output for which no ratio is asked: small bodies may compress as well as they like."""

MEMBERS_MAX: Final = 65_536
"""gzip members or zstd frames in one body. `bgzip` makes 16,384 of a GiB; an empty one costs the
sender 20 bytes and us a new decompressor."""

WINDOW_LOG_MAX: Final = 23
"""8 MiB, what RFC 8878 asks every decoder to take; more would be memory that the sender chooses."""

_GZIP_BITS: Final = 31
"""zlib's way of saying: a gzip header and nothing else."""


class _Member(Protocol):
    """The decompressor of one gzip member or zstd frame."""

    @property
    def rest(self) -> bytes | None:
        """What was fed beyond the member's end; None while it has not ended."""
        ...

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Decompress the data, at most `STEP_BYTES` at a time."""
        ...


class _Gzip:
    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=_GZIP_BITS)

    @property
    def rest(self) -> bytes | None:
        return self._inflate.unused_data if self._inflate.eof else None

    def pieces(self, data: bytes) -> Iterator[bytes]:
        # Output that zlib still holds when the data is used up comes with the next data: there is
        # some, because the checksum at the end is read after all output is out.
        while data:
            yield self._inflate.decompress(data, STEP_BYTES)
            data = self._inflate.unconsumed_tail


class _Zstd:
    def __init__(self) -> None:
        options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: WINDOW_LOG_MAX}
        self._frame = zstd.ZstdDecompressor(options=options)

    @property
    def rest(self) -> bytes | None:
        return self._frame.unused_data if self._frame.eof else None

    def pieces(self, data: bytes) -> Iterator[bytes]:
        yield self._frame.decompress(data, STEP_BYTES)
        while not (self._frame.eof or self._frame.needs_input):
            yield self._frame.decompress(b"", STEP_BYTES)


_CODECS: Final[Mapping[str, Callable[[], _Member]]] = MappingProxyType(
    {"gzip": _Gzip, "zstd": _Zstd}
)
ENCODINGS: Final = tuple(_CODECS)
"""The values of Content-Encoding that are read."""


class Decompressing:
    """Takes a compressed body in chunks of any size and feeds `inner` what it stands for.

    Several members or frames in a row are one body, as their formats say.
    """

    def __init__(self, inner: BodyIntake, encoding: str, limits: Limits) -> None:
        self._inner = inner
        self._encoding = encoding
        self._limits = limits
        self._blocks = Blocks(self._take)
        self._member: _Member | None = None
        self._members = 0
        self._received_bytes = 0
        self._produced_bytes = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises `InvalidRequest` `invalid_encoding` when they are not of the encoding, `TooLarge`
        `compression_bomb` or `input_too_large`, and what the inner intake raises.
        """
        self._blocks.feed(chunk)

    def finish(self) -> Accepted:
        """Return what the inner intake accepted.

        Raises `InvalidRequest` `truncated_body` when the compressed stream has not ended.
        """
        self._blocks.finish()
        if self._member or not self._members:
            raise InvalidRequest(
                f"The {self._encoding} stream of the body ends after {self._received_bytes} bytes, "
                "too early.",
                code="truncated_body",
                hint="The upload was cut, or the file is; send it again.",
            )
        return self._inner.finish()

    def _take(self, block: bytes) -> None:
        self._received_bytes += len(block)
        rest: bytes | None = block
        while rest:
            member = self._member or self._next_member()
            for piece in self._pieces(member, rest):
                self._pass_on(piece)
            rest = member.rest
            self._member = member if rest is None else None

    def _next_member(self) -> _Member:
        self._members += 1
        if self._members > MEMBERS_MAX:
            raise TooLarge(
                f"The body has more than {MEMBERS_MAX} {self._encoding} streams in a row.",
                code="too_many_members",
                hint="Compress the input as one stream.",
            )
        return _CODECS[self._encoding]()

    def _pieces(self, member: _Member, data: bytes) -> Iterator[bytes]:
        try:
            yield from member.pieces(data)
        except (zlib.error, zstd.ZstdError) as error:
            where = "is not" if self._members == 1 else "goes on after the end of a stream, not as"
            raise InvalidRequest(
                f"The body {where} valid {self._encoding}: {error}.",
                code="invalid_encoding",
                hint=_HINTS[self._encoding],
            ) from error

    def _pass_on(self, piece: bytes) -> None:
        self._produced_bytes += len(piece)
        if self._produced_bytes > self._limits.body_bytes_max:
            raise self._refusal(
                "input_too_large",
                f"decompresses to more than {self._limits.body_bytes_max} bytes",
                "Split the input into several jobs (limit job_bytes_max).",
            )
        ratio = self._limits.compression_ratio_max
        most = max(FREE_BYTES, self._received_bytes * ratio)
        if self._produced_bytes > most:
            raise self._refusal(
                "compression_bomb",
                f"decompresses to more than {ratio} times its size",
                "Send it without Content-Encoding (limit compression_ratio_max).",
            )
        self._inner.feed(piece)

    def _refusal(self, code: str, message: str, hint: str) -> PenstockError:
        return TooLarge(f"The {self._encoding} body {message}.", code=code, hint=hint)


_HINTS: Final = {
    "gzip": "Send what `gzip` writes, or leave Content-Encoding out.",
    "zstd": "Send what `zstd` writes, at most level 19 and without --long or a dictionary, or "
    "leave Content-Encoding out.",
}
