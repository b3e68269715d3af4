"""What is known of a submission before its body: form, encoding, length, and what goes with it."""

import enum

import msgspec

from penstock.core.files import ANY_FILE, FileRule
from penstock.core.limits import ESCAPE_FACTOR_MAX, Limits
from penstock.errors import TooLarge
from penstock.ingest.check import UTF8_BOM
from penstock.ingest.compressed import Decompressing
from penstock.ingest.intake import BodyIntake, Envelope, Intake
from penstock.ingest.multipart import MultipartIntake
from penstock.ingest.raw import RawIntake
from penstock.ingest.sink import Sink
from penstock.ingest.treatment import STRICT, Treatment


class Form(enum.Enum):
    """The forms of a body."""

    JSON = "application/json"
    JSONL = "application/jsonl"
    MULTIPART = "multipart/form-data"


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A submission's body as its head announces it."""

    form: Form
    encoding: str | None
    """One of `ENCODINGS`; None for a plain body."""

    content_length: int | None
    boundary: bytes
    """Of a multipart body; empty for others."""

    envelope: Envelope
    """What the query and the headers say; the JSON form says all of it in the body."""

    treatment: Treatment = STRICT

    @property
    def is_input(self) -> bool:
        """Whether its bytes are those of the input, but for a byte-order mark."""
        return self.form is Form.JSONL and self.encoding is None

    def check_length(self, limits: Limits) -> None:
        """Raise `TooLarge` when no good input can need the declared length.

        Compressed bytes may become any number, but never need to be more than the plain ones.
        """
        most = limits.body_bytes_max
        if self.is_input:
            most = limits.job_bytes_max + len(UTF8_BOM)
        if self.content_length is not None and self.content_length > most:
            raise TooLarge(
                f"The body has {self.content_length} bytes; no input within the limit of "
                f"{limits.job_bytes_max} decoded bytes needs more than {most}.",
                code="input_too_large",
                hint="Split the file into several requests.",
            )

    def room(self, limits: Limits) -> int | None:
        """Return the bytes to reserve on the disk; None when only the end will tell."""
        if self.content_length is None or self.encoding is not None:
            return None
        return min(self.content_length, limits.job_bytes_max)

    def least_bytes(self, limits: Limits) -> int:
        """Return how long the input is at least, as far as the declared length tells."""
        if self.content_length is None or self.encoding is not None:
            return 0
        if self.form is Form.JSONL:
            return max(0, self.content_length - len(UTF8_BOM))
        return max(0, self.content_length - limits.envelope_bytes_max) // ESCAPE_FACTOR_MAX

    def open(self, limits: Limits, sink: Sink, files: FileRule = ANY_FILE) -> BodyIntake:
        """Return what takes the body; raises `InvalidRequest` for a bad boundary."""
        intake: BodyIntake
        if self.form is Form.JSONL:
            intake = RawIntake(limits, self.envelope, sink, files, self.treatment)
        elif self.form is Form.MULTIPART:
            intake = MultipartIntake(
                limits, self.boundary, self.envelope, sink, files, self.treatment
            )
        else:
            intake = Intake(limits, sink, files, self.treatment)
        return intake if self.encoding is None else Decompressing(intake, self.encoding, limits)
