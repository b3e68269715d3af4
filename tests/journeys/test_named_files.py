"""Requests name files for the provider: from a setting, over HTTP, to the process that receives."""

import json
from http import HTTPStatus
from pathlib import Path

from tests.journeys.service import BASE, Json, prompt, running

OWN = "gs://penstock/penstock/jobs/a/input.jsonl"
"""In the folder in which all inputs and outputs of this server are staged."""


def naming(uri: str) -> Json:
    """A line whose request names a file."""
    line = prompt("hello")
    part = {"file_data": {"mime_type": "text/plain", "file_uri": uri}}
    line["request"]["contents"][0]["parts"].append(part)
    return line


def test_nobody_reads_what_others_sent(tmp_path: Path) -> None:
    """The server's own folder is refused though its bucket is listed, and so is what is not."""
    listed = "gs://penstock/,https://cdn.example.com/"
    with running(tmp_path, PENSTOCK_FILES_ALLOWED=listed) as service:
        good = [naming(uri) for uri in ("gs://penstock/shared/a", "https://cdn.example.com/a")]
        done = service.wait(service.submit(good)["request_id"])
        assert len(service.output(done)) == len(good)
        before = service.files()
        bad = [naming(uri) for uri in (OWN, "gs://another/a", "file:///etc/passwd")]
        lines = [good[0], *bad]
        body = {"input_data": "\n".join(map(json.dumps, lines))}
        answer = service.http.post(f"{service.url}{BASE}/requests", json=body)
        assert answer.status_code == HTTPStatus.BAD_REQUEST, answer.text
        said = [(one["line"], one["code"]) for one in answer.json()["details"]]
        assert service.files() == before
    assert said == [
        (2, "file_uri_not_allowed"),
        (3, "file_uri_not_allowed"),
        (4, "invalid_file_uri"),
    ]
