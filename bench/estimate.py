"""What jobs were expected to cost, against what they did cost on the emulator's token model.

Jobs of many shapes are made, seeded: lengths of prompts, schemas, thinking, caps, images, scripts,
lines that repeat, a mix of all in one job. Each is stored as an input with its index and estimated
as a submission is; then every line that differs is answered by the emulator's own answerer, and its
usage is billed as collecting does it. So this shows whether sampling, arithmetic and history are
right. It cannot show how near the rules are to Gemini's tokenizer, which the emulator lacks.

Each organisation sends jobs of two shapes in turns, as people do; every tenth is of another one.
"Without history" is each job estimated as if it were its owner's first.

Prints a JSON object.
"""

import argparse
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from penstock.core.estimate import HISTORY_JOBS_MAX, Estimate, Past, estimate
from penstock.core.line import Usage
from penstock.core.models import SEED_CATALOGUE, cost_pico_dollars
from penstock.core.money import micro_from_pico
from penstock.core.tokens import Traits
from penstock.emulator.answers import Answerer
from penstock.ingest.index import pack_rows
from penstock.ingest.sampling import sample_of

TEXT_MODEL: Final = "gemini-3-flash-preview"
IMAGE_MODEL: Final = "gemini-3-pro-image-preview"
JOBS_PER_ORG: Final = 24
OTHER_EVERY: Final = 10
"""One job in so many is of no usual shape."""
OUTPUT_TOKENS: Final = 1_000
"""The setting's default."""
LARGE_BYTES: Final = 1_000_000_000
WORDS: Final = (
    "the",
    "quick",
    "river",
    "of",
    "a",
    "careful",
    "clock",
    "carries",
    "every",
    "ledger",
)

Json = dict[str, Any]
Shape = Callable[[random.Random], Json]


class Ran(NamedTuple):
    """One job: what was expected and what was."""

    expected: Estimate
    cost: int
    prompt_tokens: int
    output_tokens: int
    answered: int
    shape: str


def text(rng: random.Random, words: int) -> str:
    """Return so many words."""
    return " ".join(rng.choices(WORDS, k=max(1, words)))


def asking(prompt: str, **config: object) -> Json:
    """Return a request."""
    request: Json = {"contents": [{"role": "user", "parts": [{"text": prompt}]}]}
    return {**request, "generationConfig": config} if config else request


def _short(rng: random.Random) -> Json:
    return asking(text(rng, rng.randint(5, 40)))


def _long(rng: random.Random) -> Json:
    return asking(text(rng, int(rng.lognormvariate(5.5, 1.0))))


def _classified(rng: random.Random) -> Json:
    schema = {"type": "STRING", "enum": ["good", "bad", "neither"]}
    return asking(
        text(rng, rng.randint(30, 300)),
        responseSchema=schema,
        responseMimeType="text/x.enum",
        thinkingConfig={"thinkingBudget": 0},
    )


def _extracted(rng: random.Random) -> Json:
    leaf = {"type": "STRING"}
    item = {"type": "OBJECT", "properties": {"name": leaf, "amount": {"type": "NUMBER"}}}
    fields = {
        "title": leaf,
        "items": {"type": "ARRAY", "items": item},
        "valid": {"type": "BOOLEAN"},
    }
    schema = {"type": "OBJECT", "properties": fields, "required": list(fields)}
    return asking(
        text(rng, rng.randint(100, 900)),
        responseSchema=schema,
        responseMimeType="application/json",
        thinkingConfig={"thinkingLevel": "low"},
    )


def _capped(rng: random.Random) -> Json:
    return asking(text(rng, rng.randint(20, 200)), maxOutputTokens=rng.choice([32, 64, 128]))


def _chinese(rng: random.Random) -> Json:
    return asking("".join(rng.choices("山水日月人心天地大小上下中国书", k=rng.randint(30, 400))))


def _seen(rng: random.Random) -> Json:
    request = asking(text(rng, 20))
    picture = {"inlineData": {"mimeType": "image/png", "data": "A" * rng.randint(2_000, 9_000)}}
    request["contents"][0]["parts"] += [picture] * rng.randint(1, 3)
    return request


def _repeated(rng: random.Random) -> Json:
    return asking(f"Say {rng.randint(1, 120)} in words, please, and nothing else.")


def _drawn(rng: random.Random) -> Json:
    return asking(f"Draw {text(rng, rng.randint(5, 60))}")


TEXT_SHAPES: Final[dict[str, Shape]] = {
    "short prompts": _short,
    "long prompts": _long,
    "classified": _classified,
    "extracted": _extracted,
    "capped": _capped,
    "chinese": _chinese,
    "images in": _seen,
    "repeated lines": _repeated,
}
IMAGE_SHAPES: Final[dict[str, Shape]] = {"images out": _drawn}


def traits_of(model_id: str) -> Traits:
    """Return what the server knows of the model."""
    draws = SEED_CATALOGUE[model_id].images
    return Traits(draws=draws, thinks=not draws, output_tokens=OUTPUT_TOKENS)


def write(folder: Path, requests: Sequence[Json]) -> tuple[Path, Path]:
    """Store an input and its index."""
    paths = folder / "input.jsonl", folder / "input.index"
    rows, offset = [], 0
    with paths[0].open("wb") as file:
        for request in requests:
            line = json.dumps({"request": request}, ensure_ascii=False).encode()
            file.write(line + b"\n")
            rows.append((offset, len(line)))
            offset += len(line) + 1
    paths[1].write_bytes(pack_rows(rows))
    return paths


def bill(model_id: str, requests: Sequence[Json], seed: int) -> tuple[int, int, int, int]:
    """Return cost, prompt and output tokens, and how many lines were paid."""
    price = SEED_CATALOGUE[model_id].price
    assert price is not None  # noqa: S101  # every seed model has one
    answerer = Answerer(model=SEED_CATALOGUE[model_id].provider_model or model_id, seed=seed)
    pico, prompt, output = 0, 0, 0
    different = {json.dumps(request): request for request in requests}
    for request in different.values():
        told = answerer.answer(request, {}, 0).response["usageMetadata"]
        details = {one["modality"]: one for one in told.get("candidatesTokensDetails", [])}
        usage = Usage(
            prompt_tokens=told["promptTokenCount"],
            candidates_tokens=told.get("candidatesTokenCount", 0),
            thoughts_tokens=told.get("thoughtsTokenCount", 0),
            image_tokens=details.get("IMAGE", {}).get("tokenCount", 0),
        )
        pico += cost_pico_dollars(price, usage)
        prompt += usage.prompt_tokens
        output += usage.candidates_tokens + usage.thoughts_tokens
    return micro_from_pico(pico), prompt, output, len(different)


def past_of(ran: Ran) -> Past:
    """Return what the job says of later ones, as `store.usage` would."""
    return Past(
        prompt_tokens=ran.prompt_tokens / ran.answered,
        output_tokens=ran.output_tokens / ran.answered,
        plain_prompt_tokens=ran.expected.plain_prompt_tokens / ran.expected.lines,
        plain_output_tokens=ran.expected.plain_output_tokens / ran.expected.lines,
    )


def run(folder: Path, jobs: int, *, seed: int) -> tuple[list[Ran], list[Ran], list[float]]:
    """Run all jobs; return them as estimated without and with history, and the seconds it took."""
    rng = random.Random(seed)
    alone, informed, seconds = [], [], []
    for number in range(jobs):
        if number % JOBS_PER_ORG == 0:
            past: dict[str, list[Past]] = {TEXT_MODEL: [], IMAGE_MODEL: []}
            every = {**TEXT_SHAPES, **IMAGE_SHAPES}
            usual = rng.sample(sorted(every), 2)
        name = rng.choice(sorted(every)) if number % OTHER_EVERY == 0 else usual[number % 2]
        model_id = IMAGE_MODEL if name in IMAGE_SHAPES else TEXT_MODEL
        lines = round(10 ** rng.uniform(1, 3.6))
        requests = [every[name](rng) for _ in range(lines)]
        paths = write(folder, requests)
        begun = time.perf_counter()
        sample = sample_of(*paths, traits_of(model_id))
        price = SEED_CATALOGUE[model_id].price
        known = past[model_id][-HISTORY_JOBS_MAX:]
        with_history = estimate(sample, price, known, deduplicate=True)
        seconds.append(time.perf_counter() - begun)
        actual = bill(model_id, requests, number)
        alone.append(Ran(estimate(sample, price, [], deduplicate=True), *actual, name))
        informed.append(Ran(with_history, *actual, name))
        past[model_id].append(past_of(informed[-1]))
    # What history says can be seen only where there is some.
    return alone, [one for one in informed if one.expected.history_jobs], seconds


def figures(rans: Sequence[Ran]) -> Json:
    """Return how near the estimates were."""
    spans = [one.expected.micro_dollars for one in rans]
    within = [
        span is not None and span.low <= one.cost <= span.high
        for span, one in zip(spans, rans, strict=True)
    ]
    ratios = [
        span.expected / one.cost for span, one in zip(spans, rans, strict=True) if span and one.cost
    ]
    widths = [span.high / max(1, span.low) for span in spans if span]
    cuts = statistics.quantiles(ratios, n=20)
    return {
        "jobs": len(rans),
        "within_range_percent": round(100 * sum(within) / len(rans), 1),
        "expected_over_actual_median": round(statistics.median(ratios), 2),
        "expected_over_actual_p5_p95": [round(cuts[0], 2), round(cuts[-1], 2)],
        "high_over_low_median": round(statistics.median(widths), 1),
    }


def by_shape(rans: Sequence[Ran]) -> Json:
    """Return the same for each shape of job."""
    names = sorted({one.shape for one in rans})
    groups = {name: [one for one in rans if one.shape == name] for name in names}
    return {name: figures(group) for name, group in groups.items() if len(group) > 1}


def large(folder: Path, size_bytes: int) -> Json:
    """Return how long a sample of a large input takes."""
    rng = random.Random(5)
    block = [_long(rng) for _ in range(5_000)]
    lines = [json.dumps({"request": request}).encode() + b"\n" for request in block]
    rows, offset = [], 0
    path, index = folder / "large.jsonl", folder / "large.index"
    with path.open("wb") as file:
        while offset < size_bytes:
            for line in lines:
                rows.append((offset, len(line) - 1))
                offset += len(line)
            file.writelines(lines)
    index.write_bytes(pack_rows(rows))
    tries = []
    for _ in range(7):
        begun = time.perf_counter()
        sample = sample_of(path, index, traits_of(TEXT_MODEL))
        estimate(sample, SEED_CATALOGUE[TEXT_MODEL].price, [], deduplicate=True)
        tries.append(time.perf_counter() - begun)
    path.unlink()
    return {
        "bytes": offset,
        "lines": len(rows),
        "milliseconds": [round(each * 1000, 1) for each in sorted(tries)],
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=480)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--large-bytes", type=int, default=LARGE_BYTES)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        alone, informed, seconds = run(Path(folder), given.jobs, seed=given.seed)
        size = large(Path(folder), given.large_bytes) if given.large_bytes else None
    told = {
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
        "without_history": figures(alone),
        "with_history": figures(informed),
        "with_history_by_shape": by_shape(informed),
        "without_history_by_shape": by_shape(alone),
        "estimate_milliseconds_median": round(statistics.median(seconds) * 1000, 1),
        "large_input": size,
    }
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
