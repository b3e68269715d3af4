"""Of the key: whether it is good, whose it is, what it may do, and how long."""

import re
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import httpx2

from penstock.client.profile import Caller
from penstock.clock import Clock
from penstock.doctor.check import NOT_ALLOWED, Finding, fails, holds, unknown, warns
from penstock.doctor.reach import object_of

EXPIRY_DAYS_WARNED: Final = 14
_DAY_SECONDS: Final = 86_400
_ALL: Final = "*"
_KEY_ID: Final = re.compile(r"pk_([0-9A-Za-z]{8})_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}")
_NOBODY: Final = "00000000"
"""Where the key does not tell its id: what is answered for an unknown one still tells whether the
caller is known."""

_WHO: Final = re.compile(r"Its user is (\S+) of the organisation (\S+); the key may do: ([^.]*)\.")
"""How the server says what a key may do when it refuses it something."""


def look(caller: Caller, http: httpx2.Client, clock: Clock) -> list[Finding]:
    """Ask what the server tells a key about itself; nothing is changed by it."""
    if caller.key is None:
        todo = "set PENSTOCK_API_KEY, or keep it in a profile (penstock auth login)"
        return [fails("key", f"there is none for {caller.url}", todo, NOT_ALLOWED)]
    if not (caller.key.isascii() and caller.key.isprintable() and " " not in caller.key):
        todo = "copy it again, without blanks and line ends"
        return [fails("key", "it has characters that cannot be sent", todo, NOT_ALLOWED)]
    found = _KEY_ID.fullmatch(caller.key)
    key_id = found[1] if found else _NOBODY
    headers = {"Authorization": f"Bearer {caller.key}", "Accept": "application/json"}
    if caller.organization is not None:
        headers["X-Organization-ID"] = caller.organization
    base = caller.url.rstrip("/")
    try:
        answer = http.get(f"{base}/api/v1/keys/{quote(key_id, safe='')}", headers=headers)
        usage = http.get(f"{base}/api/v1/usage", headers=headers)
    except httpx2.RequestError as error:
        return [unknown("key", f"the connection broke: {str(error) or type(error).__name__}")]
    org_id = str(object_of(usage).get("org_id") or "") if usage.is_success else ""
    return _judged(answer, key_id, org_id, clock.now())


def _judged(answer: httpx2.Response, key_id: str, org_id: str, now: float) -> list[Finding]:
    said = object_of(answer)
    code = said.get("code")
    shown = "of another form" if key_id == _NOBODY else key_id
    if answer.is_success:
        of_org = f" of {org_id}" if org_id else ""
        saw = f"{shown} is good; its user is {said.get('user_id')}{of_org}"
        scopes = said.get("scopes")
        return [
            holds("key", saw, id=key_id, org_id=org_id, user_id=said.get("user_id")),
            _scopes(scopes if isinstance(scopes, list) else []),
            _expiry(said.get("expires_at"), now),
        ]
    if answer.status_code == httpx2.codes.NOT_FOUND:
        # Known, and nothing of it is visible: a key that the operator chose, such as dev's.
        of_org = f"; it acts for {org_id}" if org_id else ""
        saw = f"{shown} is good{of_org}"
        return [
            holds("key", saw, org_id=org_id),
            unknown("scopes", "the server does not tell them"),
        ]
    if code == "scope_missing":
        return _of_refusal(str(said.get("hint") or ""), shown)
    if answer.status_code in {httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN}:
        message = str(said.get("error") or said.get("message") or answer.status_code)
        return [fails("key", f"{shown}: {message}", _mending(code), NOT_ALLOWED)]
    return [unknown("key", f"the server answered {answer.status_code} to the question")]


def _of_refusal(hint: str, shown: str) -> list[Finding]:
    """Read what a key may do from why it was refused: it cannot look at keys, and is good."""
    found = _WHO.search(hint)
    if found is None:
        return [
            holds("key", f"{shown} is good"),
            unknown("scopes", "the server does not tell them"),
        ]
    role, org_id, scopes = found.groups()
    return [
        holds("key", f"{shown} is good; its user is {role} of {org_id}", org_id=org_id),
        _scopes([] if scopes == "nothing" else scopes.split(", ")),
        unknown("expiry", "the key may not see it (keys:read)"),
    ]


def _scopes(scopes: list[Any]) -> Finding:
    names = sorted(str(scope) for scope in scopes)
    if _ALL in names:
        return holds("scopes", "all that its user may do", scopes=names)
    saw = " ".join(names) or "none"
    missing = [scope for scope in ("jobs:read", "jobs:write") if scope not in names]
    if missing:
        todo = f"it lacks {' and '.join(missing)}: enough for some, not for submitting and reading"
        return warns("scopes", saw, todo, scopes=names)
    return holds("scopes", saw, scopes=names)


def _expiry(ends_at: object, now: float) -> Finding:
    if not isinstance(ends_at, (int, float)):
        return holds("expiry", "never")
    days = int((ends_at - now) // _DAY_SECONDS)
    day = datetime.fromtimestamp(ends_at, UTC).strftime("%Y-%m-%d")
    if days < EXPIRY_DAYS_WARNED:
        todo = "penstock keys rotate: both work for a day"
        return warns("expiry", f"in {days} days, on {day}", todo, days=days)
    return holds("expiry", f"in {days} days, on {day}", days=days)


def _mending(code: object) -> str:
    if code == "organization_forbidden":
        return "leave the organization out (PENSTOCK_ORGANIZATION, the profile), or use its own key"
    if code in {"key_expired", "key_revoked"}:
        return "have a new one made: penstock keys create"
    return "check that it is this server's key: penstock keys create makes one there"
