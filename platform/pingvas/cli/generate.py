"""`pingvas generate`: a picture from a running instance."""

import os
from pathlib import Path
from typing import Any

import click

from pingvas import embedded, settings
from pingvas.billing.plans import Tier
from pingvas.cli import console, demo, picture
from pingvas.cli.console import CommandError, data_dir_option
from pingvas.cli.rest import Client


@click.command("generate")
@click.argument("prompt")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("picture.png"),
    show_default=True,
)
@click.option("--model", help="Slug in the catalogue [default: tiny].")
@click.option("--seed", type=click.IntRange(min=0), help="The same seed draws the same picture again.")
@click.option("--steps", type=click.IntRange(min=1), help="Denoising steps [default: the model's].")
@click.option("--size", type=click.IntRange(min=1), help="Width and height in pixels [default: the model's].")
@click.option("--tier", type=click.Choice([tier.value for tier in Tier]), help="Plan of the demo account.")
@click.option("--url", help="Address of an instance elsewhere; needs a key.")
@click.option("--key", help="API key [default: PINGVAS_API_KEY, else a local demo account].")
@data_dir_option
def command(
    prompt: str, output: Path, tier: str | None, url: str | None, key: str | None, **order: Any
) -> None:
    """Make a picture of PROMPT."""
    key = key or os.environ.get("PINGVAS_API_KEY")
    if tier and (key or url):
        raise click.UsageError("--tier is for local demo accounts: it goes with neither --url nor a key.")
    body = order_body(prompt, **order)
    client = _client(url, key, tier or "free", body)
    console.done(picture.make(client, body, output).describe())


def order_body(
    prompt: str, model: str | None, seed: int | None, steps: int | None, size: int | None
) -> dict[str, Any]:
    """Return the body of a generate call with what was asked for; the rest is the model's."""
    wanted = {"model": model, "seed": seed, "steps": steps, "width": size, "height": size}
    return {"prompt": prompt} | {name: value for name, value in wanted.items() if value is not None}


def _client(url: str | None, key: str | None, tier: str, body: dict[str, Any]) -> Client:
    if url and not key:
        raise click.UsageError("--url needs --key or PINGVAS_API_KEY.")
    if url and key:
        return Client(url, key)
    instance = embedded.attach()
    folder = embedded.DataFolder(settings.get().data_dir)
    if instance is None or not instance.url:
        raise CommandError(
            f"Nothing runs on {folder.path}. Start it with: pingvas up (or name another by --url and --key)."
        )
    if key:
        return Client(instance.url, key)
    account, client = demo.sign_in(folder, instance.url, tier)
    granted = demo.top_up(client, account, body)
    if granted:
        console.say(f"  The demo account was out of credits and got {granted}.")
    return client
