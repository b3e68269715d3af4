"""The faults by name: what they are called, whom they can strike, and which parameters they take.

The names of the object store are those of Google's own storage-testbench. A name is short for a
`then` (see `faults`); docs/emulator.md has the table, and a test holds the two together.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from penstock.emulator.faults import Call, OutputFault, RuleBody, Then, When

SECONDS_MAX: Final = 604_800.0
BODY_CHARACTERS_MAX: Final = 100_000
ROW_BYTES_MAX: Final = 200_000_000
MIX_MAX: Final = 100

Values = dict[str, Any]
_VERTEX: Final[tuple[Call, ...]] = ("create", "get", "list", "cancel", "delete")
_STORE: Final[tuple[Call, ...]] = (
    "object_read",
    "object_write",
    "object_list",
    "object_delete",
)
_WIRE: Final = _VERTEX + _STORE
_BOTH_WAYS: Final[tuple[Call, ...]] = ("object_read", "object_write")
_WRONG_BODY: Final = '{"unexpected": true}'


class BadRule(Exception):
    """A rule that is none; the text says what is wrong and what would be right."""


class Parameter(NamedTuple):
    """A parameter: its value where none is given, and its bounds (of a text: its length)."""

    usual: float | str | bool | None
    least: float = 0
    most: float = SECONDS_MAX

    def read(self, name: str, given: object) -> object:
        """The value; BadRule if it is of another type or out of bounds."""
        kind = type(given)
        wanted = {type(self.usual)} if isinstance(self.usual, str | bool) else {int, float}
        if not isinstance(given, str | bool | int | float) or kind not in wanted:
            names = " or ".join(sorted(each.__name__ for each in wanted))
            raise BadRule(f"`{name}` must be of type {names}")
        size = len(given) if isinstance(given, str) else given
        if not self.least <= size <= self.most:
            raise BadRule(f"`{name}` must be from {self.least} to {self.most}")
        return given


class Named(NamedTuple):
    """One fault of the catalogue."""

    name: str
    """X stands for a status, Y for a number of KiB, T for seconds."""
    group: str
    about: str
    make: Callable[[Values], Then]
    calls: tuple[Call, ...] = ()
    """What it can strike; none: jobs, not calls."""
    is_narrow: bool = False
    """Strikes the first of `calls` only, unless the rule names another."""
    parameters: Mapping[str, Parameter] = MappingProxyType({})

    def pattern(self) -> re.Pattern[str]:
        """What a written name must look like."""
        text = re.escape(self.name)
        for letter, digits in (("X", "[1-5][0-9]{2}"), ("Y", "[0-9]{1,7}"), ("T", "[0-9]{1,6}")):
            text = text.replace(letter, f"(?P<{letter}>{digits})")
        return re.compile(text + r"\Z")


_SHARE: Final = {"share": Parameter(0.25, 0, 1)}
_WHEN_ALIVE: Final = Parameter(None, 0, 1)


def _output(kind: OutputFault, about: str, **parameters: Parameter) -> Named:
    def make(values: Values) -> Then:
        return Then(output=kind, **values)

    return Named(f"output-{kind}", "output", about, make, parameters=parameters)


def _end(state: str, about: str) -> Named:
    def make(values: Values) -> Then:
        return Then(finish=f"JOB_STATE_{state}", rows=values.get("rows"))

    name = f"end-{state.lower().replace('_', '-')}"
    return Named(name, "state", about, make, parameters={"rows": _WHEN_ALIVE})


def _lost(way: str, about: str) -> Named:
    drop_by: Any = way

    def make(_values: Values) -> Then:
        return Then(drop="after", drop_by=drop_by)

    return Named(f"lost-reply-{way}", "create", about, make, _WIRE, is_narrow=True)


def _say(state: str) -> Named:
    def make(_values: Values) -> Then:
        return Then(state=f"JOB_STATE_{state.upper()}")

    about = f"get and list say JOB_STATE_{state.upper()}; the job goes on"
    return Named(f"say-{state}", "state", about, make, ("get", "list"))


def _hold(name: str, hold: Any, about: str, *, overdue: bool = False) -> Named:  # noqa: ANN401 - a Literal
    def make(_values: Values) -> Then:
        return Then(hold=hold, overdue=overdue)

    return Named(name, "state", about, make)


_CREATE: Final = (
    Named(
        "return-X",
        "create",
        "the status X instead of an answer, without effect; on any call",
        lambda v: Then(status=int(v["X"]), retry_after=v.get("retry_after")),
        _WIRE,
        parameters={"retry_after": Parameter(None, 0, 86_400)},
    ),
    Named(
        "return-X-after-effect",
        "create",
        "the status X although the call took effect",
        lambda v: Then(status=int(v["X"]), after=True, retry_after=v.get("retry_after")),
        _WIRE,
        is_narrow=True,
        parameters={"retry_after": Parameter(None, 0, 86_400)},
    ),
    Named(
        "lost-call",
        "create",
        "the connection is cut before the call takes effect",
        lambda _: Then(drop="before"),
        _WIRE,
        is_narrow=True,
    ),
    _lost("fin", "the call takes effect, then the connection is closed without an answer"),
    _lost("rst", "the call takes effect, then the connection is reset"),
    _lost("truncation", "the call takes effect; half of the answer comes, then no more"),
    Named(
        "lost-reply-wrong-body",
        "create",
        "the call takes effect; the answer is 200 with a body that says nothing about it",
        lambda v: Then(body=v["body"], after=True),
        _WIRE,
        is_narrow=True,
        parameters={"body": Parameter(_WRONG_BODY, 0, BODY_CHARACTERS_MAX)},
    ),
    Named(
        "late-landing",
        "create",
        "the answer is lost, and the job appears only `seconds` later on the emulator's clock",
        lambda v: Then(drop="after", land_after_seconds=float(v["seconds"])),
        ("create",),
        is_narrow=True,
        parameters={"seconds": Parameter(60.0, 0, 600)},
    ),
    Named(
        "hang",
        "create",
        "no answer for `seconds` (real ones), then the end of the connection; `after` the effect"
        " or before it",
        lambda v: Then(hang_seconds=float(v["seconds"]), after=v["after"]),
        _WIRE,
        is_narrow=True,
        parameters={"seconds": Parameter(600.0, 0, 3600), "after": Parameter(usual=True)},
    ),
    Named(
        "duplicate",
        "create",
        "one create makes two jobs and answers one",
        lambda _: Then(duplicate=True),
        ("create",),
        is_narrow=True,
    ),
    Named(
        "stale-list",
        "create",
        "jobs younger than `seconds` are not listed",
        lambda v: Then(stale_seconds=float(v["seconds"])),
        ("list",),
        is_narrow=True,
        parameters={"seconds": Parameter(20.0)},
    ),
)
_STATE: Final = (
    _hold("stuck-queued", "queued", "QUEUED until the rule goes; EXPIRED after 72 hours"),
    _hold("stuck-pending", "pending", "PENDING until the rule goes; EXPIRED after 72 hours"),
    _hold("stuck-running", "running", "RUNNING until the rule goes; CANCELLED after 24 hours"),
    _hold("overdue-queued", "queued", "QUEUED, also beyond the 72 hours", overdue=True),
    _hold("overdue-running", "running", "RUNNING, also beyond the 24 hours", overdue=True),
    _end("EXPIRED", "the job expires, with the share `rows` of its rows (a half)"),
    _end("PARTIALLY_SUCCEEDED", "the job ends so, with the share `rows` of its rows (a half)"),
    _end("FAILED", "the job fails with code 13, with the share `rows` of its rows (none)"),
    _end("CANCELLED", "the service itself cancels the job, with the share `rows` (a half)"),
    _say("paused"),
    _say("updating"),
    Named(
        "say-unknown",
        "state",
        "get and list say a state that no document has",
        lambda v: Then(state=v["state"]),
        ("get", "list"),
        parameters={"state": Parameter("JOB_STATE_DREAMING", 1, 200)},
    ),
    Named(
        "backwards",
        "state",
        "a state that was told is followed by an earlier one",
        lambda _: Then(backwards=True),
        ("get", "list"),
    ),
    Named(
        "succeeded-after-cancelling",
        "state",
        "CANCELLING, and then SUCCEEDED with the share `rows` of its rows (all)",
        lambda v: Then(finish="JOB_STATE_SUCCEEDED", rows=v.get("rows")),
        ("cancel",),
        is_narrow=True,
        parameters={"rows": _WHEN_ALIVE},
    ),
    Named(
        "vanish",
        "state",
        "the job is unknown (404, not listed) for so many calls, then it is back",
        lambda _: Then(forget=True),
        ("get", "list", "cancel", "delete"),
    ),
    Named(
        "wrong-stats",
        "state",
        "`completionStats` claims a million good rows and -1 incomplete ones",
        lambda _: Then(stats={"successfulCount": "1000000", "incompleteCount": "-1"}),
        ("get", "list"),
    ),
)
_OUTPUT: Final = (
    _output("missing-rows", "some rows are not written", **_SHARE),
    _output("none", "the folder is named, and nothing is in it"),
    _output("empty-shard", "one of three shards has no byte; its rows are lost"),
    _output("missing-shard", "one of three shards is not there; its rows are lost"),
    _output("duplicate-rows", "some rows stand there twice", **_SHARE),
    _output("conflicting-rows", "some lines have two rows with different answers", **_SHARE),
    _output(
        "foreign-rows",
        "rows of another job stand beside some rows; with `replace` in their place",
        **_SHARE,
        replace=Parameter(usual=False),
    ),
    _output("unordered", "three shards, shuffled by the rule's own seed"),
    _output("truncated-line", "the last row ends in the middle, without a newline"),
    _output("invalid-json", "some rows are cut inside, so that they are not JSON", **_SHARE),
    _output("invalid-utf8", "some rows hold bytes that are not UTF-8", **_SHARE),
    _output(
        "huge-row", "one row of `row_bytes`", row_bytes=Parameter(50_000_000, 1, ROW_BYTES_MAX)
    ),
    _output("bad-usage", "token counts of some rows: negative, 12.5, text, 2^63", **_SHARE),
    _output("no-usage", "some rows have no `usageMetadata`", **_SHARE),
    _output(
        "growing",
        "the job has ended, but a shard grows `steps` times, each time that it is read",
        steps=Parameter(2, 1, 100),
    ),
    Named(
        "export-while-running",
        "output",
        "finished rows stand in the output while the job runs: the share `rows`, or as many as are"
        " done by the clock; with `cut` the last one is half written",
        lambda v: Then(partial=True, rows=v.get("rows"), cut=v["cut"]),
        parameters={"rows": _WHEN_ALIVE, "cut": Parameter(usual=False)},
    ),
)
_STORAGE: Final = (
    Named(
        "return-X-after-YK",
        "store",
        "the status X once more than Y KiB of an upload have come",
        lambda v: Then(status_after_bytes=int(v["Y"]) * 1024, status=int(v["X"])),
        ("object_write",),
        is_narrow=True,
    ),
    Named(
        "return-broken-stream",
        "store",
        "the connection breaks after 4 bytes of the body",
        lambda _: Then(cut_after_bytes=4),
        _BOTH_WAYS,
        is_narrow=True,
    ),
    Named(
        "return-broken-stream-after-YK",
        "store",
        "the connection breaks after Y KiB of the body",
        lambda v: Then(cut_after_bytes=int(v["Y"]) * 1024),
        _BOTH_WAYS,
        is_narrow=True,
    ),
    Named(
        "return-corrupted-data",
        "store",
        "one bit of the body is flipped on its way",
        lambda _: Then(corrupt=True),
        _BOTH_WAYS,
        is_narrow=True,
    ),
    Named(
        "return-reset-connection",
        "store",
        "the connection is reset before the call takes effect",
        lambda _: Then(drop="before", drop_by="rst"),
        _STORE + _VERTEX,
        is_narrow=True,
    ),
    Named(
        "stall-for-Ts-after-YK",
        "store",
        "nothing moves for T seconds (real ones) after Y KiB of the body",
        lambda v: Then(stall_seconds=float(v["T"]), stall_after_bytes=int(v["Y"]) * 1024),
        _BOTH_WAYS,
        is_narrow=True,
    ),
    Named(
        "precondition-failed",
        "store",
        "412 for a write with a precondition, although it holds",
        lambda _: Then(status=412),
        ("object_write", "object_delete"),
        is_narrow=True,
    ),
    Named(
        "wrong-crc32c",
        "store",
        "another CRC32C is stated than that of the object's bytes",
        lambda _: Then(wrong_crc32c=True),
        ("object_read",),
        is_narrow=True,
    ),
)
CATALOGUE: Final = (*_CREATE, *_STATE, *_OUTPUT, *_STORAGE)


class _Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    fault: str | None = None
    parameters: dict[str, Any] = msgspec.field(default_factory=dict, name="with")
    then: Then | None = None
    when: When = When()
    times: int | None = None
    skip: int = 0
    rate: float | None = None
    seed: int = 0


class _Mix(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    rates: dict[str, float]
    seed: int = 0
    when: When = When()
    times: int | None = None


def parse_rule(body: bytes) -> RuleBody:
    """The rule that a JSON text asks for; BadRule if it is none."""
    return _checked(_decoded(body, _Asked))


def parse_mix(body: bytes) -> list[RuleBody]:
    """One rule for each fault of a mix, with the same seed; BadRule if it is none."""
    mix = _decoded(body, _Mix)
    if not 1 <= len(mix.rates) <= MIX_MAX:
        raise BadRule(f"`rates` needs from 1 to {MIX_MAX} faults, each with its probability")
    return [
        _checked(_Asked(fault=name, rate=rate, seed=mix.seed, when=mix.when, times=mix.times))
        for name, rate in mix.rates.items()
    ]


def parse_file(body: bytes) -> list[RuleBody]:
    """The rules of a file: an array of rules and mixes, each as the control API takes it."""
    entries = _decoded(body, list[msgspec.Raw])
    rules: list[RuleBody] = []
    for number, entry in enumerate(entries, start=1):
        text = bytes(entry)
        try:
            is_mix = "rates" in _decoded(text, dict[str, msgspec.Raw])
            rules += parse_mix(text) if is_mix else [parse_rule(text)]
        except BadRule as error:
            raise BadRule(f"entry {number}: {error}") from error
    return rules


def _decoded(body: bytes, kind: Any) -> Any:  # noqa: ANN401 - as msgspec's own decode
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRule(str(error)) from error


def _checked(asked: _Asked) -> RuleBody:
    if asked.rate is not None and not 0 <= asked.rate <= 1:
        raise BadRule(f"`rate` is a probability from 0 to 1, not {asked.rate}")
    if asked.skip < 0 or (asked.times is not None and asked.times < 1):
        raise BadRule("`times` must be 1 or more, and `skip` 0 or more")
    if (asked.fault is None) == (asked.then is None):
        raise BadRule("a rule has either a `fault` by its name or a `then`")
    when = asked.when
    then = asked.then
    if asked.fault is not None:
        when, then = _resolve(asked.fault, asked.parameters, when)
    if then is None or then == Then():
        raise BadRule("`then` is empty: the rule does nothing")
    return RuleBody(
        then=then,
        when=when,
        fault=asked.fault,
        times=asked.times,
        skip=asked.skip,
        rate=asked.rate,
        seed=asked.seed,
    )


def _resolve(name: str, given: Values, when: When) -> tuple[When, Then]:
    named, values = _find(name)
    unknown = given.keys() - named.parameters.keys()
    if unknown:
        known = ", ".join(named.parameters) or "none"
        raise BadRule(f"`{name}` has no parameter {sorted(unknown)}; it has: {known}")
    for key, parameter in named.parameters.items():
        if key in given:
            values[key] = parameter.read(key, given[key])
        elif parameter.usual is not None:
            values[key] = parameter.usual
    if when.call is not None and when.call not in named.calls:
        able = ", ".join(named.calls) or "jobs, so leave `call` away"
        raise BadRule(f"`{name}` cannot strike {when.call}; it strikes: {able}")
    if when.call is None and named.is_narrow:
        when = msgspec.structs.replace(when, call=named.calls[0])
    if named.name == "precondition-failed":
        when = msgspec.structs.replace(when, conditional=True)
    return when, named.make(values)


def _find(name: str) -> tuple[Named, Values]:
    for named in CATALOGUE:
        match = named.pattern().match(name)
        if match is not None:
            return named, dict(match.groupdict())
    known = ", ".join(named.name for named in CATALOGUE)
    raise BadRule(f"there is no fault `{name[:60]}`; known are: {known}")


def catalogue() -> list[dict[str, Any]]:
    """All faults, for people and for programs that list them."""
    return [
        {
            "name": named.name,
            "group": named.group,
            "about": named.about,
            "calls": list(named.calls[:1] if named.is_narrow else named.calls),
            "also": list(named.calls[1:] if named.is_narrow else ()),
            "with": {
                key: {"usual": each.usual, "least": each.least, "most": each.most}
                for key, each in named.parameters.items()
            },
        }
        for named in CATALOGUE
    ]
