"""`pingvas health`: a probe for containers and supervisors, which read its exit status."""

import sys

import click
import httpx

from pingvas import settings
from pingvas.cli import console
from pingvas.cli.console import CommandError

_SECONDS = 5.0


@click.command("health")
@click.option("--port", type=click.IntRange(1, 65_535), help="Of the process [default: PINGVAS_HEALTH_PORT].")
@click.option(
    "--ready", is_flag=True, help="Ask whether it does its work now, and not only whether it lives."
)
def command(port: int | None, ready: bool) -> None:
    """Ask the worker or beat on this machine that listens on a port whether it is well.

    Ends with status 0 if so, else with 1.
    """
    port = port or settings.get().health_port
    if not port:
        raise click.UsageError(f"--port is not given, and {settings.variable('health_port')} is not set.")
    url = f"http://127.0.0.1:{port}/{'readyz' if ready else 'healthz'}"
    try:
        answer = httpx.get(url, timeout=_SECONDS, trust_env=False)
    except httpx.HTTPError as error:
        raise CommandError(f"{url} does not answer: {error}") from None
    console.say(answer.text)
    sys.exit(0 if answer.is_success else 1)
