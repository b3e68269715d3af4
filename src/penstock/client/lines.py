"""The lines of a job as the client reads them: `client.lines(job_id, outcome=["error"])`."""

from typing import Any, Final
from urllib.parse import quote

import msgspec

PAGE_LINES: Final = 1_000
"""What is asked for at once; a server with smaller pages gives fewer."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one line; `line` is its number in the input, from 1.

    `outcome` is a word such as `ok`, `blocked` or `error`, `code` says more, `retryable` whether
    another try may mend it. `output` is the line of the output, where it was asked for.
    """

    line: int
    outcome: str
    code: str = ""
    retryable: bool = False
    round: int = 1
    twin: bool = False
    prompt_tokens: int = 0
    output_tokens: int = 0
    output_bytes: int = 0
    hint: str = ""
    output: dict[str, Any] | None = None

    @property
    def ok(self) -> bool:
        """Whether there is an answer with nothing wrong."""
        return self.outcome == "ok"

    @property
    def text(self) -> str:
        """What the line says: its error, or the text of the answer; empty without the output."""
        output = self.output or {}
        status = output.get("status")
        return status if isinstance(status, str) and status else _text(output.get("response"))


class LinePage(msgspec.Struct, frozen=True, kw_only=True):
    """Some lines of a job; `total` counts all that the filter wants, `line_count` all there are."""

    lines: list[Line]
    total: int = 0
    line_count: int = 0
    partial: bool = False
    next_cursor: str | None = None


class LineGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Lines that ended in the same way; `message` is what the example says."""

    outcome: str
    code: str = ""
    count: int = 0
    example_line: int = 0
    message: str = ""
    retryable: bool = False
    hint: str = ""


class LineGroups(msgspec.Struct, frozen=True, kw_only=True):
    """In which ways the lines of a job ended: what went wrong first, the commonest first."""

    groups: list[LineGroup]
    line_count: int = 0
    partial: bool = False


def path_of(request_id: str, rest: str = "") -> str:
    """Return the path of a job's lines."""
    return f"/requests/{quote(request_id, safe='')}/lines{rest}"


def so_far(*, partial: bool) -> dict[str, str]:
    """Return the parameter that asks a job that still runs."""
    return {"partial": "true"} if partial else {}


def _text(response: object) -> str:
    """Return the text of the first candidate; a response may have any other shape."""
    candidates = response.get("candidates") if isinstance(response, dict) else None
    first = candidates[0] if isinstance(candidates, list) and candidates else None
    content = first.get("content") if isinstance(first, dict) else None
    parts = content.get("parts") if isinstance(content, dict) else None
    if not isinstance(parts, list):
        return ""
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str))
