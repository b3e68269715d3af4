from pathlib import Path

import pytest
from tests.client.kinds import Connect

from penstock.client import AsyncClient, Client, ClientError, KeyMissing, Profile, ProfileError
from penstock.client.profile import (
    DEFAULT_URL,
    FILE_BYTES_MAX,
    Profiles,
    config_path,
    load,
    resolve,
    save,
)

URL = "https://penstock.example.com"
WORK = Profile(url=URL, key="pk_work", organization="org_2")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file of profiles is to be."""
    return tmp_path / "folder" / "config.toml"


@pytest.fixture
def environ(path: Path) -> dict[str, str]:
    """An environment that names the file and says nothing else."""
    return {"PENSTOCK_PROFILES": str(path)}


@pytest.fixture
def kept(path: Path) -> Profiles:
    """A file with two profiles, of which `work` is in use."""
    profiles = Profiles().with_profile("work", WORK)
    profiles = profiles.with_profile("here", Profile(url="http://127.0.0.1:9000"))
    save(profiles, path)
    return profiles


def test_what_is_saved_is_loaded(path: Path) -> None:
    """Any text survives, the file is its owner's alone, and a second save replaces it."""
    strange = Profile(url=URL, key='a"b\\c\n\x7f\x00ü😀', organization="x")
    profiles = Profiles().with_profile("work", strange).with_profile("b.c-d_e", WORK)
    save(profiles, path)
    assert load(path) == profiles
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    save(profiles.without("work"), path)
    assert load(path).profiles == {"b.c-d_e": WORK}
    assert [each.name for each in path.parent.iterdir()] == ["config.toml"]


def test_there_is_no_file(environ: dict[str, str], path: Path) -> None:
    """Without a file there are no profiles, and the server is the one on this machine."""
    assert load(path) == Profiles()
    caller = resolve(environ=environ)
    assert (caller.url, caller.url_from, caller.key) == (DEFAULT_URL, "default", None)
    with pytest.raises(KeyMissing) as caught:
        caller.required_key()
    assert caught.value.code == "unauthenticated"
    assert "PENSTOCK_API_KEY" in str(caught.value.hint)
    assert "penstock dev" in str(caught.value.hint)


def test_where_the_file_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is below the home folder unless the environment names another."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config_path({}) == tmp_path / ".config/penstock/config.toml"
    assert config_path({"PENSTOCK_PROFILES": "~/mine"}) == tmp_path / "mine"


@pytest.mark.usefixtures("kept")
def test_the_profile_in_use(environ: dict[str, str]) -> None:
    """What nobody says otherwise is the profile's, and each value says where it is from."""
    caller = resolve(environ=environ)
    assert (caller.url, caller.key, caller.organization) == (URL, "pk_work", "org_2")
    assert caller.profile == "work"
    assert {caller.url_from, caller.key_from, caller.organization_from} == {"profile work"}
    here = resolve(environ={**environ, "PENSTOCK_PROFILE": "here"})
    assert (here.url, here.key, here.profile) == ("http://127.0.0.1:9000", None, "here")


@pytest.mark.usefixtures("kept")
def test_who_goes_first(environ: dict[str, str]) -> None:
    """Arguments, a profile that is named by one, the environment, the profile in use."""
    said = {**environ, "PENSTOCK_URL": URL, "PENSTOCK_API_KEY": "pk_env"}
    caller = resolve(environ=said)
    assert (caller.key, caller.key_from, caller.profile) == ("pk_env", "PENSTOCK_API_KEY", None)
    assert resolve(key="pk_mine", environ=said).key == "pk_mine"
    named = resolve(profile="work", environ=said)
    assert (named.key, named.organization) == ("pk_work", "org_2")
    here = resolve(profile="here", environ=said)
    assert (here.url, here.key) == ("http://127.0.0.1:9000", "pk_env")


@pytest.mark.usefixtures("kept")
def test_a_key_goes_to_its_own_server_alone(environ: dict[str, str]) -> None:
    """With another address, from wherever, the profile's key and organization are not used."""
    elsewhere = resolve(url="http://other.example", environ=environ)
    assert (elsewhere.key, elsewhere.organization) == (None, None)
    said = resolve(environ={**environ, "PENSTOCK_URL": "http://other.example"})
    assert said.key is None
    assert resolve(url=URL + "/", environ=environ).key == "pk_work"


@pytest.mark.usefixtures("kept")
def test_a_profile_that_is_not_there(environ: dict[str, str]) -> None:
    """The error names those that there are."""
    with pytest.raises(ProfileError, match="no profile 'wrk'") as caught:
        resolve(profile="wrk", environ=environ)
    assert caught.value.hint == "profiles that are there: here, work"
    with pytest.raises(ProfileError, match="no profile 'x'"):
        Profiles().using("x")


def test_using_and_removing(kept: Profiles) -> None:
    """The first profile comes into use by itself, others when asked, none when it is removed."""
    assert kept.current == "work"
    assert kept.using("here").current == "here"
    assert kept.without("work").current is None
    assert kept.using("here").without("work").current == "here"
    with pytest.raises(ProfileError, match="no name for a profile"):
        kept.with_profile("../x", WORK)


def test_others_may_read_the_file(path: Path, kept: Profiles) -> None:
    """A file with keys that others can read is refused, with the command that mends it."""
    path.chmod(0o640)
    with pytest.raises(ProfileError, match="others on this machine may read it") as caught:
        load(path)
    assert caught.value.hint == f"chmod 600 {path}"
    save(kept.without("work"), path)
    path.chmod(0o644)
    assert load(path).profiles["here"].key is None


@pytest.mark.parametrize(
    "content",
    [b"current = ", b"\xff", b"current = 3", b"[profiles.x]\nkey = 'k'"],
    ids=["toml", "utf8", "type", "no url"],
)
def test_a_file_that_cannot_be_used(path: Path, content: bytes) -> None:
    """It is refused with its name, and never replaced unasked."""
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ProfileError, match=r"config\.toml"):
        load(path)


def test_a_file_that_is_too_large(path: Path) -> None:
    """Some other file is not read into memory."""
    path.parent.mkdir()
    path.write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    with pytest.raises(ProfileError, match="larger than"):
        load(path)


def test_a_file_that_cannot_be_read_or_written(path: Path, tmp_path: Path) -> None:
    """What the system refuses is said with the path."""
    path.mkdir(parents=True)
    with pytest.raises(ProfileError, match="cannot read"):
        load(path)
    with pytest.raises(ProfileError, match="cannot write"):
        save(Profiles(), path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ProfileError, match="cannot write"):
        save(Profiles(), tmp_path / "file" / "config.toml")
    assert not list(path.parent.glob(".config-*"))


@pytest.mark.parametrize("content", ["port = 8080\n", "no toml at all"])
def test_what_is_no_file_of_profiles_is_not_overwritten(path: Path, content: str) -> None:
    """The name may be that of the server's settings; profiles are not written into those."""
    path.parent.mkdir()
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ProfileError, match="no file of profiles"):
        save(Profiles(), path)
    assert path.read_text(encoding="utf-8") == content


def test_keys_are_not_shown() -> None:
    """Neither a profile nor a caller has its key in what is printed."""
    assert "pk_work" not in repr(WORK)
    assert "pk_work" not in repr(resolve(url=URL, key="pk_work", environ={}))


def test_clients_look_there(
    connect: Connect, environ: dict[str, str], kept: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client of either kind without arguments speaks to the server of the profile in use."""
    del kept
    for name in ("PENSTOCK_URL", "PENSTOCK_API_KEY", "PENSTOCK_ORGANIZATION", "PENSTOCK_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PENSTOCK_PROFILES", environ["PENSTOCK_PROFILES"])
    with connect.client(None, None) as client:
        assert client.url == URL
    with pytest.raises(KeyMissing):
        connect.client("http://127.0.0.1:1", None)


def test_both_kinds_are_what_they_say() -> None:
    """The names at the top are the clients of the two packages, and others are not there."""
    assert Client.__module__ == "penstock.client.blocking.client"
    assert AsyncClient.__module__ == "penstock.client.aio.client"
    with pytest.raises(ClientError):
        Client("no address", "key")
