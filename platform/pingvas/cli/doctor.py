"""`pingvas doctor`: what is here, what works, what to mend."""

import sys
from collections.abc import Callable, Iterator

import click
from rich.markup import escape
from rich.table import Table

from pingvas import domains, embedded, settings
from pingvas.cli import checks, console, stuck
from pingvas.cli.checks import Finding
from pingvas.cli.console import data_dir_option

_MARKS = {"ok": "[green]ok[/green]", "note": "[yellow]note[/yellow]", "wrong": "[red]wrong[/red]"}


@click.command("doctor")
@data_dir_option
def command() -> None:
    """Check this machine and the instance on it. Ends with status 1 when something is wrong."""
    found = []
    for title, check in _checks():
        with console.out.status(f"{title} …"):
            found.append(check())
    _show(found)
    wrong = [finding.name for finding in found if finding.state == "wrong"]
    if wrong:
        console.err.print(f"[red]To mend: {', '.join(wrong)}[/red]")
        sys.exit(1)
    console.done("Nothing is wrong")


def _show(found: list[Finding]) -> None:
    """Print a table; where nobody looks, a line each, which a program can search and nothing cuts short."""
    if not console.out.is_terminal:
        for finding in found:
            mend = f" - {finding.mend}" if finding.mend else ""
            console.say(f"{finding.state:5} {finding.name}: {finding.text}{mend}")
        return
    table = Table("", "what", "found", "mend", show_lines=True)
    for finding in found:
        table.add_row(_MARKS[finding.state], *map(escape, (finding.name, finding.text, finding.mend)))
    console.out.print(table)


def _checks() -> Iterator[tuple[str, Callable[[], Finding]]]:
    yield "Python", checks.python
    yield "packages", checks.packages
    yield "packages of the worker", checks.gpu_packages
    yield "devices", checks.devices
    yield "plans", checks.plan_table
    yield "embedded servers", checks.embedded_servers
    yield "data folder", lambda: checks.disk(settings.get().data_dir.absolute())
    instance = embedded.attach()
    config = settings.get()
    yield "instance", lambda: checks.instance(instance)
    if instance is None:
        yield "ports", checks.ports
    if config.database_url:
        yield "database", checks.database
        yield "database roles", checks.database_roles
    if config.broker_url:
        yield "broker", checks.broker
    if instance or config.s3_bucket:
        yield "object store", checks.store
    if config.database_url and config.broker_url:
        yield "workers", checks.workers
        domains.load()
        yield from stuck.checks()
