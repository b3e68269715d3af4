"""Where a caller's server, key and organization come from, and the file that keeps them.

From the first of these that says something: arguments, a profile that an argument names, the
environment (`PENSTOCK_URL`, `PENSTOCK_API_KEY`, `PENSTOCK_ORGANIZATION`), the profile in use
(`PENSTOCK_PROFILE`, else `current` of the file), and for the address http://127.0.0.1:8080.

    # ~/.config/penstock/config.toml, or what PENSTOCK_PROFILES names; mode 0600
    current = "work"

    [profiles.work]
    url = "https://penstock.example.com"
    key = "pk_…"
    organization = "org_2"

The key of a profile goes to the server of that profile alone: with another address, from wherever,
it is as if the profile had none.
"""

import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from penstock.client.errors import ClientError, KeyMissing

DEFAULT_URL: Final = "http://127.0.0.1:8080"
URL_VARIABLE: Final = "PENSTOCK_URL"
KEY_VARIABLE: Final = "PENSTOCK_API_KEY"
ORGANIZATION_VARIABLE: Final = "PENSTOCK_ORGANIZATION"
PROFILE_VARIABLE: Final = "PENSTOCK_PROFILE"
CONFIG_VARIABLE: Final = "PENSTOCK_PROFILES"

FILE_BYTES_MAX: Final = 1024 * 1024
"""A configuration that is larger is some other file."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_OTHERS: Final = 0o077


class ProfileError(ClientError):
    """The file of profiles cannot be used, or has no such profile."""

    code = "profile_unusable"


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A server, and how to speak to it."""

    url: str
    key: str | None = None
    organization: str | None = None
    confirm_above_usd: str | int | float | None = None
    """The command line asks a person before a job that is likely to cost more."""

    def __repr__(self) -> str:
        """Leave out the key: what is shown ends in logs."""
        return f"Profile(url={self.url!r}, organization={self.organization!r})"


class Profiles(msgspec.Struct, frozen=True, kw_only=True):
    """What the file has; `current` names the profile in use."""

    current: str | None = None
    profiles: dict[str, Profile] = {}

    def get(self, name: str, path: Path | None = None) -> Profile:
        """Return a profile; raise `ProfileError` with the names of all if there is none."""
        found = self.profiles.get(name)
        if found is None:
            names = ", ".join(sorted(self.profiles)) or "none"
            where = "" if path is None else f" in {path}"
            raise ProfileError(
                f"there is no profile {name!r}{where}",
                hint=f"profiles that are there: {names}",
            )
        return found

    def with_profile(self, name: str, profile: Profile) -> "Profiles":
        """Return them with one added or replaced; the first one comes into use."""
        if not _NAME.fullmatch(name):
            raise ProfileError(
                f"{name!r} is no name for a profile",
                hint="use letters, digits, dots, dashes and underscores, 64 at most",
            )
        profiles = {**self.profiles, name: profile}
        return Profiles(current=self.current or name, profiles=profiles)

    def without(self, name: str) -> "Profiles":
        """Return them without one; if it was in use, none is."""
        self.get(name)
        rest = {other: each for other, each in self.profiles.items() if other != name}
        return Profiles(current=None if self.current == name else self.current, profiles=rest)

    def using(self, name: str) -> "Profiles":
        """Return them with this one in use."""
        self.get(name)
        return Profiles(current=name, profiles=self.profiles)


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls which server; each `…_from` says in a word or two where it was found."""

    url: str
    key: str | None = None
    organization: str | None = None
    profile: str | None = None
    url_from: str = "default"
    key_from: str | None = None
    organization_from: str | None = None

    def __repr__(self) -> str:
        """Leave out the key: what is shown ends in logs."""
        return f"Caller(url={self.url!r}, organization={self.organization!r})"

    def required_key(self) -> str:
        """Return the key; raise `KeyMissing`, which says where one can be put."""
        if self.key is None:
            raise KeyMissing(
                f"there is no API key for {self.url}",
                hint=f"set {KEY_VARIABLE}, or keep it in a profile (penstock auth login); "
                "`penstock dev` starts a server for trying, and prints its key",
            )
        return self.key


def config_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the file of profiles is, or would be."""
    named = environ.get(CONFIG_VARIABLE)
    return Path(named).expanduser() if named else Path.home() / ".config/penstock/config.toml"


def load(path: Path) -> Profiles:
    """Read the file; there are no profiles where there is none.

    Raises `ProfileError` if it is not of this form, or has keys and others may read it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return Profiles()
    except OSError as error:
        raise ProfileError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > FILE_BYTES_MAX:
        raise ProfileError(f"{path} is larger than {FILE_BYTES_MAX:,} bytes: it is no such file")
    try:
        profiles = msgspec.convert(tomllib.loads(content.decode()), Profiles)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ProfileError(
            f"{path} is not as it should be: {error}",
            hint="mend it, or move it away and make it again with `penstock profile set`",
        ) from error
    has_keys = any(profile.key for profile in profiles.profiles.values())
    if has_keys and os.name == "posix" and mode & _OTHERS:
        raise ProfileError(
            f"{path} has keys in it, and others on this machine may read it",
            hint=f"chmod 600 {path}",
        )
    return profiles


def save(profiles: Profiles, path: Path) -> None:
    """Write the file anew, for its owner alone; comments in it are not kept.

    It appears whole or not at all. A folder that is made for it is the owner's alone as well. A
    file of something else, such as the server's own settings, is refused.
    """
    _refuse_strangers(path)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # What mkstemp makes has mode 0600 from the beginning.
        number, temporary = tempfile.mkstemp(prefix=".config-", dir=path.parent)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(_written(profiles).encode())
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            with suppress(FileNotFoundError):
                Path(temporary).unlink()
            raise
    except OSError as error:
        raise ProfileError(f"cannot write {path}: {error.strerror}") from error


def resolve(
    url: str | None = None,
    key: str | None = None,
    organization: str | None = None,
    profile: str | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
) -> Caller:
    """Return who calls which server; the key may be None, and `required_key` then says so.

    The file is read only if something is left for it to say. Raises `ProfileError` for a profile
    that is named and not there, and for a file that cannot be used.
    """
    named = profile is not None
    name = profile
    found: Profile | None = None
    if named or _is_open(url, key, environ):
        path = config_path(environ)
        profiles = load(path)
        name = profile or environ.get(PROFILE_VARIABLE) or profiles.current
        found = profiles.get(name, path) if name else None
    kept = {} if found is None else _kept(found)
    given = {"url": url, "key": key, "organization": organization}
    origins = [("argument", given)]
    from_profile = (f"profile {name}", kept)
    origins += [from_profile] if named else []
    for member, variable in _VARIABLES.items():
        origins.append((variable, {member: environ.get(variable) or None}))
    origins += [] if named else [from_profile]
    chosen_url, url_from = _first(origins, "url")
    address = chosen_url or DEFAULT_URL
    if found is not None and address.rstrip("/") != found.url.rstrip("/"):
        # What belongs to one server is not told another.
        origins.remove(from_profile)
    chosen_key, key_from = _first(origins, "key")
    chosen_organization, organization_from = _first(origins, "organization")
    return Caller(
        url=address,
        key=chosen_key,
        organization=chosen_organization,
        profile=name if found is not None else None,
        url_from=url_from or "default",
        key_from=key_from,
        organization_from=organization_from,
    )


_VARIABLES: Final = {
    "url": URL_VARIABLE,
    "key": KEY_VARIABLE,
    "organization": ORGANIZATION_VARIABLE,
}


def _is_open(url: str | None, key: str | None, environ: Mapping[str, str]) -> bool:
    """Return whether a profile may be asked for the address or the key."""
    has_url = url is not None or environ.get(URL_VARIABLE)
    has_key = key is not None or environ.get(KEY_VARIABLE)
    return not (has_url and has_key)


def _kept(profile: Profile) -> dict[str, str | None]:
    return {"url": profile.url, "key": profile.key, "organization": profile.organization}


def _first(
    origins: list[tuple[str, dict[str, str | None]]], member: str
) -> tuple[str | None, str | None]:
    """Return the first value that anybody has, and who that is."""
    for origin, values in origins:
        value = values.get(member)
        if value is not None:
            return value, origin
    return None, None


def _refuse_strangers(path: Path) -> None:
    """Raise `ProfileError` if the file has more in it than profiles, which would be lost."""
    try:
        content = path.read_bytes()[: FILE_BYTES_MAX + 1]
        members = set(tomllib.loads(content.decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        members = {"something that is no TOML"}
    except OSError:
        # There is none yet; what else is wrong is said when it is written.
        return
    if strange := members - set(Profiles.__struct_fields__):
        raise ProfileError(
            f"{path} is no file of profiles: it has {', '.join(sorted(strange))}",
            hint=f"let {CONFIG_VARIABLE} name another file",
        )


def _written(profiles: Profiles) -> str:
    lines = [] if profiles.current is None else [f"current = {_text(profiles.current)}", ""]
    for name, profile in profiles.profiles.items():
        lines.append(f"[profiles.{_text(name)}]")
        members: dict[str, Any] = msgspec.to_builtins(profile)
        known = {member: value for member, value in members.items() if value is not None}
        lines += [f"{member} = {_text(value)}" for member, value in known.items()]
        lines.append("")
    return "\n".join(lines)


def _text(value: object) -> str:
    """Write a TOML text: JSON's escapes are TOML's, and DEL is the one that JSON leaves alone."""
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
