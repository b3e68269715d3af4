import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.core.key import key_id_of

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `penstock keys` over a data directory of this test."""

    def command(*arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        environ = {n: v for n, v in os.environ.items() if not n.startswith("PENSTOCK_")}
        return subprocess.run(
            [sys.executable, "-m", "penstock.cli.main", "keys", *arguments],
            env={**environ, "PENSTOCK_DATA_DIR": str(tmp_path / "data"), **more},
            capture_output=True,
            text=True,
            check=False,
        )

    return command


def test_a_key_is_made_and_shown_once(run: Run, tmp_path: Path) -> None:
    """Standard output is the key alone, and no file of the directory holds it."""
    made = run("create", "--name", "ci-nightly")
    key = made.stdout.strip()
    assert (made.returncode, len(made.stdout.splitlines())) == (0, 1)
    assert key_id_of(key) is not None
    assert "Shown once" in made.stderr
    secret = key.split("_")[2].encode()
    assert all(secret not in p.read_bytes() for p in (tmp_path / "data").rglob("*") if p.is_file())


def test_keys_are_listed_and_revoked(run: Run) -> None:
    """A list shows id, state and name, never a secret; after a revocation the state changes."""
    key = run("create", "--name", "ci").stdout.strip()
    key_id = str(key_id_of(key))
    assert run("ls").stdout.startswith(f"{key_id}\tactive\tdefault\tci\t")
    assert run("revoke", key_id).stdout == f"revoked {key_id}\n"
    listed = run("ls").stdout
    assert listed.startswith(f"{key_id}\trevoked\t")
    assert key.split("_")[2] not in listed


def test_revoking_what_is_not_there_fails(run: Run) -> None:
    """The exit code is that of `not found`, and the message names the id."""
    failed = run("revoke", "unknown1")
    assert (failed.returncode, failed.stdout) == (5, "")
    assert "There is no such key in force." in failed.stderr
    assert "fix: penstock keys ls" in failed.stderr


def test_a_revoked_key_cannot_be_revoked_again(run: Run) -> None:
    """The second time there is no active key any more."""
    key_id = str(key_id_of(run("create").stdout.strip()))
    assert [run("revoke", key_id).returncode for _ in range(2)] == [0, 5]


def test_a_directory_may_be_named(run: Run, tmp_path: Path) -> None:
    """The option wins over the environment."""
    other = tmp_path / "other"
    key = run("--data-dir", str(other), "create").stdout.strip()
    assert str(key_id_of(key)) in run("--data-dir", str(other), "ls").stdout
    assert run("ls").stdout == ""


def test_a_key_that_no_server_would_know_is_not_made(run: Run, tmp_path: Path) -> None:
    """On a shared database the secret is the servers'; one made here would be another."""
    failed = run("create", PENSTOCK_DATABASE_URL="postgresql://penstock@127.0.0.1:9/penstock")
    assert failed.returncode == 2
    assert "secret is not set" in failed.stderr
    assert not (tmp_path / "data").exists()


def test_keys_of_a_shared_database(run: Run, postgres_url: str) -> None:
    """With the settings of the servers a key is made from anywhere."""
    shared = {
        "PENSTOCK_DATABASE_URL": postgres_url,
        "PENSTOCK_SECRET": "canary-of-the-keys-7f3a91c05be2d846",
    }
    key = run("create", "--name", "ci", **shared).stdout.strip()
    assert run("ls", **shared).stdout.startswith(f"{key_id_of(key)}\tactive\tdefault\tci\t")
