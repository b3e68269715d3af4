"""From settings to the place where blobs live.

`gs://` uses the credentials that the provider is called with. `s3://` and `az://` use those that
obstore finds by itself, as the services' own clients do: variables such as `AWS_ACCESS_KEY_ID` and
`AZURE_STORAGE_ACCOUNT_NAME`, web identity tokens, the machine's own identity.
"""

import re
from typing import TYPE_CHECKING, Final

import httpx2
import msgspec
import obstore.exceptions
import obstore.store

from penstock.blobs.bucket import Bucket, TokenSource
from penstock.blobs.local import LocalBlobs
from penstock.blobs.objects import REQUEST_TIMEOUT, RETRY, Objects, first_line
from penstock.blobs.remote import RemoteBlobs
from penstock.blobs.sealed import Sealed, SealedByService, SealedByUs
from penstock.blobs.spool import Spool
from penstock.blobs.store import Blobs
from penstock.clock import Clock
from penstock.errors import ConfigurationError

if TYPE_CHECKING:
    from obstore.store import AzureConfig, ClientConfig, S3Config  # not there at run time

_PLACE: Final = re.compile(
    r"(?P<scheme>gs|s3|az)://(?P<bucket>[a-z0-9][a-z0-9._-]{1,221})(?P<prefix>(/[\w.=-]+)*)/?",
    re.ASCII,
)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where in object storage."""

    scheme: str
    bucket: str
    prefix: str
    """Without slashes at its ends; empty means the whole bucket."""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes to reach it."""

    endpoint: str
    """Instead of the service's own address; for Cloud Storage it is always given."""
    token: TokenSource
    http: httpx2.AsyncClient
    clock: Clock


def open_blobs(url: str, spool: Spool, access: Access) -> Blobs:
    """Return the place that `blobs_url` names; raise `ConfigurationError` if there is no such."""
    if not url:
        return LocalBlobs(spool)
    place = place_of(url)
    return RemoteBlobs(_sealed(place, access), place.prefix, spool)


def place_of(url: str) -> Place:
    """Parse a `blobs_url`; raise `ConfigurationError` unless it is one."""
    found = _PLACE.fullmatch(url)
    if found is None or not {".", ".."}.isdisjoint(url.split("/")):
        raise ConfigurationError(
            f"blobs_url is {url!r}, which names no place in object storage.",
            hint="Write gs://bucket/prefix, s3://bucket/prefix or az://container/prefix.",
        )
    return Place(scheme=found["scheme"], bucket=found["bucket"], prefix=found["prefix"].strip("/"))


def _sealed(place: Place, access: Access) -> Sealed:
    if place.scheme == "gs":
        return SealedByService(
            Bucket(place.bucket, access.endpoint, access.token, access.http, access.clock)
        )
    endpoint = access.endpoint
    client: ClientConfig = {
        "allow_http": endpoint.startswith("http://"),
        "timeout": REQUEST_TIMEOUT,
    }
    try:
        store = (
            _s3(place, endpoint, client)
            if place.scheme == "s3"
            else _azure(place, endpoint, client)
        )
    except obstore.exceptions.BaseError as error:
        raise ConfigurationError(
            f"blobs_url names {place.scheme}://{place.bucket}, which cannot be used: "
            f"{first_line(error)}",
            hint="docs/object-storage.md says which variables the service's client reads.",
        ) from error
    service = "S3" if place.scheme == "s3" else "Azure Blob Storage"
    objects = Objects(lambda: store, service, f"{place.scheme}://{place.bucket}")
    return SealedByUs(objects, reads_back=place.scheme == "az")


def _s3(place: Place, endpoint: str, client: "ClientConfig") -> "obstore.store.S3Store":
    # S3 compares each part with its SHA-256 before it stores it.
    config: S3Config = {"checksum_algorithm": "SHA256"}
    if endpoint:
        config["endpoint"] = endpoint
    return obstore.store.S3Store(
        place.bucket, config=config, client_options=client, retry_config=RETRY
    )


def _azure(place: Place, endpoint: str, client: "ClientConfig") -> "obstore.store.AzureStore":
    config: AzureConfig = {"endpoint": endpoint} if endpoint else {}
    return obstore.store.AzureStore(
        place.bucket, config=config, client_options=client, retry_config=RETRY
    )
