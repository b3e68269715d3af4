import base64
import dataclasses
from collections.abc import Mapping
from typing import TypedDict

import msgspec
import pydantic
import pytest
from tests.client.kinds import Connect, Pauses
from tests.client.outputs import FILE, JOB, Output, answered, failed, verdict
from tests.client.stub import Reply, Stub, error, in_ranges, job

from penstock.client import (
    ClientError,
    ConnectionFailed,
    DigestMismatch,
    LineError,
    OutputChanged,
    OutputNotReady,
    ParseFailed,
    Result,
    splitting,
)
from penstock.client.results import Verdict
from penstock.client.splitting import Splitter

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)
RATE = 'Too Many Requests: {"error": {"code": 429, "message": "Resource exhausted."}}'


@pytest.fixture
def output(stub: Stub) -> Output:
    """A job of five lines, of which two did not end well."""
    lines = [
        answered("one", "a"),
        failed(RATE, "b"),
        answered("three"),
        answered("cut", "d", reason="MAX_TOKENS"),
        answered("five\nlines", "e"),
    ]
    verdicts = [
        verdict(2, "error", code="429", retryable=True, hint="send it again"),
        verdict(4, "truncated", code="MAX_TOKENS"),
    ]
    return Output(stub, lines, verdicts)


def one(line: Mapping[str, object], said: Verdict | None = None) -> Result[str]:
    """Return a result for a line of the output."""
    return Result(msgspec.json.encode(line), said, 7, str)


def test_results_come_in_order(connect: Connect, output: Output) -> None:
    """Each line has its number, key, outcome and text; the output is read once."""
    with connect.client(output.stub.url) as client:
        results = list(client.jobs.get(JOB).results())
    assert [(each.line, each.key, each.outcome, each.text) for each in results] == [
        (1, "a", "ok", "one"),
        (2, "b", "error", ""),
        (3, None, "ok", "three"),
        (4, "d", "truncated", "cut"),
        (5, "e", "ok", "five\nlines"),
    ]
    assert [each.ok for each in results] == [True, False, True, False, True]
    assert results[1].error == LineError(
        code="429", message="Resource exhausted.", hint="send it again", retryable=True
    )
    assert results[3].error is not None
    assert "output limit" in results[3].error.message
    assert results[0].error is None
    assert (results[0].usage.prompt_tokens, results[0].usage.output_tokens) == (3, 5)
    assert (results[3].finish_reason, results[1].finish_reason) == ("MAX_TOKENS", None)
    assert results[0].request == {"contents": [{"parts": [{"text": "ask"}]}]}
    assert msgspec.json.decode(results[4].raw) == output.lines[4]
    assert len(output.fetches()) == 1
    assert "authorization" not in output.fetches()[0].headers


def test_each_iteration_begins_anew(connect: Connect, output: Output) -> None:
    """Results can be read twice, and left in the middle."""
    with connect.client(output.stub.url) as client:
        results = client.jobs.get(JOB).results()
        for result in results:
            assert result.line == 1
            break
        assert len(list(results)) == 5
    assert "req_7" in repr(results)


def test_only_some_outcomes(connect: Connect, output: Output) -> None:
    """Without good lines among them the output is not read; with them it is filtered."""
    with connect.client(output.stub.url) as client:
        handle = client.jobs.get(JOB)
        found = list(handle.results("error"))
        assert [(each.line, each.key, each.outcome) for each in found] == [(2, "b", "error")]
        several = list(handle.results(["truncated", "error"]))
        assert [each.line for each in several] == [2, 4]
        assert not output.fetches()
        good = list(handle.results(["ok", "truncated"]))
    assert [each.line for each in good] == [1, 3, 4, 5]
    assert len(output.fetches()) == 1


def test_a_line_that_is_too_large_for_a_page(connect: Connect, stub: Stub, output: Output) -> None:
    """It is asked for alone."""
    output.verdicts[0]["large"] = True
    whole = {**verdict(2, "error"), "output": output.lines[1]}
    stub.on("GET", f"/requests/{JOB}/lines/2", Reply(content=msgspec.json.encode(whole)))
    with connect.client(stub.url) as client:
        (found,) = client.jobs.get(JOB).results("error")
    assert (found.key, str(found.error)) == ("b", "429: Resource exhausted.")


def test_an_output_without_an_index(connect: Connect, output: Output) -> None:
    """Of an older server's output a line with a status has failed, and the others are good."""
    output.without_index()
    with connect.client(output.stub.url) as client:
        handle = client.jobs.get(JOB)
        assert [each.outcome for each in handle.results()] == ["ok", "error", "ok", "ok", "ok"]
        assert [each.line for each in handle.results("error")] == [2]


def test_a_server_that_does_not_count_outcomes(connect: Connect, output: Output) -> None:
    """Whether it has verdicts is asked for once."""
    output.stats = {"total_count": 5}
    output.say("success")
    with connect.client(output.stub.url) as client:
        found = [each.outcome for each in client.jobs.get(JOB).results()]
    assert found == ["ok", "error", "ok", "truncated", "ok"]
    assert output.questions()[0] == "outcome=ok&limit=1"


def test_a_cut_is_resumed(connect: Connect, output: Output, pauses: Pauses) -> None:
    """The rest is asked for by range, each line is given once, and the hash is of all bytes."""
    cut = output.ranged(cut=300)
    output.stub.serve(FILE, cut, cut, output.ranged())
    with connect.client(output.stub.url, sleep=pauses) as client:
        results = list(client.jobs.get(JOB).results())
    assert [each.line for each in results] == [1, 2, 3, 4, 5]
    ranges = [seen.headers.get("range") for seen in output.fetches()]
    assert ranges == [None, "bytes=300-", "bytes=600-"]
    assert {seen.headers.get("if-range") for seen in output.fetches()[1:]} == {output.tag}
    assert pauses.slept == [0.5, 0.5]


def test_a_cut_at_the_very_end(connect: Connect, output: Output) -> None:
    """When only the end of the answer was lost, 416 says that all bytes are here."""
    more = Reply(200, output.content + b"x", {"ETag": output.tag}, len(output.content))
    output.stub.serve(FILE, more, output.ranged())
    with connect.client(output.stub.url) as client:
        assert len(list(client.jobs.get(JOB).results())) == 5
    assert len(output.fetches()) == 2


def test_a_server_without_ranges(connect: Connect, output: Output) -> None:
    """What has come already is passed over when the same output begins anew."""
    whole = Reply(200, output.content, {"ETag": output.tag})
    output.stub.serve(FILE, output.ranged(cut=300), whole)
    with connect.client(output.stub.url) as client:
        assert [each.line for each in client.jobs.get(JOB).results()] == [1, 2, 3, 4, 5]


def test_something_alters_ranges(connect: Connect, output: Output) -> None:
    """A range that does not go on is not taken, and the whole is asked for instead."""
    wrong = Reply(206, b"{}\n", {"ETag": output.tag, "Content-Range": "bytes 5-7/8"})
    output.stub.serve(FILE, output.ranged(cut=300), wrong, output.ranged())
    with connect.client(output.stub.url) as client:
        assert len(list(client.jobs.get(JOB).results())) == 5
    assert [seen.headers.get("range") for seen in output.fetches()] == [None, "bytes=300-", None]


def test_another_output_after_a_cut(connect: Connect, output: Output) -> None:
    """Lines that were given cannot be taken back, so it is an error that the output changed."""
    other = in_ranges(output.content, '"sha256-' + "0" * 64 + '"')
    output.stub.serve(FILE, output.ranged(cut=300), other)
    with connect.client(output.stub.url) as client, pytest.raises(OutputChanged, match="replaced"):
        list(client.jobs.get(JOB).results())


@pytest.mark.parametrize("tag", ["", 'W/"weak"'])
def test_a_cut_without_a_strong_tag(connect: Connect, output: Output, tag: str) -> None:
    """Nothing promises the same bytes, so nothing is put together from two answers."""
    output.stub.serve(FILE, Reply(200, output.content, {"ETag": tag} if tag else {}, 300))
    with connect.client(output.stub.url) as client, pytest.raises(ConnectionFailed):
        list(client.jobs.get(JOB).results())
    assert len(output.fetches()) == 1


def test_wrong_bytes(connect: Connect, output: Output) -> None:
    """The hash is compared before the last line is given, so nobody has all lines of them."""
    wrong = output.content.replace(b"one", b"One")
    output.stub.serve(FILE, Reply(200, wrong, {"ETag": output.tag}))
    given: list[int] = []
    with connect.client(output.stub.url) as client, pytest.raises(DigestMismatch) as caught:
        given.extend(each.line for each in client.jobs.get(JOB).results())
    assert given == [1, 2, 3, 4]
    assert caught.value.part is None


def test_the_file_goes_away(connect: Connect, output: Output, pauses: Pauses) -> None:
    """After five failures in a row without a byte more the last one is told."""
    away = error(503, "busy", "too many downloads")
    output.stub.serve(FILE, output.ranged(cut=300), away)
    with (
        connect.client(output.stub.url, sleep=pauses) as client,
        pytest.raises(ClientError, match="too many downloads"),
    ):
        list(client.jobs.get(JOB).results())
    assert pauses.slept == [0.5, 1.0, 2.0, 4.0]


def test_there_is_no_output(connect: Connect, stub: Stub) -> None:
    """A job that runs says so when its results are read, not before."""
    stub.on("GET", f"/requests/{JOB}", job("processing"))
    with connect.client(stub.url) as client:
        results = client.jobs.get(JOB).results()
        with pytest.raises(OutputNotReady, match="not ready"):
            list(results)


def test_an_output_of_somebody_else(connect: Connect, stub: Stub, output: Output) -> None:
    """What is no JSON is said with its line."""
    output.stub.serve(FILE, Reply(content=b"<html>\n</html>\n"))
    with (
        connect.client(stub.url) as client,
        pytest.raises(ClientError, match="line 1 of the output"),
    ):
        list(client.jobs.get(JOB).results())


def test_lines_are_put_together() -> None:
    """However the bytes come, lines are the same; the last one may have no end."""
    splitter = Splitter()
    found = [line for piece in (b"a", b"b\nc\n", b"\nd", b"e") for line in splitter.feed(piece)]
    assert [*found, *splitter.rest(), *splitter.rest()] == [b"ab", b"c", b"", b"de"]


def test_an_endless_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """What never ends is not held."""
    monkeypatch.setattr(splitting, "LINE_BYTES_MAX", 10)
    with pytest.raises(ClientError, match="longer than 10 bytes"):
        list(Splitter().feed(b"x" * 11))


class Model(pydantic.BaseModel):
    n: int


@dataclasses.dataclass
class Data:
    n: int


class Struct(msgspec.Struct):
    n: int


class Typed(TypedDict):
    n: int


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Model, Model(n=3)),
        (Data, Data(n=3)),
        (Struct, Struct(n=3)),
        (Typed, {"n": 3}),
        (dict[str, int], {"n": 3}),
        (dict, {"n": 3}),
        (str, '{"n": 3}'),
    ],
)
def test_parsed(kind: type[object], value: object) -> None:
    """An answer becomes whichever kind of type was asked for."""
    assert one(answered('{"n": 3}')).parsed(kind) == value


@pytest.mark.parametrize("kind", [Model, Data, Struct, Typed, dict[str, int], list])
def test_not_of_the_type(kind: type[object]) -> None:
    """What does not fit is an error of ours with line, key and a hint."""
    with pytest.raises(ParseFailed, match=r"line 7 \(k\): the answer is no") as caught:
        one(answered('{"n": "three"}', "k")).parsed(kind)
    assert (caught.value.line, caught.value.key, caught.value.code) == (7, "k", "parse_failed")
    assert caught.value.hint


def test_nothing_to_parse() -> None:
    """A failed line says why it has no answer."""
    said = Verdict(line=7, outcome="error", code="429", hint="send it again")
    with pytest.raises(ParseFailed, match="no answer to parse: 429: Resource exhausted") as caught:
        one(failed(RATE), said).parsed(Struct)
    assert caught.value.hint == "send it again"
    with pytest.raises(ParseFailed, match="no answer to parse"):
        _ = one(failed("")).value


def test_the_value(connect: Connect, output: Output) -> None:
    """It is the text, or the type that results were asked for."""
    output.content = msgspec.json.encode(answered('{"n": 3}')) + b"\n"
    output.stub.serve(FILE, Reply(content=output.content))
    with connect.client(output.stub.url) as client:
        handle = client.jobs.get(JOB)
        assert [each.value for each in handle.results()] == ['{"n": 3}']
        assert [each.value.n for each in handle.results(type=Struct)] == [3]


def test_thoughts_are_no_text() -> None:
    """What the model thought is not its answer."""
    thought = {"text": "hmm", "thought": True}
    assert one(answered("yes", more=[thought, {"text": "!"}, {"text": 3}, "x"])).text == "yes!"


def test_pictures() -> None:
    """Media have their bytes, links their address, and what is no base64 is an error."""
    inline = {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(PNG).decode()}}
    sound = {"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}}
    link = {"fileData": {"mimeType": "image/png", "fileUri": "http://x/lines/7/parts/3"}}
    found = one(answered("", more=[inline, sound, link, {"inlineData": {"data": 3}}])).images
    assert [(image.part, image.extension, image.uri) for image in found] == [
        (1, "png", None),
        (2, None, None),
        (3, None, "http://x/lines/7/parts/3"),
    ]
    assert found[0].data == PNG
    assert "16 bytes" in repr(found[0])
    assert "http://x" in repr(found[2])
    with pytest.raises(ParseFailed, match="part 1 is no base64"):
        _ = one(answered("", more=[{"inlineData": {"data": "?"}}])).images


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (RATE, "Resource exhausted."),
        ("Gone away.", "Gone away."),
        ('Odd: {"error": {"message": ""}}', "Odd:"),
        ('{"other": 1}', '{"other": 1}'),
        ("Odd {brace", "Odd {brace"),
        ({"code": 3}, '{"code":3}'),
    ],
)
def test_what_a_failed_line_says(status: object, message: str) -> None:
    """The message is the provider's own, out of whichever shape it comes in."""
    said = Verdict(line=7, outcome="error", code="429")
    failure = one({"status": status, "response": {}}, said).error
    assert failure is not None
    assert failure.message == message


def test_an_outcome_of_a_newer_server() -> None:
    """An outcome that this client does not know is told in its own word."""
    failure = one({"status": None}, Verdict(line=7, outcome="lost")).error
    assert str(failure) == "lost: the line is lost"
    blocked = {"response": {"promptFeedback": {"blockReasonMessage": "no weapons"}}}
    failure = one(blocked, Verdict(line=7, outcome="blocked", code="SAFETY")).error
    assert str(failure) == "SAFETY: the provider refused the request or its answer: no weapons"


@pytest.mark.parametrize(
    "line",
    [
        {"response": []},
        {"response": {"candidates": {}}},
        {"response": {"candidates": [3]}},
        {"response": {"candidates": [{"content": {"parts": "x"}, "finishReason": 3}]}},
        {"response": {"usageMetadata": {"promptTokenCount": True}}},
        {"response": {"usageMetadata": [1]}},
    ],
)
def test_answers_of_other_shapes(line: dict[str, object]) -> None:
    """Whatever a model or a provider made of an answer, reading it raises nothing."""
    result = one(line)
    assert (result.text, result.images, result.finish_reason) == ("", [], None)
    assert (result.usage.prompt_tokens, result.request, result.key) == (0, {}, None)


def test_keys_that_are_no_text() -> None:
    """They are shown as JSON, and a result as one line; OpenAI's name for a key is one, too."""
    assert one({**answered("x"), "custom_id": "row-1"}).key == "row-1"
    result = one({**answered("x" * 100), "key": {"id": 3}})
    assert result.key == '{"id":3}'
    assert repr(result).endswith("…')")
    assert "429" in repr(one(failed(RATE), Verdict(line=7, outcome="error", code="429")))
