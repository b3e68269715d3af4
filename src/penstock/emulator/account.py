"""What a caller may ask about rights: the project, the models, and the bucket's IAM.

Three of Google's services answer these: the Resource Manager (`projects.get`, `testIamPermissions`,
`getIamPolicy`), Vertex AI (`publishers.models.get`) and Cloud Storage (`buckets.getIamPolicy`,
`buckets.testIamPermissions`). Paths and members are those of their discovery documents. Whoever has
any token may do everything here; a rule says otherwise.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.emulator.answering import under_faults, vertex_refusal
from penstock.emulator.faults import Faults, Subject, Then
from penstock.emulator.refusals import VertexRefusal, invalid_argument, json_response
from penstock.emulator.settings import EmulatorSettings
from penstock.emulator.vertex_request import ANYWHERE_MODELS, GLOBAL_MODELS

PERMISSIONS_MAX: Final = 100
"""That may be asked about at once."""


class AccountApi:
    """Answers about the project and the models."""

    def __init__(self, settings: EmulatorSettings, faults: Faults) -> None:
        self._settings = settings
        self._faults = faults

    def routes(self) -> list[Route]:
        """The routes, which stand before those of Vertex."""
        return [
            Route("/v1/projects/{project}", self.project, methods=["GET", "POST"]),
            Route("/v1/publishers/google/models/{model}", self.model, methods=["GET"]),
        ]

    async def project(self, request: Request) -> Response:
        """`projects.get`, `:testIamPermissions` and `:getIamPolicy`."""
        name, _, verb = request.path_params["project"].partition(":")
        then = self._faults.http("about_project", Subject(path=f"{name}:{verb}"))

        async def act() -> Response:
            require_credentials(request)
            if name not in {self._settings.project, self._settings.project_number}:
                raise VertexRefusal(403, "PERMISSION_DENIED", "The caller does not have permission")
            match request.method, verb:
                case "GET", "":
                    return json_response(self._resource())
                case "POST", "testIamPermissions":
                    return json_response({"permissions": _asked(await request.body())})
                case "POST", "getIamPolicy":
                    return json_response(self._policy())
            raise VertexRefusal(404, "NOT_FOUND", f"No method at {request.url.path}.")

        return await _rendered(then, act)

    async def model(self, request: Request) -> Response:
        """`publishers.models.get`: whether there is such a model at all, wherever it runs."""
        model = request.path_params["model"]
        then = self._faults.http("about_model", Subject(path=model))

        async def act() -> Response:
            require_credentials(request)
            if model not in GLOBAL_MODELS | ANYWHERE_MODELS:
                message = f"Publisher Model `publishers/google/models/{model}` is not found."
                raise VertexRefusal(404, "NOT_FOUND", message)
            return json_response(
                {
                    "name": f"publishers/google/models/{model}",
                    "versionId": "default",
                    "launchStage": "GA",
                    "versionState": "VERSION_STATE_STABLE",
                }
            )

        return await _rendered(then, act)

    def _resource(self) -> dict[str, Any]:
        return {
            "projectNumber": self._settings.project_number,
            "projectId": self._settings.project,
            "lifecycleState": "ACTIVE",
            "name": self._settings.project,
        }

    def _policy(self) -> dict[str, Any]:
        """The one binding that Google makes by itself when the API is enabled."""
        return {
            "version": 1,
            "etag": "BwYAAAAAAAA=",
            "bindings": [
                {
                    "role": "roles/aiplatform.serviceAgent",
                    "members": [f"serviceAccount:{service_agent(self._settings.project_number)}"],
                }
            ],
        }


def service_agent(project_number: str) -> str:
    """Who reads and writes the bucket for Vertex."""
    return f"service-{project_number}@gcp-sa-aiplatform.iam.gserviceaccount.com"


def require_credentials(request: Request) -> None:
    """401 unless there is a bearer token or an API key; any will do."""
    bearer = request.headers.get("authorization", "")
    if bearer.lower().startswith("bearer ") or request.headers.get("x-goog-api-key"):
        return
    raise VertexRefusal(
        401,
        "UNAUTHENTICATED",
        "Request is missing required authentication credential. Expected OAuth 2 access token, "
        "login cookie or other valid authentication credential.",
        reason="CREDENTIALS_MISSING",
    )


def bucket_policy(project: str) -> dict[str, Any]:
    """The policy of a new bucket with uniform access: nobody but the project's own people."""
    return {
        "kind": "storage#policy",
        "version": 1,
        "etag": "CAE=",
        "bindings": [
            {
                "role": "roles/storage.legacyBucketOwner",
                "members": [f"projectEditor:{project}", f"projectOwner:{project}"],
            }
        ],
    }


def bucket_permissions(asked: list[str]) -> dict[str, Any]:
    """What a caller holds of what he asks for: all of it."""
    body: dict[str, Any] = {"kind": "storage#testIamPermissionsResponse"}
    return {**body, "permissions": asked} if asked else body


async def _rendered(then: Then | None, act: Callable[[], Awaitable[Response]]) -> Response:
    try:
        return await under_faults(then, act, vertex_refusal)
    except VertexRefusal as refusal:
        return refusal.response()


def _asked(body: bytes) -> list[str]:
    try:
        asked = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise invalid_argument(f"Invalid JSON payload received. {error}") from error
    names = asked.get("permissions", []) if isinstance(asked, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise invalid_argument("Invalid value at 'permissions'.")
    if len(names) > PERMISSIONS_MAX or any("*" in name for name in names):
        raise invalid_argument(f"permissions: at most {PERMISSIONS_MAX}, and no wildcards.")
    return names
