"""A finished job on the stub: its output in ranges, and the server's verdicts on its lines."""

import hashlib
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.client.stub import BASE, Answer, Reply, Seen, Stub, error, in_ranges, job

Json = dict[str, Any]

FILE = "/files/out"
JOB = "req_7"


def answered(text: str, key: str | None = None, *, reason: str = "STOP", **parts: Any) -> Json:  # noqa: ANN401  # JSON
    """Return a line of the output with a text, as the server writes it."""
    content = {"role": "model", "parts": [{"text": text}, *parts.get("more", [])]}
    own = {} if key is None else {"key": key}
    return {
        "status": "",
        "processed_time": "2026-11-23T10:00:00Z",
        **own,
        "request": {"contents": [{"parts": [{"text": "ask"}]}]},
        "response": {
            "candidates": [{"content": content, "finishReason": reason}],
            "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 5},
        },
    }


def failed(status: str, key: str | None = None) -> Json:
    """Return a line of the output that failed."""
    own = {} if key is None else {"key": key}
    return {"status": status, **own, "request": {}, "response": {}}


def verdict(line: int, outcome: str, **more: Any) -> Json:  # noqa: ANN401  # JSON
    """Return what the server says of a line that is not good."""
    return {"line": line, "outcome": outcome, "round": 1, **more}


class Output:
    """What the stub says of a job that has ended."""

    def __init__(self, stub: Stub, lines: list[Json], verdicts: list[Json]) -> None:
        self.stub = stub
        self.lines = lines
        self.content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        self.tag = f'"sha256-{hashlib.sha256(self.content).hexdigest()}"'
        self.verdicts = verdicts
        counts: dict[str, int] = {"ok": len(lines) - len(verdicts)}
        for one in verdicts:
            counts[one["outcome"]] = counts.get(one["outcome"], 0) + 1
        self.stats = {"total_count": len(lines), **counts}
        self.say("success")
        stub.serve(FILE, self.ranged())
        stub.on("GET", f"/requests/{JOB}/lines", self.page)

    def say(self, status: str, **outcome: Any) -> None:  # noqa: ANN401  # JSON
        """Let the job's record be this from now on."""
        url = f"{self.stub.url}{FILE}?sig=1"
        said = {"batch_job_completion_stats": self.stats, **outcome}
        self.stub.on("GET", f"/requests/{JOB}", job(status, url=url, **said))

    def ranged(self, *, cut: int | None = None) -> Answer:
        """Answer with the output."""
        return in_ranges(self.content, self.tag, cut=cut)

    def page(self, seen: Seen) -> Reply:
        """Answer with one verdict a page, so that each has to be asked for."""
        query = parse_qs(urlsplit(seen.path).query)
        wanted = query["outcome"][0].split(",")
        found = [one for one in self.verdicts if one["outcome"] in wanted]
        at = int(query.get("cursor", ["0"])[0])
        lines = [self._shown(one, query) for one in found[at : at + 1]]
        following = str(at + 1) if at + 1 < len(found) else None
        return Reply(content=json.dumps({"lines": lines, "next_cursor": following}).encode())

    def without_index(self) -> None:
        """Be the output of an older server."""
        self.stats = {"total_count": len(self.lines)}
        self.say("success")
        self.stub.on("GET", f"/requests/{JOB}/lines", error(404, "no_row_index", "too old"))

    def fetches(self) -> list[Seen]:
        """Return each request for the output."""
        return [seen for seen in self.stub.seen if seen.path.startswith(FILE)]

    def questions(self) -> list[str]:
        """Return the query of each question for lines."""
        paths = [seen.path.removeprefix(BASE) for seen in self.stub.seen]
        return [path.partition("?")[2] for path in paths if "/lines" in path]

    def _shown(self, one: Json, query: dict[str, list[str]]) -> Json:
        if query.get("include") != ["output"] or one.get("large"):
            return {**one, "output": None}
        return {**one, "output": self.lines[one["line"] - 1]}
