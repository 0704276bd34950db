"""What people see: steps with a spinner, tables, errors in one red line."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class CommandError(Exception):
    """A command cannot go on; the text says why, and what to do."""


@contextmanager
def step(text: str) -> Iterator[None]:
    """Show a spinner and the elapsed time while the block runs, then a line with the seconds it took."""
    began = time.monotonic()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        progress.add_task(escape(text))
        yield
    done(text, time.monotonic() - began)


def done(text: str, seconds: float | None = None) -> None:
    """Print a line with a tick."""
    took = "" if seconds is None else f"  [dim]{seconds:.1f} s[/dim]"
    out.print(f"[green]✓[/green] {escape(text)}{took}", soft_wrap=True)


def say(text: str) -> None:
    """Print a line as it is, however long it is: what people copy must not be broken."""
    out.print(escape(text), soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning."""
    err.print(f"[yellow]![/yellow] {escape(text)}", soft_wrap=True)


def fail(error: BaseException) -> None:
    """Print what went wrong in red."""
    err.print(f"[red]{escape(explain(error))}[/red]", soft_wrap=True)


def expected_errors() -> tuple[type[BaseException], ...]:
    """Return the errors that are about the world, not about this program; called when one has happened."""
    import redis
    from kombu.exceptions import OperationalError as BrokerError
    from sqlalchemy.exc import OperationalError, ProgrammingError

    from pingvas.embedded import EmbeddedError
    from pingvas.errors import PingvasError
    from pingvas.settings import SettingsError

    world = (OperationalError, ProgrammingError, redis.ConnectionError, redis.TimeoutError, BrokerError)
    return (CommandError, EmbeddedError, PingvasError, SettingsError, *world)


def explain(error: BaseException) -> str:
    """Return what an expected error means, in words of the person at the terminal."""
    text = str(error) or type(error).__name__
    original = getattr(error, "orig", None)
    if original is not None:  # SQLAlchemy adds the statement and a link, which help nobody here
        text = str(original).strip().splitlines()[0]
        if type(original).__name__ in ("UndefinedTable", "UndefinedColumn"):
            return f"The database's schema is not up to date ({text}). Run: pingvas db upgrade"
        return f"The database does not answer as it should: {text}"
    if type(error).__module__.startswith(("redis", "kombu")):
        return f"The broker cannot be reached: {text}"
    return text


def duration(seconds: float) -> str:
    """Return a length of time as people say it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3_600:.0f} h"


def _set_data_dir(_: click.Context, __: click.Parameter, value: str | None) -> None:
    if value:
        os.environ["PINGVAS_DATA_DIR"] = value


def data_dir_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--data-dir` to a command: it goes by the environment, where all settings are read."""
    option = click.option(
        "--data-dir",
        type=click.Path(file_okay=False),
        callback=_set_data_dir,
        expose_value=False,
        is_eager=True,
        help="Folder of databases, pictures, keys and logs [default: PINGVAS_DATA_DIR or ./var].",
    )
    return option(command)
