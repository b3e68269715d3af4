import socket
import threading
from collections.abc import Iterator

import httpx2
import pytest
from tests.client.kinds import Connect
from tests.client.stub import BASE, Reply, Stub, error

from penstock.client import (
    APIError,
    AuthenticationFailed,
    ClientError,
    ConnectionFailed,
    NotFound,
    ServerTooOld,
)
from penstock.client.calls import unreachable

HTML = b"<!doctype html><html><title>404</title></html>"


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of something that takes connections and hangs up without a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    # The test is over.
                    return
                connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_tls_against_plain_http(connect: Connect, stub: Stub) -> None:
    """Who says https to a server that speaks plain HTTP is told so."""
    url = stub.url.replace("http:", "https:")
    with connect.client(url) as client, pytest.raises(ConnectionFailed) as caught:
        client.models()
    assert str(caught.value).startswith(f"cannot reach {url}")
    assert caught.value.hint == "the server speaks plain HTTP: give its address with http://"


def test_what_hangs_up(connect: Connect, silent: str) -> None:
    """Plain HTTP to what speaks something else may be TLS, says the hint."""
    with connect.client(f"http://{silent}") as client, pytest.raises(ConnectionFailed) as caught:
        client.models()
    assert "https://" in str(caught.value.hint)


def test_a_name_that_nobody_has(connect: Connect) -> None:
    """A misspelt host is told with the address."""
    with (
        connect.client("http://penstock.invalid") as client,
        pytest.raises(ConnectionFailed, match=r"cannot reach http://penstock\.invalid"),
    ):
        client.models()


def test_a_page_of_somebody_else(connect: Connect, stub: Stub) -> None:
    """HTML in the place of an answer says that the address is not a Penstock's, good or bad."""
    stub.on("GET", "/models", Reply(404, HTML), Reply(200, HTML))
    with connect.client(stub.url) as client:
        with pytest.raises(NotFound, match="answered 404") as refused:
            client.models()
        with pytest.raises(ClientError, match="not one of Penstock's") as taken:
            client.models()
    assert "address is a Penstock server's" in str(refused.value.hint)
    assert "address is a Penstock server's" in str(taken.value.hint)


def test_a_redirect(connect: Connect, stub: Stub) -> None:
    """The key is not taken elsewhere; the hint has the address, without what may be secret."""
    stub.on(
        "GET",
        "/models",
        Reply(308, headers={"Location": "https://u:secret@new.example/x?sig=1"}),
        Reply(307, headers={"Location": "/elsewhere"}),
        Reply(302, headers={"Location": "http://a:b"}),
    )
    with connect.client(stub.url) as client:
        with pytest.raises(APIError, match="answered 308") as caught:
            client.models()
        with pytest.raises(APIError, match="answered 307") as near:
            client.models()
        with pytest.raises(APIError, match="answered 302") as nowhere:
            client.models()
    assert caught.value.hint == "give the address that it redirects to (https://new.example)"
    assert near.value.hint == nowhere.value.hint == "give the address that it redirects to"


def test_a_server_without_the_call(connect: Connect, stub: Stub) -> None:
    """A route that an older server does not have is no job that is not there."""
    stub.on("GET", "/requests/req_7", error(404, "not_found", "There is no such route."))
    with connect.client(stub.url) as client, pytest.raises(ServerTooOld) as caught:
        client.jobs.get("req_7")
    assert caught.value.code == "server_too_old"
    assert "older than this client" in str(caught.value)
    assert "upgrade the server" in str(caught.value.hint)


def test_an_address_with_a_path(connect: Connect, stub: Stub) -> None:
    """A server behind a prefix of a proxy is reached under it."""
    stub.answers["GET", f"/proxy{BASE}/models"] = [Reply(content=b'{"model_ids": ["m"]}')]
    with connect.client(f"{stub.url}/proxy/") as client:
        assert client.models().model_ids == ["m"]


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://host", "http://", "http://a:b"])
def test_an_address_that_is_none(connect: Connect, url: str) -> None:
    """It is refused before anything is sent."""
    with pytest.raises(ClientError, match="not the address of a server"):
        connect.client(url)


def test_a_certificate_that_is_not_trusted() -> None:
    """The hint says where trust comes from; the address has lost its password."""
    failure = httpx2.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed")
    told = unreachable(httpx2.URL("https://u:secret@penstock.example/x"), failure)
    assert str(told).startswith("cannot reach https://penstock.example: [SSL")
    assert "SSL_CERT_FILE" in str(told.hint)
    assert told.docs == "docs/reference/errors.md#connection_failed"


def test_what_a_lost_answer_may_have_been(connect: Connect, stub: Stub) -> None:
    """Only that the key is not taken is told in its place; anything else says nothing."""
    stub.on("GET", "/models", error(503, "busy", "no"), Reply(), error(403, "missing_scope", "no"))
    with connect(stub) as client:
        client.wire._refused()
        client.wire._refused()
        with pytest.raises(AuthenticationFailed):
            client.wire._refused()
