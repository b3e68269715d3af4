"""Runs the Python blocks of one page, one after the other, in one namespace.

    python python_session.py

Reads a line of JSON for each block, `{"name": …, "code": …, "environment": {…}}`, and answers with
one, `{"said": …, "error": …}`. Blocks may use `await` at their top, as they may in a notebook.
"""

import ast
import asyncio
import contextlib
import inspect
import io
import json
import os
import sys
import traceback
from typing import Any


def main() -> None:
    """Run blocks until there is no other."""
    names: dict[str, Any] = {"__name__": "__main__"}
    answers = sys.stdout
    with asyncio.Runner() as loop:
        for line in sys.stdin:
            block = json.loads(line)
            os.environ.update(block["environment"])
            said = io.StringIO()
            error = None
            with contextlib.redirect_stdout(said):
                try:
                    _run(block["code"], block["name"], names, loop)
                except (Exception, SystemExit):  # noqa: BLE001  # a page may fail in any way, and is told
                    error = traceback.format_exc()
            answers.write(json.dumps({"said": said.getvalue(), "error": error}) + "\n")
            answers.flush()


def _run(code: str, name: str, names: dict[str, Any], loop: asyncio.Runner) -> None:
    compiled = compile(code, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if compiled.co_flags & inspect.CO_COROUTINE:
        coroutine = eval(compiled, names)  # noqa: S307  # the project's own page
        loop.run(coroutine)
    else:
        exec(compiled, names)  # noqa: S102  # the project's own page


if __name__ == "__main__":
    main()
