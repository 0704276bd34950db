"""`pingvas queues`: what waits and runs, and the operators' word on each tier."""

import logging
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import click
from rich import box
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from pingvas import workers
from pingvas.billing.plans import Tier
from pingvas.cli import console
from pingvas.cli.console import data_dir_option, duration
from pingvas.cli.session import attach, operator
from pingvas.jobs import dispatch, queues, sweep, tiers
from pingvas.jobs.eta.calibration import report
from pingvas.jobs.tiers import State

T = TypeVar("T")

_TIER = click.Choice([tier.value for tier in Tier])
_WATCH_SECONDS = 1.0
_STYLES = {State.OPEN: "green", State.PAUSED: "red", State.DRAINING: "yellow"}
_COLUMNS = ("waiting", "running", "messages", "wait p50/p90", "workers")


@click.group("queues", invoke_without_command=True)
@click.option("--watch", is_flag=True, help="Go on until Ctrl-C.")
@click.option(
    "--calibration", is_flag=True, help="Hold the waits that were predicted against those that came."
)
@data_dir_option
@click.pass_context
def group(context: click.Context, watch: bool, calibration: bool) -> None:
    """Show each tier: its state, jobs waiting and running, messages on the broker, and more.

    Wait is what a new job would wait (median/90th percentile); behind the workers that serve a tier stand
    their job slots.

    Ends with status 1 when the database or the broker could not be asked.
    """
    logging.getLogger("pingvas").setLevel(logging.ERROR)  # what is away stands below the table
    attach()
    if context.invoked_subcommand is not None:
        return
    if calibration:
        console.out.print(_calibration())
        return
    if watch:
        _watch()
        return
    view, away = _view()
    console.out.print(view)
    sys.exit(1 if away else 0)


@group.command("pause")
@click.argument("tier", type=_TIER)
def pause(tier: str) -> None:
    """Start no more jobs of TIER; new ones are accepted and wait."""
    _change(tier, State.PAUSED)


@group.command("drain")
@click.argument("tier", type=_TIER)
def drain(tier: str) -> None:
    """Accept no more jobs of TIER; those that wait still run."""
    _change(tier, State.DRAINING)


@group.command("resume")
@click.argument("tier", type=_TIER)
def resume(tier: str) -> None:
    """Let TIER accept and start jobs again."""
    _change(tier, State.OPEN)
    sweep.refill_users()  # what waited is rung now, and not at the next sweep


def _change(tier: str, state: State) -> None:
    before = tiers.change(tier, state, by=operator())
    console.done(f"{tier} is {state}" + ("" if before.state is state else f", it was {before.state}"))


def _watch() -> None:
    with Live(_view()[0], console=console.out, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(_WATCH_SECONDS)
                live.update(_view()[0], refresh=True)
        except KeyboardInterrupt:
            pass  # how watching ends


def _view() -> tuple[Group, bool]:
    """Return what is to be seen, and whether a server that knows some of it is away."""
    rows, no_rows = _asked(queues.snapshot)
    states, _ = _asked(tiers.states)
    messages, no_messages = _asked(dispatch.depths)
    table = Table("tier", "state", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    found = {row.tier: row for row in rows or ()}
    there = workers.live()
    for tier in Tier:
        state = states[tier].state if states else None
        shown = f"[{_STYLES[state]}]{state}[/]" if state else "?"
        row = found.get(tier.value)
        counts = (row.waiting, row.running) if row else ("?", "?")
        wait = f"{duration(row.wait.p50)}/{duration(row.wait.p90)}" if row else "?"
        serving = [worker for worker in there if tier in worker.tiers]
        slots = f"{len(serving)} ({sum(worker.slots for worker in serving)})"
        table.add_row(
            tier.value, shown, *map(str, (*counts, messages[tier] if messages else "?", wait, slots))
        )
    notes = [f"[red]{escape(note)}[/red]" for note in (no_rows, no_messages) if note]
    return Group(table, *notes), bool(notes)


def _calibration() -> Table:
    table = Table(
        "tier", "jobs", "before p50", "before p90", "actual ÷ p50", "median wait", box=box.SIMPLE_HEAD
    )
    table.title = "Waits of the last day; right are 50 %, 90 % and 1"
    for told in report():
        shares = (f"{told.before_p50:.0%}", f"{told.before_p90:.0%}", f"{told.median_ratio:.2f}")
        table.add_row(told.tier, str(told.jobs), *shares, duration(told.median_wait))
    return table


def _asked(question: Callable[[], T]) -> tuple[T | None, str]:
    """Return the answer, or why there is none."""
    try:
        return question(), ""
    except console.expected_errors() as error:
        return None, console.explain(error)
