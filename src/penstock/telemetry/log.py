"""Logs as one JSON object a line, so that no input can forge or break one."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final

MESSAGE_CHARS_MAX: Final = 2_000
TRACE_CHARS_MAX: Final = 4_000


class JsonFormatter(logging.Formatter):
    """Renders a record; control characters are escaped by JSON itself."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line without a newline."""
        entry = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:MESSAGE_CHARS_MAX],
        }
        if record.exc_info:
            # The end of a traceback says what happened; chained ones can fill a screen.
            entry["exception"] = self.formatException(record.exc_info)[-TRACE_CHARS_MAX:]
        return json.dumps(entry, ensure_ascii=True)


def configure(level: str = "INFO") -> None:
    """Send all logs to standard error; standard output belongs to the command."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # One line per provider call is noise at this level, and some carry signed addresses.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    logging.getLogger("httpcore2").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
