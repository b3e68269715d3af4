"""What the lifecycle asks of a provider.

Five small calls. A create is sent once per intent and never repeated here: an unclear answer raises
`ProviderUnclear` and the lifecycle reconciles.
"""

from typing import Final, Protocol

import msgspec

ENDED_WITH_OUTPUT: Final = frozenset({"JOB_STATE_SUCCEEDED", "JOB_STATE_PARTIALLY_SUCCEEDED"})
ENDED_WITHOUT: Final = frozenset({"JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED"})
"""Finished rows may exist all the same: after a cancel, and after some failures."""

ENDED: Final = ENDED_WITH_OUTPUT | ENDED_WITHOUT

NOT_ENDED: Final = frozenset(
    {
        "JOB_STATE_UNSPECIFIED",
        "JOB_STATE_QUEUED",
        "JOB_STATE_PENDING",
        "JOB_STATE_RUNNING",
        "JOB_STATE_CANCELLING",
        "JOB_STATE_PAUSED",
        "JOB_STATE_UPDATING",
    }
)
"""Anything outside both sets is new: it is reported, and polling goes on."""


class NewBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a create needs; the label is how the job is found again."""

    model: str
    location: str
    display_name: str
    label: str
    input_uri: str
    output_prefix: str


class ProviderJob(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's job as last seen."""

    name: str
    """As later calls take it; for Vertex `projects/p/locations/l/batchPredictionJobs/id`."""
    state: str
    display_name: str = ""
    """Ours: tells which attempt made the job."""
    created_at: str = ""
    """RFC 3339; only compared, oldest first."""
    has_started: bool = False
    output_folder: str | None = None
    """`gs://…` folder with the answers, once there is one."""
    error_code: int | None = None
    error_message: str = ""


class Provider(Protocol):
    """Runs batches somewhere else."""

    async def create(self, batch: NewBatch) -> ProviderJob:
        """Send one create.

        Raises `ProviderUnreachable` if it certainly had no effect, `ProviderRefused` for a
        definite no and `ProviderUnclear` for everything else.
        """
        ...

    async def get(self, name: str) -> ProviderJob | None:
        """Return the job; None if the provider does not know it."""
        ...

    async def find(self, label: str, location: str) -> list[ProviderJob]:
        """Return all jobs with our label, oldest first."""
        ...

    async def cancel(self, name: str) -> None:
        """Ask for the end of a job; one that has ended already is fine."""
        ...
