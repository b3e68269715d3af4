"""Upload the same JSONL to Penstock and to its peers, all of them before the same emulator.

Prints one JSON object. Each figure is MB/s of the file, from the first byte sent to the answer, and
the peak memory of the server's whole process tree (for a client library: of the client): RSS, PSS,
and how much more PSS that was during uploads than before the first one. Uploads come to idle
servers.

- `penstock_raw`: the answer says that every byte was checked and that it is durable on this disk;
  the copy to the bucket comes after it. `penstock_until_in_bucket` ends with that copy, rewritten
  with our keys and compared by CRC32C: what the peers' answers say, and more.
- `litellm_passthrough`: the file as it is, LiteLLM's fastest way; the answer says that the emulator
  has stored it. `litellm_openai`: the same prompts as OpenAI batch lines, which it translates.
- `google_cloud_storage`: `blob.upload_from_filename`, the answer says that the emulator has stored
  it; nothing looks at its content.

LiteLLM is installed by pip into an environment of its own, in the user's cache folder. A peer that
cannot be installed is left out with the reason.
"""

import argparse
import importlib.util
import json
import os
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final

from call import REQUESTS, send, send_file
from processes import Peak, Process, emulator, machine, penstock, sampled, started
from whole_job import MODEL, write_input

VENV: Final = Path.home() / ".cache" / "penstock-bench" / "litellm"
PACKAGES: Final = ("litellm[proxy]", "google-auth", "requests")
INSTALL_SECONDS_MAX: Final = 600.0
START_SECONDS_MAX: Final = 90.0
MASTER_KEY: Final = "sk-bench"
LINE_BYTES: Final = 5_000
GOAL_TIMES_LITELLM: Final = 3.0
GOAL_PART_OF_LITELLM_MEMORY: Final = 20.0
CREDENTIALS: Final = """
import json, sys
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric import rsa
key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
pem = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()).decode()
print(json.dumps({"type": "service_account", "project_id": "penstock-emulator",
    "private_key_id": "1", "private_key": pem, "client_id": "1",
    "client_email": "bench@penstock-emulator.iam.gserviceaccount.com",
    "token_uri": sys.argv[1] + "/token"}))
"""
"""LiteLLM signs a token request with a key of its own; the emulator's /token takes any."""


class Unavailable(Exception):
    """A peer cannot be measured here; the text says why."""


def litellm_environment() -> Path:
    """Return the folder of LiteLLM's programs, installed by pip if it is not there yet."""
    programs = VENV / "bin"
    if not (programs / "litellm").exists():
        VENV.parent.mkdir(parents=True, exist_ok=True)
        pip = [str(programs / "python"), "-m", "pip", "install", "--quiet", *PACKAGES]
        for command in ([sys.executable, "-m", "venv", "--clear", str(VENV)], pip):
            try:
                done = subprocess.run(
                    command,
                    capture_output=True,
                    text=True,
                    timeout=INSTALL_SECONDS_MAX,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise Unavailable(f"installing LiteLLM took {error.timeout:g} s") from error
            if done.returncode != 0:
                last = done.stderr.strip().splitlines()[-1:]
                raise Unavailable(f"LiteLLM cannot be installed: {' '.join(last)}")
    return programs


@contextmanager
def litellm(folder: Path, emulator_url: str) -> Iterator[Process]:
    """Run LiteLLM's proxy, which keeps its batch files in the emulator's bucket."""
    programs = litellm_environment()
    key = subprocess.run(
        [str(programs / "python"), "-c", CREDENTIALS, emulator_url],
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    (folder / "key.json").write_bytes(key)
    parameters = {
        "model": f"vertex_ai/{MODEL}",
        # The one setting that turns its Cloud Storage uploads away from Google.
        "api_base": emulator_url,
        "vertex_project": "penstock-emulator",
        "vertex_location": "global",
        "vertex_credentials": str(folder / "key.json"),
        "gcs_bucket_name": "penstock",
    }
    configuration = {
        "model_list": [{"model_name": "gemini", "litellm_params": parameters}],
        "general_settings": {"master_key": MASTER_KEY},
        "litellm_settings": {"telemetry": False},
    }
    # JSON is YAML.
    (folder / "litellm.yaml").write_text(json.dumps(configuration), encoding="utf-8")
    port = free_port()
    command = [str(programs / "litellm"), "--config", str(folder / "litellm.yaml")]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    # Its price list would come from the internet at each start.
    settings = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with started(command, folder / "litellm.log", 0, settings) as process:
        process.url, process.key = f"http://127.0.0.1:{port}", MASTER_KEY
        wait_until_up(port)
        yield process


def free_port() -> int:
    """Return a port that nobody listens on; LiteLLM cannot be told to take any."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_until_up(port: int) -> None:
    """Return once a server listens; `Unavailable` after `START_SECONDS_MAX`."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port)):
                return
        except ConnectionRefusedError:
            time.sleep(0.2)
    raise Unavailable(f"LiteLLM did not answer within {START_SECONDS_MAX:g} s")


def write_openai(source: Path, target: Path) -> None:
    """Write the same prompts as lines of an OpenAI batch."""
    with source.open("rb") as lines, target.open("w", encoding="utf-8") as file:
        for number, line in enumerate(lines):
            text = json.loads(line)["request"]["contents"][0]["parts"][0]["text"]
            body = {
                "model": "gemini",
                "messages": [{"role": "user", "content": text}],
                "temperature": 0.2,
            }
            entry = {
                "custom_id": f"row-{number}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": body,
            }
            file.write(json.dumps(entry) + "\n")


def send_form(server: Process, file: Path, **fields: str) -> float:
    """Upload a file to LiteLLM as `multipart/form-data`; return the seconds."""
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{file.name}"\r\n'
        "Content-Type: application/jsonl\r\n\r\n"
    )
    body = ("".join(parts).encode(), file, f"\r\n--{boundary}--\r\n".encode())
    content_type = f"multipart/form-data; boundary={boundary}"
    return send(server.url, server.key, "/v1/files", body, content_type)


def google_upload(file: Path, url: str) -> dict[str, Any]:
    """Upload by google-cloud-storage in this process; return seconds and peak memory."""
    from google.auth.credentials import AnonymousCredentials  # noqa: PLC0415  # optional dependency: for development only
    from google.cloud import storage  # type: ignore[import-untyped]  # noqa: PLC0415  # optional dependency: as above

    client = storage.Client(
        project="penstock-emulator",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": url},
    )
    blob = client.bucket("penstock").blob(f"google/{uuid.uuid4().hex}")
    begun = time.perf_counter()
    blob.upload_from_filename(str(file), timeout=INSTALL_SECONDS_MAX)
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "peak_mb": Process(os.getpid(), {}).peak_mb()}


def genai_answer(file: Path, url: str) -> str:
    """Return what google-genai says to an upload on Vertex AI."""
    from google import genai  # noqa: PLC0415  # optional dependency: for development only
    from google.oauth2.credentials import Credentials  # noqa: PLC0415  # optional dependency: as above

    client = genai.Client(
        vertexai=True,
        project="penstock-emulator",
        location="global",
        credentials=Credentials("token"),
        http_options=genai.types.HttpOptions(base_url=url),
    )
    try:
        client.files.upload(file=str(file), config={"mime_type": "application/jsonl"})
    except ValueError as error:
        return str(error)
    return "uploaded"


class Round:
    """Figures of one server or client over several rounds."""

    def __init__(self, megabytes: float) -> None:
        self._megabytes = megabytes
        self._seconds: list[float] = []
        self._peak_mb = 0.0
        self._pss_mb = 0.0
        self._idle_pss_mb = 0.0

    def add(self, seconds: float, peak_mb: float, pss: tuple[float, float] | None = None) -> None:
        """Take one upload; `pss` is that of the idle server and that at its highest."""
        self._seconds.append(seconds)
        self._peak_mb = max(self._peak_mb, peak_mb)
        if pss is not None:
            self._idle_pss_mb = self._idle_pss_mb or pss[0]
            self._pss_mb = max(self._pss_mb, pss[1])

    def figures(self) -> dict[str, Any]:
        """Return the median rate and the peaks."""
        rates = {
            "mb_per_second": round(self._megabytes / statistics.median(self._seconds), 1),
            "mb_per_second_of_each": [round(self._megabytes / each, 1) for each in self._seconds],
            "peak_rss_mb": self._peak_mb,
        }
        if not self._pss_mb:
            return rates
        return {
            **rates,
            "idle_pss_mb": self._idle_pss_mb,
            "peak_pss_mb": self._pss_mb,
            "grown_pss_mb": round(self._pss_mb - self._idle_pss_mb, 1),
        }


class Contest:
    """The peers, one upload each in every round, so that all of them see the same machine."""

    def __init__(self, folder: Path, source: Path, *, with_openai: bool) -> None:
        self._folder = folder
        self._source = source
        self._openai = folder / "openai.jsonl"
        self._with_openai = with_openai
        self._rounds: dict[str, Round] = {}
        self.left_out: dict[str, str] = {}
        self.litellm_idle_mb = 0.0
        self._idle_pss_mb: dict[int, float] = {}

    def run(self, rounds: int) -> dict[str, Any]:
        """Return the figures of each peer."""
        if self._with_openai:
            write_openai(self._source, self._openai)
        with ExitStack() as servers:
            provider = servers.enter_context(emulator(self._folder))
            ours = servers.enter_context(
                penstock(self._folder, provider.url, PENSTOCK_TIMING_POLL_SECONDS_MIN="0.5")
            )
            theirs = self._litellm(servers, provider.url)
            for _ in range(rounds):
                self._penstock(ours)
                if theirs is not None:
                    self._forms(theirs)
                self._google(provider.url)
        return {name: each.figures() for name, each in self._rounds.items()}

    def _litellm(self, servers: ExitStack, url: str) -> Process | None:
        try:
            process = servers.enter_context(litellm(self._folder, url))
        except Unavailable as error:
            self.left_out["litellm"] = str(error)
            print(f"peers: without LiteLLM: {error}", file=sys.stderr)
            return None
        self.litellm_idle_mb = process.peak_mb()
        return process

    def _penstock(self, server: Process) -> None:
        idle_mb = self._settled(server)
        begun_at = time.time()
        peak = Peak()
        with sampled(server, peak):
            seconds = send_file(
                server.url,
                server.key,
                self._source,
                path=REQUESTS,
                content_type="application/jsonl",
            )
            pss = (idle_mb, peak.mb)
            self._add("penstock_raw", self._source, seconds, server.peak_mb(), pss)
            took = self._event_at("prepared") - begun_at
        pss = (idle_mb, peak.mb)
        self._add("penstock_until_in_bucket", self._source, took, server.peak_mb(), pss)
        # The rest of the job would disturb the next peer.
        self._event_at("succeeded")

    def _event_at(self, kind: str) -> float:
        """Return when the newest job had this event; waits for it."""
        query = (
            "SELECT at FROM events WHERE kind = ? AND job_id ="
            " (SELECT id FROM jobs ORDER BY created_at DESC LIMIT 1)"
        )
        deadline = time.monotonic() + INSTALL_SECONDS_MAX
        with closing(sqlite3.connect(self._folder / "data" / "penstock.db")) as connection:
            while time.monotonic() < deadline:
                found = connection.execute(query, (kind,)).fetchone()
                if found is not None:
                    return float(found[0])
                time.sleep(0.2)
        raise TimeoutError(f"the job was never {kind}")

    def _forms(self, server: Process) -> None:
        fields = {"purpose": "batch", "custom_llm_provider": "vertex_ai", "model": "gemini"}
        self._form(server, "litellm_passthrough", self._source, **fields, passthrough="true")
        if self._with_openai:
            self._form(server, "litellm_openai", self._openai, **fields)

    def _form(self, server: Process, name: str, file: Path, **fields: str) -> None:
        idle_mb = self._settled(server)
        peak = Peak()
        with sampled(server, peak):
            seconds = send_form(server, file, **fields)
        self._add(name, file, seconds, server.peak_mb(), (idle_mb, peak.mb))

    def _settled(self, server: Process) -> float:
        """Wait until a server is idle; return its memory when it was so for the first time."""
        os.sync()
        server.settle()
        return self._idle_pss_mb.setdefault(server.pid, server.pss_mb())

    def _google(self, url: str) -> None:
        if importlib.util.find_spec("google.cloud") is None:
            self.left_out["google"] = "google-cloud-storage is not installed (make test does it)"
            return
        os.sync()
        done = subprocess.run(
            [sys.executable, __file__, "--google", str(self._source), "--url", url],
            stdout=subprocess.PIPE,
            check=True,
            timeout=INSTALL_SECONDS_MAX,
        )
        said = json.loads(done.stdout)
        self._add("google_cloud_storage", self._source, said["seconds"], said["peak_mb"])
        self.left_out["google_genai"] = said["google_genai_on_vertex"]

    def _add(
        self,
        name: str,
        file: Path,
        seconds: float,
        peak_mb: float,
        pss: tuple[float, float] | None = None,
    ) -> None:
        known = self._rounds.setdefault(name, Round(file.stat().st_size / 1e6))
        known.add(seconds, peak_mb, pss)


def compare(peers: dict[str, Any]) -> dict[str, Any]:
    """Return ratios, and which goals are met."""
    ours = peers["penstock_raw"]
    ratios: dict[str, Any] = {
        f"times_{name}": round(ours["mb_per_second"] / figures["mb_per_second"], 2)
        for name, figures in peers.items()
        if name != "penstock_raw"
    }
    theirs = [name for name in peers if name.startswith("litellm_")]
    for name in theirs:
        ratios[f"goal_3_times_{name}_is_met"] = ratios[f"times_{name}"] >= GOAL_TIMES_LITELLM
    if theirs:
        memory = max(peers[name]["peak_rss_mb"] for name in theirs) / ours["peak_rss_mb"]
        ratios["litellm_memory_in_penstocks"] = round(memory, 1)
        ratios["goal_20th_of_its_memory_is_met"] = memory >= GOAL_PART_OF_LITELLM_MEMORY
        # An upload that is streamed cannot take a twentieth of what a server is when it is idle.
        grown = max(peers[name]["grown_pss_mb"] for name in theirs)
        ratios["litellm_growth_in_penstocks"] = round(grown / max(ours["grown_pss_mb"], 0.1), 1)
    if "google_cloud_storage" in peers:
        ratios["goal_as_fast_as_google_is_met"] = ratios["times_google_cloud_storage"] >= 1
    return ratios


def litellm_version() -> str:
    """Return which LiteLLM pip found for this Python."""
    names = [path.name for path in VENV.glob("lib/python*/site-packages/litellm-*.dist-info")]
    return names[0].removeprefix("litellm-").removesuffix(".dist-info") if names else ""


def measure(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Write the file, run the rounds, compare."""
    source = folder / "input.jsonl"
    write_input(source, given.megabytes * 1_000_000 // LINE_BYTES, LINE_BYTES)
    contest = Contest(folder, source, with_openai=given.openai)
    peers = contest.run(given.rounds)
    return machine(
        file_bytes=source.stat().st_size,
        line_bytes=LINE_BYTES,
        rounds=given.rounds,
        **peers,
        **compare(peers),
        litellm_version=litellm_version(),
        litellm_idle_rss_mb=contest.litellm_idle_mb,
        left_out=contest.left_out,
    )


def main() -> None:
    """Parse, measure in a temporary folder, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--openai", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--google", type=Path, help="for the benchmark itself: upload this file")
    parser.add_argument("--url", help="for the benchmark itself: to this emulator")
    given = parser.parse_args()
    if given.google is not None:
        said = google_upload(given.google, given.url)
        # Imported after the memory was read, so that it is not counted.
        said["google_genai_on_vertex"] = genai_answer(given.google, given.url)
        print(json.dumps(said))
        return
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        print(json.dumps(measure(Path(name), given)))


if __name__ == "__main__":
    main()
