r"""Draw a picture for each line of a text file, and save them by name.

    printf 'kettle: a steel kettle on a white table\nlamp: a brass lamp at dusk\n' > things.txt
    python examples/draw_images.py things.txt pictures/

What was blocked, or answered in words alone, is told at the end; the others are saved all the same.
"""

# A script, which prints, and not a package.
# ruff: noqa: INP001, T201

import argparse
import sys
from pathlib import Path
from typing import Any

from penstock.client import Client

STYLE = "A product photograph, soft light, no text."


def request(name: str, text: str) -> dict[str, Any]:
    """Return the line that asks for one picture."""
    return {
        "key": name,
        "request": {
            "contents": [{"role": "user", "parts": [{"text": f"Draw {text}. {STYLE}"}]}],
            "generationConfig": {"responseModalities": ["TEXT", "IMAGE"]},
        },
    }


def main() -> int:
    """Draw all, and save what was drawn."""
    parser = argparse.ArgumentParser(description="Draw a picture for each line of a file.")
    parser.add_argument("things", type=Path, help="lines of `name: what to draw`")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="gemini-3-pro-image-preview")
    arguments = parser.parse_args()

    lines = arguments.things.read_text("utf-8").splitlines()
    things = [line.partition(":") for line in lines if line.strip()]
    with Client() as client:
        job = client.jobs.submit(
            [request(name.strip(), text.strip()) for name, _, text in things],
            model=arguments.model,
            name="drawing",
        ).wait()
        arguments.folder.mkdir(parents=True, exist_ok=True)
        saved = job.save_images(f"{arguments.folder}/{{key}}_{{n}}.{{ext}}")
        bad = [result for result in job.results() if not result.images]
    print(f"{len(saved)} pictures in {arguments.folder}")
    for result in bad:
        print(f"{result.key}: {result.outcome} {result.error or result.text or ''}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
