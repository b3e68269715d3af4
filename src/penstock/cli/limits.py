"""`penstock limits`: the quotas of an organisation, and what it uses of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from penstock.cli.command import command
from penstock.cli.connection import Server, connected

if TYPE_CHECKING:
    from penstock.client import Api

_HEADINGS: Final = ("WHAT", "USED", "RESERVED", "LIMIT", "LEFT")
_PATH: Final = "/api/v1/usage"
_MICRO: Final = 1_000_000
_ROWS: Final = (
    ("jobs in flight", "jobs_in_flight", None, "jobs_in_flight_max"),
    ("bytes stored", "bytes_stored", None, "bytes_stored_max"),
    ("lines today", "lines_day", None, "lines_day_max"),
    ("requests a second", None, None, "requests_second_max"),
    (
        "spent today",
        "spent_day_micro_dollars",
        "reserved_day_micro_dollars",
        "spend_day_micro_dollars_max",
    ),
    (
        "spent this month",
        "spent_month_micro_dollars",
        "reserved_month_micro_dollars",
        "spend_month_micro_dollars_max",
    ),
)
"""What is limited, and the members of the answer for used, reserved and limit."""


@command()
@connected
def limits(server: Server) -> None:
    """Show the quotas of your organisation, and what is used of them.

    Days and months are those of UTC. What jobs that run are expected to cost is reserved.

    \b
    Examples:
      penstock limits
      penstock limits --json
    """  # noqa: D301  # \b is click's mark for lines that are not to be wrapped
    with server.client() as client:
        answer = quotas_of(client)
    rows = [_row(answer, *row) for row in _ROWS]
    server.show(answer, server.table(_HEADINGS, rows, drop=("RESERVED", "USED")))


def quotas_of(client: Api) -> dict[str, Any]:
    """Ask for quotas and use."""
    answer: dict[str, Any] = client.wire.exchange("GET", _PATH).json()
    return answer


def budget(answer: dict[str, Any]) -> list[str]:
    """Return in a line each how much money is left, where it is limited."""
    lines = []
    for what, used, reserved, limit in _ROWS:
        most = _number(answer, "quotas", limit)
        if limit.startswith("spend") and most:
            taken = _number(answer, "used", used) + _number(answer, "used", reserved)
            left = _dollars(max(most - taken, 0))
            lines.append(f"{left} of {_dollars(most)} left ({what})")
    return lines or ["spending is not limited"]


def _row(
    answer: dict[str, Any], what: str, used: str | None, reserved: str | None, limit: str
) -> tuple[str, ...]:
    is_money = limit.startswith("spend")
    most = _number(answer, "quotas", limit)
    taken, held = _number(answer, "used", used), _number(answer, "used", reserved)
    written = _dollars if is_money else _plain
    left = written(max(most - taken - held, 0)) if most and used else "-"
    return (
        what,
        written(taken) if used else "-",
        written(held) if reserved else "-",
        written(most) if most else "unlimited",
        left,
    )


def _number(answer: dict[str, Any], part: str, name: str | None) -> int:
    value = (answer.get(part) or {}).get(name) if name else None
    return value if isinstance(value, int) else 0


def _dollars(micro: int) -> str:
    return f"${micro / _MICRO:,.2f}"


def _plain(number: int) -> str:
    return f"{number:,}"
