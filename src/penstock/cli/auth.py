"""`penstock auth`: keep a key for a server, see which one is used, and forget it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from penstock.cli.command import group
from penstock.cli.connection import Answer, Server, answering, connected
from penstock.cli.failure import ExitCode, Failure
from penstock.cli.stdin import standard_input
from penstock.client.profile import Caller, Profile, Profiles, config_path, load, save

if TYPE_CHECKING:
    from pathlib import Path

FIRST_PROFILE: Final = "default"
"""What a profile is called if nobody says."""

KEY_BYTES_MAX: Final = 4096
_SHOWN_CHARS: Final = 11
"""Of a key: its mark and its public id, never its secret."""


@group()
def auth() -> None:
    """Log in to a server with a key, see who you are, and log out again.

    \b
    Examples:
      penstock auth login --url https://penstock.example.com
      penstock auth login --profile work < key.txt
      penstock auth status
    """  # noqa: D301  # click's mark is a real backspace


@auth.command()
@click.option("--no-verify", is_flag=True, help="Keep the key without asking the server.")
@click.option("--url", metavar="URL", help="Address of the server.  [env var: PENSTOCK_URL]")
@click.option("--organization", metavar="ORG", help="Organisation to act for.")
@click.option("--profile", metavar="NAME", help="Profile to keep it in.  [default: the one in use]")
@answering
def login(answer: Answer, *, no_verify: bool, profile: str | None, **given: str | None) -> None:
    """Keep a key in a profile, which only you can read, and use that profile from now on.

    The key is asked for, or read from standard input: what stands on a command line can be read by
    other users of this machine. The server is asked whether it knows the key before it is kept.

    \b
    Examples:
      penstock auth login --url https://penstock.example.com
      penstock auth login --profile work < key.txt
    """  # noqa: D301  # click's mark is a real backspace
    path = config_path(os.environ)
    with profiles_told():
        profiles = load(path)
    name = profile or os.environ.get("PENSTOCK_PROFILE") or profiles.current or FIRST_PROFILE
    before = profiles.profiles.get(name)
    url = given["url"] or os.environ.get("PENSTOCK_URL") or (before.url if before else None)
    organization = given["organization"] or (before.organization if before else None)
    url = url or "http://127.0.0.1:8080"
    key = _read_key(url)
    org = "" if no_verify else verified(url, key, organization)
    known = _members(before)
    new = Profile(**{**known, "url": url, "key": key, "organization": organization})
    with profiles_told():
        save(profiles.with_profile(name, new).using(name), path)
    value = {"profile": name, "url": url, "path": str(path), "organization": org or organization}
    answer.show(value, [name])
    answer.hint(f"the key is kept in profile {name} of {path}, which only you can read")


@auth.command()
@connected
def status(server: Server) -> None:
    """Show which server, key and organisation are used, where they come from, and if they work.

    \b
    Examples:
      penstock auth status
      penstock auth status --profile work --json
    """  # noqa: D301  # click's mark is a real backspace
    caller = server.caller
    with profiles_told():
        key = caller.required_key()
    org = verified(caller.url, key, caller.organization)
    rows = [
        ("url", f"{caller.url} ({caller.url_from})"),
        ("profile", caller.profile or "-"),
        ("key", f"{shown_key(key)} ({caller.key_from})"),
        ("acts for", org or caller.organization or "the organisation of the key"),
    ]
    server.show(
        {**whence(caller), "organization": org or caller.organization, "valid": True},
        server.sheet([f"{name:<9} {text}" for name, text in rows]),
    )


@auth.command()
@click.option("--profile", metavar="NAME", help="Profile to forget the key of.")
@answering
def logout(answer: Answer, *, profile: str | None) -> None:
    """Forget the key of a profile; its address stays.

    The key itself goes on working until it is revoked: `penstock keys revoke`.

    \b
    Examples:
      penstock auth logout
      penstock auth logout --profile work
    """  # noqa: D301  # click's mark is a real backspace
    path = config_path(os.environ)
    with profiles_told():
        profiles = load(path)
        name = name_in_use(profiles, path, profile)
        old = profiles.get(name, path)
        save(profiles.with_profile(name, Profile(**{**_members(old), "key": None})), path)
    answer.show({"profile": name, "path": str(path)}, [name])
    answer.hint(f"the key of profile {name} is forgotten; it works until it is revoked")


def verified(url: str, key: str, organization: str | None) -> str:
    """Return the organisation that a key acts for, or nothing if it may not see that.

    Raises a failure for a key that the server does not know.
    """
    from penstock.cli.dialling import failure_of  # noqa: PLC0415  # lazy: HTTP comes with it
    from penstock.client import Api, APIError, ClientError  # noqa: PLC0415  # lazy: the same

    try:
        with Api(url, key, organization=organization) as client:
            return str(client.wire.exchange("GET", "/api/v1/usage").json()["org_id"])
    except APIError as error:
        if error.status != 403 or error.code != "scope_missing":  # noqa: PLR2004  # HTTP's own
            raise failure_of(error) from error
        # A key that may not see the usage is a good one all the same.
        return ""
    except ClientError as error:
        raise failure_of(error) from error


def shown_key(key: str) -> str:
    """Return the part of a key that is no secret."""
    return key[:_SHOWN_CHARS] + "…" if key.startswith("pk_") else "…"


def whence(caller: Caller) -> dict[str, Any]:
    """Return where address, key and organisation come from; never the key."""
    return {
        "url": caller.url,
        "url_from": caller.url_from,
        "profile": caller.profile,
        "key": None if caller.key is None else shown_key(caller.key),
        "key_from": caller.key_from,
        "organization": caller.organization,
        "organization_from": caller.organization_from,
    }


class profiles_told:  # noqa: N801  # it is used as `with profiles_told():`
    """Turn what is wrong with the file of profiles into a failure."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise the failure."""
        from penstock.cli.dialling import failure_of  # noqa: PLC0415  # lazy: HTTP comes with it
        from penstock.client import ClientError  # noqa: PLC0415  # lazy: the same

        if isinstance(error, ClientError):
            raise failure_of(error) from error


def _read_key(url: str) -> str:
    """Return a key from a prompt that does not show it, or from standard input."""
    if sys.stdin is not None and sys.stdin.isatty():
        text = str(click.prompt(f"Key for {url}", hide_input=True, err=True))
    else:
        text = standard_input().read(KEY_BYTES_MAX).decode("utf-8", "replace")
    key = text.strip()
    if not key:
        raise Failure(
            "no key was given",
            code="unauthenticated",
            exit_code=ExitCode.NOT_ALLOWED,
            fix="write it into a file, then: penstock auth login < FILE",
        )
    return key


def _members(profile: Profile | None) -> dict[str, Any]:
    return {} if profile is None else msgspec.structs.asdict(profile)


def name_in_use(profiles: Profiles, path: Path, named: str | None) -> str:
    """Return the profile that an argument or the environment names, or else the one in use."""
    name = named or os.environ.get("PENSTOCK_PROFILE") or profiles.current
    if name is None:
        raise Failure(
            f"no profile is in use in {path}",
            code="no_profile",
            exit_code=ExitCode.USAGE,
            fix="see those that there are: penstock profile ls",
        )
    return name
