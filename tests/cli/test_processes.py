"""The command line as a process among others: pipes, closed streams, full disks, odd locales."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.client.stub import KEY, Reply, Stub, error, job, record

pytestmark = pytest.mark.usefixtures("shell")

FILE_BYTES_MAX = 100_000
Done = subprocess.CompletedProcess[str]


def penstock(*arguments: str, is_traced: bool = True, **how: Any) -> Done:  # noqa: ANN401  # options of subprocess
    """Run a command in a process of its own."""
    environment = {**os.environ, **how.pop("env", {})}
    if not is_traced:
        environment.pop("COVERAGE_PROCESS_CONFIG", None)
    return subprocess.run(
        [sys.executable, "-m", "penstock.cli.main", *arguments],
        capture_output=True,
        encoding="utf-8",
        timeout=50,
        check=False,
        env=environment,
        **how,
    )


def listed(stub: Stub, count: int, name: str = "名前") -> None:
    """Let the server have so many jobs."""
    one = {**record("success"), "name": name}
    content = json.dumps({"requests": [one] * count, "total": count})
    stub.on("GET", "/requests", Reply(content=content.encode()))


def shell(script: str, **env: str) -> Done:
    """Run a script of bash in which `penstock` is this one."""
    command = f'penstock() {{ {sys.executable} -m penstock.cli.main "$@"; }}\n{script}'
    return subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        encoding="utf-8",
        timeout=50,
        check=False,
        env={**os.environ, **env},
    )


def test_a_reader_that_goes_away(stub: Stub) -> None:
    """`penstock ls | head -1` is silent, and its exit code is the usual one of a broken pipe."""
    listed(stub, 1_000, "x" * 200)
    done = shell('penstock ls --limit 1000 | head -1; echo "${PIPESTATUS[0]}"')
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "141"


def test_a_closed_standard_input(stub: Stub, tmp_path: Path) -> None:
    """Commands that do not read it work; the one that does says so."""
    listed(stub, 1)
    done = shell("penstock ls -q <&-; penstock submit - <&-")
    assert (done.returncode, done.stdout) == (2, "req_7\n")
    assert done.stderr.startswith("error[usage]: standard input is closed")
    assert list(tmp_path.iterdir())


def test_closed_outputs(stub: Stub) -> None:
    """Nobody listens: the exit code still tells how it went."""
    listed(stub, 1)
    assert shell("penstock ls >&- 2>&-").returncode == 0
    assert shell("penstock show nothing >&- 2>&-").returncode == 5


@pytest.mark.parametrize(
    "locale", [{"LANG": "C"}, {"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii"}]
)
def test_a_locale_without_letters(stub: Stub, locale: dict[str, str]) -> None:
    """A name that the encoding lacks is written in another way, and nothing fails."""
    listed(stub, 1)
    done = penstock("ls", env={"LANG": "", "LC_ALL": "", "LC_CTYPE": "", **locale})
    assert (done.returncode, done.stderr) == (0, "")
    assert "名前" in done.stdout or "\\u540d\\u524d" in done.stdout


def test_a_wrong_address(tmp_path: Path) -> None:
    """A port where nobody listens, and what is no address: one sentence and a way out."""
    environment = {"PENSTOCK_API_KEY": KEY, "XDG_CACHE_HOME": str(tmp_path)}
    done = penstock("auth", "status", "--url", "http://127.0.0.1:1", env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith("error[connection_failed]: cannot reach http://127.0.0.1:1: ")
    assert "fix: check the address" in done.stderr
    done = penstock("ls", "--url", "nowhere", env=environment)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 2)
    assert "give it with its scheme" in done.stderr


def test_a_wrong_key(stub: Stub) -> None:
    """The exit code is 4, and the command that keeps another key is told."""
    stub.on("GET", "/requests", error(401, "unauthenticated", "The API key is not known."))
    done = penstock("ls")
    assert done.returncode == 4
    assert done.stderr.splitlines()[0] == "error[unauthenticated]: The API key is not known."
    assert "penstock auth login" in done.stderr


def test_what_is_no_penstock(stub: Stub) -> None:
    """Another program's page is not taken for an answer."""
    stub.on("GET", "/requests", Reply(content=b"<html>Welcome</html>"))
    done = penstock("ls")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 2)
    assert "the answer is not one of Penstock's" in done.stderr


def test_a_server_of_another_version(stub: Stub) -> None:
    """What it says more is not in the way; a call that it does not have is told as such."""
    listed(stub, 1)
    newer = {**record("paused"), "mood": {"a": 1}}
    stub.on("GET", "/requests/req_7", Reply(content=json.dumps(newer).encode()))
    assert "paused" in penstock("show", "req_7").stdout
    stub.answers["GET", "/api/v1/usage"] = [error(404, "not_found", "There is no such route.")]
    done = penstock("limits")
    assert done.returncode == 5
    assert "older than this client" in done.stderr
    assert "fix: upgrade the server" in done.stderr


def limit_files() -> None:
    """Let no file of this process grow further, as a full disk would not."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, FILE_BYTES_MAX))


def test_a_full_disk(stub: Stub, tmp_path: Path) -> None:
    """What has come is kept, and the same command goes on when there is room."""
    content = b"y" * (3 * FILE_BYTES_MAX)

    def served(seen: Any) -> Reply:  # noqa: ANN401  # a request
        asked = seen.headers.get("range", "")
        if not asked:
            return Reply(content=content, headers={"ETag": '"v1"'})
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        where = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return Reply(206, content[start:], {"ETag": '"v1"', "Content-Range": where})

    stub.serve("/out", served)
    stub.on("GET", "/requests/req_7", job("success", url=f"{stub.url}/out"))
    target = tmp_path / "out"
    # Coverage would write a file of its own, for which there is no room either.
    how: dict[str, Any] = {"preexec_fn": limit_files, "is_traced": False}
    full = penstock("download", "req_7", "-o", str(target), **how)
    assert full.returncode == 1, full.stderr
    assert "Traceback" not in full.stderr
    assert len(full.stderr.splitlines()) == 2, full.stderr
    assert not target.exists()
    kept = (tmp_path / "out.part").stat().st_size
    assert 0 < kept <= FILE_BYTES_MAX
    done = penstock("download", "req_7", "-o", str(target))
    assert (done.returncode, target.read_bytes()) == (0, content)
    assert "resumed at 0.1 MB" in done.stderr


@pytest.mark.parametrize("arguments", [["keys", "ls"], ["submit", "in", "--wait"], ["serve"]])
def test_a_debug_trace_is_for_those_who_ask(
    tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without PENSTOCK_DEBUG=1 no failure shows a stack."""
    (tmp_path / "in").write_text("{}\n")
    monkeypatch.chdir(tmp_path)
    environment = {"PENSTOCK_DATA_DIR": str(tmp_path / "in"), "PENSTOCK_URL": "http://127.0.0.1:1"}
    done = penstock(*arguments, env=environment)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error[")
