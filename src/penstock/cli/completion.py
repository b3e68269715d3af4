"""`penstock completion`: commands, options and ids of jobs with the Tab key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click
from click.shell_completion import get_completion_class

from penstock.cli.command import group
from penstock.cli.connection import Answer, answering
from penstock.cli.failure import ExitCode, Failure

VARIABLE: Final = "_PENSTOCK_COMPLETE"
_SHELLS: Final = ("bash", "zsh", "fish")
_SHELL = click.argument("shell", type=click.Choice(_SHELLS), required=False)


@group()
def completion() -> None:
    """Complete commands, options and ids of jobs with the Tab key.

    Ids and names are those that were seen on this machine; no server is asked while you type.

    \b
    Examples:
      penstock completion install
      penstock completion show fish
    """  # noqa: D301  # click's mark is a real backspace


@completion.command()
@_SHELL
@answering
def install(answer: Answer, *, shell: str | None) -> None:
    """Write the script for SHELL to where that shell looks for it; without SHELL for yours.

    \b
    Examples:
      penstock completion install
      penstock completion install zsh
    """  # noqa: D301  # click's mark is a real backspace
    shell = shell or _own_shell()
    path = _place(shell)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_script(shell), encoding="utf-8")
    except OSError as error:
        raise Failure(
            f"cannot write {path}: {error.strerror}",
            code="cannot_write",
            exit_code=ExitCode.UNEXPECTED,
            fix=f"put it where your shell looks: penstock completion show {shell} > FILE",
        ) from error
    answer.show({"shell": shell, "path": str(path)}, [str(path)])
    if shell == "zsh":
        answer.hint(
            f"zsh needs this line in ~/.zshrc, before compinit: fpath=({path.parent} $fpath)"
        )
    answer.hint("open a new shell, then try: penstock show <Tab>")


@completion.command()
@_SHELL
@answering
def show(answer: Answer, *, shell: str | None) -> None:
    """Print the script for SHELL; without SHELL for yours.

    \b
    Examples:
      penstock completion show bash > ~/.penstock.bash
      penstock completion show fish | source
    """  # noqa: D301  # click's mark is a real backspace
    shell = shell or _own_shell()
    script = _script(shell)
    answer.show({"shell": shell, "script": script}, script.rstrip("\n").split("\n"))


def _script(shell: str) -> str:
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"there is no completion for {shell}")
    root = click.get_current_context().find_root().command
    return found(root, {}, "penstock", VARIABLE).source()


def _place(shell: str) -> Path:
    home = Path.home()
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    return {
        "bash": data / "bash-completion/completions/penstock",
        "zsh": data / "zsh/site-functions/_penstock",
        "fish": config / "fish/completions/penstock.fish",
    }[shell]


def _own_shell() -> str:
    name = Path(os.environ.get("SHELL", "")).name
    if name not in _SHELLS:
        raise click.UsageError(f"which shell? Name one of {', '.join(_SHELLS)}")
    return name
