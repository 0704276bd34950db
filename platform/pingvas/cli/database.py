"""`pingvas db`: the schema."""

import click

from pingvas import embedded, migrations, roles
from pingvas.cli import console
from pingvas.cli.console import data_dir_option


@click.group("db")
def group() -> None:
    """Look after the database's schema."""


@group.command("upgrade")
@data_dir_option
def upgrade() -> None:
    """Bring the schema up to date."""
    with embedded.database():
        with console.step("Database schema"):
            migrations.upgrade()
        console.say(f"The schema is at revision {migrations.current()}.")


@group.command("roles")
def print_roles() -> None:
    """Print the SQL that makes the roles of the processes, for an administrator of the database to run."""
    console.say(roles.CREATE + roles.SIGN_IN)


@group.command("current")
@data_dir_option
def current() -> None:
    """Print the schema's revision, and the newest there is."""
    with embedded.database():
        console.say(f"{migrations.current() or 'empty'} (newest: {migrations.head()})")
