"""A submission that is only judged: through the same intake, and nothing of it is kept or counted.

It takes what a submission takes of the server (the way in, a place on the disk for as long as it
runs, the rate of its key), so it needs the same right.
"""

import asyncio
from collections.abc import AsyncIterable
from typing import Any, Final, cast

import msgspec

from penstock.api.auth import Principal
from penstock.api.doors import check_one_input, pulled
from penstock.api.estimates import Question
from penstock.api.jobs import JobDoor, Terms, while_wanted
from penstock.api.money_record import estimate_record
from penstock.api.naming import naming_of
from penstock.blobs.part import Part
from penstock.blobs.spool import INPUT, INPUT_INDEX
from penstock.core.estimate import Estimate
from penstock.core.job import new_job_id
from penstock.core.options import OnInvalid, Options
from penstock.core.quotas import check_cost, day_of
from penstock.errors import Refused
from penstock.ingest.intake import Accepted, Envelope
from penstock.ingest.survey import described
from penstock.ingest.treatment import Treatment
from penstock.ingest.upload import Upload

TRIAL: Final = Treatment(is_trial=True)


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """What would become of a submission."""

    accepted: Accepted
    model: str
    estimate: Estimate | None
    """None where there is no good line."""
    refusal: Refused | None
    """Why all of it would be refused although its lines are good."""


async def examine(
    door: JobDoor,
    principal: Principal,
    upload: Upload,
    body: AsyncIterable[bytes],
    terms: Terms,
) -> Examined:
    """Judge a submission; raises what refuses it as a whole."""
    check_one_input(upload)
    found: Examined | Envelope = upload.envelope
    if upload.envelope.input_uri is None:
        found = await _look(door, principal, upload, body, terms)
    if isinstance(found, Envelope):
        door.model_and_payload(found)
        naming_of(terms.naming, found, door.limits)
        async with door.sources.open(found.input_uri or "") as source:
            chunks = source.chunks
            if terms.still_wanted is not None:
                chunks = while_wanted(chunks, terms.still_wanted)
            found = await _look(door, principal, pulled(source, found), chunks, terms)
    # JSONL has no place for the address of another one.
    return cast(Examined, found)


async def _look(
    door: JobDoor,
    principal: Principal,
    upload: Upload,
    body: AsyncIterable[bytes],
    terms: Terms,
) -> Examined | Envelope:
    upload = msgspec.structs.replace(upload, treatment=TRIAL)
    upload.check_length(door.limits)
    async with door.room.reserve(principal.org_id, upload.room(door.limits)) as hold:
        job_id = new_job_id()
        parts = {name: door.spool.begin(job_id, name) for name in (INPUT, INPUT_INDEX)}
        try:
            hold.follow(lambda: sum(part.size_bytes for part in parts.values()))
            accepted = await door.read(upload, body, parts, hold)
            if accepted.is_elsewhere:
                return accepted.envelope
            naming_of(terms.naming, accepted.envelope, door.limits)
            return await _examined(door, principal, accepted, terms.options, parts)
        finally:
            await asyncio.shield(asyncio.to_thread(_discard, list(parts.values())))


async def _examined(
    door: JobDoor,
    principal: Principal,
    accepted: Accepted,
    options: Options,
    parts: dict[str, Part],
) -> Examined:
    model, _ = door.model_and_payload(accepted.envelope)
    estimate: Estimate | None = None
    refusal: Refused | None = None
    if accepted.problem_count < accepted.line_count:
        estimate = await door.estimates.answer(
            Question(
                org_id=principal.org_id,
                model=model,
                input_path=parts[INPUT].path,
                index_path=parts[INPUT_INDEX].path,
                deduplicate=options.deduplicate,
                day=day_of(door.clock.now()),
            )
        )
        try:
            check_cost(options.max_cost_micro_dollars, model, estimate)
        except Refused as error:
            # It is told, beside all the rest.
            refusal = error
    return Examined(accepted=accepted, model=model, estimate=estimate, refusal=refusal)


def shown(found: Examined, options: Options, quarantine_lines_max: int) -> dict[str, Any]:
    """Return the report as it is answered."""
    bad_max = quarantine_lines_max if options.on_invalid is OnInvalid.QUARANTINE else 0
    answer: dict[str, Any] = {
        "model": found.model,
        **msgspec.structs.asdict(described(found.accepted, bad_max=bad_max)),
        "estimate": None if found.estimate is None else estimate_record(found.estimate),
    }
    if found.refusal is not None:
        answer["valid"] = False
        answer["refusal"] = {
            "code": found.refusal.error_code,
            "message": found.refusal.message,
            "hint": found.refusal.hint,
        }
    return answer


def _discard(parts: list[Part]) -> None:
    for part in parts:
        part.discard()
