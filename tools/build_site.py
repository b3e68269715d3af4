"""Build the documentation into dist/site, and hold it to what it promises; `--check` keeps nothing.

The site loads nothing from elsewhere, all of its links lead somewhere, and each page stands in the
navigation. Beside each page lies its text (`.md`), and `llms.txt` lists them all.
"""

import argparse
import html
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
CONFIGURATION: Final = ROOT / "zensical.toml"
DOCS: Final = ROOT / "docs"
BUILD_SECONDS_MAX: Final = 120

_TAG: Final = re.compile(
    r"<(script|link|img|iframe|source|video|audio|object|embed)\b([^>]*)>", re.IGNORECASE
)
_PLACE: Final = re.compile(r"""\b(?:src|href|data|srcset)\s*=\s*["']?([^"'\s>]+)""", re.IGNORECASE)
_STYLE: Final = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])([^"')]+)""", re.IGNORECASE)
_DRAWN_ELSEWHERE: Final = re.compile(r'class="[^"]*\b(mermaid|glightbox|pyodide)\b')
_FOREIGN: Final = re.compile(r"(?:[a-z]+:)?//", re.IGNORECASE)


def main() -> int:
    """Build, check, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    is_check = parser.parse_args().check
    project = tomllib.loads(CONFIGURATION.read_text("utf-8"))["project"]
    findings = list(unlisted(project["nav"]))
    with tempfile.TemporaryDirectory(prefix="penstock-site-") as scratch:
        site = build(Path(scratch))
        if site is None:
            return 1
        findings += foreign(site)
        add_texts(site, project)
        if not findings and not is_check:
            target = ROOT / project["site_dir"]
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(exist_ok=True)
            shutil.move(site, target)
            print(f"{target.relative_to(ROOT)}: {sum(1 for _ in target.rglob('*.html'))} pages")
    for finding in findings:
        print(finding)
    return 1 if findings else 0


def build(scratch: Path) -> Path | None:
    """Build below a folder, and return the site; None if there was anything to warn of."""
    # The tool keeps a cache beside its configuration, and its site has to lie below it.
    for name in ("docs", "ARCHITECTURE.md", "zensical.toml"):
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, scratch / name)
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=scratch,
        capture_output=True,
        check=False,
        text=True,
        timeout=BUILD_SECONDS_MAX,
    )
    said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    if done.returncode != 0 or "issue" in said.replace("No issues", ""):
        print(said.partition("Traceback")[0])
        return None
    return scratch / "dist" / "site"


def pages(nav: Any) -> Iterator[tuple[str | None, str]]:  # noqa: ANN401  # TOML
    """Yield each page of the navigation, with its section at the top."""
    for entry in nav:
        for title, inner in entry.items() if isinstance(entry, dict) else [(None, entry)]:
            if isinstance(inner, str):
                yield title, inner
            else:
                yield from ((title, page) for _, page in pages(inner))


def unlisted(nav: Any) -> Iterator[str]:  # noqa: ANN401  # TOML
    """Yield pages that are not in the navigation, stand there twice, or do not exist."""
    listed = [page for _, page in pages(nav)]
    exist = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    for page in sorted(exist - set(listed)):
        yield f"docs/{page} is not in the navigation of zensical.toml"
    for page in sorted(set(listed) - exist):
        yield f"zensical.toml: there is no docs/{page}"
    for page in sorted({page for page in listed if listed.count(page) > 1}):
        yield f"zensical.toml: {page} stands in the navigation twice"


def foreign(site: Path) -> Iterator[str]:
    """Yield what a browser would load from elsewhere."""
    for path in sorted(site.rglob("*")):
        if path.suffix not in {".html", ".css", ".svg"}:
            continue
        text = path.read_text("utf-8")
        found = _STYLE.findall(text if path.suffix != ".html" else "".join(_styles(text)))
        for match in _TAG.finditer(text):
            if 'rel="canonical"' not in match[2]:
                found += _PLACE.findall(match[2])
        for what in _DRAWN_ELSEWHERE.findall(text):
            yield f"{path.relative_to(site)} has {what}, whose script comes from elsewhere"
        for place in found:
            if _FOREIGN.match(place.strip()):
                yield f"{path.relative_to(site)} loads {place}"


def _styles(text: str) -> Iterator[str]:
    yield from re.findall(r"<style[^>]*>(.*?)</style>", text, re.DOTALL | re.IGNORECASE)
    yield from re.findall(r'\bstyle="([^"]*)"', text)


def add_texts(site: Path, project: dict[str, Any]) -> None:
    """Put the text of each page beside it, and the list of all of them at the top."""
    parts = [f"# {project['site_name']}\n\n> {project['site_description']}\n"]
    section = ""
    for title, page in pages(project["nav"]):
        text = (DOCS / page).read_text("utf-8")
        text = re.sub(r'--8<-- "(.*?)"', lambda match: (ROOT / match[1]).read_text("utf-8"), text)
        (site / page).write_text(text, encoding="utf-8")
        if title is not None and title != section:
            parts.append(f"\n## {title}\n\n")
            section = title
        parts.append(f"- [{heading(text)}]({page})\n")
    (site / "llms.txt").write_text("".join(parts), encoding="utf-8")


def heading(text: str) -> str:
    """Return the first heading of a page."""
    found = re.search(r"^# +(.*)$", text, re.MULTILINE)
    return html.unescape(found[1].strip()) if found else "?"


if __name__ == "__main__":
    sys.exit(main())
