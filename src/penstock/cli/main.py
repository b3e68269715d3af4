"""The entry point: which commands there are, and how any failure reaches the user.

Commands are named here and imported when they are called, because the HTTP client, the database and
the server together cost ten times what `penstock --help` may take.
"""

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Final

import click

from penstock import __version__
from penstock.cli.failure import ExitCode, Failure, Place, exit_code_for, located
from penstock.errors import ConfigurationError, PenstockError

_COMMANDS: Final[dict[str, tuple[str, str, str]]] = {
    "submit": ("penstock.cli.jobs", "submit", "Send a JSONL file of requests as one job."),
    "validate": ("penstock.cli.validate", "validate", "Judge a file; nothing of it is kept."),
    "status": ("penstock.cli.jobs", "status", "Show one job."),
    "download": ("penstock.cli.jobs", "download", "Fetch the answers of a job."),
    "lines": ("penstock.cli.lines", "lines", "Show what became of each line of a job."),
    "images": ("penstock.cli.images", "images", "Fetch the pictures of a job, one file each."),
    "ls": ("penstock.cli.jobs", "ls", "List the newest jobs."),
    "cancel": ("penstock.cli.jobs", "cancel", "Stop a job; finished answers are kept."),
    "retry": ("penstock.cli.jobs", "retry", "Send failed lines again, into the same output."),
    "usage": ("penstock.cli.usage", "usage", "Show what jobs did cost, and saved."),
    "orgs": ("penstock.cli.orgs", "orgs", "Make organisations, suspend them, set quotas."),
    "users": ("penstock.cli.users", "users", "Add and remove the users of an organisation."),
    "keys": ("penstock.cli.keys", "keys", "Create, list, rotate and revoke API keys."),
    "audit": ("penstock.cli.audit", "audit", "Read the audit log, and verify it."),
    "webhooks": ("penstock.cli.webhooks", "webhooks", "Have the ends of jobs told to an address."),
    "dev": (
        "penstock.cli.dev",
        "dev",
        "Run server and emulator on this machine, no account needed.",
    ),
    "serve": ("penstock.cli.serve", "serve", "Run the server."),
    "emulator": ("penstock.cli.emulator", "emulator", "Run the emulator of Vertex AI alone."),
}

_SECRET_VARIABLES: Final = (
    "PENSTOCK_API_KEY",
    "PENSTOCK_DATABASE_URL",
    "PENSTOCK_SECRET",
    "PENSTOCK_VERTEX_ACCESS_TOKEN",
)
"""Their values stand in no message and no traceback."""

_EPILOG: Final = """\b
Exit codes:
  0    ok
  1    unexpected, or the server's fault
  2    usage
  3    the job failed or was cancelled
  4    no key, or one that may not do this
  5    not found
  6    the input is invalid
  7    a limit or a budget
  8    still running when --timeout ended
  9    finished, but some lines failed (submit --wait)
  130  interrupted; an accepted job keeps running
"""


class _Lazy(click.Group):
    """A group that imports a command when it is called, and not to list it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, short) for name, (_, _, short) in _COMMANDS.items()])


@click.group(
    cls=_Lazy,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="penstock")
def cli() -> None:
    """Run many Gemini requests as one job: one proven answer per line, at half the price."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; nothing but a bug in click raises."""
    try:
        result = cli.main(args=arguments, prog_name="penstock", standalone_mode=False)
    except click.Abort:
        click.echo("interrupted", err=True)
        return ExitCode.INTERRUPTED
    except (Failure, click.ClickException, PenstockError, OSError) as error:
        return _told(error, _failure(error))
    except Exception as error:  # noqa: BLE001  # the outermost boundary: it is shown, with an exit code
        return _told(error, _unexpected(error))
    return result if isinstance(result, int) else ExitCode.OK


def main() -> None:
    """Run the command line of this process."""
    sys.exit(run())


def _told(error: Exception, failure: Failure) -> int:
    from penstock.telemetry.redact import Redactor  # noqa: PLC0415  # lazy: only a failure pays for it

    redact = Redactor(os.environ.get(name, "") for name in _SECRET_VARIABLES)
    if os.environ.get("PENSTOCK_DEBUG") == "1":
        click.echo(redact("".join(traceback.format_exception(error))), err=True, nl=False)
    # A server may repeat what it was sent, and what is shown here ends up in logs of CI.
    failure.message = redact(failure.message)
    failure.fix = failure.fix and redact(failure.fix)
    failure.places = [redact(place) for place in failure.places]
    failure.show()
    return failure.exit_code


def _failure(error: Failure | click.ClickException | PenstockError | OSError) -> Failure:
    if isinstance(error, Failure):
        return error
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "penstock"
        return Failure(
            error.format_message(),
            code="usage",
            exit_code=ExitCode.USAGE,
            fix=f"see {path} --help",
        )
    if isinstance(error, click.ClickException):
        return Failure(error.format_message(), code="command", exit_code=ExitCode(error.exit_code))
    if isinstance(error, PenstockError):
        return _ours(error)
    return Failure(str(error), code="system", exit_code=ExitCode.UNEXPECTED)


def _ours(error: PenstockError) -> Failure:
    places = [
        line
        for problem in error.problems
        for line in Place("input", problem.line, problem.column).lines(
            located(problem.message, problem.path), problem.excerpt, problem.hint
        )
    ]
    code = exit_code_for(error.status, lines_bad=bool(error.problems))
    if isinstance(error, ConfigurationError):
        code = ExitCode.USAGE
    return Failure(
        error.message, code=error.error_code, exit_code=code, fix=error.hint, places=places
    )


def _unexpected(error: Exception) -> Failure:
    return Failure(
        f"{type(error).__name__}: {error}",
        code="unexpected",
        exit_code=ExitCode.UNEXPECTED,
        fix="this is a bug; run it again with PENSTOCK_DEBUG=1 and report the traceback",
    )


if __name__ == "__main__":
    main()
