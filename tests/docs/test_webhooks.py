"""The page on webhooks: its commands and both of its receivers work with a real server."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from tests.crash.hook import Hook
from tests.journeys.service import Service, prompt, running, until

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text(encoding="utf-8")
RECEIVERS: list[str] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def service(tmp_path: Path, hook: Hook) -> Iterator[Service]:
    """A running pair that may send there."""
    with running(
        tmp_path,
        PENSTOCK_WEBHOOKS_PRIVATE_ALLOWED=hook.url,
        PENSTOCK_TIMING_DELIVER_SECONDS="0.1",
    ) as pair:
        yield pair


def penstock(service: Service, *arguments: str) -> list[str]:
    """Run a command as the page does and return its words."""
    done = subprocess.run(
        [sys.executable, "-m", "penstock.cli.main", "webhooks", *arguments],
        env={**os.environ, "PENSTOCK_URL": service.url, "PENSTOCK_API_KEY": service.key},
        capture_output=True,
        check=True,
        text=True,
    )
    return done.stdout.split()


def receiver(source: str) -> Callable[[str, Mapping[str, str], bytes], int]:
    """The function that a block of the page defines."""
    names: dict[str, Callable[[str, Mapping[str, str], bytes], int]] = {}
    exec(source, names)  # noqa: S102  # what readers copy is what is tested
    return names["receive"]


def test_what_the_page_shows_works(
    service: Service, hook: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    """An end is told, both receivers take it and refuse what is forged, a replay is the same."""
    webhook_id, secret = penstock(service, "add", hook.url, "--event", "job.succeeded")
    record = service.submit([prompt("hello")])
    assert service.wait(record["request_id"])["status"] == "success"
    until(lambda: hook.received, "the webhook")
    first = hook.received[0]
    assert len(RECEIVERS) == 2
    for source in RECEIVERS:
        receive = receiver(source)
        assert receive(secret, first.headers, first.body) == 204
        assert receive(secret, first.headers, first.body + b" ") == 400
        assert capsys.readouterr().out == f"{first.id} job.succeeded {record['request_id']}\n"
    until(
        lambda: "delivered" in penstock(service, "deliveries", webhook_id), "the delivery's record"
    )
    assert penstock(service, "replay", webhook_id, first.id)[:2] == [first.id, "pending"]
    until(lambda: len(hook.received) > 1, "the replay")
    again = hook.received[1]
    assert (again.id, again.body) == (first.id, first.body)
    assert penstock(service, "rotate", webhook_id, "--overlap", "2h")[1] != secret
    assert webhook_id in penstock(service, "show", webhook_id)
