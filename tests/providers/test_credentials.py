import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from starlette.responses import JSONResponse, Response
from tests.emulator.driver import Emulator, fresh_emulator
from tests.wire import closed_port, wire

from penstock.errors import ConfigurationError, ProviderUnreachable
from penstock.providers.credentials import SCOPE, GoogleToken
from penstock.providers.fixed_token import FixedToken

MakeFile = Callable[[str], Path]


@pytest.fixture(scope="module")
def private_key() -> str:
    """A key of a service account, in PEM."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator with its token endpoint."""
    with fresh_emulator(tmp_path_factory.mktemp("token")) as made:
        yield made


@pytest.fixture
def account_file(tmp_path: Path, private_key: str) -> MakeFile:
    """Make a service-account file that asks a server for tokens."""

    def make(url: str) -> Path:
        path = tmp_path / "account.json"
        account = {
            "type": "service_account",
            "project_id": "penstock-emulator",
            "private_key_id": "1",
            "private_key": private_key,
            "client_email": "penstock@penstock-emulator.iam.gserviceaccount.com",
            "client_id": "1",
            "token_uri": f"{url}/token",
        }
        path.write_text(json.dumps(account), encoding="ascii")
        return path

    return make


async def test_a_fixed_token_is_itself() -> None:
    """A token that was made elsewhere is used as it is and charged to nobody else."""
    token = FixedToken("made-elsewhere")
    assert await token() == "made-elsewhere"
    assert token.quota_project is None


async def test_a_service_account_gets_a_token(emulator: Emulator, account_file: MakeFile) -> None:
    """A signed assertion is exchanged for a token, over our own HTTP client."""
    token = GoogleToken(account_file(emulator.url))
    assert await token()
    assert token.quota_project is None


async def test_a_token_is_asked_for_once(account_file: MakeFile) -> None:
    """Many calls at once share one refresh, and a valid token is kept."""
    answer = {"access_token": "fresh", "expires_in": 3600, "token_type": "Bearer"}
    with wire(lambda _request: JSONResponse(answer)) as server:
        token = GoogleToken(account_file(server.url))
        assert set(await asyncio.gather(*(token() for _ in range(5)))) == {"fresh"}
        assert await token() == "fresh"
    assert len(server.requests) == 1


async def test_the_assertion_is_a_bearer_grant(account_file: MakeFile) -> None:
    """What is sent is the JWT grant, and nothing but it."""
    answer = {"access_token": "fresh", "expires_in": 3600}
    with wire(lambda _request: JSONResponse(answer)) as server:
        await GoogleToken(account_file(server.url))()
    sent = parse_qs(server.bodies[0].decode())
    assert sent["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    assert len(sent["assertion"][0].split(".")) == 3
    assert SCOPE.startswith("https://www.googleapis.com/auth/")


async def test_without_a_file_googles_defaults_are_used(
    emulator: Emulator, account_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Application default credentials are found where Google's tools look for them."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account_file(emulator.url)))
    assert await GoogleToken(None)()


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_refused_token_is_unreachable(account_file: MakeFile, status: int) -> None:
    """Without a token no call was made, so it may be repeated when the account is mended."""
    with wire(lambda _request: JSONResponse({"error": "invalid_grant"}, status)) as server:
        token = GoogleToken(account_file(server.url))
        with pytest.raises(ProviderUnreachable, match="gave no token"):
            await token()


async def test_a_garbled_token_answer_is_unreachable(account_file: MakeFile) -> None:
    """A token endpoint that answers something else is one to ask again."""
    with wire(lambda _request: Response("<html>")) as server:
        token = GoogleToken(account_file(server.url))
        with pytest.raises(ProviderUnreachable, match="gave no token"):
            await token()


async def test_a_token_endpoint_that_is_away_is_unreachable(account_file: MakeFile) -> None:
    """A refused connection to the token endpoint is an unreachable provider."""
    token = GoogleToken(account_file(f"http://127.0.0.1:{closed_port()}"))
    with pytest.raises(ProviderUnreachable, match="gave no token"):
        await token()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not JSON",
        b"{}",
        b"[]",
        b'"text"',
        b'{"type": "service_account"}',
        b'{"type": "unknown"}',
        b"\xff",
    ],
)
def test_a_bad_file_stops_the_start(tmp_path: Path, content: bytes) -> None:
    """A credentials file that cannot be used is a configuration error with a way out."""
    path = tmp_path / "account.json"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="No usable Google credentials") as caught:
        GoogleToken(path)
    assert "PENSTOCK_VERTEX_CREDENTIALS_FILE" in str(caught.value.hint)


def test_an_absent_file_stops_the_start(tmp_path: Path) -> None:
    """A path without a file is a configuration error."""
    with pytest.raises(ConfigurationError, match=r"absent\.json"):
        GoogleToken(tmp_path / "absent.json")


async def test_credentials_are_described_without_a_secret(
    account_file: MakeFile, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which kind and whose, for people; nothing of the key or of the token."""
    source = GoogleToken(account_file(emulator.url))
    assert source.described == (
        "service account penstock@penstock-emulator.iam.gserviceaccount.com"
    )
    assert "vertex.access_token" in FixedToken("s3cret").described
    assert "s3cret" not in FixedToken("s3cret").described
    path = tmp_path / "user.json"
    user = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
    path.write_text(json.dumps(user), encoding="ascii")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    assert GoogleToken(None).described == "user (gcloud)"
