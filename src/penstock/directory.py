"""Directories whose names outlive a power cut.

Both the keyring, for the file of the master secret, and the blobs need this, and the keyring is
below the blobs. So it stands below both and knows nothing but the operating system.
"""

import os
from pathlib import Path


def sync_directory(path: Path) -> None:
    """Make durable which names the directory has; a rename is not until then."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Make a directory, and those above it that are missing; their names are durable then.

    What is synced within a directory is lost with its name.
    """
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)
