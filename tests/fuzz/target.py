"""What a target of the fuzzer is."""

import random
from collections.abc import Sequence
from typing import Protocol


class Broken(AssertionError):
    """What must always be so is not."""


class Target(Protocol):
    """One thing that reads what strangers send."""

    @property
    def name(self) -> str:
        """What it is called on the command line."""
        ...

    @property
    def seeds(self) -> Sequence[bytes]:
        """Inputs to begin with."""
        ...

    @property
    def words(self) -> Sequence[bytes]:
        """What means something to it, for the mutations."""
        ...

    def run(self, data: bytes, chance: random.Random) -> str:
        """Feed it and return the verdict in a word; `chance` cuts and orders.

        Whatever it raises is a finding: refusals are caught, and a broken promise is `Broken`.
        """
        ...

    def close(self) -> None:
        """Give back what was opened."""
        ...
