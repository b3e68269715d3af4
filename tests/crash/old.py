"""A data directory as the first version of Penstock left it."""

from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from tests.crash.rows import DATABASE

from penstock.store import migrations

FIRST: Final = "0001"
"""The revision of the first version."""


def make_old(data: Path) -> None:
    """Make a directory whose database has the first version's tables and no rows."""
    data.mkdir()
    engine = sa.create_engine(f"sqlite:///{data / DATABASE}")
    config = Config()
    config.set_main_option("script_location", str(Path(str(migrations.__file__)).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, FIRST)
    engine.dispose()
