"""Creates that must be refused, and two that are the same."""

from typing import Final

from penstock.doctor.check import Finding, fails, holds, unknown, warns
from penstock.doctor.lab import Lab, Made
from penstock.errors import ProviderError

_REGION: Final = "us-central1"


async def refusals(lab: Lab, model: str, location: str) -> list[Finding]:
    """Send creates that must be refused; their input does not exist, so that nothing can run."""
    gone = lab.bucket.uri(f"{lab.folder}/in/never-written.jsonl")
    nobody = await lab.create("nobody", "gemini-0-penstock-doctor", location, gone)
    found = [await _refused(lab, nobody, location)]
    found.append(await _unknown_member(lab, model, location, gone))
    if not model.startswith("gemini-3") or location != "global":
        found.append(unknown("regional-refused", f"not tried with {model} at {location}"))
        return found
    regional = await lab.create("regional", model, _REGION, gone)
    if regional.created is None and not regional.problem.startswith("unclear"):
        found.append(holds("regional-refused", f"{_REGION}: {regional.problem}"))
    else:
        saw = f"{model} was taken at {_REGION}"
        found.append(warns("regional-refused", saw, "vertex.location could be set there"))
    return found


async def _refused(lab: Lab, made: Made, location: str) -> Finding:
    if made.created is not None or made.problem.startswith("unclear"):
        saw = f"a create for a model that does not exist: {made.problem or 'taken'}"
        return fails("create-refused", saw, "report it; watch the list of batch jobs")
    try:
        listed = await lab.provider.find(made.label, location)
    except ProviderError as error:
        return unknown("create-refused", error.message)
    if listed:
        saw = f"refused ({made.problem}), and yet there is {listed[0].name}"
        return fails("create-refused", saw, "report it; watch the list of batch jobs")
    return holds("create-refused", made.problem)


async def _unknown_member(lab: Lab, model: str, location: str, gone: str) -> Finding:
    body = {
        "displayName": f"penstock-doctor-{lab.run}-member",
        "model": f"publishers/google/models/{model}",
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": [gone]}},
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": lab.bucket.uri(f"{lab.folder}/out/member")},
        },
        "penstockDoctor": True,
    }
    path = f"{lab.google.parent(location)}/batchPredictionJobs"
    try:
        answer = await lab.google.vertex("POST", location, path, json=body)
    except ProviderError as error:
        return unknown("create-unknown-member", error.message)
    if answer.is_good:
        saw = "taken: what Google does not know is dropped without a word"
        return warns("create-unknown-member", saw, "nothing, while labels-kept holds")
    return holds("create-unknown-member", answer.said)


def twice(lab: Lab) -> Finding:
    """Compare the jobs of two creates that were the same but for their labels' last letter."""
    first, second = lab.jobs["gone"], lab.jobs["again"]
    if first.created is None or second.created is None:
        return unknown("create-not-idempotent", first.problem or second.problem)
    if first.created.name != second.created.name:
        return holds("create-not-idempotent", "two creates, two jobs")
    saw = "two creates of the same input gave one job"
    return warns("create-not-idempotent", saw, "nothing; report it, it is good news")
