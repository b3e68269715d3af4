"""Upload and download of a gigabyte by the Python client: seconds and peak memory of each step.

Each step is a process of its own, so that its peak is its own; server and emulator are two more on
the same cores. Prints a JSON object.
"""

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from penstock.client import AsyncClient, Client
from whole_job import JOB_SECONDS_MAX, MODEL, running, write_input

KINDS: Final = ("blocking", "aio")


def requests(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a file as a caller would make requests."""
    with path.open("rb") as file:
        for line in file:
            yield json.loads(line)


def block(client: Client, step: str, argument: str, path: Path) -> str:
    """Do a step, and return what the next one needs."""
    if step == "submit":
        return client.jobs.submit(path, model=MODEL).id
    if step == "submit_one_by_one":
        return client.jobs.submit(requests(path), model=MODEL).id
    if step == "idle":
        return client.url
    job = client.jobs.get(argument)
    if step == "download":
        return str(job.download(path, progress=False).bytes_total)
    return str(sum(len(result.text) for result in job.results()))


async def wait(client: AsyncClient, step: str, argument: str, path: Path) -> str:
    """Do the same with the client that awaits."""
    if step == "submit":
        return (await client.jobs.submit(path, model=MODEL)).id
    if step == "submit_one_by_one":
        return (await client.jobs.submit(requests(path), model=MODEL)).id
    if step == "idle":
        return client.url
    job = await client.jobs.get(argument)
    if step == "download":
        return str((await job.download(path, progress=False)).bytes_total)
    return str(sum([len(result.text) async for result in job.results()]))


async def awaiting(step: str, argument: str, path: Path) -> tuple[float, str]:
    """Do a step with a client that awaits; return its seconds and what it said."""
    async with AsyncClient() as client:
        begun = time.perf_counter()
        said = await wait(client, step, argument, path)
        return time.perf_counter() - begun, said


def blocking(step: str, argument: str, path: Path) -> tuple[float, str]:
    """Do a step with a client that blocks; return its seconds and what it said."""
    with Client() as client:
        begun = time.perf_counter()
        said = block(client, step, argument, path)
        return time.perf_counter() - begun, said


class Steps:
    """Runs steps in processes of their own and keeps their figures."""

    def __init__(self, server: dict[str, str]) -> None:
        self._environment = {
            **os.environ,
            "PENSTOCK_URL": server["url"],
            "PENSTOCK_API_KEY": server["key"],
        }
        self.figures: dict[str, Any] = {}

    def run(self, kind: str, step: str, argument: str, path: Path) -> str:
        """Run one and return what it said."""
        arguments = ["--kind", kind, "--step", step, "--argument", argument, "--path", str(path)]
        child = subprocess.Popen(
            [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, env=self._environment
        )
        output = b"" if child.stdout is None else child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise RuntimeError(f"{kind} {step} ended with {child.returncode}")
        said = json.loads(output)
        name = f"{step}_{kind}"
        self.figures[f"{name}_seconds"] = round(said["seconds"], 2)
        self.figures[f"{name}_peak_rss_mb"] = round(usage.ru_maxrss * 1024 / 1e6, 1)
        self.figures[f"{name}_cpu_seconds"] = round(usage.ru_utime + usage.ru_stime, 2)
        return str(said["said"])


def measure(folder: Path, lines: int, line_bytes: int) -> dict[str, Any]:
    """Run the steps and return the figures."""
    load = os.getloadavg()
    source = folder / "input.jsonl"
    write_input(source, lines, line_bytes)
    emulator = ["emulator", "--port", "0", "--speed", "1000", "--data-dir", str(folder / "emu")]
    with running(emulator, folder / "emulator.log") as provider:
        serve = ["serve", "--port", "0", "--data-dir", str(folder / "data")]
        serve += ["--emulator", provider["url"]]
        with (
            running(serve, folder / "server.log") as server,
            Client(server["url"], server["key"]) as client,
        ):
            steps = Steps(server)
            jobs = [steps.run("blocking", "submit", "", source)]
            first = client.jobs.get(jobs[0]).wait(JOB_SECONDS_MAX, progress=False)
            for kind in KINDS:
                steps.run(kind, "idle", "", source)
                steps.run(kind, "download", first.id, folder / f"{kind}.jsonl")
                steps.run(kind, "results", first.id, source)
            for kind, step in (
                ("aio", "submit"),
                ("blocking", "submit_one_by_one"),
                ("aio", "submit_one_by_one"),
            ):
                client.jobs.get(steps.run(kind, step, "", source)).cancel()
    return {
        "input_bytes": source.stat().st_size,
        "output_bytes": (folder / "blocking.jsonl").stat().st_size,
        **steps.figures,
        "load_average_at_start": [round(each, 2) for each in load],
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "python": platform.python_version(),
    }


def main() -> None:
    """Run one step, or all of them in a temporary folder; print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--line-bytes", type=int, default=5_300)
    parser.add_argument("--kind", choices=KINDS, default="blocking")
    parser.add_argument("--step", default="")
    parser.add_argument("--argument", default="")
    parser.add_argument("--path", type=Path, default=Path())
    given = parser.parse_args()
    if given.step:
        if given.kind == "aio":
            seconds, said = asyncio.run(awaiting(given.step, given.argument, given.path))
        else:
            seconds, said = blocking(given.step, given.argument, given.path)
        print(json.dumps({"seconds": seconds, "said": said}))
        return
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        print(json.dumps(measure(Path(name), given.lines, given.line_bytes)))


if __name__ == "__main__":
    main()
