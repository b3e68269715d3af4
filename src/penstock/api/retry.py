"""`POST /requests/{id}/retry`: send lines of a job that has ended again, into the same output.

The job goes through its states once more, and its output stays as it is until there is a better
one. It counts as a job in flight again and its expected cost is set aside like a new job's; its
lines and its bytes were counted when it was submitted.
"""

import hashlib
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.api.answers import Promise
from penstock.api.audited import audited
from penstock.api.auth import Authenticator, Principal
from penstock.api.idempotency import REPLAYED, check_same, read_key
from penstock.api.jobs import JobDoor
from penstock.api.line_source import LineSource, place_of
from penstock.api.request_queue import BASES
from penstock.api.request_queue_record import Renderer
from penstock.core.access import Scope
from penstock.core.job import Job
from penstock.core.line import LineOutcome
from penstock.core.money import usd_text
from penstock.core.options import Selection
from penstock.core.quotas import quotas_of, without_price
from penstock.core.retry import count_selected, expected_micro_dollars, is_over_cap
from penstock.core.state import TERMINAL
from penstock.errors import Conflict, CostOverCap, InvalidRequest
from penstock.store.admission import Admission
from penstock.store.idempotency import Claim, Memory
from penstock.store.rounds import Round

ROUTE: Final = "POST /requests/{request_id}/retry"
"""Under which its idempotency keys are kept, apart from those of submissions."""

OUTCOMES: Final = tuple(outcome for outcome in LineOutcome if outcome is not LineOutcome.OK)
"""What can be sent again: whatever is not as it should be."""


class RetryRoutes:
    """The route, under both bases."""

    def __init__(
        self, door: JobDoor, authenticator: Authenticator, renderer: Renderer, source: LineSource
    ) -> None:
        self._door = door
        self._authenticator = authenticator
        self._renderer = renderer
        self._source = source

    def routes(self) -> list[Route]:
        """Return the routes under both bases."""
        path = "/requests/{request_id}/retry"
        return [Route(base + path, self.retry, methods=["POST"]) for base in BASES]

    async def retry(self, request: Request) -> Response:
        """Begin another round; 200 means that it is durable."""
        door = self._door
        principal = await self._authenticator.identify(request)
        request_id = request.path_params["request_id"]
        async with audited(door.audit, door.clock, principal, "job.retry", request_id):
            principal.require(Scope.JOBS_WRITE)
            outcomes = read_outcomes(request.query_params.getlist("outcomes"))
            key = read_key(request.headers)
            job = await door.get(principal, request_id)
            async with door.keys.held(principal.org_id, key, ROUTE) as held:
                if isinstance(held, Memory):
                    check_same(held, _fingerprint(job, outcomes))
                else:
                    await self._reopen(principal, job, outcomes, held)
        headers = {}
        if isinstance(held, Memory):
            told = {"replayed": True}
            await door.audit.done(principal.actor, door.clock.now(), "job.retry", job.id, told)
            headers[REPLAYED] = "true"
        return Promise(self._renderer.record(await door.get(principal, job.id), request), headers)

    async def _reopen(
        self,
        principal: Principal,
        job: Job,
        outcomes: tuple[LineOutcome, ...],
        claim: Claim | None,
    ) -> None:
        door = self._door
        following = await self._following(job, outcomes or job.options.retry.outcomes)
        quotas = quotas_of(door.quotas, principal.quotas)
        if following.micro_dollars is None and quotas.limits_spend:
            raise without_price(job.model)
        admission = Admission(
            actor=principal.actor,
            quotas=quotas,
            claim=claim,
            fingerprint=_fingerprint(job, outcomes),
        )
        await door.jobs.reopen(job, door.clock.now(), following, admission)
        door.accepted()

    async def _following(self, job: Job, outcomes: tuple[LineOutcome, ...]) -> Round:
        """Return the round that is to begin; raise a `Refused` if there can be none."""
        _check_state(job, self._door.limits.job_rounds_max)
        lines = await self._source.open(place_of(job, is_partial=False))
        selection = Selection(outcomes=outcomes)
        count = count_selected(lines.kinds, selection, job.problem_count)
        if count <= 0:
            raise Conflict(
                f"No line of the request {job.id} ended as {_words(outcomes)}.",
                code="nothing_to_retry",
                hint="GET …/lines/groups says how they ended. Lines that were put aside because "
                "they are bad cannot be sent; mend them and submit them anew.",
            )
        spent = job.cost_micro_dollars
        expected = expected_micro_dollars(job, count, spent)
        if is_over_cap(job, spent, expected):
            cap = usd_text(job.options.max_cost_micro_dollars or 0)
            raise CostOverCap(
                f"The request {job.id} may cost {cap} USD, cost {usd_text(spent or 0)} so far, and "
                f"{count} lines are expected to cost {_cost(expected)}.",
                hint="Choose fewer outcomes, or submit the lines as a request of their own.",
            )
        return Round(selection=selection, lines=count, micro_dollars=expected)


def read_outcomes(values: list[str]) -> tuple[LineOutcome, ...]:
    """Return the outcomes that are named, with commas between them or one a parameter."""
    words = [word.strip() for value in values for word in value.split(",")]
    outcomes = []
    for word in dict.fromkeys(words):
        if word not in OUTCOMES:
            why = "is fine as it is" if word == LineOutcome.OK else "does not exist"
            raise InvalidRequest(
                f"The outcome {word[:40]!r} {why}.",
                code="invalid_parameter",
                hint=f"Use some of: {', '.join(OUTCOMES)}.",
            )
        outcomes.append(LineOutcome(word))
    return tuple(outcomes)


def _check_state(job: Job, rounds_max: int) -> None:
    if job.state not in TERMINAL:
        raise Conflict(
            f"The request {job.id} has not ended, it is {job.state}: {job.status_detail}",
            code="request_running",
            hint="Wait for its end, or cancel it.",
        )
    if job.round >= rounds_max:
        raise Conflict(
            f"Lines of the request {job.id} were sent {job.round} times, which is the limit.",
            code="too_many_rounds",
            hint="Submit the lines that are left as a request of their own.",
        )


def _words(outcomes: tuple[LineOutcome, ...]) -> str:
    return " or ".join(outcomes) or "anything"


def _cost(micro_dollars: int | None) -> str:
    return "nobody knows what" if micro_dollars is None else f"{usd_text(micro_dollars)} USD"


def _fingerprint(job: Job, outcomes: tuple[LineOutcome, ...]) -> str:
    """Return what tells two retries apart."""
    said = msgspec.json.encode([ROUTE, job.id, sorted(outcomes)])
    return hashlib.sha256(said).hexdigest()
