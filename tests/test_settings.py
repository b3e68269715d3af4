from pathlib import Path
from typing import Any

import pytest

from penstock.core.models import SEED_CATALOGUE
from penstock.errors import ConfigurationError
from penstock.settings import Secret, Settings, build, catalogue, emulator_values, load

CANARY = "canary-0123456789-canary-0123456789"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A settings file."""
    path = tmp_path / "penstock.toml"
    path.write_text(
        'port = 9000\n[vertex]\nproject = "from-file"\nbucket = "b"\n[limits]\njob_lines_max = 7\n',
        encoding="utf-8",
    )
    return path


def test_without_anything_the_defaults_hold() -> None:
    """An empty environment gives the documented defaults."""
    assert load({}) == Settings()
    assert (Settings().host, Settings().port) == ("127.0.0.1", 8080)


def test_a_file_is_read(file: Path) -> None:
    """Tables of the file become the nested settings."""
    settings = load({}, file)
    assert (settings.port, settings.vertex.project) == (9000, "from-file")
    assert settings.limits.job_lines_max == 7


def test_the_environment_wins_over_the_file(file: Path) -> None:
    """A variable changes its one field and leaves the rest of the table."""
    settings = load({"PENSTOCK_VERTEX_PROJECT": "from-env", "PENSTOCK_PORT": "1"}, file)
    assert (settings.port, settings.vertex.project, settings.vertex.bucket) == (1, "from-env", "b")


def test_an_override_wins_over_the_environment() -> None:
    """What stands on the command line is the last word."""
    assert load({"PENSTOCK_PORT": "1"}, overrides={"port": 2}).port == 2


@pytest.mark.parametrize(
    ("name", "text", "path", "value"),
    [
        ("PENSTOCK_DATA_DIR", "/x", ("data_dir",), Path("/x")),
        ("PENSTOCK_PUBLIC_URL", "https://x", ("public_url",), "https://x"),
        ("PENSTOCK_ALLOW_PUBLIC_BIND", "true", ("allow_public_bind",), True),
        ("PENSTOCK_ALLOW_PUBLIC_BIND", "0", ("allow_public_bind",), False),
        ("PENSTOCK_LIMITS_JOB_BYTES_MAX", "5", ("limits", "job_bytes_max"), 5),
        ("PENSTOCK_TIMING_POLL_SECONDS_MIN", "0.5", ("timing", "poll_seconds_min"), 0.5),
        ("PENSTOCK_VERTEX_CREDENTIALS_FILE", "/k", ("vertex", "credentials_file"), Path("/k")),
        ("PENSTOCK_VERTEX_PROJECT", "123", ("vertex", "project"), "123"),
        ("PENSTOCK_COLLECT_CONCURRENCY", "3", ("collect_concurrency",), 3),
    ],
)
def test_each_kind_of_variable_is_read(
    name: str, text: str, path: tuple[str, ...], value: object
) -> None:
    """Text becomes a path, a truth, a number or stays text, at the top and in tables."""
    found: Any = load({name: text})
    for member in path:
        found = getattr(found, member)
    assert found == value


@pytest.mark.parametrize("name", ["URL", "API_KEY", "CONFIG", "DEBUG", "ORGANIZATION"])
def test_the_clients_variables_are_no_settings(name: str) -> None:
    """The client shares the prefix, and its variables disturb no server."""
    assert load({f"PENSTOCK_{name}": "x", "PATH": "/bin"}) == Settings()


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"PENSTOCK_PROT": "1"}, "prot"),
        ({"PENSTOCK_PORT": "x"}, "port"),
        ({"PENSTOCK_LIMITS_JOB_LINES": "1"}, "job_lines"),
        ({"PENSTOCK_VERTEX_PROJEKT": "1"}, "projekt"),
        ({"PENSTOCK_TIMING_POLL_SECONDS_MIN": "soon"}, "poll_seconds_min"),
        ({"PENSTOCK_ALLOW_PUBLIC_BIND": "perhaps"}, "allow_public_bind"),
    ],
)
def test_a_wrong_setting_is_named(environ: dict[str, str], named: str) -> None:
    """A misspelt name or a value of another type stops the start and names the setting."""
    with pytest.raises(ConfigurationError, match=named):
        load(environ)


@pytest.mark.parametrize("content", [b"port = ", b"\xff", b"port = 1\nport = 2\n"])
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes) -> None:
    """A file that is no TOML stops the start."""
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"bad\.toml cannot be read"):
        load({}, path)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    """A path without a file is an error and not an empty file."""
    with pytest.raises(ConfigurationError, match=r"none\.toml"):
        load({}, tmp_path / "none.toml")


def test_settings_do_not_change() -> None:
    """What was read once stays."""
    with pytest.raises(AttributeError):
        Settings().port = 1  # type: ignore[misc]  # the point of the test


# -- secrets -------------------------------------------------------------------------------------


def test_a_secret_shows_itself_to_nobody() -> None:
    """Neither repr, str nor formatting of the settings holds a secret."""
    settings = load({"PENSTOCK_SECRET": CANARY, "PENSTOCK_VERTEX_ACCESS_TOKEN": CANARY})
    assert settings.secret.reveal() == settings.vertex.access_token.reveal() == CANARY
    for shown in (repr(settings), str(settings), f"{settings.secret}", f"{settings.secret!r}"):
        assert CANARY not in shown


def test_an_error_beside_a_secret_does_not_quote_it() -> None:
    """A wrong setting is named without the values of the others."""
    with pytest.raises(ConfigurationError) as caught:
        load({"PENSTOCK_SECRET": CANARY, "PENSTOCK_PORT": "x"})
    assert CANARY not in repr(caught.value) + str(caught.value.__cause__)


@pytest.mark.parametrize("value", [7, True, ["x"], {"a": 1}])
def test_a_secret_is_text(value: object) -> None:
    """A secret of another type is refused without being shown."""
    with pytest.raises(ConfigurationError, match="secret"):
        build({"secret": value})


def test_a_path_is_text() -> None:
    """A data directory of another type is named."""
    with pytest.raises(ConfigurationError, match="data_dir"):
        build({"data_dir": 7})


def test_an_empty_secret_is_none() -> None:
    """An empty text counts as not set."""
    assert not Secret("")
    assert Secret("x")


# -- models --------------------------------------------------------------------------------------


def test_the_catalogue_is_the_seed() -> None:
    """Without changes the models are those of the guide."""
    assert catalogue(Settings()) == dict(SEED_CATALOGUE)


def test_a_model_can_be_added() -> None:
    """A new model needs no release, and without a price its price is unknown."""
    settings = build({"models": {"gemini-9": {"location": "us"}}})
    model = catalogue(settings)["gemini-9"]
    assert (model.id, model.location, model.price) == ("gemini-9", "us", None)


def test_a_model_can_be_changed() -> None:
    """A change of one member keeps the others."""
    settings = build({"models": {"gemini-3-flash-preview": {"location": "eu"}}})
    model = catalogue(settings)["gemini-3-flash-preview"]
    assert model.location == "eu"
    assert model.price == SEED_CATALOGUE["gemini-3-flash-preview"].price


def test_an_alias_has_the_price_of_its_model() -> None:
    """An id that stands for a known model takes over what is known of it."""
    settings = build({"models": {"fast": {"provider_model": "gemini-3-flash-preview"}}})
    model = catalogue(settings)["fast"]
    assert (model.id, model.provider_model) == ("fast", "gemini-3-flash-preview")
    assert model.price == SEED_CATALOGUE["gemini-3-flash-preview"].price


def test_a_price_of_the_operator_holds_on_all_days_and_everywhere() -> None:
    """The seed's later prices and surcharges do not come on top of it."""
    changes = {"price": {"input": 7, "output": 9}}
    settings = build({"models": {"gemini-3.6-flash": changes}, "vertex": {"location": "eu"}})
    model = catalogue(settings)["gemini-3.6-flash"]
    assert model.price is not None
    assert (model.price.input, model.price.output, model.prices) == (7, 9, ())


@pytest.mark.parametrize(
    "values",
    [
        {"vertex": {"location": "eu"}},
        {"models": {"gemini-3.6-flash": {"location": "eu"}}},
        {"models": {"gemini-3.6-flash": {"best_for": "x"}}, "vertex": {"location": "eu"}},
    ],
)
def test_a_location_has_its_own_prices(values: dict[str, Any]) -> None:
    """Where the provider takes ten per cent more, the catalogue says so, and says it once."""
    price = catalogue(build(values))["gemini-3.6-flash"].price
    assert price is not None
    assert price.input == 412_500


@pytest.mark.parametrize("changes", [{"prize": 1}, {"price": {"input": 1}}, {"images": "x"}])
def test_a_wrong_model_is_named(changes: dict[str, object]) -> None:
    """A misspelt or incomplete model stops the start."""
    with pytest.raises(ConfigurationError, match="gemini-9"):
        build({"models": {"gemini-9": changes}})


def test_an_unknown_default_model_is_named() -> None:
    """The default must be in the catalogue, and the hint lists what is."""
    with pytest.raises(ConfigurationError, match="gemini-0") as caught:
        build({"default_model": "gemini-0"})
    assert "gemini-3-flash-preview" in str(caught.value.hint)


def test_an_emulator_replaces_google() -> None:
    """With the emulator's values nothing goes to Google."""
    settings = build({"vertex": emulator_values("http://127.0.0.1:1")})
    vertex = settings.vertex
    assert vertex.base_url == vertex.storage_url == "http://127.0.0.1:1"
    assert vertex.access_token.reveal() == "emulator"
