"""Fault rules: what shall go wrong, for which calls, how often.

Rules are stored, so that a restart of the emulator does not heal what a test has broken.
"""

import threading
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

import msgspec

from penstock.emulator.database import Database

Call = Literal[
    "create",
    "get",
    "list",
    "cancel",
    "delete",
    "object_read",
    "object_write",
    "object_list",
    "object_delete",
    "job_input",
    "job_output",
]


class When(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which calls a rule means: a missing member means all; the globs know `*`, `?` and `[…]`."""

    call: Call | None = None
    display_name: str | None = None
    path: str | None = None

    def fits(self, call: str | None, display_name: str | None, path: str | None) -> bool:
        """Whether a call is meant; `path` is `bucket/name`."""
        if self.call is not None and call is not None and self.call != call:
            return False
        if self.display_name is not None and not fnmatchcase(display_name or "", self.display_name):
            return False
        return self.path is None or fnmatchcase(path or "", self.path)


class Then(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What happens. docs/emulator.md explains each member."""

    # The HTTP call.
    status: int | None = None
    body: str | None = None
    retry_after: int | None = None
    after: bool = False
    drop: Literal["before", "after"] | None = None
    delay_seconds: float = 0.0
    land_after_seconds: float | None = None
    duplicate: bool = False
    stale_seconds: float | None = None
    corrupt: bool = False
    cut_after_bytes: int | None = None
    # What get and list say.
    state: str | None = None
    # The job.
    hold: Literal["queued", "pending", "running"] | None = None
    finish: str | None = None
    error: dict[str, int | str] | None = None
    rows: float | None = None
    # The output.
    shards: int | None = None
    missing_shard: int | None = None
    no_total: bool = False
    retype: bool = False
    incremental: bool = False
    partial: bool = False


class Rule(msgspec.Struct, kw_only=True):
    """A rule with its life: `times` left (None: for ever), `used` so far."""

    id: str
    when: When
    then: Then
    times: int | None = None
    used: int = 0


class RuleBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the control API takes."""

    then: Then
    when: When = When()
    times: int | None = None


class Subject(NamedTuple):
    """What a call is about, as far as it is known."""

    display_name: str | None = None
    path: str | None = None


_HTTP_MEMBERS = (
    "status",
    "body",
    "drop",
    "delay_seconds",
    "land_after_seconds",
    "duplicate",
    "stale_seconds",
    "corrupt",
    "cut_after_bytes",
)
_NO_SUBJECT = Subject()


class Faults:
    """All rules, in the order in which they were made."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        stored = database.setting("rules")
        self._rules = [] if stored is None else msgspec.json.decode(stored, type=list[Rule])

    def add(self, body: RuleBody) -> Rule:
        """Make a rule and give it its id."""
        with self._lock:
            number = self._database.count("rules_made")
            rule = Rule(id=str(number), when=body.when, then=body.then, times=body.times)
            self._rules.append(rule)
            self._save()
        return rule

    def rules(self) -> list[Rule]:
        """A copy of the list."""
        with self._lock:
            return list(self._rules)

    def remove(self, rule_id: str | None = None) -> int:
        """Remove one rule, or all without an id; gives how many went."""
        with self._lock:
            before = len(self._rules)
            self._rules = [r for r in self._rules if rule_id is not None and r.id != rule_id]
            self._save()
            return before - len(self._rules)

    def _save(self) -> None:
        self._database.set_setting("rules", msgspec.json.encode(self._rules).decode())

    def http(self, call: Call, subject: Subject = _NO_SUBJECT) -> Then | None:
        """The first live rule that does something to this HTTP call; takes one of its times."""
        return self._take(_HTTP_MEMBERS, call, subject)

    def take(
        self, member: str, call: Call | None = None, subject: Subject = _NO_SUBJECT
    ) -> Then | None:
        """The first live rule that sets `member`; takes one of its times."""
        return self._take((member,), call, subject)

    def peek(
        self, member: str, call: Call | None = None, subject: Subject = _NO_SUBJECT
    ) -> Then | None:
        """Like `take`, but the rule keeps its times (a hold lasts until it is removed)."""
        with self._lock:
            rule = self._find((member,), call, subject)
            return None if rule is None else rule.then

    def _take(self, members: tuple[str, ...], call: Call | None, subject: Subject) -> Then | None:
        with self._lock:
            rule = self._find(members, call, subject)
            if rule is None:
                return None
            rule.used += 1
            if rule.times is not None:
                rule.times -= 1
                self._save()
            return rule.then

    def _find(self, members: tuple[str, ...], call: Call | None, subject: Subject) -> Rule | None:
        for rule in self._rules:
            if rule.times is not None and rule.times <= 0:
                continue
            if not any(_is_set(getattr(rule.then, m)) for m in members):
                continue
            if rule.when.fits(call, subject.display_name, subject.path):
                return rule
        return None


def _is_set(value: object) -> bool:
    # 0 is a value (the first shard, no rows); False and a delay of 0.0 are not.
    return (
        value is not None and value is not False and not (value == 0 and isinstance(value, float))
    )
