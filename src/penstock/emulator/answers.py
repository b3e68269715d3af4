"""Answers that depend on (seed, model, request) only: plausible, varied, the same every time."""

import hashlib
from typing import Any, Final, NamedTuple

import orjson
import pybase64

from penstock.emulator.png import make_png
from penstock.emulator.schema_instance import make_instance, make_misfit
from penstock.emulator.timestamps import rfc3339

IMAGE_TOKENS: Final = 1120
PROMPT_IMAGE_TOKENS: Final = 258
PROMPT_OTHER_MEDIA_TOKENS: Final = 640
CANDIDATES_MAX: Final = 8
_IMAGE_SIDE_PIXELS: Final = 16
_IMAGE_SIDE_PIXELS_MAX: Final = 4096
_CHARACTERS_PER_TOKEN: Final = 4
_HOSTILE_MEDIA: Final = b"<html><script>alert(document.domain)</script></html>"
_ROLES: Final = frozenset({"user", "model", "function"})
_STATUS_OF_CODE: Final = {
    400: ("Bad Request: ", "INVALID_ARGUMENT", "Request contains an invalid argument."),
    403: ("Forbidden: ", "PERMISSION_DENIED", "The caller does not have permission."),
    401: ("Unauthorized: ", "UNAUTHENTICATED", "The request has no valid credentials."),
    404: ("Not Found: ", "NOT_FOUND", "The requested entity was not found."),
    408: ("Request Timeout: ", "DEADLINE_EXCEEDED", "The request took too long."),
    409: ("Conflict: ", "ABORTED", "The operation was aborted."),
    413: ("Payload Too Large: ", "INVALID_ARGUMENT", "The request is too large."),
    429: (
        "RESOURCE_EXHAUSTED error occurred: ",
        "RESOURCE_EXHAUSTED",
        "Resource exhausted. Please try again later.",
    ),
    499: ("Client Closed Request: ", "CANCELLED", "The operation was cancelled."),
    500: ("Internal Server Error: ", "INTERNAL", "Internal error encountered."),
    501: ("Not Implemented: ", "UNIMPLEMENTED", "The operation is not implemented."),
    503: ("Service Unavailable: ", "UNAVAILABLE", "The model is overloaded."),
    504: ("Gateway Timeout: ", "DEADLINE_EXCEEDED", "Deadline expired."),
}
_SUBJECTS: Final = (
    "The river", "A quiet machine", "Every ledger", "The old mill", "Our harbour", "The signal",
    "A careful reader", "The northern gate", "This valley", "The last train", "A copper lantern",
    "The archive", "Their neighbour", "The evening tide", "A small workshop", "The clockmaker",
)  # fmt: skip
_VERBS: Final = (
    "carries", "remembers", "measures", "answers", "follows", "divides", "repairs", "opens",
    "records", "balances", "outlasts", "explains", "gathers", "replaces", "crosses", "holds",
)  # fmt: skip
_OBJECTS: Final = (
    "more water than the maps admit", "each figure twice", "what the storm left behind",
    "two hundred letters a day", "the weight of the stone", "a promise made in spring",
    "the shortest way to the coast", "an answer nobody expected", "its own slow arithmetic",
    "the names of the first builders", "a row of amber lamps", "the question in plain words",
    "twelve doors and one key", "the difference to the penny", "a chart of the lower locks",
    "the same song in a lower key",
)  # fmt: skip
_ENDINGS: Final = (
    ".", " before noon.", " without a sound.", ", year after year.", ", and so do we.",
    " in the end.", ", naïve as that seems.", " again.",
)  # fmt: skip

Json = dict[str, Any]


class Outcome(NamedTuple):
    """One row's result: `status` is empty on success, otherwise it is what the row states."""

    status: str
    response: Json


class Usage(NamedTuple):
    """Tokens of one answer."""

    prompt: int
    candidates: int
    thoughts: int


class Answerer:
    """Answers requests for one model of one job."""

    def __init__(self, *, model: str, seed: int) -> None:
        self.model = model.rsplit("/", 1)[-1]
        self._salt = f"{seed}|{self.model}|".encode()
        self._draws = "image" in self.model
        self._thinks = self.model.startswith("gemini-3") and not self._draws

    def answer(self, request: object, directives: dict[str, str], at_us: int) -> Outcome:
        """The outcome for one request; `at_us` only goes into `createTime`."""
        refusal = self._refusal(request, directives)
        if refusal is not None or not isinstance(request, dict):
            return refusal or _failed(400, "Request must be an object.")
        canonical = orjson.dumps(request, option=orjson.OPT_SORT_KEYS)
        digest = hashlib.sha256(self._salt + canonical).digest()
        config = _member(request, "generationConfig", "generation_config")
        config = config if isinstance(config, dict) else {}
        details = _prompt_tokens(request)
        prompt = sum(details.values())
        if "error-response" in directives:
            return Outcome("", _error(directives["error-response"]))
        if "block" in directives:
            response = _blocked(directives["block"] or "SAFETY")
            usage = Usage(prompt, 0, 0)
        elif "stop" in directives or "empty" in directives:
            response = _stopped(directives)
            usage = Usage(prompt, 0, 0)
        else:
            response, usage = self._candidates(config, directives, digest, prompt)
        response["usageMetadata"] = self._usage(usage, details, drawn=self._draws)
        response["modelVersion"] = self.model
        response["createTime"] = rfc3339(at_us)
        response["responseId"] = pybase64.urlsafe_b64encode(digest[:16]).decode().rstrip("=")
        return Outcome("", response)

    def _refusal(self, request: object, directives: dict[str, str]) -> Outcome | None:
        if directives.get("status"):
            return Outcome(directives["status"], {})
        if "fail" in directives:
            code = directives["fail"]
            return _failed(int(code) if code.isdigit() else 500)
        contents = request.get("contents") if isinstance(request, dict) else None
        if not contents or not isinstance(contents, list | dict):
            return _failed(400, "at least one contents field is required")
        for content in contents if isinstance(contents, list) else [contents]:
            role = content.get("role", "user") if isinstance(content, dict) else None
            if role not in _ROLES:
                return _failed(400, "Please use a valid role: user, model.")
            if not isinstance(content.get("parts"), list | dict):
                return _failed(400, "Unable to submit request because it must have a parts field.")
        if self._draws and _image_size(request) not in {None, "1K", "512"}:
            return _failed(400, "Only image size 1K is supported in batch prediction.")
        return None

    def _candidates(
        self, config: Json, directives: dict[str, str], digest: bytes, prompt: int
    ) -> tuple[Json, Usage]:
        thoughts = self._thought_tokens(config, digest)
        budget = _whole(_member(config, "maxOutputTokens", "max_output_tokens"))
        if budget is not None:
            thoughts = min(thoughts, budget // 2)
        count = _whole(_member(config, "candidateCount", "candidate_count")) or 1
        candidates: list[Json] = []
        spent = 0
        for number in range(min(count, CANDIDATES_MAX)):
            key = digest if number == 0 else hashlib.sha256(digest + bytes([number])).digest()
            text = _ordered_text(config, key, directives)
            allowed = None if budget is None else max(0, budget - thoughts)
            if "truncate" in directives:
                allowed = _tokens(text) // 2
            reason = "STOP"
            if allowed is not None and allowed < _tokens(text):
                text, reason = text[: allowed * _CHARACTERS_PER_TOKEN], "MAX_TOKENS"
            spent += _tokens(text)
            candidates.append(self._candidate(text, reason, key, number, directives))
        if self._draws:
            spent += IMAGE_TOKENS * len(candidates)
        return {"candidates": candidates}, Usage(prompt, spent, thoughts)

    def _candidate(
        self, text: str, reason: str, digest: bytes, number: int, directives: dict[str, str]
    ) -> Json:
        parts: list[Json] = [{"text": text}] if text else []
        if self._draws:
            wanted = directives.get("image", "")
            side = int(wanted) if wanted.isdigit() else _IMAGE_SIDE_PIXELS
            image = make_png(min(side, _IMAGE_SIDE_PIXELS_MAX), int.from_bytes(digest[:8]))
            data = pybase64.b64encode(image).decode()
            parts.append({"inlineData": {"data": data, "mimeType": "image/png"}})
        if "inline" in directives:
            data = pybase64.b64encode(_HOSTILE_MEDIA).decode()
            parts.append({"inlineData": {"data": data, "mimeType": directives["inline"]}})
        content: Json = {"role": "model"}
        if parts:
            content["parts"] = parts
        candidate: Json = {
            "avgLogprobs": -int.from_bytes(digest[8:10]) / 65536,
            "content": content,
            "finishReason": reason,
        }
        if number:
            candidate["index"] = number
        return candidate

    def _thought_tokens(self, config: Json, digest: bytes) -> int:
        if not self._thinks:
            return 0
        thinking = _member(config, "thinkingConfig", "thinking_config")
        if isinstance(thinking, dict):
            if _whole(_member(thinking, "thinkingBudget", "thinking_budget")) == 0:
                return 0
            level = str(_member(thinking, "thinkingLevel", "thinking_level")).lower()
            if level in {"low", "minimal"}:
                return 16 + digest[10] // 4
        return 64 + digest[10] * 2

    def _usage(self, usage: Usage, details: dict[str, int], *, drawn: bool) -> Json:
        made: Json = {
            "promptTokenCount": usage.prompt,
            "totalTokenCount": usage.prompt + usage.candidates + usage.thoughts,
            "trafficType": "ON_DEMAND",
            "promptTokensDetails": _by_modality(details),
        }
        if usage.candidates:
            made["candidatesTokenCount"] = usage.candidates
            images = usage.candidates // IMAGE_TOKENS * IMAGE_TOKENS if drawn else 0
            made["candidatesTokensDetails"] = _by_modality(
                {"TEXT": usage.candidates - images, "IMAGE": images}
            )
        if usage.thoughts:
            made["thoughtsTokenCount"] = usage.thoughts
        return made


def _failed(code: int, message: str | None = None) -> Outcome:
    prefix, status, usual = _STATUS_OF_CODE.get(
        code, (f"Error {code}: ", "UNKNOWN", "Unknown error.")
    )
    error = {"error": {"code": code, "message": message or usual, "status": status}}
    return Outcome(prefix + orjson.dumps(error).decode(), {})


def _error(code: str) -> Json:
    """An error in the place of the answer, in the envelope of a success."""
    text = _failed(int(code) if code.isdigit() else 500).status
    error: Json = orjson.loads(text[text.index("{") :])
    return error


def _blocked(reason: str) -> Json:
    return {
        "promptFeedback": {
            "blockReason": reason,
            "blockReasonMessage": "The prompt could not be submitted.",
        }
    }


def _stopped(directives: dict[str, str]) -> Json:
    if "stop" in directives:
        return {"candidates": [{"finishReason": directives["stop"] or "RECITATION"}]}
    return {"candidates": [{"content": {"role": "model"}, "finishReason": "STOP"}]}


def _ordered_text(config: Json, digest: bytes, directives: dict[str, str]) -> str:
    """The text of an answer; a directive may say it, or have it break what the request asks for."""
    if "reply" in directives:
        return directives["reply"]
    if "invalid-output" in directives:
        schema = _schema(config)
        if isinstance(schema, dict):
            misfit = make_misfit(schema, int.from_bytes(digest[:8]))
            if misfit is not None:
                return orjson.dumps(misfit).decode()
    text = _text(config, digest)
    if "invalid-output" in directives or "not-json" in directives:
        return f"Here is the JSON that you asked for:\n```json\n{text}\n```"
    return text


def _schema(config: Json) -> object:
    schema = _member(config, "responseSchema", "response_schema")
    if schema is None:
        schema = _member(config, "responseJsonSchema", "response_json_schema")
    return schema


def _text(config: Json, digest: bytes) -> str:
    """Prose of two to nine sentences, or a JSON text where the request asks for one."""
    schema = _schema(config)
    mime = _member(config, "responseMimeType", "response_mime_type")
    if isinstance(schema, dict):
        instance = make_instance(schema, int.from_bytes(digest[:8]))
        if mime == "text/x.enum":
            return str(instance)
        return orjson.dumps(instance).decode()
    sentences = " ".join(
        _SUBJECTS[digest[i] % 16]
        + " "
        + _VERBS[digest[i] // 16]
        + " "
        + _OBJECTS[digest[i + 1] % 16]
        + _ENDINGS[digest[i + 1] // 32]
        for i in range(12, 16 + digest[11] % 8 * 2, 2)
    )
    if mime == "application/json":
        return orjson.dumps({"answer": sentences}).decode()
    return sentences


def _prompt_tokens(request: Json) -> dict[str, int]:
    """Tokens by modality; four characters make one token, media cost a flat sum."""
    details = {"TEXT": 0}
    contents = request.get("contents")
    system = _member(request, "systemInstruction", "system_instruction")
    for content in [*(contents if isinstance(contents, list) else [contents]), system]:
        parts = content.get("parts") if isinstance(content, dict) else None
        for part in parts if isinstance(parts, list) else [parts]:
            if isinstance(part, dict):
                modality, tokens = _part_tokens(part)
                details[modality] = details.get(modality, 0) + tokens
    tools = request.get("tools")
    if tools:
        details["TEXT"] += len(orjson.dumps(tools)) // _CHARACTERS_PER_TOKEN
    return details


def _part_tokens(part: Json) -> tuple[str, int]:
    text = part.get("text")
    if isinstance(text, str):
        return "TEXT", _tokens(text)
    media = _member(part, "inlineData", "inline_data") or _member(part, "fileData", "file_data")
    if not isinstance(media, dict):
        return "TEXT", len(orjson.dumps(part)) // _CHARACTERS_PER_TOKEN
    kind = str(_member(media, "mimeType", "mime_type")).partition("/")[0].upper()
    if kind == "IMAGE":
        return kind, PROMPT_IMAGE_TOKENS
    return kind if kind in {"AUDIO", "VIDEO"} else "DOCUMENT", PROMPT_OTHER_MEDIA_TOKENS


def _tokens(text: str) -> int:
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def _by_modality(tokens: dict[str, int]) -> list[Json]:
    return [{"modality": name, "tokenCount": count} for name, count in tokens.items() if count]


def _image_size(request: object) -> object:
    config = _member(request, "generationConfig", "generation_config")
    image = _member(config, "imageConfig", "image_config")
    return _member(image, "imageSize", "image_size")


def _member(value: object, camel: str, snake: str) -> object:
    """A member under either spelling; None if there is neither."""
    if not isinstance(value, dict):
        return None
    return value.get(camel, value.get(snake))


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
