import json
import logging
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.telemetry.log import MESSAGE_CHARS_MAX, TRACE_CHARS_MAX, JsonFormatter


def formatted(message: str, *values: object, **more: Any) -> str:  # noqa: ANN401 - record fields
    """One formatted record."""
    record = logging.LogRecord("penstock.x", logging.WARNING, "f", 1, message, values, None, None)
    vars(record).update(more)
    return JsonFormatter().format(record)


def test_a_record_is_one_object() -> None:
    """Time, level, logger and message stand under fixed names."""
    entry = json.loads(formatted("took %d ms", 7, created=1_795_363_200.0))
    assert entry == {
        "at": "2026-11-22T16:00:00.000+00:00",
        "level": "warning",
        "logger": "penstock.x",
        "message": "took 7 ms",
    }


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=100))
def test_no_text_can_forge_a_line(text: str) -> None:
    """Whatever a caller puts into a message stays one line of plain ASCII."""
    line = formatted("%s", text)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["message"] == text


def test_a_long_message_is_cut() -> None:
    """One caller cannot fill the disk with one line."""
    entry = json.loads(formatted("x" * 100_000))
    assert len(entry["message"]) == MESSAGE_CHARS_MAX


def deep(levels: int) -> None:
    """Fail after so many errors on top of each other."""
    try:
        if levels:
            deep(levels - 1)
        int("the cause")
    except ValueError as error:
        raise ValueError(f"level {levels}") from error


def test_an_exception_keeps_its_end() -> None:
    """Of a long traceback the end is kept, because it says what happened."""
    with pytest.raises(ValueError, match="level 30") as caught:
        deep(30)
    info = (caught.type, caught.value, caught.value.__traceback__)
    entry = json.loads(formatted("failed", exc_info=info))
    assert len(entry["exception"]) == TRACE_CHARS_MAX
    assert entry["exception"].endswith("level 30")


def test_logs_go_to_standard_error() -> None:
    """Standard output belongs to the command; each line of the log is JSON."""
    program = (
        "import logging; from penstock.telemetry.log import configure; configure();"
        "logging.getLogger('a').info('one\\ntwo'); logging.getLogger('httpx2').info('noise')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b""
    assert [json.loads(line)["message"] for line in done.stderr.splitlines()] == ["one\ntwo"]
