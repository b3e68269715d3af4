"""`penstock estimate`: what a file is likely to cost, with one model or with several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from penstock.cli.command import command
from penstock.cli.connection import Server, connected
from penstock.cli.submit_options import DEFAULT_MODEL
from penstock.cli.validate import judged, refusal

if TYPE_CHECKING:
    from penstock.client import Estimate, Validation

_HEADINGS: Final = ("MODEL", "REQUESTS", "TOKENS IN", "TOKENS OUT", "COST", "RANGE", "ONLINE")
_DROPPED: Final = ("ONLINE", "TOKENS IN", "TOKENS OUT", "REQUESTS")
_NOBODY_KNOWS: Final = "unknown"


@command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="Who would answer.")
@click.option("--compare", metavar="LIST", help="Several models instead, with commas between them.")
@connected
def estimate(server: Server, *, file: str, model: str, compare: str | None) -> None:
    """Say what FILE is likely to cost, before anything is sent to a model.

    The file is sent to the server once for each model, and nothing of it is kept. Nine in ten jobs
    end within the range. A model without a price is called unknown, never free.

    \b
    Examples:
      penstock estimate reviews.jsonl
      penstock estimate a.jsonl --compare MODEL1,MODEL2
    """  # noqa: D301  # \b is click's mark for lines that are not to be wrapped
    names = [name.strip() for name in (compare or model).split(",") if name.strip()]
    if not names:
        raise click.UsageError("--compare names no model")
    found: list[tuple[str, Validation]] = []
    with server.client(file) as client:
        for name in names:
            found.append((name, judged(server, client, file, {"model": name})))
            if found[-1][1].problem_count:
                raise refusal(found[-1][1])
    rows = [_row(name, one) for name, one in found]
    value = [{"model": name, "estimate": one.estimate} for name, one in found]
    server.show(value if compare else value[0], server.table(_HEADINGS, rows, drop=_DROPPED))
    basis = next((one.estimate.basis for _, one in found if one.estimate), "")
    if basis:
        server.hint(basis)


def _row(model: str, found: Validation) -> tuple[str, ...]:
    estimate: Estimate | None = found.estimate
    cost = estimate.cost_usd if estimate else None
    tokens: tuple[Any, ...] = (
        (_NOBODY_KNOWS, _NOBODY_KNOWS)
        if estimate is None
        else (f"{estimate.prompt_tokens.expected:,}", f"{estimate.output_tokens.expected:,}")
    )
    online = estimate.online_cost_usd if estimate else None
    return (
        model,
        f"{found.line_count:,}",
        *tokens,
        f"${cost.expected}" if cost else _NOBODY_KNOWS,
        f"${cost.low} to ${cost.high}" if cost else "-",
        f"${online}" if online else "-",
    )
