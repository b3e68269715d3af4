"""Make the blocking client from the async one; `--check` fails if it is not up to date.

    python tools/make_blocking.py [--check]

The async text is the source, because leaving `await` out is mechanical and putting it in is not
(docs/decisions/0024). `unasync` takes the words out, token by token; names of ours lose their
`Async`, `Awaitable[X]` becomes `X`, and ruff formats. Where the two differ, `io.py` has a twin that
is written by hand.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import unasync  # type: ignore[import-untyped]  # it has no annotations

ROOT: Final = Path(__file__).resolve().parent.parent
CLIENT: Final = ROOT / "src" / "penstock" / "client"
SOURCE: Final = "aio"
TARGET: Final = "blocking"
BY_HAND: Final = frozenset({"io.py"})

HEADER: Final = (
    "# Made from penstock/client/aio/{name} by tools/make_blocking.py; edit that one.\n\n"
)
PACKAGE: Final = (
    '"""The client that blocks; made by `tools/make_blocking.py` of the one that awaits."""\n'
)
WORDS: Final = {
    "aio": TARGET,
    "aread": "read",
    "aclose": "close",
    "aiter_raw": "iter_raw",
    "aclosing": "closing",
    "aiter": "iter",
    "anext": "next",
}
"""Names that the two kinds of a library spell in two ways."""

_NAME: Final = re.compile(r"\bAsync(?=[A-Z])(?!Iter|Generator)(\w+)")
_AWAITABLE: Final = re.compile(
    r"\b(?:Awaitable|Coroutine\[Any, Any, )\[?((?:[^\[\]]|\[[^\[\]]*\])*)\]"
)
_IMPORTED: Final = re.compile(r"(?<=[ ,])Awaitable, |, Awaitable\b")


def main() -> int:
    """Write the blocking client, or say what of it is out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if it differs")
    arguments = parser.parse_args()
    made = make()
    target = CLIENT / TARGET
    there = {path.name for path in target.glob("*.py")} - BY_HAND
    stale = sorted(there - made.keys())
    changed = [name for name in sorted(made) if made[name] != _text(target / name)]
    if arguments.check:
        for name in stale + changed:
            print(f"{TARGET}/{name} is not what tools/make_blocking.py makes; run `make generate`")
        return 1 if stale or changed else 0
    for name in stale:
        (target / name).unlink()
    for name in changed:
        (target / name).write_text(made[name], encoding="utf-8")
        print(f"wrote {TARGET}/{name}")
    return 0


def make() -> dict[str, str]:
    """Return the text of each module of the blocking client."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, SOURCE), Path(folder, TARGET)
        source.mkdir()
        for path in sorted((CLIENT / SOURCE).glob("*.py")):
            if path.name not in BY_HAND:
                text = _without_awaitables(path.read_text(encoding="utf-8"))
                (source / path.name).write_text(text, encoding="utf-8")
        rule = unasync.Rule(str(source), str(target), WORDS)
        unasync.unasync_files([str(path) for path in source.glob("*.py")], [rule])
        made = {}
        for path in target.glob("*.py"):
            path.write_text(_named(path.name, path.read_text(encoding="utf-8")), encoding="utf-8")
        _format(target)
        for path in target.glob("*.py"):
            made[path.name] = path.read_text(encoding="utf-8")
        return made


def _without_awaitables(text: str) -> str:
    """Write `X` for `Awaitable[X]`, and take the names of ours out of texts and code."""
    text = _IMPORTED.sub("", _AWAITABLE.sub(r"\1", text))
    return str(_NAME.sub(r"\1", text))


def _named(name: str, text: str) -> str:
    if name == "__init__.py":
        text = PACKAGE
    return HEADER.format(name=name) + text


def _format(folder: Path) -> None:
    """Format as the project does; what is imported has other names, and `yield from` is shorter."""
    settings = ["--config", str(ROOT / "pyproject.toml")]
    ruff = str(Path(sys.executable).parent / "ruff")
    mend = ["check", "--quiet", "--fix", "--unsafe-fixes", "--select", "I,F401,UP028"]
    for command in (mend, ["format", "--quiet"]):
        subprocess.run([ruff, *command, *settings, str(folder)], check=True)


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
