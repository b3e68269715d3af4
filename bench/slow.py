"""Clients that take their time, as a process of its own; it ends when its standard input does.

A quarter each sends a head slowly, sends a body slowly (with a good key, just above the least
rate), reads answers slowly and asks on, and says nothing. They come within a few seconds, and who
is cut comes back at once, as an attacker does. Prints one JSON line when all are connected, and one
at the end with how often they were cut.
"""

import argparse
import asyncio
import json
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

from call import REQUESTS

Slowly = Callable[[asyncio.StreamReader, asyncio.StreamWriter, str], Awaitable[None]]

BEAT_SECONDS: Final = 0.5
BODY_BYTES: Final = 100_000_000
BEAT_BYTES: Final = 600
"""A beat; 1,024 a second is the least that a body may bring."""
TAKEN_BYTES: Final = 200
RECEIVE_BYTES: Final = 4_096
ASKED_MAX: Final = 60
COME_SECONDS: Final = 4.0


async def send_head(_: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str) -> None:
    """Send a head by single fields, and never its end."""
    writer.write(f"GET /healthz HTTP/1.1\r\n{head}".encode())
    while True:
        writer.write(b"A: b\r\n")
        await writer.drain()
        await asyncio.sleep(BEAT_SECONDS)


async def send_body(_: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str) -> None:
    """Send a body as slowly as is allowed."""
    kind = f"Content-Type: application/json\r\nContent-Length: {BODY_BYTES}\r\n\r\n"
    writer.write(f"POST {REQUESTS} HTTP/1.1\r\n{head}{kind}".encode() + b'{"input_data": "')
    while True:
        writer.write(b" " * BEAT_BYTES)
        await writer.drain()
        await asyncio.sleep(BEAT_SECONDS)


async def read_slowly(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str
) -> None:
    """Ask for much, and take little of it at a time."""
    asked = f"GET /openapi.json HTTP/1.1\r\n{head}\r\n".encode()
    writer.write(asked)
    left = ASKED_MAX
    while await reader.read(TAKEN_BYTES):
        if left:
            # Until the buffers of both sides are full, and then it is the server that waits.
            writer.write(asked)
            left -= 1
        await asyncio.sleep(BEAT_SECONDS)


async def say_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter, head: str) -> None:
    """Wait until the server has had enough."""
    del head
    while await reader.read(TAKEN_BYTES):  # noqa: ASYNC110  # the pause is what it is about
        await asyncio.sleep(BEAT_SECONDS)


KINDS: Final[tuple[Slowly, ...]] = (send_head, send_body, read_slowly, say_nothing)


class Crowd:
    """All of them."""

    def __init__(self, url: str, key: str) -> None:
        address = urlsplit(url)
        self._address = (str(address.hostname), int(address.port or 0))
        self._head = f"Host: {address.netloc}\r\nAuthorization: Bearer {key}\r\n"
        self.connected = 0
        self.cuts: Counter[str] = Counter()

    async def keep(self, slowly: Slowly, after_seconds: float) -> None:
        """Be one of them for ever."""
        await asyncio.sleep(after_seconds)
        while True:
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            client.setblocking(False)  # noqa: FBT003  # the standard library's own
            try:
                await asyncio.get_running_loop().sock_connect(client, self._address)
                reader, writer = await asyncio.open_connection(sock=client, limit=RECEIVE_BYTES)
                self.connected += 1
                try:
                    await slowly(reader, writer, self._head)
                finally:
                    self.connected -= 1
                    writer.close()
            except OSError:
                self.cuts["reset"] += 1
            self.cuts[slowly.__name__] += 1
            await asyncio.sleep(BEAT_SECONDS)


async def run(url: str, key: str, count: int) -> None:
    """Keep so many until the standard input ends."""
    crowd = Crowd(url, key)
    tasks = [
        asyncio.create_task(crowd.keep(KINDS[each % len(KINDS)], COME_SECONDS * each / count))
        for each in range(count)
    ]
    while crowd.connected < count * 9 // 10:  # noqa: ASYNC110  # ten looks, once
        await asyncio.sleep(BEAT_SECONDS)
    print(json.dumps({"connected": crowd.connected}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(json.dumps({"connected": crowd.connected, "cut": dict(crowd.cuts)}), flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--clients", type=int, default=500)
    given = parser.parse_args()
    asyncio.run(run(given.url, given.key, given.clients))


if __name__ == "__main__":
    main()
