"""`penstock doctor --server`: what a server would need, with the settings that it would have."""

import asyncio
import os
from pathlib import Path

from penstock.cli.doctor_findings import told
from penstock.clock import SystemClock
from penstock.doctor import host
from penstock.doctor.check import USAGE, fails
from penstock.errors import ConfigurationError
from penstock.settings import Settings, build, emulator_values, read


def settings_of(config: Path | None, data_dir: Path | None, emulator: str | None) -> Settings:
    """Return the settings as `penstock serve` reads them."""
    named = os.environ.get("PENSTOCK_CONFIG")
    values = read(os.environ, config or (Path(named) if named else None))
    if emulator is not None:
        values["vertex"] = {**values.get("vertex", {}), **emulator_values(emulator)}
    if data_dir is not None:
        values["data_dir"] = data_dir
    return build(values)


def look(
    *, as_json: bool, config: Path | None, data_dir: Path | None, emulator: str | None
) -> None:
    """Check, and tell."""
    try:
        settings = settings_of(config, data_dir, emulator)
    except ConfigurationError as error:
        told([fails("settings", error.message, error.hint or "", USAGE)], as_json=as_json)
        return
    told(asyncio.run(host.look(settings, SystemClock())), as_json=as_json)
