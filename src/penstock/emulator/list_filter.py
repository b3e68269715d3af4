"""The filter language of `batchPredictionJobs.list` (a part of AIP-160).

    expression = alternatives { ["AND"] alternatives }
    alternatives = term { "OR" term }              OR binds tighter than AND, as AIP-160 says
    term = ["NOT" | "-"] ( "(" expression ")" | comparison )
    comparison = field operator value              operators: = != < <= > >= :

Fields: `display_name`, `model_display_name`, `state`, `create_time`, `labels.key`.
"""

import re
from collections.abc import Callable
from fnmatch import translate
from typing import Final

from penstock.emulator.job_record import Job
from penstock.emulator.refusals import VertexRefusal, invalid_argument
from penstock.emulator.timestamps import parse_rfc3339

Predicate = Callable[[Job], bool]

_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<operator><=|>=|!=|[=<>:()])
    |(?P<minus>-(?=[a-z(]))
    |(?P<word>[^\s"'=<>:!()]+))""",
    re.VERBOSE,
)
_OPERATORS: Final = frozenset({"=", "!=", "<", "<=", ">", ">=", ":"})
_NESTING_MAX: Final = 50
_COMPARE: Final[dict[str, Callable[[int, int], bool]]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def parse_filter(text: str) -> Predicate:
    """A predicate over jobs; 400 INVALID_ARGUMENT if the text is not a filter."""
    if not text.strip():
        return lambda _job: True
    parser = _Parser(_tokens(text))
    return parser.whole()


class _Token(str):
    """A word, an operator, or the content of a quoted text (never an operator nor a keyword)."""

    __slots__ = ("quoted",)
    quoted: bool


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    stripped = text.rstrip()
    while at < len(stripped):
        match = _TOKEN.match(stripped, at)
        if match is None:
            raise _bad(f"unexpected character at position {at}")
        quoted = match["quoted"]
        body = match[0].strip() if quoted is None else re.sub(r"\\(.)", r"\1", quoted[1:-1])
        token = _Token(body)
        token.quoted = quoted is not None
        tokens.append(token)
        at = match.end()
    return tokens


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._nesting = 0

    def whole(self) -> Predicate:
        predicate = self._expression()
        if self._at < len(self._tokens):
            raise _bad(f"unexpected {str(self._tokens[self._at])!r}")
        return predicate

    def _peek(self, word: str) -> bool:
        if self._at >= len(self._tokens):
            return False
        token = self._tokens[self._at]
        return not token.quoted and token == word

    def _accept(self, word: str) -> bool:
        found = self._peek(word)
        self._at += found
        return found

    def _next(self, wanted: str) -> _Token:
        if self._at >= len(self._tokens):
            raise _bad(f"the filter ends where {wanted} should be")
        self._at += 1
        return self._tokens[self._at - 1]

    def _expression(self) -> Predicate:
        parts = [self._alternatives()]
        while self._at < len(self._tokens) and not self._peek(")"):
            self._accept("AND")
            parts.append(self._alternatives())
        return parts[0] if len(parts) == 1 else lambda job: all(part(job) for part in parts)

    def _alternatives(self) -> Predicate:
        parts = [self._term()]
        while self._accept("OR"):
            parts.append(self._term())
        return parts[0] if len(parts) == 1 else lambda job: any(part(job) for part in parts)

    def _term(self) -> Predicate:
        if self._accept("NOT") or self._accept("-"):
            inner = self._term()
            return lambda job: not inner(job)
        if not self._accept("("):
            return self._comparison()
        self._nesting += 1
        if self._nesting > _NESTING_MAX:
            raise _bad("too many nested parentheses")
        inner = self._expression()
        if not self._accept(")"):
            raise _bad("a closing parenthesis is missing")
        self._nesting -= 1
        return inner

    def _comparison(self) -> Predicate:
        field = self._next("a field")
        if field == "labels." and self._at < len(self._tokens) and self._tokens[self._at].quoted:
            field = _Token(field + self._next("a label key"))
        operator = self._next("an operator")
        if operator not in _OPERATORS or operator.quoted:
            raise _bad(f"{str(operator)!r} is not an operator")
        value = str(self._next("a value"))
        return _compare(str(field), str(operator), value)


def _compare(field: str, operator: str, value: str) -> Predicate:
    if field.startswith("labels."):
        return _label(field.removeprefix("labels."), operator, value)
    if field in {"display_name", "displayName"}:
        return _text(operator, value, lambda job: job.display_name)
    if field in {"model_display_name", "modelDisplayName"}:
        # Publisher models have no display name in the caller's project.
        return _text(operator, value, lambda _job: "")
    if field == "state":
        if operator not in {"=", "!=", ":"}:
            raise _bad(f"state cannot be compared with {operator}")
        return _text("=" if operator == ":" else operator, value, lambda job: job.state)
    if field in {"create_time", "createTime"} and operator in _COMPARE:
        return _time(operator, value)
    raise _bad(f"{field} {operator} is not supported")


def _label(key: str, operator: str, value: str) -> Predicate:
    if operator == ":" and value == "*":
        return lambda job: key in job.labels
    if operator in {"=", ":"}:
        return lambda job: job.labels.get(key) == value
    if operator == "!=":
        return lambda job: job.labels.get(key) != value
    raise _bad(f"labels cannot be compared with {operator}")


def _text(operator: str, value: str, read: Callable[[Job], str]) -> Predicate:
    if operator == "=":
        return lambda job: read(job) == value
    if operator == "!=":
        return lambda job: read(job) != value
    if operator != ":":
        raise _bad(f"text cannot be compared with {operator}")
    # Only `*` is special; brackets and question marks of fnmatch stand for themselves.
    pattern = re.compile(translate(re.sub(r"([\[?])", r"[\1]", value)))
    return lambda job: pattern.match(read(job)) is not None


def _time(operator: str, value: str) -> Predicate:
    try:
        wanted = parse_rfc3339(value)
    except ValueError as error:
        raise _bad(f"{value!r} is not an RFC 3339 time") from error
    compare = _COMPARE[operator]
    return lambda job: compare(job.created_us, wanted)


def _bad(problem: str) -> VertexRefusal:
    return invalid_argument(f"Invalid list filter: {problem}.")
