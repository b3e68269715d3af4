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
    Holder,
    InputChanged,
    InputInvalid,
    LimitReached,
    NotFound,
    OutputNotReady,
    Quota,
    ServerFailed,
    StillRunning,
)
from penstock.client.models import Download, Job, JobPage, ModelPage, Outcome, Stats, TokenUsage
from penstock.client.verify import WebhookRefused, verify_webhook
from penstock.client.webhooks import Delivery, DeliveryPage, Webhook

__all__ = [
    "APIError",
    "AuthenticationFailed",
    "Client",
    "ClientError",
    "ConnectionFailed",
    "Delivery",
    "DeliveryPage",
    "Detail",
    "DigestMismatch",
    "Download",
    "Holder",
    "InputChanged",
    "InputInvalid",
    "Job",
    "JobPage",
    "LimitReached",
    "ModelPage",
    "NotFound",
    "Outcome",
    "OutputNotReady",
    "Quota",
    "ServerFailed",
    "Stats",
    "StillRunning",
    "TokenUsage",
    "Webhook",
    "WebhookRefused",
    "verify_webhook",
]
