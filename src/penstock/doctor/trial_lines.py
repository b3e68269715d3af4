"""What the jobs of a run are to answer: a few short lines, and one bad one."""

from typing import Any, Final

from penstock.doctor.lab import Made

OUTPUT_TOKENS_ASKED: Final = 64
GOOD_LINES: Final = 4
BAD_LINE: Final = 2
"""Of the main job, counted from 1; the other ones are good."""

KEY: Final = "key"


def line(run: str, number: int, text: str, role: str = "user") -> dict[str, Any]:
    """Return an input line with a key as Penstock makes them: never a number."""
    request = {
        "contents": [{"role": role, "parts": [{"text": text}]}],
        "generationConfig": {"maxOutputTokens": OUTPUT_TOKENS_ASKED},
    }
    return {KEY: f"k-{run}-{number}", "request": request}


def main_lines(run: str) -> list[dict[str, Any]]:
    """Return four good lines and one that Google refuses by itself."""
    lines = [line(run, number, f"Answer with the number {number}.") for number in range(1, 6)]
    lines[BAD_LINE - 1] = line(run, BAD_LINE, "This role does not exist.", role="tester")
    return lines


def importer_lines(run: str) -> list[dict[str, Any]]:
    """Return a line that a table cannot hold, beside a good one."""
    bad = line(run, 2, "Answer with the number 2.")
    bad["request"]["generationConfig"]["responseJsonSchema"] = {"$ref": "#/$defs/number"}
    return [line(run, 1, "Answer with the number 1."), bad]


def cancel_lines(run: str) -> list[dict[str, Any]]:
    """Return lines of a job that is cancelled at once; at worst they are answered."""
    return [line(run, number, f"Answer with the number {number}.") for number in (1, 2)]


def count_of(made: Made, name: str) -> int:
    """Return one of the counts that a job tells; 0 if it tells none."""
    stats = made.seen.get("completionStats")
    text = stats.get(name) if isinstance(stats, dict) else None
    return int(text) if isinstance(text, (str, int)) and str(text).isdigit() else 0
