"""Asks what was spent."""

from collections.abc import Sequence
from typing import Final

from penstock.client.aio.wire import Wire
from penstock.client.calls import decode, known
from penstock.client.money import SpentReport

_PATH: Final = "/api/v1/usage"


async def spent(wire: Wire, first: str | None, last: str | None, by: Sequence[str]) -> SpentReport:
    """Ask for it; what is not given is the server's to choose."""
    params = known({"from": first, "to": last, "group_by": ",".join(by)})
    return decode((await wire.exchange("GET", _PATH, params=params)).content, SpentReport)
