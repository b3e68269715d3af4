import subprocess
import sys

import click
import pytest

from penstock import __version__
from penstock.cli.main import cli, run
from penstock.errors import ConfigurationError, InvalidInput, PenstockError, Problem, Unavailable

Out = pytest.CaptureFixture[str]


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let the group have one command that raises the error."""

    @click.command()
    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "get_command", lambda _ctx, _name: fail)


def test_help_names_every_command(capsys: Out) -> None:
    """The list of commands is complete, and the exit codes are told."""
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    for command in cli.list_commands(click.Context(cli)):
        assert f"\n  {command} " in shown
    assert "8    still running when --timeout ended" in shown


def test_version(capsys: Out) -> None:
    """The version is the package's."""
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"penstock, version {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sumbit"], "error[usage]: there is no command 'sumbit'; did you mean submit?\nfix: see "),
        (
            ["job", "lst"],
            "error[usage]: there is no command 'lst'; did you mean list or ls?\nfix: ",
        ),
        (["--profile", "x", "ls"], "error[usage]: --profile stands behind the command\nfix: "),
        (["nonsense"], "error[usage]: there is no command 'nonsense'\nfix: see penstock --help\n"),
        (["status"], "error[usage]: Missing argument 'ID'.\nfix: see penstock show --help\n"),
    ],
)
def test_usage(capsys: Out, arguments: list[str], says: str) -> None:
    """A command line that is wrong ends with 2 and names the help to read."""
    assert run(arguments) == 2
    assert capsys.readouterr().err.startswith(says)


def test_module() -> None:
    """`python -m penstock.cli.main` is the same command."""
    done = subprocess.run(
        [sys.executable, "-m", "penstock.cli.main", "--nonsense"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error[usage]: No such option")


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (ConfigurationError("no", hint="do"), 2, "error[invalid_configuration]: no\nfix: do\n"),
        (Unavailable("later"), 1, "error[unavailable]: later\n"),
        (PenstockError("x", code="y"), 1, "error[y]: x\n"),
        (
            InvalidInput(
                "bad", problems=[Problem(code="c", message="m", line=3, hint="h", path="$.a")]
            ),
            6,
            "error[invalid_input]: bad\n  input:3  m ($.a)\n      hint: h\n",
        ),
        (click.FileError("f", "hint"), 1, "error[command]: Could not open file 'f': hint\n"),
        (OSError(28, "No space left"), 1, "error[system]: [Errno 28] No space left\n"),
        (KeyboardInterrupt(), 130, "\ninterrupted\n"),
    ],
)
def test_errors(
    capsys: Out, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, says: str
) -> None:
    """Every error of a command is one sentence with its own exit code."""
    failing(monkeypatch, error)
    assert run(["fail"]) == code
    assert capsys.readouterr().err == says


def test_unexpected(capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug shows no traceback, and says how to get one."""
    failing(monkeypatch, KeyError("lost"))
    assert run(["fail"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error[unexpected]: KeyError: 'lost'\nfix: this is a bug; ")
    assert "Traceback" not in shown


def test_debug(capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    """PENSTOCK_DEBUG=1 adds the traceback."""
    failing(monkeypatch, KeyError("lost"))
    monkeypatch.setenv("PENSTOCK_DEBUG", "1")
    assert run(["fail"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err
