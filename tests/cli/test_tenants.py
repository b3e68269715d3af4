"""The operator's commands, in this process and on a real database."""

import json
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.cli.listing import columns, terminal_width
from penstock.cli.main import run
from penstock.core.key import key_id_of

Outcome = tuple[int, str, str]
Call = Callable[..., Outcome]


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    """Run one command over a data directory of this test; return code, output and hints."""
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path / "data"))

    def command(*arguments: str) -> Outcome:
        capsys.readouterr()
        code = run(arguments)
        return code, *capsys.readouterr()

    return command


@pytest.fixture
def acme(call: Call) -> Call:
    """The same, with an organisation and an owner in it."""
    assert call("orgs", "create", "Acme Ltd", "--id", "acme")[:2] == (0, "acme\n")
    assert call("users", "add", "ana", "--org", "acme", "--role", "owner")[:2] == (0, "ana\n")
    return call


def table(outcome: Outcome) -> list[list[str]]:
    """The cells of a list."""
    code, out, _ = outcome
    assert code == 0, outcome
    return [line.split("\t") for line in out.splitlines()]


def parsed(outcome: Outcome) -> Any:  # noqa: ANN401 - whatever the command says
    """What `--json` answered."""
    assert outcome[0] == 0, outcome
    return json.loads(outcome[1])


def test_an_organisation_from_its_beginning(acme: Call) -> None:
    """Made, named, limited, suspended, resumed: each command says what it did, hints apart."""
    code, out, hint = acme("orgs", "create", "Second")
    assert (code, out[:4]) == (0, "org_")
    assert hint == f"Next: penstock users add ID --org {out.strip()} --role owner\n"
    assert acme("orgs", "rename", "acme", "Acme Limited")[1] == "renamed acme\n"
    assert acme("orgs", "quotas", "acme", "lines_day_max=5", "bytes_stored_max=7")[0] == 0
    assert acme("orgs", "quotas", "acme", "bytes_stored_max=default")[1] == "changed acme\n"
    assert acme("orgs", "suspend", "acme")[1] == "suspended acme\n"
    rows = table(acme("orgs", "ls"))
    assert [row[0] for row in rows[:2]] == ["acme", "default"]
    assert (rows[0][1], rows[0][2], rows[0][4]) == (
        "suspended",
        "Acme Limited",
        '{"lines_day_max":5}',
    )
    assert parsed(acme("orgs", "resume", "acme", "--json"))["suspended_at"] is None
    shown = dict(table(acme("orgs", "show", "acme")))
    assert (shown["state"], shown["lines_day_max"]) == ("active", "5")
    assert shown["bytes_stored_max"] == "unlimited"
    assert parsed(acme("orgs", "show", "acme", "--json"))["quotas_in_force"]["lines_day_max"] == 5


def test_users_from_their_beginning(acme: Call) -> None:
    """Added with an id of choice, changed, removed; the last owner stays."""
    code, out, hint = acme("users", "add", "bo", "--org", "acme", "--name", "Bo Ek")
    assert (code, out) == (0, "bo\n")
    assert hint == "Next: penstock keys create --org acme --user bo\n"
    assert acme("users", "role", "bo", "viewer", "--org", "acme")[1] == "bo is viewer\n"
    rows = table(acme("users", "ls", "--org", "acme"))
    assert [row[:3] for row in rows] == [["ana", "owner", "ana"], ["bo", "viewer", "Bo Ek"]]
    assert parsed(acme("users", "ls", "--json"))[0]["id"] == "owner"
    # One who is known joins another organisation and keeps his name.
    assert parsed(acme("users", "add", "bo", "--name", "x", "--json"))["name"] == "Bo Ek"
    assert acme("users", "rm", "bo", "--org", "acme")[1] == "removed bo\n"
    code, _, error = acme("users", "rm", "ana", "--org", "acme")
    assert (code, error.splitlines()[0]) == (
        1,
        "error[last_owner]: The user is the last owner of the organisation.",
    )


def test_keys_from_their_beginning(acme: Call) -> None:
    """Made with scopes and an end, replaced, revoked; the text is shown once."""
    wish = ("--user", "ana", "--scopes", "jobs:write,jobs:read", "--expires-in", "90d")
    code, text, hint = acme("keys", "create", "--org", "acme", "--name", "ci", *wish)
    key_id = str(key_id_of(text.strip()))
    assert (code, hint) == (0, "Shown once; only its hash is stored.\n")
    (row,) = table(acme("keys", "ls", "--org", "acme"))
    assert row[:4] == [key_id, "active", "acme", "ci"]
    assert row[7:] == ["ana", "jobs:read jobs:write"]
    code, new, hint = acme("keys", "rotate", key_id, "--org", "acme", "--overlap", "15m")
    assert (code, hint.splitlines()[0]) == (0, "Shown once; only its hash is stored.")
    assert hint.splitlines()[1].startswith(f"{key_id} works until 2")
    by_id = {row[0]: row for row in table(acme("keys", "ls", "--org", "acme"))}
    new_id = str(key_id_of(new.strip()))
    assert (by_id[key_id][1], by_id[new_id][1]) == ("replaced", "active")
    assert by_id[new_id][7:] == row[7:]
    assert acme("keys", "revoke", key_id, "--org", "acme")[1] == f"revoked {key_id}\n"
    ended = acme("keys", "rotate", new_id, "--org", "acme", "--overlap", "0", "--json")
    latest = parsed(ended)
    assert str(key_id_of(latest["key"])) == latest["id"]
    states = {row[0]: row[1] for row in table(acme("keys", "ls", "--org", "acme"))}
    assert states == {key_id: "revoked", new_id: "expired", latest["id"]: "active"}
    assert "digest" not in acme("keys", "ls", "--org", "acme", "--json")[1]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("keys", "create", "--org", "acme"), 2, "--user is needed"),
        (("keys", "create", "--scopes", "jobs:all"), 2, "There is no scope jobs:all."),
        (("keys", "create", "--name", "a\x1b[31m"), 2, "printable characters"),
        (("keys", "create", "--expires-in", "soon"), 2, "is not a duration"),
        (("keys", "create", "--user", "nobody"), 5, "fix: penstock users ls --org …"),
        (("keys", "revoke", "nothing1"), 5, "fix: penstock keys ls --org …"),
        (("users", "ls", "--org", "nowhere"), 5, "fix: penstock orgs ls"),
        (("users", "add", "a b"), 2, "An id has 1 to 64"),
        (("users", "role", "ana", "god"), 2, "is not one of"),
        (("orgs", "create", "Acme Ltd"), 1, "of that name already"),
        (("orgs", "suspend", "default"), 1, "cannot be suspended"),
        (("orgs", "quotas", "acme", "jobs=1"), 2, "the names are jobs_in_flight_max,"),
        (("orgs", "quotas", "acme", "lines_day_max=-1"), 2, "is not NAME=NUMBER"),
        (("audit", "verify", "--head", "acme:0:x"), 2, "is not ORG:NUMBER:HASH"),
        (("audit", "verify", "--head", f"nowhere:1:{'0' * 64}"), 5, "no log of nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_is_refused_says_what_to_do(
    acme: Call, arguments: tuple[str, ...], code: int, said: str
) -> None:
    """An exit code for scripts, nothing on standard output, and the reason beside it."""
    found = acme(*arguments)
    assert found[:2] == (code, "")
    assert said in found[2]
    assert "\x1b" not in found[2]


def test_the_log_tells_what_the_operator_did(acme: Call) -> None:
    """Each change is one row of the organisation that it was done in, newest first."""
    acme("keys", "create", "--org", "acme", "--user", "ana")
    rows = table(acme("audit", "ls", "--org", "acme"))
    assert [(row[0], row[2], row[4]) for row in rows] == [
        ("2", "operator", "key.create"),
        ("1", "operator", "user.add"),
    ]
    assert [row[4] for row in table(acme("audit", "ls"))] == ["org.create"]
    only = parsed(acme("audit", "ls", "--org", "acme", "--action", "key.", "--json"))
    assert [(row["number"], row["detail"]["user"]) for row in only] == [(2, "ana")]
    assert table(acme("audit", "ls", "--org", "acme", "--before", "2", "--limit", "1"))[0][0] == "1"


def test_a_changed_log_is_told(acme: Call, tmp_path: Path) -> None:
    """The head is printed to be kept; rows that were cut off or edited give an exit code."""
    acme("users", "add", "bo", "--org", "acme")
    whole = table(acme("audit", "verify"))
    assert [(row[1], row[2]) for row in whole] == [("2 rows", "whole"), ("1 rows", "whole")]
    head = whole[0][0]
    assert acme("audit", "verify", "--org", "acme", "--head", head)[0] == 0
    with sqlite3.connect(tmp_path / "data" / "penstock.db") as database:
        database.execute("DROP TRIGGER audit_drops_nothing")
        database.execute("DELETE FROM audit WHERE org_id = 'acme' AND number = 2")
    database.close()
    assert acme("audit", "verify")[0] == 0
    code, out, error = acme("audit", "verify", "--head", head)
    assert (code, out.split()[3]) == (1, "BROKEN")
    assert "error[audit_broken]: the audit log is not as it was written, from row 2" in error
    found = acme("audit", "verify", "--org", "acme", "--head", head, "--json")
    assert (found[0], json.loads(found[1])["acme"]["broken_at"]) == (1, 2)


def test_lists_fit_the_terminal() -> None:
    """The widest columns are cut and marked; in a pipe everything is there."""
    rows = [("short", "x" * 50, "a\x1b[31m\nb"), ("s", "y", "z")]
    wide = columns(("ONE", "TWO", "THREE"), rows, 40)
    assert wide[0] == "ONE    TWO                  THREE"
    assert wide[1] == f"short  {'x' * 18}…  a\\x1b[31m\\nb"
    assert wide[2] == "s      y                    z"
    assert max(map(len, wide)) <= 40
    assert columns(("ONE", "TWO", "THREE"), rows) == [
        f"short\t{'x' * 50}\ta\\x1b[31m\\nb",
        "s\ty\tz",
    ]
    assert len(columns(("ONE", "TWO"), [("x" * 50, "y" * 50)], 3)[1]) == 18


def test_a_terminal_has_a_width_and_a_pipe_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables ask whether anybody looks."""
    monkeypatch.setenv("COLUMNS", "72")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert terminal_width() == 72
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    assert terminal_width() == 0
