"""Pictures from a model to a file, through the real server, client and command line."""

import json
from pathlib import Path

import pytest
from tests.journeys.service import BASE, Json, Service, prompt

from penstock.cli.main import run
from penstock.client import Api, ImagePlace, NotFound

pytestmark = pytest.mark.slow

MODEL = "gemini-3.1-flash-image"
PNG = b"\x89PNG\r\n\x1a\n"
LINES = [
    prompt("Draw a mill. [[emulator:image=64]]", n=1),
    prompt("Draw nothing. [[emulator:fail=400]]", n=2),
    prompt("Draw a page. [[emulator:inline=text/html]]", n=3),
    prompt("Draw a drawing. [[emulator:inline=image/svg+xml]]", n=4),
]


@pytest.fixture(scope="module")
def record(service: Service) -> Json:
    """A job that has drawn."""
    return service.wait(service.submit(LINES, MODEL)["request_id"])


def test_each_picture_is_fetched_alone(service: Service, record: Json) -> None:
    """What comes is the picture of the output, and what only claims to be one does not come."""
    with Api(service.url, service.key) as client:
        places = client.images(record["request_id"])
        assert places == [ImagePlace(line=n, part=1) for n in (1, 3, 4)]
        for place in places:
            assert client.part(record["request_id"], place.line, place.part).startswith(PNG)
        assert b"<" not in client.part(record["request_id"], 1, 0)
        for line, part in ((2, 0), (3, 2), (4, 2), (1, 2), (5, 0)):
            with pytest.raises(NotFound):
                client.part(record["request_id"], line, part)


def test_the_output_with_links_is_the_output(service: Service, record: Json) -> None:
    """But for its pictures it says the same, line for line, and each link leads to its picture."""
    plain = service.output(record)
    address = f"{service.url}{BASE}/requests/{record['request_id']}/output?images=links"
    linked = [json.loads(line) for line in service.http.get(address).content.splitlines()]
    assert [line["n"] for line in linked] == [1, 2, 3, 4]
    for mine, theirs in zip(linked, plain, strict=True):
        for candidate, other in zip(
            mine["response"].get("candidates", []),
            theirs["response"].get("candidates", []),
            strict=True,
        ):
            parts, others = candidate["content"]["parts"], other["content"]["parts"]
            link = parts[1].pop("fileData")
            others[1].pop("inlineData")
            assert service.http.get(link["fileUri"]).content.startswith(PNG)
        assert mine == theirs


def test_the_command_writes_one_file_each(
    service: Service, record: Json, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`penstock images` names files by line and part, and nothing else is in the folder."""
    monkeypatch.setenv("PENSTOCK_URL", service.url)
    monkeypatch.setenv("PENSTOCK_API_KEY", service.key)
    assert run(["images", record["request_id"], "--out", str(tmp_path)]) == 0
    names = ["000001-1.png", "000003-1.png", "000004-1.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
