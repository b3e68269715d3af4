"""docs/reference/limits.md: each limit and quota, its default, and what happens there."""

import tomllib
from pathlib import Path
from typing import Final

import document_settings

ROOT: Final = Path(__file__).parent.parent
REFUSALS: Final = ROOT / "tools" / "limit_refusals.toml"
ERRORS: Final = ROOT / "tools" / "error_texts.toml"

HEAD: Final = """# Limits

<!-- Written by tools/document_reference.py; do not edit. -->

Each is a setting: `limits.NAME` in the TOML file, `PENSTOCK_LIMITS_NAME` in the environment
([settings](../settings.md)). What a server refuses names the limit, and has the code here.
"""

TABLES: Final = (
    ("limits", "core/limits.py", "Limits", "Limits of the server", ""),
    (
        "quotas",
        "core/quotas.py",
        "Quotas",
        "Quotas of one organisation",
        """0 is unlimited. The settings are for organisations that have none of their own;
`penstock orgs quotas` sets those ([quotas](../quotas.md)).

""",
    ),
)


def build() -> str:
    """Return the page, or raise `SystemExit` with what it lacks."""
    refusals = tomllib.loads(REFUSALS.read_text("utf-8"))
    texts = tomllib.loads(ERRORS.read_text("utf-8"))
    codes = {code for section in texts.values() for code in section}
    parts = [HEAD]
    lacking: list[str] = []
    for table, file, name, title, words in TABLES:
        fields = document_settings.fields(file, name)
        known = {field for field, _, _ in fields}
        lacking += (f"{name} has no {field} any more" for field in refusals[table].keys() - known)
        parts.append(f"\n## {title}\n\n{words}| limit | default | | at it |\n|---|---|---|---|\n")
        for field, default, text in fields:
            happens = refusals[table].get(field)
            if happens is None:
                lacking.append(f"{name}.{field} is not in tools/limit_refusals.toml")
                continue
            if isinstance(happens, list):
                code = happens[0]
                anchor = code if code in codes else "quota_x"
                if code not in codes and not code.startswith("quota_"):
                    lacking.append(f"tools/limit_refusals.toml: there is no code {code}")
                happens = f"[`{code}`](errors.md#{anchor})"
            shown = f'<a id="{table}.{field}"></a>`{field}`'
            parts.append(f"| {shown} | `{worked_out(default)}` | {text} | {happens} |\n")
    if lacking:
        raise SystemExit("\n".join(lacking))
    return "".join(parts)


def worked_out(default: str) -> str:
    """Work out `7 * 24 * 3600`, for nobody wants to."""
    parts = default.split(" * ")
    if len(parts) == 1 or not all(part.isdigit() for part in parts):
        return default
    product = 1
    for part in parts:
        product *= int(part)
    return f"{product:_}"
