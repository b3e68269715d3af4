"""Vertex AI batch prediction by plain REST (reference/wire.md 1).

Google's SDKs are not used: the official client repeats a create on a dropped connection, which
makes a second, paid job. Here a create is one POST, and any answer that does not prove that it had
no effect is `ProviderUnclear`.
"""

from typing import Any, Final, Protocol

import httpx2

from penstock.errors import ProviderRefused, ProviderUnclear, ProviderUnreachable
from penstock.fault import fault
from penstock.providers.provider import NewBatch, ProviderJob

LABEL_KEY: Final = "penstock-job"
PAGE_SIZE: Final = 100
PAGES_MAX: Final = 20
TIMEOUT_SECONDS: Final = 30.0

_REFUSALS: Final = frozenset({400, 404, 405, 412, 413})
"""Answers that prove that a create made nothing and that repeating it will not help."""

_NOT_ALLOWED: Final = frozenset({401, 403})
"""Made nothing either, but the operator can mend it while the job waits."""


class Token(Protocol):
    """A source of bearer tokens."""

    @property
    def quota_project(self) -> str | None:
        """The project that user credentials are charged to."""
        ...

    async def __call__(self) -> str:
        """Return a token that is valid now."""
        ...


def api_host(location: str) -> str:
    """Return Google's base URL for a location."""
    if location == "global":
        return "https://aiplatform.googleapis.com"
    if location in {"us", "eu"}:
        return f"https://aiplatform.{location}.rep.googleapis.com"
    return f"https://{location}-aiplatform.googleapis.com"


class Vertex:
    """One Google Cloud project."""

    def __init__(
        self, project: str, token: Token, http: httpx2.AsyncClient, base_url: str | None = None
    ) -> None:
        self._project = project
        self._token = token
        self._http = http
        self._base_url = base_url.rstrip("/") if base_url else None

    async def create(self, batch: NewBatch) -> ProviderJob:
        """POST once; see the module's text for what each kind of answer means."""
        body = {
            "displayName": batch.display_name,
            "model": f"publishers/google/models/{batch.model}",
            "inputConfig": {
                "instancesFormat": "jsonl",
                "gcsSource": {"uris": [batch.input_uri]},
            },
            "outputConfig": {
                "predictionsFormat": "jsonl",
                "gcsDestination": {"outputUriPrefix": batch.output_prefix},
            },
            "labels": {LABEL_KEY: batch.label},
        }
        url = f"{self._parent(batch.location)}/batchPredictionJobs"
        headers = await self._headers()
        try:
            response = await self._http.post(
                url, json=body, headers=headers, extensions={"trace": _on_the_way}
            )
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            # No connection, so no byte of the create can have arrived.
            raise ProviderUnreachable(f"Vertex AI cannot be reached: {error}.") from error
        except httpx2.HTTPError as error:
            raise ProviderUnclear(f"The create was sent, but no answer came: {error!r}.") from error
        if response.status_code in _REFUSALS:
            raise ProviderRefused(f"Vertex AI refused the job: {_message(response)}")
        if response.status_code in _NOT_ALLOWED:
            raise ProviderUnreachable(
                f"Vertex AI does not let Penstock create jobs: {_message(response)}",
                code="provider_permission_denied",
            )
        # 429 and 5xx stay unclear: nobody promises that they were not carried out.
        if response.status_code != httpx2.codes.OK:
            raise ProviderUnclear(f"Vertex AI answered {response.status_code} to the create.")
        job = self._job(_object(response), batch.location)
        if job is None:
            raise ProviderUnclear("Vertex AI answered the create with something unreadable.")
        return job

    async def get(self, name: str) -> ProviderJob | None:
        """GET one job."""
        location = _location_of(name)
        response = await self._call("GET", f"{self._root(location)}/{name}")
        if response.status_code == httpx2.codes.NOT_FOUND:
            return None
        job = self._job(_object(response), location)
        if job is None:
            raise ProviderUnreachable("Vertex AI answered with something that is not a job.")
        return job

    async def find(self, label: str, location: str) -> list[ProviderJob]:
        """List by label, and match label and display name here too: the filter is undocumented."""
        found: list[ProviderJob] = []
        params = {"filter": f'labels.{LABEL_KEY}="{label}"', "pageSize": str(PAGE_SIZE)}
        url = f"{self._parent(location)}/batchPredictionJobs"
        for _page in range(PAGES_MAX):
            # Not even 404 is allowed: only a readable, whole list proves that there is no job.
            response = await self._call("GET", url, params=params, allowed=frozenset())
            entries, token = _entries(response)
            for entry in entries:
                job = self._job(entry, location)
                if job is not None and _member(entry, "labels").get(LABEL_KEY) == label:
                    found.append(job)
            if not token:
                return sorted(found, key=lambda job: (job.created_at, job.name))
            params["pageToken"] = token
        raise ProviderUnreachable(
            f"Vertex AI lists more than {PAGES_MAX} pages for one label; the list is incomplete."
        )

    async def cancel(self, name: str) -> None:
        """POST a cancel; a job that has ended answers FAILED_PRECONDITION, which is fine."""
        url = f"{self._root(_location_of(name))}/{name}:cancel"
        response = await self._call("POST", url, allowed=frozenset({400, 404}))
        del response

    def _root(self, location: str) -> str:
        return f"{self._base_url or api_host(location)}/v1"

    def _parent(self, location: str) -> str:
        return f"{self._root(location)}/projects/{self._project}/locations/{location}"

    def _job(self, answer: dict[str, Any], location: str) -> ProviderJob | None:
        name = answer.get("name")
        state = answer.get("state")
        if not isinstance(name, str) or not isinstance(state, str) or "/" not in name:
            return None
        error = _member(answer, "error")
        code = error.get("code")
        folder = _member(answer, "outputInfo").get("gcsOutputDirectory")
        # The answer's name carries the project *number*; only its last segment is an identity.
        job_id = name.rsplit("/", 1)[1]
        return ProviderJob(
            name=f"projects/{self._project}/locations/{location}/batchPredictionJobs/{job_id}",
            state=state,
            display_name=str(answer.get("displayName", "")),
            created_at=str(answer.get("createTime", "")),
            has_started="startTime" in answer,
            output_folder=folder if isinstance(folder, str) else None,
            error_code=code if isinstance(code, int) else None,
            error_message=str(error.get("message", ""))[:2000],
        )

    async def _call(
        self,
        method: str,
        url: str,
        *,
        params: dict[str, str] | None = None,
        allowed: frozenset[int] = frozenset({404}),
    ) -> httpx2.Response:
        """Send a call that may be repeated; raise unless it is answered by 200 or as allowed."""
        headers = await self._headers()
        try:
            response = await self._http.request(method, url, params=params, headers=headers)
        except httpx2.HTTPError as error:
            raise ProviderUnreachable(f"Vertex AI did not answer: {error!r}.") from error
        if response.status_code != httpx2.codes.OK and response.status_code not in allowed:
            raise ProviderUnreachable(
                f"Vertex AI answered {response.status_code}: {_message(response)}"
            )
        return response

    async def _headers(self) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {await self._token()}"}
        if self._token.quota_project:
            # User credentials are refused without it; service accounts do not need it.
            headers["x-goog-user-project"] = self._token.quota_project
        return headers


async def _on_the_way(event: str, _info: object) -> None:
    if event == "http11.send_request_body.complete":
        fault("submit.sent")


def _location_of(name: str) -> str:
    return name.split("/")[3]


def _object(response: httpx2.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _member(answer: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an object inside an answer; empty if it is absent or anything else."""
    member = answer.get(name)
    return member if isinstance(member, dict) else {}


def _entries(response: httpx2.Response) -> tuple[list[dict[str, Any]], str]:
    """Return one page of a list and the token of the next; raise for what is not a list."""
    try:
        answer = response.json()
    except ValueError:
        answer = None
    entries = answer.get("batchPredictionJobs", []) if isinstance(answer, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ProviderUnreachable("Vertex AI answered with something that is not a list of jobs.")
    return entries, str(answer.get("nextPageToken") or "")


def _message(response: httpx2.Response) -> str:
    error = _object(response).get("error")
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        return str(error["message"])[:500]
    return f"HTTP {response.status_code}"
