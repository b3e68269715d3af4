"""One line: the caller's request, the provider's row, and what became of it.

Rows come from the provider and are hostile: every count is checked, nothing is trusted because it
parsed. The rules are those of reference/wire.md 1.9.
"""

import re
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec

from penstock.core.provider_error import bounded, code_of

TOKENS_MAX: Final = 2**32
"""No answer has four billion tokens; a count above this is garbage, not money. With it the cost of
the longest input fits the ledger's 64 bits, whatever its rows claim; beyond, no job could end."""


class LineOutcome(StrEnum):
    """What became of one line."""

    # As of the text that it equals, and in C: that of an enum is a call for each line and table.
    __hash__ = str.__hash__

    OK = "ok"
    TRUNCATED = "truncated"
    """The answer stops at the output limit (`MAX_TOKENS`)."""
    BLOCKED = "blocked"
    """Refused for safety, recitation or prohibited content; there is no answer."""
    EMPTY = "empty"
    """The provider calls it a success, but there is no content."""
    INVALID_OUTPUT = "invalid_output"
    """The answer is not what the line's own response schema asks for."""
    ERROR = "error"
    """The provider failed the line, or its row cannot be trusted."""
    MISSING = "missing"
    """The provider has ended and there is no row for the line."""
    EXPIRED = "expired"
    """The job's time ended before the line was done."""
    CANCELLED = "cancelled"
    """The job was cancelled before the line was done."""


FAILED_OUTCOMES: Final = frozenset({LineOutcome.ERROR, LineOutcome.MISSING})
UNFINISHED_OUTCOMES: Final = frozenset({LineOutcome.EXPIRED, LineOutcome.CANCELLED})
ANSWERED_OUTCOMES: Final = frozenset(LineOutcome) - FAILED_OUTCOMES - UNFINISHED_OUTCOMES

_BLOCKING: Final = frozenset(
    {
        "SAFETY",
        "RECITATION",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "MODEL_ARMOR",
    }
)
_PLAIN: Final = frozenset({None, "STOP", "FINISH_REASON_UNSPECIFIED"})
"""Reasons to stop that say nothing more."""
_NO_CONTENT_MEMBERS: Final = frozenset({"thought", "thoughtSignature"})

NO_CONTENT: Final = "no_content"
CORRUPT_ROW: Final = "corrupt_row"


class Usage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Tokens of one line, every count zero or more."""

    prompt_tokens: int = 0
    candidates_tokens: int = 0
    thoughts_tokens: int = 0
    cached_tokens: int = 0
    tool_prompt_tokens: int = 0
    audio_prompt_tokens: int = 0
    image_tokens: int = 0


KEY_DIGITS_MIN: Final = 6
"""Numbers with fewer are padded with zeros."""
_KEY_DIGITS: Final = range(KEY_DIGITS_MIN, 10)


class LineKey:
    """Our name for a line of one job, echoed by the provider: `k-1f9c03ab-000017`.

    It starts with a letter because Vertex's importer re-types strings that look like numbers. The
    middle tells rows of another job apart, should an output folder ever hold any.
    """

    def __init__(self, tag: str) -> None:
        self._prefix = f"k-{tag}-"

    def of(self, line_number: int) -> str:
        """Return the key of the line, counted from 1."""
        return f"{self._prefix}{line_number:06d}"

    def line_number(self, key: object) -> int | None:
        """Return the line that the key names, or None if it is not a key of this job."""
        if not isinstance(key, str) or not key.startswith(self._prefix):
            return None
        digits = key[len(self._prefix) :]
        if not (len(digits) in _KEY_DIGITS and digits.isascii() and digits.isdigit()):
            return None
        if digits[0] == "0" and len(digits) > KEY_DIGITS_MIN:
            return None
        return int(digits)

    def find(self, row: bytes) -> int | None:
        """Return the line named by a row that does not parse, if the key is still readable."""
        match = re.search(rb'"key"\s*:\s*"(k-[0-9a-f]{1,32}-[0-9]{6,9})"', row)
        return None if match is None else self.line_number(match[1].decode("ascii"))


_TokenCount = Annotated[int, msgspec.Meta(ge=0, le=TOKENS_MAX)]


class _Documented(msgspec.Struct, gc=False, forbid_unknown_fields=True, rename="camel"):
    """An object of the provider's with no members but these; a stranger's name is an error."""


class _Detail(_Documented):
    modality: str
    token_count: _TokenCount = 0


class _Metadata(_Documented):
    prompt_token_count: _TokenCount = 0
    candidates_token_count: _TokenCount = 0
    thoughts_token_count: _TokenCount = 0
    cached_content_token_count: _TokenCount = 0
    tool_use_prompt_token_count: _TokenCount = 0
    total_token_count: Any = None
    prompt_tokens_details: list[_Detail] = []
    candidates_tokens_details: list[_Detail] = []
    cache_tokens_details: Any = None
    tool_use_prompt_tokens_details: Any = None
    traffic_type: Any = None
    billable_prompt_usage: Any = None


class _AnswerContent(_Documented):
    parts: Any = None
    role: Any = None


class _Candidate(_Documented):
    content: _AnswerContent | None = None
    finish_reason: str | None = None
    finish_message: Any = None
    index: Any = None
    score: Any = None
    avg_logprobs: Any = None
    logprobs_result: Any = None
    safety_ratings: Any = None
    citation_metadata: Any = None
    grounding_metadata: Any = None
    url_context_metadata: Any = None


class _Answer(_Documented):
    candidates: Annotated[list[_Candidate], msgspec.Meta(min_length=1)]
    usage_metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    prompt_feedback: Any = None
    model_version: Any = None
    create_time: Any = None
    response_id: Any = None


_ANSWER: Final = msgspec.json.Decoder(_Answer)


class Judgement(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a provider row says: `status` is empty unless the line failed."""

    outcome: LineOutcome
    status: str = ""
    usage: Usage = Usage()
    code: str = ""
    """The provider's or ours, which groups lines that ended in the same way."""
    is_retryable: bool = False
    """Whether another try may mend the line."""


def status_text(code: str, message: str) -> str:
    """Return our own error for a line, in the shape of the provider's: prose, then JSON."""
    error = {"error": {"code": code, "message": message, "status": "PENSTOCK"}}
    return f"{message} {msgspec.json.encode(error).decode()}"


def judge(status: object, response: object) -> Judgement:
    """Classify one row by the provider's `status` and `response` members.

    A row has failed if its status is a non-empty string (or anything that is not a string), or if
    the response is an error or has neither candidates nor prompt feedback.
    """
    if status not in {"", None} if isinstance(status, str | None) else True:
        return _failed(status if isinstance(status, str) else _text_of(status))
    if not isinstance(response, dict):
        return _unusable("The provider's row has no response object.")
    error = response.get("error")
    if isinstance(error, dict) and error:
        return _failed(f"The provider's response is an error: {_text_of({'error': error})}")
    usage = read_usage(response.get("usageMetadata"))
    if usage is None:
        return _unusable("The provider's token counts are not whole numbers of zero or more.")
    candidates = response.get("candidates")
    if isinstance(candidates, list) and candidates:
        return _of_candidate(candidates[0], usage)
    feedback = response.get("promptFeedback")
    if isinstance(feedback, dict):
        code = bounded(feedback.get("blockReason"))
        return Judgement(outcome=LineOutcome.BLOCKED, usage=usage, code=code)
    return _unusable("The provider's response has neither candidates nor prompt feedback.")


def judge_answer(response: bytes | msgspec.Raw) -> Judgement | None:
    """Return what `judge("", decoded)` returns, several times faster; None means: ask `judge`.

    It answers only for JSON that has the provider's documented shape throughout: a member that is
    not in the structs below makes it decline. So every byte was decoded and nothing skipped, which
    is what makes it refuse all that a full decode refuses.
    """
    try:
        answer = _ANSWER.decode(response)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    metadata = answer.usage_metadata
    first = answer.candidates[0]
    reason = first.finish_reason
    code = ""
    if reason == "STOP":
        outcome = LineOutcome.OK
        if first.content is None or not _has_content(first.content.parts):
            outcome, code = LineOutcome.EMPTY, NO_CONTENT
    elif reason == "MAX_TOKENS":
        outcome, code = LineOutcome.TRUNCATED, reason
    else:
        return None
    audio = images = 0
    for detail in metadata.prompt_tokens_details:
        if detail.modality == "AUDIO":
            audio += detail.token_count
    for detail in metadata.candidates_tokens_details:
        if detail.modality == "IMAGE":
            images += detail.token_count
    return Judgement(
        outcome=outcome,
        code=code,
        is_retryable=code is NO_CONTENT,
        usage=Usage(
            prompt_tokens=metadata.prompt_token_count,
            candidates_tokens=metadata.candidates_token_count,
            thoughts_tokens=metadata.thoughts_token_count,
            cached_tokens=metadata.cached_content_token_count,
            tool_prompt_tokens=metadata.tool_use_prompt_token_count,
            audio_prompt_tokens=audio,
            image_tokens=images,
        ),
    )


def _text_of(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _failed(status: str) -> Judgement:
    code, is_retryable = code_of(status)
    return Judgement(outcome=LineOutcome.ERROR, status=status, code=code, is_retryable=is_retryable)


def _unusable(message: str) -> Judgement:
    # What the provider garbled once it may well write properly the next time.
    return Judgement(
        outcome=LineOutcome.ERROR,
        status=status_text(CORRUPT_ROW, message),
        code=CORRUPT_ROW,
        is_retryable=True,
    )


def _of_candidate(first: object, usage: Usage) -> Judgement:
    reason = first.get("finishReason") if isinstance(first, dict) else None
    content = first.get("content") if isinstance(first, dict) else None
    word = reason if isinstance(reason, str) else None
    if word in _BLOCKING:
        return Judgement(outcome=LineOutcome.BLOCKED, usage=usage, code=bounded(word))
    if word == "MAX_TOKENS":
        return Judgement(outcome=LineOutcome.TRUNCATED, usage=usage, code=word)
    code = "" if word in _PLAIN else bounded(word)
    if isinstance(content, dict) and _has_content(content.get("parts")):
        return Judgement(outcome=LineOutcome.OK, usage=usage, code=code)
    return Judgement(
        outcome=LineOutcome.EMPTY, usage=usage, code=code or NO_CONTENT, is_retryable=True
    )


def _has_content(parts: object) -> bool:
    """Return whether there is more than thoughts and empty texts."""
    if not isinstance(parts, list):
        return bool(parts)
    for part in parts:
        if not isinstance(part, dict):
            if part:
                return True
        elif part.get("thought") is not True and (
            part.get("text") or any(part[name] for name in part.keys() - _NO_CONTENT_MEMBERS)
        ):
            return True
    return False


_COUNTS: Final = (
    ("prompt_tokens", "promptTokenCount"),
    ("candidates_tokens", "candidatesTokenCount"),
    ("thoughts_tokens", "thoughtsTokenCount"),
    ("cached_tokens", "cachedContentTokenCount"),
    ("tool_prompt_tokens", "toolUsePromptTokenCount"),
)


def read_usage(metadata: object) -> Usage | None:
    """Read `usageMetadata`; None if a count is not a whole number from 0 to `TOKENS_MAX`.

    Absent counts are zero: `totalTokenCount` is sometimes missing on good rows, and prompt blocks
    carry no candidates. The total is never read, only summed.
    """
    if metadata is None:
        return Usage()
    if not isinstance(metadata, dict):
        return None
    counts: dict[str, int] = {}
    for ours, theirs in _COUNTS:
        count = _count(metadata.get(theirs, 0))
        if count is None:
            return None
        counts[ours] = count
    audio = _modality(metadata.get("promptTokensDetails"), "AUDIO")
    images = _modality(metadata.get("candidatesTokensDetails"), "IMAGE")
    if audio is None or images is None:
        return None
    return Usage(audio_prompt_tokens=audio, image_tokens=images, **counts)


def _count(value: object) -> int | None:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= TOKENS_MAX:
        return None
    return value


def _modality(details: object, modality: str) -> int | None:
    if details is None:
        return 0
    if not isinstance(details, list):
        return None
    total = 0
    for detail in details:
        if not isinstance(detail, dict):
            return None
        if detail.get("modality") == modality:
            count = _count(detail.get("tokenCount", 0))
            if count is None:
                return None
            total += count
    return total


class _Part(msgspec.Struct):
    text: Any = None


class SpokenContent(msgspec.Struct):
    """What the texts of one of the contents say, however they are spelled."""

    parts: list[_Part]


class Spoken(msgspec.Struct):
    """What the texts of a request say; where all are equal, `echo_differs` says no."""

    contents: list[SpokenContent]


SPOKEN: Final = msgspec.json.Decoder(Spoken)


class _EchoPart(msgspec.Struct, gc=False):
    text: msgspec.Raw = msgspec.Raw(b"null")


class EchoContent(msgspec.Struct, gc=False):
    """The texts of one of the contents."""

    parts: list[_EchoPart]


class Echo(msgspec.Struct, gc=False):
    """The texts of a request as they are spelled; equal spelling means `echo_differs` says no.

    The opposite does not hold: a re-serialisation may spell the same text otherwise.
    """

    contents: list[EchoContent]


ECHO: Final = msgspec.json.Decoder(Echo)


def echo_differs(ours: bytes, theirs: bytes) -> bool:
    """Return whether the echoed request (JSON) is certainly another one than ours (JSON).

    The echo is a re-serialisation (order changes, nulls appear, strings that look like numbers are
    re-typed), so only what survives that is compared: the text parts of the contents, where both
    sides have a string. A hash of the whole request would accuse good rows.
    """
    mine, echoed = _texts(ours), _texts(theirs)
    if mine is None or echoed is None:
        return False
    if len(mine) != len(echoed):
        return True
    return any(
        isinstance(a, str) and isinstance(b, str) and a != b
        for a, b in zip(mine, echoed, strict=True)
    )


def _texts(request: bytes) -> list[Any] | None:
    """Return the text of every part in order, None for parts without; None if unreadable."""
    try:
        contents = SPOKEN.decode(request).contents
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return [part.text for content in contents for part in content.parts]
