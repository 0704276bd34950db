"""The plan table: right as shipped, and a bad file names what is wrong."""

from importlib import resources
from pathlib import Path

import pytest

from pingvas import domains
from pingvas.billing import plans
from pingvas.billing.plans import Tier
from pingvas.embedded.servers import forget_settings
from pingvas.settings import SettingsError

SHIPPED = resources.files("pingvas.billing").joinpath("plans.toml").read_text()


def line_of(text: str) -> int:
    """Return the number of the line of the shipped file that begins so."""
    return next(n for n, line in enumerate(SHIPPED.splitlines(), 1) if line.startswith(text))


def test_five_tiers_from_the_highest_to_the_lowest() -> None:
    table = plans.table()
    assert list(table) == ["enterprise", "studio", "pro", "starter", "free"]
    assert [tier.rank for tier in table] == [4, 3, 2, 1, 0]
    assert [plan.priority for plan in table.values()] == [10, 8, 6, 4, 2]


def test_what_the_price_list_says() -> None:
    table = plans.table()
    assert table[Tier.FREE].monthly_credits == 100
    assert (table[Tier.STARTER].price_monthly, table[Tier.STARTER].price_yearly) == (25, 250)
    assert table[Tier.STUDIO].max_concurrent_jobs == 3
    assert plans.limit(table[Tier.ENTERPRISE].max_queue_size) is None
    assert plans.prices().api_call_credits == 20
    packages = plans.prices().packages
    assert {name: (it.credits, it.price) for name, it in packages.items()} == {
        "1000": (1_000, 10),
        "5000": (5_000, 40),
        "10000": (10_000, 70),
    }


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("\n[free\nweight = 1", "line 2"),
        (SHIPPED + "\n[gold]\nweight = 1\n", f"line {len(SHIPPED.splitlines()) + 2}: unknown plan [gold]"),
        (SHIPPED.replace("weight = 8", "weight = 0"), f"line {line_of('weight = 8')}: [studio] weight"),
        (SHIPPED.replace("weight = 8", ""), f"line {line_of('[studio]')}: [studio] weight: Field required"),
        (SHIPPED.replace("weight = 8", "wieght = 8"), "[studio] w"),
        (SHIPPED.replace("monthly_credits = 100", 'monthly_credits = "100"'), "[free] monthly_credits"),
        (SHIPPED.replace("price = 40", "price = 0"), f"line {line_of('price = 40')}: [packages.5000] price"),
        (SHIPPED.replace("api_call_credits = 20", "api_call_credits = -1"), "api_call_credits"),
        (SHIPPED.replace("api_call_credits = 20", "").replace("[packages", "[pakages"), "pakages"),
    ],
)
def test_a_bad_file_names_itself_and_the_place(text: str, named: str) -> None:
    with pytest.raises(SettingsError, match=r"plans\.toml") as caught:
        plans.parse(text)
    assert named in str(caught.value)


@pytest.mark.usefixtures("fresh_settings")
def test_operators_have_their_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "mine.toml"
    monkeypatch.setenv("PINGVAS_PLANS_FILE", str(mine))
    mine.write_text(SHIPPED.replace("price_monthly = 25", "price_monthly = 29"))
    assert plans.of("starter").price_monthly == 29
    other = tmp_path / "other.toml"
    monkeypatch.setenv("PINGVAS_PLANS_FILE", str(other))
    forget_settings()
    with pytest.raises(SettingsError, match=r"PINGVAS_PLANS_FILE.*other\.toml"):
        domains.load()
