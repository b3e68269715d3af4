"""Write the tables of docs/explanation/speed.md from bench/results/; `--check` compares them.

A table stands between `<!-- figures: NAME -->` and `<!-- end -->`; all other text is written by
hand. A row exists when the result that it is taken from does, so nothing is ever filled in.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = ROOT / "docs" / "explanation" / "speed.md"
RESULTS: Final = ROOT / "bench" / "results"
_PLACE: Final = re.compile(
    r"(?P<begin><!-- figures: (?P<name>\w+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL
)

Results = Mapping[str, Any]
Row = list[str]


class Goal(NamedTuple):
    """One goal of the hot path, and where its figure stands."""

    what: str
    least: float | None
    most: float | None
    figure: Callable[[Results], float]
    source: str
    unit: str = ""


def slowest_shape(results: Results) -> float:
    """Return how much slower the slowest shape of lines is than that of 5 KB, byte for byte."""
    return max(float(results["shapes"][f"times_slower_{size}"]) for size in (300, 300_000))


def memory_apart(results: Results, kind: str) -> float:
    """Return by how much the peak of a 1 GB upload differs from that of 100 MB."""
    one, other = (
        results[name]["penstock"][kind] for name in ("ingest_raw_1gb", "ingest_raw_100mb")
    )
    return float(abs(one - other))


GOALS: Final = (
    Goal("1 GB raw, of the null ingest", 0.75, None, lambda r: r["ingest_raw_1gb"]["of_null"],
         "ingest_raw_1gb"),
    Goal("1 GB base64, of the null ingest", 0.75, None, lambda r: r["ingest_base64_1gb"]["of_null"],
         "ingest_base64_1gb"),
    Goal("1 GB escaped, of the null ingest", 0.55, None,
         lambda r: r["ingest_escaped_1gb"]["of_null"], "ingest_escaped_1gb"),
    Goal("1 GB escaped, texts with quotes and other scripts", 0.55, None,
         lambda r: r["ingest_mixed_escaped_1gb"]["of_null"], "ingest_mixed_escaped_1gb"),
    Goal("naive FastAPI, 1 GB base64", 7, None, lambda r: r["ingest_base64_1gb"]["times_naive"],
         "ingest_base64_1gb", " times"),
    Goal("slowest shape of lines beside 5 KB, as many bytes", None, 1.7, slowest_shape,
         "shapes", " times"),
    Goal("peak RSS of server and receiving process, first 1 GB upload", None, 120,
         lambda r: r["ingest_raw_1gb"]["penstock"]["first_upload_peak_rss_mb"],
         "ingest_raw_1gb", " MB"),
    Goal("all its processes after three, whose jobs it prepares", None, 120,
         lambda r: r["ingest_raw_1gb"]["penstock"]["peak_rss_mb"], "ingest_raw_1gb", " MB"),
    Goal("peak RSS, first four 1 GB uploads at once, one receiving process", None, 140,
         lambda r: r["ingest_raw_1gb_four_at_once_one_receiver"]["penstock"][
             "first_upload_peak_rss_mb"],
         "ingest_raw_1gb_four_at_once_one_receiver", " MB"),
    Goal("the same with two of them, as by default", None, 140,
         lambda r: r["ingest_raw_1gb_four_at_once"]["penstock"]["first_upload_peak_rss_mb"],
         "ingest_raw_1gb_four_at_once", " MB"),
    Goal("peak RSS of 100 MB and 1 GB, apart", None, 10,
         lambda r: memory_apart(r, "first_upload_peak_rss_mb"), "ingest_raw_100mb", " MB"),
    Goal("LiteLLM's upload of the file as it is, 1 GB", 3, None,
         lambda r: r["peers_1gb"]["times_litellm_passthrough"], "peers_1gb", " times"),
    Goal("LiteLLM's memory in ours, whole processes", 20, None,
         lambda r: r["peers_1gb"]["litellm_memory_in_penstocks"], "peers_1gb", " times"),
    Goal("what an upload adds to LiteLLM's memory, in what it adds to ours", 20, None,
         lambda r: r["peers_1gb"]["litellm_growth_in_penstocks"], "peers_1gb", " times"),
    Goal("google-cloud-storage's bare upload, 1 GB", 1, None,
         lambda r: r["peers_1gb"]["times_google_cloud_storage"], "peers_1gb", " times"),
    Goal("collect of 200,000 shuffled lines, 1 GB", 400, None,
         lambda r: r["collect_1gb"]["total_mb_per_second"], "collect_1gb", " MB/s"),
    Goal("the same, lines as Python's `json.dumps` writes them", 400, None,
         lambda r: r["collect_1gb_pythons"]["total_mb_per_second"], "collect_1gb_pythons", " MB/s"),
    Goal("memory of collect above the server's own", None, 80,
         lambda r: r["collect_1gb"]["collecting_peak_rss_mb"], "collect_1gb", " MB"),
    Goal("download, of a static file of the same server", 0.8, None,
         lambda r: r["download_1gb"]["of_static_file"], "download_1gb"),
    Goal("overhead on 200,000 lines beyond the provider's time, 100 MB", None, 15,
         lambda r: r["whole_job_200k"]["overhead_seconds_beyond_provider"],
         "whole_job_200k", " s"),
    Goal("the same, 1 GB", None, 15,
         lambda r: r["whole_job_1gb"]["overhead_seconds_beyond_provider"], "whole_job_1gb", " s"),
    Goal("`GET /requests/{id}` under two 1 GB uploads, p99", None, 10,
         lambda r: r["small_calls"]["get_p99_ms"], "small_calls", " ms"),
    Goal("slowest page of a list of 100,000 jobs, median", None, 20,
         lambda r: r["list_100k"]["slowest_page_p50_ms"], "list_100k", " ms"),
    Goal("the same, p99", None, 20,
         lambda r: r["list_100k"]["slowest_page_p99_ms"], "list_100k", " ms"),
    Goal("slowest page on Postgres, median", None, 20,
         lambda r: r["list_100k_postgres"]["slowest_page_p50_ms"], "list_100k_postgres", " ms"),
    Goal("the same, p99", None, 20,
         lambda r: r["list_100k_postgres"]["slowest_page_p99_ms"], "list_100k_postgres", " ms"),
)  # fmt: skip


def goals(results: Results) -> Iterator[Row]:
    """Yield the goals, what was measured, and how far that is from them."""
    yield ["what", "goal", "measured", "", "result"]
    for goal in GOALS:
        try:
            figure = goal.figure(results)
        except KeyError:
            continue
        wanted = goal.least if goal.least is not None else goal.most
        if wanted is None:
            raise ValueError(f"the goal {goal.what!r} wants nothing")
        is_met = figure >= wanted if goal.least is not None else figure <= wanted
        by = max(figure, wanted) / max(min(figure, wanted), 0.01)
        sign = "≥" if goal.least is not None else "≤"
        yield [
            goal.what,
            f"{sign} {wanted:g}{goal.unit}",
            f"**{figure:.3g}**{goal.unit}" if figure < 1000 else f"**{figure:.0f}**{goal.unit}",  # noqa: PLR2004  # where three digits end
            "met" if is_met else f"missed by {by:.2f} times",
            f"`{goal.source}`",
        ]


def ingest(results: Results) -> Iterator[Row]:
    """Yield the uploads, each beside the limit of the machine in the same run."""
    yield [
        *("body", "line", "MB", "ours MB/s", "null MB/s", "of null", "CPU s/GB", "null"),
        *("peak RSS MB", "load"),
    ]
    for name, found in results.items():
        if not name.startswith("ingest_"):
            continue
        ours, null = found["penstock"], found["null"]
        many = f", {found['at_once']} at once" if found["at_once"] > 1 else ""
        if many and found.get("receivers") == 1:
            many += ", one receiver"
        text = ", mixed text" if found["text"] == "mixed" else ""
        yield [
            f"{found['door']}{text}{many}",
            f"{found['line_bytes']:,} B",
            f"{found['decoded_bytes'] / 1e6:,.0f}",
            f"{ours['mb_per_second']:.0f}",
            f"{null['mb_per_second']:.0f}",
            f"**{found['of_null']:.2f}**",
            f"{ours['cpu_seconds_per_gb']:.1f}",
            f"{null['cpu_seconds_per_gb']:.1f}",
            " + ".join(f"{each:.0f}" for each in ours["peak_rss_mb_by_process"]),
            f"{found['load_average_at_start'][0]:.1f}",
        ]


PEERS: Final = {
    "penstock_raw": "Penstock, answer: every byte checked and durable",
    "penstock_until_in_bucket": "the same until it is in the bucket, too",
    "litellm_passthrough": "LiteLLM's proxy, file as it is",
    "litellm_openai": "LiteLLM's proxy, OpenAI lines that it translates",
    "google_cloud_storage": "google-cloud-storage, nothing is looked at",
}


def peers(results: Results) -> Iterator[Row]:
    """Yield the peers, before the same emulator."""
    yield ["who", "100 MB: MB/s", "peak RSS MB", "1 GB: MB/s", "peak RSS MB"]
    for name, title in PEERS.items():
        row = [title]
        for size in ("peers_100mb", "peers_1gb"):
            found = results.get(size, {}).get(name)
            row += (
                [f"{found['mb_per_second']:.0f}", f"{found['peak_rss_mb']:.0f}"]
                if found
                else ["not taken", ""]
            )
        yield row


def steps(results: Results) -> Iterator[Row]:
    """Yield what each step of an upload costs alone."""
    yield ["step, alone", "CPU s/GB, median", "least"]
    found = results.get("stages", {"cpu_seconds_per_gb": {}})
    for name, cost in found["cpu_seconds_per_gb"].items():
        yield [name.replace("_", " "), f"{cost['median']:.2f}", f"{cost['least']:.2f}"]


def growth(results: Results) -> Iterator[Row]:
    """Yield what more work costs."""
    yield ["work", "time", "memory MB"]
    # Its own run has more jobs than there is time for beside the uploads.
    uploads = {name: one for name, one in results["growth"].items() if name.startswith("upload_")}
    for name, found in (uploads | results.get("growth_10k_jobs", results["growth"])).items():
        if name.startswith("upload_"):
            memory = f"{found['peak_rss_mb']:.0f}, idle {found['idle_rss_mb']:.0f}"
            yield [f"upload, {name.split('_')[1]} MB", f"{found['ms_per_mb']:.1f} ms/MB", memory]
        elif name.startswith("to_"):
            jobs = int(name.split("_")[1])
            yield [
                f"up to {jobs:,} jobs",
                f"{found['ms_per_job']:.0f} ms/job",
                f"{found['rss_mb']}",
            ]


def calls(results: Results) -> Iterator[Row]:
    """Yield how long one small call takes, and the same of a bare server at that time."""
    yield ["`GET /requests/{id}`, 50 a second", "p50 ms", "p99 ms", "a bare server, p99 ms"]
    small, stall = results["small_calls"], results.get("stall", {"rounds": []})
    for uploads, words in ((1, "one upload"), (2, "two uploads")):
        ours, bare = (small[f"{name}_during_{uploads}_uploads"] for name in ("get", "floor"))
        yield [f"during {words} of 1 GB", *spread_of(ours), spread_of(bare)[1]]
    for stage in ("prepare", "collect"):
        ours, bare = ([each[stage][name] for each in stall["rounds"]] for name in ("get", "floor"))
        if ours:
            yield [f"during {stage} of 1 GB", *spread_of(ours), spread_of(bare)[1]]


def spread_of(rounds: list[dict[str, float]]) -> list[str]:
    """Return p50 and p99, each the median of the rounds."""
    return [f"{median(each[name] for each in rounds):.1f}" for name in ("p50_ms", "p99_ms")]


def small_jobs(results: Results) -> Iterator[Row]:
    """Yield what small jobs get."""
    yield ["small jobs of 20 lines", "jobs/s", "whole life p50", "p99", "server CPU ms/job"]
    for name, found in results["jobs_per_second"].items():
        if name.endswith("_at_once"):
            timing, _, many = name.removesuffix("_at_once").rpartition("_")
            whole = found["whole_life"]
            yield [
                f"{many} at once, {timing.replace('_', ' ')}{' timings' * (timing == 'default')}",
                f"{found['jobs_per_second']:.1f}",
                f"{whole['p50_ms'] / 1000:.2f} s",
                f"{whole['p99_ms'] / 1000:.2f} s",
                f"{found['server_cpu_ms_per_job']:.0f}",
            ]


TABLES: Final[dict[str, Callable[[Results], Iterator[Row]]]] = {
    "goals": goals,
    "ingest": ingest,
    "peers": peers,
    "steps": steps,
    "calls": calls,
    "growth": growth,
    "small_jobs": small_jobs,
}


def table(rows: Iterator[Row]) -> str:
    """Return rows as a table, the first of them as its head."""
    head, *rest = rows
    lines = [head, ["---"] * len(head), *rest]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def build(page: str, results: Results) -> str:
    """Return the page with its tables written anew."""
    return _PLACE.sub(
        lambda found: found["begin"] + table(TABLES[found["name"]](results)) + found["end"], page
    )


def read_results() -> dict[str, Any]:
    """Return all results by their names."""
    return {path.stem: json.loads(path.read_bytes()) for path in sorted(RESULTS.glob("*.json"))}


def main() -> int:
    """Write or check the page; return the exit code."""
    page = PAGE.read_text(encoding="utf-8")
    made = build(page, read_results())
    if "--check" not in sys.argv:
        PAGE.write_text(made, encoding="utf-8")
        return 0
    if made == page:
        return 0
    print(
        "docs/explanation/speed.md is not up to date: run .venv/bin/python tools/document_speed.py"
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
