"""Cloud Storage: what is written is there, whole and at once."""

from typing import Any

from penstock.doctor.check import Finding, fails, holds
from penstock.doctor.lab import Lab
from penstock.errors import BlobError, BlobMissing, ProviderError


async def storage(lab: Lab) -> list[Finding]:
    """Write, list, compare and delete a small object."""
    name = f"{lab.folder}/probe"
    try:
        await lab.bucket.put(name, _blocks())
        checksum = holds("storage-checksum", "size and CRC32C are those of the bytes")
        listed = name in await lab.objects()
        await lab.bucket.delete(name)
        gone = name not in await lab.objects() and await _is_gone(lab, name)
    except (ProviderError, BlobError) as error:
        return [fails("storage-checksum", error.message, "see the rights on the bucket")]
    if listed and gone:
        return [checksum, holds("storage-consistent", "listed at once, and gone at once")]
    saw = "not listed after it was written" if not listed else "still there after it was deleted"
    return [checksum, fails("storage-consistent", saw, "raise timing.fence_seconds")]


async def _is_gone(lab: Lab, name: str) -> bool:
    try:
        await lab.bucket.stat(name)
    except BlobMissing:
        return True
    return False


async def _blocks() -> Any:  # noqa: ANN401  # an iterator
    yield b"penstock doctor\n"
