"""`penstock profile`: servers and keys under names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from penstock.cli.auth import name_in_use, profiles_told, shown_key
from penstock.cli.command import group
from penstock.cli.connection import Answer, answering, answering_with_ids
from penstock.client.profile import Profile, Profiles, config_path, load, save

if TYPE_CHECKING:
    from pathlib import Path

_HEADINGS: Final = ("NAME", "IN USE", "URL", "KEY", "ORGANISATION")


@group()
def profile() -> None:
    """Keep servers and keys under names, and choose the one to use.

    \b
    Examples:
      penstock profile set work --url https://b.example.com
      penstock profile use work
      penstock ls --profile work
    """  # noqa: D301  # click's mark is a real backspace


@profile.command("ls")
@answering_with_ids
def list_profiles(answer: Answer) -> None:
    """List the profiles, without the secrets of their keys.

    \b
    Examples:
      penstock profile ls
    """  # noqa: D301  # click's mark is a real backspace
    profiles, path = _loaded()
    names = sorted(profiles.profiles)
    rows = [
        (
            name,
            "yes" if name == profiles.current else "-",
            profiles.profiles[name].url,
            _key(profiles.profiles[name]),
            profiles.profiles[name].organization or "-",
        )
        for name in names
    ]
    value = {
        "current": profiles.current,
        "profiles": {name: _record(profiles, name) for name in names},
    }
    answer.show(value, answer.table(_HEADINGS, rows, drop=("ORGANISATION", "KEY")), ids=names)
    if not names and not answer.as_json:
        answer.hint(f"no profiles in {path}; make one: penstock auth login")


@profile.command()
@click.argument("name", required=False)
@answering
def show(answer: Answer, *, name: str | None) -> None:
    """Show the profile NAME, or the one that is in use.

    \b
    Examples:
      penstock profile show
      penstock profile show work --json
    """  # noqa: D301  # click's mark is a real backspace
    profiles, path = _loaded()
    wanted = name_in_use(profiles, path, name)
    with profiles_told():
        profiles.get(wanted, path)
    record = _record(profiles, wanted)
    rows = [f"{member:<18} {text}" for member, text in {"name": wanted, **record}.items() if text]
    answer.show({"name": wanted, **record}, answer.sheet(rows))


@profile.command()
@click.argument("name")
@answering
def use(answer: Answer, *, name: str) -> None:
    """Use the profile NAME from now on, where neither options nor the environment say otherwise.

    \b
    Examples:
      penstock profile use work
    """  # noqa: D301  # click's mark is a real backspace
    profiles, path = _loaded()
    _saved(lambda: profiles.using(name), path)
    answer.show({"current": name}, [name])


@profile.command("set")
@click.argument("name")
@click.option("--url", metavar="URL", help="Address of the server.")
@click.option("--organization", metavar="ORG", help="Organisation to act for.")
@click.option(
    "--confirm-above",
    "confirm_above_usd",
    metavar="DOLLARS",
    type=click.FloatRange(min=0),
    help="Ask on a terminal before a job that is likely to cost more.  [default: 20]",
)
@answering
def set_(answer: Answer, *, name: str, **given: Any) -> None:  # noqa: ANN401  # members of a profile
    """Make the profile NAME, or change what is given of it; `auth login` keeps its key.

    \b
    Examples:
      penstock profile set work --url https://b.example.com
      penstock profile set work --confirm-above 5
    """  # noqa: D301  # click's mark is a real backspace
    profiles, path = _loaded()
    changes = {member: value for member, value in given.items() if value is not None}
    if not changes:
        raise click.UsageError("nothing is to be set; give --url, --organization, --confirm-above")
    before = profiles.profiles.get(name)
    if before is None and "url" not in changes:
        raise click.UsageError(f"there is no profile {name!r} yet, and a new one needs --url")
    if before is not None and "url" in changes and changes["url"] != before.url:
        # A key belongs to the server that made it.
        changes["key"] = None
    known = {} if before is None else msgspec.structs.asdict(before)
    _saved(lambda: profiles.with_profile(name, Profile(**{**known, **changes})), path)
    answer.show({"name": name, "path": str(path)}, [name])
    if before is None or changes.get("key", "") is None:
        answer.next(f"penstock auth login --profile {name}")


@profile.command()
@click.argument("name")
@answering
def rm(answer: Answer, *, name: str) -> None:
    """Remove the profile NAME with its key; the key itself works until it is revoked.

    \b
    Examples:
      penstock profile rm work
    """  # noqa: D301  # click's mark is a real backspace
    profiles, path = _loaded()
    _saved(lambda: profiles.without(name), path)
    answer.show({"removed": name}, [f"removed {name}"])


def _loaded() -> tuple[Profiles, Path]:
    path = config_path(os.environ)
    with profiles_told():
        return load(path), path
    raise AssertionError  # `profiles_told` lets no error pass


def _saved(changed: Any, path: Path) -> None:  # noqa: ANN401  # what gives the new profiles
    with profiles_told():
        save(changed(), path)


def _record(profiles: Profiles, name: str) -> dict[str, Any]:
    """Return what may be shown of a profile."""
    one = profiles.profiles[name]
    record = {**msgspec.structs.asdict(one), "key": _key(one) if one.key else None}
    return {**record, "in_use": name == profiles.current}


def _key(one: Profile) -> str:
    return shown_key(one.key) if one.key else "-"
