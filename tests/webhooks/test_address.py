"""The forty forms of an address that must not be reached, in every way that one can be named."""

import ssl
from collections.abc import Sequence

import pytest
from tests.blobs.file_server import file_server, ok

from penstock.blobs.addresses import Address, is_public
from penstock.blobs.egress import Egress, Outgoing, Patience
from penstock.core.limits import Limits
from penstock.core.uri import SourceUri
from penstock.errors import ConfigurationError, InvalidRequest
from penstock.webhooks.address import Addresses
from penstock.webhooks.sender import Outcome, Sender

FORMS = {
    # How it stands in an address, and what it is.
    "127.0.0.1": "127.0.0.1",
    "127.1": "127.0.0.1",
    "127.0.1": "127.0.0.1",
    "0x7f.1": "127.0.0.1",
    "0x7f000001": "127.0.0.1",
    "0x7f.0x0.0x0.0x1": "127.0.0.1",
    "2130706433": "127.0.0.1",
    "017700000001": "127.0.0.1",
    "0177.0.0.1": "127.0.0.1",
    "127.0.0.1.": "127.0.0.1",
    "①②⑦.⓪.⓪.①": "127.0.0.1",
    "127。0。0。1": "127.0.0.1",
    "0": "0.0.0.0",
    "0.0.0.0": "0.0.0.0",
    "localhost": "::1",
    "[::1]": "::1",
    "[::]": "::",
    "[0:0:0:0:0:0:0:1]": "::1",
    "[::ffff:127.0.0.1]": "::ffff:127.0.0.1",
    "[::ffff:a9fe:a9fe]": "::ffff:169.254.169.254",
    "[::127.0.0.1]": "::127.0.0.1",
    "[64:ff9b::7f00:1]": "64:ff9b::7f00:1",
    "[2002:7f00:1::]": "2002:7f00:1::",
    "[2001:0:7f00:1::]": "2001:0:7f00:1::",
    "169.254.169.254": "169.254.169.254",
    "2852039166": "169.254.169.254",
    "[fd00:ec2::254]": "fd00:ec2::254",
    "100.100.100.200": "100.100.100.200",
    "192.0.0.192": "192.0.0.192",
    "168.63.129.16": "168.63.129.16",
    "10.0.0.1": "10.0.0.1",
    "172.16.0.1": "172.16.0.1",
    "192.168.1.1": "192.168.1.1",
    "192.88.99.1": "192.88.99.1",
    "198.18.0.1": "198.18.0.1",
    "224.0.0.1": "224.0.0.1",
    "255.255.255.255": "255.255.255.255",
    "[fe80::1]": "fe80::1",
    "[fec0::1]": "fec0::1",
    "[ff02::1]": "ff02::1",
}
PUBLIC = "8.8.8.8"
NAME = "hooks.example"
LIMITS = Limits(webhook_seconds_max=5.0)
PATIENCE = Patience(connect_seconds=5.0, idle_seconds=5.0)


class Resolver:
    """Gives the next of its answers at each question, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def __call__(self, _host: str, _port: int) -> Sequence[str]:
        self.asked += 1
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def is_here(address: Address) -> bool:
    """What counts as public where the test's server is the internet."""
    return str(address) == "127.0.0.1" or is_public(address)


def egress(resolver: Resolver, *, here: bool = False) -> Egress:
    """A way out with that resolver."""
    allowed = is_here if here else is_public
    return Egress(ssl.create_default_context(), PATIENCE, resolver, allowed)


async def told(resolver: Resolver, url: str) -> Outcome:
    """What comes of a try."""
    return await Sender(egress(resolver), Addresses(LIMITS), LIMITS).send(url, {}, b"{}")


def test_there_are_forty() -> None:
    """The table is as long as the promise, and all of it is refused by its number."""
    assert len(FORMS) == 40


@pytest.mark.parametrize("form", FORMS)
async def test_as_a_literal(form: str) -> None:
    """Written into the address it is refused when the webhook is made, or at the try."""
    url = f"https://{form}/hook"
    outcome = await told(Resolver([FORMS[form]]), url)
    assert outcome.status is None
    assert outcome.error is not None
    if form != "localhost":
        with pytest.raises(InvalidRequest) as caught:
            Addresses(LIMITS).read(url)
        assert caught.value.error_code == "invalid_webhook_url"


@pytest.mark.parametrize("form", FORMS)
async def test_as_the_answer_of_a_name(form: str) -> None:
    """A name that resolves to it, A or AAAA, is refused, and nothing says what it resolved to."""
    for answer in ([FORMS[form]], [PUBLIC, FORMS[form]], [FORMS[form], PUBLIC]):
        outcome = await told(Resolver(answer), f"https://{NAME}/hook")
        assert outcome.error == "its host has an address that is not on the public internet"
        assert FORMS[form] not in outcome.error


@pytest.mark.parametrize("form", [form for form in FORMS if FORMS[form] != "127.0.0.1"])
async def test_by_rebinding(form: str) -> None:
    """Between the check and the connection nobody is asked again; at the next try it is refused."""
    resolver = Resolver(["127.0.0.1"], [FORMS[form]])
    way_out = egress(resolver, here=True)
    with file_server(lambda _head: ok(b"")) as server:
        uri = SourceUri(scheme="http", host=NAME, port=server.port, path="/hook")
        found = await way_out.addresses(uri)
        assert found is not None
        request = Outgoing(method="POST", uri=uri, headers={}, content=b"{}")
        async with way_out.exchange(request, found) as response:
            assert response.status_code == 200
        assert resolver.asked == 1
        assert await way_out.addresses(uri) is None


@pytest.mark.parametrize("form", FORMS)
async def test_by_a_redirect(form: str) -> None:
    """A redirect there is an answer like any other that is not 2xx."""
    head = f"HTTP/1.1 307 Go\r\nLocation: https://{form}/\r\nContent-Length: 0\r\n\r\n"
    with file_server(lambda _head: [head.encode()]) as server:
        url = f"http://127.0.0.1:{server.port}/hook"
        resolver = Resolver([PUBLIC])
        sender = Sender(egress(resolver), Addresses(LIMITS, [url]), LIMITS)
        outcome = await sender.send(url, {}, b"{}")
    assert (outcome.status, outcome.error) == (307, "answered 307")
    assert resolver.asked == 0


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://hooks.example/", "it is not https"),
        ("gs://bucket/name", "it is not https"),
        ("https://hooks.example:80/", "its port is neither 443 nor 8443"),
        ("https://hooks.example:22/", "its port is neither 443 nor 8443"),
        ("https://user:pass@hooks.example/", "it has a user or password"),
        ("https://hooks.example/#part", "it is not like gs://bucket/name or https://host/path"),
        ("https://hooks.example\\@evil.example/", "it has a backslash or a control character"),
        ("https://hooks.example/a/../b", "its path has a segment of dots"),
        ("https://hooks.example/\n", "it has a backslash or a control character"),
        ("ftp://hooks.example/", "it is not like gs://bucket/name or https://host/path"),
        ("", "it is not like gs://bucket/name or https://host/path"),
        ("https://hooks.example/" + "a" * 2_048, "it has more than 2048 characters"),
    ],
)
def test_what_is_not_accepted_is_told(url: str, says: str) -> None:
    """Each refusal says what is wrong and what would be right."""
    with pytest.raises(InvalidRequest) as caught:
        Addresses(Limits()).read(url)
    assert caught.value.message == f"The address in `url` is not accepted: {says}."
    assert "https://hooks.example.com/penstock" in str(caught.value.hint)


@pytest.mark.parametrize(
    "url", ["https://hooks.example/a?b=c", "https://hooks.example:8443/", "https://8.8.8.8/x"]
)
def test_public_https_is_accepted(url: str) -> None:
    """The two ports of https, names and public numbers."""
    assert Addresses(Limits()).read(url).scheme == "https"


async def test_a_private_host_that_the_operator_allows_is_reached() -> None:
    """A name of the list may lead anywhere; its neighbour on the same host may not."""
    with file_server(lambda _head: ok(b"")) as server:
        base = f"http://127.0.0.1:{server.port}/hooks/"
        addresses = Addresses(LIMITS, [base, "https://internal.example/"])
        sender = Sender(egress(Resolver(["10.0.0.1"])), addresses, LIMITS)
        assert await sender.send(f"{base}mine", {}, b"{}") == Outcome(status=200)
        outcome = await sender.send(f"http://127.0.0.1:{server.port}/other", {}, b"{}")
        assert outcome.error is not None
        assert "it is not https" in outcome.error
    assert len(server.heads) == 1
    assert addresses.is_trusted(addresses.read("https://internal.example/x"))


@pytest.mark.parametrize(
    "entry", ["http://hooks.example/", "http://8.8.8.8/", "gs://bucket/", "localhost:9000"]
)
def test_a_wrong_entry_keeps_the_server_from_starting(entry: str) -> None:
    """Plain HTTP is for private numbers only, and nonsense is named."""
    with pytest.raises(ConfigurationError, match="webhooks_private_allowed"):
        Addresses(Limits(), [entry])
