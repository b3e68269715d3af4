"""What can be found out about the bucket for nothing: that it is there, and who may use it."""

from typing import Any, Final

import httpx2

from penstock.doctor.account import Account
from penstock.doctor.check import NOT_ALLOWED, NOT_FOUND, Finding, fails, holds, unknown, warns
from penstock.doctor.google import Answer
from penstock.errors import ProviderUnreachable

NEEDED: Final = (
    "storage.objects.create",
    "storage.objects.get",
    "storage.objects.list",
    "storage.objects.delete",
)
"""What Penstock does in the bucket; roles/storage.objectAdmin has them."""

_AGENT_ROLES: Final = frozenset(
    {
        "roles/storage.objectAdmin",
        "roles/storage.objectUser",
        "roles/storage.admin",
        "roles/owner",
        "roles/editor",
    }
)
"""Each lets the service agent read the input and write the output."""

_OWN_ROLE: Final = "roles/aiplatform.serviceAgent"
"""What Google gives the service agent on its project; it reaches the buckets of that project."""


async def look(account: Account) -> list[Finding]:
    """Check the bucket, the caller's rights in it, and those of the service agent."""
    google = account.google
    try:
        answer = await google.storage("GET", params={"projection": "noAcl"})
        rights = await google.storage(
            "GET", "/iam/testPermissions", params={"permissions": list(NEEDED)}
        )
        findings = [_there(answer, google.bucket), _rights(rights, google.bucket)]
        if answer.status == httpx2.codes.NOT_FOUND:
            return findings[:1]
        if answer.is_good:
            findings.append(_place(answer, account.location))
            findings.append(_deletes(answer))
        findings.append(await _agent(account, answer))
    except ProviderUnreachable as error:
        return [fails("bucket", error.message, "see the network and vertex.storage_url")]
    return findings


def _there(answer: Answer, bucket: str) -> Finding:
    if answer.is_good:
        return holds("bucket", f"gs://{bucket}")
    if answer.status == httpx2.codes.NOT_FOUND:
        todo = f"gcloud storage buckets create gs://{bucket} --uniform-bucket-level-access"
        return fails("bucket", f"gs://{bucket} does not exist", todo, NOT_FOUND)
    if answer.status == httpx2.codes.FORBIDDEN:
        saw = f"gs://{bucket} may not be looked at: {answer.said}"
        todo = "grant storage.buckets.get, or make sure that the bucket is yours"
        return unknown("bucket", saw, todo)
    return fails("bucket", f"gs://{bucket}: {answer.said}", "check vertex.bucket")


def _rights(answer: Answer, bucket: str) -> Finding:
    if not answer.is_good:
        return unknown("bucket-rights", f"cannot be asked about: {answer.said}")
    lacking = [name for name in NEEDED if name not in answer.texts("permissions")]
    if lacking:
        saw = f"the caller lacks {', '.join(lacking)}"
        todo = (
            f"gcloud storage buckets add-iam-policy-binding gs://{bucket} --member … "
            "--role roles/storage.objectAdmin"
        )
        return fails("bucket-rights", saw, todo, NOT_ALLOWED)
    return holds("bucket-rights", "objects may be created, read, listed and deleted")


def _place(answer: Answer, location: str) -> Finding:
    place = str(answer.body.get("location", "")).lower()
    kind = str(answer.body.get("locationType", ""))
    saw = f"{place or 'unknown'} ({kind or 'unknown'}), for jobs at {location}"
    if location in {"global", place} or kind != "region":
        return holds("bucket-location", saw, location=place)
    todo = f"make a bucket in {location}: jobs may fail, and what crosses regions is charged"
    return warns("bucket-location", saw, todo, location=place)


def _deletes(answer: Answer) -> Finding:
    """Tell what would keep deleted objects; the fence must be able to take an input away."""
    retention = _member(answer.body, "retentionPolicy").get("retentionPeriod")
    if retention or answer.body.get("defaultEventBasedHold"):
        saw = "a retention policy or hold keeps objects from being deleted"
        todo = "take another bucket: Penstock must be able to take an input away"
        return fails("bucket-deletes", saw, todo)
    kept = str(_member(answer.body, "softDeletePolicy").get("retentionDurationSeconds", "0"))
    costs = []
    if kept.isdigit() and int(kept):
        costs.append(f"soft delete ({int(kept) // 86_400} days)")
    if _member(answer.body, "versioning").get("enabled"):
        costs.append("versioning")
    if costs:
        todo = f"gcloud storage buckets update gs://{answer.body.get('name')} --clear-soft-delete"
        saw = f"{' and '.join(costs)} keeps deleted inputs and outputs, which is charged"
        return warns("bucket-deletes", saw, todo)
    return holds("bucket-deletes", "what is deleted is gone")


async def _agent(account: Account, bucket: Answer) -> Finding:
    """Look for rights of the service agent; it alone reads inputs and writes outputs."""
    agent = f"service-{account.project_number}@gcp-sa-aiplatform.iam.gserviceaccount.com"
    if not account.project_number:
        saw = "its name needs the project's number, which is not told"
        return unknown("service-agent-rights", saw, "only a job can tell: --spend")
    policy = await account.google.storage("GET", "/iam")
    found = _roles(policy, agent) & _AGENT_ROLES
    if found:
        return holds("service-agent-rights", f"{agent} has {', '.join(sorted(found))}")
    of_project = await account.google.about_project("POST", ":getIamPolicy", json={})
    on_project = _roles(of_project, agent)
    is_own = bucket.body.get("projectNumber") == account.project_number
    if on_project & _AGENT_ROLES or (is_own and _OWN_ROLE in on_project):
        roles = ", ".join(sorted(on_project))
        return holds("service-agent-rights", f"{agent} has {roles} on the project")
    todo = (
        f"gcloud storage buckets add-iam-policy-binding gs://{account.google.bucket} "
        f"--member serviceAccount:{agent} --role roles/storage.objectAdmin"
    )
    if not policy.is_good or not of_project.is_good:
        why = policy.said if not policy.is_good else of_project.said
        saw = f"the policies may not be read ({why}); only a job can tell: --spend"
        return unknown("service-agent-rights", saw, todo)
    # Other roles and groups may give the same; the policy alone cannot prove a no.
    return warns("service-agent-rights", f"no role of {agent} was found that lets it", todo)


def _roles(policy: Answer, agent: str) -> set[str]:
    bindings = policy.body.get("bindings")
    wanted = f"serviceAccount:{agent}"
    return {
        str(one.get("role"))
        for one in (bindings if isinstance(bindings, list) else [])
        if isinstance(one, dict) and wanted in (one.get("members") or [])
    }


def _member(body: dict[str, Any], name: str) -> dict[str, Any]:
    found = body.get(name)
    return found if isinstance(found, dict) else {}
