import json

import pytest
from tests.client.stub import Stub, error
from tests.client.test_webhooks import DELIVERY, PATH, RECORD, SECRET, reply

from penstock.cli.main import run

pytestmark = pytest.mark.usefixtures("shell")

Out = pytest.CaptureFixture[str]
ONE = f"{PATH}/whk_1"


def test_add_shows_the_secret_once(stub: Stub, capsys: Out) -> None:
    """Standard output is the id and the secret; the warning is for eyes."""
    stub.answers["POST", PATH] = [reply({**RECORD, "secret": SECRET}, 201)]
    assert run(["webhooks", "add", "https://hooks.example/", "--event", "job.failed"]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"whk_1\t{SECRET}\n"
    assert "shown once" in shown.err
    assert json.loads(stub.seen[0].body)["events"] == ["job.failed"]


def test_rotate_takes_a_duration(stub: Stub, capsys: Out) -> None:
    """The overlap is sent in seconds, or left to the server."""
    stub.answers["POST", f"{ONE}/rotate"] = [reply({**RECORD, "secret": SECRET})]
    assert run(["webhooks", "rotate", "whk_1", "--overlap", "30m"]) == 0
    assert run(["webhooks", "rotate", "whk_1", "--json"]) == 0
    assert [json.loads(each.body) for each in stub.seen] == [{"overlap_seconds": 1800}, {}]
    assert json.loads(capsys.readouterr().out.splitlines()[1])["secret"] == SECRET


def test_ls_says_how_they_stand(stub: Stub, capsys: Out) -> None:
    """Active, failing, or disabled."""
    failing = {**RECORD, "id": "whk_2", "failing_since": 9}
    disabled = {**failing, "id": "whk_3", "disabled_at": 9, "disabled_reason": "It answered 410."}
    stub.answers["GET", PATH] = [reply({"webhooks": [RECORD, failing, disabled]})]
    assert run(["webhooks", "ls"]) == 0
    states = [line.split("\t")[:2] for line in capsys.readouterr().out.splitlines()]
    assert states == [["whk_1", "active"], ["whk_2", "failing"], ["whk_3", "disabled"]]
    stub.answers["GET", ONE] = [reply({**disabled, "id": "whk_1"})]
    assert run(["webhooks", "show", "whk_1"]) == 0
    assert "disabled\t1970-01-01 00:00:09Z It answered 410.\n" in capsys.readouterr().out


def test_rm_and_enable(stub: Stub, capsys: Out) -> None:
    """Each says what it did."""
    stub.answers["DELETE", ONE] = [reply({}, 204)]
    stub.answers["POST", f"{ONE}/enable"] = [reply(RECORD)]
    assert run(["webhooks", "rm", "whk_1"]) == 0
    assert run(["webhooks", "enable", "whk_1"]) == 0
    assert capsys.readouterr().out == "removed whk_1\nwhk_1\tactive\n"


def test_deliveries_and_replay(stub: Stub, capsys: Out) -> None:
    """A line each with the last answer; the next page is told on standard error."""
    failed = {
        **DELIVERY,
        "id": "msg_2",
        "tries": 3,
        "last_status": 500,
        "last_error": "answered 500",
    }
    done = {**DELIVERY, "id": "msg_3", "state": "delivered", "last_status": 204}
    listed = {"deliveries": [DELIVERY, failed, done], "next": "msg_3"}
    stub.answers["GET", f"{ONE}/deliveries"] = [reply(listed)]
    assert run(["webhooks", "deliveries", "whk_1", "--limit", "3", "--after", "msg_0"]) == 0
    shown = capsys.readouterr()
    assert [line.split("\t")[-1] for line in shown.out.splitlines()] == ["-", "answered 500", "204"]
    assert shown.err == "more with --after msg_3\n"
    stub.answers["GET", f"{ONE}/deliveries"] = [reply({"deliveries": [], "next": None})]
    assert run(["webhooks", "deliveries", "whk_1"]) == 0
    assert capsys.readouterr() == ("", "")
    stub.answers["POST", f"{ONE}/deliveries/msg_1/replay"] = [reply(DELIVERY)]
    assert run(["webhooks", "replay", "whk_1", "msg_1"]) == 0
    assert capsys.readouterr().out.startswith("msg_1\tpending\t")
    stub.answers["POST", f"{ONE}/deliveries/msg_1/replay"] = [error(409, "webhook_disabled", "no")]
    assert run(["webhooks", "replay", "whk_1", "msg_1"]) != 0
