"""`pingvas up`: everything on one machine, started, proven by a picture, kept running."""

import importlib.util
import os
import shlex
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
from click.core import ParameterSource

from pingvas import db, migrations, settings
from pingvas.cli import console, demo, picture, programs
from pingvas.cli.console import CommandError, data_dir_option
from pingvas.cli.programs import Place
from pingvas.cli.rest import Client
from pingvas.cli.signals import Stopped, Waiter, listening
from pingvas.cli.supervisor import Supervisor
from pingvas.embedded import DataFolder, running

FIRST_ORDER = {"prompt": "a red circle on a blue background", "model": "tiny", "seed": 42}
_GPU_EXTRA = ("torch", "diffusers", "transformers", "accelerate", "safetensors")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_READY_SECONDS = 120.0
_POLL_SECONDS = 0.1
_LOCK_SECONDS = 1.0  # longer than another command looks whether the folder is in use


@dataclass(frozen=True)
class Wishes:
    """What the command was asked for beside where to run."""

    once: bool
    first_picture: bool
    output: Path | None


@click.command("up")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65_535), help="Of the API.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address the API listens on.")
@data_dir_option
@click.option("--flower-port", default=5555, show_default=True, type=click.IntRange(1, 65_535))
@click.option("--once", is_flag=True, help="End after the first picture.")
@click.option("--no-first-picture", is_flag=True, help="Start serving without making a picture.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Of the first picture.")
def command(
    port: int, host: str, flower_port: int, once: bool, no_first_picture: bool, output: Path | None
) -> None:
    """Start everything on this machine and make a first picture.

    Runs API, workers, beat and Flower, and a PostgreSQL and a Redis where DATABASE_URL and BROKER_URL name
    no others. Ctrl-C stops it all.
    """
    if once and no_first_picture:
        raise click.UsageError("--once and --no-first-picture together would do nothing.")
    place = Place(DataFolder(settings.get().data_dir), host, port, flower_port)
    if host in _LOOPBACK:  # then every client reaches us by this address, and events can carry it too
        os.environ.setdefault(settings.variable("public_url"), place.url)
    db.CONNECT["application_name"] = "pingvas up"  # it migrates as the owner, and serves nobody
    wishes = Wishes(once, not no_first_picture, output)
    with listening() as waiter:
        run = _Run(place, wishes, waiter)
        try:
            run()
        except Stopped as stopped:
            # Being stopped is how serving ends; before that, something has been left undone.
            sys.exit(0 if run.serving else 128 + stopped.signal_number)


class _Run:
    """One run of the command; `serving` once everything that was asked for is done and it only serves on."""

    def __init__(self, place: Place, wishes: Wishes, waiter: Waiter) -> None:
        self.serving = False
        self._place, self._wishes, self._waiter = place, wishes, waiter

    def __call__(self) -> None:
        place = self._place
        place.folder.make()
        with place.folder.lock(_LOCK_SECONDS):
            check(place)
            with _servers_and_programs(place, self._waiter) as supervisor:
                if self._wishes.first_picture:
                    self._first_picture(supervisor)
                if not self._wishes.once:
                    self.serving = True
                    _print_addresses(place)
                    supervisor.forever()

    def _first_picture(self, supervisor: Supervisor) -> None:
        """Make it. An instance that cannot is served all the same: `pingvas doctor` needs it to say why."""
        try:
            _first_picture(self._place, self._wishes.output, supervisor)
        except CommandError as error:
            if self._wishes.once:
                raise
            console.warn(f"No first picture: {error}")


@contextmanager
def _servers_and_programs(place: Place, waiter: Waiter) -> Iterator[Supervisor]:
    with running(place.folder, step=console.step) as servers:
        with console.step("Database schema"):
            migrations.upgrade()
        supervisor = Supervisor(place.folder, servers, waiter, console.warn)
        try:
            with console.step(f"API on {place.url}, workers, beat and Flower (logs in {place.folder.logs})"):
                servers.instance.url, servers.instance.flower_url = place.url, place.flower_url
                supervisor.start(programs.everything(place))
                _wait_ready(place, supervisor)
            yield supervisor
        finally:
            with console.step("Stopping"):
                supervisor.stop()


def _wait_ready(place: Place, supervisor: Supervisor) -> None:
    client = Client(place.url)
    for _ in range(int(_READY_SECONDS / _POLL_SECONDS)):
        if client.ready():
            return
        supervisor.wait(_POLL_SECONDS)
    raise CommandError(f"The API is not ready after {_READY_SECONDS:.0f} s. See {place.folder.log('api')}.")


def check(place: Place) -> None:
    """See that an instance can run here.

    Raises:
        CommandError: something is in the way; the text says what, and what to do.
    """
    check_packages()
    if place.port == place.flower_port:
        raise CommandError("--port and --flower-port are the same.")
    check_port(place.host, place.port, "--port")
    check_port("127.0.0.1", place.flower_port, "--flower-port")


def check_packages() -> None:
    """See that the worker has what it imports.

    Raises:
        CommandError: it has not.
    """
    missing = [name for name in _GPU_EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise CommandError(f"The worker lacks {', '.join(missing)}. Run: pip install 'pingvas[gpu]'")


def check_port(host: str, port: int, option: str) -> None:
    """See that a port can be listened on.

    Raises:
        CommandError: it cannot.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CommandError(f"Port {port} on {host}: {reason}. Choose another with {option}.") from None


def _first_picture(place: Place, output: Path | None, supervisor: Supervisor) -> None:
    account, client = demo.sign_in(place.folder, place.url)
    if _is_paused(client, "free"):
        raise CommandError("The queue of the free plan is paused; open it with: pingvas queues resume free")
    granted = demo.top_up(client, account, FIRST_ORDER)
    if granted:
        console.say(f"  The demo account was out of credits and got {granted}.")
    console.say(f"  First picture: {FIRST_ORDER['prompt']!r} by the model {FIRST_ORDER['model']!r}")
    file = (output or place.folder.path / "first-picture.png").absolute()
    made = picture.make(client, FIRST_ORDER, file, supervisor.wait)
    console.done(made.describe())


def _is_paused(client: Client, tier: str) -> bool:
    queues = client.get("/api/v1/queues")["items"]
    return any(queue["tier"] == tier and queue["state"] == "paused" for queue in queues)


def _print_addresses(place: Place) -> None:
    console.say(f"""
API      {place.url}/api/v1, docs at {place.url}/api/docs
Flower   {place.flower_url} (login {programs.flower_login(place.folder)})
Next     {_generate_command(place)} 'a green star on a white background'{_or_curl(place)}

Ctrl-C stops everything.""")


def _or_curl(place: Place) -> str:
    try:
        _, signed_in = demo.sign_in(place.folder, place.url)
    except CommandError:  # too many have failed to sign in from here; the first line works a little later
        return ""
    minutes = settings.get().access_token_seconds // 60
    return f"\nor       {_curl(place.url, signed_in.key)}\n         (its token is good for {minutes} minutes)"


def _generate_command(place: Place) -> str:
    """Return `pingvas generate` as it can be pasted where this command was."""
    here = Path(sys.argv[0]).absolute()
    on_path = shutil.which("pingvas")
    if on_path and Path(on_path).samefile(here):
        name = "pingvas"
    else:
        name = str(here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here)
    source = click.get_current_context().get_parameter_source("data_dir")
    folder = f" --data-dir {shlex.quote(str(place.folder.path))}"
    return f"{name} generate{folder if source is ParameterSource.COMMANDLINE else ''}"


def _curl(url: str, key: str) -> str:
    """Return one shell line that orders a picture, waits for the job and prints it."""
    sign_in = f"-H 'Authorization: Bearer {key}'"
    body = '{"prompt":"a green star on a white background"}'
    order = f"curl -s {url}/api/v1/generate {sign_in} -H 'Content-Type: application/json' -d '{body}'"
    path = """sed -E 's/.*"self":"([^"]*)".*/\\1/'"""
    return f"{order} | {path} | xargs -I @ curl -s {url}@ {sign_in} -H 'Prefer: wait=30'"
