"""Convert a file for OpenAI's batches into one for Penstock.

    python examples/from_openai.py openai.jsonl gemini.jsonl

Chat completions with text and pictures. Whatever has no meaning in both is named with its line, and
nothing is written: an option that is silently dropped changes answers. What is converted is a table
in docs/how-to/migrate-from-openai.md.
"""

# A script, which prints, and not a package.
# ruff: noqa: INP001, T201

import json
import mimetypes
import re
import sys
from pathlib import Path
from typing import Any, Final

Json = dict[str, Any]

URL: Final = "/v1/chat/completions"
ROLES: Final = {"user": "user", "assistant": "model"}
SYSTEM: Final = {"system", "developer"}
DROPPED: Final = {"model", "user", "metadata", "store", "service_tier", "messages"}
CONFIG: Final = {
    "max_tokens": "maxOutputTokens",
    "max_completion_tokens": "maxOutputTokens",
    "temperature": "temperature",
    "top_p": "topP",
    "seed": "seed",
    "n": "candidateCount",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
DATA_URL: Final = re.compile(r"data:(?P<kind>[\w/+.-]+);base64,(?P<data>.*)", re.DOTALL)


class NotConverted(Exception):
    """Something in a line has no counterpart."""


def converted(line: Json) -> Json:
    """Return one line for Penstock; raises `NotConverted` with what is in the way."""
    if line.get("url") != URL:
        raise NotConverted(f"url {line.get('url')!r} is not converted, only {URL}")
    body = line["body"]
    request: Json = {"contents": []}
    system: list[Json] = []
    for message in body["messages"]:
        role = message.get("role")
        if role in SYSTEM:
            system += parts_of(message)
        elif role in ROLES and not message.get("tool_calls"):
            request["contents"].append({"role": ROLES[role], "parts": parts_of(message)})
        else:
            raise NotConverted(f"a message of {role} with tools is not converted")
    if system:
        request["systemInstruction"] = {"parts": system}
    config = config_of(body)
    if config:
        request["generationConfig"] = config
    return {"key": line["custom_id"], "custom_id": line["custom_id"], "request": request}


def parts_of(message: Json) -> list[Json]:
    """Return the parts of one message."""
    content = message["content"]
    if isinstance(content, str):
        return [{"text": content}]
    return [part_of(part) for part in content]


def part_of(part: Json) -> Json:
    """Return one part: text or a picture."""
    if part["type"] == "text":
        return {"text": part["text"]}
    if part["type"] != "image_url":
        raise NotConverted(f"a part of type {part['type']} is not converted")
    url = part["image_url"]["url"]
    inline = DATA_URL.fullmatch(url)
    if inline:
        return {"inlineData": {"mimeType": inline["kind"], "data": inline["data"]}}
    kind = mimetypes.guess_type(url)[0]
    if kind is None:
        raise NotConverted(f"the type of {url} cannot be told from its ending")
    return {"fileData": {"mimeType": kind, "fileUri": url}}


def config_of(body: Json) -> Json:
    """Return `generationConfig`."""
    config: Json = {}
    for name, value in body.items():
        if name in DROPPED or value is None:
            continue
        if name in CONFIG:
            config[CONFIG[name]] = value
        elif name == "stop":
            config["stopSequences"] = [value] if isinstance(value, str) else value
        elif name == "response_format":
            config |= format_of(value)
        else:
            raise NotConverted(f"{name} is not converted")
    return config


def format_of(wanted: Json) -> Json:
    """Return what asks for JSON."""
    if wanted["type"] == "text":
        return {}
    config: Json = {"responseMimeType": "application/json"}
    if wanted["type"] == "json_schema":
        config["responseJsonSchema"] = wanted["json_schema"]["schema"]
    return config


def main(source: Path, target: Path) -> int:
    """Convert a file; all that cannot be converted is told before anything is written."""
    made, failed = [], 0
    for number, text in enumerate(source.read_text("utf-8").splitlines(), 1):
        if not text.strip():
            continue
        try:
            made.append(json.dumps(converted(json.loads(text)), ensure_ascii=False))
        except (NotConverted, KeyError, TypeError, ValueError) as error:
            failed += 1
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            print(f"{source}: line {number}: {reason}", file=sys.stderr)
    if failed:
        print(f"{failed} lines are not converted; nothing was written", file=sys.stderr)
        return 1
    target.write_text("".join(line + "\n" for line in made), "utf-8")
    print(f"{len(made)} requests in {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
