"""Both kinds of the client against a real server and emulator, from prompts to an end."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.client.kinds import KINDS, Connect, makes
from tests.journeys.service import MODEL, Service, running

from penstock.client import AuthenticationFailed, InputInvalid, LinesFailed
from penstock.client.sources import Request

pytestmark = pytest.mark.slow

PROMPTS: list[Request] = [
    "Say hello",
    "[[emulator:fail=429]]",
    {"key": "mine", "request": {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}},
    "[[emulator:block=SAFETY]]",
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One server for all tests here."""
    with running(tmp_path_factory.mktemp("service")) as pair:
        yield pair


@pytest.fixture(params=KINDS)
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """What makes clients of one kind, which really sleep."""
    yield from makes(request.param)


def test_a_job_from_its_prompts_to_its_end(
    connect: Connect, service: Service, tmp_path: Path
) -> None:
    """What was estimated is submitted, found by name and label, waited for, read and kept."""
    with connect.client(service.url, service.key, sleep=None) as client:
        assert client.estimate(PROMPTS, model=MODEL).lines == 4
        made = client.jobs.submit(
            PROMPTS, model=MODEL, name="kinds", labels={"kind": connect.kind}, retry=0, max_cost=9
        )
        (found,) = client.jobs.list(name="kinds", labels={"kind": connect.kind})
        assert (found.id, found.labels) == (made.id, {"kind": connect.kind})
        job = client.jobs.get(made.id)
        (ended,) = client.jobs.as_completed([job])
        with pytest.raises(LinesFailed, match="2 of 4 lines"):
            ended.wait(progress=False, check=True)
        results = list(ended.results())
        assert [(each.key, each.outcome) for each in results] == [
            ("1", "ok"),
            ("2", "error"),
            ("mine", "ok"),
            ("4", "blocked"),
        ]
        assert results[0].text
        assert [each.line for each in ended.results(["error", "blocked"])] == [2, 4]
        assert [line.line for line in ended.lines("blocked")] == [4]
        assert ended.cost is not None
        kept = ended.download(tmp_path / "out.jsonl", progress=False)
        assert kept.verified
        lines = kept.path.read_bytes().splitlines()
        assert lines == [each.raw for each in results]
        assert ended.retry(["error"]).wait(progress=False).succeeded


def test_bad_lines_and_a_wrong_key(connect: Connect, service: Service) -> None:
    """Each is told as what it is, also where an answer comes before all was sent."""
    with connect.client(service.url, service.key, sleep=None) as client:
        with pytest.raises(InputInvalid) as caught:
            client.jobs.submit(b'{"request": {}}\n{', model=MODEL)
        assert [detail.line for detail in caught.value.details] == [1, 2]
        assert caught.value.request_id
    line = b'{"request": {"contents": [{"parts": [{"text": "' + b"x" * 1000 + b'"}]}]}}\n'
    with (
        connect.client(service.url, "wrong", sleep=None) as stranger,
        pytest.raises(AuthenticationFailed),
    ):
        stranger.validate(line * 10_000, model=MODEL)
