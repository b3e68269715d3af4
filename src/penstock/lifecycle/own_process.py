"""A process that works for one job beside the server: how it is started.

It gets the descriptors that it needs and nothing else: no environment, so no credentials, and no
paths. It is told over a pipe what to do, and is ended by whoever started it.
"""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterable
from typing import Final

from penstock.errors import Unavailable

_KEPT_BYTES: Final = 32 * 1024 * 1024
"""Memory that the C library keeps instead of giving it back after each block of a megabyte: taking
a page anew costs more than the work on it."""

_LEAN: Final = (
    "from penstock.late import BACKPORTS, SCHEMAS, do_without, put_off; "
    "do_without(BACKPORTS); put_off(SCHEMAS); "
)
"""Comes before all other imports: what most jobs have no use for takes a fifth of the memory."""


async def start(
    module: str, descriptors: Iterable[int], *, stdout: int = PIPE, program: str = sys.executable
) -> Process:
    """Start the `main` of a module; raise `Unavailable` if there can be no process."""
    try:
        return await asyncio.create_subprocess_exec(
            # `-P`: what lies in the working directory is not ours to import.
            *(program, "-P", "-c", f"{_LEAN}from {module} import main; main()"),
            stdin=PIPE,
            stdout=stdout,
            env={
                # The modules that this process uses, and no variable that could be a secret.
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "MALLOC_MMAP_THRESHOLD_": str(_KEPT_BYTES),
                "MALLOC_TRIM_THRESHOLD_": str(2 * _KEPT_BYTES),
            },
            pass_fds=tuple(descriptors),
        )
    except OSError as error:
        raise Unavailable(f"No process could be started: {error.strerror}.") from error
