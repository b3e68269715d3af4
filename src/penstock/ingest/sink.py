"""Where an intake puts what it accepts."""

from typing import Protocol


class Sink(Protocol):
    """Takes the decoded input and its line index, both in order.

    What it has got is worthless when the intake or the sink itself raises: its owner discards it.
    A sink may be slower than the intake and hold calls back.
    """

    def write(self, block: bytes) -> None:
        """Append to the input, `penstock.ingest.jsonl.BLOCK_BYTES` at a time."""
        ...

    def write_index(self, rows: bytes) -> None:
        """Append packed rows (`penstock.ingest.index`)."""
        ...

    def write_problem(self, row: bytes) -> None:
        """Append what is wrong with a line that is put aside (`penstock.ingest.problems`)."""
        ...

    def sha256(self) -> str:
        """Return the SHA-256 of everything written, in hexadecimal; called once, at the end."""
        ...
