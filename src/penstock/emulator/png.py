"""Small real PNG images, made of nothing but zlib."""

import random
import struct
import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TRUECOLOUR_8_BIT = b"\x08\x02\x00\x00\x00"


def make_png(side: int, seed: int) -> bytes:
    """A square 8-bit RGB image of `side` pixels with seeded noise.

    Noise does not compress, so the size is about 3 x side x side bytes: tests choose it by `side`.
    """
    noise = random.Random(seed)
    # Every scan line begins with its filter type, here 0 (none).
    pixels = b"".join(b"\x00" + noise.randbytes(side * 3) for _ in range(side))
    header = struct.pack(">II", side, side) + _TRUECOLOUR_8_BIT
    return b"".join(
        (
            _SIGNATURE,
            _chunk(b"IHDR", header),
            _chunk(b"IDAT", zlib.compress(pixels, 0)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
