"""What the pages name exists: commands, settings, pages and places in them."""

import ast
import re
import tokenize
import unicodedata
from functools import cache
from pathlib import Path

import pytest
from tests.docs.commands import commands, complaint
from tests.docs.pages import DOCS, ROOT, blocks, name_of, prose, written

import document_settings

SHELL = {"sh", "bash", "console"}
PAGES = {name_of(path): path for path in written()}
GENERATED = {name_of(path): path for path in (DOCS / "reference").rglob("*.md")}
OTHERS = {
    name: ROOT / name
    for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "bench/README.md")
}
BY_HAND = PAGES | OTHERS
ALL = BY_HAND | GENERATED
VARIABLE = re.compile(r"\bPENSTOCK_[A-Z0-9_]+")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<to>[^)\s]+)\)|!\[[^\]]*\]\((?P<picture>[^)\s]+)\)")


@cache
def variables() -> frozenset[str]:
    """Every variable that is a setting, or that the code reads by its whole name."""
    found = set(VARIABLE.findall(document_settings.build()))
    for path in (ROOT / "src").rglob("*.py"):
        with tokenize.open(path) as file:
            tree = ast.parse(file.read())
        found |= {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and VARIABLE.fullmatch(node.value)
        }
    return frozenset(found)


@cache
def places(path: Path) -> frozenset[str]:
    """The headings of a page, named as the site names them, and the anchors that it sets itself."""
    text = prose(path)
    made: dict[str, int] = {}
    found = set(re.findall(r'<a (?:id|name)="([^"]+)"', text))
    for title in re.findall(r"^#+ +(.*?) *$", text, re.MULTILINE):
        own = re.search(r"\{ *#([\w.-]+)[^}]*\}$", title)
        slug = own[1] if own else slugged(title)
        count = made.get(slug, 0)
        made[slug] = count + 1
        found.add(f"{slug}_{count}" if count else slug)
    return frozenset(found)


def slugged(title: str) -> str:
    """A heading as an address, by the rule of Python-Markdown."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "")
    plain = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


@pytest.mark.parametrize("page", list(PAGES | GENERATED))
def test_the_commands_of_the_page_exist(page: str) -> None:
    """Each command of ours in a block, run or not, has only options that there are.

    Those of the generated pages are the examples in the help of commands.
    """
    wrong = [
        f"{block.place}: penstock {' '.join(words)}: {said}"
        for block in blocks(ALL[page])
        if block.language in SHELL
        for words in commands(block.text)
        if (said := complaint(words)) is not None
    ]
    assert wrong == []


@pytest.mark.parametrize("page", list(ALL))
def test_the_commands_in_the_text_exist(page: str) -> None:
    """A command between backticks may be cut short, but it names nothing that there is not."""
    wrong = [
        f"penstock {' '.join(words)}: {said}"
        for code in re.findall(r"`(penstock [^`]+)`", prose(ALL[page]))
        for words in commands(" ".join(code.split()))
        if (said := complaint(words, whole=False)) is not None
    ]
    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("page", list(BY_HAND))
def test_the_variables_of_the_page_exist(page: str) -> None:
    """Each `PENSTOCK_…` is a setting, or read by the command line, the client or the tests."""
    for name in VARIABLE.findall(BY_HAND[page].read_text("utf-8")):
        if name.endswith("_"):
            assert any(known.startswith(name) for known in variables()), name
        else:
            assert name in variables(), name


@pytest.mark.parametrize("page", list(ALL))
def test_the_links_of_the_page_lead_somewhere(page: str) -> None:
    """The file is there, and in it the heading."""
    path = ALL[page]
    for match in _LINK.finditer(prose(path)):
        target, _, place = (match["to"] or match["picture"]).partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = (path.parent / target).resolve() if target else path
        assert file.exists(), f"{page}: {target}"
        if place and file.suffix == ".md":
            assert place in places(file), f"{page}: {target}#{place}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("serve --check", None),
        ("status", "penstock status needs"),
        ("nonsense", "penstock has no command nonsense"),
        ("webhooks nonsense", "penstock webhooks has no command nonsense"),
        ("serve --nonsense", "No such option"),
    ],
)
def test_a_command_that_is_not_there_is_found(words: str, said: str | None) -> None:
    """The judge of the commands sees what is wrong with one."""
    found = complaint(words.split())
    assert (found is None) if said is None else (found is not None and said in found)


def test_commands_are_found_wherever_they_stand() -> None:
    """In a substitution, after a pipe, over lines, with quotes and redirections."""
    text = (
        'job=$(penstock submit "a b.jsonl" -q)  # penstock is not called here\n'
        'echo "$(penstock status $job)" | penstock lines "$job" > out.txt 2>&1\n'
        ".venv/bin/penstock submit \\\n  x.jsonl && penstock ls\n"
    )
    assert list(commands(text)) == [
        ["submit", "a b.jsonl", "-q"],
        ["status", "$job"],
        ["lines", "$job"],
        ["submit", "x.jsonl"],
        ["ls"],
    ]
