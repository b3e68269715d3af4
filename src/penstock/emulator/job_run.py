"""The work of one running job: import, answers, export. Runs in a thread, never on the event loop.

Nothing in here decides a state. The engine (`jobs.py`) starts a run, asks for what it found, and
decides from the timeline how many rows become visible.
"""

import math
import threading
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Final, NamedTuple

import orjson

from penstock.emulator.answers import Answerer
from penstock.emulator.database import Database
from penstock.emulator.faults import Faults, Subject
from penstock.emulator.growth import Growing
from penstock.emulator.importer import Importer, ImportRefusal
from penstock.emulator.job_record import Job, subject_of
from penstock.emulator.objects import COPY_CHUNK_BYTES, Attributes, Incoming, ObjectStore
from penstock.emulator.once import Once
from penstock.emulator.output import RowLedger, RowOptions, RowWriter, Timeline, shuffled
from penstock.emulator.scripts import Scripts
from penstock.emulator.settings import EmulatorSettings
from penstock.emulator.spoiled_files import Files
from penstock.emulator.spoiling import Spoiler
from penstock.emulator.timestamps import SECOND_US, rfc3339

# The defaults that a test sees at speed 1, in seconds.
RUNNING_SECONDS: Final = 40.0
RUNNING_SECONDS_PER_LINE: Final = 0.01
_SHARD_ATTRIBUTES: Final = Attributes(content_type="application/octet-stream")


class Aborted(Exception):
    """The emulator is shutting down; the job stays RUNNING and is run again after the restart."""


class Findings(NamedTuple):
    """What a finished run knows: its timeline and its ledger, or why it failed."""

    timeline: Timeline | None = None
    ledger: RowLedger | None = None
    refusal: ImportRefusal | None = None


class JobRun:
    """One attempt to work through a job's input."""

    def __init__(
        self,
        job: Job,
        store: ObjectStore,
        faults: Faults,
        settings: EmulatorSettings,
        growing: Growing,
        database: Database,
    ) -> None:
        self._growing = growing
        self._once = Once(database, job.id)
        self._scripts = Scripts(database)
        self._spoiler: Spoiler | None = None
        self._job = job
        self._store = store
        self._faults = faults
        self._settings = settings
        self._aborted = threading.Event()
        self._subject = subject_of(job)
        self.rows_path = settings.data_dir / "work" / f"{job.id}.jsonl"

    def abort(self) -> None:
        """Stop at the next row."""
        self._aborted.set()

    def work(self) -> Findings:
        """Import and answer. Aborted when told to stop; a refusal is a finding, not an error."""
        with ExitStack() as open_files:
            try:
                importer, sources = self._import(open_files)
            except ImportRefusal as refusal:
                return Findings(refusal=refusal)
            rows = len(importer.lines)
            timeline = self._plan(rows, importer.delay_seconds)
            orders = self._faults.outputs(self._subject)
            self._spoiler = Spoiler(orders, rows) if orders else None
            options = RowOptions(
                no_total=self._has_mode("no_total"),
                retype=self._has_mode("retype"),
                spoiler=self._spoiler,
            )
            answerer = Answerer(model=self._job.model, seed=self._settings.seed)
            scripts = self._scripts.all()
            ledger = RowWriter(answerer, timeline, options, self._once, scripts).write(
                self.rows_path,
                sources,
                importer.lines,
                shuffled(rows, f"{self._settings.seed}|{rows}{self._order_seed()}"),
                self._check_not_aborted,
            )
        return Findings(timeline=timeline, ledger=ledger)

    def _plan(self, rows: int, delay_seconds: float) -> Timeline:
        seconds = RUNNING_SECONDS + RUNNING_SECONDS_PER_LINE * rows + delay_seconds
        started_us = self._job.started_us or self._job.created_us
        length_us = math.ceil(seconds / self._settings.speed * SECOND_US)
        return Timeline(started_us, started_us + length_us, rows)

    def _order_seed(self) -> str:
        order = None if self._spoiler is None else self._spoiler.order("unordered")
        return "" if order is None else f"|{order.seed}"

    def _check_not_aborted(self) -> None:
        if self._aborted.is_set():
            raise Aborted

    def _has_mode(self, mode: str) -> bool:
        return self._faults.peek(mode, None, self._subject) is not None

    def _import(self, open_files: ExitStack) -> tuple[Importer, list[IO[bytes]]]:
        self._check_buckets()
        importer = Importer()
        sources: list[IO[bytes]] = []
        for uri in self._job.input_uris:
            for path in self._input_paths(uri):
                sources.append(open_files.enter_context(importer.read_file(path)))
                self._check_not_aborted()
        importer.finish()
        return importer, sources

    def _check_buckets(self) -> None:
        for uri in (*self._job.input_uris, self._job.output_prefix):
            bucket, _ = split_uri(uri)
            if self._store.bucket_created_us(bucket) is None:
                raise ImportRefusal(
                    9,
                    f"Failed to get GCS bucket location for {bucket}. Please make sure the bucket "
                    "exists and the service agent has storage.buckets.get permission.",
                )

    def _input_paths(self, uri: str) -> list[Path]:
        bucket, name = split_uri(uri)
        refused = self._faults.take("status", "job_input", Subject(path=f"{bucket}/{name}"))
        if refused is not None:
            raise ImportRefusal(
                7, f"Service account doesn't have sufficient permission to read {uri}."
            )
        if "*" in name:
            found = [
                stored
                for stored in self._store.matching(bucket, name.partition("*")[0])
                if fnmatchcase(stored.name, name)
            ]
        else:
            only = self._store.find(bucket, name)
            found = [] if only is None else [only]
        if not found:
            raise _gone(uri)
        return [self._store.path(stored) for stored in found]

    def export(self, directory: str, ledger: RowLedger, rows: int, shards: int) -> None:
        """Make the first `rows` rows visible as objects in `directory`.

        ImportRefusal with code 7 where a rule forbids the writing: the work is lost then.
        """
        bucket, prefix = split_uri(directory)
        target = f"{prefix}/predictions.jsonl"
        if self._faults.take("status", "job_output", Subject(path=f"{bucket}/{target}")):
            raise ImportRefusal(
                7,
                f"Service account service-{self._settings.project_number}"
                "@gcp-sa-aiplatform.iam.gserviceaccount.com doesn't have sufficient permission "
                f'"storage.objects.create" to write gs://{bucket}/{target}.',
            )
        if self._has_mode("incremental"):
            name = f"{prefix}/incremental_predictions.jsonl"
            self._put((bucket, name), 0, ledger.bytes_of(rows // 2))
        lacking = self._faults.take("missing_shard", None, self._subject)
        spoiler = self._spoiler or Spoiler((), rows)
        shards = max(shards, spoiler.shards_min)
        files = Files(spoiler, ledger, rows)
        for shard in range(shards):
            if lacking is not None and lacking.missing_shard == shard:
                continue
            name = target if shards == 1 else f"{target}-{shard:05}-of-{shards:05}"
            file = files.shard(shard, shards)
            if file is not None:
                self._put((bucket, name), file.first_byte, file.end_byte, file.steps)
        if self._spoiler is not None:
            self._keep_witness(spoiler)

    def export_early(self, directory: str, ledger: RowLedger, rows: int, *, cut: bool) -> None:
        """Make the first `rows` rows visible while the job runs; `cut` halves the last of them.

        One object, replaced by a longer one each time. No fault of the output strikes here, so that
        those of the last export are where they were ordered.
        """
        bucket, prefix = split_uri(directory)
        end = ledger.bytes_of(rows)
        if cut:
            end = (end + ledger.bytes_of(rows - 1)) // 2
        self._put((bucket, f"{prefix}/predictions.jsonl"), 0, end)

    def _keep_witness(self, spoiler: Spoiler) -> None:
        """What each row was before it was spoiled, for those who check a client."""
        path = witness_path(self._settings.data_dir, self._job.id)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in spoiler.record))

    def _put(self, target: tuple[str, str], first: int, end: int, steps: int = 0) -> None:
        if steps:
            part = self.rows_path.with_suffix(".part")
            with part.open("wb") as out, self.rows_path.open("rb") as rows:
                rows.seek(first)
                out.write(rows.read(end - first))
            self._growing.begin(target, part, steps, _SHARD_ATTRIBUTES)
            part.unlink()
            return
        # Without MD5, as objects that a service composes; it would cost as much as the answers.
        with self._store.incoming(with_md5=False) as incoming:
            if first == 0 and end == self.rows_path.stat().st_size:
                incoming.link(self.rows_path)
            else:
                self._copy_rows(incoming, first, end)
            self._store.commit(incoming, target, _SHARD_ATTRIBUTES)

    def _copy_rows(self, incoming: Incoming, first: int, end: int) -> None:
        with self.rows_path.open("rb") as rows:
            rows.seek(first)
            left = end - first
            while left > 0 and (chunk := rows.read(min(left, COPY_CHUNK_BYTES))):
                incoming.write(chunk)
                left -= len(chunk)

    def forget(self) -> None:
        """Remove what the run left on disk."""
        self.rows_path.unlink(missing_ok=True)


def _gone(uri: str) -> ImportRefusal:
    return ImportRefusal(
        3,
        "Failed to import data. Please check 'Prepare input' section in the batch prediction "
        f"documentation for the input format. Error: Not found: URI {uri}",
    )


def witness_path(data_dir: Path, job_id: str) -> Path:
    """Where the rows of a job with output faults are told, one JSON object each."""
    return data_dir / "witness" / f"{job_id}.jsonl"


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and name of `gs://bucket/name`; the name may be empty."""
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    return bucket, name.rstrip("/")


def output_directory(job: Job) -> str:
    """Two jobs made in the same instant with the same prefix share it: Google's trap."""
    return f"{job.output_prefix.rstrip('/')}/prediction-model-{rfc3339(job.created_us)}"
