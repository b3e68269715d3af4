import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from tests.emulator.driver import Emulator, fresh_emulator, jsonl, line

from penstock.core.key import new_key

SECRET = "canary-master-0123456789-0123456789-0123456789"
BASE = "/api/v1/ie/requestqueue/apikey"
GOOD = {"PENSTOCK_VERTEX_PROJECT": "acme", "PENSTOCK_VERTEX_BUCKET": "acme-batch"}
SHARED = {
    **GOOD,
    "PENSTOCK_DATABASE_URL": "postgresql://penstock:canary-password@db/penstock?sslpassword=canary",
    "PENSTOCK_BLOBS_URL": "gs://jobs/penstock",
}
Check = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    """The environment of this test, without settings of the machine."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith("PENSTOCK_")}
    return {**kept, "PENSTOCK_DATA_DIR": str(tmp_path / "data"), **more}


def command(*arguments: str) -> list[str]:
    """`penstock serve` with arguments."""
    return [sys.executable, "-m", "penstock.cli.main", "serve", *arguments]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Run `serve --check` with settings from the environment."""

    def run(*arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command("--check", *arguments),
            env=environment(tmp_path, **more),
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_good_settings_are_told(check: Check, tmp_path: Path) -> None:
    """`--check` says in one line what would run, and starts and makes nothing."""
    done = check(**GOOD)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ok: role all, project acme, bucket acme-batch, database ")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "vertex.project is not set."),
        ({"PENSTOCK_VERTEX_PROJECT": "acme"}, "vertex.bucket is not set."),
        ({**GOOD, "PENSTOCK_HOST": "0.0.0.0"}, "plain HTTP"),
        ({**GOOD, "PENSTOCK_PORT": "x"}, "port"),
        ({**GOOD, "PENSTOCK_TYPO": "x"}, "typo"),
        ({**GOOD, "PENSTOCK_DEFAULT_MODEL": "gemini-0"}, "gemini-0"),
        ({**GOOD, "PENSTOCK_CONFIG": "/nowhere/penstock.toml"}, "/nowhere/penstock.toml"),
    ],
)
def test_bad_settings_are_told(check: Check, environ: dict[str, str], said: str) -> None:
    """One sentence, what to do, exit code 2, and no traceback."""
    failed = check(**environ)
    assert (failed.returncode, failed.stdout) == (2, "")
    first = failed.stderr.splitlines()[0]
    assert first.startswith("error[invalid_configuration]: ")
    assert said in first
    assert "Traceback" not in failed.stderr


def test_a_file_is_checked(check: Check, tmp_path: Path) -> None:
    """`--config` reads a file, and options win over it."""
    file = tmp_path / "penstock.toml"
    file.write_text('port = 1\n[vertex]\nproject = "p"\nbucket = "jobs"\n', encoding="utf-8")
    done = check("--config", str(file), "--port", "9999")
    assert "project p, bucket jobs" in done.stdout
    assert ":9999" in done.stdout


def test_a_role_is_told(check: Check) -> None:
    """`--check` says what the process does and where things are; an option wins over a variable."""
    done = check("--role", "worker", **SHARED, PENSTOCK_ROLE="api", PENSTOCK_SECRET=SECRET)
    assert done.stdout.startswith("ok: role worker, project acme, bucket acme-batch, ")
    assert "database postgresql://penstock:***@db/penstock, " in done.stdout
    assert "inputs and outputs in gs://jobs/penstock, " in done.stdout


def test_a_role_that_does_not_exist_is_told(check: Check) -> None:
    """As a variable as well as on the command line the roles that there are are named."""
    for failed in (check("--role", "boss"), check(**GOOD, PENSTOCK_ROLE="boss")):
        assert failed.returncode == 2
        assert "boss" in failed.stderr


def test_what_a_role_lacks_is_told_at_once(check: Check) -> None:
    """One start is enough to learn of everything."""
    failed = check("--role", "api", **GOOD)
    assert failed.returncode == 2
    for name in ("DATABASE_URL", "BLOBS_URL", "SECRET"):
        assert f"PENSTOCK_{name}" in failed.stderr


def test_a_check_shows_no_secret(check: Check) -> None:
    """Neither a good nor a bad check quotes a secret."""
    for environ in (GOOD, {**GOOD, "PENSTOCK_PORT": "x"}, SHARED, {**SHARED, "PENSTOCK_PORT": "x"}):
        done = check(**environ, PENSTOCK_SECRET=SECRET, PENSTOCK_VERTEX_ACCESS_TOKEN=SECRET)
        assert "canary" not in done.stdout + done.stderr
        assert SECRET not in done.stdout + done.stderr


# -- a running server ----------------------------------------------------------------------------


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    """An emulator whose clock the test moves."""
    with fresh_emulator(tmp_path / "emulator") as made:
        yield made


@contextmanager
def serving(tmp_path: Path, emulator: Emulator) -> Iterator["subprocess.Popen[str]"]:
    """A running server; its log goes to a file."""
    environ = environment(
        tmp_path,
        PENSTOCK_SECRET=SECRET,
        PENSTOCK_TIMING_POLL_SECONDS_MIN="0.05",
        PENSTOCK_TIMING_POLL_SECONDS_MAX="0.1",
        PENSTOCK_TIMING_STAGE_SECONDS="0.1",
    )
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            command("--port", "0", "--emulator", emulator.url),
            env=environ,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def announced(process: "subprocess.Popen[str]") -> str:
    """The next announcement of a server."""
    assert process.stdout is not None
    return process.stdout.readline().partition(": ")[2].strip()


@pytest.mark.slow
def test_a_job_runs_and_no_secret_is_logged(tmp_path: Path, emulator: Emulator) -> None:
    """From submission to download by the real program; log and data hold no key and no secret."""
    wrong = new_key()
    with serving(tmp_path, emulator) as process:
        url, key = announced(process), announced(process)
        with httpx2.Client(base_url=url + BASE, timeout=20) as client:
            assert client.get("/models", headers=bearer(wrong)).status_code == 401
            output = run_job(client, key, emulator)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in {0, -signal.SIGTERM}
    assert [row.count(b'"response"') for row in output.splitlines()] == [1, 1]
    written = [p.read_bytes() for p in (tmp_path / "data").rglob("*") if p.is_file()]
    written.append((tmp_path / "log").read_bytes())
    for text in (key, key[12:55], wrong[12:55], SECRET):
        assert all(text.encode() not in content for content in written)
    assert b"signature=" not in (tmp_path / "log").read_bytes()


def bearer(key: str) -> dict[str, str]:
    """The header of a key."""
    return {"Authorization": f"Bearer {key}"}


def run_job(client: httpx2.Client, key: str, emulator: Emulator) -> bytes:
    """Submit two lines, let an hour pass at the provider as often as needed, and download."""
    data = jsonl([line("one", "a"), line("two", "b")]).decode()
    body = {"model": "Gemini-batch-inference", "payload": {"input_data": data}}
    record = client.post("/requests", json=body, headers=bearer(key)).json()
    for _ in range(20_000):
        record = client.get(f"/requests/{record['request_id']}", headers=bearer(key)).json()
        if record["status"] == "success":
            return client.get(record["outcome"]["output_url"]).content
        if record["status"] == "processing":
            emulator.clock.now += 60
    raise AssertionError(f"never done: {record}")


def test_a_used_directory_stops_a_second_server(tmp_path: Path, emulator: Emulator) -> None:
    """The second program says who is in the way, and the first goes on."""
    with serving(tmp_path, emulator) as process:
        url = announced(process)
        second = subprocess.run(
            command("--port", "0", "--emulator", emulator.url),
            env=environment(tmp_path, PENSTOCK_SECRET=SECRET),
            capture_output=True,
            text=True,
            check=False,
        )
        assert httpx2.get(f"{url}/readyz").status_code == 200
    assert second.returncode == 2
    assert "Another Penstock server uses the data directory" in second.stderr


def test_a_taken_port_is_told(tmp_path: Path, emulator: Emulator) -> None:
    """A port that is in use is one sentence with a way out."""
    port = emulator.url.rsplit(":", 1)[1]
    failed = subprocess.run(
        command("--port", port, "--emulator", emulator.url),
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert failed.returncode == 2
    assert f"Cannot listen on 127.0.0.1:{port}" in failed.stderr
    assert "Traceback" not in failed.stderr
