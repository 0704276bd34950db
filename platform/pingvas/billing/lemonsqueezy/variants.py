"""Which variant of the store is which plan or package."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

from pingvas import settings
from pingvas.billing import plans
from pingvas.billing.plans import Tier
from pingvas.settings import SettingsError

Interval = Literal["month", "year"]
SOLD = (Tier.STARTER, Tier.PRO, Tier.STUDIO)
"""Plans that are sold; free costs nothing, and enterprise is a contract."""


@dataclass(frozen=True)
class PlanVariant:
    """A subscription to a plan."""

    tier: Tier
    interval: Interval


@dataclass(frozen=True)
class PackageVariant:
    """A package of credits, by its name in the price list."""

    package: str


Variant = PlanVariant | PackageVariant


def of_id(variant_id: str) -> Variant | None:
    """Return what a variant is, None for one that the settings do not name."""
    return _table().get(variant_id)


def id_of(variant: Variant) -> str | None:
    """Return the id of a variant, None where the store does not sell it."""
    return next((key for key, value in _table().items() if value == variant), None)


def check() -> None:
    """See that the setting can be used.

    Raises:
        SettingsError: it cannot.
    """
    _table()


def _table() -> dict[str, Variant]:
    return parse(settings.get().lemonsqueezy_variants)


@lru_cache(maxsize=4)
def parse(text: str) -> dict[str, Variant]:
    """Read the setting: variants by id.

    Raises:
        SettingsError: an entry is no plan or package, or has no id of digits, or an id comes twice.
    """
    found: dict[str, Variant] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, variant_id = (part.strip() for part in entry.partition("="))
        if not variant_id.isdecimal() or variant_id in found:
            raise _wrong(entry, "needs an id of its own, in digits")
        found[variant_id] = _variant(name, entry)
    return found


def _variant(name: str, entry: str) -> Variant:
    tier, slash, interval = name.partition("/")
    if not slash:
        if name not in plans.prices().packages:
            raise _wrong(entry, f"is no package; there are {', '.join(plans.prices().packages)}")
        return PackageVariant(name)
    if tier not in SOLD or interval not in get_args(Interval):
        raise _wrong(entry, f"must be one of {', '.join(SOLD)} by /month or /year")
    return PlanVariant(Tier(tier), "year" if interval == "year" else "month")


def _wrong(entry: str, text: str) -> SettingsError:
    return SettingsError(f"{settings.variable('lemonsqueezy_variants')}: {entry!r} {text}")
