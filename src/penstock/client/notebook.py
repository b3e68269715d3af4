"""HTML for notebooks: a job, its progress, an estimate, results; functions of records to text.

Everything that is shown is escaped, since models and other people wrote it. There are no scripts,
no style sheets and nothing that is loaded from elsewhere, and all colours are readable on light and
on dark: text has the notebook's own colour, greys are half transparent.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final

from penstock.client.answered import Shown
from penstock.client.models import JobRecord
from penstock.client.money import Estimate
from penstock.client.progress_text import (
    detail,
    dollars,
    duration,
    finished,
    fraction,
    left,
    money,
    reason,
)
from penstock.client.screen import clean

TEXT_CHARACTERS_MAX: Final = 300
"""Of an answer in a preview; the result itself has all of it."""
KEY_CHARACTERS_MAX: Final = 40
"""Of a key or a word in a preview, which are not wrapped."""
ROWS_MAX: Final = 20
"""Results in a preview, and outcomes of a job."""

_MEGABYTE: Final = 1_000_000
_BOX: Final = (
    "font:13px/1.5 system-ui,sans-serif;max-width:760px;margin:4px 0;padding:8px 12px;"
    "border:1px solid rgba(128,128,128,.4);border-radius:6px"
)
_TRACK: Final = "height:6px;margin:6px 0;border-radius:3px;background:rgba(128,128,128,.25)"
_FONT: Final = "font:13px/1.5 system-ui,sans-serif"
_TABLE: Final = f"border-collapse:collapse;{_FONT}"
_CELL: Final = (
    "padding:3px 10px;border-bottom:1px solid rgba(128,128,128,.3);text-align:left;"
    "vertical-align:top;background:none;unicode-bidi:isolate"
)
_SHORT: Final = _CELL + ";white-space:nowrap"
_LONG: Final = _CELL + ";overflow-wrap:anywhere"
_CODE: Final = "font:12px ui-monospace,monospace"
_QUIET: Final = "opacity:.75"
_GREEN: Final = "#2f9e5f"
_RED: Final = "#d9534f"
_BLUE: Final = "#3b82c4"
_STATE_COLOURS: Final = {"success": _GREEN, "failed": _RED, "cancelled": "#b7791f"}


def job_html(
    record: JobRecord,
    *,
    elapsed_seconds: float | None = None,
    now_seconds: float | None = None,
) -> str:
    """Return a job as it is: state, counts, money, when it is likely to end, and why it waits."""
    colour = _STATE_COLOURS.get(record.status, _BLUE)
    title = (
        f'<strong style="color:{colour}">{_text(record.status)}</strong> '
        f'<span style="{_CODE}">{_text(record.request_id)}</span> '
        f'<span style="{_QUIET}">{_text(record.target_model)}</span>'
    )
    share = fraction(record)
    track = "" if share is None else _track(share, colour)
    facts = [fact for fact in _facts(record, elapsed_seconds, now_seconds) if fact]
    line = f"<div>{' · '.join(facts)}</div>" if facts else ""
    said = detail(record) or reason(record)
    why = f"<div>{_text(said)}</div>" if said else ""
    return f'<div style="{_BOX}"><div>{title}</div>{track}{line}{_outcomes(record)}{why}</div>'


def transfer_html(
    verb: str, done_bytes: int, total_bytes: int | None, *, elapsed_seconds: float = 0.0
) -> str:
    """Return how far an upload or a download is."""
    said = f"{_text(verb)} {done_bytes / _MEGABYTE:,.1f}"
    track = ""
    if total_bytes:
        share = min(done_bytes / total_bytes, 1.0)
        said += f" of {total_bytes / _MEGABYTE:,.1f} MB, {100 * share:.0f} %"
        track = _track(share, _BLUE)
    else:
        said += " MB"
    if elapsed_seconds >= 1:
        said += f", {done_bytes / elapsed_seconds / _MEGABYTE:,.1f} MB/s"
    return f'<div style="{_BOX}"><div>{said}</div>{track}</div>'


def count_html(what: str, done: int, total: int) -> str:
    """Return how many things are done."""
    track = _track(min(done / total, 1.0), _BLUE) if total else ""
    return f'<div style="{_BOX}"><div>{done:,} of {total:,} {_text(what)}</div>{track}</div>'


def estimate_html(estimate: Estimate) -> str:
    """Return what a job is expected to have, get and cost, before anything is spent."""
    cost = estimate.cost_usd
    tokens_in, tokens_out = estimate.prompt_tokens, estimate.output_tokens
    rows = [
        ("lines", f"{estimate.lines:,}", ""),
        ("tokens in", f"{tokens_in.expected:,}", f"{tokens_in.low:,} to {tokens_in.high:,}"),
        ("tokens out", f"{tokens_out.expected:,}", f"{tokens_out.low:,} to {tokens_out.high:,}"),
    ]
    if cost is None:
        rows.append(("cost", "unknown: the model has no price", ""))
    else:
        between = f"{dollars(cost.low)} to {dollars(cost.high)}"
        rows.append(("cost", dollars(cost.expected), between))
    if estimate.online_cost_usd:
        rows.append(("the same online", dollars(estimate.online_cost_usd), ""))
    return _table(("", "expected", "nine in ten"), rows)


def results_html(results: Iterable[Shown], total: int | None = None) -> str:
    """Return the first results as a table; `total` says how many there are in all."""
    rows: list[Sequence[str]] = []
    more = False
    for result in results:
        if len(rows) == ROWS_MAX:
            more = True
            break
        error = result.error
        said = result.text if error is None else f"{error.code}: {error.message}"
        key = "" if result.key is None else str(result.key)
        short = (_shortened(text, KEY_CHARACTERS_MAX) for text in (key, result.outcome))
        rows.append((f"{result.line:,}", *short, _shortened(said, TEXT_CHARACTERS_MAX)))
    below = ""
    if total is not None and total > len(rows):
        below = f"the first {len(rows):,} of {total:,}"
    elif more:
        below = f"the first {len(rows):,}; there are more"
    note = f'<div style="{_FONT};{_QUIET}">{below}</div>' if below else ""
    return _table(("line", "key", "outcome", "answer"), rows) + note


def with_notes(notes: Sequence[str], body: str) -> str:
    """Return sentences above what is drawn already."""
    said = "".join(f"<div>{_text(note)}</div>" for note in notes)
    return f'<div style="font:13px/1.5 system-ui,sans-serif">{said}</div>{body}' if said else body


def _facts(record: JobRecord, elapsed: float | None, now: float | None) -> list[str]:
    stats = record.stats
    counted = f"{finished(record):,} of {stats.total_count:,} lines" if stats.total_count else ""
    bad = f'<span style="color:{_RED}">{stats.not_ok:,} not ok</span>' if stats.not_ok else ""
    created = record.created_at
    at = datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%d %H:%M UTC") if created else ""
    passed = "" if elapsed is None else duration(elapsed)
    quiet = [
        _text(money(record)),
        _text(left(record, now)),
        passed or (f"since {at}" if at else ""),
    ]
    # Half transparent red could not be read on dark, so what failed is by itself.
    return [_quiet(counted), bad, *map(_quiet, quiet)]


def _quiet(html: str) -> str:
    return f'<span style="{_QUIET}">{html}</span>' if html else ""


def _outcomes(record: JobRecord) -> str:
    """Return how lines ended, if not all of them ended alike."""
    counts = list(record.stats.by_outcome.items())
    if len(counts) <= 1 and not record.stats.not_ok:
        return ""
    said = " · ".join(f"{count:,} {_text(word)}" for word, count in counts[:ROWS_MAX])
    return f"<div>{said}</div>" if said else ""


def _track(share: float, colour: str) -> str:
    width = f"width:{100 * share:.1f}%;height:6px;border-radius:3px;background:{colour}"
    return f'<div style="{_TRACK}"><div style="{width}"></div></div>'


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of which the last column alone is wrapped."""
    head = "".join(f'<th style="{_SHORT}">{_text(heading)}</th>' for heading in headings)
    body = "".join(_row(row) for row in rows)
    return f'<table style="{_TABLE}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _row(cells: Sequence[str]) -> str:
    *short, last = cells
    made = [f'<td style="{_SHORT}">{_text(cell)}</td>' for cell in short]
    return f'<tr>{"".join(made)}<td style="{_LONG}">{_text(last)}</td></tr>'


def _shortened(text: str, characters_max: int) -> str:
    return text if len(text) <= characters_max else text[:characters_max] + "…"


def _text(text: str) -> str:
    """Return hostile text as text: no tag, no attribute, nothing that turns the writing round."""
    return escape(clean(text.replace("\n", " ")), quote=True)
