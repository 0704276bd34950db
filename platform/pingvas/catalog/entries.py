"""Reading and changing the catalogue."""

import re
from pathlib import Path

from sqlalchemy import Select, select
from sqlalchemy.exc import IntegrityError

from pingvas import clock, db
from pingvas.billing.plans import Tier
from pingvas.cached import Cached
from pingvas.catalog.families import FAMILIES
from pingvas.catalog.models import CatalogEntry
from pingvas.errors import Conflict, Invalid, NotFound

SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
BUILTIN = "builtin:tiny"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
MAX_SIDE = 4096


def list_entries(tier: str | None = None) -> list[CatalogEntry]:
    """Return the catalogue by slug; with a tier, only what that tier may use."""
    with db.transaction() as session:
        return list(session.scalars(usable(tier).order_by(CatalogEntry.slug)))


def usable(tier: str | None) -> Select[CatalogEntry]:
    """Return the query of the entries that a tier may use; of all without a tier."""
    if tier is None:
        return select(CatalogEntry)
    within = [other.value for other in Tier if other.rank <= Tier(tier).rank]
    return select(CatalogEntry).where(CatalogEntry.min_tier.in_(within))


def may_use(tier: str, entry: CatalogEntry) -> bool:
    """Tell whether a tier may use an entry."""
    return Tier(tier).rank >= Tier(entry.min_tier).rank


def find(slug: str) -> CatalogEntry | None:
    """Return the entry of a slug, or None. One that was taken out is still found for up to two seconds."""
    known = _known.get().get(slug)
    if known is not None:
        return known
    with db.transaction() as session:
        return session.get(CatalogEntry, slug)


def _read() -> dict[str, CatalogEntry]:
    # Copies of no session: those of a unit of work that is rolled back cannot be read any more.
    with db.transaction() as session:
        rows = session.execute(select(CatalogEntry.__table__)).mappings()
        return {row["slug"]: CatalogEntry(**row) for row in rows}


_known = Cached(_read, seconds=2.0)


def add_entry(
    slug: str,
    location: str,
    *,
    family: str | None = None,
    max_side: int | None = None,
    price_factor: float | None = None,
    min_tier: str = "free",
    title: str | None = None,
) -> CatalogEntry:
    """Add a model to the catalogue; what is not said comes from its family.

    Raises:
        Invalid: a value is out of bounds, or the location is no folder, file or hub id.
        Conflict: the slug is taken.
    """
    location = _location(location)
    family = family or _guess_family(slug, location)
    if family not in FAMILIES:
        raise Invalid(f"Unknown family {family!r}; known are {', '.join(FAMILIES)}.")
    if location.endswith(".safetensors") and family in ("tiny", "other"):
        raise Invalid(f"A single file does not say how to load it; name its --family, and not {family!r}.")
    traits = FAMILIES[family]
    max_side = traits.max_side if max_side is None else max_side
    price_factor = traits.price_factor if price_factor is None else price_factor
    _check(slug, max_side, traits.min_side, price_factor, min_tier)
    entry = CatalogEntry(
        slug=slug,
        title=title or slug,
        family=family,
        location=location,
        min_side=traits.min_side,
        max_side=max_side,
        default_side=min(traits.default_side, max_side),
        side_multiple=traits.side_multiple,
        default_steps=traits.default_steps,
        default_cfg_scale=traits.default_cfg_scale,
        default_scheduler=traits.default_scheduler,
        price_factor=price_factor,
        min_tier=min_tier,
        created_at=clock.now(),
    )
    try:
        with db.transaction() as session:
            session.add(entry)
            session.flush()  # a taken slug shows here, also inside a caller's unit of work
    except IntegrityError:
        raise Conflict(f"The catalogue has a model {slug!r} already.") from None
    _known.forget()
    return entry


def _check(slug: str, max_side: int, min_side: int, price_factor: float, min_tier: str) -> None:
    if not SLUG.fullmatch(slug):
        raise Invalid(f"A slug is lower-case letters, digits, '.', '_' and '-', at most 64; not {slug!r}.")
    if not min_side <= max_side <= MAX_SIDE:
        raise Invalid(f"--max-side is {min_side} to {MAX_SIDE}, not {max_side}.")
    if not 0 < price_factor <= 1_000:
        raise Invalid(f"--price-factor is above 0 and at most 1000, not {price_factor}.")
    if min_tier not in set(Tier):
        raise Invalid(f"--min-tier is one of {', '.join(Tier)}, not {min_tier!r}.")


def _location(location: str) -> str:
    """Return a folder or file as an absolute path, a hub id and the built-in model as they are."""
    if location == BUILTIN:
        return location
    path = Path(location).expanduser()
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise Invalid(f"{location} has no model_index.json: it is not a diffusers model folder.")
        return str(path.resolve())
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise Invalid(f"There is no file {location}.")
        if not _is_safetensors(path):
            raise Invalid(f"{location} is no safetensors file.")
        return str(path.resolve())
    if HUB_ID.fullmatch(location):
        return location
    raise Invalid(f"{location} is no model folder, no .safetensors file and no hub id (owner/name).")


def _is_safetensors(path: Path) -> bool:
    """Look at the header: its length in eight bytes, little-endian, then that much JSON."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return 2 <= length <= path.stat().st_size - 8 and file.read(1) == b"{"


def remove_entry(slug: str) -> None:
    """Take a model out of the catalogue; its jobs that still wait fail and cost nothing.

    Raises:
        NotFound: there is no such model.
    """
    with db.transaction() as session:
        entry = session.get(CatalogEntry, slug)
        if entry is None:
            raise NotFound(f"The catalogue has no model {slug!r}.")
        session.delete(entry)
    _known.forget()


def _guess_family(slug: str, location: str) -> str:
    """Guess the family from the pipeline class a folder declares, or from the names."""
    index = Path(location) / "model_index.json"
    text = (index.read_text(encoding="utf-8") if index.is_file() else f"{slug} {location}").lower()
    signs = {
        "tiny": (BUILTIN,),
        "sdxl": ("stablediffusionxl", "sdxl", "stable-diffusion-xl"),
        "sd3": ("stablediffusion3", "stable-diffusion-3", "sd3"),
        "flux": ("fluxpipeline", "flux"),
        "sd2": ("stable-diffusion-2",),
        "sd15": ("stablediffusionpipeline", "sd15", "stable-diffusion-v1", "sd-v1"),
    }
    return next((family for family, names in signs.items() if any(name in text for name in names)), "other")
