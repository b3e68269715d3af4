"""A body that is the JSONL itself; model and options come from outside it."""

from penstock.core.files import ANY_FILE, FileRule
from penstock.core.limits import Limits
from penstock.ingest.intake import Accepted, Envelope
from penstock.ingest.jsonl import JsonlIntake
from penstock.ingest.sink import Sink
from penstock.ingest.treatment import STRICT, Treatment


class RawIntake:
    """Takes JSONL in chunks of any size; the sink gets what stands in it."""

    def __init__(
        self,
        limits: Limits,
        envelope: Envelope,
        sink: Sink,
        files: FileRule = ANY_FILE,
        treatment: Treatment = STRICT,
    ) -> None:
        self._envelope = envelope
        self._jsonl = JsonlIntake(limits, sink, files, treatment)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes; raises what `JsonlIntake.feed` raises."""
        self._jsonl.feed(chunk)

    def finish(self) -> Accepted:
        """Return what was accepted; raises what `JsonlIntake.finish` raises."""
        return Accepted.of(self._envelope, self._jsonl.finish())
