"""What a handle on a job says, and where it puts pictures; no I/O but writing one file."""

import hashlib
import os
import re
import string
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from penstock.client.errors import ClientError, JobFailed, LinesFailed
from penstock.client.models import JobRecord
from penstock.client.progress import Choice, Progress, chosen
from penstock.client.records import face_of

Shows = Choice | Callable[[JobRecord], object]
"""What `progress=` takes: "auto", a bool, one's own `Progress`, or a function of a record."""

NAME_CHARACTERS_MAX: Final = 100
"""Of a key in the name of a file; what is longer is cut, and told apart by a hash."""

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_FIELDS: Final = frozenset({"key", "line", "n", "ext"})


class Calling:
    """A function of a record in the place of a progress, called when there is something new."""

    def __init__(self, function: Callable[[JobRecord], object]) -> None:
        self._function = function
        self._last: tuple[object, ...] = ()

    def job(self, record: JobRecord) -> None:
        """Call it, unless the record says what the last one did."""
        face = face_of(record)
        if face != self._last:
            self._last = face
            self._function(record)

    def transfer(self, verb: str, done: int, total: int | None) -> None:
        """Show nothing."""

    def count(self, what: str, done: int, total: int) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Write it where errors go."""
        sys.stderr.write(text + "\n")

    def close(self) -> None:
        """Do nothing."""


def shown_by(progress: Shows) -> Progress:
    """Return who shows how far a job is."""
    if callable(progress) and not isinstance(progress, Progress):
        return Calling(progress)
    return chosen(progress)


def tell_interrupted(shown: Progress, job_id: str, error: BaseException) -> None:
    """Say that the job goes on although nobody waits for it any more."""
    # A task may be cancelled for many reasons; only in front of a terminal is it likely Ctrl-C.
    if isinstance(error, KeyboardInterrupt) or sys.stderr.isatty():
        shown.note(
            f"The job goes on. Wait for it again: client.jobs.get({job_id!r}).wait(), "
            f"or penstock wait {job_id}; end it: penstock cancel {job_id}"
        )


def check_end(job: JobRecord, *, lines: bool) -> None:
    """Raise `JobFailed` for a job without an output, and `LinesFailed` if lines count as well."""
    outcome = job.outcome
    has_output = outcome is not None and (outcome.output_url or outcome.output_download_urls)
    if not job.succeeded and not has_output:
        raise JobFailed(
            f"{job.request_id} is {job.status}" + (f": {job.reason}" if job.reason else ""),
            job=job,
            hint="when the cause is gone, submit it again",
        )
    failed = job.stats.not_ok
    if lines and failed:
        counts = job.stats.by_outcome
        ways = ", ".join(f"{count:,} {way}" for way, count in counts.items() if way != "ok")
        raise LinesFailed(
            f"{failed:,} of {job.stats.total_count:,} lines of {job.request_id} did not end well"
            + (f": {ways}" if ways else ""),
            job=job,
            hint="job.groups() tells why; job.retry() sends those again that may end otherwise",
        )


class Places:
    """Where pictures of a job are written: names made of a template and hostile keys."""

    def __init__(self, template: str | os.PathLike[str]) -> None:
        """Read the template; raises `ClientError` if it has other fields than ours."""
        self._template = os.fspath(template)
        self._taken: set[Path] = set()
        fields = {name for _, name, _, _ in string.Formatter().parse(self._template) if name}
        if strange := fields - _FIELDS:
            raise ClientError(
                f"{self._template!r} has a field {min(strange)!r}, which pictures do not have",
                hint="use {key}, {line}, {n} and {ext}, such as out/{key}_{n}.{ext}",
            )

    def place(self, key: str | None, line: int, number: int, extension: str) -> Path:
        """Return where the next picture goes, each to a place of its own.

        A key can name no other folder: what is no plain character in it becomes `_`.
        """
        name = safe_name(key) if key else str(line)
        path = Path(self._template.format(key=name, line=line, n=number, ext=extension))
        if path in self._taken:
            path = path.with_name(f"{path.stem}-{line}-{number}{path.suffix}")
        self._taken.add(path)
        return path


def safe_name(key: str) -> str:
    """Return a key as part of a file's name; different keys give different names."""
    plain = _UNSAFE.sub("_", key).lstrip(".")[:NAME_CHARACTERS_MAX]
    if plain == key:
        return key
    return f"{plain}-{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            part.unlink()
        raise
