"""Durations as people write them."""

import re
from typing import Final

import click

_UNIT_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def read_seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Read seconds, or a number with a unit: 90, 30s, 15m, 2h, 1d."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", value, re.ASCII)
    if match is None:
        raise click.BadParameter(
            f"{value!r} is not a duration such as 90, 30s, 15m or 2h", ctx=ctx, param=param
        )
    return float(match[1]) * _UNIT_SECONDS[match[2]]
