"""`pingvas dlq`: jobs that failed for good through no fault of the customer."""

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click
from rich import box
from rich.table import Table

from pingvas.billing.plans import Tier
from pingvas.cli import console
from pingvas.cli.console import data_dir_option
from pingvas.cli.session import attach, operator
from pingvas.errors import PingvasError
from pingvas.jobs.dead_letters import finding, replay
from pingvas.jobs.dead_letters.classes import Class
from pingvas.jobs.dead_letters.finding import Filter

_LISTED = 50


@click.group("dlq")
@data_dir_option
def group() -> None:
    """Look at jobs that failed for good; replay and drop them.

    A replay is a new job under a fresh hold, at no more than the first quote; its customer is charged for it
    as for any other. What the infrastructure failed is replayed by itself, after 1 min, 10 min and 1 h.
    """
    attach()


def _filtered(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--before", type=click.DateTime(), help="Failed before this moment, UTC."),
        click.option("--tier", type=click.Choice([tier.value for tier in Tier])),
        click.option("--code", help="Reason, such as OUT_OF_MEMORY."),
        click.option("--class", "class_", type=click.Choice([class_.value for class_ in Class])),
    ):
        command = option(command)
    return command


def _filter(class_: str | None, code: str | None, tier: str | None, before: datetime | None) -> Filter:
    return Filter(class_, code, tier, before and before.replace(tzinfo=UTC))


@group.command("list")
@_filtered
@click.option("--limit", default=_LISTED, show_default=True, type=click.IntRange(1))
def list_(limit: int, **wanted: Any) -> None:
    """List open dead letters, the oldest first."""
    letters = finding.matching(_filter(**wanted), limit + 1)
    table = Table("job", "class", "code", "tier", "failed", "next replay", "refused", box=box.SIMPLE_HEAD)
    for letter in letters[:limit]:
        after = _moment(letter.replay_after) if letter.replay_after else "by hand"
        failed = _moment(letter.created_at)
        row = (letter.class_, letter.code, letter.tier, failed, after, letter.refusal or "")
        table.add_row(str(letter.job_id), *row)
    console.out.print(table)
    if len(letters) > limit:
        console.warn(f"There are more than {limit}; see --limit.")


@group.command("show")
@click.argument("job", type=click.UUID)
def show(job: UUID) -> None:
    """Show JOB's dead letter, each failed attempt and what operators did."""
    found = finding.history(job)
    letter = found.letter
    console.say(f"{letter.job_id}: {letter.class_}, {letter.code}, {letter.state}, tier {letter.tier}")
    console.say(f"the customer reads: {found.job.error_detail}")
    if letter.replayed_as:
        console.say(f"replayed as {letter.replayed_as}")
    if letter.refusal:
        console.say(f"the last replay was refused: {letter.refusal}")
    for one in found.attempts:
        began = _moment(one.started_at) if one.started_at else "?"
        console.say(f"attempt {one.number} on {one.worker}, {began} to {_moment(one.ended_at)}: {one.code}")
        if one.traceback:
            console.say(one.traceback.rstrip())
    for job_id, workers in found.neighbours:
        console.say(f"lost with {workers} of its workers: job {job_id}")
    for act in found.acts:
        console.say(f"{_moment(act.created_at)} {act.actor}: {act.action}")


def _acting(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--yes", is_flag=True, help="Do it to all that match the filter."),
        click.option("--dry-run", is_flag=True, help="Only say what would be done; usual with a filter."),
    ):
        command = option(command)
    return click.argument("jobs", metavar="[JOB]...", nargs=-1, type=click.UUID)(_filtered(command))


@group.command("replay")
@_acting
def replay_(jobs: tuple[UUID, ...], dry_run: bool, yes: bool, **wanted: Any) -> None:
    """Order the named JOBs again, or with --yes all that match the filter."""
    chosen = _chosen(jobs, _filter(**wanted))
    if dry_run or not (jobs or yes):
        told = finding.preview(chosen)
        console.say(f"{told.jobs} jobs would be replayed and {told.credits} credits held.")
        if told.cannot_pay:
            console.say(f"{told.cannot_pay} customers have less than theirs need, and would be refused.")
        _say_how(dry_run)
        return
    _do(chosen, _replay)


@group.command("drop")
@_acting
def drop(jobs: tuple[UUID, ...], dry_run: bool, yes: bool, **wanted: Any) -> None:
    """Close the named JOBs' dead letters, or with --yes all that match the filter. Nobody is charged."""
    chosen = _chosen(jobs, _filter(**wanted))
    if dry_run or not (jobs or yes):
        console.say(f"{len(chosen)} dead letters would be dropped.")
        _say_how(dry_run)
        return
    _do(chosen, lambda job: "dropped" if replay.drop(job, operator()) else None)


def _chosen(jobs: Sequence[UUID], wanted: Filter) -> list[UUID]:
    if bool(jobs) == (wanted != Filter()):
        raise click.UsageError("Name jobs, or say which by --class, --code, --tier, --before; not both.")
    return list(jobs) or [letter.job_id for letter in finding.matching(wanted)]


def _say_how(dry_run: bool) -> None:
    if not dry_run:
        console.say("Nothing was done yet; to do it: --yes")


def _replay(job: UUID) -> str | None:
    made = replay.replay(job, operator())
    return None if made is None else f"replayed as {made}"


def _do(jobs: Sequence[UUID], act: Callable[[UUID], str | None]) -> None:
    """Act on each job; one that is refused does not stop the others, but ends the command with status 1."""
    refused = 0
    for job in jobs:
        try:
            told = act(job)
        except PingvasError as error:
            refused += 1
            console.warn(f"{job}: refused: {error.detail}")
        else:
            console.done(f"{job} {told}") if told else console.say(f"{job} has no open dead letter")
    sys.exit(1 if refused else 0)


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
