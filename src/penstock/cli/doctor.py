"""`penstock doctor`: what does not work, and what to do about it."""

import importlib
import os
from pathlib import Path
from typing import Any

import click
import httpx2

from penstock.cli.command import command
from penstock.cli.doctor_findings import told
from penstock.cli.durations import read_seconds
from penstock.client.errors import ClientError
from penstock.client.profile import Caller, resolve
from penstock.clock import Clock, SystemClock
from penstock.doctor import here, key, reach
from penstock.doctor.check import USAGE, Finding, fails

_OF_VERTEX = ("spend", "clean", "yes", "max_cost", "model", "patience")


@command()
@click.option("--url", help="Address of the server; otherwise as for every command.")
@click.option("--key", "api_key", help="API key; otherwise as for every command.")
@click.option("--profile", help="Profile of the configuration file.")
@click.option("--server", "of_server", is_flag=True, help="Check a server's own settings, here.")
@click.option("--vertex", "of_vertex", is_flag=True, help="Check Google's side of a server.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="TOML file with the server's settings, for --server and --vertex.",
)
@click.option("--data-dir", type=click.Path(path_type=Path), help="The server's data directory.")
@click.option("--emulator", metavar="URL", help="An emulator in the place of Google.")
@click.option("--spend", is_flag=True, help="With --vertex: run tiny batch jobs, for some cents.")
@click.option("--clean", is_flag=True, help="With --vertex: remove what a --spend left behind.")
@click.option("--yes", is_flag=True, help="With --spend: do not ask.")
@click.option(
    "--max-cost",
    type=click.FloatRange(min=0),
    default=0.10,
    show_default=True,
    help="With --spend: US dollars that it may cost at the very most.",
)
@click.option("--model", help="With --vertex: the model; otherwise default_model, or the cheapest.")
@click.option(
    "--patience",
    default="2h",
    callback=read_seconds,
    show_default=True,
    help="With --spend: how long to wait for the jobs.",
)
@click.option("--json", "as_json", is_flag=True, help="Answer with JSON.")
def doctor(
    *,
    of_server: bool,
    of_vertex: bool,
    as_json: bool,
    url: str | None,
    **options: Any,  # noqa: ANN401  # click's
) -> None:
    """Check what a command needs: configuration, network, server, key, this machine.

    \b
    Examples:
      penstock doctor
      penstock doctor --server --config penstock.toml
      penstock doctor --vertex
      penstock doctor --vertex --spend --max-cost 0.05 --json
    """  # noqa: D301  # click's mark is a real backspace
    if of_server and of_vertex:
        raise click.UsageError("--server and --vertex are two questions; ask one at a time")
    if (options["spend"] or options["clean"]) and not of_vertex:
        raise click.UsageError("--spend and --clean are for --vertex")
    if of_server or of_vertex:
        name = "doctor_vertex" if of_vertex else "doctor_server"
        # A client need not load a server and its database to look at itself.
        module = importlib.import_module(f"penstock.cli.{name}")
        wanted = ("config", "data_dir", "emulator", *(_OF_VERTEX if of_vertex else ()))
        module.look(as_json=as_json, **{word: options[word] for word in wanted})
        return
    told(look(url, options["api_key"], options["profile"], SystemClock()), as_json=as_json)


def look(url: str | None, api_key: str | None, profile: str | None, clock: Clock) -> list[Finding]:
    """Check the client's side, in the order in which a command meets it."""
    try:
        caller = resolve(url, api_key, None, profile)
    except ClientError as error:
        return [fails("config", error.message, error.hint or "", USAGE), *_of_this_machine()]
    findings = [here.configuration(caller, os.environ), *_of_the_server(caller, clock)]
    return [*findings, *_of_this_machine()]


def _of_the_server(caller: Caller, clock: Clock) -> list[Finding]:
    with httpx2.Client(timeout=reach.TIMEOUT_SECONDS) as http:
        is_proxied = here.proxy_for(caller.url, os.environ) is not None
        way = reach.look(caller.url, http, clock, is_proxied=is_proxied)
        findings = list(way.findings)
        findings.append(here.proxies(caller.url, os.environ, is_reached=way.is_reached))
        if way.is_reached:
            findings += key.look(caller, http, clock)
    return findings


def _of_this_machine() -> list[Finding]:
    return [here.disk(Path.cwd()), here.python(), here.completion(Path.home(), os.environ)]
