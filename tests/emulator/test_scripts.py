"""Scripts: what requests with a text are to get, without a word in their prompts."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.emulator.driver import Emulator, fresh_emulator, line

from penstock.emulator.database import Database
from penstock.emulator.scripts import (
    CONTAINS_CHARACTERS_MAX,
    SCRIPTS_MAX,
    VALUE_CHARACTERS_MAX,
    ScriptBody,
    Scripts,
)

PATH = "/emulator/v1/scripts"
Json = dict[str, Any]


def order(emulator: Emulator, contains: str, **directives: str) -> Json:
    """Make a script; names with underscores stand for those with dashes."""
    named = {name.replace("_", "-"): value for name, value in directives.items()}
    answer = emulator.http.post(PATH, json={"contains": contains, "directives": named})
    assert answer.status_code == 200, answer.text
    made: Json = answer.json()
    return made


def answers(emulator: Emulator, *texts: str) -> dict[str, str]:
    """The status, or else the answer's text, of each row of a new job, by key."""
    lines = [line(text, f"k-{number}") for number, text in enumerate(texts)]
    return {row["key"]: said(row) for row in emulator.rows(emulator.run(lines))}


def said(row: Json) -> str:
    """What a row says."""
    if row["status"]:
        return str(row["status"])
    return str(row["response"]["candidates"][0]["content"]["parts"][0]["text"])


def test_a_text_gets_the_answer_that_was_ordered(emulator: Emulator) -> None:
    """A request that holds the text is answered in the script's words, and tokens are theirs."""
    order(emulator, "kettle", reply="[1] good, [2] bad")
    rows = emulator.rows(emulator.run([line("a kettle", "k-0"), line("a lamp", "k-1")]))
    found = {row["key"]: row for row in rows}
    assert said(found["k-0"]) == "[1] good, [2] bad"
    assert found["k-0"]["response"]["usageMetadata"]["candidatesTokenCount"] == 5
    assert said(found["k-1"]) != said(found["k-0"])


def test_a_prompt_says_its_own_answer(emulator: Emulator) -> None:
    """The directive `reply` does the same from within a prompt."""
    assert answers(emulator, "x [[emulator:reply=four words of ours]]") == {
        "k-0": "four words of ours"
    }


def test_the_first_script_that_fits_wins(emulator: Emulator) -> None:
    """Order decides, and an empty text fits what is left."""
    order(emulator, "red kettle", reply="one")
    order(emulator, "kettle", reply="two")
    order(emulator, "", reply="three")
    found = answers(emulator, "the red kettle", "the kettle", "the lamp")
    assert found == {"k-0": "one", "k-1": "two", "k-2": "three"}


def test_a_prompt_goes_before_a_script(emulator: Emulator) -> None:
    """Who says it in the prompt is not overruled."""
    order(emulator, "kettle", reply="of the script")
    found = answers(emulator, "kettle [[emulator:reply=of the prompt]]")
    assert found == {"k-0": "of the prompt"}


def test_a_script_fails_a_line_once(emulator: Emulator) -> None:
    """With `-once` the next job that has the same request gets its answer."""
    order(emulator, "kettle", fail_once="429", reply="at last")
    assert answers(emulator, "a kettle")["k-0"].startswith("RESOURCE_EXHAUSTED")
    assert answers(emulator, "a kettle") == {"k-0": "at last"}


def test_scripts_are_listed_and_removed(emulator: Emulator) -> None:
    """What is ordered can be read, and all of it goes at once."""
    made = [order(emulator, text, reply=text) for text in ("a", "b")]
    assert emulator.http.get(PATH).json() == {"scripts": made}
    assert emulator.http.delete(PATH).json() == {"removed": 2}
    assert emulator.http.get(PATH).json() == {"scripts": []}
    assert answers(emulator, "a")["k-0"] != "a"


def test_scripts_survive_a_restart(tmp_path: Path) -> None:
    """They are part of the state, and ids go on."""
    with fresh_emulator(tmp_path) as before:
        order(before, "kettle", reply="still here")
    with fresh_emulator(tmp_path) as after:
        assert answers(after, "a kettle") == {"k-0": "still here"}
        assert order(after, "lamp", reply="x")["id"] == "2"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[]", "Expected `object`"),
        (b'{"directives": {}}', "at least one"),
        (b'{"directives": {"fial": "429"}}', "no 'fial'"),
        (b'{"directives": {"delay": "3s"}}', "no 'delay'"),
        (b'{"directives": {"reply": "x"}, "key": "k"}', "unknown field"),
        (
            orjson.dumps(
                {"contains": "x" * (CONTAINS_CHARACTERS_MAX + 1), "directives": {"missing": ""}}
            ),
            "contains: at most",
        ),
        (
            orjson.dumps({"directives": {"reply": "x" * (VALUE_CHARACTERS_MAX + 1)}}),
            "characters a value",
        ),
    ],
)
def test_what_is_no_script_is_refused(shared: Emulator, body: bytes, reason: str) -> None:
    """400 says what is wrong; nothing is kept of it."""
    answer = shared.http.post(PATH, content=body)
    assert answer.status_code == 400
    assert reason in answer.json()["error"]
    assert shared.http.get(PATH).json() == {"scripts": []}


def test_there_are_not_too_many(tmp_path: Path) -> None:
    """One more than the limit is refused, and says how many there may be."""
    with fresh_emulator(tmp_path) as emulator:
        order(emulator, "first", missing="")
    database = Database(tmp_path / "data" / "state.sqlite3")
    for _ in range(SCRIPTS_MAX - 1):
        Scripts(database).add(ScriptBody(directives={"missing": ""}))
    database.close()
    with fresh_emulator(tmp_path) as full:
        answer = full.http.post(PATH, json={"directives": {"missing": ""}})
    assert answer.status_code == 400
    assert f"{SCRIPTS_MAX}" in answer.json()["error"]
