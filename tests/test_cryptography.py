"""Which cryptography is in the code, and that every way out insists on good TLS.

The list is short so that it can be read: a new primitive fails here until somebody has judged it.
"""

import ast
import re
import socket
import ssl
import threading
import tokenize
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import httpx2
import pytest
from tests.blobs.file_server import certificate

from penstock.blobs.bucket import Bucket
from penstock.blobs.egress import Egress, Outgoing, Patience
from penstock.client import Api, ConnectionFailed
from penstock.clock import SystemClock
from penstock.core.uri import read
from penstock.errors import ProviderUnclear, ProviderUnreachable
from penstock.providers.fixed_token import FixedToken
from penstock.providers.provider import NewBatch
from penstock.providers.vertex import Vertex

SOURCE = Path(__file__).resolve().parents[1] / "src" / "penstock"
FILES = sorted(path for path in SOURCE.rglob("*.py") if "emulator" not in path.parts)

CRYPTOGRAPHY = {
    "aead.AESGCM",
    "cryptography.exceptions",
    "cryptography.hazmat.primitives.ciphers.aead",
}
HASHES = {"hashlib.sha256", "hashlib.file_digest", "hashlib.blake2b"}
"""The last finds identical lines of a job; it guards nothing."""
TLS = {
    "ssl.create_default_context",
    # Stands in annotations alone; a call of it is looked for apart.
    "ssl.SSLContext",
    # `penstock doctor` says what is wrong with a certificate, and when one ends.
    "ssl.SSLCertVerificationError",
    "ssl.SSLError",
    "ssl.cert_time_to_seconds",
}

RANDOM = {
    # Jitter of retries, which nobody gains by guessing.
    "core/webhook.py",
    "lifecycle/deliver.py",
    "client/wire.py",
}
GUESSABLE = {"random.random", "random.choice", "random.randint", "random.getrandbits", "uuid.uuid1"}


@cache
def names(path: Path) -> set[str]:
    """Every dotted name that a file imports or uses."""
    with tokenize.open(path) as file:
        tree = ast.parse(file.read())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{node.value.id}.{node.attr}")
    return found


def used(pattern: str) -> set[str]:
    """Every name in the code that begins so."""
    return {name for path in FILES for name in names(path) if re.match(pattern, name)}


@pytest.mark.slow
def test_only_chosen_primitives_are_used() -> None:
    """AES-GCM, HKDF and SHA-256 are all there is: no other cipher, mode, padding or hash."""
    assert used(r"(cryptography|hazmat|primitives|ciphers|aead)\.") == CRYPTOGRAPHY
    assert used(r"hashlib\.") == HASHES
    assert used(r"(Crypto|Cryptodome|nacl|OpenSSL|jwt|jose|passlib|bcrypt|rsa|ecdsa)\b") == set()


@pytest.mark.slow
def test_what_must_not_be_guessed_comes_from_the_system() -> None:
    """`random` is used for jitter only, and nothing takes guessable bits."""
    drawing = {
        str(path.relative_to(SOURCE))
        for path in FILES
        if any(name.split(".")[0] == "random" for name in names(path))
    }
    assert drawing <= RANDOM
    assert used(r"(random|uuid)\.") & GUESSABLE <= {"random.random"}


def test_tls_is_never_made_weaker() -> None:
    """Contexts are Python's default ones: 1.2 at least, certificates and names checked."""
    assert used(r"ssl\.") <= TLS | {"ssl"}
    text = "".join(path.read_text("utf-8") for path in FILES)
    for weak in ("SSLContext(", "CERT_NONE", "check_hostname", "minimum_version", "set_ciphers"):
        assert weak not in text
    context = ssl.create_default_context()
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


# -- every way out, on the wire ------------------------------------------------------------------

Call = Callable[[str, httpx2.AsyncClient], Awaitable[object]]


class Peer:
    """A server that says why its handshakes failed, and what it was sent in spite of that."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.reasons: list[str] = []
        self.heads: list[bytes] = []


@contextmanager
def peer(tls: ssl.SSLContext) -> Iterator[Peer]:
    """Serve with this context."""
    listener = socket.create_server(("127.0.0.1", 0))
    found = Peer(f"https://127.0.0.1:{listener.getsockname()[1]}")

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(20)
                try:
                    with tls.wrap_socket(connection, server_side=True) as secure:
                        # With TLS 1.3 a client's refusal comes behind the handshake.
                        found.heads += [data for data in [secure.recv(65_536)] if data]
                except ssl.SSLError as error:
                    found.reasons.append(error.reason or "")
                except OSError:
                    found.reasons.append("closed")

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield found
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


async def to_vertex(url: str, http: httpx2.AsyncClient) -> None:
    """Create a job."""
    batch = NewBatch(
        display_name="n",
        model="m",
        location="global",
        input_uri="gs://b/i",
        output_prefix="gs://b/o",
        label="l",
    )
    await Vertex("project", FixedToken("canary"), http, url).create(batch)


async def to_bucket(url: str, http: httpx2.AsyncClient) -> None:
    """Look at an object, by JSON."""
    await Bucket("b", url, FixedToken("canary"), http, SystemClock()).stat("name")


async def put(url: str, http: httpx2.AsyncClient) -> None:
    """Write an object, by obstore."""

    async def blocks() -> AsyncIterator[bytes]:
        yield b"canary"

    await Bucket("b", url, FixedToken("canary"), http, SystemClock()).put("name", blocks())


async def outwards(url: str, _http: httpx2.AsyncClient) -> None:
    """Send as inputs are pulled and webhooks told."""
    uri = read(url + "/x")
    egress = Egress(ssl.create_default_context(), Patience(connect_seconds=20, idle_seconds=20))
    addresses = await egress.addresses(uri, is_trusted=True)
    assert addresses is not None
    async with egress.exchange(Outgoing(method="POST", uri=uri, headers={}), addresses):
        raise AssertionError("an answer came")


async def by_our_client(url: str, _http: httpx2.AsyncClient) -> None:
    """Ask as the command line does."""
    with Api(url, "canary", sleep=lambda _seconds: None) as client:
        client.get("req_x")


CALLS: dict[str, Call] = {
    "vertex": to_vertex,
    "bucket": to_bucket,
    "object": put,
    "outwards": outwards,
    "client": by_our_client,
}


NOT_REACHED = (ProviderUnreachable, ConnectionFailed, httpx2.ConnectError)


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    """The client that the server has for Google."""
    async with httpx2.AsyncClient() as client:
        yield client


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that nobody vouches for."""
    folder = tmp_path_factory.mktemp("tls")
    certificate(folder, "127.0.0.1")
    return folder / "127.0.0.1.pem"


def context(pem: Path) -> ssl.SSLContext:
    """A server's context with it."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(pem)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
async def test_nobody_without_a_good_certificate_is_told_anything(
    name: str, http: httpx2.AsyncClient, self_signed: Path
) -> None:
    """Each way out ends in the handshake, before a byte of a request."""
    with peer(context(self_signed)) as server, pytest.raises(NOT_REACHED):
        await CALLS[name](server.url, http)
    assert server.reasons
    assert server.heads == []


@pytest.mark.slow
async def test_whoever_has_one_is(self_signed: Path) -> None:
    """The same call to the same server goes through for a client that trusts its certificate."""
    trusted = ssl.create_default_context(cafile=str(self_signed))
    async with httpx2.AsyncClient(verify=trusted) as trusting:
        with peer(context(self_signed)) as server, pytest.raises(ProviderUnclear):
            await to_vertex(server.url, trusting)
    assert server.reasons == []
    assert b"canary" in server.heads[0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
@pytest.mark.parametrize("name", CALLS)
async def test_old_tls_is_not_spoken(
    name: str, http: httpx2.AsyncClient, self_signed: Path
) -> None:
    """A server of TLS 1.1 and nothing newer finds that no way out offers it."""
    old = context(self_signed)
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with peer(old) as server, pytest.raises(NOT_REACHED):
        await CALLS[name](server.url, http)
    assert set(server.reasons) == {"UNSUPPORTED_PROTOCOL"}
    assert server.heads == []
