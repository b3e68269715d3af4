"""Makes inputs of a corpus: seeded, the same for the same seed and number."""

import random
from collections.abc import Sequence
from typing import Final

INPUT_BYTES_MAX: Final = 8_192
"""Longer seeds are cut: many short inputs find more than few long ones."""

REPEATS: Final = (2, 3, 8, 64, 1_000)
EDITS_MAX: Final = 6
SPAN_BYTES_MAX: Final = 24
COMMON: Final = (b"", b"\x00", b"\xff", b" ", b"\r", b"\n", b"\r\n", b"0", b"-1", b"\xef\xbb\xbf")


class Mutator:
    """Changes seeds a little, with words that matter to the target."""

    def __init__(self, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
        self._seeds = [seed[:INPUT_BYTES_MAX] for seed in seeds]
        self._words = [*COMMON, *words]
        self._edits = (
            self._flip,
            self._insert,
            self._replace,
            self._drop,
            self._double,
            self._splice,
            self._repeat,
        )

    def make(self, chance: random.Random) -> bytes:
        """Return the next input; now and then a seed as it is."""
        data = chance.choice(self._seeds)
        for _ in range(chance.randrange(EDITS_MAX + 1)):
            data = chance.choice(self._edits)(data, chance)
        return data[: 4 * INPUT_BYTES_MAX]

    def _flip(self, data: bytes, chance: random.Random) -> bytes:
        if not data:
            return data
        at = chance.randrange(len(data))
        return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]

    def _insert(self, data: bytes, chance: random.Random) -> bytes:
        at = chance.randint(0, len(data))
        return data[:at] + chance.choice(self._words) + data[at:]

    def _replace(self, data: bytes, chance: random.Random) -> bytes:
        start, stop = _span(data, chance)
        return data[:start] + chance.choice(self._words) + data[stop:]

    def _drop(self, data: bytes, chance: random.Random) -> bytes:
        start, stop = _span(data, chance)
        return data[:start] + data[stop:]

    def _double(self, data: bytes, chance: random.Random) -> bytes:
        start, stop = _span(data, chance)
        at = chance.randint(0, len(data))
        return data[:at] + data[start:stop] + data[at:]

    def _splice(self, data: bytes, chance: random.Random) -> bytes:
        other = chance.choice(self._seeds)
        return data[: chance.randint(0, len(data))] + other[chance.randint(0, len(other)) :]

    def _repeat(self, data: bytes, chance: random.Random) -> bytes:
        start, stop = _span(data, chance)
        return data[:start] + data[start:stop] * chance.choice(REPEATS) + data[stop:]


def _span(data: bytes, chance: random.Random) -> tuple[int, int]:
    start = chance.randint(0, len(data))
    return start, min(len(data), start + chance.randint(0, SPAN_BYTES_MAX))
