"""The database schema over time. Alembic, run from here: no alembic.ini in anybody's current folder."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from pingvas import db

if TYPE_CHECKING:
    from alembic.config import Config

_HERE = Path(__file__).parent


def config() -> "Config":
    """Return Alembic's configuration, also for `alembic.command.revision` in development."""
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", str(_HERE).replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    return made


def upgrade(revision: str = "head") -> None:
    """Bring the schema to `revision`; one process at a time does it, the others wait and find it done."""
    from alembic import command

    logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)
    command.upgrade(config(), revision)


def current() -> str | None:
    """Return the revision that the database is at, None for an empty one."""
    from alembic.migration import MigrationContext

    with db.engine().connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head() -> str | None:
    """Return the newest revision that this version of Pingvas knows."""
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(config()).get_current_head()
