"""R1: what a download's headers may ask for. At most one range is honoured.

Anything that is no single range in bytes gets the whole file, which RFC 9110 always permits; a
range behind the end gets 416. A condition is the strong ETag and nothing else: there is no time.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

DATA: Final = bytes(range(256)) * 40
SIZE: Final = len(DATA)
TAG: Final = "{etag}"
"""Stands for the file's own entity tag, quotes included."""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """Header fields, and what must come: a status, and the part of the file that is sent."""

    name: str
    headers: Mapping[str, str]
    status: int
    part: tuple[int, int] = (0, SIZE)

    @property
    def id(self) -> str:
        """The name of the case."""
        return f"R1/{self.name}"


def _ranges(spec: str) -> dict[str, str]:
    return {"Range": spec}


PARTS: Final[dict[str, tuple[int, int]]] = {
    "bytes=0-0": (0, 1),
    "bytes=0-": (0, SIZE),
    "bytes=5-9": (5, 10),
    "bytes=9999-": (9_999, SIZE),
    "bytes=-1": (SIZE - 1, SIZE),
    f"bytes=-{SIZE}": (0, SIZE),
    f"bytes=-{SIZE + 1}": (0, SIZE),
    f"bytes={SIZE - 1}-{SIZE - 1}": (SIZE - 1, SIZE),
    f"bytes={SIZE - 1}-{SIZE + 5}": (SIZE - 1, SIZE),
    "bytes=00000000000000000007-00000000000000000008": (7, 9),
    "bytes=5-99999999999999999999999999": (5, SIZE),
    "BYTES=5-9": (5, 10),
}

BEHIND: Final = (
    f"bytes={SIZE}-",
    f"bytes={SIZE}-{SIZE}",
    f"bytes={SIZE + 7}-{SIZE + 9}",
    "bytes=99999999999999999999999999-",
    "bytes=-0",
)

IGNORED: Final[dict[str, str]] = {
    "inverted": "bytes=9-5",
    "two ranges": "bytes=0-1,5-6",
    "overlapping": "bytes=0-100,50-150",
    "the same range thrice": "bytes=0-0,0-0,0-0",
    "a range and a suffix": "bytes=0-1,-1",
    "a comma behind": "bytes=0-1,",
    "a comma in front": "bytes=,0-1",
    "10,000 ranges": "bytes=" + ",".join(f"{at}-{at}" for at in range(10_000)),
    "10,000 open ranges": "bytes=" + "0-," * 9_999 + "0-",
    "no numbers": "bytes=-",
    "nothing": "bytes=",
    "empty": "",
    "no unit": "0-1",
    "another unit": "lines=0-1",
    "letters": "bytes=a-b",
    "a sign": "bytes=+1-2",
    "two minus": "bytes=--1",
    "a negative start": "bytes=-1-2",
    "a fraction": "bytes=1.0-2",
    "hexadecimal": "bytes=0x1-0x2",
    "an underscore": "bytes=1_0-2_0",
    "5,000 digits": "bytes=" + "9" * 5_000 + "-",
    "a blank inside": "bytes=1 -2",
    "something behind": "bytes=0-1;q=1",
}

CONDITIONS: Final = (
    Ask(
        name="If-Range that fits",
        headers={"Range": "bytes=5-9", "If-Range": TAG},
        status=206,
        part=(5, 10),
    ),
    Ask(
        name="If-Range of another file",
        headers={"Range": "bytes=5-9", "If-Range": '"x"'},
        status=200,
    ),
    Ask(name="a weak If-Range", headers={"Range": "bytes=5-9", "If-Range": f"W/{TAG}"}, status=200),
    Ask(
        name="If-Range of a time",
        headers={"Range": "bytes=5-9", "If-Range": "Mon, 23 Nov 2026 00:00:00 GMT"},
        status=200,
    ),
    Ask(name="If-Range without a range", headers={"If-Range": '"x"'}, status=200),
    Ask(
        name="If-Range of another file, behind the end",
        headers={"Range": f"bytes={SIZE}-", "If-Range": '"x"'},
        status=200,
    ),
    Ask(name="If-None-Match that fits", headers={"If-None-Match": TAG}, status=304, part=(0, 0)),
    Ask(name="a weak one", headers={"If-None-Match": f"W/{TAG}"}, status=304, part=(0, 0)),
    Ask(name="a list with it", headers={"If-None-Match": f'"a", {TAG}'}, status=304, part=(0, 0)),
    Ask(name="any", headers={"If-None-Match": "*"}, status=304, part=(0, 0)),
    Ask(name="another one", headers={"If-None-Match": '"a"'}, status=200),
    Ask(name="10,000 others", headers={"If-None-Match": '"a",' * 9_999 + '"b"'}, status=200),
    Ask(
        name="If-None-Match before Range",
        headers={"If-None-Match": TAG, "Range": "bytes=0-0"},
        status=304,
        part=(0, 0),
    ),
    Ask(
        name="times mean nothing",
        headers={"If-Modified-Since": "Mon, 23 Nov 2099 00:00:00 GMT"},
        status=200,
    ),
)

ASKS: Final = (
    *(Ask(name=spec, headers=_ranges(spec), status=206, part=part) for spec, part in PARTS.items()),
    *(Ask(name=spec, headers=_ranges(spec), status=416, part=(0, 0)) for spec in BEHIND),
    *(Ask(name=name, headers=_ranges(spec), status=200) for name, spec in IGNORED.items()),
    *CONDITIONS,
)
