"""The command `pingvas`. Each command's module is imported when the command runs, so that all start fast."""

import sys
from importlib import import_module

import click

_COMMANDS = {
    "db": "pingvas.cli.database:group",
    "doctor": "pingvas.cli.doctor:command",
    "generate": "pingvas.cli.generate:command",
    "models": "pingvas.cli.models:group",
    "queues": "pingvas.cli.queues:command",
    "up": "pingvas.cli.up:command",
    "user": "pingvas.cli.users:group",
}


class _Commands(click.Group):
    """Imports commands late, and says in one red line what a person has to know of an error."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        found: click.Command = getattr(import_module(module), name)
        return found

    def invoke(self, ctx: click.Context) -> object:
        from pingvas.cli import console

        try:
            return super().invoke(ctx)
        except console.expected_errors() as error:
            console.fail(error)
            ctx.exit(1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pingvas", prog_name="pingvas")
def cli() -> None:
    """Pingvas: image generation on your own GPUs."""


def main() -> None:
    """Run the command line."""
    if sys.platform == "win32":
        sys.exit("Pingvas runs on Linux and macOS; on Windows, use WSL.")
    cli(prog_name="pingvas")
