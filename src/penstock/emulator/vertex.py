"""The five methods of `batchPredictionJobs`, under /v1 and /v1beta1."""

import base64
import binascii
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import unquote

import orjson
from starlette.requests import Request
from starlette.responses import Response

from penstock.emulator.account import require_credentials
from penstock.emulator.answering import under_faults, vertex_refusal
from penstock.emulator.database import Database
from penstock.emulator.faults import Call, Faults, Subject
from penstock.emulator.job_record import Job, resource_name, shown, subject_of
from penstock.emulator.jobs import JobEngine
from penstock.emulator.list_filter import parse_filter
from penstock.emulator.refusals import VertexRefusal, invalid_argument, json_response
from penstock.emulator.settings import EmulatorSettings
from penstock.emulator.timestamps import SECOND_US, EmulatorClock
from penstock.emulator.vertex_request import parse_create

PAGE_SIZE_DEFAULT: Final = 100
PAGE_SIZE_MAX: Final = 1000
_PATH = re.compile(
    r"/(?:v1|v1beta1)/projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)"
    r"/batchPredictionJobs(?:/(?P<id>[^/:]+)(?P<verb>:cancel)?)?\Z"
)
_METHODS: Final[dict[tuple[str, bool, bool], Call]] = {
    # (HTTP method, has an id, has :cancel)
    ("POST", False, False): "create",
    ("GET", False, False): "list",
    ("GET", True, False): "get",
    ("DELETE", True, False): "delete",
    ("POST", True, True): "cancel",
}


class VertexApi:
    """Answers the Vertex calls."""

    def __init__(
        self,
        settings: EmulatorSettings,
        database: Database,
        engine: JobEngine,
        faults: Faults,
        clock: EmulatorClock,
    ) -> None:
        self._settings = settings
        self._database = database
        self._engine = engine
        self._faults = faults
        self._clock = clock
        self._told: dict[str, str] = {}
        """The state of each job as it truly was when it was last told."""

    async def handle(self, request: Request) -> Response:
        """Answer one call in the shape of Google, refusals included."""
        try:
            return await self._handle(request)
        except VertexRefusal as refusal:
            return refusal.response()

    async def _handle(self, request: Request) -> Response:
        path = _PATH.match(unquote(request.url.path))
        method = request.method
        call = path and _METHODS.get((method, bool(path["id"]), bool(path["verb"])))
        if path is None or call is None:
            raise VertexRefusal(404, "NOT_FOUND", f"No method at {method} {request.url.path}.")
        self._database.count(f"calls_{call}")
        require_credentials(request)
        body = _json_object(await request.body()) if method == "POST" else {}
        self._require_project(path["project"], path["location"], call)
        location = path["location"]
        if call == "create":
            return await self._create(location, body)
        if call == "list":
            return await self._list(location, request)
        return await self._on_job(call, location, path["id"])

    def _require_project(self, project: str, location: str, call: str) -> None:
        if project in {self._settings.project, self._settings.project_number}:
            return
        raise VertexRefusal(
            403,
            "PERMISSION_DENIED",
            f"Permission 'aiplatform.batchPredictionJobs.{call}' denied on resource "
            f"'//aiplatform.googleapis.com/projects/{project}/locations/{location}' "
            "(or it may not exist).",
            reason="IAM_PERMISSION_DENIED",
        )

    async def _create(self, location: str, body: dict[str, Any]) -> Response:
        name = body.get("displayName", body.get("display_name"))
        subject = Subject(display_name=name if isinstance(name, str) else None)
        then = self._faults.http("create", subject)

        async def act() -> Response:
            new = parse_create(body, location)
            late = None if then is None else then.land_after_seconds
            job = self._engine.create(new, land_after_seconds=late)
            if then is not None and then.duplicate:
                self._engine.create(new)
            return json_response(shown(job, self._settings.project_number))

        return await under_faults(then, act, vertex_refusal)

    async def _list(self, location: str, request: Request) -> Response:
        query = request.query_params
        then = self._faults.http("list")
        stale_us = round((0.0 if then is None else then.stale_seconds or 0.0) * SECOND_US)

        async def act() -> Response:
            self._engine.look()
            wanted = parse_filter(query.get("filter", ""))
            size = _page_size(query.get("pageSize", query.get("page_size")))
            behind = _read_token(query.get("pageToken", query.get("page_token")))
            newest_us = self._clock.now_us() - stale_us
            page: list[Job] = []
            more = False
            for job in self._engine.jobs():
                here = (job.created_us, job.sequence)
                if job.location != location or (behind is not None and here >= behind):
                    continue
                if job.created_us > newest_us or not wanted(job):
                    continue
                if self._faults.take("forget", "list", subject_of(job)) is not None:
                    continue
                more = len(page) == size
                if more:
                    break
                page.append(job)
            body: dict[str, Any] = {}
            if page:
                body["batchPredictionJobs"] = [self._shown(job, "list") for job in page]
            if more:
                body["nextPageToken"] = _make_token(page[-1])
            return json_response(body)

        return await under_faults(then, act, vertex_refusal)

    async def _on_job(self, call: Call, location: str, job_id: str) -> Response:
        job = self._engine.find(job_id)
        subject = Subject() if job is None else subject_of(job)
        is_forgotten = self._faults.take("forget", call, subject) is not None
        acts: dict[str, Callable[[Job], Awaitable[Response]]] = {
            "get": self._get,
            "cancel": self._cancel,
            "delete": self._delete,
        }

        async def act() -> Response:
            if job is None or job.location != location or is_forgotten:
                raise VertexRefusal(
                    404, "NOT_FOUND", f"The BatchPredictionJob does not exist: {job_id}."
                )
            return await acts[call](job)

        return await under_faults(self._faults.http(call, subject), act, vertex_refusal)

    async def _get(self, job: Job) -> Response:
        return json_response(self._shown(job, "get"))

    async def _cancel(self, job: Job) -> Response:
        if not self._engine.cancel(job.id):
            raise VertexRefusal(
                400,
                "FAILED_PRECONDITION",
                f"The BatchPredictionJob is in state {job.state} and cannot be cancelled.",
            )
        return json_response({})

    async def _delete(self, job: Job) -> Response:
        self._engine.delete(job.id)
        name = resource_name(job, self._settings.project_number)
        parent = name.rpartition("/batchPredictionJobs/")[0]
        meta = "type.googleapis.com/google.cloud.aiplatform.v1.DeleteOperationMetadata"
        return json_response(
            {
                "name": f"{parent}/operations/{job.id[::-1]}",
                "metadata": {"@type": meta},
                "done": True,
                "response": {"@type": "type.googleapis.com/google.protobuf.Empty"},
            }
        )

    def _shown(self, job: Job, call: Call) -> dict[str, Any]:
        is_known = self._told.get(job.id) == job.state
        self._told[job.id] = job.state
        then = self._faults.saying(call, subject_of(job, is_known=is_known))
        return shown(job, self._settings.project_number, then)


def _json_object(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid_argument(f"Invalid JSON payload received. {error}") from error
    if not isinstance(parsed, dict):
        raise invalid_argument("Invalid JSON payload received. Root element must be a message.")
    return parsed


def _page_size(text: str | None) -> int:
    if text is None or text == "0":
        return PAGE_SIZE_DEFAULT
    if not text.isascii() or not text.isdigit() or len(text) > len(str(2**31)):
        raise invalid_argument(f"page_size: {text!r} is not a positive number.")
    return min(int(text), PAGE_SIZE_MAX)


def _make_token(job: Job) -> str:
    return base64.urlsafe_b64encode(f"{job.created_us}/{job.sequence}".encode()).decode()


def _read_token(token: str | None) -> tuple[int, int] | None:
    if not token:
        return None
    try:
        text = base64.b64decode(token, altchars=b"-_", validate=True).decode()
        created_us, sequence = text.split("/")
        return int(created_us), int(sequence)
    except (binascii.Error, ValueError) as error:
        raise invalid_argument("page_token: the token is not valid.") from error
