"""What can be found out about an account for nothing: credentials, the API, rights, the model."""

from collections import Counter
from typing import Any, Final

import httpx2
import msgspec

from penstock.core.models import Model
from penstock.doctor.check import (
    NOT_ALLOWED,
    NOT_FOUND,
    Finding,
    fails,
    holds,
    unknown,
    warns,
)
from penstock.doctor.google import Answer, Google
from penstock.errors import ProviderError, ProviderUnreachable

NEEDED: Final = (
    "aiplatform.batchPredictionJobs.create",
    "aiplatform.batchPredictionJobs.get",
    "aiplatform.batchPredictionJobs.list",
    "aiplatform.batchPredictionJobs.cancel",
)
"""What Penstock asks of Vertex AI; roles/aiplatform.user has them."""

_USER: Final = "user"
"""How people's own credentials are described (`providers/credentials`)."""

_GLOBAL_ONLY: Final = "gemini-3"
_NO_SUCH_JOB: Final = "1"
_LISTED: Final = 100


class Account(msgspec.Struct, kw_only=True):
    """What is known by now, for the checks that follow."""

    google: Google
    model: Model
    location: str
    project_number: str = ""


async def look(account: Account, described: str) -> list[Finding]:
    """Check what concerns the project; `described` says whose credentials these are."""
    google, location = account.google, account.location
    try:
        answer = await google.jobs(location, pageSize=str(_LISTED))
    except ProviderUnreachable as error:
        todo = "see the network; for credentials: gcloud auth application-default login"
        return [fails("credentials", f"{described}: {error.message}", todo, NOT_ALLOWED)]
    findings = [_credentials(answer, described, google)]
    if findings[0].exit_code:
        return findings
    findings.append(_api(answer, google.project, location))
    if findings[1].exit_code:
        return findings
    findings.append(await _guarded("get-unknown", _unknown_job(google, location)))
    findings.append(await _guarded("project", _project(account)))
    findings.append(await _guarded("permissions", _permissions(google)))
    findings.append(await _guarded("model", _model(google, account.model, location)))
    findings.append(_location(account.model, location))
    findings.append(_quota(answer))
    return findings


async def _guarded(check: str, asking: Any) -> Finding:  # noqa: ANN401  # a coroutine
    """Return what a question found, also where no answer came."""
    try:
        found: Finding = await asking
    except ProviderError as error:
        return unknown(check, error.message)
    return found


def _credentials(answer: Answer, described: str, google: Google) -> Finding:
    if answer.status == httpx2.codes.UNAUTHORIZED:
        todo = "gcloud auth application-default login, or PENSTOCK_VERTEX_CREDENTIALS_FILE"
        return fails("credentials", f"{described}: {answer.said}", todo, NOT_ALLOWED)
    if described.startswith(_USER) and google.quota_project is None:
        # Google counts such calls for a project of its own, and refuses them with odd reasons.
        todo = f"gcloud auth application-default set-quota-project {google.project}"
        return warns("credentials", f"{described}, without a quota project", todo)
    return holds("credentials", described)


def _api(answer: Answer, project: str, location: str) -> Finding:
    if answer.is_good:
        return holds("vertex-api", f"enabled in {project}; batch jobs are listed at {location}")
    if answer.reason == "SERVICE_DISABLED" or "has not been used" in answer.message:
        todo = f"gcloud services enable aiplatform.googleapis.com --project {project}"
        return fails("vertex-api", f"Vertex AI is not enabled in {project}", todo)
    if answer.status == httpx2.codes.FORBIDDEN:
        todo = (
            f"check the project's id, and grant the caller: gcloud projects add-iam-policy-binding "
            f"{project} --member … --role roles/aiplatform.user"
        )
        return fails("vertex-api", f"{project}: {answer.said}", todo, NOT_ALLOWED)
    todo = "check vertex.project, vertex.location and vertex.base_url"
    code = NOT_FOUND if answer.status == httpx2.codes.NOT_FOUND else 1
    return fails("vertex-api", f"{project} at {location}: {answer.said}", todo, code)


async def _unknown_job(google: Google, location: str) -> Finding:
    path = f"{google.parent(location)}/batchPredictionJobs/{_NO_SUCH_JOB}"
    answer = await google.vertex("GET", location, path)
    if answer.status == httpx2.codes.NOT_FOUND:
        return holds("get-unknown", answer.said)
    if answer.status == httpx2.codes.FORBIDDEN:
        todo = "grant the caller roles/aiplatform.user"
        return fails("get-unknown", answer.said, todo, NOT_ALLOWED)
    todo = "report it: lost jobs would be waited for"
    return fails("get-unknown", f"answered by {answer.said}, not 404", todo)


async def _project(account: Account) -> Finding:
    answer = await account.google.about_project("GET")
    number = answer.body.get("projectNumber")
    if isinstance(number, str) and number.isdigit():
        account.project_number = number
        return holds("project", f"{account.google.project} is number {number}", number=number)
    todo = "not needed; it would tell the name of the service agent (resourcemanager.projects.get)"
    return unknown("project", f"its number is not told: {answer.said}", todo)


async def _permissions(google: Google) -> Finding:
    body = {"permissions": list(NEEDED)}
    answer = await google.about_project("POST", ":testIamPermissions", json=body)
    if not answer.is_good:
        todo = "not needed; with it the rights are known (Cloud Resource Manager API)"
        return unknown("permissions", f"cannot be asked about: {answer.said}", todo)
    lacking = [name for name in NEEDED if name not in answer.texts("permissions")]
    if lacking:
        short = ", ".join(name.rsplit(".", 1)[-1] for name in lacking)
        todo = (
            f"gcloud projects add-iam-policy-binding {google.project} --member … "
            "--role roles/aiplatform.user"
        )
        saw = f"the caller may not {short} batch jobs"
        return fails("permissions", saw, todo, NOT_ALLOWED)
    return holds("permissions", "batch jobs may be created, shown, listed and cancelled")


async def _model(google: Google, model: Model, location: str) -> Finding:
    name = model.provider_model or model.id
    answer = await google.vertex("GET", location, f"publishers/google/models/{name}")
    if answer.is_good:
        stage = str(answer.body.get("launchStage") or "")
        return holds("model", f"{name} exists{f' ({stage})' if stage else ''}", model=name)
    if answer.status == httpx2.codes.NOT_FOUND:
        todo = "it may be shut down: name another (PENSTOCK_DEFAULT_MODEL, or models in the file)"
        return fails("model", f"{name}: {answer.said}", todo, NOT_FOUND)
    todo = "only a job can tell: --spend"
    return unknown("model", f"{name} cannot be asked about: {answer.said}", todo)


def _location(model: Model, location: str) -> Finding:
    name = model.provider_model or model.id
    if name.startswith(_GLOBAL_ONLY) and location != "global":
        saw = f"{name} runs batches at `global` only, and vertex.location is {location}"
        return fails("location", saw, "unset PENSTOCK_VERTEX_LOCATION, or take a 2.5 model")
    if location == "global":
        return holds("location", "global")
    todo = "prices outside of `global` may be higher; only a job can tell whether it runs there"
    return warns("location", location, todo)


def _quota(answer: Answer) -> Finding:
    """Tell how much is going on; Google publishes no quota for the number of batch jobs."""
    jobs = answer.body.get("batchPredictionJobs", [])
    listed = [one for one in jobs if isinstance(one, dict)] if isinstance(jobs, list) else []
    states = Counter(str(one.get("state", "")).removeprefix("JOB_STATE_") for one in listed)
    going = {name.lower(): states[name] for name in ("QUEUED", "PENDING", "RUNNING")}
    counts = ", ".join(f"{count} {name}" for name, count in going.items())
    newest = "" if len(listed) < _LISTED else f" among the newest {_LISTED}"
    saw = f"{counts}{newest}; Google publishes no quota for the number of batch jobs"
    return holds("quota", saw, **going)
