"""What the head of a submission says of its body."""

import json

import msgspec
import pytest
from tests.ingest.naive import GOOD, Memory

from penstock.core.limits import Limits
from penstock.errors import InvalidRequest, TooLarge
from penstock.ingest.compressed import Decompressing
from penstock.ingest.intake import BodyIntake, Envelope, Intake
from penstock.ingest.multipart import MultipartIntake
from penstock.ingest.raw import RawIntake
from penstock.ingest.upload import Form, Upload

LIMITS = Limits(job_bytes_max=1_000, envelope_bytes_max=100)
JSONL = Upload(
    form=Form.JSONL,
    encoding=None,
    content_length=None,
    boundary=b"cut",
    envelope=Envelope(model=None, payload={}, flat=True),
)


@pytest.mark.parametrize(
    ("form", "encoding", "most"),
    [
        (Form.JSONL, None, 1_003),
        (Form.JSONL, "gzip", 6_100),
        (Form.JSON, None, 6_100),
        (Form.JSON, "zstd", 6_100),
        (Form.MULTIPART, None, 6_100),
    ],
)
def test_a_length_that_nothing_good_needs_is_refused(
    form: Form, encoding: str | None, most: int
) -> None:
    """One byte more than the longest good body of its form is too much, and says so at once."""
    upload = msgspec.structs.replace(JSONL, form=form, encoding=encoding)
    for length in (None, 0, most):
        msgspec.structs.replace(upload, content_length=length).check_length(LIMITS)
    with pytest.raises(TooLarge) as refusal:
        msgspec.structs.replace(upload, content_length=most + 1).check_length(LIMITS)
    assert refusal.value.error_code == "input_too_large"
    assert str(most) in refusal.value.message


@pytest.mark.parametrize(
    ("form", "encoding", "length", "least"),
    [
        (Form.JSONL, None, None, 0),
        (Form.JSONL, "gzip", 5_000, 0),
        (Form.JSONL, None, 2, 0),
        (Form.JSONL, None, 1_003, 1_000),
        (Form.JSON, None, 99, 0),
        (Form.JSON, None, 6_100, 1_000),
        (Form.MULTIPART, None, 6_100, 1_000),
    ],
)
def test_an_input_is_at_least_so_long(
    form: Form, encoding: str | None, length: int | None, least: int
) -> None:
    """What a declared length cannot hide: the JSONL itself, or a sixth of what may be escaped."""
    upload = msgspec.structs.replace(JSONL, form=form, encoding=encoding, content_length=length)
    assert upload.least_bytes(LIMITS) == least


@pytest.mark.parametrize(
    ("encoding", "length", "room"),
    [(None, None, None), (None, 10, 10), (None, 9_999, 1_000), ("gzip", 10, None)],
)
def test_the_room_is_known_when_the_length_tells(
    encoding: str | None, length: int | None, room: int | None
) -> None:
    """A plain body needs its length and never more than a job; what is packed tells at its end."""
    upload = msgspec.structs.replace(JSONL, encoding=encoding, content_length=length)
    assert upload.room(LIMITS) == room


@pytest.mark.parametrize(
    ("form", "intake"),
    [(Form.JSONL, RawIntake), (Form.MULTIPART, MultipartIntake), (Form.JSON, Intake)],
)
def test_each_form_has_its_intake(form: Form, intake: type[BodyIntake]) -> None:
    """Plain it is taken as it comes, and behind a decompressor when it is encoded."""
    upload = msgspec.structs.replace(JSONL, form=form)
    assert type(upload.open(LIMITS, Memory())) is intake
    packed = msgspec.structs.replace(upload, encoding="gzip")
    assert type(packed.open(LIMITS, Memory())) is Decompressing


@pytest.mark.parametrize("flat", [True, False])
def test_lines_that_lie_elsewhere_are_named(*, flat: bool) -> None:
    """A body with an address in place of lines is accepted without any, and stores nothing."""
    inner = {"input_uri": "gs://b/o", "note": 1}
    body = inner if flat else {"payload": inner}
    sink = Memory()
    intake = msgspec.structs.replace(JSONL, form=Form.JSON).open(LIMITS, sink)
    intake.feed(json.dumps({"model": "m", **body}).encode())
    accepted = intake.finish()
    assert accepted.is_elsewhere
    assert accepted.envelope == Envelope(
        model="m", payload={"note": 1}, flat=flat, input_uri="gs://b/o"
    )
    assert sink.sizes == []


def test_lines_that_are_here_are_not_elsewhere() -> None:
    """An input in the body is there, and one that is nowhere is refused."""
    intake = JSONL.open(LIMITS, Memory())
    intake.feed(GOOD)
    assert not intake.finish().is_elsewhere
    empty = msgspec.structs.replace(JSONL, form=Form.JSON).open(LIMITS, Memory())
    with pytest.raises(InvalidRequest) as refusal:
        empty.feed(b'{"payload": {}}')
    assert refusal.value.error_code == "missing_input_data"
