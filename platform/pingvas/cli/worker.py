"""`pingvas worker`: one worker process, as production runs them, and asking those that run to leave."""

import os
import re

import click

from pingvas import embedded, roles, settings, workers
from pingvas.cli import console, programs
from pingvas.cli.console import CommandError, data_dir_option
from pingvas.cli.session import attach
from pingvas.jobs import routing

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def _names(_: click.Context, __: click.Parameter, value: str | None) -> list[str]:
    if value is not None and not value.strip(" ,"):
        raise click.BadParameter("it is empty; leave the option out for all.")  # a variable that is not set
    return [] if value is None else [name for name in (part.strip() for part in value.split(",")) if name]


@click.group("worker", invoke_without_command=True)
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
@click.option(
    "--grace",
    type=click.FloatRange(0),
    help="Seconds that running jobs have when it is to end [default: PINGVAS_WORKER_GRACE_SECONDS].",
)
@click.option(
    "--health",
    type=click.IntRange(1, 65_535),
    metavar="PORT",
    help="Where it answers /healthz and /readyz [default: PINGVAS_HEALTH_PORT].",
)
@click.option("--control", is_flag=True, help="Sweeps and clean-up, which need no GPU, instead of jobs.")
@data_dir_option
@click.pass_context
def command(
    context: click.Context,
    queues: list[str],
    families: list[str],
    concurrency: int | None,
    name: str | None,
    grace: float | None,
    health: int | None,
    control: bool,
) -> None:
    """Run a GPU worker, or with --control one for sweeps and clean-up.

    It ends on SIGTERM or Ctrl-C: jobs that do not finish in the grace time go back to their queue, uncharged.
    Asked a second time, it hands them back at their next step.
    """
    if context.invoked_subcommand is not None:
        return
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
        role = roles.CONTROL
    else:
        role = roles.WORKER
        argv = programs.worker(name, _queues(queues, families), concurrency or config.worker_concurrency)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **programs.database(role)}
    for field, value in (("worker_grace_seconds", grace), ("health_port", health)):
        if value is not None:
            environment[settings.variable(field)] = f"{value:g}"
    # In the place of this process: signals reach the worker, and a supervisor sees its status.
    os.execve(argv[0], argv, environment)  # noqa: S606


@command.command("drain")
@click.argument("name", required=False)
@click.option("--all", "everyone", is_flag=True, help="All GPU workers.")
@data_dir_option
def drain(name: str | None, everyone: bool) -> None:
    """Let the GPU worker NAME take no more jobs, finish those it has, and end with status 0.

    NAME is as `pingvas doctor` shows it, or the part before the @ or the last colon. It hears within seconds.
    """
    if everyone == (name is not None):
        raise click.UsageError("Give either a NAME or --all.")
    attach()
    chosen = [one for one in workers.known() if everyone or name in _names_of(one.name)]
    if not chosen:
        there = ", ".join(one.name for one in workers.known()) or "none"
        raise CommandError(f"No such GPU worker is up. Those that are: {there}.")
    for one in chosen:
        workers.ask_to_drain(one.name)
        console.done(f"{one.name} is asked to leave; {one.running} jobs run there")


def _names_of(full: str) -> set[str]:
    """Return what `gpu@host:17` may be called."""
    return {full, full.rpartition(":")[0], full.partition("@")[0]}


def _queues(tiers: list[str], families: list[str]) -> list[str]:
    from pingvas.cli.up import check_packages

    check_packages()
    try:
        return routing.queue_names(tiers, families)
    except routing.UnknownQueueError as error:
        raise CommandError(str(error)) from None
