"""Text on a terminal: what may be shown of it, and how many columns that takes.

It imports next to nothing, so that the command line can use it before anything else is loaded.
"""

import unicodedata


def clean(text: str) -> str:
    """Return the text without the power to move the cursor or to turn the writing round."""
    return "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in text
    )


def cells(text: str) -> int:
    """Return how many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(cells_of(character) for character in text)


def cells_of(character: str) -> int:
    """Return how many columns one character takes: none, one or two."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def begin(text: str, room: int) -> str:
    """Return as much of the start of a text as so many columns hold."""
    kept: list[str] = []
    for character in text:
        room -= cells_of(character)
        if room < 0:
            break
        kept.append(character)
    return "".join(kept)
