"""`penstock doctor --server` and `--vertex` as commands, with a real emulator."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.emulator.driver import settings as emulator_settings
from tests.journeys.service import running as service_running
from tests.wire import closed_port

from penstock.cli.main import run
from penstock.emulator.server import running
from penstock.store.database import REVISION, migrate
from penstock.store.location import DATABASE_FILE

Out = pytest.CaptureFixture[str]
Json = dict[str, Any]

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[str]:
    """A fast emulator on the real clock; its address."""
    with running(emulator_settings(tmp_path / "emulator", speed=1_000)) as url:
        yield url


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of a server but those of the test."""
    for name in ("PENSTOCK_CONFIG", "PENSTOCK_VERTEX_PROJECT", "PENSTOCK_VERTEX_BUCKET"):
        monkeypatch.delenv(name, raising=False)


def answer(capsys: Out, *arguments: str) -> Json:
    """Run the command and return its JSON, with its exit code."""
    code = run(["doctor", "--json", *arguments])
    value: Json = json.loads(capsys.readouterr().out)
    assert value["ok"] == (code == 0)
    return {**value, "code": code, **{one["check"]: one for one in value["checks"]}}


# -- a server --------------------------------------------------------------------------------------


def test_a_server_before_its_first_start(
    capsys: Out, emulator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All holds, nothing is migrated and no secret is made: both are for the start.

    Variables of the command line are no settings of a server.
    """
    for name in ("PROFILE", "CONFIRM_ABOVE", "PROGRESS"):
        monkeypatch.setenv(f"PENSTOCK_{name}", "x")
    data = tmp_path / "data"
    found = answer(capsys, "--server", "--emulator", emulator, "--data-dir", str(data))
    assert found["code"] == 0
    assert {one["verdict"] for one in found["checks"]} == {"holds"}, found
    assert not (data / "secret").exists()
    assert not (data / DATABASE_FILE).exists()
    assert [path for path in data.rglob("*") if path.is_file()] == []


def test_a_server_that_has_run(capsys: Out, emulator: str, tmp_path: Path) -> None:
    """Its database is at this version; a secret that others may read is told."""
    migrate(tmp_path / DATABASE_FILE)
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef" * 4)
    secret.chmod(0o600)
    where = ("--server", "--emulator", emulator, "--data-dir", str(tmp_path))
    found = answer(capsys, *where)
    assert found["database"]["facts"] == {"revision": REVISION}
    assert (found["secret"]["verdict"], found["code"]) == ("holds", 0)
    secret.chmod(0o644)
    assert answer(capsys, *where)["secret"]["verdict"] == "warns"


@pytest.mark.parametrize(
    ("statement", "verdict", "code"),
    [
        ("UPDATE alembic_version SET version_num = '0001'", "warns", 0),
        ("UPDATE alembic_version SET version_num = '9999'", "fails", 2),
        ("DROP TABLE alembic_version", "fails", 2),
    ],
)
def test_databases_of_other_versions(
    capsys: Out, emulator: str, tmp_path: Path, statement: str, verdict: str, code: int
) -> None:
    """An older one will be migrated, a newer or foreign one is a wrong usage; none is changed."""
    path = tmp_path / DATABASE_FILE
    migrate(path)
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()
    before = path.read_bytes()
    found = answer(capsys, "--server", "--emulator", emulator, "--data-dir", str(tmp_path))
    assert (found["database"]["verdict"], found["code"]) == (verdict, code)
    assert path.read_bytes() == before


def test_databases_that_are_none(capsys: Out, emulator: str, tmp_path: Path) -> None:
    """A file of something else does not answer; an empty one is like none."""
    path = tmp_path / DATABASE_FILE
    where = ("--server", "--emulator", emulator, "--data-dir", str(tmp_path))
    path.write_bytes(b"")
    assert answer(capsys, *where)["database"]["verdict"] == "holds"
    path.write_bytes(b"no database" * 1_000)
    assert answer(capsys, *where)["database"]["verdict"] == "fails"


def test_a_disk_and_a_place_without_room(
    capsys: Out, emulator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watermark, a budget that is used up, and a blob store that does not answer."""
    where = ("--server", "--emulator", emulator, "--data-dir", str(tmp_path / "data"))
    monkeypatch.setenv("PENSTOCK_DISK_FREE_BYTES_MIN", str(1 << 60))
    assert answer(capsys, *where)["disk"]["verdict"] == "fails"
    monkeypatch.setenv("PENSTOCK_DISK_FREE_BYTES_MIN", "0")
    monkeypatch.setenv("PENSTOCK_LIMITS_JOB_BYTES_MAX", str(1 << 60))
    assert answer(capsys, *where)["disk"]["verdict"] == "warns"
    monkeypatch.setenv("PENSTOCK_SPOOL_BYTES_MAX", "1")
    (tmp_path / "data" / "jobs" / "x").mkdir()
    (tmp_path / "data" / "jobs" / "x" / "y").write_text("full")
    assert "spool_bytes_max" in answer(capsys, *where)["disk"]["saw"]
    monkeypatch.setenv("PENSTOCK_BLOBS_URL", "gs://nobodys-bucket/x")
    found = answer(capsys, *where)
    assert (found["blobs"]["verdict"], found["code"]) == ("fails", 1)


def test_blobs_in_a_bucket(
    capsys: Out, emulator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bucket is written to and left as it was; the secret of the settings counts."""
    monkeypatch.setenv("PENSTOCK_BLOBS_URL", "gs://penstock/blobs")
    monkeypatch.setenv("PENSTOCK_SECRET", "8f2b61c40d9e7a35" * 2 + "x7")
    where = ("--server", "--emulator", emulator, "--data-dir", str(tmp_path / "data"))
    found = answer(capsys, *where)
    assert found["blobs"]["saw"] == "gs://penstock/blobs: written and removed"
    assert found["secret"]["saw"] == "set in the settings"


@pytest.mark.parametrize(
    ("rule", "code"), [({"status": 404}, 5), ({"status": 403}, 1), ({"drop": "before"}, 1)]
)
def test_a_provider_that_says_no(
    capsys: Out, emulator: str, tmp_path: Path, rule: Json, code: int
) -> None:
    """What Vertex AI says is shown, with the way to find out more."""
    body = {"when": {"call": "list"}, "then": rule}
    with httpx2_client(emulator) as http:
        assert http.post("/emulator/v1/rules", json=body).status_code == 200
    found = answer(capsys, "--server", "--emulator", emulator, "--data-dir", str(tmp_path))
    assert (found["vertex"]["verdict"], found["code"]) == ("fails", code)


def test_an_api_process_calls_nobody(
    capsys: Out, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is not needed Google is not asked; settings that lack something end it at once."""
    found = answer(capsys, "--server", "--data-dir", str(tmp_path))
    assert [one["check"] for one in found["checks"]] == ["settings"]
    assert found["code"] == 2
    monkeypatch.setenv("PENSTOCK_PORT", "many")
    assert answer(capsys, "--server", "--data-dir", str(tmp_path))["code"] == 2


# -- Google ----------------------------------------------------------------------------------------


def httpx2_client(url: str) -> Any:  # noqa: ANN401  # a client
    """Return a client of the emulator's own API."""
    return httpx2.Client(base_url=url)


def test_vertex_for_nothing(capsys: Out, emulator: str) -> None:
    """Thirteen checks, no job, and a word about the rest on standard error."""
    assert run(["doctor", "--vertex", "--emulator", emulator]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 13
    assert "--spend" in said.err
    with httpx2_client(emulator) as http:
        assert http.get("/emulator/v1/jobs").json()["jobsMade"] == 0


@pytest.mark.slow
def test_vertex_for_some_cents(capsys: Out, emulator: str) -> None:
    """It says the bound first, tries everything, and gives a report for docs/verified.md."""
    found = answer(capsys, "--vertex", "--emulator", emulator, "--spend", "--yes")
    assert found["code"] == 0, found
    report = found["report"]
    assert report["emulator"] is True
    assert report["model"] == "gemini-3.1-flash-lite"
    assert 0 < report["bound_micro_dollars"] < 100_000
    assert set(report["results"].values()) == {"holds"}
    assert "penstock-emulator" not in json.dumps(report)


@pytest.mark.slow
def test_what_is_at_risk_is_said(capsys: Out, emulator: str) -> None:
    """Where something does not hold, what rests on it and what follows stand before the list."""
    body = {"when": {"call": "job_output"}, "then": {"status": 403}}
    with httpx2_client(emulator) as http:
        http.post("/emulator/v1/rules", json=body)
    arguments = ["doctor", "--vertex", "--emulator", emulator, "--spend", "--yes"]
    assert run(arguments) == 1
    said = capsys.readouterr()
    assert "at most 2." in said.err
    assert "service-agent: The Vertex service agent" in said.err
    assert "rests on it:" in said.err
    assert "✗ service-agent" in said.out


def test_nothing_is_spent_without_a_yes(
    capsys: Out, emulator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody to ask, a cap below the bound, or something that fails already: no job is made."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    arguments = ["doctor", "--vertex", "--emulator", emulator, "--spend"]
    assert run(arguments) == 2
    assert "--yes" in capsys.readouterr().err
    assert run([*arguments, "--yes", "--max-cost", "0.001"]) == 7
    assert "--max-cost 0.001" in capsys.readouterr().err
    monkeypatch.setenv("PENSTOCK_VERTEX_LOCATION", "us-central1")
    model = ["--model", "gemini-3-flash-preview"]
    assert run([*arguments, "--yes", *model]) == 1
    assert "Nothing was spent" in capsys.readouterr().err
    with httpx2_client(emulator) as http:
        assert http.get("/emulator/v1/jobs").json()["jobsMade"] == 0


def test_a_killed_run_is_cleaned_up(capsys: Out, emulator: str) -> None:
    """A marker stops the next run before anything is done, and --clean removes it."""
    with httpx2_client(emulator) as http:
        marker = '{"run": "0a1b2c3d", "at": "2026-11-23T10:00:00Z", "location": "global"}'
        http.put("/penstock/penstock/doctor/running.json", content=marker)
    arguments = ["doctor", "--vertex", "--emulator", emulator]
    assert run([*arguments, "--spend", "--yes"]) == 2
    assert "--clean" in capsys.readouterr().err
    assert "0a1b2c3d" in answer(capsys, *arguments[1:], "--clean")["clean-up"]["saw"]
    assert answer(capsys, *arguments[1:], "--clean")["clean-up"]["verdict"] == "holds"


def test_settings_that_are_not_enough(
    capsys: Out, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No project, an unknown model, no credentials: each is told before anything is asked."""
    assert answer(capsys, "--vertex")["code"] == 2
    found = answer(capsys, "--vertex", "--emulator", "http://127.0.0.1:1", "--model", "nova")
    assert "catalogue" in found["settings"]["saw"]
    monkeypatch.setenv("PENSTOCK_VERTEX_PROJECT", "acme")
    monkeypatch.setenv("PENSTOCK_VERTEX_BUCKET", "acme-batch")
    monkeypatch.setenv("PENSTOCK_VERTEX_CREDENTIALS_FILE", str(tmp_path / "nowhere.json"))
    found = answer(capsys, "--vertex")
    assert (found["credentials"]["verdict"], found["code"]) == ("fails", 4)


def test_an_emulator_that_is_not_there(capsys: Out) -> None:
    """One failure a host, and the exit code of what is worst."""
    found = answer(capsys, "--vertex", "--emulator", f"http://127.0.0.1:{closed_port()}")
    assert found["credentials"]["verdict"] == "fails"
    assert found["code"] == 4


# -- the real thing --------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_client_side_against_a_real_server(
    capsys: Out, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real key is known with user, organisation and scopes; one of another form is good, too."""
    with service_running(tmp_path) as service:
        monkeypatch.setenv("PENSTOCK_URL", service.url)
        monkeypatch.setenv("PENSTOCK_API_KEY", service.key)
        found = answer(capsys)
        assert found["code"] == 0, found
        assert found["key"]["facts"]["org_id"] == "default"
        assert found["scopes"]["saw"] == "all that its user may do"
        body = {"scopes": ["jobs:read"], "expires_in_seconds": 86_400}
        made = service.http.post(f"{service.url}/api/v1/keys", json=body).json()
        monkeypatch.setenv("PENSTOCK_API_KEY", made["key"])
        found = answer(capsys)
        assert found["key"]["verdict"] == "holds"
        assert found["scopes"]["facts"]["scopes"] == ["jobs:read"]
        monkeypatch.setenv("PENSTOCK_API_KEY", "pk_nobody")
        assert answer(capsys)["code"] == 4
