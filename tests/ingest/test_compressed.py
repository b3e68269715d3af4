"""Compressed bodies: the same input, and no way to make a little become much."""

import functools
import gzip
import json
import random
import zlib

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st
from tests.ingest.naive import GOOD, Taken, Turned, body_of, pieces, take, through
from tests.ingest.test_properties import LIMITS, good_inputs, inputs, moderate, sizes

from penstock.core.limits import Limits
from penstock.errors import TooLarge
from penstock.ingest.blocks import BLOCK_BYTES
from penstock.ingest.compressed import (
    ENCODINGS,
    FREE_BYTES,
    MEMBERS_MAX,
    STEP_BYTES,
    WINDOW_LOG_MAX,
    Decompressing,
)
from penstock.ingest.intake import Accepted, Envelope, Intake
from penstock.ingest.raw import RawIntake
from penstock.ingest.sink import Sink

ENVELOPE = Envelope(model=None, payload={}, flat=True)
CHECKED: dict[int, int] = {zstd.CompressionParameter.checksum_flag: 1}
both = pytest.mark.parametrize("encoding", ENCODINGS)


def compressed(encoding: str, data: bytes) -> bytes:
    """The data as one gzip member or one zstd frame."""
    return gzip.compress(data) if encoding == "gzip" else zstd.compress(data, options=CHECKED)


def raw(encoding: str, limits: Limits, sink: Sink) -> Decompressing:
    """The raw door behind a decompressor."""
    inner = RawIntake(limits, ENVELOPE, sink)
    return Decompressing(inner, encoding, limits)


def in_json(encoding: str, limits: Limits, sink: Sink) -> Decompressing:
    """The JSON door behind a decompressor."""
    inner = Intake(limits, sink)
    return Decompressing(inner, encoding, limits)


def sent(
    encoding: str, body: bytes, cuts: list[int] | None = None, limits: Limits = LIMITS
) -> Taken | Turned:
    """What the raw door says of a compressed body."""
    return through(functools.partial(raw, encoding, limits), body, cuts or [])


def code(result: Taken | Turned) -> str:
    """The code of a refusal."""
    assert isinstance(result, Turned), result
    return result.code


def send(door: Decompressing, body: bytes) -> Accepted:
    """Feed all of a body."""
    door.feed(body)
    return door.finish()


class Recorder:
    """An intake that only remembers what sizes came."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def feed(self, chunk: bytes) -> None:
        self.sizes.append(len(chunk))

    def finish(self) -> Accepted:
        return Accepted(envelope=ENVELOPE, line_count=0, input_bytes=sum(self.sizes), sha256="")


@moderate
@given(inputs(), st.lists(st.integers(0, 300), max_size=4), st.sampled_from(ENCODINGS), sizes)
def test_any_members_and_chunks_are_the_same_input(
    data: bytes, members: list[int], encoding: str, cuts: list[int]
) -> None:
    """One stream or several in a row, in any chunks: judged like the plain lines."""
    body = b"".join(compressed(encoding, piece) for piece in pieces(data, members))
    plain = take(data, (), LIMITS, raw=True)
    result = sent(encoding, body, cuts)
    if isinstance(plain, Turned):
        assert result == plain
    else:
        assert isinstance(result, Taken)
        assert (result.stored, result.rows) == (plain.stored, plain.rows)


@both
@moderate
@given(data=good_inputs(), cuts=sizes)
def test_the_json_body_may_be_compressed(encoding: str, data: bytes, cuts: list[int]) -> None:
    """Whatever the door behind it is, it sees the plain body."""
    body = compressed(encoding, body_of(data))
    result = through(functools.partial(in_json, encoding, LIMITS), body, cuts)
    assert isinstance(result, Taken), result
    assert result.stored == data


@both
def test_a_large_input_is_the_same_in_any_chunks(encoding: str) -> None:
    """Several megabytes, many blocks: the same bytes come out for odd chunks and for one."""
    chance = random.Random(7)  # noqa: S311  # seeded noise, so that it does not compress away
    text = chance.randbytes(2 * BLOCK_BYTES).hex()
    line = json.dumps({"k": text, **json.loads(GOOD)}).encode() + b"\n"
    data = line * 12
    body = compressed(encoding, data)
    limits = Limits(compression_ratio_max=10_000)
    whole = sent(encoding, body, None, limits)
    assert isinstance(whole, Taken)
    assert whole.stored == data
    assert sent(encoding, body, [70_001] * (len(body) // 70_001), limits) == whole


@both
def test_an_empty_stream_is_an_empty_input(encoding: str) -> None:
    """Nothing, well compressed, is refused for being nothing."""
    assert code(sent(encoding, compressed(encoding, b""))) == "empty_input"


@both
def test_every_cut_is_a_truncated_body(encoding: str) -> None:
    """Wherever the stream is cut, the refusal says so, and not that the input is bad."""
    body = compressed(encoding, GOOD)
    for cut in range(len(body)):
        assert code(sent(encoding, body[:cut])) == "truncated_body", cut
    assert code(sent(encoding, body + body[:9])) == "truncated_body"


@both
def test_no_flipped_bit_changes_the_input(encoding: str) -> None:
    """A damaged stream is refused, unless the damage is in a part that says nothing."""
    body = compressed(encoding, GOOD)
    refused = 0
    for at in range(len(body) * 8):
        damaged = bytearray(body)
        damaged[at // 8] ^= 1 << at % 8
        result = sent(encoding, bytes(damaged))
        refused += isinstance(result, Turned)
        assert isinstance(result, Turned) or result.stored == GOOD
    assert refused > len(body) * 4


@both
@pytest.mark.parametrize("tail", [b"x", b"\0", GOOD, b"\x1f\x8b\x09"])
def test_trailing_garbage_is_refused(encoding: str, tail: bytes) -> None:
    """What follows the stream and is none is never dropped in silence."""
    refusal = sent(encoding, compressed(encoding, GOOD) + tail + b"xxxxxxxx" * 4)
    assert code(refusal) == "invalid_encoding"
    assert isinstance(refusal, Turned)
    assert "goes on after the end" in refusal.message


@both
def test_a_plain_body_is_no_stream(encoding: str) -> None:
    """A Content-Encoding that is not true is refused with what would be right."""
    result = sent(encoding, GOOD)
    assert isinstance(result, Turned)
    assert (result.kind, result.code) == ("InvalidRequest", "invalid_encoding")
    assert result.hint is not None
    assert "leave Content-Encoding out" in result.hint


def test_the_other_encodings_are_not_guessed() -> None:
    """The zlib format and bare deflate are not gzip."""
    bare = zlib.compress(GOOD, wbits=-15)
    assert [code(sent("gzip", body)) for body in (zlib.compress(GOOD), bare)] == [
        "invalid_encoding",
        "invalid_encoding",
    ]


@both
def test_a_step_is_bounded(encoding: str) -> None:
    """However well a body compresses, a megabyte at most is inflated before it is judged."""
    inner = Recorder()
    limits = Limits(compression_ratio_max=1_000_000)
    door = Decompressing(inner, encoding, limits)
    door.feed(compressed(encoding, bytes(5 * STEP_BYTES + 3)))
    accepted = door.finish()
    assert accepted.input_bytes == 5 * STEP_BYTES + 3
    assert max(inner.sizes) == STEP_BYTES


@both
def test_a_bomb_is_refused_by_its_ratio(encoding: str) -> None:
    """100 to 1 is the most after the first megabyte, and little was written until then."""
    body = compressed(encoding, bytes(64 * FREE_BYTES))
    inner = Recorder()
    door = Decompressing(inner, encoding, Limits())
    with pytest.raises(TooLarge, match="100 times") as refusal:
        send(door, body)
    assert refusal.value.error_code == "compression_bomb"
    assert sum(inner.sizes) <= max(FREE_BYTES, 100 * BLOCK_BYTES)


@both
def test_a_small_body_may_compress_well(encoding: str) -> None:
    """Equal lines compress a thousand to one; below a megabyte that is no bomb."""
    data = (GOOD + b"\n") * (FREE_BYTES // (len(GOOD) + 1))
    result = sent(encoding, compressed(encoding, data), None, Limits())
    assert isinstance(result, Taken)
    larger = data + data
    assert code(sent(encoding, compressed(encoding, larger), None, Limits())) == "compression_bomb"


@both
def test_the_decoded_input_keeps_its_limit(encoding: str) -> None:
    """The limit on the input counts what comes out."""
    limits = Limits(job_bytes_max=len(GOOD))
    assert isinstance(sent(encoding, compressed(encoding, GOOD), None, limits), Taken)
    assert code(sent(encoding, compressed(encoding, GOOD + b" "), None, limits)) == (
        "input_too_large"
    )


@both
def test_what_decodes_to_nothing_is_bounded(encoding: str) -> None:
    """Line breaks in base64 are no input, but not without end either."""
    limits = Limits(job_bytes_max=1_000, envelope_bytes_max=100)
    body = b'{"input_data":"QUJD' + rb"\n" * limits.body_bytes_max + b'"}'
    door = functools.partial(in_json, encoding, limits)
    assert code(through(door, compressed(encoding, body))) == "input_too_large"


@both
def test_bad_lines_are_found_inside(encoding: str) -> None:
    """Numbers and offsets are those of the plain input."""
    refusal = sent(encoding, compressed(encoding, GOOD + b"\nbad\n" + GOOD))
    assert isinstance(refusal, Turned)
    assert [(one.line, one.offset) for one in refusal.problems] == [(2, len(GOOD) + 1)]


def test_a_nested_stream_is_no_input() -> None:
    """A stream within a stream is named for what it is; only one layer is taken off."""
    assert code(sent("gzip", gzip.compress(gzip.compress(GOOD)))) == "compressed_input"


@pytest.mark.slow
def test_streams_in_a_row_are_counted() -> None:
    """An empty member costs the sender 20 bytes, so there may not be any number of them."""
    empty = gzip.compress(b"")
    good = gzip.compress(GOOD)
    assert isinstance(sent("gzip", empty * (MEMBERS_MAX - 1) + good), Taken)
    assert code(sent("gzip", empty * MEMBERS_MAX + good)) == "too_many_members"


def test_a_large_window_is_refused() -> None:
    """The sender does not choose how much memory the decoder takes."""
    for log, fine in ((WINDOW_LOG_MAX, True), (WINDOW_LOG_MAX + 1, False)):
        packer = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: log})
        body = packer.compress(GOOD) + packer.flush()
        result = sent("zstd", body)
        assert isinstance(result, Taken) if fine else code(result) == "invalid_encoding"


def test_skippable_frames_are_skipped() -> None:
    """A zstd stream may carry notes of its maker."""
    note = b"\x50\x2a\x4d\x18\x04\x00\x00\x00note"
    result = sent("zstd", note + zstd.compress(GOOD) + note)
    assert isinstance(result, Taken)
    assert result.stored == GOOD
