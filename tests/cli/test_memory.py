"""What servers and receiving processes do not load, because it is memory that nobody needs."""

import ctypes
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.test_serve import environment

from penstock.cli.allocator import share_heaps
from penstock.receive.receiver import _PROGRAM

UNUSED = (
    "alembic",
    "cryptography.hazmat.bindings._rust",
    "google.auth",
    "jsonschema_rs.jsonschema_rs",
    "obstore._obstore",
    "penstock.emulator",
    "psycopg.pq",
    "sqlalchemy.orm.mapper",
    "yaml.loader",
)
"""Of libraries that are put off, a module that only they themselves import."""

UNUSED_BY_RECEIVERS = (
    *UNUSED,
    "asyncio",
    "dbos",
    "httpx2",
    "python_multipart.decoders",
    "sqlalchemy",
    "ssl",
    "starlette",
    "tempfile",
    "typing_extensions",
)

SERVER = f"""
import sys
from penstock.cli.main import run
run(["serve", *sys.argv[1:]])
print(sorted(set({UNUSED!r}) & set(sys.modules)))
"""

RECEIVER = f"""
{_PROGRAM.removesuffix("main()")}
import sys
print([name for name in {UNUSED_BY_RECEIVERS!r} if sys.modules.get(name)])
"""

HEAPS = """
import ctypes, threading
from penstock.cli.allocator import share_heaps
print(share_heaps(), flush=True)
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
together = threading.Barrier(9)
def use():
    library.malloc(100_000)
    together.wait(10)
    together.wait(10)
for _ in range(8):
    threading.Thread(target=use).start()
together.wait(10)
library.fdopen.restype = ctypes.c_void_p
stream = ctypes.c_void_p(library.fdopen(1, b"w"))
library.malloc_info(0, stream)
library.fflush(stream)
together.wait(10)
"""


@pytest.mark.slow
def test_a_server_loads_what_it_needs(tmp_path: Path) -> None:
    """With SQLite, an emulator and no webhooks there is no driver, cipher or storage in memory."""
    arguments = ["--port", "0", "--emulator", "http://127.0.0.1:9"]
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, *arguments],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        try:
            said = [server.stdout.readline() for _ in ("url", "key")]
        finally:
            server.send_signal(signal.SIGTERM)
        rest = server.stdout.read()
    assert [line.partition(":")[0] for line in said] == ["url", "key"]
    assert rest == "[]\n"


def test_a_receiving_process_loads_what_it_needs() -> None:
    """No event loop, no TLS, no database: they are three times the rest."""
    done = subprocess.run(
        [sys.executable, "-c", RECEIVER], stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library has one heap")
def test_threads_share_heaps() -> None:
    """Eight threads that allocate have two heaps, and not one each."""
    done = subprocess.run(
        [sys.executable, "-c", HEAPS],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={name: value for name, value in os.environ.items() if "MALLOC" not in name},
    )
    first, _, document = done.stdout.partition("\n")
    assert first == "True"
    assert 1 <= document.count("<heap ") <= 2


def test_a_library_without_such_heaps_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Musl and macOS have no such call, and a server starts there all the same."""
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    assert share_heaps() is False
