"""Which bytes of a job's rows each file of its output holds, faults of whole files included."""

from typing import Final, NamedTuple

from penstock.emulator.output import RowLedger
from penstock.emulator.spoiling import Spoiler

_TRUNCATED_SHARE: Final = 4
"""A truncated row lacks so much: a quarter, so that also of two equal rows one is broken."""


class File(NamedTuple):
    """One file of the output, as a span of all rows."""

    first_byte: int
    end_byte: int
    steps: int = 0
    """In how many steps it grows after the end of its job."""


class Files:
    """Cuts the rows of a job into files and tells the spoiler what was lost."""

    def __init__(self, spoiler: Spoiler, ledger: RowLedger, rows: int) -> None:
        self._spoiler = spoiler
        self._ledger = ledger
        self._rows = rows

    def shard(self, shard: int, shards: int) -> File | None:
        """The file of this shard; None for one that is not written.

        The last shard is the one that suffers: it holds rows, however few there are.
        """
        first, last = self._rows * shard // shards, self._rows * (shard + 1) // shards
        is_last = shard == shards - 1
        if self._spoiler.order("none") is not None:
            self._spoiler.lose(first, last, "none")
            return None
        if is_last and self._spoiler.order("missing-shard") is not None:
            self._spoiler.lose(first, last, "missing-shard")
            return None
        first_byte, end_byte = self._ledger.bytes_of(first), self._ledger.bytes_of(last)
        if is_last and self._spoiler.order("empty-shard") is not None:
            self._spoiler.lose(first, last, "empty-shard")
            return File(first_byte, first_byte)
        if is_last and self._spoiler.order("truncated-line") is not None:
            end_byte = self._truncated(first, last)
        growing = self._spoiler.order("growing")
        steps = growing.then.steps if is_last and growing is not None else 0
        return File(first_byte, end_byte, steps)

    def _truncated(self, first: int, last: int) -> int:
        """Where the file ends if its last row is cut; a row without bytes cannot be."""
        while last - 1 > first and self._ledger.bytes_of(last) == self._ledger.bytes_of(last - 1):
            last -= 1
        begin, end = self._ledger.bytes_of(last - 1), self._ledger.bytes_of(last)
        self._spoiler.lose(last - 1, last, "truncated-line")
        return end - max(2, (end - begin) // _TRUNCATED_SHARE) if end > begin else end
