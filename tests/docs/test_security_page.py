"""What docs/security.md and docs/input.md say is there: tests, requirements, roles, rules."""

import ast
import re
import tokenize
from functools import cache
from pathlib import Path

import msgspec
import pytest
from tests.isolation.table import TABLE

from penstock.core.access import ROLE_SCOPES, Role, Scope
from penstock.core.limits import Limits
from penstock.core.quotas import Quotas
from penstock.settings import Settings, Timing

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "penstock"
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
INPUT = (ROOT / "docs" / "input.md").read_text("utf-8")

LEVEL_1 = {
    *("V1.2.1", "V1.2.2", "V1.2.3", "V1.2.4", "V1.2.5", "V1.3.1", "V1.3.2", "V1.5.1"),
    *("V2.1.1", "V2.2.1", "V2.2.2", "V2.3.1"),
    *("V3.2.1", "V3.2.2", "V3.3.1", "V3.4.1", "V3.4.2", "V3.5.1", "V3.5.2", "V3.5.3"),
    *("V4.1.1", "V4.4.1"),
    *("V5.2.1", "V5.2.2", "V5.3.1", "V5.3.2"),
    *("V6.1.1", "V6.2.1", "V6.2.2", "V6.2.3", "V6.2.4", "V6.2.5", "V6.2.6", "V6.2.7", "V6.2.8"),
    *("V6.3.1", "V6.3.2", "V6.4.1", "V6.4.2"),
    *("V7.2.1", "V7.2.2", "V7.2.3", "V7.2.4", "V7.4.1", "V7.4.2"),
    *("V8.1.1", "V8.2.1", "V8.2.2", "V8.3.1"),
    *("V9.1.1", "V9.1.2", "V9.1.3", "V9.2.1"),
    *("V10.4.1", "V10.4.2", "V10.4.3", "V10.4.4", "V10.4.5"),
    *("V11.3.1", "V11.3.2", "V11.4.1"),
    *("V12.1.1", "V12.2.1", "V12.2.2"),
    "V13.4.1",
    *("V14.2.1", "V14.3.1"),
    *("V15.1.1", "V15.2.1", "V15.3.1"),
}
"""The 70 requirements of level 1 of ASVS 5.0.0, by id."""

RISKS = [f"API{number}" for number in range(1, 11)]

NOT_CODES = {
    *("input_data", "input_uri", "processed_time", "unicode_escape", "python_multipart"),
    *("numeric_text", "line_bytes"),
    *("on_part_begin", "on_part_data", "on_part_end", "on_end"),
    *("on_header_field", "on_header_value", "on_header_end", "on_headers_finished"),
}
"""Texts of the ingest in the form of a code that are none."""

OF_THE_DOORS = {
    *("unsupported_media_type", "unknown_model", "ambiguous_model", "invalid_priority"),
    *("invalid_parameter", "invalid_name", "invalid_label", "too_many_labels"),
    *("invalid_input_uri", "source_not_allowed", "invalid_file_uri", "file_uri_not_allowed"),
}
"""Rules that are checked before or beside the ingest."""


def table(heading: str) -> list[list[str]]:
    """The rows of the one table below a heading of the page."""
    (section,) = re.findall(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL
    )
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[2:]]


@cache
def names_in(path: Path) -> frozenset[str]:
    """The names of the tests in a file."""
    with tokenize.open(path) as file:
        tree = ast.parse(file.read())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def strings(path: Path) -> set[str]:
    """Every text in a file of code."""
    with tokenize.open(path) as file:
        tree = ast.parse(file.read())
    constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {value for value in constants if isinstance(value, str)}


def test_every_test_on_the_page_exists() -> None:
    """A test that is renamed or removed takes its row along."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", PAGE)
    assert len(named) > 100
    lacking = {
        f"{file}::{name}"
        for file, name in named
        if not (ROOT / file).is_file() or name not in names_in(ROOT / file)
    }
    assert lacking == set()
    # Nothing looks like a test without being found by the pattern above.
    assert len(re.findall(r"\btest_\w+`", PAGE)) == len(named)


def test_every_file_on_the_page_exists() -> None:
    """Files, folders and links of the pages are there."""
    for text in (PAGE, INPUT, (ROOT / "SECURITY.md").read_text("utf-8")):
        for target in re.findall(r"`((?:tests|tools|src|requirements|deploy)/[\w./-]*)`", text):
            assert (ROOT / target).exists(), target
    for text in (PAGE, INPUT):
        for target in re.findall(r"\]\(([^)#:]+)[^)]*\)", text):
            assert (ROOT / "docs" / target).resolve().exists(), target


def test_all_requirements_of_level_1_are_on_the_page_once() -> None:
    """70 of 70, and no other."""
    ids = [row[0] for row in table("ASVS 5.0.0, level 1")]
    assert len(LEVEL_1) == 70
    assert sorted(ids) == sorted(LEVEL_1)


def test_a_requirement_that_applies_has_a_test() -> None:
    """A row says yes with a test, or no with its reason."""
    rows = table("ASVS 5.0.0, level 1")
    assert {row[2] for row in rows} == {"yes", "no"}
    for row in rows:
        assert len(row) == 5, row
        assert all(row[:4]), row
        if row[2] == "yes":
            assert "::test_" in row[4], row


def test_every_risk_of_the_top_10_has_tests() -> None:
    """API1 to API10, each with at least one row, and each row with at least one test."""
    rows = table("OWASP API Security Top 10 (2023)")
    assert list(dict.fromkeys(row[0].split()[0] for row in rows)) == RISKS
    for row in rows:
        assert len(row) == 3, row
        assert "::test_" in row[2], row


def test_the_roles_on_the_page_are_those_of_the_code() -> None:
    """Who may do what is what `core/access` decides, for the routes that `tests/isolation` has."""
    operations: dict[Scope, set[str]] = {scope: set() for scope in Scope}
    for (method, path), row in TABLE.items():
        if row.scope is not None:
            short = re.sub(r"^/api/v1(/ie/requestqueue(/apikey)?)?", "", path)
            operations[row.scope].add(f"{method} {short}")
    told = {cells[0].strip("`"): cells[-1] for cells in table("Who may do what")}
    for scope in Scope:
        assert set(re.findall(r"`([A-Z]+ [^`]+)`", told[scope])) == operations[scope]
    rows = {row[0].strip("`"): row[1 : len(Role) + 1] for row in table("Who may do what")}
    assert list(rows) == [str(scope) for scope in Scope]
    roles = (Role.OWNER, Role.ADMIN, Role.DEVELOPER, Role.VIEWER)
    for scope in Scope:
        decided = ["yes" if scope in ROLE_SCOPES[role] else "no" for role in roles]
        assert rows[scope] == decided, scope


@pytest.mark.slow
def test_every_rule_of_an_input_is_documented() -> None:
    """The codes in docs/input.md are those that the ingest and the doors can refuse with."""
    code = re.compile(r"[a-z]+(?:_[a-z0-9]+)+|bom|utf16")
    found = set[str]().union(*(strings(path) for path in (SOURCE / "ingest").glob("*.py")))
    emitted = {text for text in found if code.fullmatch(text)} - NOT_CODES | OF_THE_DOORS
    rows = [line.rsplit(" | ", 1)[1] for line in INPUT.splitlines() if line.startswith("| ")]
    documented = {name for row in rows for name in re.findall(r"`([a-z0-9_]+)`", row)} - {"code"}
    assert documented == emitted
    elsewhere = set[str]().union(
        *(
            strings(SOURCE / name)
            for name in ("errors.py", "api/doors.py", "api/jobs.py", "api/options.py")
        ),
        strings(SOURCE / "blobs" / "source_uri.py"),
        strings(SOURCE / "core" / "files.py"),
        strings(SOURCE / "core" / "naming.py"),
    )
    assert elsewhere >= OF_THE_DOORS


def test_the_numbers_of_the_rules_are_the_defaults() -> None:
    """What docs/input.md says of sizes is what the limits are."""
    limits = Limits()
    for value in (limits.job_lines_max, limits.line_values_max):
        assert f"{value:,}" in INPUT
    for text in (
        f"{limits.job_bytes_max >> 30} GiB",
        f"{limits.line_bytes_max >> 20} MiB",
        f"{limits.envelope_bytes_max >> 10} KiB",
        f"{limits.json_depth_max} levels",
        f"{limits.provider_depth_max} objects deep",
        f"{limits.compression_ratio_max} times",
    ):
        assert text in INPUT


def test_every_setting_on_the_pages_exists() -> None:
    """`limits.x` and the like are settings."""
    kinds: dict[str, type[msgspec.Struct]] = {
        "limits": Limits,
        "quotas": Quotas,
        "timing": Timing,
    }
    for group, name in re.findall(r"`(limits|quotas|timing)\.(\w+)`", PAGE + INPUT):
        assert name in kinds[group].__struct_fields__, name
    for name in re.findall(r"`setting ([a-z_]+)`", PAGE):
        assert name in Settings.__struct_fields__, name


def test_the_defence_against_guessing_is_documented() -> None:
    """The page says which settings bound guesses, and that nobody is locked out."""
    (section,) = re.findall(r"^## Guessing keys\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
    for name in ("limits.connections_max", "limits.header_seconds_max", "requests_second_max"):
        assert name in section
    assert "no lockout" in section


def test_the_time_to_mend_is_documented() -> None:
    """SECURITY.md has a time for each severity of an advisory, and one without any."""
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    (section,) = re.findall(r"^## Dependencies\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    times = dict(
        re.findall(r"^\| (critical|high|medium|low)\b[^|]*\| (\d+) days \|$", section, re.MULTILINE)
    )
    assert list(times) == ["critical", "high", "medium", "low"]
    assert sorted(map(int, times.values())) == list(map(int, times.values()))
    assert "at least every 90 days" in section


def test_no_source_control_gets_into_the_image() -> None:
    """The image is built of an allow-list that has neither .git nor a file of settings."""
    text = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text("utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert lines[0] == "*"
    assert let_in == {
        *("pyproject.toml", "README.md", "LICENSE", "src"),
        *("requirements/build.txt", "requirements/runtime.txt"),
    }


def test_the_page_leaves_nothing_to_fill_in() -> None:
    """No row waits for somebody."""
    assert re.findall(r"TODO|TBD|FIXME|to be measured|\?\?", PAGE) == []


def test_the_page_is_linked() -> None:
    """The README leads to SECURITY.md, and that to the page."""
    assert "](SECURITY.md)" in (ROOT / "README.md").read_text("utf-8")
    assert "](docs/security.md)" in (ROOT / "SECURITY.md").read_text("utf-8")
