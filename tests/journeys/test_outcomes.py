"""Every outcome that a provider can give a line, with its code, through the real pair."""

import pytest
from tests.journeys.service import BASE, Json, Service

pytestmark = pytest.mark.slow

SCHEMA = {
    "type": "OBJECT",
    "properties": {"stars": {"type": "INTEGER"}, "words": {"type": "STRING", "nullable": True}},
    "required": ["stars"],
}
JSON_SCHEMA = {"type": "object", "properties": {"a": {"type": "array"}}, "required": ["a"]}


def line(text: str, **config: object) -> Json:
    """A request with a generationConfig; nothing is sent again."""
    request: Json = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
    return {"request": {**request, "generationConfig": config} if config else request}


KINDS: tuple[tuple[Json, str, str, bool], ...] = (
    (line("Say a."), "ok", "", False),
    (line("Say b.", responseSchema=SCHEMA), "ok", "", False),
    (line("Say c.", response_json_schema=JSON_SCHEMA), "ok", "", False),
    (line("[[emulator:truncate]] d"), "truncated", "MAX_TOKENS", False),
    (line("[[emulator:stop=SAFETY]] e"), "blocked", "SAFETY", False),
    (line("[[emulator:stop=RECITATION]] f"), "blocked", "RECITATION", False),
    (line("[[emulator:block=PROHIBITED_CONTENT]] g"), "blocked", "PROHIBITED_CONTENT", False),
    (line("[[emulator:empty]] h"), "empty", "no_content", True),
    (line("[[emulator:stop=OTHER]] i"), "empty", "OTHER", True),
    (
        line("[[emulator:invalid-output]] j", responseSchema=SCHEMA),
        *("invalid_output", "schema_mismatch", True),
    ),
    (
        line("[[emulator:invalid-output]] k", responseJsonSchema=JSON_SCHEMA),
        *("invalid_output", "schema_mismatch", True),
    ),
    (
        line("[[emulator:not-json]] l", responseMimeType="application/json"),
        *("invalid_output", "not_json", True),
    ),
    (line("[[emulator:fail=400]] m"), "error", "400", False),
    (line("[[emulator:fail=503]] n"), "error", "503", True),
    (line("[[emulator:status=nobody knows]] o"), "error", "other", True),
    (line("[[emulator:error-response=429]] p"), "error", "429", True),
    (line("[[emulator:bad-usage]] q"), "error", "corrupt_row", True),
    (line("[[emulator:missing]] r"), "missing", "missing_row", True),
)


@pytest.fixture(scope="module")
def record(service: Service) -> Json:
    """A job with every outcome in it, each line of it sent as often as the policy says."""
    return service.wait(service.submit([kind[0] for kind in KINDS])["request_id"])


def test_every_line_has_its_outcome(service: Service, record: Json) -> None:
    """Outcome, code and whether another try may help are what the directive makes of the line."""
    address = f"{service.url}{BASE}/requests/{record['request_id']}/lines"
    lines = service.http.get(address).json()["lines"]
    found = [(one["outcome"], one["code"], one["retryable"]) for one in lines]
    assert found == [kind[1:] for kind in KINDS]


def test_every_kind_has_a_hint(service: Service, record: Json) -> None:
    """What did not go well comes with a sentence what to do."""
    address = f"{service.url}{BASE}/requests/{record['request_id']}/lines/groups"
    for group in service.http.get(address).json()["groups"]:
        assert bool(group["hint"]) == (group["outcome"] != "ok")


def test_the_output_keeps_its_shape(service: Service, record: Json) -> None:
    """Each line has a status and a response; an answer that was judged wrong is still there."""
    output = service.output(record)
    assert len(output) == len(KINDS)
    for one, (_, outcome, _, _) in zip(output, KINDS, strict=True):
        assert bool(one["status"]) == (outcome in {"error", "missing"})
        if outcome == "invalid_output":
            assert one["response"]["candidates"]
