"""`pingvas queues`: what waits and runs."""

import time

import click
from rich.live import Live
from rich.table import Table

from pingvas import embedded, settings
from pingvas.cli import console
from pingvas.cli.console import CommandError, data_dir_option
from pingvas.jobs import dispatch, queues

_WATCH_SECONDS = 1.0


@click.command("queues")
@click.option("--watch", is_flag=True, help="Go on until Ctrl-C.")
@data_dir_option
def command(watch: bool) -> None:
    """Show each tier's queue: jobs waiting and running, and messages on the broker."""
    embedded.attach()
    config = settings.get()
    if not (config.database_url and config.broker_url):
        raise CommandError(f"Nothing runs on {config.data_dir.absolute()}. Start it with: pingvas up")
    if not watch:
        console.out.print(_table())
        return
    with Live(_table(), console=console.out, auto_refresh=False) as live:
        while True:
            time.sleep(_WATCH_SECONDS)
            live.update(_table(), refresh=True)


def _table() -> Table:
    table = Table("tier")
    for name in ("waiting", "running", "on the broker"):
        table.add_column(name, justify="right")
    messages = dispatch.depths()
    for queue in queues.snapshot():
        counts = (queue.waiting, queue.running, messages[queue.tier])
        table.add_row(queue.tier, *(str(count) for count in counts))
    return table
