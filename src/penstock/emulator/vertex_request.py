"""What a create request may say, and where which model runs."""

import re
from typing import Any, Final

from penstock.emulator.jobs import NewJob
from penstock.emulator.refusals import VertexRefusal, invalid_argument

LABEL_LENGTH_MAX: Final = 64
LABELS_MAX: Final = 64
DISPLAY_NAME_LENGTH_MAX: Final = 128

# The batch list of 2026-09-03. gemini-3-pro-preview is not in it: it was shut down.
GLOBAL_MODELS: Final = frozenset(
    {
        "gemini-3.8-flash",
        "gemini-3.7-flash",
        "gemini-3.6-flash",
        "gemini-3.5-flash",
        "gemini-3.5-flash-lite",
        "gemini-3.1-pro-preview",
        "gemini-3.1-flash-lite",
        "gemini-3.1-flash-lite-image",
        "gemini-3.1-flash-image",
        "gemini-3-pro-image",
        "gemini-3-flash-preview",
    }
)
ANYWHERE_MODELS: Final = frozenset(
    {"gemini-2.5-pro", "gemini-2.5-flash", "gemini-2.5-flash-lite", "gemini-2.5-flash-image"}
)
_KNOWN_FIELDS: Final = frozenset(
    {
        "name", "displayName", "model", "modelVersionId", "unmanagedContainerModel", "inputConfig",
        "instanceConfig", "modelParameters", "outputConfig", "dedicatedResources",
        "serviceAccount", "manualBatchTuningParameters", "generateExplanation", "explanationSpec",
        "outputInfo", "state", "error", "partialFailures", "resourcesConsumed", "completionStats",
        "createTime", "startTime", "endTime", "updateTime", "encryptionSpec", "labels",
        "modelMonitoringConfig", "modelMonitoringStatsAnomalies", "modelMonitoringStatus",
        "disableContainerLogging", "satisfiesPzs", "satisfiesPzi",
    }
)  # fmt: skip
_MODEL = re.compile(r"(?:projects/[^/]+/locations/[^/]+/)?publishers/google/models/([^/@]+)\Z")
_SNAKE = re.compile(r"_([a-z0-9])")


def parse_create(body: dict[str, Any], location: str) -> NewJob:
    """A checked create request; VertexRefusal 400 or 404 with Google's words where known."""
    fields = _camel(body, keep=("labels",))
    for name in fields:
        if name not in _KNOWN_FIELDS:
            raise invalid_argument(
                f'Invalid JSON payload received. Unknown name "{name}" at '
                "'batch_prediction_job': Cannot find field."
            )
    model = _text(fields.get("model"), "model")
    _check_model(model, location)
    return NewJob(
        location=location,
        display_name=_display_name(fields.get("displayName")),
        model=model,
        input_uris=_input_uris(fields.get("inputConfig")),
        output_prefix=_output_prefix(fields.get("outputConfig")),
        labels=_labels(fields.get("labels") or {}),
    )


def _camel(value: Any, *, keep: tuple[str, ...] = ()) -> Any:  # noqa: ANN401 - any JSON value
    """Protobuf's JSON takes both spellings; members named in `keep` hold keys of the caller."""
    if isinstance(value, list):
        return [_camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        _SNAKE.sub(lambda m: m[1].upper(), key): item if key in keep else _camel(item)
        for key, item in value.items()
    }


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise invalid_argument(f"{name}: the field is required and must be text.")
    return value


def _display_name(value: object) -> str:
    name = _text(value, "display_name")
    if len(name) > DISPLAY_NAME_LENGTH_MAX:
        raise invalid_argument(
            f"display_name: at most {DISPLAY_NAME_LENGTH_MAX} characters are allowed."
        )
    return name


def _check_model(model: str, location: str) -> None:
    match = _MODEL.match(model)
    if match is None:
        raise invalid_argument(f"Invalid model name: {model}.")
    name = match[1]
    if name not in GLOBAL_MODELS | ANYWHERE_MODELS:
        raise VertexRefusal(404, "NOT_FOUND", f"The PublisherModel {name} does not exist.")
    if name in GLOBAL_MODELS and location != "global":
        raise VertexRefusal(
            404,
            "NOT_FOUND",
            f"The model {name} does not support batch prediction in {location}.",
            reason="MODEL_NOT_SUPPORTED_FOR_BATCH",
        )


def _input_uris(config: object) -> list[str]:
    config = config if isinstance(config, dict) else {}
    if "bigquerySource" in config:
        raise invalid_argument("The emulator reads Cloud Storage only, not BigQuery.")
    if config.get("instancesFormat") != "jsonl":
        raise invalid_argument("input_config.instances_format: only jsonl is supported.")
    source = config.get("gcsSource")
    uris = source.get("uris") if isinstance(source, dict) else None
    listed = [uris] if isinstance(uris, str) else uris
    if not isinstance(listed, list) or not listed:
        raise invalid_argument("input_config.gcs_source.uris: at least one URI is required.")
    return [_gs_uri(uri, "input_config.gcs_source.uris", least_parts=2) for uri in listed]


def _output_prefix(config: object) -> str:
    config = config if isinstance(config, dict) else {}
    if config.get("predictionsFormat") != "jsonl":
        raise invalid_argument("output_config.predictions_format: only jsonl is supported.")
    target = config.get("gcsDestination")
    prefix = target.get("outputUriPrefix") if isinstance(target, dict) else None
    return _gs_uri(prefix, "output_config.gcs_destination.output_uri_prefix", least_parts=1)


def _gs_uri(value: object, field: str, *, least_parts: int) -> str:
    if isinstance(value, str) and value.startswith("gs://"):
        parts = [part for part in value.removeprefix("gs://").split("/", 1) if part]
        if len(parts) >= least_parts and not value.startswith("gs:///"):
            return value
    raise invalid_argument(f"{field}: {value!r} is not a Cloud Storage URI.")


def _labels(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > LABELS_MAX:
        raise invalid_argument(f"labels: must be a map of at most {LABELS_MAX} entries.")
    for key, text in value.items():
        if not key or not _is_label(key) or not isinstance(text, str) or not _is_label(text):
            raise invalid_argument(
                f"labels: {key!r}: {text!r} is not valid. Keys and values can be at most "
                f"{LABEL_LENGTH_MAX} characters and can only contain lowercase letters, numeric "
                "characters, underscores and dashes."
            )
    return dict(value)


def _is_label(text: str) -> bool:
    # "Lower-case letters" includes every script that knows no case, as Google's rule does.
    return len(text) <= LABEL_LENGTH_MAX and all(
        c in "_-" or c.isnumeric() or (c.isalpha() and c == c.lower()) for c in text
    )
