"""What a server imports in its life, imported before the forks."""

import importlib
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from penstock.cli.main import run

_MODULES: Final = (
    "penstock.cli.serve",
    "penstock.cli.serving",
    "penstock.cli.keys",
    "penstock.cli.emulator",
    "penstock.receive.worker",
    "penstock.store.upgrade",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "sqlalchemy.dialects.sqlite.pysqlite",
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.httptools_impl",
    "asyncio.subprocess",
    "concurrent.futures.thread",
    "encodings.idna",
)


def load() -> None:
    """Import all of it; nothing of this begins a thread."""
    for name in _MODULES:
        importlib.import_module(name)


def command(arguments: Sequence[str]) -> int:
    """Run one command line of Penstock in this process."""
    return int(run(list(arguments)))


def tell(path: Path) -> None:
    """Write down what this process has imported in its life."""
    path.write_text("\n".join(list(sys.modules)), encoding="utf-8")


def learn(path: Path) -> None:
    """Import what another process has imported: libraries import some parts late."""
    for name in path.read_text(encoding="utf-8").splitlines():
        # Some names are aliases that exist only in a running program.
        with suppress(ImportError):
            importlib.import_module(name)
