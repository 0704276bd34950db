"""`pingvas models`: the catalogue."""

import click
from rich.table import Table

from pingvas import db
from pingvas.billing.plans import Tier
from pingvas.catalog import entries
from pingvas.catalog.families import FAMILIES
from pingvas.cli import console
from pingvas.cli.console import CommandError, data_dir_option
from pingvas.cli.session import rows, write_down


@click.group("models")
def group() -> None:
    """Look after the catalogue of models."""


@group.command("list")
@data_dir_option
def list_models() -> None:
    """Show the catalogue."""
    table = Table("slug", "family", "location", "sides", "steps", "price", "from tier")
    with rows():
        found = entries.list_entries()
    for entry in found:
        sides = f"{entry.min_side}–{entry.max_side}"
        price = f"× {entry.price_factor:g}"
        steps = str(entry.default_steps)
        table.add_row(entry.slug, entry.family, entry.location, sides, steps, price, entry.min_tier)
    console.out.print(table)


@group.command("add")
@click.argument("slug")
@click.argument("location")
@click.option("--family", type=click.Choice(sorted(FAMILIES)), help="Kind of model [default: guessed].")
@click.option("--max-side", type=int, help="Largest side in pixels [default: the family's].")
@click.option("--price-factor", type=float, help="Weight of a step in quotes [default: the family's].")
@click.option(
    "--min-tier", type=click.Choice([tier.value for tier in Tier]), default="free", show_default=True
)
@click.option("--title", help="Name for people [default: the slug].")
@data_dir_option
def add(
    slug: str,
    location: str,
    family: str | None,
    max_side: int | None,
    price_factor: float | None,
    min_tier: str,
    title: str | None,
) -> None:
    """Offer a model as SLUG. LOCATION is a diffusers folder, a .safetensors file, a hub id (owner/name) or
    builtin:tiny."""
    with rows(), db.transaction():
        entry = entries.add_entry(
            slug,
            location,
            family=family,
            max_side=max_side,
            price_factor=price_factor,
            min_tier=min_tier,
            title=title,
        )
        write_down("models.add", f"model:{slug}", location=entry.location, family=entry.family)
    console.done(f"{entry.slug}: {entry.family} from {entry.location}")


@group.command("remove")
@click.argument("slug")
@click.option("--yes", is_flag=True, help="Also where it is the only one.")
@data_dir_option
def remove(slug: str, yes: bool) -> None:
    """Take a model out of the catalogue. Its jobs that wait fail and cost nothing."""
    with rows(), db.transaction():
        if not yes and [entry.slug for entry in entries.list_entries()] == [slug]:
            raise CommandError(
                f"{slug} is the only model: nobody could order a picture. Remove it with --yes."
            )
        entries.remove_entry(slug)
        write_down("models.remove", f"model:{slug}")
    console.done(f"{slug} is no longer offered")
