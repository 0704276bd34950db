"""`pingvas worker`: one worker process, as production runs them."""

import os
import re

import click

from pingvas import embedded, settings
from pingvas.cli import programs
from pingvas.cli.console import CommandError, data_dir_option
from pingvas.jobs import routing

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def _names(_: click.Context, __: click.Parameter, value: str | None) -> list[str]:
    if value is not None and not value.strip(" ,"):
        raise click.BadParameter("it is empty; leave the option out for all.")  # a variable that is not set
    return [] if value is None else [name for name in (part.strip() for part in value.split(",")) if name]


@click.command("worker")
@click.option("--queues", callback=_names, metavar="TIER,…", help="Tiers it serves [default: all].")
@click.option(
    "--families",
    callback=_names,
    metavar="NAME,…",
    help="Model families it holds [default: all]; needs PINGVAS_ROUTING=family.",
)
@click.option(
    "--concurrency", type=click.IntRange(1, 64), help="Jobs at once [default: PINGVAS_WORKER_CONCURRENCY]."
)
@click.option("--name", help="Of this worker among those of this host [default: gpu or control].")
@click.option("--control", is_flag=True, help="Sweeps and clean-up, which need no GPU, instead of jobs.")
@data_dir_option
def command(
    queues: list[str], families: list[str], concurrency: int | None, name: str | None, control: bool
) -> None:
    """Run a GPU worker, or with --control one for sweeps and clean-up.

    It ends on SIGTERM: jobs that do not finish in the grace time go back to their queue, uncharged.
    """
    if control and (queues or families):
        raise click.UsageError("--control goes with neither --queues nor --families.")
    name = name or ("control" if control else "gpu")
    if not _NAME.fullmatch(name):
        raise click.UsageError(f"--name is letters, digits, '.', '_' and '-', not {name!r}.")
    embedded.attach()
    config = settings.get()
    if not (config.database_url and config.broker_url):
        raise CommandError(
            "DATABASE_URL and BROKER_URL are not set, and no instance runs on the data folder."
        )
    if control:
        argv = programs.worker(name, [routing.CONTROL], concurrency or programs.CONTROL_THREADS)
    else:
        argv = programs.worker(name, _queues(queues, families), concurrency or config.worker_concurrency)
    # In the place of this process: signals reach the worker, and a supervisor sees its status.
    os.execve(argv[0], argv, {**os.environ, "PYTHONUNBUFFERED": "1"})  # noqa: S606


def _queues(tiers: list[str], families: list[str]) -> list[str]:
    from pingvas.cli.up import check_packages

    check_packages()
    try:
        return routing.queue_names(tiers, families)
    except routing.UnknownQueueError as error:
        raise CommandError(str(error)) from None
