"""Which jobs a list asks for: its filters, and the cursor that leads to its next page."""

import base64
import binascii
import hashlib
import math
import re
from typing import Final

import msgspec
from starlette.datastructures import QueryParams

from penstock.api.naming import read_naming
from penstock.core.job import ID_PREFIX, Job
from penstock.core.limits import Limits
from penstock.core.models import REQUEST_QUEUE_MODEL
from penstock.core.state import states_of
from penstock.errors import InvalidRequest
from penstock.store.jobs import Page

PREFIX: Final = "prefix"
NAME_PREFIX: Final = "name_prefix"
PAGE_LIMIT: Final = 50
PAGE_LIMIT_MAX: Final = 200
_OFFSET_MAX: Final = 10_000_000
_STATUSES: Final = ("queued", "processing", "success", "failed", "cancelled")
_ID: Final = re.compile(r"[a-z0-9_]{0,64}")
_MARK_CHARACTERS: Final = 16


def read_page(query: QueryParams, limits: Limits) -> Page | None:
    """Read the filters; None if they select nothing that could exist."""
    states = None
    status = query.get("status")
    if status is not None:
        states = states_of(status)
        if not states:
            raise InvalidRequest(
                f"The status {status[:40]!r} does not exist.",
                code="invalid_parameter",
                hint=f"Use one of: {', '.join(_STATUSES)}.",
            )
    naming = read_naming(query, limits)
    prefix, name_prefix = query.get(PREFIX, ""), query.get(NAME_PREFIX, "")
    page = Page(
        states=states,
        name=naming.name,
        name_prefix=name_prefix or None,
        labels=tuple(naming.labels.items()),
        # All ids begin alike; so far it is no filter.
        id_prefix=None if ID_PREFIX.startswith(prefix) else prefix,
        # A large page is clamped and not refused: the answer says what it holds.
        limit=min(_whole(query.get("limit"), "limit", PAGE_LIMIT, 1), PAGE_LIMIT_MAX),
        offset=min(_whole(query.get("offset"), "offset", 0, 0), _OFFSET_MAX),
    )
    cursor = query.get("cursor")
    if cursor is not None:
        page = msgspec.structs.replace(page, before=_read_cursor(cursor, page))
    model = query.get("model_id") or query.get("model")
    is_ours = model is None or model.lower() == REQUEST_QUEUE_MODEL.lower()
    could_be = _ID.fullmatch(prefix) and name_prefix.isprintable()
    return page if is_ours and could_be else None


def cursor_after(last: Job, page: Page) -> str:
    """Return what leads on from the last job of a page, in a list with the same filters."""
    # Hex keeps every bit of the time; decimal text would skip or repeat a job on a tie.
    text = f"{last.created_at.hex()} {last.id} {_mark(page)}".rstrip()
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _mark(page: Page) -> str:
    """Return what tells filters by name, label and beginning apart; nothing if there are none.

    Each state is in the same order as all of them together, so one may be left out on the way.
    """
    said = (page.name, page.name_prefix, sorted(page.labels), page.id_prefix)
    if not any(said):
        return ""
    return hashlib.sha256(msgspec.json.encode(said)).hexdigest()[:_MARK_CHARACTERS]


def _read_cursor(cursor: str, page: Page) -> tuple[float, str]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        created_at, _, rest = text.partition(" ")
        job_id, _, mark = rest.partition(" ")
        before = float.fromhex(created_at)
    except (binascii.Error, ValueError, OverflowError) as error:
        raise _bad_cursor() from error
    if not math.isfinite(before):
        raise _bad_cursor()
    if mark != _mark(page):
        raise InvalidRequest(
            "The cursor is one of a list with other filters.",
            code="invalid_parameter",
            hint="Send the same name, labels and prefixes with each page, or begin again.",
        )
    return before, job_id


def _bad_cursor() -> InvalidRequest:
    return InvalidRequest(
        "The cursor is not one that a list answered.",
        code="invalid_parameter",
        hint="Begin again without a cursor.",
    )


def _whole(text: str | None, name: str, default: int, least: int) -> int:
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 12) or int(text) < least:  # noqa: PLR2004
        raise InvalidRequest(
            f"The parameter {name} is not a whole number of at least {least}.",
            code="invalid_parameter",
        )
    return int(text)
