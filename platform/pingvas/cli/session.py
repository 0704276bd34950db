"""What commands that work on rows have in common."""

from collections.abc import Iterator
from contextlib import contextmanager

from pingvas import domains, embedded, migrations


@contextmanager
def rows() -> Iterator[None]:
    """Give the block a database with its tables, external, running or started for it."""
    with embedded.database() as started_here:
        if started_here:  # an external one's schema is changed by `pingvas db upgrade` only
            migrations.upgrade()
        domains.load()
        yield
