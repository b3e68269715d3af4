"""C1: bodies that are compressed, or say so.

`gzip` (also `x-gzip`) and `zstd` are read, one of them at a time; everything else is 415. What
comes out is judged by its size and, from the first MiB on, by its ratio (100:1), step by step.
"""

import functools
import gzip
import zlib
from collections.abc import Iterator
from typing import Final

from backports import zstd
from tests.corpus.case import GOOD, Case

from penstock.core.limits import Limits

MIB: Final = 1_048_576
UNSUPPORTED: Final = "unsupported_media_type"
TYPE: Final = {"content-type": "application/jsonl"}
pack = functools.partial(gzip.compress, mtime=0)

ZIP: Final = pack(GOOD)
ZST: Final = zstd.compress(GOOD)
DEFLATED: Final = zlib.compress(GOOD)
BOMB: Final = pack(bytes(8 * MIB), 9)
"""1,029 to one, the best that DEFLATE can do."""

ZST_BOMB: Final = zstd.compress(bytes(64 * MIB))
SMALL_BOMB: Final = pack(GOOD + b" " * (MIB - len(GOOD) - 1), 9)
NO_CRC: Final = ZIP[:-8] + b"\x00\x00\x00\x00" + ZIP[-4:]
NO_SIZE: Final = ZIP[:-4] + b"\xff\xff\xff\xff"
NAMED: Final = ZIP[:3] + b"\x08" + ZIP[4:10] + b"../../etc/passwd\x00" + ZIP[10:]
SKIPPED: Final = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"


def _zstd(parameter: int, value: int) -> bytes:
    """A frame that is written piece by piece, with one parameter of its own."""
    packer = zstd.ZstdCompressor(options={parameter: value})
    return packer.compress(GOOD) + packer.flush()


CHECKED: Final = _zstd(zstd.CompressionParameter.checksum_flag, 1)
WIDE: Final = _zstd(zstd.CompressionParameter.window_log, 27)
"""Asks for a window of 128 MiB; RFC 8878 asks decoders for 8."""

HEADS: Final[tuple[tuple[str, str, bytes, str], ...]] = (
    ("gzip", "gzip", ZIP, "ok:1"),
    ("GZIP", "GZIP", ZIP, "ok:1"),
    ("x-gzip", "x-gzip", ZIP, "ok:1"),
    ("zstd", "zstd", ZST, "ok:1"),
    ("identity", "identity", GOOD, "ok:1"),
    ("an empty value", "", GOOD, "ok:1"),
    ("identity and gzip", "identity, gzip", ZIP, "ok:1"),
    ("deflate", "deflate", DEFLATED, UNSUPPORTED),
    ("br", "br", b"\x0b\x02\x80", UNSUPPORTED),
    ("compress", "compress", b"\x1f\x9d\x90", UNSUPPORTED),
    ("gzip twice", "gzip, gzip", pack(ZIP), UNSUPPORTED),
    ("deflate, gzip, gzip", "deflate, gzip, gzip", ZIP, UNSUPPORTED),
    ("gzip and zstd", "gzip, zstd", ZST, UNSUPPORTED),
    ("a weight", "gzip;q=1", ZIP, UNSUPPORTED),
    ("an asterisk", "*", GOOD, UNSUPPORTED),
    ("a name that there is not", "pied-piper", GOOD, UNSUPPORTED),
    ("gzip without saying so", "", ZIP, "compressed_input@1"),
    ("zstd without saying so", "", ZST, "invalid_utf8@1"),
)

BODIES: Final[tuple[tuple[str, str, bytes, str], ...]] = (
    ("two members", "gzip", pack(GOOD + b"\n") + ZIP, "ok:2"),
    ("two frames", "zstd", zstd.compress(GOOD + b"\n") + ZST, "ok:2"),
    ("an empty member between", "gzip", pack(GOOD + b"\n") + pack(b"") + ZIP, "ok:2"),
    ("a member with a name", "gzip", NAMED, "ok:1"),
    ("a frame to skip", "zstd", SKIPPED + ZST, "ok:1"),
    ("a frame with a checksum", "zstd", CHECKED, "ok:1"),
    ("nothing", "gzip", b"", "truncated_body"),
    ("nothing, zstd", "zstd", b"", "truncated_body"),
    ("an empty stream", "gzip", pack(b""), "empty_input"),
    ("an empty stream, zstd", "zstd", zstd.compress(b""), "empty_input"),
    ("plain text", "gzip", GOOD, "invalid_encoding"),
    ("plain text, zstd", "zstd", GOOD, "invalid_encoding"),
    ("zlib", "gzip", DEFLATED, "invalid_encoding"),
    ("raw DEFLATE", "gzip", DEFLATED[2:-4], "invalid_encoding"),
    ("zstd as gzip", "gzip", ZST, "invalid_encoding"),
    ("gzip as zstd", "zstd", ZIP, "invalid_encoding"),
    ("cut in the head", "gzip", ZIP[:5], "truncated_body"),
    ("cut in the middle", "gzip", ZIP[:30], "truncated_body"),
    ("cut in the checksum", "gzip", ZIP[:-6], "truncated_body"),
    ("cut by a byte", "gzip", ZIP[:-1], "truncated_body"),
    ("cut in the middle, zstd", "zstd", ZST[:20], "truncated_body"),
    ("cut by a byte, zstd", "zstd", ZST[:-1], "truncated_body"),
    ("another checksum", "gzip", NO_CRC, "invalid_encoding"),
    ("another size", "gzip", NO_SIZE, "invalid_encoding"),
    ("another checksum, zstd", "zstd", CHECKED[:-1] + b"!", "invalid_encoding"),
    ("another method", "gzip", ZIP[:2] + b"\x07" + ZIP[3:], "invalid_encoding"),
    ("trailing zeros", "gzip", ZIP + b"\x00" * 20, "invalid_encoding"),
    ("trailing text", "gzip", ZIP + b"garbage", "invalid_encoding"),
    ("trailing text, zstd", "zstd", ZST + b"garbage", "invalid_encoding"),
    ("gzip within gzip", "gzip", pack(ZIP), "compressed_input@1"),
    ("gzip within zstd", "zstd", zstd.compress(ZIP), "compressed_input@1"),
    ("a window of 128 MiB", "zstd", WIDE, "invalid_encoding"),
    ("1,029 to one", "gzip", BOMB, "compression_bomb"),
    ("thousands to one, zstd", "zstd", ZST_BOMB, "compression_bomb"),
    ("a bomb in a bomb", "gzip", pack(BOMB), "compressed_input@1"),
    ("a MiB at any ratio", "gzip", SMALL_BOMB, "ok:1"),
    ("65,537 empty members", "gzip", pack(b"") * 65_537, "too_many_members"),
    ("a bad line inside", "gzip", pack(GOOD + b"\n{\n"), "not_json@2"),
)


def _cases() -> Iterator[Case]:
    for name, encoding, data, verdict in (*HEADS, *BODIES):
        head = {**TYPE, "content-encoding": encoding}
        yield Case(id=f"C1/{name}", kind="C1", given=data, verdict=verdict, head=head)
    # The size of what comes out is limited as if it had come plain.
    yield Case(
        id="C1/more than a job may have",
        kind="C1",
        given=pack(b"\n".join(b"%d" % number for number in range(2_000))),
        verdict="input_too_large",
        head={**TYPE, "content-encoding": "gzip"},
        limits=Limits(job_bytes_max=1_000),
    )


CASES: Final[list[Case]] = list(_cases())
