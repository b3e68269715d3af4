"""The client: submit a file, wait for its answers, download them.

    from penstock.client import Api

    with Api("http://127.0.0.1:8080", key) as client:
        job = client.submit("reviews.jsonl", model="gemini-3-flash-preview")
        job = client.wait(job.request_id)
        client.download(job.request_id, "reviews.out.jsonl")

It imports nothing of the server, so it can be installed and read on its own.
"""

from penstock.client.api import Api
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
from penstock.client.images import ImagePlace, extension_of
from penstock.client.lines import Line, LineGroup, LineGroups, LineList, LinePage
from penstock.client.models import (
    Download,
    JobPage,
    JobRecord,
    ModelPage,
    Outcome,
    Partial,
    Round,
    Stats,
    TokenUsage,
)
from penstock.client.money import Cost, Estimate, Spent, SpentReport
from penstock.client.options import SubmitOptions
from penstock.client.validation import Finding, Validation
from penstock.client.verify import WebhookRefused, verify_webhook
from penstock.client.waiting import Eta, Waiting
from penstock.client.webhooks import Delivery, DeliveryPage, Webhook

__all__ = [
    "APIError",
    "Api",
    "AuthenticationFailed",
    "ClientError",
    "ConnectionFailed",
    "Cost",
    "Delivery",
    "DeliveryPage",
    "Detail",
    "DigestMismatch",
    "Download",
    "Estimate",
    "Eta",
    "Finding",
    "Holder",
    "ImagePlace",
    "InputChanged",
    "InputInvalid",
    "JobPage",
    "JobRecord",
    "LimitReached",
    "Line",
    "LineGroup",
    "LineGroups",
    "LineList",
    "LinePage",
    "ModelPage",
    "NotFound",
    "Outcome",
    "OutputNotReady",
    "Partial",
    "Quota",
    "Round",
    "ServerFailed",
    "Spent",
    "SpentReport",
    "Stats",
    "StillRunning",
    "SubmitOptions",
    "TokenUsage",
    "Validation",
    "Waiting",
    "Webhook",
    "WebhookRefused",
    "extension_of",
    "verify_webhook",
]
