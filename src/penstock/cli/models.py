"""`penstock models`: what may be named as a model."""

from __future__ import annotations

from typing import Any, Final

from penstock.cli.command import group
from penstock.cli.connection import Server, connected_with_ids

_HEADINGS: Final = ("MODEL", "IN, 1M TOKENS", "OUT, 1M TOKENS", "WHAT")
_DROPPED: Final = ("WHAT", "IN, 1M TOKENS")
_MICRO: Final = 1_000_000


@group()
def models() -> None:
    """List what may be named as the model of a job.

    \b
    Examples:
      penstock models ls
    """  # noqa: D301  # click's mark is a real backspace


@models.command("ls")
@connected_with_ids
def list_models(server: Server) -> None:
    """List the models that the server offers, with what a million tokens cost in a batch.

    A price that the server does not know is called unknown; such a model can be used all the same.

    \b
    Examples:
      penstock models ls
      penstock models ls -q
    """  # noqa: D301  # click's mark is a real backspace
    with server.client() as client:
        page = client.models()
    rows = [row for kind in page.models for row in _rows(kind)]
    value = page if server.as_json else None
    server.show(value, server.table(_HEADINGS, rows, drop=_DROPPED), ids=[row[0] for row in rows])


def _rows(kind: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the models that a kind of job can name; what a newer server says more is left."""
    prices = _member(_member(kind, "price_info"), "models")
    found: list[tuple[str, ...]] = []
    for name in _allowed(kind):
        about = _member(prices, name)
        price = _member(about, "price")
        found.append(
            (
                name,
                _dollars(price.get("input")),
                _dollars(price.get("output")),
                str(about.get("description") or "-"),
            )
        )
    return found


def _allowed(kind: dict[str, Any]) -> list[str]:
    for parameter in kind.get("parameters") or []:
        if isinstance(parameter, dict) and parameter.get("name") == "model":
            names = _member(parameter, "constraints").get("allowed")
            return [str(name) for name in names] if isinstance(names, list) else []
    return []


def _member(value: dict[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _dollars(micro: object) -> str:
    return f"${micro / _MICRO:.3f}" if isinstance(micro, int) else "unknown"
