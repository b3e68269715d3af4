"""`penstock download`: the answers of a job, whole and checked, or not at all."""

from __future__ import annotations

import errno
import shlex
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from penstock.cli.command import command
from penstock.cli.connection import Server, connected
from penstock.cli.ends import shown
from penstock.cli.failure import ExitCode, Failure
from penstock.cli.ids import job_argument, job_id

if TYPE_CHECKING:
    from penstock.client import Api, Download

_MEGABYTE = 1_000_000
_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@command()
@job_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    required=True,
    help='Where to put the answers; it appears when they are complete and checked. "-" writes them '
    "to standard output, also only then.",
)
@click.option("--partial", is_flag=True, help="Of a job that runs, what is finished so far.")
@connected
def download(server: Server, *, job: str, output: Path, partial: bool) -> None:
    """Fetch the answers of the job ID; an interrupted download goes on where it stopped.

    \b
    Examples:
      penstock download @last -o out.jsonl
      penstock download @last -o - | jq .response
      penstock download @last --partial -o part.jsonl
    """  # noqa: D301  # \b is click's mark for lines that are not to be wrapped
    if str(output) == "-":
        _stream(server, job, partial=partial)
        return
    check_folder(output)
    with server.client() as client:
        fetched = fetch(server, client, job_id(server, client, job), output, partial=partial)
    tell(server, fetched)
    if server.as_json:
        server.show(_record(fetched), [])


def fetch(
    server: Server, client: Api, request_id: str, output: Path, *, partial: bool = False
) -> Download:
    """Fetch the output of a job, and say where it goes on if a part of it is there."""
    more = " --partial" if partial else ""
    again = f"penstock download {request_id} -o {shlex.quote(str(output))}{more}"
    before = _size_of_part(output)
    with shown(server, f"stopped; the same command goes on: {again}") as progress:
        is_first = True

        def on_progress(done: int, total: int | None) -> None:
            nonlocal is_first
            if is_first and before and done > before:
                progress.note(f"resumed at {before / _MEGABYTE:,.1f} MB")
            is_first = False
            progress.transfer("received", done, total)

        try:
            return client.download(request_id, output, on_progress=on_progress, partial=partial)
        except OSError as error:
            raise _unwritable(error, output, again) from error


def tell(server: Server, fetched: Download) -> None:
    """Say what came, and that it is proven."""
    proof = "SHA-256 verified" if fetched.verified else "the server stated no checksum"
    server.hint(f"{fetched.path}: {fetched.bytes_total:,} bytes, {proof}")
    if fetched.partial is not None:
        so_far = fetched.partial
        at = datetime.fromtimestamp(so_far.at, UTC)
        server.hint(
            f"{so_far.lines:,} of {so_far.total:,} lines so far, at {at:%Y-%m-%d %H:%M:%S} UTC; "
            "the others say that they are pending, and the same command asks for more"
        )


def check_folder(output: Path | None) -> None:
    """Refuse at once what would otherwise fail after hours of waiting."""
    if output is not None and not output.parent.is_dir():
        raise click.UsageError(f"there is no directory {str(output.parent)!r} for -o")


def _stream(server: Server, job: str, *, partial: bool) -> None:
    """Write the output to standard output, after it has been checked: a pipe takes nothing back."""
    if server.as_json:
        raise click.UsageError("-o - writes the answers where --json would write")
    with tempfile.TemporaryDirectory(prefix="penstock-") as folder, server.client() as client:
        kept = Path(folder) / "output.jsonl"
        fetched = fetch(server, client, job_id(server, client, job), kept, partial=partial)
        with fetched.path.open("rb") as source:
            shutil.copyfileobj(source, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _size_of_part(output: Path) -> int:
    """Return how much of an earlier download is there; 0 for nothing."""
    part = output.with_name(output.name + ".part")
    return part.stat().st_size if part.exists() else 0


def _unwritable(error: OSError, output: Path, again: str) -> Failure:
    if error.errno in _ROOM:
        fix = f"make room, then the same command goes on: {again}"
    else:
        fix = f"choose another place: {again.rpartition(' -o ')[0]} -o OUT"
    return Failure(
        f"cannot write {output}: {error.strerror}",
        code="cannot_write",
        exit_code=ExitCode.UNEXPECTED,
        fix=fix,
    )


def _record(fetched: Download) -> dict[str, object]:
    value: dict[str, object] = {
        "path": str(fetched.path),
        "bytes": fetched.bytes_total,
        "sha256": fetched.sha256,
        "verified": fetched.verified,
    }
    if fetched.partial is not None:
        so_far = fetched.partial
        value["partial"] = {"lines": so_far.lines, "total": so_far.total, "at": so_far.at}
    return value
