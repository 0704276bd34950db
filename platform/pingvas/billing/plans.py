"""The price list: plans, credit packages, the fee of an API call. Read once and checked.

It is the file that PINGVAS_PLANS_FILE names, or else `plans.toml` of this package; nothing else knows what a
tier may do or what anything costs.
"""

import re
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from importlib import resources
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pingvas import settings
from pingvas.settings import SettingsError


class Tier(StrEnum):
    """Plans from the highest to the lowest; each is also the name of its queue."""

    ENTERPRISE = "enterprise"
    STUDIO = "studio"
    PRO = "pro"
    STARTER = "starter"
    FREE = "free"

    @property
    def rank(self) -> int:
        """0 for free up to 4 for enterprise: the larger, the earlier served."""
        return len(Tier) - 1 - list(Tier).index(self)


class Plan(BaseModel):
    """What one tier gets. Counts of -1 mean "no limit"; `limit()` turns them into None.

    Without `job_deadline_seconds`, the setting of that name holds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    title: str
    price_monthly: int = Field(ge=0)
    price_yearly: int = Field(ge=0)
    monthly_credits: int = Field(ge=0)
    unlimited: bool = False
    storage_bytes: int = Field(ge=-1)
    api_calls_per_month: int = Field(ge=-1)
    max_concurrent_jobs: int = Field(ge=-1)
    max_queue_size: int = Field(ge=-1)
    generate_per_minute: int = Field(ge=-1)
    job_deadline_seconds: int | None = Field(None, ge=1)
    priority: int = Field(ge=1, le=10)
    weight: int = Field(ge=1)
    features: list[str]


class Package(BaseModel):
    """Credits that are bought once and kept until used; the price is in US dollars."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    credits: int = Field(ge=1)
    price: int = Field(ge=1)


class PriceList(BaseModel):
    """All of the file. `plans` are highest first; `api_call_credits` is the fee of a call with an API key."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    api_call_credits: int = Field(ge=0)
    packages: Mapping[str, Package]
    plans: Mapping[Tier, Plan]


def limit(count: int) -> int | None:
    """Return a plan's count, or None where the plan sets no limit."""
    return None if count < 0 else count


def prices() -> PriceList:
    """Return the price list that is in force.

    Raises:
        SettingsError: there is no such file, it is not TOML, or a key is missing, unknown or out of range.
    """
    return _read(settings.get().plans_file)


@cache
def _read(path: Path | None) -> PriceList:
    if path is None:
        return parse(resources.files(__package__).joinpath("plans.toml").read_text(encoding="utf-8"))
    try:
        return parse(path.read_text(encoding="utf-8"), path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{settings.variable('plans_file')}: {error}") from None


def table() -> Mapping[Tier, Plan]:
    """Return every plan by tier, highest first; see `prices` for the errors."""
    return prices().plans


def of(tier: str) -> Plan:
    """Return the plan of a tier's name."""
    return table()[Tier(tier)]


def parse(text: str, name: str = "plans.toml") -> PriceList:
    """Read a price list's text; see `prices` for the errors. `name` is what they call the file."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{name}: {error}") from None
    tables = {key for key, value in raw.items() if isinstance(value, dict)} - {"packages"}
    if unknown := tables - set(Tier):
        raise SettingsError(f"{name}, line {_line(text, min(unknown))}: unknown plan [{min(unknown)}]")
    rest = {key: value for key, value in raw.items() if key not in tables}
    try:
        return PriceList.model_validate({**rest, "plans": {tier: raw.get(tier, {}) for tier in Tier}})
    except ValidationError as error:
        first = error.errors()[0]
        *place, key = [str(part) for part in first["loc"] if part != "plans"]
        table = ".".join(place)
        shown = f"[{table}] {key}" if table else key
        line = _line(text, table, key)
        raise SettingsError(f"{name}{f', line {line}' if line else ''}: {shown}: {first['msg']}") from None


def _line(text: str, table: str, key: str = "") -> int | None:
    """Return the number of the line that sets `key` in `[table]`, else the table's own, else None."""
    found, inside = None, ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([^]]*?)\s*\]", line):
            inside = header[1]
            if inside == table:
                found = number
        elif inside == table and re.match(rf"\s*{re.escape(key)}\s*=", line) and key:
            return number
    return found
