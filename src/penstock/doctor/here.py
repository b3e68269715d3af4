"""Of this machine and this shell: the configuration, proxies, the disk, versions, completion."""

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from importlib import metadata
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # in all Pythons, not in typeshed

from penstock import __version__
from penstock.client.profile import Caller, config_path
from penstock.doctor.check import UNEXPECTED, Finding, fails, holds, warns

DISK_BYTES_MIN: Final = 1_000_000_000
"""An output is about as large as its input, which may have so much."""

PYTHON_MIN: Final = (3, 11)
_PACKAGES: Final = ("httpx2", "msgspec", "click")
"""What the client and the command line stand on."""

_INTERNAL_ENDINGS: Final = (".internal", ".local", ".localhost", ".lan", ".corp", ".intranet")
_COMPLETIONS: Final = {
    "bash": (
        ".bashrc",
        ".bash_profile",
        ".bash_completion",
        ".local/share/bash-completion/completions/penstock",
    ),
    "zsh": (".zshrc", ".zfunc/_penstock", ".zsh/completions/_penstock"),
    "fish": (".config/fish/completions/penstock.fish", ".config/fish/config.fish"),
}
_MARK: Final = "_PENSTOCK_COMPLETE"
_COMPLETION_BYTES_MAX: Final = 1_000_000


def configuration(caller: Caller, environ: Mapping[str, str]) -> Finding:
    """Tell where address and key come from, and how the file of profiles is protected."""
    path = config_path(environ)
    origin = f"address from {caller.url_from}, key from {caller.key_from or 'nowhere'}"
    if not path.is_file():
        return holds("config", f"no file {path}; {origin}", path=str(path), profile=None)
    mode = path.stat().st_mode & 0o777
    profile = f"profile {caller.profile}" if caller.profile else "no profile in use"
    facts = {"path": str(path), "profile": caller.profile, "mode": f"{mode:04o}"}
    return holds("config", f"{path} ({profile}, mode {mode:04o}); {origin}", **facts)


def proxies(url: str, environ: Mapping[str, str], *, is_reached: bool) -> Finding:
    """Tell which proxy takes the calls; one that takes those to an internal host is a trap."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxy = proxy_for(url, environ)
    if proxy is None:
        return holds("proxy", "none is used")
    name = f"{_upper(parts.scheme)}_PROXY"
    where = _without_password(proxy)
    if not is_internal(host):
        return holds("proxy", f"{name} sends what is for {host} to {where}", proxy=where)
    todo = f"add {host} to NO_PROXY"
    saw = f"{name} ({where}) takes what is for {host}, which is an internal host"
    # A proxy may well know the way; then it is only a detour.
    return warns("proxy", saw, todo) if is_reached else fails("proxy", saw, todo, UNEXPECTED)


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """Return the proxy that the environment names for an address; None if it goes straight."""
    parts = urlsplit(url)
    known = {name.lower(): value for name, value in environ.items() if value}
    ending = "_proxy"
    found = {
        name.removesuffix(ending): value for name, value in known.items() if name.endswith(ending)
    }
    proxy = found.get(parts.scheme) or found.get("all")
    if not proxy or proxy_bypass_environment(parts.netloc.rpartition("@")[2], found):
        return None
    return proxy


def is_internal(host: str) -> bool:
    """Return whether a name or address is one that a proxy to the outside does not know."""
    try:
        return not ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith(_INTERNAL_ENDINGS)


def disk(folder: Path) -> Finding:
    """Tell whether a download has room in the folder in which the command runs."""
    free_bytes = shutil.disk_usage(folder).free
    room = f"{free_bytes / 1e9:,.1f} GB free in {folder}"
    if not os.access(folder, os.W_OK):
        return fails("disk", f"{folder} cannot be written to", "go elsewhere, or use -o")
    if free_bytes < DISK_BYTES_MIN:
        todo = "make room, or download to another disk (-o): an output may have a gigabyte"
        return warns("disk", room, todo, free_bytes=free_bytes)
    return holds("disk", room, free_bytes=free_bytes)


def python() -> Finding:
    """Tell the versions of Python and of what the client stands on."""
    versions = {name: _version(name) for name in _PACKAGES}
    missing = sorted(name for name, version in versions.items() if version is None)
    ours = platform.python_version()
    if sys.version_info < PYTHON_MIN or missing:
        lacks = f", {', '.join(missing)} not installed" if missing else ""
        return fails("python", f"Python {ours}{lacks}", "install penstock anew, on Python >= 3.11")
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items())
    saw = f"Python {ours}, penstock {__version__}, {libraries}"
    return holds("python", saw, python=ours, penstock=__version__, **versions)


def completion(home: Path, environ: Mapping[str, str]) -> Finding:
    """Tell whether the shell completes our commands."""
    shell = Path(environ.get("SHELL", "")).name
    files = _COMPLETIONS.get(shell)
    if files is None:
        return holds(
            "completion", f"not looked for: {shell or 'no shell'} is not bash, zsh or fish"
        )
    for name in files:
        path = home / name
        if path.is_file() and _MARK in _beginning(path):
            return holds("completion", f"installed for {shell} in {path}")
    return warns("completion", f"not installed for {shell}", f"penstock completion install {shell}")


def _beginning(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_COMPLETION_BYTES_MAX).decode(errors="replace")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _upper(scheme: str) -> str:
    return scheme.upper() or "HTTP"


def _without_password(proxy: str) -> str:
    parts = urlsplit(proxy)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
