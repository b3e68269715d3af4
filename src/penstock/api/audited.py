"""Every authenticated call that would change something leaves exactly one row in the audit log.

What is done is recorded by the store, in the transaction that does it. What is refused changes
nothing and has no transaction, so `audited` around the route's work records it:

    principal = await authenticator.identify(request)
    async with audited(audit, clock, principal, "key.create"):
        principal.require(Scope.KEYS_WRITE)
        ...  # read the body, call one mutating method of the store, nothing that refuses after it

Calls that failed by our fault (5xx) and callers who went away have no row, unless the change was
committed.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from penstock.api.auth import Principal
from penstock.clock import Clock
from penstock.errors import Refused
from penstock.store.audit import Audit

TARGET_CHARS_MAX: Final = 128
"""Of what the caller says that he wants to change: ids of ours are shorter, lies may be longer."""


@asynccontextmanager
async def audited(
    audit: Audit, clock: Clock, principal: Principal, action: str, target: str = ""
) -> AsyncIterator[None]:
    """Record the refusal of what happens inside, if it is refused; the error goes on."""
    try:
        yield
    except Refused as refusal:
        await audit.refused(
            principal.actor, clock.now(), action, printable(target), refusal.error_code
        )
        raise


def printable(target: str) -> str:
    """Return an id that a client made up as text that any database and terminal takes."""
    plain = target.encode("ascii", "backslashreplace").decode("ascii")
    shown = "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in plain)
    return shown[:TARGET_CHARS_MAX]
