"""A body that is the JSONL itself; model and options come from outside it."""

from collections.abc import Callable

from penstock.core.limits import Limits
from penstock.ingest.intake import Accepted, Envelope
from penstock.ingest.jsonl import JsonlIntake


class RawIntake:
    """Takes JSONL in chunks of any size; `write` and `write_index` are those of `Intake`."""

    def __init__(
        self,
        limits: Limits,
        envelope: Envelope,
        *,
        write: Callable[[bytes], object],
        write_index: Callable[[bytes], object],
    ) -> None:
        self._envelope = envelope
        self._jsonl = JsonlIntake(limits, write=write, write_index=write_index)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes; raises what `JsonlIntake.feed` raises."""
        self._jsonl.feed(chunk)

    def finish(self) -> Accepted:
        """Return what was accepted; raises what `JsonlIntake.finish` raises."""
        return Accepted.of(self._envelope, self._jsonl.finish())
