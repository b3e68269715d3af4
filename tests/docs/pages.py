"""The pages that readers read, and the fenced blocks in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
FOLDERS = ("tutorial", "how-to", "explanation")
_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>```+|~~~+)(?P<language>[\w+-]*)(?P<rest>.*)$")
_REMARK = re.compile(r"^\s*<!-- *(?P<what>not run|shows): *(?P<text>.*?) *-->\s*$")


@dataclass(frozen=True)
class Block:
    """One fenced block; `why_not` is the reason of a `not run`, `shows` what it has to print."""

    page: str
    line: int
    language: str
    text: str
    why_not: str | None = None
    shows: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Where it begins, as editors understand it."""
        return f"{self.page}:{self.line}"


def written() -> list[Path]:
    """Return the pages that somebody wrote for readers, decisions and references apart."""
    found = [ROOT / "README.md", ROOT / "examples" / "README.md", *DOCS.glob("*.md")]
    found += (path for folder in FOLDERS for path in (DOCS / folder).rglob("*.md"))
    return sorted(path for path in found if path.is_file())


def name_of(path: Path) -> str:
    """Return the page's path as it stands in the repository."""
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path) -> list[Block]:
    """Return the blocks of a page, in its order."""
    return list(_blocks(name_of(path), path.read_text("utf-8").splitlines()))


def _blocks(page: str, lines: list[str]) -> Iterator[Block]:
    why_not: str | None = None
    shows: list[str] = []
    opened: re.Match[str] | None = None
    start = 0
    for number, line in enumerate(lines, 1):
        if opened is not None:
            if line.strip() == opened["ticks"]:
                indent = len(opened["indent"])
                text = "".join(inner[indent:] + "\n" for inner in lines[start : number - 1])
                yield Block(page, start, opened["language"], text, why_not, tuple(shows))
                opened, why_not, shows = None, None, []
            continue
        remark = _REMARK.match(line)
        if remark is not None and remark["what"] == "not run":
            why_not = remark["text"]
        elif remark is not None:
            shows.append(remark["text"])
        elif fence := _FENCE.match(line):
            opened, start = fence, number
        elif line.strip():
            # A remark speaks of the block that follows at once, and of no later one.
            why_not, shows = None, []
    assert opened is None, f"{page}:{start}: this block has no end"


def prose(path: Path) -> str:
    """Return the text of a page without its blocks."""
    return re.sub(
        r"^( *)(```+|~~~+).*?^\1\2$",
        lambda match: "\n" * match[0].count("\n"),
        path.read_text("utf-8"),
        flags=re.MULTILINE | re.DOTALL,
    )
