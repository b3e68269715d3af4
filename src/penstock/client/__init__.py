"""The client: submit a file, wait for its answers, read them.

    from penstock.client import Client

    with Client() as client:
        job = client.jobs.submit("reviews.jsonl", model="gemini-3-flash-preview")
        for result in job.wait().results():
            print(result.key, result.text if result.ok else result.error)

`AsyncClient` is the same with `await`. Below both are the calls by id, `Api` and `AsyncApi`.

Nothing of the server is imported, so the client can be installed and read on its own; and of the
client only what is asked for, so that who blocks loads nothing that awaits.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.client.aio.api import AsyncApi
    from penstock.client.aio.client import AsyncClient
    from penstock.client.aio.job import AsyncJob
    from penstock.client.aio.jobs import AsyncJobs
    from penstock.client.aio.lines import AsyncLineList
    from penstock.client.aio.results import AsyncResults
    from penstock.client.aio.webhooks import AsyncWebhooks
    from penstock.client.blocking.api import Api
    from penstock.client.blocking.client import Client
    from penstock.client.blocking.job import Job
    from penstock.client.blocking.jobs import Jobs
    from penstock.client.blocking.lines import LineList
    from penstock.client.blocking.results import Results
    from penstock.client.blocking.webhooks import Webhooks
    from penstock.client.errors import (
        APIError,
        AuthenticationFailed,
        ClientError,
        ConnectionFailed,
        Detail,
        DigestMismatch,
        DiskFull,
        Holder,
        InputChanged,
        InputInvalid,
        JobFailed,
        KeyMissing,
        LimitReached,
        LinesFailed,
        NotFound,
        OutputChanged,
        OutputNotReady,
        ParseFailed,
        Quota,
        ServerFailed,
        ServerTooOld,
        StillRunning,
    )
    from penstock.client.images import ImagePlace, extension_of
    from penstock.client.lines import Line, LineGroup, LineGroups, LinePage
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
    from penstock.client.options import JobOptions, Retry, SubmitOptions
    from penstock.client.profile import Caller, Profile, ProfileError, Profiles
    from penstock.client.results import Image, LineError, LineTokens, Result
    from penstock.client.validation import Finding, Validation
    from penstock.client.verify import WebhookRefused, verify_webhook
    from penstock.client.waiting import Eta, Waiting
    from penstock.client.webhooks import Delivery, DeliveryPage, Webhook

_MODULES = {
    "results": ["Image", "LineError", "LineTokens", "Result"],
    "blocking.webhooks": ["Webhooks"],
    "blocking.results": ["Results"],
    "blocking.jobs": ["Jobs"],
    "blocking.job": ["Job"],
    "blocking.client": ["Client"],
    "aio.webhooks": ["AsyncWebhooks"],
    "aio.results": ["AsyncResults"],
    "aio.jobs": ["AsyncJobs"],
    "aio.job": ["AsyncJob"],
    "aio.client": ["AsyncClient"],
    "aio.api": ["AsyncApi"],
    "aio.lines": ["AsyncLineList"],
    "blocking.api": ["Api"],
    "blocking.lines": ["LineList"],
    "errors": [
        "APIError",
        "AuthenticationFailed",
        "ClientError",
        "ConnectionFailed",
        "Detail",
        "DigestMismatch",
        "DiskFull",
        "Holder",
        "InputChanged",
        "InputInvalid",
        "JobFailed",
        "KeyMissing",
        "LimitReached",
        "LinesFailed",
        "NotFound",
        "OutputChanged",
        "OutputNotReady",
        "ParseFailed",
        "Quota",
        "ServerFailed",
        "ServerTooOld",
        "StillRunning",
    ],
    "images": ["ImagePlace", "extension_of"],
    "lines": ["Line", "LineGroup", "LineGroups", "LinePage"],
    "models": [
        "Download",
        "JobPage",
        "JobRecord",
        "ModelPage",
        "Outcome",
        "Partial",
        "Round",
        "Stats",
        "TokenUsage",
    ],
    "money": ["Cost", "Estimate", "Spent", "SpentReport"],
    "options": ["JobOptions", "Retry", "SubmitOptions"],
    "profile": ["Caller", "Profile", "ProfileError", "Profiles"],
    "validation": ["Finding", "Validation"],
    "verify": ["WebhookRefused", "verify_webhook"],
    "waiting": ["Eta", "Waiting"],
    "webhooks": ["Delivery", "DeliveryPage", "Webhook"],
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "APIError",
    "Api",
    "AsyncApi",
    "AsyncClient",
    "AsyncJob",
    "AsyncJobs",
    "AsyncLineList",
    "AsyncResults",
    "AsyncWebhooks",
    "AuthenticationFailed",
    "Caller",
    "Client",
    "ClientError",
    "ConnectionFailed",
    "Cost",
    "Delivery",
    "DeliveryPage",
    "Detail",
    "DigestMismatch",
    "DiskFull",
    "Download",
    "Estimate",
    "Eta",
    "Finding",
    "Holder",
    "Image",
    "ImagePlace",
    "InputChanged",
    "InputInvalid",
    "Job",
    "JobFailed",
    "JobOptions",
    "JobPage",
    "JobRecord",
    "Jobs",
    "KeyMissing",
    "LimitReached",
    "Line",
    "LineError",
    "LineGroup",
    "LineGroups",
    "LineList",
    "LinePage",
    "LineTokens",
    "LinesFailed",
    "ModelPage",
    "NotFound",
    "Outcome",
    "OutputChanged",
    "OutputNotReady",
    "ParseFailed",
    "Partial",
    "Profile",
    "ProfileError",
    "Profiles",
    "Quota",
    "Result",
    "Results",
    "Retry",
    "Round",
    "ServerFailed",
    "ServerTooOld",
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
    "Webhooks",
    "extension_of",
    "verify_webhook",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401  # each name has its type above
    """Import a name when it is first asked for."""
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{module}"), name)


def __dir__() -> list[str]:
    """Return what can be imported, loaded or not."""
    return sorted(__all__)
