"""Orders for requests that cannot carry a directive: by a text that stands in their prompt.

A test of somebody's pipeline knows its prompts and may not change them. A script says what a
request that holds a given text is to get, as if the directives stood in the prompt itself.
"""

from typing import Final

import msgspec

from penstock.emulator.database import Database
from penstock.emulator.directives import NAMES, ONCE, texts
from penstock.emulator.named import BadRule

SCRIPTS_MAX: Final = 200
CONTAINS_CHARACTERS_MAX: Final = 10_000
VALUE_CHARACTERS_MAX: Final = 1_000_000
_KEPT: Final = "scripts"
# How long a job runs is settled while its input is imported, before any row is written.
_IN_PROMPTS_ONLY: Final = frozenset({"delay"})


class ScriptBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a caller sends; an empty `contains` stands in every request."""

    directives: dict[str, str]
    contains: str = ""


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """One script; the directives are those of docs/emulator.md."""

    id: str
    contains: str
    directives: dict[str, str]


def parse_script(body: bytes) -> ScriptBody:
    """A checked script; BadRule with what is wrong and what would be right."""
    try:
        script = msgspec.json.decode(body, type=ScriptBody)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRule(str(error)) from error
    if not script.directives:
        raise BadRule("directives: say at least one")
    for name in script.directives:
        plain = name.removesuffix(ONCE)
        if plain not in NAMES or plain in _IN_PROMPTS_ONLY:
            known = ", ".join(sorted(NAMES - _IN_PROMPTS_ONLY))
            raise BadRule(f"directives: there is no {name!r} for a script; known are {known}")
    if len(script.contains) > CONTAINS_CHARACTERS_MAX:
        raise BadRule(f"contains: at most {CONTAINS_CHARACTERS_MAX} characters")
    if any(len(value) > VALUE_CHARACTERS_MAX for value in script.directives.values()):
        raise BadRule(f"directives: at most {VALUE_CHARACTERS_MAX} characters a value")
    return script


class Scripts:
    """All scripts, in the order in which they were made; kept with the state."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[Script]:
        """The scripts as they stand."""
        stored = self._database.setting(_KEPT)
        return [] if stored is None else msgspec.json.decode(stored, type=list[Script])

    def add(self, body: ScriptBody) -> Script:
        """Keep one and give it its id; OverflowError if there are too many."""
        with self._database.transaction():
            kept = self.all()
            if len(kept) >= SCRIPTS_MAX:
                raise OverflowError(f"there are {SCRIPTS_MAX} scripts already; remove some")
            number = self._database.count("scripts_made")
            script = Script(id=str(number), contains=body.contains, directives=body.directives)
            self._keep([*kept, script])
        return script

    def clear(self) -> int:
        """Remove all; gives how many went."""
        with self._database.transaction():
            removed = len(self.all())
            self._keep([])
        return removed

    def _keep(self, scripts: list[Script]) -> None:
        self._database.set_setting(_KEPT, msgspec.json.encode(scripts).decode())


def scripted(request: object, scripts: list[Script]) -> dict[str, str]:
    """The directives of the first script that fits a request; none if no script does."""
    if not scripts:
        return {}
    said = list(texts(request))
    for script in scripts:
        if any(script.contains in text for text in said):
            return script.directives
    return {}
