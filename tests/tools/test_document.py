"""What is not documented is found: codes in the source, limits, pages, and loads from elsewhere."""

from pathlib import Path

import click
import msgspec
import pytest

import build_site
import document_codes
import document_errors
import document_limits
import document_reference
import document_settings
from penstock.cli.main import cli
from penstock.settings import Settings

SOURCE = """
LATE = "too_late"
_WORDS = {1: "first_word", 2: "second_word"}


class Refused(Exception):
    code = "refused"


def refuse(message, code, *, hint=None):
    raise Refused(message, code=code)


def give(x, other):
    refuse("a", "by_position")
    refuse("b", code="by_name")
    refuse("c", LATE)
    refuse("d", "this" if x else "that_one")
    chosen = "assigned"
    refuse("e", chosen)
    refuse("f", f"quota_{x}")
    refuse("g", _WORDS[x])
    refuse("h", other.code)
"""
FOUND = {
    *("refused", "by_position", "by_name", "too_late", "this", "that_one", "assigned"),
    *("quota_{}", "first_word", "second_word"),
}


def scanned(folder: Path, text: str) -> tuple[set[str], list[str]]:
    """The codes of a source, and what cannot be followed."""
    (folder / "module.py").write_text(text, encoding="utf-8")
    uses, unseen = document_codes.uses(document_codes.read(folder))
    return {use.code for use in uses}, unseen


def test_codes_are_found_however_they_are_given(tmp_path: Path) -> None:
    """By name and by position, through constants, tables, alternatives and assignments."""
    assert scanned(tmp_path, SOURCE) == (FOUND, [])


def test_a_code_that_cannot_be_followed_is_named(tmp_path: Path) -> None:
    """What comes out of a call or a loop is a finding, with its place."""
    text = "def f(names):\n    for name in names:\n        g(code=name)\n    g(code=h())\n"
    codes, unseen = scanned(tmp_path, text)
    assert codes == set()
    assert unseen == ["module.py:3 f: name", "module.py:4 f: h()"]


def test_a_code_without_a_text_and_a_text_without_a_code_are_named() -> None:
    """Each with the place where it stands."""
    found = {"new_code": [document_codes.Use("new_code", "api/x.py", 7, "f")]}
    assert document_errors.complaints(found, {"old_code"}) == [
        "api/x.py:7: the code 'new_code' has no text in tools/error_texts.toml",
        "tools/error_texts.toml: nothing gives the code 'old_code' any more",
    ]


def test_an_expression_is_worked_out() -> None:
    """`7 * 24 * 3600` is shown as a number; a name stays."""
    assert document_limits.worked_out("7 * 24 * 3600") == "604_800"
    assert document_limits.worked_out("1_024") == "1_024"


@pytest.mark.slow
@pytest.mark.parametrize("page", list(document_reference.PAGES))
def test_the_reference_is_that_of_the_code(page: str) -> None:
    """Each page is what would be written; what has no words fails with its name."""
    assert document_reference.settle(page, is_check=True), "run make generate"


def test_the_commands_page_does_not_depend_on_what_ran_before() -> None:
    """Commands that heard other names for their help than the real ones make the same page."""
    page = document_reference.PAGES["cli"]()
    bare = click.Context(cli, info_name="penstock")
    for name in cli.list_commands(bare):
        command = cli.get_command(bare, name)
        assert command is not None
        command._help_option = None
        command.get_params(click.Context(command, info_name=name, parent=bare))
    assert document_reference.PAGES["cli"]() == page


def test_what_is_loaded_from_elsewhere_is_found(tmp_path: Path) -> None:
    """Scripts, styles, pictures and fonts of other hosts; links to them are no loads."""
    (tmp_path / "page.html").write_text(
        '<link rel="canonical" href="https://example.com/"><a href="https://example.com/">x</a>'
        '<script src="https://example.com/a.js"></script><img alt="" src="//example.com/b.png">'
        '<link href="assets/own.css"><p style="background: url(https://example.com/c.png)">',
        encoding="utf-8",
    )
    (tmp_path / "own.css").write_text(
        '@import "https://example.com/d.css"; a { background: url(e.png) }', encoding="utf-8"
    )
    assert list(build_site.foreign(tmp_path)) == [
        "own.css loads https://example.com/d.css",
        "page.html loads https://example.com/c.png",
        "page.html loads https://example.com/a.js",
        "page.html loads //example.com/b.png",
    ]


def test_pages_outside_of_the_navigation_are_found() -> None:
    """A page that nobody can reach, one that does not exist, and one that stands there twice."""
    findings = list(build_site.unlisted([{"Home": "index.md"}, {"A": ["index.md", "none.md"]}]))
    assert "docs/money.md is not in the navigation of zensical.toml" in findings
    assert "zensical.toml: there is no docs/none.md" in findings
    assert "zensical.toml: index.md stands in the navigation twice" in findings


def test_every_group_of_settings_is_on_the_page() -> None:
    """No class of settings can be added without its table."""
    settings = Settings()
    groups = {
        name
        for name in settings.__struct_fields__
        if isinstance(getattr(settings, name), msgspec.Struct)
    }
    assert groups <= {table for _, _, table, _ in document_settings.TABLES}
