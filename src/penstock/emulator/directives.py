"""Orders to the emulator inside a prompt: `[[emulator:fail=429]]` in any text part.

They travel with the data, so a test orders a fault for one line without knowing in which job, shard
or position the line ends up.
"""

import re
from collections.abc import Iterator
from typing import Final

_MARK: Final = b"[[emulator:"
_DIRECTIVE = re.compile(r"\[\[emulator:([a-z0-9-]+)(?:=([^\]]*))?\]\]")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?\Z")
ONCE: Final = "-once"
"""Behind a directive's name: it acts in the first job that has the request only."""
NAMES: Final = frozenset(
    {
        "bad-usage", "bad-utf8", "block", "delay", "duplicate", "empty", "error-response", "fail",
        "foreign", "garbage", "image", "inline", "invalid-output", "missing", "no-total",
        "no-usage", "not-json", "reply", "status", "stop", "times", "truncate", "truncated-row",
    }
)  # fmt: skip
"""Every directive. An unknown one in a prompt is just text; a script is held to these."""
_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


def may_hold_directive(line: bytes) -> bool:
    """A cheap test on the raw bytes that spares nearly every line the search."""
    return _MARK in line


def texts(request: object) -> Iterator[str]:
    """Every text part of the contents and the system instruction of a request."""
    if not isinstance(request, dict):
        return
    contents = request.get("contents")
    system = request.get("systemInstruction", request.get("system_instruction"))
    for content in [*(contents if isinstance(contents, list) else [contents]), system]:
        parts = content.get("parts") if isinstance(content, dict) else None
        for part in parts if isinstance(parts, list) else [parts]:
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                yield part["text"]


def find_directives(request: object) -> dict[str, str]:
    """All directives of a request; a directive without a value maps to the empty text."""
    found: dict[str, str] = {}
    for text in texts(request):
        for match in _DIRECTIVE.finditer(text):
            found[match[1]] = match[2] or ""
    return found


def delay_seconds(request: object) -> float:
    """How long `[[emulator:delay=30s]]` makes the job run longer; 0 without or if unreadable."""
    match = _DURATION.match(find_directives(request).get("delay", ""))
    if match is None:
        return 0.0
    return float(match[1]) * _UNIT_SECONDS[match[2]]
