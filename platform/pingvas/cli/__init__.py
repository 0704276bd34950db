"""The command `pingvas`. Each command's module is imported when the command runs, so that all start fast."""

import sys
from importlib import import_module

import click

_COMMANDS = {
    "db": ("pingvas.cli.database:group", "Look after the database's schema."),
    "billing": ("pingvas.cli.billing:group", "Prove the books; statements and usage."),
    "dev": ("pingvas.cli.dev:group", "Tools for development."),
    "dlq": ("pingvas.cli.dlq:group", "Look at jobs that failed for good; replay and drop them."),
    "doctor": ("pingvas.cli.doctor:command", "Check this machine and the instance on it."),
    "generate": ("pingvas.cli.generate:command", "Make a picture."),
    "health": ("pingvas.cli.health:command", "Ask a worker or beat whether it is well."),
    "models": ("pingvas.cli.models:group", "Look after the catalogue of models."),
    "queues": ("pingvas.cli.queues:group", "Show what waits and runs; pause and drain tiers."),
    "up": ("pingvas.cli.up:command", "Start everything on this machine and make a first picture."),
    "worker": ("pingvas.cli.worker:command", "Run a worker; ask one to leave."),
    "user": ("pingvas.cli.users:group", "Look after accounts."),
}


class _Commands(click.Group):
    """Imports commands late, and says in one red line what a person has to know of an error."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        found: click.Command = getattr(import_module(module), name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][1]) for name in self.list_commands(ctx)])

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
