"""Lists: how soon a job is in them, under which label, in which order."""

from typing import Any

from penstock.doctor.check import Finding, fails, holds, unknown, warns
from penstock.doctor.lab import Lab, Made
from penstock.errors import ProviderError


async def listing(lab: Lab, location: str, list_seconds: float) -> list[Finding]:
    """List the jobs of this run: soon enough, each by its own label, under its own name."""
    main = lab.jobs["main"]
    if main.created is None:
        why = f"there is no job to be listed: {main.problem}"
        return [unknown(one, why) for one in ("list-lag", "one-job", "labels-kept", "label-filter")]
    found, waited = await _listed(lab, main, location, list_seconds)
    if found is None:
        saw = f"not listed within {list_seconds:g} s of its create"
        lag = fails("list-lag", saw, "raise timing.fence_seconds until it is")
    else:
        lag = holds("list-lag", f"listed after {waited:.1f} s", seconds=round(waited, 1))
    findings = [lag, _one_job(found)]
    await lab.look(main)
    findings.append(_labels_kept(main))
    findings.append(await _filter(lab, main, location))
    findings.append(await _order(lab, location))
    findings.append(_names(lab))
    return findings


async def _listed(
    lab: Lab, main: Made, location: str, list_seconds: float
) -> tuple[int | None, float]:
    """Return how many jobs have the label once there is one, and how long that took."""
    begun = lab.clock.now()
    pause = 0.1
    while True:
        try:
            found = await lab.provider.find(main.label, location)
        except ProviderError as error:
            main.problem = error.message
            found = []
        waited = lab.clock.now() - begun
        if found:
            return len(found), waited
        if waited >= list_seconds:
            return None, waited
        await lab.clock.sleep(pause)
        pause = min(2 * pause, 5.0)


def _one_job(count: int | None) -> Finding:
    if count is None:
        return unknown("one-job", "it was not listed")
    if count == 1:
        return holds("one-job", "one create, one job")
    return fails("one-job", f"one create, {count} jobs", "report it")


def _labels_kept(main: Made) -> Finding:
    if not main.seen:
        return unknown("labels-kept", main.problem or "the job was not shown")
    labels = main.seen.get("labels")
    mine = isinstance(labels, dict) and main.label in labels.values()
    named = main.seen.get("displayName") == main.display_name
    if mine and named:
        return holds("labels-kept", "label and display name are those that were sent")
    lost = "the label" if not mine else "the display name"
    return fails("labels-kept", f"{lost} did not come back", "do not submit jobs; report it")


async def _filter(lab: Lab, main: Made, location: str) -> Finding:
    wanted = f'labels.penstock-job="{main.label}"'
    try:
        answer = await lab.google.jobs(location, filter=wanted, pageSize="100")
    except ProviderError as error:
        return unknown("label-filter", error.message)
    if not answer.is_good:
        return fails("label-filter", answer.said, "do not submit jobs; report it")
    names = [str(job.get("displayName")) for job in _jobs(answer.body)]
    others = [name for name in names if name != main.display_name]
    if others:
        saw = f"{len(others)} jobs without the label were listed, too: the filter is ignored"
        return fails("label-filter", saw, "keep the list of batch jobs below 2,000")
    if not names:
        return fails("label-filter", "ours is not listed", "do not submit jobs; report it")
    return holds("label-filter", "ours alone is listed")


async def _order(lab: Lab, location: str) -> Finding:
    try:
        answer = await lab.google.jobs(location, pageSize="20")
    except ProviderError as error:
        return unknown("list-order", error.message)
    times = [str(job.get("createTime")) for job in _jobs(answer.body)]
    if len(times) < 2:  # noqa: PLR2004  # an order takes two
        return unknown("list-order", "there are too few jobs")
    if times == sorted(times, reverse=True):
        return holds("list-order", f"the newest of {len(times)} first")
    return warns("list-order", "not the newest first", "nothing, while label-filter holds")


def _names(lab: Lab) -> Finding:
    shown = [made for made in lab.jobs.values() if made.created and made.seen.get("name")]
    if not shown:
        return unknown("name-by-number", "no job was shown")
    for made in shown:
        ours = "" if made.created is None else made.created.name.rsplit("/", 1)[-1]
        theirs = str(made.seen["name"])
        if not ours or theirs.rsplit("/", 1)[-1] != ours:
            return fails("name-by-number", f"{theirs} was made as {ours}", "report it")
    project = str(shown[0].seen["name"]).split("/")[1]
    kind = "number" if project.isdigit() else "id"
    return holds("name-by-number", f"names carry the project's {kind}; the last part is the same")


def _jobs(body: dict[str, Any]) -> list[dict[str, Any]]:
    found = body.get("batchPredictionJobs", [])
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
