"""Write docs/settings.md from the code; `--check` fails if the page is not up to date.

The sentences beneath each field in `settings.py`, `core/limits.py` and `core/models.py` are the
documentation. They exist only in the source text, so they are read from it.
"""

import ast
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = ROOT / "docs" / "settings.md"
SOURCE: Final = ROOT / "src" / "penstock"
TABLES: Final = (
    ("settings.py", "Settings", "", "Server"),
    ("settings.py", "VertexSettings", "vertex", "Vertex AI and its bucket"),
    ("core/limits.py", "Limits", "limits", "Limits"),
    ("core/quotas.py", "Quotas", "quotas", "Quotas of one organisation"),
    ("core/quotas.py", "Estimates", "estimates", "What a job is expected to cost"),
    ("settings.py", "Timing", "timing", "Waits of the lifecycle"),
    ("core/waiting.py", "WaitingRules", "waiting", "How waiting is explained"),
)
NESTED: Final = frozenset(
    {"vertex", "limits", "quotas", "estimates", "timing", "waiting", "models"}
)

UNSAID: Final = NESTED | {
    "id",
    "price",
    "input",
    "output",
    "cached",
    "audio_input",
    "image_output",
    "long_input",
    "long_cached",
    "long_output",
    "source",
    "as_of",
}
"""Fields that the page explains by their table or not at all."""

HEAD: Final = """# Settings

<!-- Written by tools/document_settings.py from the code; do not edit. -->

`penstock serve` reads a TOML file (`--config FILE` or `PENSTOCK_CONFIG`) and then the environment,
which wins. `penstock serve --check` says what is wrong and exits.

```toml
port = 8080

[vertex]
project = "my-project"
bucket = "my-batch-bucket"

[limits]
job_lines_max = 50_000

[models."gemini-3-pro-preview"]
provider_model = "gemini-3.1-pro-preview"
```
"""

MODELS: Final = """
## Models

`[models."ID"]` adds a model, or changes the one with that id; `provider_model` makes it an alias of
another one. Members:

| member | default | meaning |
|---|---|---|
"""


def main() -> int:
    """Write or check the page; return the exit code."""
    page = build()
    if "--check" not in sys.argv:
        PAGE.write_text(page, encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page:
        return 0
    print("docs/settings.md is not up to date: run .venv/bin/python tools/document_settings.py")
    return 1


def build() -> str:
    """Return the page."""
    parts = [HEAD]
    for file, name, table, title in TABLES:
        parts.append(
            f"\n## {title}\n\n| setting | variable | default | meaning |\n|---|---|---|---|\n"
        )
        for field, default, text in fields(file, name):
            if field in NESTED and not table:
                continue
            setting = f"{table}.{field}" if table else field
            variable = "PENSTOCK_" + setting.replace(".", "_").upper()
            parts.append(f"| `{setting}` | `{variable}` | `{default}` | {text} |\n")
    parts.append(MODELS)
    parts += [
        f"| `{field}` | `{default}` | {text} |\n"
        for field, default, text in fields("core/models.py", "Model")
        if field not in {"id", "price"}
    ]
    prices = [
        f"| `price.{field}` | `{default}` | micro-dollars per million tokens |\n"
        for field, default, _text in fields("core/models.py", "Price")
        if field not in {"source", "as_of"}
    ]
    return "".join([*parts, *prices])


def fields(file: str, name: str) -> list[tuple[str, str, str]]:
    """Return (field, default, sentence) of one class, in the order of the source."""
    tree = ast.parse((SOURCE / file).read_text(encoding="utf-8"))
    body = next(
        node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name
    )
    found = []
    for node, following in zip(body, [*body[1:], ast.Pass()], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            default = "" if node.value is None else ast.unparse(node.value)
            field = node.target.id
            text = "" if field in UNSAID else _sentence(field, following)
            found.append((field, _plain(default), text))
    return found


def _sentence(field: str, node: ast.stmt) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return " ".join(str(node.value.value).split()).replace("|", "\\|")
    raise SystemExit(f"the setting {field} has no sentence: write one beneath its field")


def _plain(default: str) -> str:
    for wrapper in ("Path(", "Secret("):
        if default.startswith(wrapper):
            default = default.removeprefix(wrapper).removesuffix(")")
    return default.strip("'") or "none"


if __name__ == "__main__":
    sys.exit(main())
