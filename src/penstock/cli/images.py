"""`penstock images`: the generated pictures of a job, one file each.

The names are made here, of the numbers of line and part; nothing that a model wrote is in them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from penstock.cli.command import command
from penstock.cli.connection import Server, connected
from penstock.cli.ends import shown
from penstock.cli.failure import ExitCode, Failure
from penstock.cli.ids import job_argument, job_id

if TYPE_CHECKING:
    from penstock.client import Api, ImagePlace
    from penstock.client.progress import Progress

_PART_SUFFIX: Final = ".part"
_EXTENSIONS: Final = ("png", "jpg", "webp", "gif")


class _Folder:
    """Where pictures are put; each appears whole, and none takes another's place unasked."""

    def __init__(self, path: Path, *, overwrites: bool) -> None:
        self._path = path
        self._overwrites = overwrites

    def has(self, place: ImagePlace) -> bool:
        """Tell whether there is a picture already, which may be of any type."""
        names = (self._path / f"{_stem(place)}.{extension}" for extension in _EXTENSIONS)
        return not self._overwrites and any(os.path.lexists(name) for name in names)

    def put(self, place: ImagePlace, picture: bytes) -> Path | None:
        """Store a picture under its name; None if it is no picture."""
        from penstock.client import extension_of  # noqa: PLC0415  # lazy: completion needs no HTTP

        extension = extension_of(picture)
        if extension is None:
            return None
        target = self._path / f"{_stem(place)}.{extension}"
        part = target.with_name(target.name + _PART_SUFFIX)
        part.write_bytes(picture)
        part.replace(target)
        return target


@command()
@job_argument
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Directory for the files; made if it is not there.",
)
@click.option("--force", is_flag=True, help="Fetch again what is there, and take its place.")
@connected
def images(server: Server, *, job: str, folder: Path, force: bool) -> None:
    """Fetch the pictures of the job ID as files such as 000017-0.png: line 17, part 0.

    Files that are there already stay, so the same command goes on after an interruption.

    \b
    Examples:
      penstock images @last --out pictures
      penstock images @last --out pictures --force
    """  # noqa: D301  # \b is click's mark for lines that are not to be wrapped
    with server.client() as client:
        request_id = job_id(server, client, job)
        places = client.images(request_id)
        if not places:
            raise Failure(
                f"the answers of {request_id} hold no pictures",
                code="no_images",
                exit_code=ExitCode.NOT_FOUND,
                fix=f"see what they hold: penstock lines {request_id} --text",
            )
        folder.mkdir(parents=True, exist_ok=True)
        into = _Folder(folder, overwrites=force)
        wanted = [place for place in places if not into.has(place)]
        with shown(server, "stopped; the same command goes on") as progress:
            written = _fetch(client, request_id, wanted, into, progress)
    kept, odd = len(places) - len(wanted), len(wanted) - len(written)
    for count, what in ((kept, "were there already"), (odd, "are no pictures")):
        if count:
            server.hint(f"{count:,} of {len(places):,} {what}")
    value = {"files": [str(path) for path in written], "kept": kept, "skipped": odd}
    server.show(value, [str(path) for path in written])


def _fetch(
    client: Api,
    request_id: str,
    wanted: list[ImagePlace],
    into: _Folder,
    progress: Progress,
) -> list[Path]:
    from penstock.client import NotFound  # noqa: PLC0415  # lazy: completion needs no HTTP

    written: list[Path] = []
    for done, place in enumerate(wanted, start=1):
        try:
            path = into.put(place, client.part(request_id, place.line, place.part))
        except NotFound:
            # A model may write what looks like a link of ours.
            path = None
        if path is not None:
            written.append(path)
        progress.count("pictures", done, len(wanted))
    return written


def _stem(place: ImagePlace) -> str:
    return f"{place.line:06d}-{place.part}"
