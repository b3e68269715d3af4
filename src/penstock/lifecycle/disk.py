"""Writes that say `StorageFull` when the disk does not take what it was given."""

import os

from penstock.errors import StorageFull


def write_all(descriptor: int, data: bytes) -> None:
    """Append all of `data`; raise `StorageFull` if the disk does not take it."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError as error:
        raise full(error) from error


def write_at(descriptor: int, data: bytes, offset: int) -> int:
    """Write all of `data`, return its size; raise `StorageFull` if the disk does not take it."""
    view = memoryview(data)
    try:
        while view:
            written = os.pwrite(descriptor, view, offset)
            view = view[written:]
            offset += written
    except OSError as error:
        raise full(error) from error
    return len(data)


def sync(descriptor: int) -> None:
    """Have the disk hold what is written; raise `StorageFull` if it cannot."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise full(error) from error


def full(error: OSError) -> StorageFull:
    """Say what the disk said."""
    return StorageFull(f"The server could not write: {error.strerror}.")
