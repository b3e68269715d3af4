"""What the emulated services refuse, before a front end gives it the shape of its API."""

from typing import Any

import orjson
from starlette.responses import Response


class VertexRefusal(Exception):
    """An answer in the error shape of Vertex AI (google.rpc.Status inside `error`)."""

    def __init__(self, code: int, status: str, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.message = message
        self.reason = reason

    def response(self) -> Response:
        """The HTTP answer; `reason` becomes an ErrorInfo in `details`."""
        error: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "status": self.status,
        }
        if self.reason is not None:
            error["details"] = [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": self.reason,
                    "domain": "aiplatform.googleapis.com",
                }
            ]
        return json_response({"error": error}, status=self.code)


def invalid_argument(message: str) -> VertexRefusal:
    """400 INVALID_ARGUMENT."""
    return VertexRefusal(400, "INVALID_ARGUMENT", message)


class StorageRefusal(Exception):
    """A refusal of the object store.

    `reason` is the JSON API's word (`notFound`), `xml_code` the XML API's (`NoSuchKey`).
    """

    def __init__(self, status: int, reason: str, message: str, *, xml_code: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.xml_code = xml_code


def bad_storage_request(message: str) -> StorageRefusal:
    """400 invalid."""
    return StorageRefusal(400, "invalid", message, xml_code="InvalidArgument")


def json_response(body: object, *, status: int = 200) -> Response:
    """A JSON answer as Google's front ends label it."""
    return Response(orjson.dumps(body), status, media_type="application/json; charset=UTF-8")
