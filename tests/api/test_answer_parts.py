"""Parts of answers: what their bytes say they are, and links in the place of pictures."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.api.answer_parts import PictureLinks, part_of, picture_type
from penstock.errors import NotFound

Json = dict[str, Any]
PNG = b"\x89PNG\r\n\x1a\n" + b"pixels" * 9
JPEG = b"\xff\xd8\xff\xe0" + b"pixels" * 9
GIF = b"GIF89a" + b"pixels" * 9
WEBP = b"RIFF\x10\x00\x00\x00WEBPVP8 " + b"pixels" * 9
SVG = b"<svg onload='alert(1)' xmlns='http://www.w3.org/2000/svg'/>"
HTML = b"<html><script>alert(1)</script></html>"


def media(data: bytes, mime: str = "image/png") -> Json:
    """A part with media, whatever its type claims."""
    return {"inlineData": {"mimeType": mime, "data": base64.b64encode(data).decode()}}


def line(*parts: object, **more: Any) -> bytes:  # noqa: ANN401 - JSON goes as it is
    """A line of an output whose answer has these parts."""
    response = {"candidates": [{"content": {"role": "model", "parts": list(parts)}}], **more}
    request = {"contents": [{"parts": [media(PNG)]}]}
    members = {"status": "", "key": "é\\", "request": request, "response": response}
    return json.dumps(members).encode() + b"\n"


def linked(output: bytes, step: int = 10**9, line_bytes_max: int = 10**9) -> bytes:
    """The output with links, fed in blocks of so many bytes."""
    links = PictureLinks(lambda number, part: f"/lines/{number}/parts/{part}", line_bytes_max)
    blocks = [output[at : at + step] for at in range(0, len(output), step)]
    return b"".join([*map(links.feed, blocks), links.finish()])


def refusal(data: bytes, number: int = 0) -> str:
    """Why there is no such part."""
    with pytest.raises(NotFound) as refused:
        part_of(data, number)
    assert refused.value.error_code == "part_not_found"
    return refused.value.message


# -- one part ------------------------------------------------------------------------------------


@pytest.mark.parametrize("claim", ["image/png", "image/svg+xml", "text/html", ""])
@pytest.mark.parametrize(
    ("data", "kind"), [(PNG, "png"), (JPEG, "jpeg"), (GIF, "gif"), (WEBP, "webp")]
)
def test_a_picture_is_what_its_bytes_say(data: bytes, kind: str, claim: str) -> None:
    """The type comes from the bytes, never from what the model says of them."""
    part = part_of(line({"text": "here"}, media(data, claim)), 1)
    assert (part.data, part.media_type, part.extension) == (data, f"image/{kind}", kind)


def test_a_text_is_plain_text() -> None:
    """A text with markup is sent as the text it is."""
    part = part_of(line({"text": "<script>é</script>"}), 0)
    assert part.media_type == "text/plain; charset=utf-8"
    assert (part.data.decode(), part.extension) == ("<script>é</script>", "txt")


@pytest.mark.parametrize(
    "data", [SVG, HTML, b"", b"RIFF\x10\x00\x00\x00WAVEfmt ", b"BM", b"GIF88a"]
)
def test_anything_else_is_not_shown(data: bytes) -> None:
    """A page, a drawing with scripts, sound and nothing are refused, whatever they claim to be."""
    assert "no picture" in refusal(line(media(data)))


@pytest.mark.parametrize("data", ["iVBOR w0K", "iVBOR", "é", "iVBORw0KGgo=x"])
def test_what_is_no_base64_is_not_shown(data: str) -> None:
    """Half of an encoding is no picture."""
    assert "no picture" in refusal(line({"inlineData": {"data": data}}))


@pytest.mark.parametrize(
    "part", [{}, {"functionCall": {"name": "f"}}, {"inlineData": None}, {"inlineData": {"data": 3}}]
)
def test_a_part_without_content_is_not_there(part: Json) -> None:
    """Neither text nor media is nothing to send."""
    assert "neither" in refusal(line(part))


@pytest.mark.parametrize(
    "data",
    [
        b'{"response":{}}',
        b'{"status":"x"}',
        b'{"response":null}',
        b'{"response":{"candidates":[]}}',
        b'{"response":{"candidates":[{}]}}',
        line(),
    ],
)
def test_a_line_without_an_answer_has_no_parts(data: bytes) -> None:
    """A failed line says that it has no parts."""
    assert "no answer" in refusal(data)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"\xff", b'{"response":[]}', line(3), b'{"response":' + b"[" * 9_999]
)
def test_a_strange_line_has_no_parts(data: bytes) -> None:
    """A row of another shape is refused and crashes nothing."""
    assert "shape" in refusal(data)


def test_a_part_too_far_is_not_there() -> None:
    """The refusal says which parts there are."""
    with pytest.raises(NotFound) as refused:
        part_of(line({"text": "a"}, {"text": "b"}), 2)
    assert refused.value.hint == "Its parts are 0 to 1."


@given(st.binary(max_size=30))
def test_only_pictures_are_pictures(data: bytes) -> None:
    """Nothing that begins as a page or a drawing is ever called a picture."""
    assert picture_type(b"<" + data) is None
    assert picture_type(b" " + data) is None


# -- links ---------------------------------------------------------------------------------------


def test_pictures_become_links() -> None:
    """Each picture of the answer is a link to its part; texts, other media and requests stay."""
    parts = [{"text": "a"}, {**media(PNG, "x/y"), "thought": False}, media(HTML), media(JPEG)]
    output = line(*parts) + line({"text": "no picture"}) + line(media(GIF))
    made = [json.loads(each) for each in linked(output).splitlines()]
    before = [json.loads(each) for each in output.splitlines()]
    answers = [each["response"]["candidates"][0]["content"]["parts"] for each in made]
    assert answers[0] == [
        {"text": "a"},
        {"fileData": {"fileUri": "/lines/1/parts/1", "mimeType": "image/png"}, "thought": False},
        media(HTML),
        {"fileData": {"fileUri": "/lines/1/parts/3", "mimeType": "image/jpeg"}},
    ]
    assert answers[2][0]["fileData"]["fileUri"] == "/lines/3/parts/0"
    assert [each["request"] for each in made] == [each["request"] for each in before]
    assert made[1] == before[1]


def test_a_line_without_pictures_is_not_touched() -> None:
    """Its bytes are the same, blanks included."""
    lines = [line({"text": "a"}), line(media(HTML)), line(media(PNG) | {"text": "both"})]
    failed = b'{ "status": "x", "request": {"inlineData": 1}, "response": {} }\n'
    assert linked(b"".join(lines) + failed) == b"".join(lines) + failed


@pytest.mark.parametrize(
    "odd",
    [
        b'{"inlineData"\n',
        b'["inlineData"]\n',
        b'{"inlineData":1}\n',
        b'{"response":{"candidates":[{"content":{"parts":[{"inlineData":3}]}}]}}\n',
        b'{"response":{"candidates":[{"content":{"parts":[{"inlineData":{"data":3}}]}}]}}\n',
        b'{"response":{"candidates":[{"content":{"parts":[{"inlineData":{"data":"!"}}]}}]}}\n',
        b'{"inlineData":' + b"[" * 9_999 + b"\n",
        b'\xff"inlineData"\n',
    ],
)
def test_odd_lines_go_by(odd: bytes) -> None:
    """What is no answer with pictures stays as it is, and the next line keeps its number."""
    assert linked(odd) == odd
    assert b"/lines/2/parts/0" in linked(odd + line(media(PNG)))


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(0, 3), st.sampled_from([b"", b"\n"]))
def test_blocks_of_any_size_give_the_same(step: int, count: int, end: bytes) -> None:
    """However the output is cut on its way, the lines are the same, also one without an end."""
    output = line(media(PNG)) * count + line({"text": "last"}).rstrip(b"\n") + end
    assert linked(output, step) == linked(output)


@settings(deadline=None)
@given(st.integers(1, 4_000))
def test_a_line_that_is_too_long_goes_by(step: int) -> None:
    """It is never held whole, stays as it is, and those around it have their links."""
    long = line({"text": "x" * 3_000}, media(PNG))
    output = line(media(PNG)) + long + line(media(JPEG))
    made = linked(output, step, 1_000).splitlines(keepends=True)
    assert made[1] == long
    assert b"/lines/1/parts/0" in made[0]
    assert b"/lines/3/parts/0" in made[2]


def test_no_more_than_a_line_is_held() -> None:
    """Of a line beyond the bound nothing is kept back."""
    links = PictureLinks(lambda number, part: f"{number}/{part}", 100)
    assert links.feed(b"x" * 100) == b""
    assert links.feed(b"x") == b"x" * 101
    assert links.feed(b"y" * 500) == b"y" * 500
