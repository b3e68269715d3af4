"""Every error of Penstock.

A message says what happened and to what; `hint` says what to do; `code` is stable and documented.
Catch one base, or be precise:

    PenstockError
    |-- Refused                     the caller can mend it (4xx)
    |   |-- Unauthenticated             401  no key, or one that we do not know
    |   |-- Forbidden                   403  a known key that may not do this
    |   |-- NotFound                    404  absent, or another tenant's: the two look the same
    |   |-- MethodNotAllowed            405
    |   |-- HostNotAllowed              421  the Host header names another server
    |   |-- InvalidRequest              400  the envelope: JSON, members, parameters
    |   |-- InvalidInput                400  the lines: all bad ones at once, see `problems`
    |   |-- TooLarge                    413  bytes or lines over a limit
    |   |-- UnsupportedMedia            415
    |   |-- TooSlow                     408  the body stopped coming
    |   |-- SourceRefused               422  the address in `input_uri` gives no input
    |   |-- Conflict                    409  the job is in a state that does not allow it
    |   |-- Locked                      423  another request is working on the same thing
    |   |-- TooMany                     429  a tenant has as many of them as it may have
    |   |-- CostOverCap                 402  the job is expected to cost more than it may
    |   |-- QuotaExceeded               429  one of the tenant's quotas is used up, see `quota`
    |   `-- KeyReused                   422  an idempotency key that stands for something else
    |-- Unavailable                 503  we cannot now; try again later
    |   |-- TooBusy                     503  too many at once: it waited in line in vain
    |   |-- DatabaseUnavailable         503  the database is down, hangs, or has no room
    |   |-- SourceUnavailable           503  the address in `input_uri` failed; it may work later
    |   |-- BlobsUnavailable            503  the object storage failed; it may work later
    |   `-- StorageFull                 507
    |-- ProviderError               the other side, seen by the lifecycle only
    |   |-- ProviderUnreachable         nothing was done; try again
    |   |-- ProviderRefused             a definite no; trying again will not help
    |   `-- ProviderUnclear             a create whose fate is unknown: reconcile, never repeat
    |-- BlobError                   stored bytes
    |   |-- BlobMissing
    |   `-- BlobCorrupt                 checksum or length differ from what was recorded
    |-- ConfigurationError          the server refuses to start
    `-- InternalError               500  our fault
"""

from collections.abc import Sequence
from typing import ClassVar

import msgspec


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong with what the caller sent.

    `line` and `column` count from 1, `column` in characters; `offset` is the byte from the start of
    the decoded input; `path` is a JSON path such as `$.request.contents[0].role`; `excerpt` is at
    most 80 escaped characters around the spot.
    """

    code: str
    message: str
    line: int | None = None
    column: int | None = None
    offset: int | None = None
    path: str | None = None
    hint: str | None = None
    excerpt: str | None = None


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """What one job holds of a quota."""

    request_id: str
    amount: int


class QuotaUse(msgspec.Struct, frozen=True, kw_only=True):
    """How a quota stood when it refused something."""

    name: str
    limit: int
    used: int
    reserved: int
    asked: int
    reserved_by: tuple[Reservation, ...]
    """Jobs that have not ended and hold some of it, those with the most of it first."""
    resets_at: int | None
    """When it counts from zero again, in Unix seconds."""


class PenstockError(Exception):
    """Base of every error that we raise on purpose."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        code: str | None = None,
        problems: Sequence[Problem] = (),
        problems_total: int | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.error_code = code or self.code
        self.problems = tuple(problems)
        self.problems_total = len(self.problems) if problems_total is None else problems_total
        self.retry_after_seconds = retry_after_seconds


class Refused(PenstockError):
    """The caller sent something that we do not take; sending it again gives the same answer."""

    code = "refused"
    status = 400


class Unauthenticated(Refused):
    """There is no key, or none that we know."""

    code = "unauthenticated"
    status = 401


class Forbidden(Refused):
    """The key is good, but not for this."""

    code = "forbidden"
    status = 403


class NotFound(Refused):
    """The thing does not exist for this tenant; another tenant's thing gives the same bytes."""

    code = "not_found"
    status = 404


class MethodNotAllowed(Refused):
    """The path exists, the method does not."""

    code = "method_not_allowed"
    status = 405


class HostNotAllowed(Refused):
    """The request was meant for a server of another name."""

    code = "host_not_allowed"
    status = 421


class InvalidRequest(Refused):
    """The envelope around the lines is wrong."""

    code = "invalid_request"
    status = 400


class InvalidInput(Refused):
    """Lines are wrong; `problems` lists the first ones, `problems_total` counts all."""

    code = "invalid_input"
    status = 400


class TooLarge(Refused):
    """A limit in bytes or lines is exceeded."""

    code = "too_large"
    status = 413


class UnsupportedMedia(Refused):
    """The body's type or encoding is not one that we read."""

    code = "unsupported_media_type"
    status = 415


class TooSlow(Refused):
    """The body stopped coming, or came too slowly."""

    code = "body_too_slow"
    status = 408


class SourceRefused(Refused):
    """What `input_uri` names cannot be read, and trying again will not help."""

    code = "source_refused"
    status = 422


class Conflict(Refused):
    """The job is in a state that does not allow what was asked."""

    code = "invalid_state"
    status = 409


class Locked(Refused):
    """Another request is working on it; the same request may work as soon as that one ends."""

    code = "locked"
    status = 423


class TooMany(Refused):
    """The tenant has as many of them as it may have at a time."""

    code = "too_many"
    status = 429


class CostOverCap(Refused):
    """A job that is expected to cost more than its owner wants to pay for it."""

    code = "cost_over_cap"
    status = 402


class QuotaExceeded(Refused):
    """The tenant may not use more of something; `quota` says of what, and who holds it."""

    code = "quota_exceeded"
    status = 429
    quota: QuotaUse | None = None


class KeyReused(Refused):
    """The idempotency key was used for another submission."""

    code = "idempotency_mismatch"
    status = 422


class Unavailable(PenstockError):
    """We cannot do it now; the same request may work later."""

    code = "unavailable"
    status = 503


class TooBusy(Unavailable):
    """There are too many others at the moment."""

    code = "too_busy"


class DatabaseUnavailable(Unavailable):
    """The database did not do what was asked; whether a commit took effect may be unknown."""

    code = "database_unavailable"


class SourceUnavailable(Unavailable):
    """What `input_uri` names could not be read to its end; the same may work later."""

    code = "source_unavailable"


class BlobsUnavailable(Unavailable):
    """The object storage that holds inputs and outputs did not do what was asked."""

    code = "blobs_unavailable"


class StorageFull(Unavailable):
    """There is no room for the upload."""

    code = "storage_full"
    status = 507


class ProviderError(PenstockError):
    """Something about the provider; the lifecycle decides what it means for the job."""

    code = "provider_error"
    status = 502


class ProviderUnreachable(ProviderError):
    """The call did not take effect and may be repeated."""

    code = "provider_unreachable"


class ProviderRefused(ProviderError):
    """The provider said no in a way that repeating will not change."""

    code = "provider_refused"


class ProviderUnclear(ProviderError):
    """A create may or may not have taken effect; only reconciliation may follow."""

    code = "provider_unclear"


class BlobError(PenstockError):
    """Stored bytes are not what the database says."""

    code = "blob_error"


class BlobMissing(BlobError):
    """The bytes are gone."""

    code = "blob_missing"


class BlobCorrupt(BlobError):
    """Length or checksum differ from what was recorded."""

    code = "blob_corrupt"


class ConfigurationError(PenstockError):
    """The server does not start like this."""

    code = "invalid_configuration"


class InternalError(PenstockError):
    """Our fault."""

    code = "internal"
    status = 500
