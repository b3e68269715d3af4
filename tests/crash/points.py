"""The named points, and what a client has to do so that a server reaches each."""

import ast
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

import penstock
from penstock import fault

SOURCES: Final = Path(penstock.__file__).parent
_ROW: Final = re.compile(r"^  ([A-Z]\d+) +([a-z_]+\.[a-z_]+) +(.+)$", re.MULTILINE)

MISSING: Final = {
    "H1-H5": "deletion and retention (no issue yet)",
    "I2": "backup (no issue yet)",
    "I3": "rotation of keys (issue 5)",
}
"""Points of the plan for what does not exist yet."""


class Work(StrEnum):
    """What a client does in one life of a server."""

    PLAIN = "plain"
    """Submits a few lines in one request, whose halves come apart."""
    KEYED = "keyed"
    """Submits the same with an idempotency key, again and again until it is answered."""
    PIECES = "pieces"
    """Submits them in two pieces of a resumable upload."""
    CANCEL = "cancel"
    """Submits a long job and cancels it while it runs."""
    CANCEL_EARLY = "cancel early"
    """Submits a job and cancels it while the create is on its way."""
    NO_CREATE = "no create"
    """Submits a job whose create is cut before it takes effect."""
    NO_ANSWER = "no answer"
    """Submits a job whose create takes effect and is not answered."""
    STOP = "stop"
    """Submits a job and asks the server to end."""
    FRESH = "fresh"
    """Submits to a server that begins with an empty directory."""
    OLD = "old"
    """Submits to a server that begins with a database of the first version."""
    TOLD = "told"
    """Submits a job whose end is told to a webhook."""
    LOOK = "look"
    """Submits a long job and asks for what it has so far."""
    LARGE = "large"
    """Submits lines so long that processes of their own collect the output."""
    CUT = "cut"
    """Submits identical lines as two shards, of which lines fail the first time."""
    RETRIED = "retried"
    """Submits lines that fail the first time, and sends them again by hand."""


_WORK: Final = {
    "accept.claimed": Work.KEYED,
    "accept.durable": Work.KEYED,
    "accept.in_transaction": Work.KEYED,
    "accept.committed": Work.KEYED,
    "accept.half_answered": Work.KEYED,
    "upload.created": Work.PIECES,
    "upload.synced": Work.PIECES,
    "upload.job_chosen": Work.PIECES,
    "upload.job_made": Work.PIECES,
    "reconcile.before_list": Work.NO_ANSWER,
    "reconcile.found": Work.NO_ANSWER,
    "reconcile.input_removed": Work.NO_CREATE,
    "reconcile.settling": Work.NO_CREATE,
    "cancel.wished": Work.CANCEL,
    "cancel.before_provider": Work.CANCEL,
    "cancel.sent": Work.CANCEL,
    "cancel.while_submitting": Work.CANCEL_EARLY,
    "partial.wished": Work.LOOK,
    "partial.read": Work.LOOK,
    "partial.committed": Work.LOOK,
    "partial.recorded": Work.LOOK,
    "webhook.claimed": Work.TOLD,
    "webhook.sent": Work.TOLD,
    "webhook.answered": Work.TOLD,
    "webhook.recorded": Work.TOLD,
    "prepare.object_written": Work.CUT,
    "prepare.twins_kept": Work.CUT,
    "shards.in_transaction": Work.CUT,
    "shards.begun": Work.CUT,
    "again.in_transaction": Work.CUT,
    "again.committed": Work.CUT,
    "reopen.in_transaction": Work.RETRIED,
    "reopen.committed": Work.RETRIED,
    "join.listed": Work.CUT,
    "join.half_written": Work.CUT,
    "join.written": Work.CUT,
    "join.finalised": Work.CUT,
    "join.forgotten": Work.CUT,
    "migrate.between_steps": Work.FRESH,
    "migrate.upgraded": Work.OLD,
    "stop.begun": Work.STOP,
}

BEGINNINGS: Final = frozenset({Work.FRESH, Work.OLD})
"""Work that only a first life can do: in recovery there is nothing to migrate."""

IN_CHILD: Final = frozenset({"accept.half_received", "accept.received", "collect.half_merged"})
"""Points that processes of their own reach: the one that receives, and the collectors of a large
output."""


class Point(msgspec.Struct, frozen=True):
    """One named point."""

    code: str
    name: str
    text: str

    @property
    def family(self) -> str:
        """The letter of the plan."""
        return self.code[0]

    @property
    def work(self) -> Work:
        """What leads there."""
        return _WORK.get(self.name, Work.PLAIN)


def table() -> dict[str, Point]:
    """Return the points of the product's own table, by name and in its order."""
    rows = _ROW.findall(fault.__doc__ or "")
    return {name: Point(code, name, text) for code, name, text in rows}


def called() -> Iterator[str]:
    """Yield each name that the sources call `fault` with, as often as they do."""
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _is_fault(node.func):
                yield from _names(node)


def _is_fault(function: ast.expr) -> bool:
    return isinstance(function, ast.Name) and function.id == "fault"


def _names(call: ast.Call) -> Iterator[str]:
    """Yield the name, or both of `fault("a" if … else "b")`."""
    for argument in call.args:
        choices = [argument]
        if isinstance(argument, ast.IfExp):
            choices = [argument.body, argument.orelse]
        for choice in choices:
            if not isinstance(choice, ast.Constant):
                raise TypeError(f"line {call.lineno}: the name of a point is not written out")
            yield str(choice.value)
