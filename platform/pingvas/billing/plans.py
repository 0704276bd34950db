"""The plan table, read once from `plans.toml` and checked; the only place that knows what a tier may do."""

import tomllib
from enum import StrEnum
from functools import cache
from importlib import resources

from pydantic import BaseModel, ConfigDict, Field, ValidationError

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
    """What one tier gets. Counts of -1 mean "no limit"; `limit()` turns them into None."""

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
    priority: int = Field(ge=1, le=10)
    weight: int = Field(ge=1)
    features: list[str]


def limit(count: int) -> int | None:
    """Return a plan's count, or None where the plan sets no limit."""
    return None if count < 0 else count


@cache
def table() -> dict[Tier, Plan]:
    """Return every plan by tier, highest first.

    Raises:
        SettingsError: the file is not TOML or a key is missing, unknown or out of range.
    """
    text = resources.files(__package__).joinpath("plans.toml").read_text(encoding="utf-8")
    return parse(text)


def parse(text: str) -> dict[Tier, Plan]:
    """Read a plan file's text; see `table` for the errors."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"plans.toml: {error}") from None
    if unknown := set(raw) - set(Tier):
        raise SettingsError(f"plans.toml: unknown plan [{min(unknown)}]")
    plans = {}
    for tier in Tier:
        try:
            plans[tier] = Plan.model_validate(raw.get(tier, {}))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise SettingsError(f"plans.toml: [{tier}] {key}: {first['msg']}") from None
    return plans


def of(tier: str) -> Plan:
    """Return the plan of a tier's name."""
    return table()[Tier(tier)]
