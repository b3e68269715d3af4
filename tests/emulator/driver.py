"""A real emulator behind a real socket, with a clock that tests move."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import orjson

from penstock.emulator.app import EmulatorSettings
from penstock.emulator.server import running

JsonObject = dict[str, Any]
START = 1_795_000_000.0
MODEL = "publishers/google/models/gemini-3-flash-preview"
JOBS = "/v1/projects/penstock-emulator/locations/global/batchPredictionJobs"
TERMINAL = {"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", "PARTIALLY_SUCCEEDED"}
PATIENCE_SECONDS = 60.0


class MovableClock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class Emulator:
    """What a test does with a running emulator."""

    def __init__(self, url: str, clock: MovableClock, log_path: Path) -> None:
        self.url = url
        self.clock = clock
        self.log_path = log_path
        self.http = httpx2.Client(
            base_url=url, headers={"Authorization": "Bearer any"}, timeout=PATIENCE_SECONDS
        )

    def put(self, name: str, body: bytes) -> None:
        """Write an object by the XML API."""
        assert self.http.put(f"/penstock/{name}", content=body).status_code == 200

    def read(self, name: str) -> bytes:
        """Read an object by the XML API."""
        answer = self.http.get(f"/penstock/{name}")
        assert answer.status_code == 200, answer.text
        return answer.content

    def names(self, prefix: str = "") -> list[str]:
        """The names of the objects below a prefix."""
        answer = self.http.get("/storage/v1/b/penstock/o", params={"prefix": prefix})
        return [item["name"] for item in answer.json().get("items", [])]

    def rule(self, **body: Any) -> str:  # noqa: ANN401 - JSON goes as it is
        """Make a fault rule and give its id."""
        answer = self.http.post("/emulator/v1/rules", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def create(self, **overrides: Any) -> JsonObject:  # noqa: ANN401 - JSON goes as it is
        """Create a job over in/x.jsonl; the answer must be good."""
        answer = self.http.post(JOBS, json=create_body(**overrides))
        assert answer.status_code == 200, answer.text
        created: JsonObject = answer.json()
        return created

    def get(self, name: str) -> JsonObject:
        """The resource of a job."""
        answer = self.http.get(f"/v1/{name}")
        assert answer.status_code == 200, answer.text
        resource: JsonObject = answer.json()
        return resource

    def wait(self, name: str, wanted: Callable[[JsonObject], bool]) -> JsonObject:
        """Ask until the answer is as wanted; the clock stands still meanwhile."""
        ends = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < ends:
            resource = self.get(name)
            if wanted(resource):
                return resource
        raise AssertionError(f"never as wanted: {resource}")

    def finish(self, name: str) -> JsonObject:
        """Move the clock by an hour and wait for the end of the job."""
        self.clock.now += 3600
        return self.wait(name, is_over)

    def run(self, lines: list[JsonObject] | bytes, **overrides: Any) -> JsonObject:  # noqa: ANN401 - JSON goes as it is
        """Run a job over these lines to its end."""
        body = lines if isinstance(lines, bytes) else jsonl(lines)
        self.put("in/x.jsonl", body)
        return self.finish(self.create(**overrides)["name"])

    def raw_output(self, job: JsonObject) -> bytes:
        """The bytes of predictions.jsonl of a finished job."""
        directory = job["outputInfo"]["gcsOutputDirectory"].removeprefix("gs://penstock/")
        return self.read(f"{directory}/predictions.jsonl")

    def rows(self, job: JsonObject) -> list[JsonObject]:
        """The parsed rows of a finished job."""
        return [orjson.loads(line) for line in self.raw_output(job).splitlines()]

    def one_row(self, line: JsonObject, **overrides: Any) -> JsonObject:  # noqa: ANN401 - JSON goes as it is
        """The row of a job with this one line."""
        rows = self.rows(self.run([line], **overrides))
        assert len(rows) == 1
        return rows[0]

    def events(self, event: str) -> list[JsonObject]:
        """The lines of the event log of one kind."""
        lines = [orjson.loads(line) for line in self.log_path.read_bytes().splitlines()]
        return [line for line in lines if line["event"] == event]


def create_body(**overrides: Any) -> JsonObject:  # noqa: ANN401 - JSON goes as it is
    """A create request over in/x.jsonl."""
    return {
        "displayName": "svc-1",
        "model": MODEL,
        "inputConfig": {
            "instancesFormat": "jsonl",
            "gcsSource": {"uris": ["gs://penstock/in/x.jsonl"]},
        },
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": "gs://penstock/out/x"},
        },
        **overrides,
    }


def prompt(text: str, **config: Any) -> JsonObject:  # noqa: ANN401 - JSON goes as it is
    """A request with one user text and maybe a generationConfig."""
    request: JsonObject = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
    if config:
        request["generationConfig"] = config
    return request


def line(text: str, key: str = "k-0", **config: Any) -> JsonObject:  # noqa: ANN401 - JSON goes as it is
    """An input line."""
    return {"key": key, "request": prompt(text, **config)}


def jsonl(lines: list[JsonObject]) -> bytes:
    """The bytes of an input file."""
    return b"".join(orjson.dumps(each) + b"\n" for each in lines)


def is_over(job: JsonObject) -> bool:
    """Whether the state is terminal."""
    return job["state"].removeprefix("JOB_STATE_") in TERMINAL


def settings(directory: Path, **overrides: Any) -> EmulatorSettings:  # noqa: ANN401 - fields of the settings
    """Settings over a directory of the test."""
    return EmulatorSettings(
        **{"data_dir": directory / "data", "log_path": directory / "events.jsonl", **overrides}
    )


@contextmanager
def fresh_emulator(directory: Path, **overrides: Any) -> Iterator[Emulator]:  # noqa: ANN401 - fields of the settings
    """An emulator over a directory, with a clock that stands still."""
    clock = MovableClock()
    with running(settings(directory, **overrides), clock=clock) as url:
        made = Emulator(url, clock, directory / "events.jsonl")
        with made.http:
            yield made
