"""Bearer tokens for Google: default credentials, or a service-account file."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import google.auth
import google.auth.credentials
import google.auth.exceptions
import google.auth.transport
import google.oauth2.service_account
import httpx2

from penstock.errors import ConfigurationError, ProviderUnreachable

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
TOKEN_TIMEOUT_SECONDS: Final = 30.0

_UNUSABLE: Final = (
    google.auth.exceptions.GoogleAuthError,
    # google-auth reads files and answers without a look at their types.
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)
"""What google-auth raises over files and answers that are not what they should be."""


class _Response(google.auth.transport.Response):
    """What google-auth reads of an answer."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response

    @property
    def status(self) -> int:
        return self._response.status_code

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    @property
    def data(self) -> bytes:
        return self._response.content


class _Request(google.auth.transport.Request):
    """google-auth's transport over httpx2, so that `requests` need not be installed."""

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_unused: Any,  # noqa: ANN401  # google-auth passes what its own transports know
    ) -> _Response:
        try:
            # A token is asked for once an hour; a client that lived longer would have to be closed.
            with httpx2.Client(timeout=timeout or TOKEN_TIMEOUT_SECONDS) as http:
                response = http.request(method, url, content=body, headers=dict(headers or {}))
        except httpx2.HTTPError as error:
            raise google.auth.exceptions.TransportError(error) from error
        return _Response(response)


class GoogleToken:
    """A token source over google-auth; refreshes in a thread, one at a time."""

    def __init__(self, credentials_file: Path | None) -> None:
        self._request = _Request()
        self._lock = asyncio.Lock()
        try:
            self._credentials = self._load(credentials_file)
        except (OSError, *_UNUSABLE) as error:
            raise ConfigurationError(
                f"No usable Google credentials: {error}",
                hint="Set PENSTOCK_VERTEX_CREDENTIALS_FILE, or run "
                "`gcloud auth application-default login`.",
            ) from error

    def _load(self, credentials_file: Path | None) -> google.auth.credentials.Credentials:
        if credentials_file is None:
            credentials, _project = google.auth.default(scopes=[SCOPE], request=self._request)
        else:
            # Nothing but a service account: a file of another type may name hosts and commands.
            credentials = google.oauth2.service_account.Credentials.from_service_account_file(
                str(credentials_file), scopes=[SCOPE]
            )
        return credentials

    @property
    def quota_project(self) -> str | None:
        """The project that user credentials are charged to; None for service accounts."""
        project: str | None = getattr(self._credentials, "quota_project_id", None)
        return project

    @property
    def described(self) -> str:
        """What kind of credentials these are, and whose; never anything secret."""
        kind = type(self._credentials)
        # The classes of google-auth are told apart by their modules, which are stable.
        name = f"{kind.__module__.removeprefix('google.')}.{kind.__name__}"
        words = {
            "oauth2.service_account.Credentials": "service account",
            "oauth2.credentials.Credentials": "user (gcloud)",
            "auth.compute_engine.credentials.Credentials": "the machine's own service account",
        }
        # Of a machine it is `default` until the first token.
        whose = getattr(self._credentials, "service_account_email", None)
        return f"{words.get(name, name)}{f' {whose}' if whose else ''}"

    async def __call__(self) -> str:
        """Return a valid token."""
        async with self._lock:
            if not self._credentials.valid:
                try:
                    await asyncio.to_thread(self._credentials.refresh, self._request)
                except _UNUSABLE as error:
                    raise ProviderUnreachable(f"Google gave no token: {error}") from error
            return str(self._credentials.token)
