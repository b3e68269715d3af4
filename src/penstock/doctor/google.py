"""Calls to Google as the checks need them: the whole answer, its error's reason, and no retries."""

from typing import Any, Final
from urllib.parse import quote

import httpx2
import msgspec

from penstock.errors import ProviderUnreachable
from penstock.providers.vertex import Token, api_host
from penstock.settings import VertexSettings

RESOURCE_MANAGER_URL: Final = "https://cloudresourcemanager.googleapis.com"
MESSAGE_CHARS_MAX: Final = 300
ANSWER_BYTES_MAX: Final = 20_000_000
"""No output of a doctor's job comes near; what is larger is not read."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What Google said."""

    status: int
    body: dict[str, Any] = {}
    message: str = ""
    reason: str = ""
    """Of the error, such as `SERVICE_DISABLED`; often absent."""

    @property
    def is_good(self) -> bool:
        """Whether it is 200."""
        return self.status == httpx2.codes.OK

    @property
    def said(self) -> str:
        """The status and the message of an error, for people."""
        return f"{self.status}{f' {self.message}' if self.message else ''}"

    def texts(self, name: str) -> list[str]:
        """Return a member that is a list of texts; empty for anything else."""
        found = self.body.get(name)
        return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


class Google:
    """One project's Vertex AI, its bucket, and what tells about rights."""

    def __init__(self, vertex: VertexSettings, token: Token, http: httpx2.AsyncClient) -> None:
        self._vertex = vertex
        self._token = token
        self._http = http

    @property
    def project(self) -> str:
        """The project's id."""
        return self._vertex.project

    @property
    def quota_project(self) -> str | None:
        """The project that calls of a user are counted for; None for service accounts."""
        return self._token.quota_project

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self._vertex.bucket

    async def vertex(self, method: str, location: str, path: str, **options: Any) -> Answer:  # noqa: ANN401  # httpx2's own options
        """Call Vertex AI at a location; `path` begins behind `/v1/`."""
        base = self._vertex.base_url.rstrip("/") or api_host(location)
        return await self._call(method, f"{base}/v1/{path}", options)

    async def jobs(self, location: str, **params: str) -> Answer:
        """List batch jobs."""
        path = f"{self.parent(location)}/batchPredictionJobs"
        return await self.vertex("GET", location, path, params=params)

    def parent(self, location: str) -> str:
        """Return what batch jobs lie below."""
        return f"projects/{self.project}/locations/{location}"

    async def about_project(self, method: str, verb: str = "", **options: Any) -> Answer:  # noqa: ANN401  # httpx2's own options
        """Call the Resource Manager about the project; an emulator answers for it."""
        base = self._vertex.base_url.rstrip("/") or RESOURCE_MANAGER_URL
        return await self._call(method, f"{base}/v1/projects/{self.project}{verb}", options)

    async def storage(self, method: str, path: str = "", **options: Any) -> Answer:  # noqa: ANN401  # httpx2's own options
        """Call Cloud Storage about the bucket; `path` begins behind its name."""
        base = self._vertex.storage_url.rstrip("/")
        name = quote(self.bucket, safe="")
        return await self._call(method, f"{base}/storage/v1/b/{name}{path}", options)

    async def upload(self, path: str, name: str, body: bytes, *, only_new: bool) -> Answer:
        """Write a small object; with `only_new` one that is there already is answered by 412."""
        base = self._vertex.storage_url.rstrip("/")
        params = {"uploadType": "media", "name": name}
        if only_new:
            params["ifGenerationMatch"] = "0"
        options = {"params": params, "content": body}
        return await self._call("POST", f"{base}/upload/storage/v1/{path}", options)

    async def read(self, name: str) -> bytes:
        """Return an object of the bucket; raise `ProviderUnreachable` if it does not come."""
        base = self._vertex.storage_url.rstrip("/")
        bucket, path = quote(self.bucket, safe=""), quote(name, safe="")
        url = f"{base}/storage/v1/b/{bucket}/o/{path}"
        response = await self._send("GET", url, {"params": {"alt": "media"}})
        if response.status_code != httpx2.codes.OK or len(response.content) > ANSWER_BYTES_MAX:
            raise ProviderUnreachable(f"{name} cannot be read: {response.status_code}.")
        return response.content

    async def _call(self, method: str, url: str, options: dict[str, Any]) -> Answer:
        response = await self._send(method, url, options)
        try:
            body = response.json() if response.content else {}
        except ValueError:
            body = {}
        body = body if isinstance(body, dict) else {}
        error = body.get("error")
        if response.is_success or not isinstance(error, dict):
            return Answer(status=response.status_code, body=body)
        return Answer(
            status=response.status_code,
            body=body,
            message=str(error.get("message", ""))[:MESSAGE_CHARS_MAX],
            reason=_reason(error),
        )

    async def _send(self, method: str, url: str, options: dict[str, Any]) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {await self._token()}"}
        if self._token.quota_project:
            headers["x-goog-user-project"] = self._token.quota_project
        try:
            return await self._http.request(method, url, headers=headers, **options)
        except httpx2.HTTPError as error:
            why = str(error) or type(error).__name__
            raise ProviderUnreachable(f"{method} {url}: {why}") from error


def _reason(error: dict[str, Any]) -> str:
    details = error.get("details")
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict) and isinstance(detail.get("reason"), str):
            return str(detail["reason"])
    return ""
