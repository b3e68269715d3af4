"""The client: submit a file, wait for its answers, download them.

    from penstock.client import Client

    with Client("http://127.0.0.1:8080", key) as client:
        job = client.submit("reviews.jsonl", model="gemini-3-flash-preview")
        job = client.wait(job.request_id)
        client.download(job.request_id, "reviews.out.jsonl")

It imports nothing of the server, so it can be installed and read on its own.
"""

from penstock.client.client import Client
from penstock.client.errors import (
    APIError,
    AuthenticationFailed,
    ClientError,
    ConnectionFailed,
    Detail,
    DigestMismatch,
    InputChanged,
    InputInvalid,
    LimitReached,
    NotFound,
    OutputNotReady,
    ServerFailed,
    StillRunning,
)
from penstock.client.models import Download, Job, JobPage, ModelPage, Outcome, Stats, TokenUsage

__all__ = [
    "APIError",
    "AuthenticationFailed",
    "Client",
    "ClientError",
    "ConnectionFailed",
    "Detail",
    "DigestMismatch",
    "Download",
    "InputChanged",
    "InputInvalid",
    "Job",
    "JobPage",
    "LimitReached",
    "ModelPage",
    "NotFound",
    "Outcome",
    "OutputNotReady",
    "ServerFailed",
    "Stats",
    "StillRunning",
    "TokenUsage",
]
