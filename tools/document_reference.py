"""Write docs/reference/ from the code; `--check` fails if a page is not up to date.

    python tools/document_reference.py [--check] [PAGE...]

Each page has a module of its own beside this one, with `build`. What has no documentation in the
code, or in tools/error_texts.toml for errors and tools/limit_refusals.toml for limits, is named.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import document_cli
import document_errors
import document_http
import document_index
import document_limits
import document_metrics
import document_python

FOLDER: Final = Path(__file__).parent.parent / "docs" / "reference"
PAGES: Final[dict[str, Callable[[], str]]] = {
    "index": document_index.build,
    "http": document_http.build,
    "cli": document_cli.build,
    "python": document_python.build,
    "errors": document_errors.build,
    "metrics": document_metrics.build,
    "limits": document_limits.build,
}


def main() -> int:
    """Write or check the pages; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("pages", nargs="*", choices=[[], *PAGES], metavar="PAGE")
    arguments = parser.parse_args()
    stale = [
        name for name in arguments.pages or PAGES if not settle(name, is_check=arguments.check)
    ]
    for name in stale:
        print(
            f"docs/reference/{name}.md is not up to date:"
            " run .venv/bin/python tools/document_reference.py"
        )
    return 1 if stale else 0


def settle(name: str, *, is_check: bool) -> bool:
    """Write a page, or return whether it is as it would be written."""
    page = PAGES[name]()
    path = FOLDER / f"{name}.md"
    if is_check:
        return path.exists() and path.read_text("utf-8") == page
    FOLDER.mkdir(exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return True


if __name__ == "__main__":
    sys.exit(main())
