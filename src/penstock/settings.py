"""Configuration: read once, frozen, passed on.

Precedence: environment over TOML file over defaults. A field `vertex.project` is `project` in the
table `[vertex]` of the file and `PENSTOCK_VERTEX_PROJECT` in the environment. Nothing else in the
server reads the environment.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

import msgspec

from penstock.core.limits import Limits
from penstock.core.models import DEFAULT_MODEL, SEED_CATALOGUE, Model, at_location
from penstock.core.quotas import Estimates, Quotas
from penstock.core.waiting import WaitingRules
from penstock.errors import ConfigurationError

ENV_PREFIX: Final = "PENSTOCK_"
EMULATOR_TOKEN: Final = "emulator"  # noqa: S105  # a public word
_NOT_SETTINGS: Final = frozenset(
    {
        "API_KEY",
        "CONFIG",
        "CONFIRM_ABOVE",
        "DEBUG",
        "ORGANIZATION",
        "PROFILE",
        "PROFILES",
        "PROGRESS",
        "URL",
    }
)
"""Environment variables of the client and the command line, with the same prefix."""


_TABLES: Final = frozenset({"vertex", "limits", "quotas", "estimates", "timing", "waiting"})

_LISTS: Final = frozenset(
    {"sources_allowed", "files_allowed", "hosts_allowed", "webhooks_private_allowed"}
)
"""Settings of several values, which the environment joins by commas."""


class Secret:
    """A text that shows itself to nobody but those who ask."""

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the text."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __bool__(self) -> bool:
        return bool(self._value)


class VertexSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where batches run."""

    project: str = ""
    """Google Cloud project id."""
    bucket: str = ""
    """Cloud Storage bucket for inputs and outputs; the Vertex service agent must reach it."""
    prefix: str = "penstock"
    """Folder inside the bucket."""
    location: str = ""
    """Overrides the location of every model; empty means each model's own (Gemini 3: global)."""
    credentials_file: Path | None = None
    """Service-account file; without it, application default credentials."""
    base_url: str = ""
    """Instead of Google's host, for emulators and private endpoints."""
    storage_url: str = "https://storage.googleapis.com"
    """Cloud Storage, or something that speaks its JSON and XML APIs."""
    access_token: Secret = Secret("")
    """A token made elsewhere, used as it is; for emulators."""


class Timing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the lifecycle waits, in seconds, and why."""

    poll_seconds_min: float = 5.0
    """Between polls of a young provider job."""
    poll_seconds_max: float = 60.0
    """Between polls of an old one; a poll is one small call and jobs run for hours."""
    retry_seconds_min: float = 2.0
    """After the first failure of a call that may be repeated; doubles from there."""
    retry_seconds_max: float = 120.0
    """The longest wait between two tries."""
    send_window_seconds: float = 20.0
    """From the intent to the POST. A process that was frozen for longer may not send any more,
    because somebody else may have reconciled meanwhile."""
    settle_seconds: float = 180.0
    """From the intent until a create that got no answer has landed or never will."""
    fence_seconds: float = 30.0
    """From taking the input away until the last list: a create that read the input just before
    shows up within this time."""
    look_seconds: float = 5.0
    """Between lists within these two waits; a job that is found early ends the wait early."""
    lost_seconds: float = 900.0
    """How long a provider may not know a job that it had confirmed, before we believe it."""
    collect_seconds: float = 6 * 3600.0
    """How long the finished output may be unreadable. Then what can be read is delivered, and the
    other lines say so."""
    stage_seconds: float = 1.0
    """Between looks for jobs that no workflow works on."""
    doubt_seconds: float = 15.0
    """After this long without a change of a job, and as often, its workflow is asked after: one
    that died of an error is started anew."""
    cancel_check_seconds: float = 1.0
    """Between looks for cancel requests; one query for all jobs."""
    heartbeat_seconds: float = 1.0
    """Between two signs of life of a process, and between its looks at those of the others; one
    small commit a second each is nothing for Postgres."""
    worker_lost_seconds: float = 6.0
    """Without a heartbeat: then another worker takes over, at its next look. A worker that dies
    right after a heartbeat is found within this and `heartbeat_seconds`, and its work begins anew a
    second later: less than 10 in all. A process that was merely slow writes nothing more about what
    it lost, so a shorter time would cost work and harm nothing else."""
    worker_forgotten_seconds: float = 900.0
    """How long a silent worker stays known, and its work is looked for. One that was only frozen
    may wake up after the first look, begin something and die before its next heartbeat; forgotten
    by then, its work would be nobody's for ever."""
    deliver_seconds: float = 1.0
    """Between looks for deliveries to webhooks that are due."""
    deliver_lease_seconds: float = 60.0
    """How long a process has a delivery for itself; longer than `limits.webhook_seconds_max`. What
    one took that died is sent again after this time."""
    partial_seconds_min: float = 120.0
    """From one look at the output of a running job to the next, for those who ask for partial
    results. Each reads all that the provider has exported by then."""
    partial_seconds_max: float = 600.0
    """What one look may take; then it is given up."""
    orphan_seconds: float = 86_400.0
    """How old a file in object storage must be before it is removed because no job names it. Far
    longer than from a file's end to its job's row, and than the services' clocks can be wrong."""
    prune_seconds: float = 3_600.0
    """Between looks for such files in object storage; each lists all that is there."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that an operator can set."""

    role: Literal["all", "api", "worker"] = "all"
    """What this process does: `api` takes jobs and shows them, `worker` moves them on, `all` does
    both. Any number of each can share a database; see docs/deploy.md."""
    data_dir: Path = Path("penstock-data")
    """Database, inputs and outputs. A local disk; one server process at a time."""
    database_url: Secret = Secret("")
    """Postgres for our tables and the engine's, `postgresql://user:password@host/database`, so that
    several processes can share the work. Empty: SQLite in the data directory."""
    database_connections_max: int = 10
    """Connections to Postgres, at most, for the tables and once more for the engine, which also
    listens on one. A process takes up to 21 of them, and a server has 100 by default."""
    database_seconds_max: float = 4.0
    """What one transaction on Postgres may take, waiting for a connection included. Then requests
    get 503 with Retry-After, before clients lose patience, and steps of jobs are tried again."""
    blobs_url: str = ""
    """Where accepted inputs and outputs live, for all processes of one database:
    `gs://bucket/prefix`, `s3://bucket/prefix` or `az://container/prefix`. Empty: the data
    directory. What lies there is not moved when this changes."""
    blobs_endpoint: str = ""
    """Instead of the service's own address, for MinIO, Azurite and emulators. Cloud Storage takes
    vertex.storage_url if this is empty."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8080
    """Port to listen on; 0 takes a free one."""
    public_url: str = ""
    """How clients reach the server, for download links; empty means the request's own Host."""
    hosts_allowed: tuple[str, ...] = ()
    """Other names by which clients reach the server, with commas between them in the environment;
    ports do not count, and an IPv6 address stands in brackets. The host of public_url is allowed
    anyway, and so are loopback names while the server listens there. Any other name gets 421."""
    secret: Secret = Secret("")
    """Master secret of at least 32 characters; without it, one is made in the data directory."""
    download_seconds: int = 3600
    """How long a download link works."""
    receive_processes_max: int = 2
    """Processes that receive and check uploads, beside the server's own. The first begins with the
    server, others when uploads come at the same time; each is worth one core."""
    collect_concurrency: int = 8
    """Outputs collected at the same time; small ones mostly wait, large ones share the cores."""
    collect_concurrency_tenant_max: int = 0
    """Of these, for one organisation. This and the other settings for one organisation are 0 for
    four fifths of the whole, and at least one less: so one alone has nearly all, and whoever comes
    next finds something free. See docs/deploy.md."""
    prepare_concurrency: int = 5
    """Inputs uploaded at the same time; each holds up to 24 MB, and one of 4 MiB or more has a
    process of its own of about 35 MB that makes it."""
    prepare_concurrency_tenant_max: int = 0
    """Of these, for one organisation."""
    sources_allowed: tuple[str, ...] = ()
    """Where `input_uri` may point: prefixes such as `gs://bucket/inputs/` and
    `https://host/path/`, with commas between them in the environment. One that ends in a slash
    allows all below it, any other one itself. Everybody with a key may read what is allowed, `gs://`
    with this server's own permissions. Empty: nothing is pulled."""
    files_allowed: tuple[str, ...] = ()
    """Which files requests may name in `fileData.fileUri`: prefixes as in `sources_allowed`, but no
    `http://`. Vertex AI opens them with the rights of your service agent. Empty: any file on
    `gs://` and `https://`. What lies in this server's own folders is refused in any case."""
    webhooks_private_allowed: tuple[str, ...] = ()
    """Where webhooks may go although it is not public: prefixes such as `http://127.0.0.1:9000/`
    and `https://hooks.internal/`, with commas between them in the environment. Everybody who may
    make webhooks can have this server send there. `http://` is for private addresses only."""
    deliver_concurrency: int = 64
    """Deliveries to webhooks at the same time, by one process."""
    spool_bytes_max: int = 0
    """Budget for all inputs, outputs and unfinished uploads that this server stores; at it uploads
    wait, then get 507. 0 means that only the disk is the limit."""
    disk_free_bytes_min: int = 268_435_456
    """What uploads leave free on the disk: outputs and the database of jobs that already run need
    room, and they never wait for it."""
    uploads_concurrency_max: int = 32
    """Uploads read at the same time; each may hold a line of its input in memory."""
    uploads_concurrency_tenant_max: int = 0
    """Of these, for one organisation; its others wait in line, and let those behind them by."""
    uploads_waiting_max: int = 200
    """Uploads in line; one more gets 503 at once."""
    uploads_waiting_tenant_max: int = 0
    """Of these, for one organisation."""
    upload_wait_seconds_max: float = 20.0
    """In line for room, without the body being read; then 503 or 507 with Retry-After. Clients that
    write to a connection that does not move often give up after 60 seconds."""
    jobs_in_flight_max: int = 500
    """Provider jobs that one process watches."""
    jobs_in_flight_tenant_max: int = 0
    """Of these, for one organisation."""
    default_model: str = DEFAULT_MODEL
    """The Gemini model of submissions that name none."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level that is logged; `debug` has what libraries say too, and no secret either."""
    allow_public_bind: bool = False
    """Permit plain HTTP on an address other than loopback, behind a proxy that speaks TLS; such a
    server must be told its names, by public_url or hosts_allowed."""
    vertex: VertexSettings = VertexSettings()
    limits: Limits = Limits()
    quotas: Quotas = Quotas()
    estimates: Estimates = Estimates()
    timing: Timing = Timing()
    waiting: WaitingRules = WaitingRules()
    models: dict[str, dict[str, Any]] = {}
    """Models to add, replace or alias, by id; see docs/settings.md."""

    @property
    def accepts(self) -> bool:
        """Whether the role takes jobs."""
        return self.role != "worker"

    @property
    def works(self) -> bool:
        """Whether the role moves jobs on."""
        return self.role != "api"


def load(
    environ: Mapping[str, str],
    file: Path | None = None,
    overrides: Mapping[str, Any] = MappingProxyType({}),
) -> Settings:
    """Return the settings; raise `ConfigurationError` naming the setting that is wrong."""
    return build({**read(environ, file), **overrides})


def read(environ: Mapping[str, str], file: Path | None = None) -> dict[str, Any]:
    """Return the values of file and environment, merged and not yet checked."""
    values = _read_file(file) if file else {}
    for name, text in environ.items():
        if name.startswith(ENV_PREFIX) and name[len(ENV_PREFIX) :] not in _NOT_SETTINGS:
            _put(values, name, text)
    return values


def emulator_values(url: str) -> dict[str, str]:
    """Return the `vertex` settings that send everything to an emulator instead of Google."""
    return {
        "project": "penstock-emulator",
        "bucket": "penstock",
        "base_url": url,
        "storage_url": url,
        "access_token": EMULATOR_TOKEN,
    }


def build(values: Mapping[str, Any]) -> Settings:
    """Check nested values and freeze them."""
    try:
        settings = msgspec.convert(values, Settings, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise ConfigurationError(
            f"A setting is wrong: {error}.", hint="docs/settings.md lists them all."
        ) from error
    catalogue(settings)
    return settings


def catalogue(settings: Settings) -> dict[str, Model]:
    """Return the seed's models with the operator's changes on top."""
    elsewhere = settings.vertex.location
    models = {
        name: at_location(model, elsewhere or model.location)
        for name, model in SEED_CATALOGUE.items()
    }
    for model_id, changes in settings.models.items():
        base = models.get(model_id) or models.get(str(changes.get("provider_model")))
        values = {} if base is None else msgspec.to_builtins(base)
        if "price" in changes:
            # It holds on all days; those of the seed do not come back by themselves.
            values |= {"prices": []}
        try:
            model = msgspec.convert({**values, **changes, "id": model_id}, Model)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"The model {model_id} is wrong: {error}.") from error
        # A price of the operator's own is what he pays, wherever that is.
        is_ours = "price" not in changes
        models[model_id] = at_location(model, elsewhere or model.location) if is_ours else model
    if settings.default_model not in models:
        raise ConfigurationError(
            f"default_model is {settings.default_model!r}, which is not in the catalogue.",
            hint=f"Known models: {', '.join(sorted(models))}.",
        )
    return models


def _decode(kind: type, value: object) -> object:
    if isinstance(value, kind):
        return value
    if kind not in {Secret, Path}:
        raise NotImplementedError(kind)
    if not isinstance(value, str):
        # msgspec makes a ValidationError of it, with the setting's path; never quote the value.
        raise TypeError(f"Expected `str`, got `{type(value).__name__}`")
    return kind(value)


def _read_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"The settings file {file} cannot be read: {error}.") from error


def _put(values: dict[str, Any], name: str, text: str) -> None:
    """Set one environment variable; its first word may be a table's name."""
    field = name[len(ENV_PREFIX) :].lower()
    table, _, rest = field.partition("_")
    if table in _TABLES and rest:
        values[table] = {**values.get(table, {}), rest: text}
    elif field in _LISTS:
        values[field] = [part.strip() for part in text.split(",") if part.strip()]
    else:
        values[field] = text
