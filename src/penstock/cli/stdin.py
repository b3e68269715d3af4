"""Standard input, which may be closed."""

import sys
from typing import BinaryIO

import click


def standard_input() -> BinaryIO:
    """Return the bytes of standard input; a usage error if it is closed."""
    if sys.stdin is None:
        raise click.UsageError("standard input is closed; name a file instead of -")
    return sys.stdin.buffer
