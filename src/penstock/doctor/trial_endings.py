"""How jobs end that are not to answer anything: without input, cancelled, refused."""

from typing import Final

from penstock.doctor.check import Finding, fails, holds, unknown, warns
from penstock.doctor.lab import Lab, Made
from penstock.doctor.trial_lines import count_of
from penstock.errors import ProviderError
from penstock.providers.provider import ENDED, NOT_ENDED

_CODE_INPUT: Final = 3
"""Of a job whose input cannot be imported."""


def endings(lab: Lab) -> list[Finding]:
    """Look how the jobs ended that were not to answer anything."""
    return [
        _without_output(lab.jobs["gone"], "input-gone", "the input was not there"),
        _without_output(lab.jobs["importer"], "importer", "a line had a key `$ref`"),
        _cancelled(lab.jobs["cancel"]),
        _states(lab),
    ]


def _without_output(made: Made, check: str, why: str) -> Finding:
    if made.created is None:
        return warns(check, f"the create was not taken: {made.problem}", "see the refusal")
    if not made.has_ended:
        return unknown(check, f"still {made.state.lower()} when patience ended")
    error = made.seen.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    done = count_of(made, "successfulCount")
    if made.state != "FAILED" or done:
        saw = f"{why}, and the job ended {made.state} with {done} answers"
        todo = "raise timing.settle_seconds" if check == "input-gone" else "report it"
        return fails(check, saw, todo)
    message = str(error.get("message", ""))[:100] if isinstance(error, dict) else ""
    if check == "importer" and code != _CODE_INPUT:
        return warns(check, f"failed with code {code}: {message}", "report the code")
    return holds(check, f"FAILED with code {code}, no answers: {message}", code=code)


def _cancelled(made: Made) -> Finding:
    if made.created is None:
        return unknown("cancel", made.problem)
    if not made.has_ended:
        saw = f"still {made.state.lower()} when patience ended"
        return fails("cancel", saw, "it is asked for again; what it does until then is paid")
    return holds("cancel", f"ended {made.state}", state=made.state)


def _states(lab: Lab) -> Finding:
    new = sorted(lab.states - ENDED - NOT_ENDED)
    seen = ", ".join(sorted(state.removeprefix("JOB_STATE_") for state in lab.states))
    if new:
        return fails("states-known", f"unknown: {', '.join(new)}", "report it")
    return holds("states-known", seen) if seen else unknown("states-known", "no job was shown")


async def cancel_ended(lab: Lab) -> Finding:
    """Cancel what has ended; nothing may change."""
    made = lab.jobs["main"]
    if made.created is None or not made.has_ended:
        return unknown("cancel-ended", "the job has not ended")
    before = made.state
    try:
        await lab.provider.cancel(made.created.name)
    except ProviderError as error:
        return fails("cancel-ended", error.message, "report it")
    await lab.look(made)
    if made.state == before:
        return holds("cancel-ended", f"still {before}")
    return fails("cancel-ended", f"{before} became {made.state}", "report it")
