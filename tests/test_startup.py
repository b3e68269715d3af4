"""Configurations with which no server starts: each names its reason and is exit code 2."""

import os
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner
from tests.journeys.service import Process

from penstock.api.hosts import KnownAs
from penstock.cli.main import cli, run
from penstock.errors import ConfigurationError
from penstock.settings import build
from penstock.startup import known_as, secret_values, setting_faults

SECRET = "canary-7f3a91c05be2d846-canary-e1b09d4477aa"
GOOD = {"PENSTOCK_VERTEX_PROJECT": "acme", "PENSTOCK_VERTEX_BUCKET": "acme-batch"}
SHARED = {
    **GOOD,
    "PENSTOCK_DATABASE_URL": "postgresql://penstock:canary-password@db/penstock",
    "PENSTOCK_BLOBS_URL": "gs://jobs/penstock",
}
OPEN = {**GOOD, "PENSTOCK_HOST": "0.0.0.0"}
PROXIED = {**OPEN, "PENSTOCK_ALLOW_PUBLIC_BIND": "true"}

BAD: dict[str, tuple[dict[str, str], str]] = {
    "no project": ({}, "vertex.project is not set"),
    "no bucket": ({"PENSTOCK_VERTEX_PROJECT": "acme"}, "vertex.bucket is not set"),
    "misspelt name": ({**GOOD, "PENSTOCK_HOSTS_ALOWED": "x"}, "hosts_alowed"),
    "port that is text": ({**GOOD, "PENSTOCK_PORT": "http"}, "port"),
    "port that is none": ({**GOOD, "PENSTOCK_PORT": "65536"}, "port is 65536"),
    "negative port": ({**GOOD, "PENSTOCK_PORT": "-1"}, "port is -1"),
    "role that is none": ({**GOOD, "PENSTOCK_ROLE": "boss"}, "boss"),
    "short secret": ({**GOOD, "PENSTOCK_SECRET": "hunter2"}, "fewer than 32 characters"),
    "one character": ({**GOOD, "PENSTOCK_SECRET": "0" * 64}, "fewer than 8 different"),
    "two characters": ({**GOOD, "PENSTOCK_SECRET": "01" * 32}, "fewer than 8 different"),
    "repeated word": ({**GOOD, "PENSTOCK_SECRET": "correct-horse-9" * 3}, "repeats itself"),
    "alphabet": ({**GOOD, "PENSTOCK_SECRET": "abcdefghijklmnopqrstuvwxyz012345"}, "a sequence"),
    "default of many": ({**GOOD, "PENSTOCK_SECRET": "ChangeMe-ChangeMe-ChangeMe-12345"}, "example"),
    "command not run": (
        {**GOOD, "PENSTOCK_SECRET": "the output of openssl rand -hex 32"},
        "example",
    ),
    "role api without secret": ({**SHARED, "PENSTOCK_ROLE": "api"}, "secret is not set"),
    "role worker without secret": ({**SHARED, "PENSTOCK_ROLE": "worker"}, "secret is not set"),
    "shared `all` without secret": (SHARED, "secret is not set"),
    "role api without a database": (
        {**GOOD, "PENSTOCK_ROLE": "api", "PENSTOCK_SECRET": SECRET},
        "database_url is not set",
    ),
    "public without TLS": ({**OPEN, "PENSTOCK_HOSTS_ALLOWED": "a.example"}, "plain HTTP"),
    "public without a name": (PROXIED, "no name is set"),
    "empty host": ({**PROXIED, "PENSTOCK_HOST": ""}, "no name is set"),
    "public_url without scheme": (
        {**GOOD, "PENSTOCK_PUBLIC_URL": "penstock.example"},
        "public_url",
    ),
    "public_url of a script": (
        {**GOOD, "PENSTOCK_PUBLIC_URL": "javascript:alert(1)"},
        "public_url",
    ),
    "public_url of a file": ({**GOOD, "PENSTOCK_PUBLIC_URL": "ftp://x.example"}, "public_url"),
    "public_url without host": ({**GOOD, "PENSTOCK_PUBLIC_URL": "https://"}, "public_url"),
    "public_url with a query": (
        {**GOOD, "PENSTOCK_PUBLIC_URL": "https://x.example?a"},
        "public_url",
    ),
    "public_url with a key": (
        {**GOOD, "PENSTOCK_PUBLIC_URL": "https://me:it@x.example"},
        "public_url",
    ),
    "public_url with a blank": (
        {**GOOD, "PENSTOCK_PUBLIC_URL": "https://x .example"},
        "public_url",
    ),
    "public_url of odd brackets": ({**GOOD, "PENSTOCK_PUBLIC_URL": "https://[::1"}, "public_url"),
    "plain public_url": (
        {**GOOD, "PENSTOCK_PUBLIC_URL": "http://x.example"},
        "readable on the way",
    ),
    "any host": ({**PROXIED, "PENSTOCK_HOSTS_ALLOWED": "*"}, "hosts_allowed has '*'"),
    "host with scheme": ({**GOOD, "PENSTOCK_HOSTS_ALLOWED": "https://x.example"}, "hosts_allowed"),
    "host with path": ({**GOOD, "PENSTOCK_HOSTS_ALLOWED": "x.example/a"}, "hosts_allowed"),
    "provider that is no URL": ({**GOOD, "PENSTOCK_VERTEX_BASE_URL": "acme"}, "vertex.base_url"),
    "storage that is no URL": ({**GOOD, "PENSTOCK_VERTEX_STORAGE_URL": "gs://x"}, "storage_url"),
    "plain provider": ({**GOOD, "PENSTOCK_VERTEX_BASE_URL": "http://v.example"}, "credentials"),
    "plain storage": ({**GOOD, "PENSTOCK_VERTEX_STORAGE_URL": "http://s.example"}, "credentials"),
    "blobs at no URL": ({**GOOD, "PENSTOCK_BLOBS_ENDPOINT": "minio:9000"}, "blobs_endpoint"),
    "blobs in a file": ({**GOOD, "PENSTOCK_BLOBS_URL": "file:///x"}, "file:///x"),
    "another database": ({**GOOD, "PENSTOCK_DATABASE_URL": "mysql://me:it@db/x"}, "mysql://"),
    "database that is no URL": ({**GOOD, "PENSTOCK_DATABASE_URL": "canary-password"}, "not a URL"),
    "negative limit": ({**GOOD, "PENSTOCK_LIMITS_JOB_BYTES_MAX": "-1"}, "job_bytes_max is -1"),
    "limit of nothing": ({**GOOD, "PENSTOCK_LIMITS_JOB_LINES_MAX": "0"}, "job_lines_max is 0"),
    "wait that is no number": (
        {**GOOD, "PENSTOCK_TIMING_FENCE_SECONDS": "nan"},
        "fence_seconds is nan",
    ),
    "endless wait": ({**GOOD, "PENSTOCK_TIMING_FENCE_SECONDS": "inf"}, "fence_seconds is inf"),
    "least over most": (
        {**GOOD, "PENSTOCK_TIMING_POLL_SECONDS_MIN": "90"},
        "poll_seconds_min is 90",
    ),
    "dead before it beats": (
        {**GOOD, "PENSTOCK_TIMING_HEARTBEAT_SECONDS": "60"},
        "heartbeat_seconds",
    ),
    "late POST": ({**GOOD, "PENSTOCK_TIMING_SETTLE_SECONDS": "5"}, "send_window_seconds is 20"),
    "unknown model": ({**GOOD, "PENSTOCK_DEFAULT_MODEL": "gemini-0"}, "gemini-0"),
    "unread file": ({**GOOD, "PENSTOCK_CONFIG": "/nowhere/penstock.toml"}, "cannot be read"),
}


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment without settings of the machine."""
    for name in os.environ:
        if name.startswith("PENSTOCK_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path / "data"))
    return monkeypatch


@pytest.mark.parametrize("name", BAD)
def test_a_bad_configuration_is_refused(
    alone: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    """Exit code 2, a sentence with the reason, no secret, and nothing is made."""
    environ, reason = BAD[name]
    for variable, text in environ.items():
        alone.setenv(variable, text)
    code = run(["serve"])
    said = capsys.readouterr()
    assert (code, said.out) == (2, "")
    assert said.err.startswith("error[")
    assert reason in said.err
    assert "canary" not in said.err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["public without a name", "one character", "late POST"])
def test_the_program_refuses_it_too(tmp_path: Path, name: str) -> None:
    """What the entry point returns is what the shell sees."""
    environ, reason = BAD[name]
    kept = {n: v for n, v in os.environ.items() if not n.startswith("PENSTOCK_")}
    done = subprocess.run(
        [sys.executable, "-m", "penstock.cli.main", "serve"],
        env={**kept, "PENSTOCK_DATA_DIR": str(tmp_path / "data"), **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_development_on_all_addresses_needs_a_name(
    alone: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """`penstock dev --host 0.0.0.0` asks for its names; a page in a browser could invent one."""
    alone.setenv("PENSTOCK_DATA_DIR", str(tmp_path / "unused"))
    code = run(["dev", "--host", "0.0.0.0", "--port", "0", "--data-dir", str(tmp_path / "dev")])
    assert (code, "no name is set" in capsys.readouterr().err) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize(("host", "also"), [("127.0.0.2", ""), ("0.0.0.0", "127.0.0.3")])
def test_development_at_an_address_answers_to_it(tmp_path: Path, host: str, also: str) -> None:
    """A named address is a name; another one needs PENSTOCK_HOSTS_ALLOWED."""
    arguments = ["dev", "--host", host, "--port", "0", "--data-dir", str(tmp_path / "dev")]
    process = Process(arguments, tmp_path / "log", 3, PENSTOCK_HOSTS_ALLOWED=also)
    try:
        port = process.said["url"].rpartition(":")[2]
        url = f"http://{also or host}:{port}/openapi.json"
        assert httpx2.get(url).status_code == 200
        foreign = httpx2.get(url, headers={"Host": "evil.example"})
        assert (foreign.status_code, foreign.json()["code"]) == (421, "host_not_allowed")
    finally:
        assert process.stop() in {0, -15}


@pytest.mark.parametrize(
    "environ",
    [
        GOOD,
        {**GOOD, "PENSTOCK_SECRET": SECRET},
        {**GOOD, "PENSTOCK_HOSTS_ALLOWED": "a.example, [::1]:8080, 10.0.0.7"},
        {**GOOD, "PENSTOCK_PUBLIC_URL": "http://127.0.0.1:8080"},
        {**GOOD, "PENSTOCK_PUBLIC_URL": "https://x.example/batch/"},
        {**PROXIED, "PENSTOCK_PUBLIC_URL": "https://x.example"},
        {**PROXIED, "PENSTOCK_PUBLIC_URL": "http://penstock.prod.svc"},
        {**OPEN, **SHARED, "PENSTOCK_ROLE": "worker", "PENSTOCK_SECRET": SECRET},
    ],
)
def test_a_good_configuration_is_not(alone: pytest.MonkeyPatch, environ: dict[str, str]) -> None:
    """None of the reasons strikes by mistake."""
    done = CliRunner().invoke(cli, ["serve", "--check"], env=environ)
    assert (done.exit_code, done.output[:3]) == (0, "ok:"), alone


def test_an_emulator_may_be_quick() -> None:
    """Short waits and plain HTTP are refused only where Google is behind them."""
    emulator = {"base_url": "http://emulator:8081", "storage_url": "http://emulator:8081"}
    settings = {"vertex": {**emulator, "access_token": "emulator"}, "timing": {"settle_seconds": 1}}
    assert list(setting_faults(build(settings))) == []


@pytest.mark.parametrize(
    ("given", "names", "is_https"),
    [
        ({}, {"localhost", "127.0.0.1", "::1"}, False),
        (
            {"host": "0.0.0.0", "hosts_allowed": ["A.Example:1", "[0::1]"]},
            {"a.example", "::1"},
            False,
        ),
        (
            {"host": "10.0.0.7", "public_url": "https://X.example:1/p"},
            {"10.0.0.7", "x.example"},
            True,
        ),
        ({"host": "fd00::7", "hosts_allowed": ["a"]}, {"fd00::7", "a"}, False),
    ],
)
def test_a_server_knows_its_names(
    given: dict[str, object],
    names: set[str],
    is_https: bool,  # noqa: FBT001  # a column of the table
) -> None:
    """Its public address, what it was told and what it is bound to; ports do not count."""
    assert known_as(build(given)) == KnownAs(names=frozenset(names), is_https=is_https)


def test_all_secrets_of_the_settings_are_known() -> None:
    """What is redacted by value holds each secret, and the password in both spellings."""
    url = "postgresql://me:p%40ss-word@db/x"
    given = {"secret": SECRET, "database_url": url, "vertex": {"access_token": "token-1"}}
    assert secret_values(build(given)) == {SECRET, url, "p%40ss-word", "p@ss-word", "token-1"}
    assert secret_values(build({"vertex": {"access_token": "emulator"}})) == set()
    assert secret_values(build({"database_url": "http://[x"})) == {"http://[x"}


def test_a_fault_is_a_configuration_error() -> None:
    """Each is told as the other reasons not to start are."""
    (fault,) = setting_faults(build({"port": 65_536}))
    assert isinstance(fault, ConfigurationError)
