"""A file judged by this installation's own rules, without a server."""

from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from penstock.cli.stdin import standard_input
from penstock.client import Validation
from penstock.core.limits import Limits
from penstock.ingest.jsonl import JsonlIntake
from penstock.ingest.survey import described
from penstock.ingest.treatment import Treatment

READ_BYTES: Final = 262_144


class _Nowhere:
    """A sink that keeps nothing."""

    def write(self, block: bytes) -> None:
        """Forget a block of the input."""

    def write_index(self, rows: bytes) -> None:
        """Forget rows of the index."""

    def write_problem(self, row: bytes) -> None:
        """Forget a line that was put aside."""

    def sha256(self) -> str:
        """Return nothing: nobody compares it."""
        return ""


def check_locally(file: str, *, quarantine: bool) -> Validation:
    """Return what the rules with their defaults say of a file; raises what refuses it whole."""
    limits = Limits()
    intake = JsonlIntake(limits, _Nowhere(), treatment=Treatment(is_trial=True))
    with ExitStack() as stack:
        source = standard_input() if file == "-" else stack.enter_context(Path(file).open("rb"))
        while chunk := source.read(READ_BYTES):
            intake.feed(chunk)
    tally = intake.finish()
    said = described(tally, bad_max=limits.quarantine_lines_max if quarantine else 0)
    # The words of a server, so that both are read alike.
    return msgspec.json.decode(msgspec.json.encode(said), type=Validation)
