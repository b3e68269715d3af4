"""The job engine: one thread that moves jobs along their timeline as the clock allows.

    create -> PENDING --PENDING_SECONDS--> RUNNING --work--> SUCCEEDED
                 |                            |---> FAILED      import refused, output unwritable
                 |                            |---> CANCELLING ---> CANCELLED with finished rows
                 |---> CANCELLED              `---> CANCELLED after 24 hours, with finished rows
                 `---> EXPIRED after 72 hours

Every time of a job is computed from the time before it, not from when the thread looked: a clock
that jumps gives the same history as one that walks. The work itself takes real time in another
thread; a job ends when its timeline says so *and* its work is done. State is written at each
transition, so a killed emulator goes on where it was; the work of a RUNNING job starts again from
the input.
"""

import hashlib
import logging
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import msgspec

from penstock.emulator.database import Database
from penstock.emulator.faults import Call, Faults, Then
from penstock.emulator.growth import Growing
from penstock.emulator.importer import ImportRefusal
from penstock.emulator.job_record import (
    CANCELLED,
    CANCELLING,
    EXPIRED,
    FAILED,
    PARTIALLY_SUCCEEDED,
    PENDING,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    TERMINAL,
    WAITING,
    Job,
    resource_name,
    subject_of,
)
from penstock.emulator.job_run import Findings, JobRun, output_directory
from penstock.emulator.log import EventLog
from penstock.emulator.objects import ObjectStore
from penstock.emulator.output import Timeline
from penstock.emulator.refusals import StorageRefusal
from penstock.emulator.settings import EmulatorSettings
from penstock.emulator.timestamps import SECOND_US, EmulatorClock

# The timeline at speed 1, in seconds; `settings.speed` divides these.
PENDING_SECONDS: Final = 20.0
IMPORT_FAILURE_SECONDS: Final = 15.0
CANCELLING_SECONDS: Final = 5.0
# Google's documented limits; never divided, or real work would run into them at high speed.
QUEUE_LIMIT_SECONDS: Final = 72 * 3600
RUN_LIMIT_SECONDS: Final = 24 * 3600

EARLY_EXPORTS_MAX: Final = 20
"""How often about the output of a running job is replaced by a longer one."""

_WORKERS: Final = 2
_LOOK_SECONDS: Final = 0.01
_PARTIAL_ROWS: Final = {EXPIRED: 0.5, PARTIALLY_SUCCEEDED: 0.5, CANCELLED: 0.5, FAILED: 0.0}
_CANCELLED_ERROR: Final[dict[str, Any]] = {"code": 1, "message": "CANCELED"}
_logger = logging.getLogger(__name__)


class Ending(NamedTuple):
    """How a job shall end: its state, when, with how many rows, with which error."""

    state: str
    at_us: int
    rows: int
    error: dict[str, Any] | None = None


class _Active:
    """A job in flight, with its run and what the run has found so far."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.run: JobRun | None = None
        self.work: Future[Findings] | None = None
        self.ending: Ending | None = None
        self.export: Future[None] | None = None
        self.partial_rows = 0


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """A checked create request."""

    location: str
    display_name: str
    model: str
    input_uris: list[str]
    output_prefix: str
    labels: dict[str, str]


class JobEngine:
    """All jobs. Methods are thread-safe and short; the work happens in its own threads."""

    def __init__(
        self,
        settings: EmulatorSettings,
        database: Database,
        store: ObjectStore,
        faults: Faults,
        clock: EmulatorClock,
        log: EventLog,
    ) -> None:
        self._growing = Growing(settings.data_dir, database, store)
        self._settings = settings
        self._database = database
        self._store = store
        self._faults = faults
        self._clock = clock
        self._log = log
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._stopping = False
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="emulator-job")
        self._thread = threading.Thread(target=self._loop, name="emulator-engine", daemon=True)
        self._active: dict[str, _Active] = {}
        rows_dir = settings.data_dir / "work"
        rows_dir.mkdir(parents=True, exist_ok=True)
        # Rows of runs that a kill interrupted; those runs start again from their input.
        for leftover in rows_dir.iterdir():
            leftover.unlink()

    @property
    def growing(self) -> Growing:
        """The outputs that grow while they are read."""
        return self._growing

    def start(self) -> None:
        """Take up the jobs that were in flight and begin to move them."""
        for job in self.jobs(include_lost=True):
            if job.ended_us is None:
                self._active[job.id] = _Active(job)
        self._wake.set()
        self._thread.start()

    def stop(self) -> None:
        """Stop moving; running work is abandoned and starts again at the next start."""
        self._stopping = True
        self._wake.set()
        self._thread.join()
        for active in self._active.values():
            if active.run is not None:
                active.run.abort()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def create(self, new: NewJob, *, land_after_seconds: float | None = None) -> Job:
        """Make a job. There is no idempotency: the same request twice makes two jobs."""
        with self._lock:
            sequence = self._database.count("jobs_made")
            late_us = round((land_after_seconds or 0) * SECOND_US)
            now_us = self._clock.now_us() + late_us
            job = Job(
                sequence=sequence,
                id=self._new_id(sequence),
                created_us=now_us,
                updated_us=now_us,
                landed=land_after_seconds is None,
                **msgspec.structs.asdict(new),
            )
            self._save(job)
            self._active[job.id] = _Active(job)
            if job.landed:
                self._note(job, "job_created")
        self._wake.set()
        return msgspec.structs.replace(job)

    def _new_id(self, sequence: int) -> str:
        """19 digits that look random and are the same for the same seed and history."""
        text = f"{self._settings.seed}|job|{sequence}".encode()
        number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())
        return str(10**18 + number % (8 * 10**18))

    def find(self, job_id: str) -> Job | None:
        """A job by its id; None if there is none (or it was deleted)."""
        with self._lock:
            active = self._active.get(job_id)
            if active is not None:
                self._step(active, self._clock.now_us())
        found = self._database.row("SELECT document FROM jobs WHERE id = ?", job_id)
        if found is None:
            return None
        job = msgspec.json.decode(found[0], type=Job)
        return job if job.landed else None

    def jobs(self, *, include_lost: bool = False) -> list[Job]:
        """All jobs, newest first."""
        found = self._database.rows("SELECT document FROM jobs ORDER BY sequence DESC")
        jobs = [msgspec.json.decode(document, type=Job) for (document,) in found]
        kept = [job for job in jobs if job.landed or include_lost]
        return sorted(kept, key=lambda job: (job.created_us, job.sequence), reverse=True)

    def cancel(self, job_id: str) -> bool:
        """Ask for a cancel; False if the job has already ended."""
        with self._lock:
            self.find(job_id)
            active = self._active.get(job_id)
            if active is None or active.ending is not None:
                return False
            job = active.job
            now_us = self._clock.now_us()
            if job.state in WAITING:
                self._log.write("job_cancel_asked", **self._facts(job))
                self._end(active, Ending(CANCELLED, now_us, 0, _CANCELLED_ERROR))
            elif job.cancelled_us is None:
                self._log.write("job_cancel_asked", **self._facts(job))
                job.cancelled_us = now_us
                self._move(job, CANCELLING, now_us)
        return True

    def delete(self, job_id: str) -> None:
        """Forget a job; one in flight is stopped without output."""
        with self._lock:
            active = self._active.pop(job_id, None)
            job = self.find(job_id)
            if active is not None and active.run is not None:
                active.run.abort()
            self._database.rows("DELETE FROM jobs WHERE id = ?", job_id)
            if job is not None:
                self._note(job, "job_deleted")

    def look(self) -> None:
        """Bring all jobs up to the clock, as far as their work allows."""
        with self._lock:
            for active in list(self._active.values()):
                self._step(active, self._clock.now_us())

    def _loop(self) -> None:
        while not self._stopping:
            self._wake.wait()
            self._wake.clear()
            while self._active and not self._stopping:
                began = time.monotonic()
                try:
                    self.look()
                except Exception:
                    # The loop is the boundary: a broken job must not stop the others for ever.
                    _logger.exception("the emulator's engine could not move a job")
                # With thousands of jobs a look takes long; it never gets more than a tenth.
                spent = time.monotonic() - began
                self._wake.wait(max(_LOOK_SECONDS, 9 * spent))
                self._wake.clear()

    def _step(self, active: _Active, now_us: int) -> None:
        job = active.job
        if not job.landed:
            if now_us < job.created_us:
                return
            job.landed = True
            self._save(job)
            self._note(job, "job_created")
        if job.state in WAITING:
            self._step_waiting(active, now_us)
        if job.state not in WAITING and job.state not in TERMINAL:
            self._step_working(active, now_us)

    def _step_waiting(self, active: _Active, now_us: int) -> None:
        job = active.job
        starts_us = job.created_us + self._scaled_us(PENDING_SECONDS)
        then = self._holding(job)
        hold = None if then is None else then.hold
        is_overdue = then is not None and then.overdue
        if hold in {"queued", "pending"}:
            expires_us = job.created_us + QUEUE_LIMIT_SECONDS * SECOND_US
            state = QUEUED if hold == "queued" else PENDING
            if now_us >= expires_us and not is_overdue:
                self._end(active, Ending(EXPIRED, expires_us, 0))
            elif job.state != state or not job.held:
                job.held = True
                self._move(job, state, now_us)
            return
        if job.held:
            starts_us = max(starts_us, now_us)
            job.held = False
        if now_us >= starts_us:
            job.started_us = starts_us
            self._move(job, RUNNING, max(starts_us, job.updated_us))
            self._note(job, "job_started")

    def _step_working(self, active: _Active, now_us: int) -> None:
        if active.work is None:
            active.run = JobRun(
                active.job,
                self._store,
                self._faults,
                self._settings,
                self._growing,
                self._database,
            )
            active.work = self._pool.submit(active.run.work)
        self._show_progress(active, now_us)
        if not active.work.done():
            return
        if active.ending is None:
            active.ending = self._ending(active, _result(active.work), now_us)
        if active.ending is not None:
            self._export_and_end(active, active.ending)

    def _show_progress(self, active: _Active, now_us: int) -> None:
        """Make finished rows visible while the job runs, where a rule asks for it."""
        run, work, job = active.run, active.work, active.job
        if run is None or work is None or not work.done() or active.export is not None:
            return
        findings = _result(work)
        if findings.ledger is None or findings.timeline is None:
            return
        then = self._faults.peek("partial", None, subject_of(job))
        if then is None:
            return
        rows = _rows_shown(then, findings.timeline, now_us)
        if rows > active.partial_rows:
            active.partial_rows = rows
            try:
                run.export_early(output_directory(job), findings.ledger, rows, cut=then.cut)
            except StorageRefusal:
                # The last export will meet the same refusal, and that one decides the job.
                return
            job.output_directory = output_directory(job)
            job.failed = findings.ledger.failed_of(rows)
            job.successful = rows - job.failed
            self._save(job)

    def _ending(self, active: _Active, findings: Findings, now_us: int) -> Ending | None:
        """How and when the job ends, or None while its time has not come."""
        job = active.job
        started_us = job.started_us or job.created_us
        cancelled_us = job.cancelled_us
        gone_us = None
        if cancelled_us is not None:
            gone_us = cancelled_us + self._scaled_us(CANCELLING_SECONDS)
        if findings.refusal is not None:
            ends_us = started_us + self._scaled_us(IMPORT_FAILURE_SECONDS)
            if gone_us is not None and gone_us < ends_us:
                return _due(Ending(CANCELLED, gone_us, 0, _CANCELLED_ERROR), now_us)
            refusal = findings.refusal
            error = {"code": refusal.code, "message": refusal.message}
            return _due(Ending(FAILED, ends_us, 0, error), now_us)
        timeline = findings.timeline
        if timeline is None:
            raise RuntimeError(f"the run of job {job.id} found neither rows nor a refusal")
        then = self._holding(job)
        is_held = then is not None and then.hold == "running"
        # A held job is still at work, however long ago its timeline has ended.
        is_cut = cancelled_us is not None and (is_held or cancelled_us < timeline.ends_us)
        if is_cut and cancelled_us is not None and gone_us is not None:
            rows = timeline.rows_done(cancelled_us)
            if now_us < gone_us:
                return None
            usual = Ending(CANCELLED, gone_us, rows, _CANCELLED_ERROR)
            return self._ordered_ending(job, "cancel", timeline.rows, usual)
        limit_us = started_us + RUN_LIMIT_SECONDS * SECOND_US
        if is_held and then is not None and then.overdue:
            return None
        if timeline.ends_us > limit_us or is_held:
            rows = timeline.rows_done(limit_us)
            return _due(Ending(CANCELLED, limit_us, rows, _CANCELLED_ERROR), now_us)
        if now_us < timeline.ends_us:
            return None
        usual = Ending(SUCCEEDED, timeline.ends_us, timeline.rows)
        return self._ordered_ending(job, "create", timeline.rows, usual)

    def _ordered_ending(self, job: Job, call: Call, rows: int, usual: Ending) -> Ending:
        """The usual end, unless a rule orders another (a cancelled job may still succeed)."""
        then = self._faults.take("finish", call, subject_of(job))
        if then is None or then.finish is None:
            return usual
        share = then.rows if then.rows is not None else _PARTIAL_ROWS.get(then.finish, 1.0)
        error: dict[str, Any] | None = then.error
        if error is None and then.finish == FAILED:
            error = {"code": 13, "message": "System error. Please try again later."}
        if error is None and then.finish == CANCELLED:
            error = _CANCELLED_ERROR
        return Ending(then.finish, usual.at_us, round(rows * share), error)

    def _export_and_end(self, active: _Active, ending: Ending) -> None:
        run, work, job = active.run, active.work, active.job
        if run is None or work is None:
            raise RuntimeError(f"job {job.id} ends without having run")
        ledger, timeline = _result(work).ledger, _result(work).timeline
        if ledger is None or timeline is None or (ending.rows == 0 and ending.state != SUCCEEDED):
            run.forget()
            self._end(active, ending)
            return
        if active.export is None:
            then = self._faults.take("shards", None, subject_of(job))
            shards = (then.shards if then is not None else None) or 1
            directory = output_directory(job)
            active.export = self._pool.submit(run.export, directory, ledger, ending.rows, shards)
        if not active.export.done():
            return
        lost = active.export.exception()
        if lost is not None:
            error = {"code": 13, "message": f"Failed to export data. {lost}"}
            if isinstance(lost, ImportRefusal):
                error = {"code": lost.code, "message": lost.message}
            ending = Ending(FAILED, ending.at_us, 0, error)
        else:
            job.output_directory = output_directory(job)
            job.lines = timeline.rows
            job.failed = ledger.failed_of(ending.rows)
            job.successful = ending.rows - job.failed
            job.incomplete = job.lines - ending.rows
            job.usage = ledger.usage_of(ending.rows)
        run.forget()
        self._end(active, ending)

    def _end(self, active: _Active, ending: Ending) -> None:
        job = active.job
        active.ending = ending
        job.error = ending.error
        job.ended_us = ending.at_us
        if ending.state not in TERMINAL:
            _logger.warning("a rule ends job %s in the odd state %s", job.id, ending.state)
        job.state = ending.state
        # The log comes first: after a kill in between the event stands there twice, not never.
        self._note(job, "job_finished")
        self._move(job, ending.state, max(ending.at_us, job.updated_us))
        self._active.pop(job.id, None)

    def _move(self, job: Job, state: str, at_us: int) -> None:
        job.state = state
        job.updated_us = at_us
        self._save(job)

    def _save(self, job: Job) -> None:
        self._database.rows(
            "INSERT OR REPLACE INTO jobs VALUES (?, ?, ?)",
            job.sequence,
            job.id,
            msgspec.json.encode(job),
        )

    def _holding(self, job: Job) -> Then | None:
        return self._faults.peek("hold", None, subject_of(job))

    def _scaled_us(self, seconds: float) -> int:
        return round(seconds / self._settings.speed * SECOND_US)

    def _note(self, job: Job, event: str) -> None:
        self._log.write(event, **self._facts(job))

    def _facts(self, job: Job) -> dict[str, Any]:
        return {
            "name": resource_name(job, self._settings.project_number),
            "id": job.id,
            "displayName": job.display_name,
            "labels": job.labels,
            "model": job.model,
            "uri": job.input_uris,
            "outputUriPrefix": job.output_prefix,
            "outputDirectory": job.output_directory,
            "state": job.state,
            "lines": job.lines,
            "successful": job.successful,
            "failed": job.failed,
            "incomplete": job.incomplete,
            "usage": job.usage,
            "error": job.error,
        }


def _rows_shown(then: Then, timeline: Timeline, now_us: int) -> int:
    """How many rows stand in the output of a running job, by order or by the clock."""
    if then.rows is not None:
        return round(timeline.rows * then.rows)
    # Each generation is a whole copy, so that there are no more than so many.
    step = max(1, timeline.rows // EARLY_EXPORTS_MAX)
    return timeline.rows_done(now_us) // step * step


def _due(ending: Ending, now_us: int) -> Ending | None:
    return ending if now_us >= ending.at_us else None


def _result(work: Future[Findings]) -> Findings:
    """What a finished run found; its crash looks to the caller as Google's own do: code 13."""
    crash = work.exception()
    if crash is None:
        return work.result()
    return Findings(
        refusal=ImportRefusal(13, f"System error. The emulator's run failed: {crash!r}")
    )
