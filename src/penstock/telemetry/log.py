"""Logs as one JSON object a line, so that no input can forge or break one, and without secrets."""

import json
import logging
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from penstock.telemetry.redact import Redactor

MESSAGE_CHARS_MAX: Final = 2_000
TRACE_CHARS_MAX: Final = 4_000

READ_CHARS_MAX: Final = 65_536
"""What is searched for secrets of one text; far more than is shown, so that none is cut in two."""


class JsonFormatter(logging.Formatter):
    """Renders a record; control characters are escaped by JSON itself."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._redact = Redactor(secrets)

    def format(self, record: logging.LogRecord) -> str:
        """Return one line without a newline."""
        entry = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._redact(record.getMessage()[:READ_CHARS_MAX])[:MESSAGE_CHARS_MAX],
        }
        if record.exc_info:
            # The end of a traceback says what happened; chained ones can fill a screen.
            trace = self.formatException(record.exc_info)[-READ_CHARS_MAX:]
            entry["exception"] = self._redact(trace)[-TRACE_CHARS_MAX:]
        return json.dumps(entry, ensure_ascii=True)


def configure(level: str = "INFO", secrets: Iterable[str] = ()) -> None:
    """Send all logs to standard error, without `secrets`; standard output is the command's."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(secrets))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # One line per provider call is noise at this level, and some carry signed addresses.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    logging.getLogger("httpcore2").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
