"""Fault rules: what shall go wrong, for which calls, how often.

Rules are stored, so that a restart of the emulator does not heal what a test has broken. Every
strike is counted and noted: a test that never met its fault proves nothing.
"""

import hashlib
import threading
from collections import deque
from fnmatch import fnmatchcase
from typing import Final, Literal, NamedTuple

import msgspec

from penstock.emulator.database import Database
from penstock.emulator.log import EventLog

RULES_MAX: Final = 1000
"""Every call looks at every rule."""
HITS_MAX: Final = 10_000
"""So many strikes are remembered; `used` of a rule counts all of them."""

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
    "about_bucket",
    "about_model",
    "about_project",
    "job_input",
    "job_output",
]
OutputFault = Literal[
    "missing-rows",
    "none",
    "empty-shard",
    "missing-shard",
    "duplicate-rows",
    "conflicting-rows",
    "foreign-rows",
    "unordered",
    "truncated-line",
    "invalid-json",
    "invalid-utf8",
    "huge-row",
    "bad-usage",
    "no-usage",
    "growing",
]


class Subject(NamedTuple):
    """What a call is about, as far as it is known."""

    display_name: str | None = None
    path: str | None = None
    state: str | None = None
    """The true state of the job."""
    number: int | None = None
    """The job's sequence number, where a decision must be the same whenever it is asked for."""
    is_conditional: bool = False
    body_bytes: int | None = None
    """The bytes of the body that goes in or out; None where none does."""
    is_plain: bool = True
    """Whether the body is the object's bytes and nothing else."""
    is_known: bool = False
    """Whether the client was told the job's present state before."""


_NO_SUBJECT: Final = Subject()
_UNHEARD: Final = frozenset(
    {"job_input", "job_output", "about_bucket", "about_model", "about_project"}
)
"""What the service does by itself, and what clients ask beside their work; a rule has to name
these."""


class When(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Which calls a rule means: a missing member means all; the globs know `*`, `?` and `[…]`."""

    call: Call | None = None
    display_name: str | None = None
    path: str | None = None
    state: str | None = None
    conditional: bool | None = None

    def fits(self, call: str | None, subject: Subject) -> bool:
        """Whether a call is meant."""
        if call in _UNHEARD and self.call != call:
            return False
        if self.call is not None and call is not None and self.call != call:
            return False
        if self.conditional is not None and self.conditional != subject.is_conditional:
            return False
        globs = (
            (self.display_name, subject.display_name),
            (self.path, subject.path),
            (self.state, subject.state),
        )
        return all(glob is None or fnmatchcase(text or "", glob) for glob, text in globs)


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
    drop_by: Literal["fin", "rst", "truncation"] | None = None
    hang_seconds: float | None = None
    delay_seconds: float = 0.0
    land_after_seconds: float | None = None
    duplicate: bool = False
    stale_seconds: float | None = None
    # The body of an object on its way.
    corrupt: bool = False
    cut_after_bytes: int | None = None
    status_after_bytes: int | None = None
    stall_seconds: float | None = None
    stall_after_bytes: int = 0
    wrong_crc32c: bool = False
    # What get and list say.
    state: str | None = None
    backwards: bool = False
    stats: dict[str, str] | None = None
    forget: bool = False
    # The job.
    hold: Literal["queued", "pending", "running"] | None = None
    overdue: bool = False
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
    cut: bool = False
    output: OutputFault | None = None
    share: float = 0.25
    row_bytes: int = 50_000_000
    steps: int = 2
    replace: bool = False

    def reaches(self, subject: Subject) -> bool:
        """Whether the body of the call is there, and long enough, for this to happen at all."""
        least = [limit for limit in (self.cut_after_bytes, self.status_after_bytes) if limit]
        if self.corrupt or self.cut_after_bytes == 0:
            least.append(0)
        if self.stall_seconds is not None:
            least.append(self.stall_after_bytes)
        if self.corrupt and not subject.is_plain:
            return False
        if self.backwards and not subject.is_known:
            return False
        return not least or (subject.body_bytes is not None and subject.body_bytes > max(least))


class Rule(msgspec.Struct, kw_only=True):
    """A rule with its life: `times` left (None: for ever), `used` so far."""

    id: str
    when: When
    then: Then
    fault: str | None = None
    times: int | None = None
    skip: int = 0
    """How many fitting calls or jobs are spared first."""
    rate: float | None = None
    """The probability of each strike; None: always."""
    seed: int = 0
    seen: int = 0
    """How many calls or jobs fitted, spared ones included."""
    used: int = 0
    first_job: int = 0
    """How many jobs there were before the rule."""
    jobs: dict[int, bool] = {}
    """What a lasting fault has decided for each job that it met."""


class RuleBody(msgspec.Struct, frozen=True, kw_only=True):
    """A rule as it is asked for, checked and with its names resolved (see `named`)."""

    then: Then
    when: When = When()
    fault: str | None = None
    times: int | None = None
    skip: int = 0
    rate: float | None = None
    seed: int = 0


class Hit(NamedTuple):
    """One strike."""

    rule: str
    fault: str | None
    call: str | None
    display_name: str | None
    path: str | None


class OutputOrder(NamedTuple):
    """One fault of a job's output, with the seed that chooses its rows."""

    rule: str
    then: Then
    seed: int


_HTTP_MEMBERS: Final = (
    "status",
    "body",
    "drop",
    "hang_seconds",
    "delay_seconds",
    "land_after_seconds",
    "duplicate",
    "stale_seconds",
    "corrupt",
    "cut_after_bytes",
    "stall_seconds",
    "wrong_crc32c",
)
_SAYING_MEMBERS: Final = ("state", "backwards", "stats")


class Faults:
    """All rules, in the order in which they were made."""

    def __init__(self, database: Database, log: EventLog) -> None:
        self._database = database
        self._log = log
        self._lock = threading.Lock()
        self._hits: deque[Hit] = deque(maxlen=HITS_MAX)
        stored = database.setting("rules")
        self._rules = [] if stored is None else msgspec.json.decode(stored, type=list[Rule])

    def add(self, body: RuleBody) -> Rule:
        """Make a rule and give it its id; OverflowError if there are too many."""
        with self._lock:
            if len(self._rules) >= RULES_MAX:
                raise OverflowError(f"there are {RULES_MAX} rules already; remove some")
            number = self._database.count("rules_made")
            made = self._database.counters().get("jobs_made", 0)
            members = {name: getattr(body, name) for name in RuleBody.__struct_fields__}
            rule = Rule(id=str(number), first_job=made, **members)
            self._rules.append(rule)
            self._save()
        return rule

    def rules(self) -> list[Rule]:
        """A copy of the list."""
        with self._lock:
            return list(self._rules)

    def hits(self, rule_id: str | None = None) -> list[Hit]:
        """The last strikes, oldest first: of one rule, or of all."""
        with self._lock:
            return [hit for hit in self._hits if rule_id is None or hit.rule == rule_id]

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

    def saying(self, call: Call, subject: Subject) -> Then | None:
        """The first live rule that changes what is said about a job; takes one of its times."""
        return self._take(_SAYING_MEMBERS, call, subject)

    def take(
        self, member: str, call: Call | None = None, subject: Subject = _NO_SUBJECT
    ) -> Then | None:
        """The first live rule that sets `member`; takes one of its times."""
        return self._take((member,), call, subject)

    def outputs(self, subject: Subject) -> list[OutputOrder]:
        """What shall be wrong with the output of a job; takes one of the times of each rule."""
        with self._lock:
            orders = []
            for rule in self._rules:
                if rule.then.output is not None and self._meets(rule, None, subject):
                    self._strike(rule, "job_output", subject)
                    orders.append(OutputOrder(rule.id, rule.then, rule.seed))
            return orders

    def peek(self, member: str, call: Call | None, subject: Subject) -> Then | None:
        """The first rule that sets `member` for this job, asked as often as one likes.

        A rule decides once for each job: `times`, `skip` and `rate` count jobs here.
        """
        with self._lock:
            for rule in self._rules:
                if _is_set(getattr(rule.then, member)) and self._lasts(rule, call, subject):
                    return rule.then
            return None

    def _lasts(self, rule: Rule, call: Call | None, subject: Subject) -> bool:
        if not rule.when.fits(call, subject):
            return False
        number = subject.number or 0
        if number not in rule.jobs:
            rule.jobs[number] = self._meets(rule, call, subject)
            if rule.jobs[number]:
                self._strike(rule, call, subject)
        return rule.jobs[number]

    def _take(self, members: tuple[str, ...], call: Call | None, subject: Subject) -> Then | None:
        with self._lock:
            for rule in self._rules:
                if not any(_is_set(getattr(rule.then, m)) for m in members):
                    continue
                if self._meets(rule, call, subject):
                    self._strike(rule, call, subject)
                    return rule.then
            return None

    def _meets(self, rule: Rule, call: Call | None, subject: Subject) -> bool:
        """Whether the rule strikes; a call or job that it spares is counted, too."""
        if not _may_strike(rule, call, subject):
            return False
        spared = rule.seen
        rule.seen += 1
        if spared < rule.skip or not _is_drawn(rule, subject):
            self._save()
            return False
        return True

    def _strike(self, rule: Rule, call: Call | None, subject: Subject) -> None:
        rule.used += 1
        if rule.times is not None:
            rule.times -= 1
        self._save()
        hit = Hit(rule.id, rule.fault, call, subject.display_name, subject.path)
        self._hits.append(hit)
        self._log.write("fault_struck", **hit._asdict())


def _may_strike(rule: Rule, call: Call | None, subject: Subject) -> bool:
    if rule.times is not None and rule.times <= 0:
        return False
    return rule.when.fits(call, subject) and rule.then.reaches(subject)


def _is_drawn(rule: Rule, subject: Subject) -> bool:
    """Decide by the seed: for a job by its number, for a call by how many came before it.

    The same seed and the same sequence of calls give the same faults, in any emulator.
    """
    if rule.rate is None:
        return True
    number = rule.seen if subject.number is None else subject.number - rule.first_job
    what = rule.fault or msgspec.json.encode(rule.then).decode()
    text = f"{rule.seed}|{what}|{rule.when.call}|{number}".encode()
    drawn = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())
    return drawn < rule.rate * 2**64


def _is_set(value: object) -> bool:
    # 0 is a value (the first shard, no rows); False and a delay of 0.0 are not.
    return (
        value is not None and value is not False and not (value == 0 and isinstance(value, float))
    )
