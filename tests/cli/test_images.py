"""`penstock images` and what it stands on in the client."""

import base64
import json
from pathlib import Path

import pytest
from tests.client.stub import BASE, KEY, Reply, Stub, error, job

from penstock.cli.main import run
from penstock.client import Api, ClientError, ImagePlace, extension_of, splitting

PNG = b"\x89PNG\r\n\x1a\n" + b"p" * 100
JPEG = b"\xff\xd8\xff" + b"j" * 100
Out = pytest.CaptureFixture[str]


def link(line: int, part: int) -> dict[str, object]:
    """A link as the server writes it."""
    uri = f"https://example.com/a/requests/req_7/lines/{line}/parts/{part}"
    return {"fileData": {"fileUri": uri, "mimeType": "image/png"}}


def answer(*parts: object) -> bytes:
    """A line of an output."""
    response = {"candidates": [{"content": {"parts": list(parts)}}]}
    return json.dumps({"status": "", "response": response}).encode() + b"\n"


OUTPUT = (
    answer({"text": "a"}, link(1, 1), link(1, 2))
    + b'{"status": "x", "response": {}}\n'
    + b'{"response": [1]}\n'
    + b'{"response": {"candidates": [{}]}}\n'
    + b'{"response": null}\n'
    + answer({"inlineData": {"data": base64.b64encode(PNG).decode()}}, link(1, 1), link(60, 2))
    + answer(link(7, 0), {"fileData": {"fileUri": 3}}).rstrip(b"\n")
)


@pytest.fixture(autouse=True)
def served(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job with three pictures, one of which turns out to be none."""
    monkeypatch.setenv("PENSTOCK_URL", stub.url)
    monkeypatch.setenv("PENSTOCK_API_KEY", KEY)
    url = f"{stub.url}/out?expires=1&signature=2"
    stub.on("GET", "/requests/req_7", job("success", url=url))
    stub.serve("/out", Reply(content=OUTPUT))
    stub.on("GET", "/requests/req_7/lines/1/parts/1", Reply(content=PNG))
    stub.on("GET", "/requests/req_7/lines/1/parts/2", Reply(content=JPEG))
    stub.on("GET", "/requests/req_7/lines/7/parts/0", Reply(content=b"<html>"))


def test_the_client_finds_the_pictures(stub: Stub) -> None:
    """Places are found by line and part; the output is asked for with links, signed as it was."""
    with Api(stub.url, KEY) as client:
        places = client.images("req_7")
        assert places == [
            ImagePlace(line=1, part=1),
            ImagePlace(line=1, part=2),
            ImagePlace(line=7, part=0),
        ]
        assert client.part("req_7", 1, 1) == PNG
    asked = [seen.path for seen in stub.seen]
    assert "/out?images=links&expires=1&signature=2" in asked
    assert f"{BASE}/requests/req_7/lines/1/parts/1" in asked
    assert not any("authorization" in seen.headers for seen in stub.seen if "/out" in seen.path)


def test_a_link_without_a_query_is_asked_for_links_too(stub: Stub) -> None:
    """Another server may have other links."""
    stub.on("GET", "/requests/req_7", job("success", url=f"{stub.url}/out"))
    with Api(stub.url, KEY) as client:
        assert len(client.images("req_7")) == 3
    assert stub.seen[-1].path == "/out?images=links"


def test_an_endless_line_is_not_held(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never ends a line is left."""
    monkeypatch.setattr(splitting, "LINE_BYTES_MAX", 100)
    stub.serve("/out", Reply(content=b"x" * 10_000))
    with Api(stub.url, KEY) as client, pytest.raises(ClientError, match="longer than 100"):
        client.images("req_7")


@pytest.mark.parametrize(
    ("data", "extension"),
    [
        (PNG, "png"),
        (JPEG, "jpg"),
        (b"GIF89a", "gif"),
        (b"RIFF1234WEBP", "webp"),
        (b"RIFF1234WAVE", None),
        (b"<svg/>", None),
        (b"", None),
    ],
)
def test_a_picture_is_named_by_its_bytes(data: bytes, extension: str | None) -> None:
    """Neither a server nor a model says what a file is called."""
    assert extension_of(data) == extension


def test_pictures_become_files(stub: Stub, tmp_path: Path, capsys: Out) -> None:
    """Each is a file named by line and part; what is no picture is told and left."""
    del stub
    folder = tmp_path / "a" / "b"
    assert run(["images", "req_7", "--out", str(folder)]) == 0
    assert {path.name for path in folder.iterdir()} == {"000001-1.png", "000001-2.jpg"}
    assert (folder / "000001-1.png").read_bytes() == PNG
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        str(folder / "000001-1.png"),
        str(folder / "000001-2.jpg"),
    ]
    assert "1 of 3 are no pictures" in shown.err


def test_nothing_is_overwritten_unless_asked(stub: Stub, tmp_path: Path, capsys: Out) -> None:
    """What is there stays, also under another type's name; --force takes its place."""
    mine = tmp_path / "000001-1.webp"
    mine.write_bytes(b"mine")
    (tmp_path / "000001-2.jpg").symlink_to(tmp_path / "nowhere")
    stub.on("GET", "/requests/req_7/lines/7/parts/0", error(404, "part_not_found", "none"))
    assert run(["images", "req_7", "--out", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"files": [], "kept": 2, "skipped": 1}
    assert mine.read_bytes() == b"mine"
    assert run(["images", "req_7", "--out", str(tmp_path), "--force"]) == 0
    assert (tmp_path / "000001-2.jpg").read_bytes() == JPEG
    assert not (tmp_path / "000001-2.jpg").is_symlink()
    assert not (tmp_path / "nowhere").exists()


def test_a_job_without_pictures_says_so(stub: Stub, tmp_path: Path, capsys: Out) -> None:
    """There is no empty folder, and a hint where to look."""
    stub.serve("/out", Reply(content=answer({"text": "a"})))
    folder = tmp_path / "none"
    assert run(["images", "req_7", "--out", str(folder)]) == 5
    assert "penstock lines req_7" in capsys.readouterr().err
    assert not folder.exists()
