"""Label the reviews of a CSV file: sentiment and topics, checked against a schema.

    python examples/label_reviews.py examples/reviews.csv labelled.csv

It needs pandas and `penstock[frames]`, and PENSTOCK_URL and PENSTOCK_API_KEY in the environment.
Run it twice: the second run gets the answers of the first, and pays nothing.
"""

# A script, which prints, and not a package.
# ruff: noqa: INP001, T201

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from penstock.client import Client

PROMPT = "Label this review of a {product}. Topics are at most three nouns.\n\n{review}"


@dataclass
class Label:
    """What is asked of every review; a pydantic model would do as well."""

    sentiment: Literal["positive", "neutral", "negative"]
    topics: list[str]


def main() -> None:
    """Label one file into another."""
    parser = argparse.ArgumentParser(description="Label the reviews of a CSV file.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--model", default="gemini-3-flash-preview")
    parser.add_argument("--max-cost", type=float, default=1.0, help="dollars, at most")
    arguments = parser.parse_args()

    reviews = pd.read_csv(arguments.source)
    with Client() as client:
        labelled = client.map(
            reviews,
            prompt=PROMPT,
            schema=Label,
            model=arguments.model,
            max_cost=arguments.max_cost,
        )
    labelled.to_csv(arguments.target, index=False)
    print(labelled.groupby(["product", "sentiment"]).size().to_string())
    bad = labelled[labelled["_outcome"] != "ok"]
    print(f"{len(labelled)} reviews, {len(bad)} without a label, in {arguments.target}")


if __name__ == "__main__":
    main()
