"""What to do about lines that ended in a way: one sentence for each outcome and code."""

from types import MappingProxyType
from typing import Final

from penstock.core.line import LineOutcome
from penstock.core.provider_error import is_retryable

_RETRY: Final = "send them again with POST /requests/{id}/retry"

_TOO_MANY: Final = f"The provider had no capacity at that moment: {_RETRY}, best some time later."
_PASSING: Final = f"The provider failed at that moment and not because of the request: {_RETRY}."
_REQUEST: Final = (
    "The provider does not take the request as it is: read the message, correct the line and"
    " submit it anew."
)
_RIGHTS: Final = (
    "The server's account at the provider may not do this: its operator has to look at the"
    " account's rights and quotas."
)
_WORDING: Final = "the same request will mostly be blocked again, so change its wording or media."
_SOURCES: Final = (
    "The answer came too close to known text or pictures: ask for a summary or own words, or try"
    " again with another temperature."
)

HINTS: Final = MappingProxyType(
    {
        (LineOutcome.OK, ""): "",
        (LineOutcome.OK, "MALFORMED_FUNCTION_CALL"): (
            "The model's call of a function is malformed: check the answer before it is used, and"
            " simplify the function's declaration."
        ),
        (LineOutcome.TRUNCATED, "MAX_TOKENS"): (
            "The answer stops at the limit: raise maxOutputTokens, or lower the thinking budget,"
            " which counts towards it."
        ),
        (LineOutcome.BLOCKED, "SAFETY"): f"Blocked by the safety filters: {_WORDING}",
        (LineOutcome.BLOCKED, "RECITATION"): _SOURCES,
        (LineOutcome.BLOCKED, "IMAGE_RECITATION"): _SOURCES,
        (LineOutcome.BLOCKED, "SPII"): (
            "The answer would hold sensitive data about persons: leave such data out of the prompt"
            " or do not ask for it."
        ),
        (LineOutcome.BLOCKED, "BLOCKLIST"): f"It holds a term that is not allowed: {_WORDING}",
        (LineOutcome.BLOCKED, "MODEL_ARMOR"): (
            "Blocked by the rules of the account's Model Armor: its operator can say which."
        ),
        (LineOutcome.EMPTY, "no_content"): (
            f"The model ended without an answer, which often passes: {_RETRY}."
        ),
        (LineOutcome.EMPTY, "NO_IMAGE"): (
            f"The model drew nothing: ask for a picture in plain words, or {_RETRY}."
        ),
        (LineOutcome.EMPTY, "MALFORMED_FUNCTION_CALL"): (
            f"The model's call of a function was malformed: {_RETRY}, or simplify the declaration."
        ),
        (LineOutcome.INVALID_OUTPUT, "not_json"): (
            f"The answer is no JSON: {_RETRY}, or give the line a response schema."
        ),
        (LineOutcome.INVALID_OUTPUT, "schema_mismatch"): (
            f"The answer does not fit the line's own schema: {_RETRY}, or simplify the schema."
        ),
        (LineOutcome.ERROR, "429"): _TOO_MANY,
        (LineOutcome.ERROR, "RESOURCE_EXHAUSTED"): _TOO_MANY,
        (LineOutcome.ERROR, "401"): _RIGHTS,
        (LineOutcome.ERROR, "403"): _RIGHTS,
        (LineOutcome.ERROR, "UNAUTHENTICATED"): _RIGHTS,
        (LineOutcome.ERROR, "PERMISSION_DENIED"): _RIGHTS,
        (LineOutcome.ERROR, "404"): (
            "The provider does not know the model or a file of the request: check both."
        ),
        (LineOutcome.ERROR, "NOT_FOUND"): (
            "The provider does not know the model or a file of the request: check both."
        ),
        (LineOutcome.ERROR, "other"): (
            f"The provider gave no code that we know: read the message of an example, or {_RETRY}."
        ),
        (LineOutcome.ERROR, "corrupt_row"): f"The provider's row cannot be used: {_RETRY}.",
        (LineOutcome.ERROR, "duplicate_row"): (
            f"The provider gave two answers and nobody can say which is right: {_RETRY}."
        ),
        (LineOutcome.ERROR, "integrity_mismatch"): (
            f"The provider's row answers another request: {_RETRY}, and tell the operator."
        ),
        (LineOutcome.MISSING, "missing_row"): f"The provider gave no row: {_RETRY}.",
        (LineOutcome.MISSING, "provider_output_unreadable"): (
            f"The provider's output could not be read: {_RETRY}, and tell the operator."
        ),
        (LineOutcome.MISSING, "pending"): "The line is not finished yet: wait for the job's end.",
    }
)
"""For kinds that deserve a sentence of their own."""

GENERAL: Final = MappingProxyType(
    {
        LineOutcome.OK: (
            "The model stopped for an unusual reason: check whether the answer is whole."
        ),
        LineOutcome.TRUNCATED: (
            "The answer stops early: raise maxOutputTokens, or ask for a shorter one."
        ),
        LineOutcome.BLOCKED: f"The provider blocked it: {_WORDING}",
        LineOutcome.EMPTY: f"There is no answer, which often passes: {_RETRY}.",
        LineOutcome.INVALID_OUTPUT: f"The answer is not what the line asks for: {_RETRY}.",
        LineOutcome.ERROR: (
            "The line was put aside and never sent: correct what the message says and submit it"
            " anew."
        ),
        LineOutcome.MISSING: f"There is no answer to the line: {_RETRY}.",
        LineOutcome.EXPIRED: f"The job's time was over before it was their turn: {_RETRY}.",
        LineOutcome.CANCELLED: f"The job was cancelled before it was their turn: {_RETRY}.",
    }
)
"""For all other codes of an outcome."""


def hint(outcome: LineOutcome, code: str) -> str:
    """Return what to do about lines of this kind; nothing for plain successes."""
    known = HINTS.get((outcome, code))
    if known is not None:
        return known
    if outcome is LineOutcome.ERROR:
        is_passing = is_retryable(code)
        if is_passing is not None:
            return _PASSING if is_passing else _REQUEST
    return GENERAL[outcome]
