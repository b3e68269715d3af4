"""What the emulator is told at its start."""

from pathlib import Path

import msgspec


class EmulatorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Read once, passed around, never changed.

    `data_dir` holds objects and job state and survives `kill -9`; `speed` divides every duration
    that the emulated service chooses (not the documented limits of 24 and 72 hours); `log_path`
    gets one JSON line per event that an outside checker wants to count;
    `faults_path` is a file of fault rules that stand from the start.
    """

    data_dir: Path
    speed: float = 1.0
    seed: int = 0
    log_path: Path | None = None
    project: str = "penstock-emulator"
    project_number: str = "415104041262"
    bucket: str = "penstock"
    faults_path: Path | None = None
