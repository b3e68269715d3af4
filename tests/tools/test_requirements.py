"""What is installed: hashed, wheels alone, above the floors of known advisories."""

import re
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")

# reference/reliability.md 4.2: the first version without a known advisory.
FLOORS = {
    "starlette": "1.5.1",
    "python-multipart": "0.0.31",
    "h11": "0.16.0",
    "gunicorn": "23",
    "urllib3": "2.7.0",
    "aiohttp": "3.13.3",
    "jinja2": "3.1.6",
    "google-cloud-aiplatform": "1.148.0",
}
RUNNING_CODE = {"setup.py", "conftest.py", "sitecustomize.py", "usercustomize.py"}


def locked(lock: Path) -> dict[str, tuple[Requirement, int]]:
    """Each requirement of a lock, and how many hashes it has."""
    text = lock.read_text("utf-8").replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            requirement = Requirement(HASH.sub("", line).strip())
            found[requirement.name] = (requirement, len(HASH.findall(line)))
    return found


def version(requirement: Requirement) -> Version:
    """The one version that a lock allows."""
    (specifier,) = requirement.specifier
    assert specifier.operator == "=="
    return Version(specifier.version)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.name))
def test_every_requirement_is_pinned_and_hashed(lock: Path) -> None:
    """One version each, at least one SHA-256, and no address of where it was had."""
    requirements = locked(lock)
    assert requirements
    assert {name for name, (_, hashes) in requirements.items() if hashes == 0} == set()
    assert all(version(requirement) for requirement, _ in requirements.values())
    assert re.findall(r"https?://|file:|^-|@ ", lock.read_text("utf-8"), re.MULTILINE) == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.name))
def test_no_requirement_is_below_its_floor(lock: Path) -> None:
    """What has a known advisory in an older version is newer in each lock that has it."""
    below = {
        name: str(version(requirement))
        for name, (requirement, _) in locked(lock).items()
        if version(requirement) < Version(FLOORS.get(name, "0"))
    }
    assert below == {}


def test_the_floors_are_stated_too() -> None:
    """Who installs Penstock as a package gets no older Starlette or multipart parser either."""
    stated = (ROOT / "pyproject.toml").read_text("utf-8")
    for name in ("starlette", "python-multipart"):
        assert f'"{name}>={FLOORS[name]}"' in stated


def test_everything_is_installed_by_hash_and_from_wheels() -> None:
    """No verb and no image installs what has no hash, or runs code of a package to install it."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    installs = re.findall(
        r"^\t.*\bpip\b.* install (.+)$|^\t\$\(PIP\) install (.+)$", makefile, re.MULTILINE
    )
    commands = [one or other for one, other in installs]
    assert len(commands) >= 5
    loose = {each for each in commands if "$(HASHED)" not in each}
    assert loose == {"--no-build-isolation --no-deps -e ."}, "all but the checkout itself"
    assert "HASHED := --require-hashes --only-binary :all:" in makefile


def test_an_audit_cannot_pass_by_accident() -> None:
    """`make audit` is strict, its failure is the verb's, and it judges what is deployed."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    (command,) = re.findall(r"^\t(.*pip-audit .*)$", makefile, re.MULTILINE)
    assert command == (
        "$(VENV)/audit/bin/pip-audit --strict --require-hashes --disable-pip "
        "-r requirements/runtime.txt"
    )


def test_nothing_younger_than_a_week_is_locked() -> None:
    """Every resolution waits a week, in which stolen releases are found."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert re.search(r"^LOCK := [^#]*?--exclude-newer \"7 days\"", makefile, re.MULTILINE)
    assert len(re.findall(r"uv pip compile", makefile)) == 1


def runtime() -> list[Distribution]:
    """The installed distributions of the runtime lock."""
    names = {name.replace("_", "-").lower() for name in locked(ROOT / "requirements/runtime.txt")}
    return [
        each
        for each in distributions()
        if each.metadata["Name"].replace("_", "-").replace(".", "-").lower() in names
    ]


def test_no_wheel_runs_code_by_itself() -> None:
    """No wheel of the runtime has a .pth file or a module that Python runs at each start.

    The only such file of a deployment would be Penstock's own, and its wheel has none either
    (tests/test_wheel.py). A checkout has one, of an editable install, that holds a path alone.
    """
    found = runtime()
    assert len(found) >= 25
    files = {f"{each.metadata['Name']}: {file}" for each in found for file in each.files or ()}
    assert len(files) > 1_000
    assert {file for file in files if file.endswith((".pth", ".data/scripts"))} == set()
    at_the_top = {file for file in files if file.partition(": ")[2] in RUNNING_CODE}
    assert at_the_top == set()


def test_wheels_were_installed_as_wheels() -> None:
    """Each installed distribution of the runtime has a RECORD with hashes, as wheels have."""
    for each in runtime():
        record = each.read_text("RECORD") or ""
        assert "sha256=" in record, each.metadata["Name"]
        assert "Wheel-Version" in (each.read_text("WHEEL") or ""), each.metadata["Name"]


def test_a_checkout_runs_no_code_of_ours_at_start() -> None:
    """The .pth file of the editable install names the source folder and imports nothing."""
    (ours,) = [each for each in distributions() if each.metadata["Name"] == "penstock"]
    paths = [file.locate() for file in ours.files or () if file.suffix == ".pth"]
    for path in paths:
        assert not re.search(r"^import[ \t]", Path(path).read_text("utf-8"), re.MULTILINE)
