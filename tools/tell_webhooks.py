"""Tell many webhooks through a receiver that fails, by senders that are killed, and count.

    python tools/tell_webhooks.py                        20,000 deliveries
    python tools/tell_webhooks.py --deliveries 500       fewer

Real: the store, the senders (processes that get SIGKILL), the sockets. Only time runs faster, so
that the ten tries over 75 hours take a minute or two. The receiver refuses, hangs up, hangs, and
answers; it checks each signature with the reference library of Standard Webhooks. At the end each
delivery must have been answered 2xx, or be given up after ten tries.
"""

import argparse
import asyncio
import itertools
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from standardwebhooks import Webhook as Reference

from penstock.core.access import Actor
from penstock.core.ids import new_id
from penstock.core.job import Job, OrgId, new_job_id
from penstock.core.limits import Limits
from penstock.core.state import JobState
from penstock.core.webhook import TRIES_MAX
from penstock.lifecycle.deliver import Deliverer, Post
from penstock.settings import Timing
from penstock.store.jobs import Finish
from penstock.store.store import Store
from penstock.store.webhooks import Webhook
from penstock.webhooks.address import Addresses
from penstock.webhooks.secrets import Sealer, new_secret
from penstock.webhooks.sender import open_sender

SEALER: Final = Sealer(b"w" * 32)
ORGS: Final = ("acme", "rival")
WEBHOOKS_EACH: Final = 5
SENDERS: Final = 2
LIFE_SECONDS: Final = (1.0, 8.0)
"""Of a sender, once it is up."""
FATES: Final = {"answer": 60, "refuse": 20, "hang up": 8, "answer and hang up": 8, "hang": 1}
"""What the receiver does, and how often."""
TRY_SECONDS: Final = 3.0
LEASE_SECONDS: Final = 6.0
NEVER_SECONDS: Final = 10**12
"""Until a webhook is disabled: here nobody is there to enable it again."""


class Fast:
    """Time that runs so many times faster, the same in each process."""

    def __init__(self, begun_at: float, speed: float) -> None:
        self._begun_at = begun_at
        self._speed = speed

    def now(self) -> float:
        """Return seconds since the epoch, ahead of the real ones."""
        return self._begun_at + (time.time() - self._begun_at) * self._speed

    async def sleep(self, seconds: float) -> None:
        """Return after so many of them."""
        await asyncio.sleep(seconds / self._speed)


class Receiver:
    """Takes what comes, and says afterwards what it was."""

    def __init__(self, secrets: dict[str, str], seed: int) -> None:
        self._references = {name: Reference(secret) for name, secret in secrets.items()}
        self._dice = random.Random(seed)  # noqa: S311  # reproducible, not secret
        self.bodies: dict[str, bytes] = {}
        self.good: set[str] = set()
        self.requests: Counter[str] = Counter()
        self.bad_signatures = 0
        self.changed = 0
        self.is_reached = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, as its fate wants."""
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            # Its sender was killed.
            return
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        start, *lines = head.split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines if line)
        headers = {name.lower(): value for name, value in headers.items()}
        body = await reader.readexactly(int(headers["content-length"]))
        fate = self._dice.choices(list(FATES), list(FATES.values()))[0]
        if fate == "hang up":
            return
        self._check(start.split(" ")[1].strip("/"), headers, body)
        if fate == "hang":
            await asyncio.sleep(TRY_SECONDS * 1.5)
            return
        if fate == "answer and hang up":
            # A status that does not come whole is none.
            writer.write(b"HTTP/1.1 200")
            return
        status = "204 Fine" if fate == "answer" else "503 No"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        if fate == "answer":
            self.good.add(headers["webhook-id"])

    def _check(self, name: str, headers: dict[str, str], body: bytes) -> None:
        delivery_id = headers["webhook-id"]
        self.requests[delivery_id] += 1
        self.is_reached.set()
        self.changed += self.bodies.setdefault(delivery_id, body) != body
        at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
        expected = self._references[name].sign(delivery_id, at, body.decode())
        self.bad_signatures += expected not in headers["webhook-signature"].split(" ")


async def fill(path: Path, port: int, count: int, at: float) -> dict[str, str]:
    """Make webhooks, and end jobs until there are so many deliveries; return the secrets."""
    store = Store.open(path)
    secrets = {}
    for org in ORGS:
        await store.tenants.ensure_org(OrgId(org), org, at)
        await store.tenants.ensure_user(f"{org}-user", OrgId(org), "owner", at)
        actor = Actor(
            org_id=OrgId(org), user_id=f"{org}-user", key_id="", address="", request_id=""
        )
        for _ in range(WEBHOOKS_EACH):
            name, secret = new_id("whk"), new_secret()
            secrets[name] = secret
            webhook = Webhook(
                id=name,
                org_id=OrgId(org),
                url=f"http://127.0.0.1:{port}/{name}",
                events="*",
                secret=SEALER.seal(name, secret),
                created_at=at,
                created_by=actor.user_id,
            )
            await store.webhooks.add(actor, webhook, WEBHOOKS_EACH)
    for number in range(-(-count // WEBHOOKS_EACH)):
        job = _job(ORGS[number % len(ORGS)], at)
        await store.jobs.add(job)
        await store.jobs.finish(job.id, at, Finish(state=JobState.FAILED, detail="The end."))
    await store.close()
    return secrets


def _job(org: str, at: float) -> Job:
    return Job(
        id=new_job_id(),
        org_id=OrgId(org),
        user_id=f"{org}-user",
        key_id="key",
        state=JobState.ACCEPTED,
        model="gemini-3-flash-preview",
        payload={},
        line_count=1,
        input_bytes=1,
        input_sha256="0" * 64,
        created_at=at,
        updated_at=at,
    )


async def send(path: Path, port: int, clock: Fast, speed: float) -> None:
    """Be a sender until somebody kills this process."""
    limits = Limits(
        webhook_seconds_max=TRY_SECONDS,
        webhook_deliveries_max=16,
        webhook_failing_seconds_max=NEVER_SECONDS,
    )
    addresses = Addresses(limits, [f"http://127.0.0.1:{port}/"])
    timing = Timing(deliver_seconds=0.1 * speed, deliver_lease_seconds=LEASE_SECONDS * speed)
    deliverer = Deliverer(
        Post(
            deliveries=Store.open(path).deliveries,
            sender=open_sender(addresses, limits, 64),
            sealer=SEALER,
            clock=clock,
            limits=limits,
            timing=timing,
            concurrency=64,
        )
    )
    print("up", flush=True)
    await deliverer.run()


async def keep_killing(
    arguments: list[str], dice: random.Random, kills: Counter[str], reached: asyncio.Event
) -> None:
    """Have a sender, kill it after a while, have another one, for ever."""
    for life in itertools.count():
        sender = await asyncio.create_subprocess_exec(
            sys.executable, __file__, *arguments, stdout=asyncio.subprocess.PIPE
        )
        try:
            if sender.stdout is None or not await sender.stdout.readline():
                raise RuntimeError("a sender did not start")
            if life == 0:
                # While it sends, however few deliveries there are and however fast it is.
                await reached.wait()
            else:
                await asyncio.sleep(dice.uniform(*LIFE_SECONDS))
            kills["senders"] += 1
        finally:
            if sender.returncode is None:
                sender.send_signal(signal.SIGKILL)
            await sender.wait()


@asynccontextmanager
async def senders(
    arguments: list[str], seed: int, kills: Counter[str], reached: asyncio.Event
) -> AsyncIterator[None]:
    """Have some of them within the block."""
    dice = [random.Random(seed + number) for number in range(SENDERS)]  # noqa: S311  # reproducible
    tasks = [asyncio.create_task(keep_killing(arguments, each, kills, reached)) for each in dice]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Row(msgspec.Struct, frozen=True):
    """What the database says of a delivery at the end."""

    id: str
    is_delivered: bool
    tries: int
    is_open: bool


def rows(path: Path) -> list[Row]:
    """Read them."""
    query = (
        "SELECT id, delivered_at IS NOT NULL, tries, delivered_at IS NULL AND given_up_at IS NULL"
        " FROM deliveries"
    )
    # Not for reading alone: a killed writer's journal has to be rolled back by whoever comes next.
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        return [
            Row(name, bool(delivered), tries, bool(is_open))
            for name, delivered, tries, is_open in connection.execute(query)
        ]


async def tell(options: argparse.Namespace, folder: Path) -> int:
    """Run the whole; return the exit code."""
    path, begun_at = folder / "penstock.db", time.time()
    clock = Fast(begun_at, options.speed)
    secrets: dict[str, str] = {}
    receiver: list[Receiver] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await receiver[0].serve(reader, writer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        secrets = await fill(path, port, options.deliveries, clock.now())
        receiver.append(Receiver(secrets, options.seed))
        kills: Counter[str] = Counter()
        arguments = ["--send", str(path), "--port", str(port)]
        arguments += ["--begun-at", repr(begun_at), "--speed", str(options.speed)]
        sent_at = time.monotonic()
        async with senders(arguments, options.seed, kills, receiver[0].is_reached):
            await until_told(path, sent_at + options.seconds_max)
    return report(rows(path), receiver[0], kills["senders"], time.monotonic() - sent_at)


async def until_told(path: Path, end: float) -> None:
    """Return when nothing waits any more, or at the end."""
    while any(row.is_open for row in rows(path)) and time.monotonic() < end:  # noqa: ASYNC110  # other processes have no event
        await asyncio.sleep(0.5)


def report(found: list[Row], receiver: Receiver, kills: int, seconds: float) -> int:
    """Print what happened; return 1 if anything is not as promised."""
    exhausted = [row for row in found if not row.is_delivered and row.tries >= TRIES_MAX]
    missed = [
        row
        for row in found
        if row.id not in receiver.good and (row.is_delivered or row.tries < TRIES_MAX)
    ]
    requests = sum(receiver.requests.values())
    print(f"{len(found)} deliveries, {requests} requests that were read, {kills} senders killed")
    print(f"{len(missed)} missed, {receiver.bad_signatures} bad signatures", end=", ")
    print(f"{receiver.changed} with another body, {len(exhausted)} given up after ten tries")
    print(f"{seconds:.0f} s, {len(found) / seconds:.0f} deliveries/s")
    return 1 if missed or receiver.bad_signatures or receiver.changed or not kills else 0


def main() -> int:
    """Be the whole, or one of the senders."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--deliveries", type=int, default=20_000)
    parser.add_argument("--speed", type=float, default=3_600.0, help="how much faster time runs")
    parser.add_argument("--seed", type=int, default=20261123)
    parser.add_argument("--seconds-max", type=float, default=1_800.0)
    parser.add_argument("--send", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--begun-at", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.send is not None:
        clock = Fast(options.begun_at, options.speed)
        asyncio.run(send(options.send, options.port, clock, options.speed))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(tell(options, Path(folder)))


if __name__ == "__main__":
    sys.exit(main())
