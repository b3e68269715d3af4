"""Create the provider job: at most one paid job, whatever dies in between.

The provider takes no idempotency key, so the order is everything (reference/reliability.md 2.4):
the intent is committed before the one POST; the POST is never repeated; any answer that does not
prove that nothing was made leads to `lifecycle/reconcile`, and only that may clear the way for
another intent.
"""

from penstock.core.job import Attempt, Job, JobId
from penstock.core.state import JobState
from penstock.errors import ProviderError, ProviderRefused, ProviderUnclear, ProviderUnreachable
from penstock.fault import fault
from penstock.lifecycle.ports import Backoff, Ports, why_stop
from penstock.lifecycle.reconcile import adoptable, display_name, reconcile
from penstock.lifecycle.stop import stop_unsubmitted
from penstock.providers.provider import NewBatch
from penstock.store.jobs import Finish


async def submit(ports: Ports, job_id: JobId) -> None:
    """Move the job from PREPARED to RUNNING, or to an end without a provider job."""
    backoff = Backoff(ports.timing.retry_seconds_min, ports.timing.retry_seconds_max)
    while True:
        job = await ports.job(job_id)
        if job.state is JobState.SUBMITTING:
            await reconcile(ports, job)
        elif job.state is not JobState.PREPARED:
            return
        else:
            reason = why_stop(job, ports.limits, ports.clock.now())
            if reason is not None:
                await stop_unsubmitted(ports, job, reason)
                return
            try:
                await _create(ports, job)
            except ProviderUnreachable as error:
                await ports.jobs.note(job_id, ports.clock.now(), status_detail=error.message)
                await ports.alarm.wait(job_id, backoff.failed())


async def _create(ports: Ports, job: Job) -> None:
    # A look before the intent: a provider that cannot be reached costs no attempt, and a job that
    # somehow exists already (a restored database, say) is found instead of paid again.
    label, location = job.label, ports.location_of(job)
    found = await ports.provider.find(label, location)
    known = await ports.jobs.attempts(job.id)
    number = job.attempt + 1
    attempt = Attempt(
        job_id=job.id,
        number=number,
        intent_at=ports.clock.now(),
        input_uri=job.provider_input or "",
        output_prefix=ports.bucket.uri(f"{ports.folder(job.id, number)}/output"),
        label=label,
        round=job.round,
    )
    fault("submit.before_intent")
    if not await ports.jobs.intend(attempt):
        return
    fault("submit.intent_committed")
    if adoptable(job, known, found):
        # Reconciliation adopts it; nothing is sent for this intent.
        return
    await _send(ports, job, attempt)


async def _send(ports: Ports, job: Job, attempt: Attempt) -> None:
    if ports.clock.now() > attempt.intent_at + ports.timing.send_window_seconds:
        # This process was frozen; somebody else may be reconciling this very intent.
        return
    model = ports.model(job)
    batch = NewBatch(
        model=model.provider_model or model.id,
        location=ports.location_of(job),
        display_name=display_name(job.id, attempt.number),
        label=attempt.label,
        input_uri=attempt.input_uri,
        output_prefix=attempt.output_prefix,
    )
    try:
        created = await ports.provider.create(batch)
    except ProviderRefused as error:
        await ports.jobs.finish(
            job.id, ports.clock.now(), _refused(error), only_attempt=attempt.number
        )
    except ProviderUnreachable as error:
        # Proven without effect, so the same input may be used by another intent.
        await ports.jobs.move(
            job.id,
            JobState.PREPARED,
            ports.clock.now(),
            only_attempt=attempt.number,
            only_input=attempt.input_uri,
            status_detail=error.message,
        )
        raise
    except ProviderUnclear as error:
        await ports.jobs.note(job.id, ports.clock.now(), status_detail=error.message)
    else:
        fault("submit.answered")
        await ports.jobs.record_provider_job(
            job.id, attempt.number, created.name, ports.clock.now(), only_input=attempt.input_uri
        )
        fault("submit.recorded")


def _refused(error: ProviderError) -> Finish:
    return Finish(
        state=JobState.FAILED,
        detail=error.message,
        error_code=error.error_code,
        error_message=error.message,
    )
