"""How far a job is, drawn as one line of text: functions of a record, a width and a time.

Much of what is drawn comes from elsewhere, so whatever could move a cursor is written out, and
cells are counted as a terminal counts them. What does not fit goes, the least important first.
"""

import textwrap
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Final

import msgspec

from penstock.client.models import JobRecord
from penstock.client.screen import begin, cells, clean
from penstock.client.waiting import Waiting

WIDTH_MIN: Final = 20
"""A terminal that says it is narrower is drawn on as if it had so many columns."""

_BAR_CELLS_MIN: Final = 6
_BAR_CELLS_MAX: Final = 30
_GAP: Final = "  "
_KILOBYTE: Final = 1_000
_MEGABYTE: Final = 1_000_000
_MINUTE_SECONDS: Final = 60
_HOUR_SECONDS: Final = 3600
_DAY_SECONDS: Final = 86_400
_CENT: Final = Decimal("0.01")
_FORTUNE: Final = Decimal(10) ** 15

_RED: Final = "31"
_GREEN: Final = "32"
_YELLOW: Final = "33"
_DIM: Final = "2"
_STATE_COLOURS: Final = {"success": _GREEN, "failed": _RED, "cancelled": _YELLOW}

_REASONS: Final = {
    "our_queue": "in our queue",
    "sending": "being sent",
    "provider_queue": "waiting at the provider",
    "provider_run": "running at the provider",
    "collecting": "putting the output together",
    "cancelling": "being cancelled",
}


class Style(msgspec.Struct, frozen=True, kw_only=True):
    """What the place that is drawn on can show."""

    colour: bool = False
    is_unicode: bool = True
    has_bar: bool = True
    """A log has none: bars are for eyes that see them move."""


PLAIN: Final = Style()


class _Piece(msgspec.Struct, frozen=True):
    """A part of a line; that with the highest `rank` is the first to go."""

    text: str
    rank: int
    colour: str = ""


def cut(text: str, width: int, *, is_unicode: bool = True) -> str:
    """Return as much of the text as fits, with an ellipsis where something is missing."""
    if cells(text) <= width:
        return text
    mark = "…" if is_unicode else "..."
    return begin(text, width - len(mark)).rstrip() + mark


def duration(seconds: float) -> str:
    """Return a time that has passed, as 0:07, 12:30 or 2:03:09."""
    minutes, rest = divmod(max(int(seconds), 0), _MINUTE_SECONDS)
    hours, minutes = divmod(minutes, _MINUTE_SECONDS)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def roughly(seconds: float) -> str:
    """Return a time that nobody knows exactly, as 4 min, 2 h 10 min or 1 d 4 h."""
    if seconds < _MINUTE_SECONDS:
        return "under 1 min"
    if seconds < _HOUR_SECONDS:
        return f"{round(seconds / _MINUTE_SECONDS)} min"
    if seconds < _DAY_SECONDS:
        hours, rest = divmod(int(seconds), _HOUR_SECONDS)
        minutes = rest // _MINUTE_SECONDS
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, rest = divmod(int(seconds), _DAY_SECONDS)
    hours = rest // _HOUR_SECONDS
    return f"{days} d {hours} h" if hours else f"{days} d"


def dollars(amount: str) -> str:
    """Return an amount for people: cents, or the first two digits of what is less than a cent."""
    try:
        exact = Decimal(amount)
    except InvalidOperation:
        return f"${clean(amount)}"
    if not exact.is_finite() or abs(exact) >= _FORTUNE:
        # No amount at all; written out it could be as long as its exponent.
        return f"${clean(amount)}"
    if not exact or abs(exact) >= _CENT:
        return f"${exact:,.2f}"
    return f"${exact:.2g}" if abs(exact) >= Decimal("0.0001") else "under $0.0001"


def finished(record: JobRecord) -> int:
    """Return how many lines have ended, however they did."""
    stats = record.stats
    return stats.successful_count + stats.failed_count


def fraction(record: JobRecord) -> float | None:
    """Return how much of a job is done, from 0 to 1; None while nobody has counted."""
    total = record.stats.total_count
    return min(finished(record) / total, 1.0) if total else None


def money(record: JobRecord) -> str:
    """Return what the job did cost, or has so far, else what it is expected to, else nothing."""
    outcome = record.outcome
    actual = outcome.actual_cost_usd if outcome else None
    if actual and (record.done or actual.strip("0.")):
        return dollars(actual) if record.done else f"{dollars(actual)} so far"
    expected = record.estimate.cost_usd if record.estimate else None
    return f"est. {dollars(expected.expected)}" if expected else ""


def left(record: JobRecord, now_seconds: float | None) -> str:
    """Return how long it is likely to take yet, or nothing where nobody knows."""
    eta = record.waiting.eta if record.waiting else None
    if eta is None or now_seconds is None or record.done:
        return ""
    seconds = eta.expected_at - now_seconds
    return f"~{roughly(seconds)} left" if seconds > 0 else "due any moment"


def reason(record: JobRecord) -> str:
    """Return in a few words why an open job is not done yet."""
    if record.done:
        return ""
    if record.waiting is not None and record.waiting.reason:
        return _reason(record.waiting)
    return detail(record)


def detail(record: JobRecord) -> str:
    """Return the server's own sentence about an open job, or what it says of a failure."""
    if record.done:
        return clean(record.reason)
    return clean(record.status_detail) if isinstance(record.status_detail, str) else ""


def detail_lines(record: JobRecord, width: int) -> list[str]:
    """Return the server's sentence, wrapped; for those who have more than one line to draw on."""
    return textwrap.wrap(detail(record), max(width, WIDTH_MIN))


def job_line(
    record: JobRecord,
    width: int,
    elapsed_seconds: float,
    *,
    now_seconds: float | None = None,
    style: Style = PLAIN,
) -> str:
    """Return a job in one line of at most so many columns.

    `now_seconds` is the time of day (Unix), which an ETA needs; without it there is none.
    """
    stats = record.stats
    done, total = finished(record), stats.total_count
    share = fraction(record)
    pieces = [_Piece(clean(record.status), 0, _STATE_COLOURS.get(record.status, ""))]
    if total:
        counted = f"{done:,}/{total:,}" if done or record.done else _lines(total)
        pieces.append(_Piece(counted, 1))
    if share is not None and done and not record.done:
        pieces.append(_Piece(f"{100 * share:.0f} %", 3))
    if stats.not_ok:
        pieces.append(_Piece(f"{stats.not_ok:,} not ok", 2, _RED))
    pieces += [_Piece(money(record), 6), _Piece(left(record, now_seconds), 5)]
    pieces += [_Piece(reason(record), 7, _DIM), _Piece(duration(elapsed_seconds), 4, _DIM)]
    shown = None if record.done or not done else share
    return _drawn(pieces, width, shown, style)


def transfer_line(
    verb: str,
    done_bytes: int,
    total_bytes: int | None,
    width: int,
    *,
    elapsed_seconds: float = 0.0,
    style: Style = PLAIN,
) -> str:
    """Return how far an upload or a download is, such as "sent 1.5 of 3.0 MB  50 %"."""
    unit, size = (
        ("MB", _MEGABYTE) if max(done_bytes, total_bytes or 0) >= _MEGABYTE else ("kB", _KILOBYTE)
    )
    sent = f"{done_bytes / size:,.1f}"
    pieces = [_Piece(clean(verb), 0)]
    share = None
    if total_bytes:
        share = min(done_bytes / total_bytes, 1.0)
        pieces.append(_Piece(f"{sent} of {total_bytes / size:,.1f} {unit}", 1))
        pieces.append(_Piece(f"{100 * share:.0f} %", 2))
    else:
        pieces.append(_Piece(f"{sent} {unit}", 1))
    if elapsed_seconds >= 1:
        speed = done_bytes / elapsed_seconds / _MEGABYTE
        pieces.append(_Piece(f"{speed:,.1f} MB/s", 3, _DIM))
    return _drawn(pieces, width, share, style)


def count_line(what: str, done: int, total: int, width: int, *, style: Style = PLAIN) -> str:
    """Return how many things are done, such as "3 of 12 pictures"."""
    share = min(done / total, 1.0) if total else None
    return _drawn([_Piece(f"{done:,} of {total:,} {clean(what)}", 0)], width, share, style)


def bar(share: float, width: int, *, style: Style = PLAIN) -> str:
    """Return a bar of so many columns, as full as the share says."""
    full = int(share * width)
    if not style.is_unicode:
        return "#" * full + "-" * (width - full)
    return "█" * full + "░" * (width - full)


def _reason(waiting: Waiting) -> str:
    """Return the reason in words; a newer server's is shown as it is."""
    if waiting.reason == "shards" and waiting.shards is not None:
        return f"{waiting.shards.ended:,} of {waiting.shards.of:,} parts done"
    text = _REASONS.get(waiting.reason) or clean(waiting.reason.replace("_", " "))
    place = waiting.position
    if waiting.reason == "our_queue" and place is not None and place.number:
        text += f", {place.number:,} of {place.of:,}"
    if waiting.round is not None and waiting.round.number > 1:
        text += f", round {waiting.round.number}"
    return text + (" (slow)" if waiting.slow_since is not None else "")


def _drawn(pieces: Sequence[_Piece], width: int, share: float | None, style: Style) -> str:
    """Return the pieces that fit, and between the first and the others a bar if there is room."""
    width = max(width, WIDTH_MIN)
    kept = [piece for piece in pieces if piece.text]
    while len(kept) > 1 and _width(kept) > width:
        kept.remove(max(kept, key=lambda piece: piece.rank))
    first, *others = kept
    head = cut(first.text, width, is_unicode=style.is_unicode)
    texts = [_coloured(head, first.colour, style)]
    room = width - _width(kept) - len(_GAP)
    if style.has_bar and share is not None and room >= _BAR_CELLS_MIN:
        texts.append(bar(share, min(room, _BAR_CELLS_MAX), style=style))
    texts += [_coloured(piece.text, piece.colour, style) for piece in others]
    return _GAP.join(texts)


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count:,} lines"


def _width(pieces: Sequence[_Piece]) -> int:
    return sum(cells(piece.text) for piece in pieces) + len(_GAP) * (len(pieces) - 1)


def _coloured(text: str, colour: str, style: Style) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if style.colour and colour else text
