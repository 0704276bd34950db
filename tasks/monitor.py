"""Flower as we run it: `python -m tasks.monitor`, with the options of `celery flower`."""

import sys

from flower import command  # type: ignore[import-untyped]
from flower.app import Flower  # type: ignore[import-untyped]
from flower.options import options  # type: ignore[import-untyped]
from tornado.ioloop import PeriodicCallback

from tasks import app

LOOK_SECONDS = 15
COLUMNS = "name,args,state,received,runtime,worker,uuid"  # args: job, tier and model


class Monitor(Flower):  # type: ignore[misc]
    """Flower that goes on asking which workers there are and what they serve.

    The stock one asks once, at its start: queues of workers that come later are not on its broker page.
    """

    def start(self) -> None:
        """Serve until told to stop."""
        PeriodicCallback(self.update_workers, LOOK_SECONDS * 1_000).start()
        super().start()


def main() -> None:
    """Run Flower's own command with our class and columns; options and FLOWER_… variables come after."""
    command.Flower = Monitor
    options.tasks_columns = COLUMNS
    app.start(["flower", *sys.argv[1:]])


if __name__ == "__main__":
    main()
