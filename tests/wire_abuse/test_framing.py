import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx2
import msgspec
import pytest
from tests.journeys.service import PATIENCE_SECONDS, Service, until
from tests.wire_abuse.cases import HOST, OWN, Case, Verdict, cases

CASES = {case.name: case for case in cases()}
AT_ONCE = 32
STATUS = b"HTTP/1.1 "


class Outcome(msgspec.Struct):
    """What came of one connection."""

    received: bytes
    is_closed: bool

    @property
    def statuses(self) -> list[int]:
        """The status of each answer; none of their bodies has such a text."""
        return [int(part[:3]) for part in self.received.split(STATUS)[1:]]


def own(case: Case) -> str:
    """The path of a case's own request."""
    return f"/own-{case.name}-"


def second(case: Case) -> str:
    """The path of the request behind it."""
    return f"/second-{case.name}-"


def play(case: Case, address: tuple[str, int]) -> Outcome:
    """Send a case in one piece and read until the server has closed."""
    host = f"{address[0]}:{address[1]}".encode()
    behind = b"GET %SECOND% HTTP/1.1\r\nHost: %HOST%\r\nConnection: close\r\n\r\n"
    sent = case.sent if case.verdict is Verdict.ANSWERED else case.sent + behind
    for mark, text in ((OWN, own(case).encode()), (b"%SECOND%", second(case).encode())):
        sent = sent.replace(mark, text)
    sent = sent.replace(HOST, host)
    received = b""
    with socket.create_connection(address, timeout=PATIENCE_SECONDS) as connection:
        try:
            connection.sendall(sent)
            while block := connection.recv(65_536):
                received += block
        except TimeoutError:
            return Outcome(received, is_closed=False)
        except OSError:
            # Cut while we were sending: what was said before may be lost, and that is all right.
            return Outcome(received, is_closed=True)
    return Outcome(received, is_closed=True)


@pytest.fixture(scope="module")
def logged_before(service: Service) -> int:
    """How long the log was before the cases; other tests have the same server."""
    return (service.folder / "server.log").stat().st_size


@pytest.fixture(scope="module")
def outcomes(service: Service, logged_before: int) -> dict[str, Outcome]:
    """Every case played once, many at a time."""
    assert logged_before
    url = urlsplit(service.url)
    address = (str(url.hostname), int(url.port or 0))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        played = pool.map(lambda case: play(case, address), CASES.values())
        return dict(zip(CASES, played, strict=True))


@pytest.fixture(scope="module")
def log(service: Service, logged_before: int, outcomes: dict[str, Outcome]) -> str:
    """What the server has logged of the cases, up to a request that came after all of them."""
    assert outcomes
    path = service.folder / "server.log"
    httpx2.get(f"{service.url}/after-all-cases")
    until(lambda: "/after-all-cases" in path.read_text("utf-8"), "the last line of the log")
    return path.read_bytes()[logged_before:].decode()


def test_there_are_enough_cases() -> None:
    """The corpus has at least 300 cases that have to be refused, beside the good ones."""
    assert len(CASES) == len(cases())
    assert sum(case.verdict is not Verdict.GOOD for case in CASES.values()) >= 300


@pytest.mark.parametrize("name", CASES)
def test_every_case_has_its_verdict(name: str, outcomes: dict[str, Outcome], log: str) -> None:
    """It is refused with 4xx or cut, the connection ends, and nothing behind it ever runs."""
    case, outcome = CASES[name], outcomes[name]
    assert outcome.is_closed
    is_second_seen = second(case) in log
    if case.verdict is Verdict.GOOD:
        assert [status for status in outcome.statuses if status >= 200] == [404, 404]
        assert is_second_seen
        return
    assert not is_second_seen
    final = [status for status in outcome.statuses if status >= 200]
    assert len(final) <= 1
    assert all(400 <= status < 500 for status in final)
    if case.verdict is Verdict.UNSEEN:
        assert own(case) not in log
    if case.verdict is Verdict.ANSWERED:
        assert len(final) == 1


def test_no_case_troubles_the_server(service: Service, log: str) -> None:
    """No case was an error of ours, and the server answers as ever."""
    assert "Traceback" not in log
    assert '"level": "error"' not in log
    assert httpx2.get(f"{service.url}/healthz").status_code == 200
