"""Where the trials are made: one run's folder in the bucket, its few jobs, and their end.

Each create is one POST. What a run has made is told by its id, which stands in every name: in the
folder, in the labels and in the display names. A marker object, which only one run can create,
keeps two from running at the same time, and tells of one that died.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import msgspec

from penstock.blobs.bucket import Bucket
from penstock.clock import Clock
from penstock.doctor.google import Google
from penstock.errors import (
    ConfigurationError,
    PenstockError,
    ProviderError,
    ProviderUnclear,
)
from penstock.providers.provider import ENDED, NewBatch, Provider, ProviderJob

FOLDER: Final = "doctor"
MARKER: Final = "running.json"
POLL_SECONDS_MIN: Final = 0.2
POLL_SECONDS_MAX: Final = 30.0
GROWTH: Final = 1.5

_TAKEN: Final = 412
"""The answer where the marker is there already."""

Told = Callable[[str], None]


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How long is waited for what."""

    patience_seconds: float
    """For all jobs together."""
    list_seconds: float
    """For a new job to be listed."""


class Made(msgspec.Struct, kw_only=True):
    """A job of this run, and what is known of it."""

    label: str
    display_name: str
    created: ProviderJob | None = None
    problem: str = ""
    """Why there is none, in the provider's words."""
    seen: dict[str, Any] = {}
    """As the provider showed it last."""

    @property
    def has_ended(self) -> bool:
        """Whether it is in one of the states that we know as ends."""
        return self.seen.get("state") in ENDED

    @property
    def state(self) -> str:
        """Its state without the long beginning."""
        return str(self.seen.get("state", "unknown")).removeprefix("JOB_STATE_")


class Lab:
    """One run."""

    def __init__(
        self,
        google: Google,
        provider: Provider,
        bucket: Bucket,
        clock: Clock,
        *,
        run: str,
        prefix: str,
    ) -> None:
        self.google = google
        self.provider = provider
        self.bucket = bucket
        self.clock = clock
        self.run = run
        self._root = f"{prefix}/{FOLDER}" if prefix else FOLDER
        self.jobs: dict[str, Made] = {}
        self.states: set[str] = set()

    def resume(self, run: str) -> None:
        """Be the run with this id, in order to end it."""
        self.run = run

    @property
    def folder(self) -> str:
        """Where in the bucket everything of this run lies."""
        return f"{self._root}/{self.run}"

    @property
    def marker(self) -> str:
        """The name of the object that only one run can make."""
        return f"{self._root}/{MARKER}"

    # -- objects ---------------------------------------------------------------------------------

    async def mark(self, model: str, location: str) -> None:
        """Say that a run is going on; raise `ConfigurationError` if another one says so."""
        at = datetime.fromtimestamp(self.clock.now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        about = {"run": self.run, "at": at, "model": model, "location": location}
        bucket = quote(self.google.bucket, safe="")
        answer = await self.google.upload(
            f"b/{bucket}/o", self.marker, msgspec.json.encode(about), only_new=True
        )
        if answer.is_good:
            return
        if answer.status == _TAKEN:
            raise ConfigurationError(
                f"A run of the doctor has begun and not ended: {self.bucket.uri(self.marker)}.",
                hint="If it does not go on elsewhere, remove what it left: "
                "penstock doctor --vertex --clean",
            )
        raise ConfigurationError(
            f"{self.bucket.uri(self.marker)} cannot be written: {answer.said}.",
            hint="Give the caller roles/storage.objectAdmin on the bucket.",
        )

    async def put(self, name: str, lines: Sequence[dict[str, Any]]) -> str:
        """Write an input as Penstock writes inputs, and return its `gs://` address."""
        path = f"{self.folder}/in/{name}.jsonl"
        body = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        await self.bucket.put(path, _blocks(body))
        return self.bucket.uri(path)

    async def objects(self) -> list[str]:
        """Return the names of all that the run has in the bucket."""
        return await self.bucket.list(f"{self.folder}/")

    # -- jobs ------------------------------------------------------------------------------------

    async def create(self, name: str, model: str, location: str, input_uri: str) -> Made:
        """Send one create; what came of it is in what is returned, whatever that is."""
        label = f"doctor-{self.run}-{name}"
        made = Made(label=label, display_name=f"penstock-{label}")
        self.jobs[name] = made
        batch = NewBatch(
            model=model,
            location=location,
            display_name=made.display_name,
            label=label,
            input_uri=input_uri,
            output_prefix=self.bucket.uri(f"{self.folder}/out/{name}"),
        )
        try:
            made.created = await self.provider.create(batch)
        except ProviderUnclear as error:
            # Never sent again: cleaning up looks for it by its label.
            made.problem = f"unclear: {error.message}"
        except ProviderError as error:
            made.problem = error.message
        return made

    async def look(self, made: Made) -> None:
        """Ask for a job as it is now; an answer that does not come leaves what was known."""
        if made.created is None:
            return
        location = made.created.name.split("/")[3]
        try:
            answer = await self.google.vertex("GET", location, made.created.name)
        except ProviderError as error:
            made.problem = error.message
            return
        if answer.is_good:
            made.seen = answer.body
            self.states.add(str(answer.body.get("state")))

    async def wait(self, pace: Pace, tell: Told) -> None:
        """Ask until every job has ended, or patience has."""
        ends_at = self.clock.now() + pace.patience_seconds
        pause = POLL_SECONDS_MIN
        told = ""
        while True:
            open_jobs = [one for one in self.jobs.values() if one.created and not one.has_ended]
            for made in open_jobs:
                await self.look(made)
            states = ", ".join(
                f"{name} {made.state.lower()}" for name, made in self.jobs.items() if made.created
            )
            if states != told:
                tell(states)
                told = states
            open_jobs = [one for one in open_jobs if not one.has_ended]
            left = ends_at - self.clock.now()
            if not open_jobs or left <= 0:
                return
            await self.clock.sleep(min(pause, left))
            pause = min(pause * GROWTH, POLL_SECONDS_MAX)

    # -- the end ---------------------------------------------------------------------------------

    async def clean(self, location: str, before: Sequence[str] = ()) -> list[str]:
        """Cancel what still runs, and remove the run's objects; return what could not be done.

        `before` is what could not be done already: then the marker stays.
        """
        problems: list[str] = list(before)
        for made in self.jobs.values():
            for job in await self._theirs(made, location, problems):
                await _tried(problems, self.provider.cancel(job.name))
        names: list[str] = []
        try:
            names = await self.objects()
        except PenstockError as error:
            problems.append(error.message)
        for name in names:
            await _tried(problems, self.bucket.delete(name))
        if not problems:
            # Last: as long as it stands, somebody knows that there is something left.
            await _tried(problems, self.bucket.delete(self.marker))
        return problems

    async def _theirs(self, made: Made, location: str, problems: list[str]) -> list[ProviderJob]:
        if made.has_ended or (made.created is None and not made.problem.startswith("unclear")):
            return []
        if made.created is not None:
            return [made.created]
        try:
            return await self.provider.find(made.label, location)
        except ProviderError as error:
            problems.append(error.message)
            return []


async def _tried(problems: list[str], doing: Awaitable[None]) -> None:
    try:
        await doing
    except PenstockError as error:
        problems.append(error.message)


async def _blocks(body: bytes) -> AsyncIterator[bytes]:
    yield body
