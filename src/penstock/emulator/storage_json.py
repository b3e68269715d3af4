"""The JSON API of Cloud Storage, as google-cloud-storage, gcsfs and plain REST clients speak it."""

import base64
import binascii
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar
from urllib.parse import quote, unquote

import msgspec
import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from penstock.emulator.account import bucket_permissions, bucket_policy
from penstock.emulator.answering import drain, storage_refusal, under_faults
from penstock.emulator.body_faults import is_refused_unread, with_body_faults
from penstock.emulator.faults import Call, Faults, Subject
from penstock.emulator.growth import Growing
from penstock.emulator.multipart_related import RelatedBody
from penstock.emulator.objects import (
    Attributes,
    Hashes,
    ListQuery,
    ObjectStore,
    Preconditions,
    StoredObject,
)
from penstock.emulator.refusals import StorageRefusal, bad_storage_request, json_response
from penstock.emulator.settings import EmulatorSettings
from penstock.emulator.timestamps import rfc3339
from penstock.emulator.transfer import (
    coming_bytes,
    doctored,
    download,
    page_limit,
    receive_into,
    served_bytes,
    stated_hashes,
)
from penstock.emulator.uploads import ResumableUploads, Session

LIST_ITEMS_MAX: Final = 1000
_METADATA_BYTES_MAX: Final = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (?:([0-9]{1,18})-([0-9]{1,18})|\*)/([0-9]{1,18}|\*)\Z")
_PRECONDITIONS: Final = {
    "ifGenerationMatch": "generation_match",
    "ifGenerationNotMatch": "generation_not_match",
    "ifMetagenerationMatch": "metageneration_match",
    "ifMetagenerationNotMatch": "metageneration_not_match",
}
_Act = Callable[[], Awaitable[Response]]


class _SourceConditions(msgspec.Struct, frozen=True):
    ifGenerationMatch: int | None = None  # noqa: N815 - the name on the wire


class _Source(msgspec.Struct, frozen=True):
    name: str
    objectPreconditions: _SourceConditions = _SourceConditions()  # noqa: N815 - the name on the wire


class _Compose(msgspec.Struct, frozen=True):
    sourceObjects: list[_Source] = []  # noqa: N815 - the name on the wire
    destination: dict[str, Any] = {}


_Struct = TypeVar("_Struct", bound=msgspec.Struct)


def json_error(refusal: StorageRefusal) -> Response:
    """A refusal in the shape of the JSON API."""
    detail = {"domain": "global", "reason": refusal.reason, "message": refusal.message}
    body = {"code": refusal.status, "message": refusal.message, "errors": [detail]}
    return json_response({"error": body}, status=refusal.status)


class JsonApi:
    """Answers /storage/v1, /download/storage/v1 and /upload/storage/v1."""

    def __init__(
        self,
        settings: EmulatorSettings,
        store: ObjectStore,
        uploads: ResumableUploads,
        faults: Faults,
        growing: Growing,
    ) -> None:
        self._settings = settings
        self._growing = growing
        self._store = store
        self._uploads = uploads
        self._faults = faults

    async def handle(self, request: Request) -> Response:
        """Answer one call that is not an upload, refusals included."""
        return await _rendered(self._route, request)

    async def handle_upload(self, request: Request) -> Response:
        """Answer one upload call, refusals included."""
        return await _rendered(self._route_upload, request)

    async def _route(self, request: Request) -> Response:
        # The raw path: an object's name is one segment, with its slashes encoded.
        raw = request.scope["raw_path"].decode("latin-1").partition("storage/v1/")[2]
        steps = [unquote(step) for step in raw.rstrip("/").split("/")]
        if steps[0] != "b":
            raise _not_found(request)
        match steps[1:]:
            case []:
                return await self._on_buckets(request)
            case [bucket]:
                return await self._on_bucket(request, bucket)
            case [bucket, "iam", *rest] if request.method == "GET":
                return await self._on_rights(request, bucket, "/".join(rest))
            case [bucket, "o"] if request.method == "GET":
                return await self._guarded(
                    "object_list", (bucket, ""), lambda: self._list(request, bucket)
                )
            case [bucket, "o", name]:
                return await self._on_object(request, (bucket, name))
            case [bucket, "o", name, "compose"]:
                return await self._guarded(
                    "object_write", (bucket, name), lambda: self._compose(request, (bucket, name))
                )
            case [bucket, "o", name, verb, "b", to_bucket, "o", to_name]:
                source, target = (bucket, name), (to_bucket, to_name)
                return await self._guarded(
                    "object_write", target, lambda: self._copy(request, verb, source, target)
                )
        raise _not_found(request)

    async def _guarded(
        self, call: Call, target: tuple[str, str], act: _Act, *, is_conditional: bool = False
    ) -> Response:
        subject = Subject(path="/".join(target), is_conditional=is_conditional)
        then = self._faults.http(call, subject)
        return await under_faults(then, act, storage_refusal(json_error))

    async def _on_buckets(self, request: Request) -> Response:
        if request.method == "POST":
            name = (await _metadata(request)).get("name")
            if not isinstance(name, str):
                raise bad_storage_request("Required parameter: name")
            return json_response(self._bucket(name, self._store.create_bucket(name)))
        if request.method != "GET":
            raise _not_found(request)
        items = [self._bucket(name, created) for name, created in self._store.buckets()]
        return json_response({"kind": "storage#buckets", "items": items})

    async def _on_bucket(self, request: Request, bucket: str) -> Response:
        if request.method == "DELETE":
            self._store.delete_bucket(bucket)
            return Response(status_code=204)

        async def act() -> Response:
            return json_response(self._bucket(bucket, self._store.require_bucket(bucket)))

        return await self._guarded("about_bucket", (bucket, ""), act)

    async def _on_rights(self, request: Request, bucket: str, verb: str) -> Response:
        async def act() -> Response:
            self._store.require_bucket(bucket)
            if verb == "testPermissions":
                return json_response(
                    bucket_permissions(request.query_params.getlist("permissions"))
                )
            if verb:
                raise _not_found(request)
            return json_response(bucket_policy(self._settings.project))

        return await self._guarded("about_bucket", (bucket, f"iam/{verb}"), act)

    def _bucket(self, name: str, created_us: int) -> dict[str, Any]:
        return {
            "kind": "storage#bucket",
            "id": name,
            "name": name,
            "projectNumber": self._settings.project_number,
            "metageneration": "1",
            "location": "US",
            "locationType": "multi-region",
            "storageClass": "STANDARD",
            "etag": "CAE=",
            "timeCreated": rfc3339(created_us),
            "updated": rfc3339(created_us),
        }

    async def _list(self, request: Request, bucket: str) -> Response:
        query = request.query_params
        page = self._store.list_page(
            bucket,
            ListQuery(
                prefix=query.get("prefix", ""),
                delimiter=query.get("delimiter", ""),
                after=_read_token(query.get("pageToken")),
                start_offset=query.get("startOffset", ""),
                end_offset=query.get("endOffset", ""),
                limit=page_limit(query.get("maxResults"), LIST_ITEMS_MAX),
            ),
        )
        body: dict[str, Any] = {"kind": "storage#objects"}
        if page.objects:
            body["items"] = [self._object(request, stored) for stored in page.objects]
        if page.prefixes:
            body["prefixes"] = page.prefixes
        if page.next_after is not None:
            body["nextPageToken"] = base64.urlsafe_b64encode(page.next_after.encode()).decode()
        return json_response(body)

    async def _on_object(self, request: Request, target: tuple[str, str]) -> Response:
        if request.method in {"GET", "HEAD"}:
            return await self._read(request, target)
        acts: dict[str, tuple[Call, _Act]] = {
            "DELETE": ("object_delete", lambda: self._delete(request, target)),
            "PATCH": ("object_write", lambda: self._patch(request, target)),
            "PUT": ("object_write", lambda: self._patch(request, target)),
        }
        if request.method not in acts:
            raise _not_found(request)
        call, act = acts[request.method]
        conditional = not _PRECONDITIONS.keys().isdisjoint(request.query_params.keys())
        return await self._guarded(call, target, act, is_conditional=conditional)

    async def _read(self, request: Request, target: tuple[str, str]) -> Response:
        media = request.query_params.get("alt") == "media"
        media = media or request.url.path.startswith("/download/")
        body_bytes = served_bytes(request, self._store.find(*target)) if media else None
        subject = Subject(path="/".join(target), body_bytes=body_bytes)
        then = self._faults.http("object_read", subject)

        async def act() -> Response:
            if media:
                await self._growing.read(target)
            stored = self._store.get(*target)
            wanted = request.query_params.get("generation")
            if wanted is not None and wanted != str(stored.generation):
                raise StorageRefusal(
                    404, "notFound", f"No such object: {'/'.join(target)}", xml_code="NoSuchKey"
                )
            _preconditions(request).check(stored)
            if media:
                return download(request, self._store, stored, then)
            return json_response(self._object(request, doctored(stored, then)))

        return await under_faults(then, act, storage_refusal(json_error))

    async def _delete(self, request: Request, target: tuple[str, str]) -> Response:
        self._store.delete(*target, _preconditions(request))
        return Response(status_code=204)

    async def _patch(self, request: Request, target: tuple[str, str]) -> Response:
        before = self._store.get(*target).attributes
        attributes = _attributes(await _metadata(request), before)
        stored = self._store.update_attributes(*target, attributes, _preconditions(request))
        return json_response(self._object(request, stored))

    async def _compose(self, request: Request, target: tuple[str, str]) -> Response:
        body = _converted(await _metadata(request), _Compose)
        sources: list[StoredObject] = []
        for entry in body.sourceObjects:
            source = self._store.get(target[0], entry.name)
            wanted = entry.objectPreconditions.ifGenerationMatch
            Preconditions(generation_match=wanted).check(source)
            sources.append(source)
        attributes = _attributes(body.destination)
        stored = self._store.compose(sources, target, attributes, _preconditions(request))
        return json_response(self._object(request, stored))

    async def _copy(
        self, request: Request, verb: str, source: tuple[str, str], target: tuple[str, str]
    ) -> Response:
        if verb not in {"rewriteTo", "copyTo"} or request.method != "POST":
            raise _not_found(request)
        found = self._store.get(*source)
        body = await _metadata(request)
        attributes = _attributes(body, found.attributes) if body else None
        stored = self._store.copy(found, target, attributes, _preconditions(request))
        resource = self._object(request, stored)
        if verb == "copyTo":
            return json_response(resource)
        size = str(stored.size)
        return json_response(
            {
                "kind": "storage#rewriteResponse",
                "totalBytesRewritten": size,
                "objectSize": size,
                "done": True,
                "resource": resource,
            }
        )

    async def _route_upload(self, request: Request) -> Response:
        query = request.query_params
        raw = request.scope["raw_path"].decode("latin-1").partition("storage/v1/")[2]
        steps = [unquote(step) for step in raw.split("/")]
        if len(steps) != 3 or steps[0] != "b" or steps[2] != "o":  # noqa: PLR2004 - b/{bucket}/o
            raise _not_found(request)
        bucket, name = steps[1], query.get("name", "")
        acts: dict[tuple[str, str | None], _Act] = {
            ("POST", "media"): lambda: self._media(request, (bucket, name)),
            ("POST", "multipart"): lambda: self._multipart(request, bucket, name),
            ("POST", "resumable"): lambda: self._begin_session(request, bucket, name),
        }
        if "upload_id" in query:
            session = self._uploads.require(query["upload_id"])
            name = session.name
            acts["PUT", query.get("uploadType")] = lambda: self._continue(request, session)
            acts["DELETE", query.get("uploadType")] = lambda: self._cancel(session)
        act = acts.get((request.method, query.get("uploadType")))
        if act is None:
            raise _not_found(request)
        kind = query.get("uploadType")
        has_body = request.method == "PUT" or kind != "resumable"
        subject = Subject(
            path=f"{bucket}/{name}",
            is_conditional=not _PRECONDITIONS.keys().isdisjoint(query.keys()),
            body_bytes=coming_bytes(request) if has_body else None,
            is_plain=kind != "multipart",
        )
        then = self._faults.http("object_write", subject)
        # What acts reads its body from here.
        request = with_body_faults(request, then)
        if then is not None and is_refused_unread(then):
            await drain(request)
        return await under_faults(then, act, storage_refusal(json_error))

    async def _media(self, request: Request, target: tuple[str, str]) -> Response:
        content_type = request.headers.get("content-type", "application/octet-stream")
        self._store.require_bucket(target[0])
        with self._store.incoming() as incoming:
            await receive_into(incoming, request.stream())
            stored = self._store.commit(
                incoming,
                target,
                Attributes(content_type=content_type),
                _preconditions(request),
                stated_hashes(request),
            )
        return json_response(self._object(request, stored))

    async def _multipart(self, request: Request, bucket: str, name: str) -> Response:
        self._store.require_bucket(bucket)
        body = RelatedBody(request.headers.get("content-type", ""), request.stream())
        metadata = await body.metadata()
        with self._store.incoming() as incoming:
            await receive_into(incoming, body.data())
            attributes = _attributes(metadata, Attributes(content_type=body.content_type))
            stored = self._store.commit(
                incoming,
                (bucket, name or str(metadata.get("name", ""))),
                attributes,
                _preconditions(request),
                _stated(metadata, request),
            )
        return json_response(self._object(request, stored))

    async def _begin_session(self, request: Request, bucket: str, name: str) -> Response:
        metadata = await _metadata(request)
        name = name or str(metadata.get("name", ""))
        declared = request.headers.get("x-upload-content-type", "application/octet-stream")
        upload_id = self._uploads.begin(
            (bucket, name),
            _attributes(metadata, Attributes(content_type=declared)),
            _preconditions(request),
            _stated(metadata, request),
        )
        base = f"{request.url.scheme}://{request.url.netloc}"
        location = (
            f"{base}/upload/storage/v1/b/{quote(bucket, safe='')}/o"
            f"?uploadType=resumable&upload_id={upload_id}"
        )
        return Response(headers={"Location": location, "X-GUploader-UploadID": upload_id})

    async def _continue(self, request: Request, session: Session) -> Response:
        if session.done is not None:
            await drain(request)
            return json_response(self._object(request, session.done))
        header = request.headers.get("content-range")
        match = _CONTENT_RANGE.match(header) if header else None
        if header is not None and match is None:
            raise bad_storage_request("Failed to parse Content-Range header.")
        total = None if match is None or match[3] == "*" else int(match[3])
        if match is None or match[1] is not None:
            offset = 0 if match is None else int(match[1])
            is_last = match is None or (total is not None and int(match[2]) + 1 == total)
            await self._uploads.append(session, offset, request.stream(), last=is_last)
        else:
            await drain(request)
        if (match is None) or (total is not None and session.received >= total):
            stored = await self._uploads.finish(session, stated_hashes(request))
            return json_response(self._object(request, stored))
        # 308 without a Location: it means "go on", not "go elsewhere".
        headers = {"X-GUploader-UploadID": session.id}
        if session.received:
            headers["Range"] = f"bytes=0-{session.received - 1}"
        return Response(status_code=308, headers=headers)

    async def _cancel(self, session: Session) -> Response:
        self._uploads.cancel(session)
        return Response(status_code=499)

    def _object(self, request: Request, stored: StoredObject) -> dict[str, Any]:
        """The object resource: numbers are text, the CRC32C is base64 of four bytes."""
        base = f"{request.url.scheme}://{request.url.netloc}"
        path = f"storage/v1/b/{stored.bucket}/o/{quote(stored.name, safe='')}"
        generation = str(stored.generation)
        body: dict[str, Any] = {
            "kind": "storage#object",
            "id": f"{stored.bucket}/{stored.name}/{generation}",
            "selfLink": f"{base}/{path}",
            "mediaLink": f"{base}/download/{path}?generation={generation}&alt=media",
            "name": stored.name,
            "bucket": stored.bucket,
            "generation": generation,
            "metageneration": str(stored.metageneration),
            "contentType": stored.attributes.content_type,
            "storageClass": "STANDARD",
            "size": str(stored.size),
            "crc32c": stored.crc32c,
            "etag": base64.b64encode(generation.encode()).decode(),
            "timeCreated": rfc3339(stored.created_us),
            "updated": rfc3339(stored.updated_us),
        }
        optional: dict[str, Any] = {
            "md5Hash": stored.md5,
            "contentEncoding": stored.attributes.content_encoding,
            "contentDisposition": stored.attributes.content_disposition,
            "contentLanguage": stored.attributes.content_language,
            "cacheControl": stored.attributes.cache_control,
            "metadata": stored.attributes.metadata,
            "componentCount": stored.component_count,
        }
        body.update({name: value for name, value in optional.items() if value})
        return body


async def _rendered(route: Callable[[Request], Awaitable[Response]], request: Request) -> Response:
    try:
        return await route(request)
    except StorageRefusal as refusal:
        return json_error(refusal)
    except ClientDisconnect:
        # Nobody reads this; 499 is what Google's logs say for it.
        return Response(status_code=499)


async def _metadata(request: Request) -> dict[str, Any]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _METADATA_BYTES_MAX:
            raise bad_storage_request("The metadata is too large.")
    return parse_metadata(body)


def parse_metadata(body: bytes) -> dict[str, Any]:
    """A JSON object, empty for an empty body; 400 otherwise."""
    if not body.strip():
        return {}
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_storage_request("Parse Error") from error
    if not isinstance(parsed, dict):
        raise bad_storage_request("Parse Error")
    return parsed


def _attributes(metadata: dict[str, Any], before: Attributes | None = None) -> Attributes:
    names = {
        "contentType": "content_type",
        "contentEncoding": "content_encoding",
        "contentDisposition": "content_disposition",
        "contentLanguage": "content_language",
        "cacheControl": "cache_control",
        "metadata": "metadata",
    }
    given = {
        field: metadata[name] for name, field in names.items() if metadata.get(name) is not None
    }
    current = msgspec.structs.asdict(before or Attributes())
    return _converted({**current, **given}, Attributes)


def _preconditions(request: Request) -> Preconditions:
    given = {
        field: request.query_params[name]
        for name, field in _PRECONDITIONS.items()
        if name in request.query_params
    }
    return _converted(given, Preconditions)


def _converted(value: object, into: type[_Struct]) -> _Struct:
    try:
        return msgspec.convert(value, into, strict=False)
    except msgspec.ValidationError as error:
        raise bad_storage_request(f"Invalid value: {error}") from error


def _stated(metadata: dict[str, Any], request: Request) -> Hashes:
    header = stated_hashes(request)
    crc32c, md5 = metadata.get("crc32c"), metadata.get("md5Hash")
    return Hashes(
        crc32c if isinstance(crc32c, str) else header.crc32c,
        md5 if isinstance(md5, str) else header.md5,
    )


def _read_token(token: str | None) -> str:
    try:
        return base64.b64decode(token or "", altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise bad_storage_request("Invalid page token.") from error


def _not_found(request: Request) -> StorageRefusal:
    return StorageRefusal(
        404, "notFound", f"No method at {request.method} {request.url.path}.", xml_code="NoSuchKey"
    )
