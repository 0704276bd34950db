"""What commands that work on rows have in common."""

import getpass
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from pingvas import audit, db, domains, embedded, migrations, settings
from pingvas.cli.console import CommandError


def operator() -> str:
    """Return who is at the terminal, for the trail of what was done by hand."""
    return f"cli:{getpass.getuser()}@{socket.gethostname()}"


def write_down(action: str, subject: str, **after: object) -> None:
    """Write an act at the terminal into the trail, in the unit of work that does it."""
    with db.transaction() as session:
        audit.record(session, operator(), action, subject, before={}, after=after)


def attach() -> None:
    """Find the running instance's database and broker.

    Raises:
        CommandError: nothing runs on the data folder, and the environment names no servers.
    """
    embedded.attach()
    config = settings.get()
    if not (config.database_url and config.broker_url):
        raise CommandError(f"Nothing runs on {config.data_dir.absolute()}. Start it with: pingvas up")
    domains.load()


@contextmanager
def rows() -> Iterator[None]:
    """Give the block a database with its tables, external, running or started for it."""
    with embedded.database() as started_here:
        if started_here:  # an external one's schema is changed by `pingvas db upgrade` only
            migrations.upgrade()
        domains.load()
        yield
