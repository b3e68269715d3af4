"""What the query of a submission asks for beside the model: one place, for every form of a body.

The query and not the body, because `payload` is the caller's and comes back as it is. So these
names, and no others, are taken out of it.
"""

import re
from typing import Final

import msgspec
from starlette.datastructures import QueryParams

from penstock.core.line import LineOutcome
from penstock.core.naming import LABEL, NAME
from penstock.core.options import RETRY_ATTEMPTS_MAX, SHARDS_MAX, OnInvalid, Options, RetryPolicy
from penstock.errors import InvalidRequest

VALIDATE_ONLY: Final = "validate_only"
MAX_COST: Final = "max_cost_usd"
ON_INVALID: Final = "on_invalid"
DEDUPLICATE: Final = "deduplicate"
SHARDS: Final = "shards"
RETRY_ATTEMPTS: Final = "retry_attempts"
RETRY_OUTCOMES: Final = "retry_outcomes"

OPTION_NAMES: Final = frozenset(
    {
        VALIDATE_ONLY,
        MAX_COST,
        ON_INVALID,
        DEDUPLICATE,
        SHARDS,
        RETRY_ATTEMPTS,
        RETRY_OUTCOMES,
        NAME,
        LABEL,
    }
)
"""`api/naming` reads the last two."""

OUTCOMES_RETRIED: Final = (
    LineOutcome.ERROR,
    LineOutcome.MISSING,
    LineOutcome.EMPTY,
    LineOutcome.INVALID_OUTPUT,
    LineOutcome.TRUNCATED,
    LineOutcome.BLOCKED,
)
"""What another try may change; a job whose time is over, or that was cancelled, tries no more."""

_DOLLARS: Final = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,6}))?")
_WHOLE: Final = re.compile(r"[0-9]{1,4}")
_BOOLEANS: Final = {"true": True, "false": False}


def read_options(query: QueryParams) -> Options:
    """Return the options of a submission; raises `InvalidRequest` for what is not one."""
    cost = _one(query, MAX_COST)
    attempts = _whole(query, RETRY_ATTEMPTS, 0, RETRY_ATTEMPTS_MAX, RetryPolicy().attempts)
    return Options(
        max_cost_micro_dollars=None if cost is None else _micro_dollars(cost),
        deduplicate=_boolean(query, DEDUPLICATE, default=True),
        shards=_whole(query, SHARDS, 1, SHARDS_MAX, 1),
        retry=RetryPolicy(attempts=attempts, outcomes=_outcomes(query)),
        on_invalid=_on_invalid(query),
    )


def is_validation(query: QueryParams) -> bool:
    """Return whether a submission is only to be judged; raises `InvalidRequest`."""
    return _boolean(query, VALIDATE_ONLY, default=False)


def shown(options: Options) -> dict[str, object]:
    """Return the options that somebody chose, as a record shows them; the names of the query."""
    said = msgspec.to_builtins(options)
    cost = said.pop("max_cost_micro_dollars", None)
    retry = said.pop("retry", None)
    if cost is not None:
        said[MAX_COST] = f"{cost // 1_000_000}.{cost % 1_000_000:06d}"
    if retry is not None:
        said |= {RETRY_ATTEMPTS: retry["attempts"], RETRY_OUTCOMES: retry["outcomes"]}
    return dict(said)


def _one(query: QueryParams, name: str) -> str | None:
    values = query.getlist(name)
    if len(values) > 1:
        raise InvalidRequest(
            f"The request is not accepted: {name!r} stands twice in the query.",
            code="duplicate_member",
            hint="Send each option once; which one counts would be a guess.",
        )
    return values[0] if values else None


def _micro_dollars(text: str) -> int:
    found = _DOLLARS.fullmatch(text)
    if found is None:
        raise _unknown(MAX_COST, text, "dollars in digits, with up to six after the point: 12.50")
    return int(found[1]) * 1_000_000 + int((found[2] or "").ljust(6, "0"))


def _boolean(query: QueryParams, name: str, *, default: bool) -> bool:
    text = _one(query, name)
    if text is None:
        return default
    if text not in _BOOLEANS:
        raise _unknown(name, text, "true or false")
    return _BOOLEANS[text]


def _whole(query: QueryParams, name: str, least: int, most: int, default: int) -> int:
    text = _one(query, name)
    if text is None:
        return default
    if not _WHOLE.fullmatch(text) or not least <= int(text) <= most:
        raise _unknown(name, text, f"a whole number from {least} to {most}")
    return int(text)


def _on_invalid(query: QueryParams) -> OnInvalid:
    text = _one(query, ON_INVALID)
    if text is None:
        return OnInvalid.REFUSE
    if text not in tuple(OnInvalid):
        raise _unknown(ON_INVALID, text, " or ".join(OnInvalid))
    return OnInvalid(text)


def _outcomes(query: QueryParams) -> tuple[LineOutcome, ...]:
    text = _one(query, RETRY_OUTCOMES)
    if text is None:
        return RetryPolicy().outcomes
    words = text.split(",")
    if len(set(words)) < len(words) or not set(words) <= set(OUTCOMES_RETRIED):
        allowed = ", ".join(OUTCOMES_RETRIED)
        raise _unknown(RETRY_OUTCOMES, text, f"some of {allowed}, each once, with commas between")
    # One order, so that the same choice is the same submission.
    return tuple(one for one in OUTCOMES_RETRIED if one in words)


def _unknown(name: str, text: str, allowed: str) -> InvalidRequest:
    return InvalidRequest(
        f"The parameter {name} is {text[:40]!r}.",
        code="invalid_parameter",
        hint=f"Allowed is: {allowed}.",
    )
