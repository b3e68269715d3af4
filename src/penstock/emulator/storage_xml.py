"""The XML API of Cloud Storage, as obstore (Rust's object_store) speaks it.

Paths are `/{bucket}/{object}` with every odd character percent-encoded, `/` included: the bucket
ends at the first slash of the *raw* path, and only then is the rest decoded.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import unquote
from xml.sax.saxutils import escape

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from penstock.emulator.answering import drain, storage_refusal, under_faults
from penstock.emulator.body_faults import TAKEN, is_refused_unread, with_body_faults
from penstock.emulator.faults import Call, Faults, Subject
from penstock.emulator.growth import Growing
from penstock.emulator.objects import (
    Attributes,
    ListQuery,
    ObjectStore,
    Preconditions,
    StoredObject,
)
from penstock.emulator.refusals import StorageRefusal, bad_storage_request
from penstock.emulator.timestamps import rfc3339
from penstock.emulator.transfer import (
    UNANNOUNCED_BYTES,
    coming_bytes,
    download,
    object_headers,
    page_limit,
    receive_into,
    served_bytes,
    stated_hashes,
)
from penstock.emulator.uploads import PARTS_MAX, PartBody, PartUploads

LIST_KEYS_MAX: Final = 1000
_XML_HEAD: Final = '<?xml version="1.0" encoding="UTF-8"?>'
_NAMESPACE: Final = 'xmlns="http://doc.s3.amazonaws.com/2006-03-01"'
_PART = re.compile(
    r"<Part>\s*(?:<ETag>[^<]*</ETag>\s*)?<PartNumber>\s*([0-9]{1,9})\s*</PartNumber>", re.DOTALL
)


def xml_error(refusal: StorageRefusal) -> Response:
    """A refusal in the shape of the XML API."""
    body = (
        f"{_XML_HEAD}<Error><Code>{refusal.xml_code}</Code>"
        f"<Message>{escape(refusal.message)}</Message></Error>"
    )
    return _xml(body, refusal.status)


def _xml(body: str, status: int = 200) -> Response:
    return Response(body, status, media_type="application/xml; charset=UTF-8")


class XmlApi:
    """Answers `/{bucket}` and `/{bucket}/{object}`."""

    def __init__(
        self, store: ObjectStore, uploads: PartUploads, faults: Faults, growing: Growing
    ) -> None:
        self._store = store
        self._growing = growing
        self._uploads = uploads
        self._faults = faults

    async def handle(self, request: Request) -> Response:
        """Answer one call, refusals included."""
        raw = request.scope["raw_path"].decode("latin-1").lstrip("/")
        bucket, _, rest = raw.partition("/")
        bucket, name = unquote(bucket), unquote(rest)
        try:
            if not name:
                return await self._on_bucket(request, bucket)
            return await self._on_object(request, bucket, name)
        except StorageRefusal as refusal:
            await _drain_quietly(request)
            return xml_error(refusal)
        except ClientDisconnect:
            # Nobody reads this; 499 is what Google's logs say for it.
            return Response(status_code=499)

    async def _on_bucket(self, request: Request, bucket: str) -> Response:
        if not bucket:
            raise StorageRefusal(404, "notFound", "Not found.", xml_code="NoSuchBucket")
        if request.method == "HEAD":
            self._store.require_bucket(bucket)
            return Response()
        if request.method == "PUT":
            self._store.create_bucket(bucket)
            return Response()
        if request.method == "DELETE":
            self._store.delete_bucket(bucket)
            return Response(status_code=204)
        if request.method != "GET":
            raise _no_method()
        then = self._faults.http("object_list", Subject(path=f"{bucket}/"))
        return await under_faults(
            then, lambda: self._list(request, bucket), storage_refusal(xml_error)
        )

    async def _on_object(self, request: Request, bucket: str, name: str) -> Response:
        query = request.query_params
        target = (bucket, name)
        method = request.method
        calls: dict[str, tuple[Call, Callable[[], Awaitable[Response]]]] = {
            "PUT": ("object_write", lambda: self._put(request, target)),
            "DELETE": ("object_delete", lambda: self._delete(request, target)),
            "POST": ("object_write", lambda: self._post(request, target)),
        }
        if "uploadId" in query:
            calls["PUT"] = ("object_write", lambda: self._put_part(request, target))
            calls["DELETE"] = ("object_write", lambda: self._abort(request))
        if method in {"GET", "HEAD"}:
            return await self._read(request, target)
        if method not in calls:
            raise _no_method()
        call, act = calls[method]
        subject = Subject(
            path="/".join(target),
            is_conditional=any(k.startswith("x-goog-if-") for k in request.headers),
            body_bytes=_body_bytes(request),
        )
        then = self._faults.http(call, subject)
        # What acts reads its body from here.
        request = with_body_faults(request, then)
        if then is not None and is_refused_unread(then):
            await drain(request)
        return await under_faults(then, act, storage_refusal(xml_error))

    async def _read(self, request: Request, target: tuple[str, str]) -> Response:
        body_bytes = served_bytes(request, self._store.find(*target))
        subject = Subject(path="/".join(target), body_bytes=body_bytes)
        then = self._faults.http("object_read", subject)

        async def act() -> Response:
            if request.method == "GET":
                await self._growing.read(target)
            stored = self._store.get(*target)
            wanted = request.query_params.get("generation")
            if wanted is not None and wanted != str(stored.generation):
                raise StorageRefusal(404, "notFound", "No such generation.", xml_code="NoSuchKey")
            _preconditions(request).check(stored)
            unmet = _unmet_etag(request, stored)
            if unmet is not None:
                return unmet
            return download(request, self._store, stored, then)

        return await under_faults(then, act, storage_refusal(xml_error))

    async def _put(self, request: Request, target: tuple[str, str]) -> Response:
        source = request.headers.get("x-goog-copy-source")
        if source is not None:
            return self._copy(request, source, target)
        self._store.require_bucket(target[0])
        _preconditions(request).check(self._store.find(*target))
        with self._store.incoming() as incoming:
            await receive_into(incoming, request.stream())
            stored = self._store.commit(
                incoming,
                target,
                _attributes(request),
                _preconditions(request),
                stated_hashes(request),
            )
        return _written(stored)

    def _copy(self, request: Request, source: str, target: tuple[str, str]) -> Response:
        bucket, _, name = unquote(source).lstrip("/").partition("/")
        found = self._store.get(bucket, name)
        replace = request.headers.get("x-goog-metadata-directive") == "REPLACE"
        attributes = _attributes(request) if replace else None
        stored = self._store.copy(found, target, attributes, _preconditions(request))
        body = (
            f"{_XML_HEAD}<CopyObjectResult><LastModified>{rfc3339(stored.updated_us)}"
            f"</LastModified><ETag>{escape(stored.etag)}</ETag></CopyObjectResult>"
        )
        response = _xml(body)
        response.headers["X-Goog-Generation"] = str(stored.generation)
        return response

    async def _delete(self, request: Request, target: tuple[str, str]) -> Response:
        self._store.delete(*target, _preconditions(request))
        return Response(status_code=204)

    async def _post(self, request: Request, target: tuple[str, str]) -> Response:
        bucket, name = target
        if "uploads" in request.query_params:
            self._store.require_bucket(bucket)
            upload_id = self._uploads.begin(target, _attributes(request))
            return _xml(
                f"{_XML_HEAD}<InitiateMultipartUploadResult {_NAMESPACE}>"
                f"<Bucket>{bucket}</Bucket><Key>{escape(name)}</Key>"
                f"<UploadId>{upload_id}</UploadId></InitiateMultipartUploadResult>"
            )
        upload_id = request.query_params.get("uploadId", "")
        parts = [int(n) for n in _PART.findall((await request.body()).decode(errors="replace"))]
        stored = await self._uploads.complete(upload_id, target, parts)
        response = _xml(
            f"{_XML_HEAD}<CompleteMultipartUploadResult {_NAMESPACE}>"
            f"<Bucket>{bucket}</Bucket><Key>{escape(name)}</Key>"
            f"<ETag>{escape(stored.etag)}</ETag></CompleteMultipartUploadResult>"
        )
        response.headers["X-Goog-Generation"] = str(stored.generation)
        response.headers["X-Goog-Hash"] = f"crc32c={stored.crc32c}"
        return response

    async def _put_part(self, request: Request, target: tuple[str, str]) -> Response:
        number = page_limit(request.query_params.get("partNumber"), PARTS_MAX + 1)
        upload_id = request.query_params["uploadId"]
        size = coming_bytes(request)
        body = PartBody(
            request.stream(), UNANNOUNCED_BYTES if size is None else size, stated_hashes(request)
        )
        etag, crc32c = await self._uploads.put_part(upload_id, target, number, body)
        return Response(headers={"ETag": etag, "X-Goog-Hash": f"crc32c={crc32c}"})

    async def _abort(self, request: Request) -> Response:
        self._uploads.abort(request.query_params["uploadId"])
        return Response(status_code=204)

    async def _list(self, request: Request, bucket: str) -> Response:
        query = request.query_params
        limit = page_limit(query.get("max-keys"), LIST_KEYS_MAX)
        after = query.get("continuation-token") or query.get("start-after") or query.get("marker")
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        page = self._store.list_page(
            bucket,
            ListQuery(prefix=prefix, delimiter=delimiter, after=after or "", limit=limit),
        )
        more = page.next_after is not None
        token = escape(page.next_after or "")
        body = [
            f"{_XML_HEAD}<ListBucketResult {_NAMESPACE}><Name>{bucket}</Name>",
            f"<Prefix>{escape(prefix)}</Prefix><KeyCount>{len(page.objects)}</KeyCount>",
            f"<MaxKeys>{limit}</MaxKeys><IsTruncated>{str(more).lower()}</IsTruncated>",
            f"<NextContinuationToken>{token}</NextContinuationToken>" if more else "",
            *(_contents(stored) for stored in page.objects),
            *(
                f"<CommonPrefixes><Prefix>{escape(p)}</Prefix></CommonPrefixes>"
                for p in page.prefixes
            ),
            "</ListBucketResult>",
        ]
        return _xml("".join(body))


def _body_bytes(request: Request) -> int | None:
    """The announced bytes of an upload; a copy or a command has none."""
    if request.method != "PUT" or "x-goog-copy-source" in request.headers:
        return None
    return coming_bytes(request)


def _contents(stored: StoredObject) -> str:
    return (
        f"<Contents><Key>{escape(stored.name)}</Key><Generation>{stored.generation}</Generation>"
        f"<MetaGeneration>{stored.metageneration}</MetaGeneration>"
        f"<LastModified>{rfc3339(stored.updated_us)}</LastModified>"
        f"<ETag>{escape(stored.etag)}</ETag><Size>{stored.size}</Size></Contents>"
    )


def _written(stored: StoredObject) -> Response:
    headers = object_headers(stored)
    wanted = ("ETag", "X-Goog-Generation", "X-Goog-Metageneration", "X-Goog-Hash")
    return Response(headers={name: headers[name] for name in wanted})


def _attributes(request: Request) -> Attributes:
    headers = request.headers
    mark = "x-goog-meta-"
    return Attributes(
        content_type=headers.get("content-type", "application/octet-stream"),
        content_encoding=headers.get("content-encoding"),
        content_disposition=headers.get("content-disposition"),
        content_language=headers.get("content-language"),
        cache_control=headers.get("cache-control"),
        metadata={k.removeprefix(mark): v for k, v in headers.items() if k.startswith(mark)},
    )


def _preconditions(request: Request) -> Preconditions:
    given = {
        "generation_match": request.headers.get("x-goog-if-generation-match"),
        "metageneration_match": request.headers.get("x-goog-if-metageneration-match"),
    }
    try:
        return msgspec.convert(
            {k: v for k, v in given.items() if v is not None}, Preconditions, strict=False
        )
    except msgspec.ValidationError as error:
        raise bad_storage_request(f"A precondition is not a number: {error}") from error


def _unmet_etag(request: Request, stored: StoredObject) -> Response | None:
    """304 or 412 for the ETag conditions of HTTP; None if the read may go on."""
    match = request.headers.get("if-match")
    if match is not None and match != "*" and stored.etag not in match.split(", "):
        return xml_error(
            StorageRefusal(
                412,
                "conditionNotMet",
                "At least one of the pre-conditions you specified did not hold.",
                xml_code="PreconditionFailed",
            )
        )
    none_match = request.headers.get("if-none-match")
    if none_match is not None and (none_match == "*" or stored.etag in none_match.split(", ")):
        return Response(status_code=304, headers={"ETag": stored.etag})
    return None


async def _drain_quietly(request: Request) -> None:
    # A refused upload is read to its end, or the client would see a reset instead of the refusal.
    if TAKEN in request.scope:
        return
    try:
        await drain(request)
    except (ClientDisconnect, RuntimeError):
        # Gone, or already read: in both cases there is nothing left to read.
        return


def _no_method() -> StorageRefusal:
    return StorageRefusal(
        405,
        "methodNotAllowed",
        "The specified method is not allowed against this resource.",
        xml_code="MethodNotAllowed",
    )
