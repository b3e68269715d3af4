import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import make_blocking
import penstock.client
from penstock.client.aio import io as awaiting
from penstock.client.blocking import io as blocking

PAIRS = [name for name in penstock.client.__all__ if f"Async{name}" in penstock.client.__all__]


def public(kind: type[object]) -> dict[str, object]:
    """Return what a class offers, with how it is called."""
    return {name: _called(getattr(kind, name)) for name in dir(kind) if not name.startswith("_")}


def _called(member: object) -> object:
    if not callable(member):
        return type(member).__name__
    parameters = inspect.signature(member).parameters.values()
    return [(one.name, one.kind, one.default) for one in parameters]


def test_each_kind_has_its_twin() -> None:
    """Whatever awaits at the top has a twin that blocks."""
    names = [name for name in penstock.client.__all__ if name.startswith("Async")]
    assert sorted(names) == sorted(f"Async{name}" for name in PAIRS)
    assert {"Api", "Client", "Job", "Jobs", "Results", "LineList", "Webhooks"} <= set(PAIRS)


@pytest.mark.parametrize("name", PAIRS)
def test_both_kinds_offer_the_same(name: str) -> None:
    """Members, parameters and defaults are the same; only `await` differs."""
    ours = public(getattr(penstock.client, name))
    theirs = public(getattr(penstock.client, f"Async{name}"))
    assert ours.keys() == theirs.keys()
    assert _without_clocks(ours) == _without_clocks(theirs)


def _without_clocks(members: dict[str, object]) -> str:
    # A default such as `time.monotonic` is the same object in both.
    return str(members).replace("penstock.client.aio", "penstock.client.blocking")


def test_the_twins_by_hand_have_the_same_names() -> None:
    """What the generated text takes from `io` is in both."""
    names = {name for name in vars(awaiting) if not name.startswith("_")}
    theirs = {name for name in vars(blocking) if not name.startswith("_")}
    used = {"Sleep", "INTERRUPTS", "LOSES_REFUSALS", "pause", "call", "flow", "Awaited"}
    assert used <= names
    assert used <= theirs


@pytest.mark.slow
def test_the_blocking_client_is_up_to_date() -> None:
    """It is what the tool makes of the other; whoever edits it by hand is told."""
    made = make_blocking.make()
    folder = Path(penstock.client.__file__).parent / "blocking"
    there = {path.name: path.read_text("utf-8") for path in folder.glob("*.py")}
    assert {name: text for name, text in there.items() if name != "io.py"} == made
    for name, text in made.items():
        assert "async " not in text, name
        assert "await " not in text.replace("that await", ""), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "absent"),
    [
        ("from penstock.client import Client; Client('http://x', 'k')", "penstock.client.aio"),
        ("from penstock.client import AsyncClient", "penstock.client.blocking"),
        ("import penstock.client; from penstock.client import NotFound", "httpx2"),
        ("from penstock.client import Client", "narwhals"),
        ("from penstock.client import Client", "IPython"),
    ],
)
def test_only_what_is_asked_for_is_loaded(script: str, absent: str) -> None:
    """Who blocks loads nothing that awaits, and who catches an error no HTTP."""
    code = f"import sys; {script}; print({absent!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_names_at_the_top() -> None:
    """All of them can be imported and are listed; others are an error as usual."""
    assert set(penstock.client.__all__) <= set(dir(penstock.client))
    for name in penstock.client.__all__:
        assert getattr(penstock.client, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = penstock.client.Nothing
