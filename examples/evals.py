r"""Score answers against what was expected, and compare prompts or models.

    python examples/evals.py examples/questions.jsonl --model gemini-3-flash-preview \
        --prompt "Sort this ticket: {question}" --prompt "Which team? {question}" --least 0.8

One job for each pair of prompt and model, all at the same time. It prints a table, what each wrong
answer was, and ends with 1 if the best is below `--least`, so that CI can stop a worse prompt.
"""

# A script, which prints, and not a package.
# ruff: noqa: INP001, T201

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from penstock.client import Client

Case = dict[str, str]

TEAMS = ["billing", "bug", "help", "wish"]
WRONG_SHOWN_MAX = 5


class Score(NamedTuple):
    """What came of one prompt and one model."""

    prompt: str
    model: str
    right: int
    wrong: list[tuple[str, str, str]]
    """Key, what was expected, what was answered."""
    cost_usd: str


def request(case: Case, prompt: str) -> dict[str, Any]:
    """Return the line of one case: it has to answer with one of the teams."""
    text = prompt.replace("{question}", case["question"])
    return {
        "key": case["id"],
        "request": {
            "contents": [{"role": "user", "parts": [{"text": text}]}],
            "generationConfig": {
                "responseMimeType": "text/x.enum",
                "responseSchema": {"type": "STRING", "enum": TEAMS},
            },
        },
    }


def score(cases: list[Case], job: Any, prompt: str, model: str) -> Score:  # noqa: ANN401  # a Job
    """Compare the answers of a job, which come in the order of the cases."""
    right, wrong = 0, []
    for case, result in zip(cases, job.results(), strict=True):
        answer = (result.text or "").strip() if result.ok else f"({result.outcome})"
        if answer == case["expected"]:
            right += 1
        else:
            wrong.append((case["id"], case["expected"], answer))
    cost = job.record.outcome.actual_cost_usd
    return Score(prompt, model, right, wrong, cost or "unknown")


def main() -> int:
    """Run every pair, and print how good each is."""
    parser = argparse.ArgumentParser(description="Compare prompts and models.")
    parser.add_argument("cases", type=Path)
    parser.add_argument("--model", action="append", required=True, dest="models")
    parser.add_argument("--prompt", action="append", required=True, dest="prompts")
    parser.add_argument("--least", type=float, default=0.0, help="share that has to be right")
    arguments = parser.parse_args()

    cases = [json.loads(line) for line in arguments.cases.read_text("utf-8").splitlines()]
    pairs = list(itertools.product(arguments.prompts, arguments.models))
    with Client() as client:
        # All are submitted before the first is waited for: batches wait at the same time.
        jobs = [
            client.jobs.submit([request(case, prompt) for case in cases], model=model, name="eval")
            for prompt, model in pairs
        ]
        scores = [
            score(cases, job.wait(), prompt, model)
            for job, (prompt, model) in zip(jobs, pairs, strict=True)
        ]
    scores.sort(key=lambda one: one.right, reverse=True)
    for one in scores:
        print(f"{one.right}/{len(cases)}  ${one.cost_usd}  {one.model}  {one.prompt!r}")
        for key, expected, answered in one.wrong[:WRONG_SHOWN_MAX]:
            print(f"    {key}: expected {expected}, got {answered}")
    return 0 if scores[0].right >= arguments.least * len(cases) else 1


if __name__ == "__main__":
    sys.exit(main())
