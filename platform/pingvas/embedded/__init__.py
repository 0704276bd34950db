"""Real PostgreSQL and Redis out of wheels, under one data folder, for a machine that has neither."""

from pingvas.embedded.folder import BusyError, DataFolder, EmbeddedError, Instance
from pingvas.embedded.servers import Servers, attach, database, running

__all__ = ["BusyError", "DataFolder", "EmbeddedError", "Instance", "Servers", "attach", "database", "running"]
