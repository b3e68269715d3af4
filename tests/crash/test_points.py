"""A real server is killed at each named point, and comes back with nothing lost or paid twice."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.crash.campaign import Campaign, Report, sample, singles
from tests.crash.history import REST_SECONDS, Ending, Plan, Story
from tests.crash.nursery import ROOT
from tests.crash.points import Work, called, table

from penstock.fault import EVENT, fault

pytestmark = [
    pytest.mark.slow,
    pytest.mark.crash,
    pytest.mark.timeout(180),
    pytest.mark.skipif(sys.platform != "linux", reason="the harness asks /proc and forks"),
]

SEED = 20261123
PAIRS = 12


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    """Lanes over one zygote."""
    with Campaign(tmp_path_factory.mktemp("kill")) as one:
        yield one


def told(endings: list[Ending]) -> str:
    """All findings as text."""
    return "\n".join(
        f"{ending.story.name}: {finding.kind}: {finding.text}"
        for ending in endings
        for finding in ending.findings
    )


def assert_clean(report: Report) -> None:
    """Check that all points were reached and nothing was found."""
    assert report.missed == []
    assert told(report.failures) == ""


def test_the_table_names_what_the_sources_call() -> None:
    """Each point of the table is called at one place, and each call is in the table."""
    assert sorted(called()) == sorted(table())


def test_a_fault_is_an_audit_event_and_nothing_else() -> None:
    """A hook hears the name; without one nothing happens."""
    heard: list[tuple[object, ...]] = []
    is_listening = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if is_listening and event == EVENT:
            heard.append(arguments)

    sys.addaudithook(hook)
    fault("submit.sent")
    is_listening = False
    fault("submit.sent")
    assert heard == [("submit.sent",)]


def families() -> list[str]:
    """The letters of the plan, of which each has its test."""
    return sorted({point.family for point in table().values()})


@pytest.mark.parametrize("family", families())
def test_killed_at_each_point(campaign: Campaign, family: str) -> None:
    """Killed once at each point, in each process that reaches it, a server keeps all promises."""
    stories = [story for story in singles() if story.name.startswith(family)]
    report = campaign.run(stories)
    assert_clean(report)
    assert report.kills == len(stories)


def test_killed_again_while_it_recovers(campaign: Campaign) -> None:
    """The same for pairs of points, of which the second strikes the server that recovers."""
    report = campaign.run(sample(SEED, PAIRS))
    assert_clean(report)
    assert report.kills == 2 * PAIRS


BROKEN = {
    "acknowledge_before_commit": ("accept.authenticated", Work.PLAIN, 2, "1: lost"),
    "create_again": ("submit.answered", Work.PLAIN, 1, "3: paid twice"),
    "bill_afterwards": ("finish.committed", Work.PLAIN, 1, "6: misbilled"),
    "leave_orphans": ("accept.durable", Work.PLAIN, 1, "11: orphan"),
    "log_keys": ("accept.committed", Work.PLAIN, 1, "12: secret"),
    "forget_the_dead": ("submit.sent", Work.PLAIN, 1, "15: not live"),
}


@pytest.mark.parametrize("defect", BROKEN)
def test_a_broken_server_is_found(campaign: Campaign, defect: str) -> None:
    """The checker sees each defect that was put into a server on purpose."""
    point, work, hit, kind = BROKEN[defect]
    plan = Plan(point=point, work=work, hit=hit)
    # Who waits for what never comes need not wait for long.
    rest_seconds = 6.0 if kind == "15: not live" else REST_SECONDS
    story = Story(name=defect, plans=(plan,), broken=defect, rest_seconds=rest_seconds)
    report = campaign.run([story])
    assert report.missed == []
    assert kind in {finding.kind for ending in report.failures for finding in ending.findings}


def test_a_point_that_is_not_reached_is_red(campaign: Campaign) -> None:
    """A story whose kill never happened says so, instead of passing for a good one."""
    plan = Plan(point="reconcile.found", work=Work.PLAIN)
    report = campaign.run([Story(name="unreached", plans=(plan,))])
    assert report.missed == ["unreached: reconcile.found"]
    assert report.kills == 0


def test_the_command_plays_one_story() -> None:
    """`tools/kill.py` plays the story that it is asked for, and counts its kill."""
    command = [sys.executable, "tools/kill.py", "--only", "C4.0", "--lanes", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| C4 | submit.answered | 1 |" in done.stdout
    assert "1 of 1 stories, 1 kills" in done.stdout
