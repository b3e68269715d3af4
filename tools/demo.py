"""What `make demo` runs: the whole way of a job on this machine, without an account.

It starts `penstock dev` (server and emulator) as its own process with a fresh data directory, sends
examples/reviews.jsonl through the public HTTP API, waits, downloads, and proves that every line
is answered in its place. Pictures follow in the same way.
"""

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from penstock.client import Api, ClientError, JobRecord, ServerFailed

ROOT: Final = Path(__file__).resolve().parent.parent
OUTPUT: Final = ROOT / "demo-output"
START_SECONDS_MAX: Final = 30.0
JOB_SECONDS_MAX: Final = 300.0
STOP_SECONDS_MAX: Final = 15.0
WIDTH: Final = 100
LOG_LINE_CHARS_MAX: Final = 1000

Line = dict[str, Any]


class DemoFailed(Exception):
    """One sentence that says what did not work."""


def main() -> None:
    """Run the demo; its failure is one sentence on standard error and exit code 1."""
    # A proxy of the surroundings has nothing to do with a server on this machine.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    started = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="penstock-demo-") as folder:
            _run(Path(folder))
    except (DemoFailed, ClientError) as error:
        hint = getattr(error, "hint", None)
        sys.exit(f"\ndemo failed: {plain(str(error))}" + (f"\nfix: {hint}" if hint else ""))
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"\nDone in {time.monotonic() - started:.1f} s. The answers are in {shown(OUTPUT)}/.")


def _run(folder: Path) -> None:
    OUTPUT.mkdir(exist_ok=True)
    print("Penstock demo: a server and an emulator of Vertex AI; nothing leaves this machine.\n")
    began = time.monotonic()
    with server(folder) as (url, key), Api(url, key) as client:
        step("start", f"penstock dev at {url} ({time.monotonic() - began:.1f} s)")
        job, lines = answer(client, "reviews", "gemini-3-flash-preview")
        for line in lines[:3]:
            step("answer", f"{line['key']}: {said(line)}")
        account(job)
        print()
        job, lines = answer(client, "images", "gemini-3-pro-image-preview")
        step("picture", shown(save_picture(lines)))
        account(job)


@contextmanager
def server(folder: Path) -> Iterator[tuple[str, str]]:
    """Start `penstock dev`, give its address and key, and stop it in any case."""
    log = folder / "dev.log"
    command = [sys.executable, "-m", "penstock.cli.main", "dev", "--port", "0"]
    with log.open("wb") as file:
        child = subprocess.Popen(
            [*command, "--data-dir", str(folder / "data")],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        yield announced(child, log)
    except ServerFailed as error:
        said_by_server = tail(log.read_text("utf-8", errors="replace"))
        raise DemoFailed(f"{error}\npenstock dev said:\n{said_by_server}") from error
    finally:
        child.terminate()
        try:
            child.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def announced(child: subprocess.Popen[bytes], log: Path) -> tuple[str, str]:
    """Return address and key as the child prints them, each on a line of its own."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        ended = child.poll()
        text = log.read_text("utf-8", errors="replace")
        whole = text[: text.rfind("\n") + 1]
        words = dict(line.strip().split(": ", 1) for line in whole.splitlines() if ": " in line)
        if "url" in words and "key" in words:
            return words["url"].strip(), words["key"].strip()
        if ended is not None:
            raise DemoFailed(f"penstock dev ended with code {ended}; it said:\n{tail(text)}")
        time.sleep(0.05)
    raise DemoFailed(
        f"penstock dev told no address within {START_SECONDS_MAX:.0f} s; it said:\n{tail(text)}"
    )


def answer(client: Api, name: str, model: str) -> tuple[JobRecord, list[Line]]:
    """Send one example file, wait, download and check it; return the job and its lines."""
    source, target = ROOT / "examples" / f"{name}.jsonl", OUTPUT / f"{name}.out.jsonl"
    sent = read(source)
    job = client.submit(source, model=model, encoding="text")
    step("submit", f"{shown(source)}: {len(sent)} requests for {model}")
    began = time.monotonic()

    def tell(now: JobRecord) -> None:
        done = now.stats.successful_count + now.stats.failed_count
        counts = f"{done}/{now.stats.total_count}" if now.stats.total_count else ""
        elapsed = f"{time.monotonic() - began:.1f} s"
        step("", f"{elapsed:>6}  {now.status:<11} {counts:<9} {now.state}".rstrip())

    job = client.wait(
        job.request_id, poll_seconds=0.25, timeout_seconds=JOB_SECONDS_MAX, on_change=tell
    )
    if not job.succeeded:
        raise DemoFailed(f"the job is {job.status}: {job.reason or 'without a reason'}")
    fetched = client.download(job.request_id, target)
    proof = "SHA-256 verified" if fetched.verified else "no checksum stated"
    step("download", f"{shown(target)}: {fetched.bytes_total:,} bytes, {proof}")
    came = read(target)
    failed = compare(sent, came)
    step("check", f"{len(sent)} in, {len(came)} out; line k answers line k; {failed} failed")
    return job, came


def compare(sent: list[Line], came: list[Line]) -> int:
    """Prove that each line is answered in its place, and return how many answers are errors."""
    if len(sent) != len(came):
        raise DemoFailed(f"{len(sent)} lines went in, {len(came)} came out")
    for number, (ours, theirs) in enumerate(zip(sent, came, strict=True), 1):
        for member, value in ours.items():
            if member != "request" and theirs.get(member) != value:
                raise DemoFailed(f"line {number}: the member {member!r} did not come back")
        contents = ours["request"]["contents"]
        if without_nulls(theirs["request"].get("contents")) != without_nulls(contents):
            raise DemoFailed(f"line {number}: this is the answer to another request")
        if not theirs["status"] and not theirs["response"].get("candidates"):
            raise DemoFailed(f"line {number}: neither an answer nor an error")
    return sum(1 for line in came if line["status"])


def without_nulls(value: Any) -> Any:  # noqa: ANN401  # any JSON in, the same kind out
    """Return the value without members that are null: Vertex AI adds such to its echo."""
    if isinstance(value, dict):
        return {name: without_nulls(each) for name, each in value.items() if each is not None}
    if isinstance(value, list):
        return [without_nulls(each) for each in value]
    return value


def parts(line: Line) -> list[Line]:
    """Return the parts of the first candidate, none for a failed line."""
    candidates = line["response"].get("candidates") or [{}]
    found: list[Line] = candidates[0].get("content", {}).get("parts", [])
    return found


def said(line: Line) -> str:
    """Return the answer's text, or why there is none."""
    if line["status"]:
        return str(line["status"])
    return " ".join(" ".join(part.get("text") or "" for part in parts(line)).split())


def save_picture(lines: list[Line]) -> Path:
    """Write the first picture of the answers and return where."""
    for line in lines:
        for part in parts(line):
            picture = part.get("inlineData")
            if picture:
                path = OUTPUT / f"{line['key']}.{picture['mimeType'].split('/')[-1]}"
                path.write_bytes(base64.b64decode(picture["data"]))
                return path
    raise DemoFailed("no answer has a picture")


def account(job: JobRecord) -> None:
    """Print tokens and cost of a job."""
    step("tokens", job.tokens or "none")
    step("cost", f"${job.outcome.actual_cost_usd if job.outcome else '?'} at batch prices")


def read(path: Path) -> list[Line]:
    """Return the lines of a JSONL file."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def step(name: str, text: str) -> None:
    """Print one line that fits a terminal without colours or Unicode."""
    line = f"  {name:<9} {plain(text)}"
    print(line if len(line) <= WIDTH else line[: WIDTH - 3] + "...", flush=True)


def plain(text: str) -> str:
    """Return the text in ASCII, other letters as escapes."""
    return text.encode("ascii", "backslashreplace").decode("ascii")


def tail(text: str) -> str:
    """Return the last lines of a log, indented; of a very long one its two ends."""
    shortened = [
        line if len(line) <= LOG_LINE_CHARS_MAX else f"{line[:200]} ... {line[-600:]}"
        for line in text.splitlines()[-15:]
    ]
    return "\n".join(f"    {line}" for line in shortened) or "    (nothing)"


def shown(path: Path) -> str:
    """Return a path as a reader in the repository types it."""
    return str(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
