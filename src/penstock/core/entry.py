"""What an entry of the ledger says."""

from enum import StrEnum


class EntryKind(StrEnum):
    """Each is written once a round of a job."""

    RESERVED = "reserved"
    USAGE = "usage"
    REFUNDED = "refunded"
