"""Read fields out of documents that lie in Cloud Storage, into a table.

    gcloud storage ls 'gs://acme-documents/*.pdf' | python examples/documents.py > found.csv

The documents are never downloaded: Vertex AI reads them, with the rights of its service agent
(docs/how-to/set-up-vertex.md, step 4). Addresses come as arguments, or as lines of standard input.
"""

# A script, which prints, and not a package.
# ruff: noqa: INP001

import csv
import mimetypes
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from penstock.client import Client

MODEL = "gemini-3-flash-preview"
PROMPT = "Read this invoice. Leave a field empty that is not in it. The date is YYYY-MM-DD."


@dataclass
class Invoice:
    """What is wanted of each document."""

    number: str
    date: str
    supplier: str
    total: float
    currency: str


SCHEMA = {
    "type": "OBJECT",
    "properties": {
        "number": {"type": "STRING"},
        "date": {"type": "STRING"},
        "supplier": {"type": "STRING"},
        "total": {"type": "NUMBER"},
        "currency": {"type": "STRING"},
    },
    "required": ["number", "date", "supplier", "total", "currency"],
}


def request(address: str) -> dict[str, Any]:
    """Return the line that asks for the fields of one document."""
    kind = mimetypes.guess_type(address)[0] or "application/pdf"
    document = {"fileData": {"mimeType": kind, "fileUri": address}}
    return {
        "key": address,
        "request": {
            "contents": [{"role": "user", "parts": [document, {"text": PROMPT}]}],
            "generationConfig": {
                "responseMimeType": "application/json",
                "responseSchema": SCHEMA,
            },
        },
    }


def main(addresses: Iterable[str]) -> int:
    """Write a row for each document; those that could not be read have a reason instead."""
    with Client() as client:
        lines = [request(address) for address in addresses]
        job = client.jobs.submit(lines, model=MODEL, name="invoices").wait()
        names = [field.name for field in fields(Invoice)]
        table = csv.DictWriter(sys.stdout, ["document", *names, "error"])
        table.writeheader()
        bad = 0
        for result in job.results():
            row: dict[str, Any] = {"document": result.key}
            if result.ok:
                row |= asdict(result.parsed(Invoice))
            else:
                bad += 1
                row["error"] = result.error or result.outcome
            table.writerow(row)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or [line.strip() for line in sys.stdin if line.strip()]))
