"""Asks what was spent; apart from its models, which the errors need and so the wire as well."""

from collections.abc import Sequence
from typing import Final

from penstock.client.money import SpentReport
from penstock.client.wire import Wire, decode

_PATH: Final = "/api/v1/usage"


def spent(wire: Wire, first: str | None, last: str | None, by: Sequence[str]) -> SpentReport:
    """Ask for it; what is not given is the server's to choose."""
    query = {"from": first, "to": last, "group_by": ",".join(by)}
    params = {name: value for name, value in query.items() if value is not None}
    return decode(wire.exchange("GET", _PATH, params=params).content, SpentReport)
