"""`make bench`: run every benchmark and keep its figures.

Each benchmark is a script of its own that prints one JSON object; bench/README.md says what each
figure means. Results land in bench/results/, one file per benchmark, replaced at each run.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

BENCH: Final = Path(__file__).parent
_RAW: Final = ("ingest.py", "--door", "raw", "--runs", "5")
_LARGE: Final = ("ingest.py", "--lines", "190000", "--line-bytes", "5300")
_FOUR: Final = (*_LARGE, "--at-once", "4", "--runs", "1", "--busy-runs", "0")
BENCHMARKS: Final = {
    "whole_job_200k": ["whole_job.py", "--lines", "200000", "--line-bytes", "500"],
    "whole_job_1gb": ["whole_job.py", "--lines", "200000", "--line-bytes", "5300"],
    "collect_200k_500b": ["collect.py", "--lines", "200000", "--line-bytes", "500"],
    "collect_1gb": ["collect.py", "--lines", "200000", "--line-bytes", "4400"],
    "collect_1gb_pythons": [
        *("collect.py", "--lines", "200000", "--line-bytes", "4400", "--pythons")
    ],
    "ingest_raw_1gb": [*_LARGE, "--door", "raw"],
    "ingest_base64_1gb": [*_LARGE, "--door", "base64", "--naive-bytes-max", "1100000000"],
    "ingest_escaped_1gb": [*_LARGE, "--door", "escaped"],
    "ingest_mixed_escaped_1gb": [*_LARGE, "--door", "escaped", "--mixed"],
    "ingest_raw_1gb_four_at_once": [*_FOUR, "--door", "raw"],
    "ingest_raw_1gb_four_at_once_one_receiver": [*_FOUR, "--door", "raw", "--receivers", "1"],
    "ingest_raw_100mb": ["ingest.py", "--door", "raw", "--runs", "5"],
    "ingest_multipart_100mb": ["ingest.py", "--door", "multipart", "--runs", "5"],
    "ingest_gzip_100mb": ["ingest.py", "--door", "gzip", "--runs", "5"],
    "ingest_raw_300b_lines": [*_RAW, "--lines", "190000", "--line-bytes", "300"],
    "ingest_raw_300kb_lines": [*_RAW, "--lines", "330", "--line-bytes", "300000"],
    "shapes": ["shapes.py"],
    "download_1gb": ["download.py"],
    "client_1gb": ["client.py", "--lines", "200000", "--line-bytes", "5300"],
    "map": ["map.py"],
    "peers_100mb": ["peers.py", "--megabytes", "100", "--rounds", "3"],
    "peers_1gb": ["peers.py", "--megabytes", "1000", "--rounds", "1", "--no-openai"],
    "small_calls": ["small_calls.py"],
    "stall": ["stall.py"],
    "stages": ["stages.py"],
    "slow_clients": ["slow_clients.py"],
    "auth_timing": ["auth_timing.py"],
    "replays": ["replays.py"],
    "list_100k": ["list_jobs.py", "--jobs", "100000"],
    "list_100k_postgres": ["list_jobs.py", "--jobs", "100000", "--postgres"],
    "lines_200k": ["lines.py"],
    "answers": ["answers.py"],
    "submit_latency": ["submit_latency.py"],
    "jobs_per_second": ["jobs_per_second.py"],
    "fairness": ["fairness.py"],
    "growth": ["growth.py"],
    "growth_10k_jobs": ["growth.py", "--upload-mb-max", "0", "--step-seconds-max", "1500"],
    "waiting": ["waiting.py"],
    "estimate": ["estimate.py"],
    "takeover": ["takeover.py"],
}


def main() -> None:
    """Run those named on the command line, or all."""
    for name in sys.argv[1:] or BENCHMARKS:
        script, *arguments = BENCHMARKS[name]
        print(f"== {name}", flush=True)
        done = subprocess.run(
            [sys.executable, str(BENCH / script), *arguments],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        result = json.loads(done.stdout)
        path = BENCH / "results" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        for figure, value in result.items():
            print(f"  {figure:<28} {value}")


if __name__ == "__main__":
    main()
