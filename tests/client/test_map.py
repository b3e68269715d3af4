import io
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pandas as pd  # type: ignore[import-untyped]  # it has no types
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types
import pytest
from tests.journeys.service import Service, running

from penstock.client import AsyncClient, Client, ClientError, JobRecord, LinesFailed
from penstock.client.frames import FrameInvalid
from penstock.client.frames_plan import Plan, ended_in_vain, idempotency_key, ran_before
from penstock.client.progress import Lines
from penstock.client.prompts import PromptInvalid
from penstock.client.results import LineError, LineTokens
from penstock.client.schemas import SchemaInvalid

MODEL = "gemini-3-flash-preview"
NOW = 1_795_363_200


class Label(msgspec.Struct):
    """What is asked of a review."""

    mood: Literal["good", "bad"]
    score: int
    sure: bool
    tags: list[str]


class Told(Lines):
    """A progress that keeps what it was told; it may be asked to interrupt like Ctrl-C."""

    def __init__(self, *, interrupts: bool = False) -> None:
        super().__init__(io.StringIO())
        self.notes: list[str] = []
        self._interrupts = interrupts

    def job(self, record: JobRecord) -> None:
        if self._interrupts and not record.done:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running pair."""
    with running(tmp_path_factory.mktemp("service")) as pair:
        yield pair


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    """A client of it."""
    with Client(service.url, service.key) as made:
        yield made


def job_count(client: Client) -> int:
    """Return how many jobs there are."""
    return client.api.list(1).total or 0


def texts(client: Client) -> list[str]:
    """Return the prompts of the job that was submitted last."""
    job = next(iter(client.jobs.list()))
    return [
        "".join(part["text"] for part in result.request["contents"][0]["parts"])
        for result in job.results()
    ]


def frames() -> list[Any]:
    """Return the same rows as each kind of frame."""
    data = {"id": ["a", "b"], "review": ["schön", None]}
    return [
        pd.DataFrame(data, index=[7, 7]),
        pl.DataFrame(data),
        pa.table(data),
        pa.RecordBatch.from_pydict(data),
    ]


@pytest.mark.slow
def test_each_kind_of_frame_gets_its_answers(client: Client) -> None:
    """The kind that is given comes back with typed columns; the same rows are one job for all."""
    before = job_count(client)
    for frame in frames():
        told = Told()
        made = client.map(
            frame,
            prompt="Classify this:\n{review}",
            model=MODEL,
            schema=Label,
            key="id",
            prefix="p",
            progress=told,
        )
        assert type(made) is type(frame)
        table = pa.table(made)
        assert table.column_names[:2] == ["id", "review"]
        names = ["pmood", "pscore", "psure", "ptags", "p_outcome", "p_error"]
        assert [name for name in table.column_names if name.startswith("p")][:6] == names
        rows = table.select(names).to_pylist()
        assert [row["p_outcome"] for row in rows] == ["ok", "ok"]
        assert [row["p_error"] for row in rows] == [None, None]
        assert {row["pmood"] for row in rows} <= {"good", "bad"}
        assert pa.types.is_int64(table.schema.field("pscore").type)
        assert pa.types.is_boolean(table.schema.field("psure").type)
        assert isinstance(msgspec.json.decode(rows[0]["ptags"]), list)
        assert table["p_input_tokens"].to_pylist()[0] > 0
        assert told.notes[-1].startswith("2 rows, $")
        assert told.notes[-1].endswith("1 null values were sent as empty text")
        if isinstance(frame, pd.DataFrame):
            assert list(made.index) == [7, 7]
    assert job_count(client) == before + 1
    assert "these rows ran already: job" in told.notes[0]
    assert texts(client) == ["Classify this:\nschön", "Classify this:\n"]


@pytest.mark.slow
def test_values_of_all_kinds_are_sent(client: Client) -> None:
    """Nested values are JSON, dates ISO, and what has no value is empty, in pandas as in polars."""
    moment = pd.Timestamp("2026-11-23 10:00", tz="UTC")
    values = [{"a": [1, "ü"]}, float("nan"), moment, Decimal("1.10"), np.int8(3), pd.NA, "{x}"]
    client.map(pd.DataFrame({"v": values}), prompt="<{v}>", model=MODEL, progress=False)
    expected = ['<{"a":[1,"ü"]}>', "<>", "<2026-11-23T10:00:00+00:00>", "<1.10>", "<3>", "<>"]
    assert texts(client) == [*expected, "<{x}>"]
    nested = pl.DataFrame({"v": [{"a": [1, 2]}], "w": [[1.5, None]]})
    made = client.map(nested, prompt=["{v}", "{w}"], model=MODEL, progress=False)
    assert texts(client) == ['{"a":[1,2]}[1.5,null]']
    assert made.columns == [
        "v",
        "w",
        "_text",
        "_outcome",
        "_error",
        "_input_tokens",
        "_output_tokens",
    ]


@pytest.mark.slow
def test_rows_that_fail_say_why(client: Client) -> None:
    """A row that failed has its reason in a column, or raises where that was asked for."""
    frame = pl.DataFrame({"p": ["fine", "[[emulator:fail=400]]", "[[emulator:missing]]"]})
    told = Told()
    made = client.map(frame, prompt="{p}", model=MODEL, progress=told)
    assert made["_outcome"].to_list() == ["ok", "error", "missing"]
    errors = made["_error"].to_list()
    assert errors[0] is None
    assert errors[1].startswith("400: ")
    assert errors[2].startswith("missing_row: ")
    assert made["_text"].to_list()[1:] == [None, None]
    assert made["_input_tokens"].to_list()[1:] == [None, None]
    assert told.notes[-1].startswith("3 rows, 2 not ok, $")
    again = f"client.jobs.get({next(iter(client.jobs.list())).id!r}).retry(), and run this again"
    assert told.notes[-1].endswith(f"; 1 may be mended by another try: {again}")
    with pytest.raises(LinesFailed, match="2 of 3 lines"):
        client.map(frame, prompt="{p}", model=MODEL, progress=False, on_error="raise")


@pytest.mark.slow
def test_the_same_is_paid_once(client: Client) -> None:
    """To run a cell again is to get what ran; another prompt, or `fresh`, is another job."""
    frame, before = pl.DataFrame({"p": ["x", "y"]}), job_count(client)
    options: Any = {"model": MODEL, "name": "once", "system": "Be {brief}."}
    told = Told()
    first = client.map(frame, prompt="1 {p}", progress=told, **options)
    assert len(told.notes) == 1
    again = client.map(frame, prompt="1 {p}", progress=told, **options)
    assert again.equals(first)
    assert job_count(client) == before + 1
    client.map(frame, prompt="2 {p}", progress=False, **options)
    assert job_count(client) == before + 2
    client.map(frame, prompt="1 {p}", progress=False, fresh=True, **options)
    assert job_count(client) == before + 3
    with pytest.raises(ClientError, match="ran before with other options") as refused:
        client.map(frame, prompt="1 {p}", progress=False, **{**options, "name": "twice"})
    assert "fresh=True" in str(refused.value.hint)
    assert job_count(client) == before + 3


@pytest.mark.slow
def test_who_is_interrupted_comes_back(client: Client) -> None:
    """Ctrl-C leaves the job running and says so, and the same call goes on with it."""
    frame, before, told = (
        pd.DataFrame({"p": ["interrupted"]}),
        job_count(client),
        Told(interrupts=True),
    )
    with pytest.raises(KeyboardInterrupt):
        client.map(frame, prompt="{p}", model=MODEL, progress=told)
    assert told.notes[0].startswith("The job goes on.")
    assert (
        told.notes[1] == "Or run the same again: it goes on with this job, and costs nothing more."
    )
    made = client.map(frame, prompt="{p}", model=MODEL, progress=False)
    assert made["_outcome"].tolist() == ["ok"]
    assert job_count(client) == before + 1


@pytest.mark.slow
def test_a_job_that_was_cancelled_is_not_come_back_to(client: Client, tmp_path: Path) -> None:
    """Rows whose job ended without answers run again by themselves, in a new job."""
    frame = pl.DataFrame({"p": ["[[emulator:delay=40m]] cancelled"]})
    plan = Plan(frame, prompt="{p}", schema=None, options={})
    with (tmp_path / "lines.jsonl").open("w+b") as file:
        key = idempotency_key(plan.write(file, MODEL), 1)
        job = client.jobs.submit(file, model=MODEL, idempotency_key=key)
    job.cancel()
    client.api.wait(job.id, poll_seconds=0.1)
    made = client.map(frame.clone(), prompt="{p}", model=MODEL, progress=False, priority=None)
    assert made["_outcome"].to_list() == ["ok"]
    assert next(iter(client.jobs.list())).id != job.id


@pytest.mark.slow
async def test_it_can_be_awaited(service: Service) -> None:
    """The client that awaits does the same, with a function as the prompt and settings for all."""
    async with AsyncClient(service.url, service.key) as client:
        made = await client.map(
            pa.table({"n": [1, 2]}),
            prompt=lambda row: {
                "contents": [{"role": "user", "parts": [{"text": f"row {row['n']}"}]}],
                "generationConfig": {"temperature": row["n"]},
            },
            model=MODEL,
            generation_config={"temperature": 0, "maxOutputTokens": 5_000},
            progress=False,
        )
        assert made["_outcome"].to_pylist() == ["ok", "ok"]
        async for job in client.jobs.list():
            configs = [one.request["generationConfig"] async for one in job.results()]
            break
    assert configs == [
        {"temperature": 1, "maxOutputTokens": 5_000},
        {"temperature": 2, "maxOutputTokens": 5_000},
    ]


def test_no_rows_are_no_job(client: Client) -> None:
    """An empty frame gets its columns, and nothing is sent."""
    before, told = job_count(client), Told()
    made = client.map(
        pl.DataFrame({"p": pl.Series([], dtype=pl.String)}),
        prompt="{p}",
        model=MODEL,
        schema=Label,
        progress=told,
    )
    assert made.columns[:3] == ["p", "mood", "score"]
    assert made["score"].dtype == pl.Int64
    assert told.notes == ["there are no rows, so nothing was sent"]
    assert job_count(client) == before


@pytest.mark.parametrize(
    ("data", "options", "kind", "said"),
    [
        ({"p": ["x"]}, {"prompt": "{q}"}, PromptInvalid, "no such column"),
        ({"p": ["x"]}, {"prompt": "{p}", "key": "q"}, PromptInvalid, "no column q that"),
        ({"p": [None]}, {"prompt": "x", "key": "p"}, PromptInvalid, "row 1: the column p has no"),
        ({"p": ["x", None]}, {"prompt": "{p}", "nulls": "refuse"}, PromptInvalid, "row 2: the"),
        ({"p": ["x"], "_text": ["y"]}, {"prompt": "{p}"}, FrameInvalid, "a column _text already"),
        ({"p": ["x"]}, {"prompt": "{p}", "schema": dict}, SchemaInvalid, "not known before"),
        ({"p": ["x"]}, {"prompt": lambda _: "\ud800"}, PromptInvalid, "row 1: the request is no"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_it_is_sent(
    client: Client, data: dict[str, Any], options: dict[str, Any], kind: type[Exception], said: str
) -> None:
    """Columns, keys, schemas and values are judged here, with the row that is meant."""
    before = job_count(client)
    with pytest.raises(kind, match=said):
        client.map(pd.DataFrame(data, dtype=object), model=MODEL, progress=False, **options)
    assert job_count(client) == before


class Answer(msgspec.Struct):
    """What a plan needs of a result."""

    line: int = 1
    outcome: str = "ok"
    text: str = ""
    error: LineError | None = None
    usage: LineTokens = LineTokens()
    key: str = ""


def test_results_that_do_not_fit_the_rows() -> None:
    """Nothing is put into a frame if a result is missing or out of place."""
    plan = Plan(pl.DataFrame({"p": ["x", "y"]}), prompt="{p}", schema=None, options={})
    plan.add(Answer(text="a"))
    with pytest.raises(ClientError, match="result of line 2 is missing: 3 came"):
        plan.add(Answer(line=3))
    with pytest.raises(ClientError, match="results for 1 of 2 rows"):
        plan.made()


def test_what_an_error_says() -> None:
    """The code comes first, whatever of it there is, and a long message is cut."""
    plan = Plan(pl.DataFrame({"p": ["x"] * 4}), prompt="{p}", schema=Label, options={})
    errors = [
        LineError(code="429", message="x" * 5_000),
        LineError(code="", message=""),
        LineError(code="SAFETY", message=""),
        None,
    ]
    for number, error in enumerate(errors, start=1):
        usage = LineTokens(prompt_tokens=1, output_tokens=2, thoughts_tokens=3)
        plan.add(Answer(number, "blocked", "no JSON", error, usage))
    made = plan.made()
    assert [len(text) for text in made["_error"]] == [2_000, 7, 6, 7]
    assert made["_error"].to_list()[1:] == ["blocked", "SAFETY", "blocked"]
    assert made["_output_tokens"].to_list() == [5] * 4
    assert made["mood"].to_list() == [None] * 4


@pytest.mark.parametrize(
    ("created", "updated", "before"), [(0, 0, False), (0, 1, True), (-61, -61, True)]
)
def test_whether_a_job_was_there_before(created: int, updated: int, *, before: bool) -> None:
    """One that has moved on, or is older than clocks may differ, was; a new one was not."""
    record = JobRecord(
        request_id="x", status="queued", created_at=NOW + created, updated_at=NOW + updated
    )
    assert ran_before(record, NOW) is before
    assert not ended_in_vain(record)
    ended = msgspec.structs.replace(record, status="cancelled")
    assert ran_before(ended, NOW)
    assert ended_in_vain(ended)
