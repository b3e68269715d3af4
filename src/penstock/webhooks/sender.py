"""One try to deliver: a POST that may take so long and no longer, and what came of it.

Whatever the other side does costs one try: it is told by a status or by a few words of ours, never
by its own text.
"""

import asyncio
import ssl
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, Protocol

import httpx2
import msgspec

from penstock.blobs.egress import UNREACHED, Egress, Outgoing, Patience
from penstock.core.limits import Limits
from penstock.errors import InvalidRequest
from penstock.fault import fault
from penstock.webhooks.address import Addresses
from penstock.webhooks.resolver import Resolver

_HEADERS: Final = {
    "Content-Type": "application/json",
    "User-Agent": "penstock",
    "Accept": "*/*",
    "Accept-Encoding": "identity",
}


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a try."""

    status: int | None = None
    """Of the answer; None if there was none."""
    error: str | None = None
    """Why it failed; None if it did not."""

    @property
    def is_gone(self) -> bool:
        """Whether the receiver wants no more, ever."""
        return self.status == HTTPStatus.GONE


class Sends(Protocol):
    """What the lifecycle asks of a sender."""

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """Try once."""
        ...


def open_sender(addresses: Addresses, limits: Limits, concurrency: int) -> "Sender":
    """Return a sender on the system's certificates and resolver."""
    patience = Patience(
        # So that a second address can still be tried when the first one does not answer.
        connect_seconds=limits.webhook_seconds_max / 3,
        idle_seconds=limits.webhook_seconds_max,
    )
    resolver = Resolver(concurrency)
    return Sender(Egress(ssl.create_default_context(), patience, resolver), addresses, limits)


class Sender:
    """Sends to addresses that were checked when they were stored, and checks them again."""

    def __init__(self, egress: Egress, addresses: Addresses, limits: Limits) -> None:
        self._egress = egress
        self._addresses = addresses
        self._limits = limits

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """Try once, within `limits.webhook_seconds_max` for everything together."""
        status: list[int] = []
        try:
            async with asyncio.timeout(self._limits.webhook_seconds_max):
                return await self._send(url, headers, body, status)
        except TimeoutError:
            if status:
                # What drips on after a good status is nobody's concern.
                return _judged(status[0])
            return Outcome(error=f"no answer in {self._limits.webhook_seconds_max:g} seconds")
        except UNREACHED:
            return Outcome(error="cannot be reached, or shows no valid certificate")
        except httpx2.HTTPError:
            return Outcome(error="did not answer as HTTP does")
        except OSError as error:
            return Outcome(error=str(error))
        except InvalidRequest as error:
            return Outcome(error=error.message)

    async def _send(
        self, url: str, headers: Mapping[str, str], body: bytes, status: list[int]
    ) -> Outcome:
        uri = self._addresses.read(url)
        addresses = await self._egress.addresses(uri, is_trusted=self._addresses.is_trusted(uri))
        if addresses is None:
            # Which address it is would tell about the network that we are in.
            return Outcome(error="its host has an address that is not on the public internet")
        request = Outgoing(
            method="POST",
            uri=uri,
            headers={**_HEADERS, **headers},
            content=body,
            on_sent=_on_the_way,
        )
        async with self._egress.exchange(request, addresses) as response:
            status.append(response.status_code)
            await self._read(response)
        return _judged(response.status_code)

    async def _read(self, response: httpx2.Response) -> None:
        """Take a small answer, so that its sender does not meet a closed connection."""
        left_bytes = self._limits.webhook_answer_bytes_max
        try:
            async for chunk in response.aiter_raw():
                left_bytes -= len(chunk)
                if left_bytes <= 0:
                    return
        except httpx2.HTTPError:
            # The status came whole, and it alone decides.
            return


def _on_the_way() -> None:
    fault("webhook.sent")


def _judged(status: int) -> Outcome:
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Outcome(status=status)
    return Outcome(status=status, error=f"answered {status}")
