"""The entry point, and how any failure reaches the user; `tree` says which commands there are."""

import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, Final

import click

from penstock import __version__
from penstock.cli.command import Lazy
from penstock.cli.failure import ExitCode, Failure, exit_code_for, places
from penstock.cli.tree import TOP, TOP_ALIASES, TOPICS
from penstock.errors import ConfigurationError, PenstockError

_SECRET_VARIABLES: Final = (
    "PENSTOCK_API_KEY",
    "PENSTOCK_DATABASE_URL",
    "PENSTOCK_SECRET",
    "PENSTOCK_VERTEX_ACCESS_TOKEN",
)
"""Their values stand in no message and no traceback."""

_BEHIND: Final = frozenset(
    {"--profile", "--url", "--key", "--organization", "--json", "-q", "--quiet", "--no-color"}
)
"""Options that each command has, and that people write before it at first."""

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
  9    finished, some lines failed (0: --allow-partial)
  130  interrupted; an accepted job keeps running
  141  whoever read the output went away
"""


class _Top(Lazy):
    """The whole command line; a reader that goes away ends it quietly."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  # click's own
        """Run the command that is called."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Nobody's fault: `penstock ls | head -1` is silent.
            return int(ExitCode.READER_GONE)


@click.group(
    cls=_Top,
    entries=TOP,
    topics=TOPICS,
    aliases=TOP_ALIASES,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="penstock")
def cli() -> None:
    """Run many Gemini requests as one job: one proven answer per line, at half the price.

    Where ID stands, write an id, the beginning of one, the name of a job, @last for the job that
    you submitted last, or @1 for the newest one of your organisation.

    \b
    Examples:
      penstock submit reviews.jsonl --name nov --watch
      penstock download @last -o out.jsonl
      penstock dev
    """  # noqa: D301  # \b is click's mark for lines that are not to be wrapped


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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A character that the terminal's encoding lacks is no reason to fail.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = run()
    except KeyboardInterrupt:
        code = int(ExitCode.INTERRUPTED)
    if code == ExitCode.READER_GONE:
        # What is left in the buffer would be complained about at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(code)


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
        if (
            isinstance(error, click.NoSuchOption)
            and error.option_name in _BEHIND
            and " " not in path
        ):
            return Failure(
                f"{error.option_name} stands behind the command",
                code="usage",
                exit_code=ExitCode.USAGE,
                fix=f"write it there: penstock ls {error.option_name} …",
            )
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
    code = exit_code_for(error.status, lines_bad=bool(error.problems))
    if isinstance(error, ConfigurationError):
        code = ExitCode.USAGE
    return Failure(
        error.message,
        code=error.error_code,
        exit_code=code,
        fix=error.hint,
        places=places("input", error.problems),
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
